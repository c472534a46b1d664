//! Inventories, good and wrong.

use super::*;

const CSV: &str = "\
# rack 1
mac,name,rack,group,image,channel,kernel_args,boot,bmc
52:54:00:00:00:01,n01,r1,gpu,debian,canary,console=ttyS1 quiet,,n01-bmc:443
52-54-00-00-00-02 52:54:00:00:00:03, n02 , r1,,,,,disk,
52:54:00:00:00:04,n02,r1,,,,,disk,
";

const TOML: &str = r#"
[[node]]
mac = "52:54:00:00:00:01"
name = "n01"
rack = "r1"
group = "gpu"
image = "debian"
channel = "canary"
kernel_args = "console=ttyS1 quiet"
bmc = "n01-bmc:443"

[[node]]
mac = ["52:54:00:00:00:02", "52:54:00:00:00:03", "52:54:00:00:00:04"]
name = "n02"
rack = "r1"
boot = "disk"
"#;

fn mac(n: u8) -> NodeId {
    NodeId([0x52, 0x54, 0, 0, 0, n])
}

#[test]
fn both_forms_say_the_same() {
    let csv = Inventory::parse(Format::Csv, CSV).unwrap();
    assert_eq!(csv, Inventory::parse(Format::Toml, TOML).unwrap());
    let first = csv.of(mac(1)).unwrap();
    assert_eq!(first.name.as_str(), "n01");
    assert_eq!(first.channel.as_ref().unwrap().as_str(), "canary");
    assert_eq!(first.kernel_args.to_string(), "console=ttyS1 quiet");
    assert_eq!(first.bmc.as_ref().unwrap().to_string(), "n01-bmc:443");
    let second = csv.named("n02").unwrap();
    assert_eq!(second.macs, [mac(2), mac(3), mac(4)]);
    assert_eq!((second.boot, &second.group), (BootFrom::Disk, &None));
    assert_eq!(csv.of(mac(4)), Some(second));
    assert!(csv.of(mac(9)).is_none() && csv.entries().len() == 2);
    assert_eq!(
        Inventory::parse(Format::Csv, "\u{feff}name,mac\r\n").unwrap(),
        Inventory::default()
    );
    assert_eq!(Inventory::parse(Format::Toml, "").unwrap(), Inventory::default());
}

#[test]
fn errors_name_the_line_and_what_is_expected() {
    let head = "mac,name,kernel_args\n52:54:00:00:00:01,n01,\n";
    let long = format!("{head}52:54:00:00:00:02,{},", "n".repeat(65));
    let cases: &[(Format, &str, usize, &str)] = &[
        (Format::Csv, "mac,nmae\n", 1, "\"nmae\""),
        (Format::Csv, "mac,mac\n", 1, "twice"),
        (Format::Csv, "mac,name\n\n# x\n52:54:00:00:00:01\n", 4, "1 columns"),
        (Format::Csv, &[head, "zz,n02,\n"].concat(), 3, "MAC address"),
        (Format::Csv, &[head, ",n02,\n"].concat(), 3, "mac is missing"),
        (Format::Csv, &[head, "52:54:00:00:00:02,,\n"].concat(), 3, "name is missing"),
        (Format::Csv, &[head, "52:54:00:00:00:01,n02,\n"].concat(), 3, "listed already"),
        (Format::Csv, &[head, "52:54:00:00:00:02,n01,quiet\n"].concat(), 3, "other settings"),
        (Format::Csv, &[head, "52:54:00:00:00:02,n 02,\n"].concat(), 3, "letters, digits"),
        (Format::Csv, &[head, "52:54:00:00:00:02,n02,a || shell\n"].concat(), 3, "kernel_args"),
        (Format::Csv, &[head, "52:54:00:00:00:02,n02,\"a\nshell\"\n"].concat(), 3, "kernel_args"),
        (Format::Csv, &long, 3, "1 to 64"),
        (Format::Toml, "[[node]]\nname = 'n01'\nmac = 'x'\n", 1, "MAC address"),
        (Format::Toml, "\n[[node]]\nname = 'n01'\nmca = 'x'\n", 4, "mca"),
        (Format::Toml, "[[node]]\nname = 'n01\n", 2, ""),
        (Format::Toml, "[[node]]\nname = 'n'\nmac = '52:54:00:00:00:01'\nboot = 'net'", 1, "disk"),
    ];
    for (format, text, line, reason) in cases {
        let error = Inventory::parse(*format, text).unwrap_err();
        assert_eq!(error.line, *line, "{text:?}: {error}");
        assert!(error.reason.contains(reason), "{text:?}: {error}");
    }
}

#[test]
fn a_file_is_read_again_when_it_changes_and_told_of_once_when_it_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes.csv");
    let mut follower = Follower::new(&path);
    assert!(matches!(follower.poll(), Err(follow::FollowError::Read { .. })));
    std::fs::write(&path, CSV).unwrap();
    let (inventory, stored) = follower.poll().unwrap().unwrap();
    assert_eq!(inventory.entries().len(), 2);
    assert_eq!(Stored::restore(&stored.to_bytes().unwrap()), Some(inventory));
    assert!(follower.poll().unwrap().is_none());
    std::fs::write(&path, "mac,name\nx,y\n").unwrap();
    assert!(matches!(follower.poll(), Err(follow::FollowError::Wrong { .. })));
    assert!(follower.poll().unwrap().is_none(), "until it changes");
    std::fs::write(&path, "mac,name\n52:54:00:00:00:01,y\n").unwrap();
    assert_eq!(follower.poll().unwrap().unwrap().0.entries().len(), 1);
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,200}", line in "(52:54:00:00:00:01|,|\"|\n|n){0,40}") {
        for format in [Format::Toml, Format::Csv] {
            let _ = Inventory::parse(format, &text);
            let _ = Inventory::parse(format, &format!("mac,name\n{line}"));
        }
    }
}
