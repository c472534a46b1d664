//! Batches as clients send them, of this version and of others.

use super::*;

#[test]
fn every_kind_round_trips() {
    let kinds = vec![
        EventKind::Discover { source: "http://admin/".into() },
        EventKind::Fetch(FetchProgress {
            bytes: 1,
            total: 4,
            rate: 3,
            upload_rate: 9,
            uploaded: 5,
            peers: 2,
            sources: Sources { admin: 1, peers: 2, web: 3 },
        }),
        EventKind::Exchange(Exchange {
            from: vec![exchange::Gift { from: [10, 0, 0, 7].into(), bytes: 9 }],
            others: 3,
            holding: Some(exchange::Holding { pieces: 6, bits: "fc".into() }),
        }),
        EventKind::Console(Console { lines: vec!["[    1.000] x".into()] }),
        EventKind::Audit(Audit {
            verdict: audit::Verdict::Fail,
            text: "a disk is missing".into(),
            findings: vec![audit::Finding {
                name: "sda".into(),
                verdict: audit::Verdict::Fail,
                detail: "none".into(),
            }],
        }),
        EventKind::Verify { bytes: 4, seconds: 1.5, sources: Sources::default(), hash_failures: 1 },
        EventKind::Attach { device: "/dev/loop3".into() },
        EventKind::Mount { root: "/sysroot".into(), verity: None },
        EventKind::Mount {
            root: "/sysroot".into(),
            verity: Some(VerityUse::Active("/dev/dm-0".into())),
        },
        EventKind::Mount {
            root: "/sysroot".into(),
            verity: Some(VerityUse::Inactive("no".into())),
        },
        EventKind::Handover { peak_memory: 5 },
        EventKind::Seeding {
            device: "/dev/loop3".into(),
            user: "beeswarm-node".into(),
            uploaded: 6,
            http: Some(8080),
        },
        EventKind::Stalled(Stall { cause: StallCause::NoPeers, detail: "none".into() }),
        EventKind::Failed { message: "m".into(), refused: None, cause: None },
        EventKind::Failed {
            message: "m".into(),
            refused: Some(Refusal::WrongKey),
            cause: Some(StallCause::Mount),
        },
    ];
    let events =
        (1..).zip(kinds).map(|(seq, kind)| Event { seq, uptime_ms: seq * 10, kind }).collect();
    let batch = EventBatch {
        version: EVENT_VERSION,
        boot_id: "b".into(),
        token: Some("t".into()),
        macs: vec![NodeId([1; 6])],
        uuid: Some("03000200-0400-0500-0006-000700080009".into()),
        events,
    };
    let json = serde_json::to_vec(&batch).unwrap();
    assert_eq!(EventBatch::parse(&json).unwrap(), batch);
    for event in &batch.events {
        let value = serde_json::to_value(event).unwrap();
        assert_eq!(value["stage"], event.kind.stage());
    }
}

#[test]
fn tolerates_what_is_newer() {
    let text = br#"{"version":1,"boot_id":"b","new":1,"events":[
        {"seq":1,"uptime_ms":2,"stage":"polishing","shine":3},
        {"seq":2,"uptime_ms":2,"stage":"stalled","cause":"gremlins","detail":"x"},
        {"seq":3,"uptime_ms":2,"stage":"failed","message":"x","refused":"ugly"},
        {"seq":4,"uptime_ms":2,"stage":"failed","message":"x"}]}"#;
    let batch = EventBatch::parse(text).unwrap();
    assert_eq!(batch.events[0].kind, EventKind::Unknown);
    assert!(
        matches!(&batch.events[1].kind, EventKind::Stalled(s) if s.cause == StallCause::Unknown)
    );
    for (event, expected) in [(2, Some(Refusal::Unknown)), (3, None)] {
        let kind = &batch.events[event].kind;
        assert!(matches!(kind, EventKind::Failed { refused, .. } if *refused == expected));
    }
}

#[test]
fn only_what_can_be_an_identity_is_kept() {
    let token = "t".repeat(MAX_TOKEN_LEN + 1);
    let macs = vec!["\"52:54:00:00:00:01\""; MAX_MACS + 1].join(",");
    for (uuid, kept) in [
        ("4C4C4544-0042-3510-8052-B4C04F4A3332\\n", true),
        ("00000000-0000-0000-0000-000000000000", false),
        ("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", false),
        ("4C4C4544-0042-3510-8052-B4C04F4A333", false),
        ("Not Settable", false),
    ] {
        let text = format!(
            r#"{{"version":1,"boot_id":"b","token":"{token}","macs":[{macs}],"uuid":"{uuid}","events":[]}}"#
        );
        let batch = EventBatch::parse(text.as_bytes()).unwrap();
        assert_eq!((batch.token, batch.macs.len()), (None, MAX_MACS));
        assert_eq!(batch.uuid.is_some(), kept, "{uuid}");
    }
}

#[test]
fn a_verdict_that_is_not_understood_is_refused() {
    let batch = |rest: &str| {
        let text = format!(
            r#"{{"version":1,"boot_id":"b","events":[{{"seq":1,"uptime_ms":1,"stage":"audit",{rest}}}]}}"#
        );
        EventBatch::parse(text.as_bytes())
    };
    assert!(batch(r#""verdict":"pass","text":"sound","score":3"#).is_ok());
    for rest in [
        r#""verdict":"perhaps","text":"x""#,
        r#""verdict":null,"text":"x""#,
        r#""text":"x""#,
        r#""verdict":"pass","text":"x","findings":[{"name":"n","verdict":"odd"}]"#,
    ] {
        assert!(matches!(batch(rest), Err(EventError::Json(_))), "{rest}");
    }
}

#[test]
fn refuses_what_is_wrong() {
    assert!(matches!(EventBatch::parse(b"{}"), Err(EventError::Json(_))));
    assert_eq!(
        EventBatch::parse(br#"{"version":7,"boot_id":"b","events":[]}"#),
        Err(EventError::Version(7))
    );
    assert_eq!(
        EventBatch::parse(br#"{"version":1,"boot_id":"","events":[]}"#),
        Err(EventError::BootId)
    );
    assert_eq!(EventBatch::parse(&vec![b' '; MAX_BATCH_LEN + 1]), Err(EventError::TooLarge));
    let long = format!(
        r#"{{"version":1,"boot_id":"b","events":[{{"seq":1,"uptime_ms":1,"stage":"failed","message":"{}"}}]}}"#,
        "é".repeat(900)
    );
    let batch = EventBatch::parse(long.as_bytes()).unwrap();
    assert!(
        matches!(&batch.events[0].kind, EventKind::Failed { message, .. } if message.chars().count() == MAX_TEXT_LEN)
    );
}
