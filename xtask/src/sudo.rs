//! Commands that need root: says so, and offers sudo on a terminal.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

use crate::workspace::say;

/// Variables that cargo and rustup need to be themselves again as root.
const KEPT: [&str; 7] =
    ["PATH", "HOME", "CARGO", "CARGO_HOME", "RUSTUP_HOME", "CARGO_TARGET_DIR", "TERM"];

/// Returns when this process is root. Otherwise it says why root is needed and how to get it; on a
/// terminal it asks and then starts over under sudo.
pub(crate) fn require_root(why: &str) -> Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    let arguments = sudo_arguments()?;
    let words: Vec<_> = arguments.iter().map(|word| quote(&word.to_string_lossy())).collect();
    let line = format!("sudo {}", words.join(" "));
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        bail!("this needs root ({why}). Run:\n  {line}");
    }
    say(format_args!("This needs root ({why}). It would run:\n  {line}"));
    if !confirm("Run this now?")? {
        bail!("not root");
    }
    let error = Command::new("sudo").args(arguments).exec();
    Err(error).context("cannot run sudo")
}

/// Asks a question on the terminal; an empty answer is yes.
pub(crate) fn confirm(question: &str) -> Result<bool> {
    let mut out = io::stdout().lock();
    write!(out, "{question} [Y/n] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "" | "y" | "yes"))
}

fn sudo_arguments() -> Result<Vec<OsString>> {
    let program = env::current_exe().context("cannot tell this program's path")?;
    let mut words: Vec<OsString> = vec!["env".into()];
    for name in KEPT {
        if let Some(value) = env::var_os(name) {
            let mut word = OsString::from(format!("{name}="));
            word.push(value);
            words.push(word);
        }
    }
    words.push(program.into());
    words.extend(env::args_os().skip(1));
    Ok(words)
}

/// A word as a shell takes it.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+:,./@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quote("PATH=/a:/b"), "PATH=/a:/b");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), "'it'\\''s'");
        assert_eq!(quote(""), "''");
    }
}
