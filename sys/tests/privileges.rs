//! Dropping privileges is for ever, so it happens in a child process: this program again.
//! (Not under the test harness: its threads would keep the old privileges.)

use std::fs::File;
use std::io::ErrorKind;
use std::process::{Command, ExitCode};

use beeswarm_sys::privileges::{Identity, PrivilegeError, drop_to, is_root};

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("as-child") {
        return child();
    }
    assert!(is_root(), "this test needs root: run it with sudo");
    let this = std::env::current_exe().expect("own path");
    let status = Command::new(this).arg("as-child").status().expect("starts itself");
    assert!(status.success(), "the child found privileges: {status}");
    ExitCode::SUCCESS
}

fn child() -> ExitCode {
    // Opened before, usable afterwards; not openable afterwards.
    let before = File::open("/etc/shadow").expect("root reads /etc/shadow");
    let nobody = Identity::look_up("nobody", None).expect("user nobody exists");
    drop_to(&nobody).expect("privileges go");

    assert!(!is_root());
    assert!(std::io::read_to_string(&before).expect("the open file stays readable").contains(':'));
    let error = File::open("/etc/shadow").expect_err("nobody cannot read /etc/shadow");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let status = std::fs::read_to_string("/proc/self/status").expect("own status");
    for line in ["NoNewPrivs:\t1", "Groups:\t "] {
        assert!(status.contains(line), "{line:?} not in {status}");
    }
    // A second drop cannot pass for a success: the groups cannot be changed any more.
    let again = drop_to(&Identity { name: "daemon".into(), uid: 1, gid: 1 });
    assert!(matches!(again, Err(PrivilegeError::Step { .. })));
    ExitCode::SUCCESS
}
