//! Programs with a time limit, whose last words go into the error.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

/// Bytes that are read of what a program says.
const OUTPUT: u64 = 64 * 1024;

/// Characters of it that an error has.
const LAST_WORDS: usize = 300;

/// A program and its arguments.
#[derive(Debug)]
pub(super) struct Program {
    words: Vec<OsString>,
}

impl Program {
    /// # Errors
    /// When there are no words.
    pub(super) fn new(words: &[impl AsRef<std::ffi::OsStr>]) -> Result<Self, String> {
        if words.is_empty() {
            return Err("no program is named".to_owned());
        }
        Ok(Self { words: words.iter().map(|word| word.as_ref().to_owned()).collect() })
    }

    /// Runs it to its end; gives what it printed. It is killed at the time limit, and when the tracker ends.
    ///
    /// # Errors
    /// When it cannot be started, is killed, or ends with another status than 0; with its last words.
    pub(super) async fn run(&self, limit: Duration) -> Result<String, String> {
        let Some((first, arguments)) = self.words.split_first() else { return Ok(String::new()) };
        let name = Path::new(first).display();
        let mut command = Command::new(first);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let everything = async {
            let said = tokio::join!(read(stdout, &mut out), read(stderr, &mut err), child.wait());
            said.2
        };
        let status = match tokio::time::timeout(limit, everything).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Err(format!("{name}: {error}")),
            Err(_) => {
                return Err(format!("{name} did not end within {} s", limit.as_secs()));
            }
        };
        let out = String::from_utf8_lossy(&out).into_owned();
        if status.success() {
            return Ok(out);
        }
        let err = String::from_utf8_lossy(&err);
        let words = if err.trim().is_empty() { last_words(&out) } else { last_words(&err) };
        Err(format!("{name}: {status}: {words}"))
    }
}

/// Reads to the end, and keeps the beginning: a program must not hang on a full pipe.
async fn read(from: Option<impl tokio::io::AsyncRead + Unpin>, to: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let kept = (&mut from).take(OUTPUT).read_to_end(to).await;
    if kept.is_ok() {
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    }
}

/// The end of a text, on one line.
fn last_words(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let skipped = line.chars().count().saturating_sub(LAST_WORDS);
    line.chars().skip(skipped).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, seconds: u64) -> Result<String, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let program = Program::new(&["/bin/sh", "-c", script]).unwrap();
        runtime.block_on(program.run(Duration::from_secs(seconds)))
    }

    #[test]
    fn a_program_says_what_it_has_to_say() {
        assert_eq!(run("echo on", 60).unwrap(), "on\n");
        let error = run("echo first; echo no such >&2; echo host >&2; exit 3", 60).unwrap_err();
        assert!(error.contains("3") && error.contains("no such host"), "{error}");
        // more than a pipe holds
        assert_eq!(run("head -c 300000 /dev/zero", 60).unwrap().len(), 65_536);
        let error = run("exec sleep 600", 1).unwrap_err();
        assert!(error.contains("did not end within 1 s"), "{error}");
        let none = Program::new(&["/no/such/program"]).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(none.run(Duration::from_secs(1))).unwrap_err();
        assert!(error.contains("cannot start /no/such/program"), "{error}");
    }
}
