//! The recorder as a node's first program: `init=/usr/bin/bee-record-order`.
//!
//! ```text
//! process 1: bee-record-order ─ starts ─▶ bee-seeder record-order ─▶ /run/beeswarm/boot-order
//!                 │  ◀── first line: everything is seen from now on
//!                 └─ becomes /sbin/init
//! ```
//!
//! Whatever goes wrong, the real init is started: a list is not worth a node.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use proto::kernel_args;

use super::{BOOT_ORDER, Until};

/// By this name the program is an init.
pub const NAME: &str = "bee-record-order";

/// Tried in this order, as the kernel does.
const INITS: [&str; 5] =
    ["/sbin/init", "/usr/lib/systemd/systemd", "/etc/init", "/bin/init", "/bin/sh"];

/// Whether a program that was called so is to be an init.
#[must_use]
pub fn is_meant(program: &OsStr) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == NAME)
}

/// Starts the recorder and becomes the real init, with the arguments `args`. Returns only when there is
/// no init, or this is not process 1.
pub fn run(args: impl Iterator<Item = OsString>) -> io::Error {
    if std::process::id() != 1 {
        // a second init could take its arguments for orders to the first one
        return io::Error::other(format!(
            "this is not process 1: give the kernel init=/usr/bin/{NAME}, or call bee-seeder \
             record-order on a running system"
        ));
    }
    if let Err(error) = start() {
        say(&format!("does not record: {error}"));
    }
    let args: Vec<OsString> = args.collect();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for init in INITS {
        let error = Command::new(init).args(&args).exec();
        if error.kind() != io::ErrorKind::NotFound {
            say(&format!("cannot run {init}: {error}"));
        }
        last = error;
    }
    last
}

/// Starts the recorder and waits until it sees everything.
fn start() -> io::Result<()> {
    let cmdline = std::fs::read_to_string("/proc/cmdline")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["record-order", "--output", BOOT_ORDER]);
    if let Some(text) = kernel_args::record_order(&cmdline) {
        match text.parse::<Until>() {
            Ok(_) => {
                command.args(["--until", text]);
            }
            Err(error) => say(&format!("beeswarm.record_order={text} is not valid: {error}")),
        }
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    match line.is_empty() {
        // it has said why
        true => Err(io::Error::other("the recorder ended")),
        false => Ok(()),
    }
}

fn say(text: &str) {
    // nobody may listen
    let _ = writeln!(io::stderr(), "{NAME}: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_what_is_meant() {
        assert!(is_meant(OsStr::new("/usr/bin/bee-record-order")));
        assert!(is_meant(OsStr::new("bee-record-order")));
        assert!(!is_meant(OsStr::new("/usr/bin/bee-seeder")));
    }

    #[test]
    fn who_is_not_process_1_becomes_no_init() {
        let error = run(["6".into()].into_iter()).to_string();
        assert!(error.contains("init=/usr/bin/bee-record-order"), "{error}");
    }
}
