//! Who may do what: TLS, certificates, rates, headers, and paths that lead nowhere.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use beeswarm_tracker::Config;
use beeswarm_tracker::config::Limits;
use beeswarm_tracker::tls::Tls;
use serde_json::json;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig};

use crate::bed::{Bed, add_revision, empty_store, exchange, stable};
use proto::hash::InfoHash;

fn openssl(dir: &Path, line: &str) {
    let output = Command::new("openssl").args(line.split(' ')).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, and a certificate that it signed for each name.
pub(crate) fn authority(dir: &Path, ca: &str, names: &[&str]) {
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(dir, &format!("req -x509 {new} -keyout {ca}.key -out {ca}.pem -subj /CN={ca} -days 2"));
    fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    for name in names {
        openssl(dir, &format!("req {new} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        openssl(
            dir,
            &format!(
                "x509 -req -in {name}.csr -CA {ca}.pem -CAkey {ca}.key -CAcreateserial -days 2 -extfile names \
                 -out {name}.pem"
            ),
        );
    }
}

fn certificates(path: &Path) -> Vec<Certificate<'static>> {
    let item = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    ureq::tls::parse_pem(&fs::read(path).unwrap()).filter_map(item).collect()
}

/// A client that believes `ca`, with the certificate of that name if there is one.
fn client(dir: &Path, ca: &str, own: Option<&str>) -> ureq::Agent {
    let roots = RootCerts::Specific(Arc::new(certificates(&dir.join(format!("{ca}.pem")))));
    let own = own.map(|name| {
        let key = fs::read(dir.join(format!("{name}.key"))).unwrap();
        let chain = certificates(&dir.join(format!("{name}.pem")));
        ClientCert::new_with_certs(&chain, PrivateKey::from_pem(&key).unwrap())
    });
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .root_certs(roots)
        .client_cert(own)
        .unversioned_rustls_crypto_provider(provider)
        .build();
    let agent = ureq::Agent::config_builder().tls_config(tls).http_status_as_error(false);
    agent.proxy(None).build().into()
}

#[test]
fn over_tls_a_certificate_or_the_token_gives_orders_and_everybody_reads() {
    let dir = tempfile::tempdir().unwrap();
    authority(dir.path(), "ca", &["tracker", "admin"]);
    authority(dir.path(), "other", &["stranger"]);
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    let (_store_dir, store) = empty_store();
    let revision = add_revision(&store, "debian", InfoHash([1; 20]), true);
    store.publish(&revision, &stable()).unwrap();
    let tls = Tls {
        listen: "127.0.0.1:0".parse().unwrap(),
        certificate: path("tracker.pem"),
        key: path("tracker.key"),
        client_ca: Some(path("ca.pem")),
        orders_only: true,
    };
    let state = path("state");
    let bed = Bed::start(Config {
        tls: Some(tls),
        state: Some(state.clone()),
        store: Some(store.root().to_owned()),
        ..Config::default()
    });
    let origin = format!("https://{}", bed.tls().unwrap());
    let order = json!({ "revision": revision.to_string(), "nodes": ["52:54:00:00:00:01"] });
    let send = |agent: &ureq::Agent, token: Option<&str>| {
        let mut request = agent.post(format!("{origin}/api/v1/assign"));
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request.send(order.to_string().as_bytes()).map(|answer| answer.status().as_u16())
    };
    let anybody = client(dir.path(), "ca", None);
    let mut read = anybody.get(format!("{origin}/api/v1/nodes")).call().unwrap();
    assert_eq!(
        (read.status().as_u16(), read.body_mut().read_to_string().unwrap()),
        (200, "[]".into())
    );
    assert_eq!(send(&anybody, None).unwrap(), 401);
    assert_eq!(send(&anybody, Some("x")).unwrap(), 401);
    let token = fs::read_to_string(state.join("admin-token")).unwrap();
    assert_eq!(send(&anybody, Some(token.trim())).unwrap(), 200);
    assert_eq!(send(&client(dir.path(), "ca", Some("admin")), None).unwrap(), 200);
    // a page of any site can have a browser send this, with the admin's certificate
    for (header, value) in [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")] {
        for path in ["assign", "unassign", "rollouts", "rollouts/last/stop", "rollouts/last/resume"]
        {
            let request =
                client(dir.path(), "ca", Some("admin")).post(format!("{origin}/api/v1/{path}"));
            let request = request.header(header, value).header("Content-Type", "text/plain");
            let mut answer = request.send("{\"nodes\":null}").unwrap();
            let text = answer.body_mut().read_to_string().unwrap();
            assert!(answer.status() == 403 && text.contains("browser"), "{header} {path}: {text}");
        }
    }
    let left = bed.get("/api/v1/assignments").json();
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
    // a certificate of somebody else's, and a server that is not the one that is meant
    assert!(send(&client(dir.path(), "ca", Some("stranger")), None).is_err());
    assert!(send(&client(dir.path(), "other", None), None).is_err());
    // plain HTTP on the TLS port is no answer, and harms nobody
    let tls = bed.tls().unwrap();
    let plain = std::panic::catch_unwind(|| exchange(tls, b"GET / HTTP/1.1\r\n\r\n"));
    assert!(plain.is_err());
    assert_eq!(bed.get("/healthz").status, 200);
}

/// An address of this machine that is not loopback: who connects to it comes from it.
fn own_address() -> IpAddr {
    // connects nothing: it only asks which address would be used to get there
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").expect("this test needs a network card with an address");
    let own = socket.local_addr().unwrap().ip();
    assert!(!own.is_loopback() && !own.is_unspecified(), "{own} is no address of a card");
    own
}

#[test]
fn orders_over_plain_http_come_from_this_host_only_where_that_is_demanded() {
    let dir = tempfile::tempdir().unwrap();
    authority(dir.path(), "ca", &["tracker"]);
    let (_store_dir, store) = empty_store();
    let revision = add_revision(&store, "debian", InfoHash([1; 20]), true);
    store.publish(&revision, &stable()).unwrap();
    let order = json!({ "revision": revision.to_string(), "nodes": ["52:54:00:00:00:01"] });
    let own = own_address();
    for orders_only in [true, false] {
        let state = dir.path().join(format!("state-{orders_only}"));
        let tls = Tls {
            listen: "127.0.0.1:0".parse().unwrap(),
            certificate: dir.path().join("tracker.pem"),
            key: dir.path().join("tracker.key"),
            client_ca: None,
            orders_only,
        };
        let bed = Bed::start_on(
            "[::]:0",
            Config {
                tls: Some(tls),
                state: Some(state.clone()),
                store: Some(store.root().to_owned()),
                ..Config::default()
            },
        );
        let token = fs::read_to_string(state.join("admin-token")).unwrap();
        let send = |from: IpAddr, path: &str, body: &str| {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
                 Content-Length: {}\r\n\r\n",
                token.trim(),
                body.len()
            );
            exchange((from, bed.addr.port()).into(), format!("{head}{body}").as_bytes())
        };
        let assigned = || bed.get("/api/v1/assignments").json().as_array().unwrap().len();
        for (path, body) in [
            ("/api/v1/assign", order.to_string()),
            ("/api/v1/unassign", json!({ "nodes": null }).to_string()),
            ("/api/v1/rollouts", "{}".to_owned()),
            ("/api/v1/rollouts/last/stop", "{}".to_owned()),
            ("/api/v1/rollouts/last/resume", "{}".to_owned()),
        ] {
            let reply = send(own, path, &body);
            let refused = reply.status == 403 && reply.text().contains("over TLS only");
            assert_eq!(refused, orders_only, "{path}: {} {}", reply.status, reply.text());
        }
        assert_eq!(assigned(), 0);
        // the host itself, though it looks like ::ffff:127.0.0.1 to the listener
        for local in [IpAddr::from([127, 0, 0, 1]), "::1".parse().unwrap()] {
            assert_eq!(send(local, "/api/v1/assign", &order.to_string()).status, 200, "{local}");
        }
        assert_eq!(assigned(), 1);
        // nodes are not concerned, and everybody reads
        let events = crate::events::batch("b", json!([{ "seq": 0, "uptime_ms": 1, "stage": "x" }]));
        let path = "/api/v1/nodes/52:54:00:00:00:01/events";
        assert_eq!(send(own, path, std::str::from_utf8(&events).unwrap()).status, 204);
        let read = crate::bed::get((own, bed.addr.port()).into(), "/api/v1/nodes", "");
        assert_eq!((read.status, &read.json()[0]["address"]), (200, &json!(own.to_string())));
    }
}

#[test]
fn wrong_certificates_end_the_start_with_their_path() {
    let dir = tempfile::tempdir().unwrap();
    authority(dir.path(), "ca", &["one", "two"]);
    fs::write(dir.path().join("empty.pem"), "").unwrap();
    let start = |certificate: &str, key: &str, client_ca: Option<&str>| {
        let tls = Tls {
            listen: "127.0.0.1:0".parse().unwrap(),
            certificate: dir.path().join(certificate),
            key: dir.path().join(key),
            client_ca: client_ca.map(|name| dir.path().join(name)),
            orders_only: false,
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let config =
            Config { tls: Some(tls), listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
        let error = runtime.block_on(beeswarm_tracker::Server::bind(config)).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    };
    for (certificate, key, ca, part) in [
        ("none.pem", "one.key", None, "none.pem: No such file"),
        ("empty.pem", "one.key", None, "empty.pem: it has no certificate"),
        ("one.pem", "one.pem", None, "one.pem: "),
        ("one.pem", "two.key", None, "one.pem: "),
        ("one.pem", "one.key", Some("empty.pem"), "empty.pem: it has no certificate"),
    ] {
        let error = start(certificate, key, ca);
        assert!(error.contains("cannot speak TLS") && error.contains(part), "{error}");
    }
}

#[test]
fn who_asks_too_often_is_told_to_wait() {
    let limits = Limits { requests_per_second: Some(5), ..Limits::default() };
    let bed = Bed::start(Config { limits, ..Config::default() });
    let statuses: Vec<_> = (0..30).map(|_| bed.get("/healthz").status).collect();
    assert!(statuses[..10].iter().all(|status| *status == 200), "{statuses:?}");
    assert!(statuses.contains(&429), "{statuses:?}");
    let refused = std::iter::repeat_with(|| bed.get("/healthz")).find(|reply| reply.status == 429);
    assert!(refused.unwrap().head.to_ascii_lowercase().contains("retry-after: 1"));
    // and is answered again later
    crate::bed::wait_until("an answer", || bed.get("/healthz").status == 200);
}

#[test]
fn pages_and_answers_say_what_browsers_may_do_with_them() {
    let bed = Bed::start(Config::default());
    for page in
        ["/", "/nodes", "/images", "/swarm", "/reimage", "/api/v1/nodes", "/api/v1/rollouts"]
    {
        let head = bed.get(page).head.to_ascii_lowercase();
        for field in [
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "referrer-policy: no-referrer",
            "content-security-policy: default-src 'none'",
            "cross-origin-resource-policy: same-origin",
            "cache-control: no-store",
        ] {
            assert!(head.contains(field), "{page}: {field} is not in {head}");
        }
        assert_eq!(head.matches("content-security-policy").count(), 1, "{head}");
    }
}

/// Whatever stands where a name or a path goes, nothing of the file system comes back.
#[test]
fn no_path_from_outside_reaches_the_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (_store_dir, store) = empty_store();
    let revision = add_revision(&store, "debian", InfoHash([1; 20]), true);
    store.publish(&revision, &stable()).unwrap();
    let bed = Bed::start(Config {
        state: Some(state.clone()),
        store: Some(store.root().to_owned()),
        ..Config::default()
    });
    let token = fs::read_to_string(state.join("admin-token")).unwrap();
    let files = [
        state.join("admin-token"),
        state.join("state.db"),
        store.root().join("store.json"),
        PathBuf::from("/etc/passwd"),
    ];
    let mut asked = 0;
    for file in &files {
        let plain = file.to_str().unwrap();
        let up = format!("{}{plain}", "/..".repeat(12));
        let up = up.trim_start_matches('/');
        let encoded = up.replace("..", "%2e%2e");
        let slashes = up.replace('/', "%2f");
        let both = encoded.replace('/', "%2F");
        let forms = [
            plain.to_owned(),
            up.to_owned(),
            encoded,
            slashes.clone(),
            both,
            slashes.replace('%', "%25"),
            up.replace("..", "....//"),
            up.replace('/', "\\"),
            up.replace('/', "%5c"),
            format!("{up}%00.ipxe"),
            up.replace("..", "%c0%ae%c0%ae"),
            format!("file://{plain}"),
        ];
        for form in &forms {
            for target in [
                format!("/{form}"),
                format!("/boot/{form}"),
                format!("/boot/{form}.ipxe"),
                format!("/nodes/{form}"),
                format!("/images/{form}"),
                format!("/page.js/{form}"),
                format!("/api/v1/nodes/{form}"),
                format!("/api/v1/rollouts/{form}"),
                format!("/boot.ipxe?mac={form}"),
                format!("/boot.ipxe?mac=52:54:00:00:00:01&image={form}"),
                format!("/boot.ipxe?mac=52:54:00:00:00:01&channel={form}"),
                format!("/?window={form}"),
                format!("/announce?info_hash={form}"),
                format!("/scrape?info_hash={form}"),
            ] {
                let reply = bed.get(&target);
                let body = String::from_utf8_lossy(&reply.body);
                for secret in [token.trim(), "root:x:0", "SQLite format", "\"format\":1"] {
                    assert!(!body.contains(secret), "{target} gives {secret}");
                }
                let page = target.starts_with("/?")
                    || target.contains("/announce")
                    || target.contains("/scrape");
                assert!(page || (400..500).contains(&reply.status), "{target}: {}", reply.status);
                asked += 1;
            }
            let posted = bed.post(&format!("/api/v1/nodes/{form}/events"), b"{}");
            assert!((400..500).contains(&posted.status), "{form}: {}", posted.status);
        }
    }
    assert!(asked > 500);
    // nothing was written beside what belongs there
    let mut left: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.retain(|name| name != "state");
    assert!(left.is_empty(), "{left:?}");
}
