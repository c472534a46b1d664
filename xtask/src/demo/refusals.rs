//! Machines that demand dm-verity (`beeswarm.verity=require`) and must refuse what they are given. Each
//! is powered on, and says so on its console, by its exit code, and to the tracker.

use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::{Node, VmConfig};
use proto::event::Refusal;
use proto::hash::Sha256Digest;
use proto::manifest::Manifest;
use proto::verity::Verity;
use store::Store;

use super::build::Programs;
use super::image::Image;
use super::machine::Machine;
use super::services::Services;
use super::steps::note;
use super::tracker::{self, Entry, History};
use super::variant;

/// Stages that nothing refused may reach.
const FORBIDDEN: [&str; 3] = ["mount", "handover", "seeding"];

/// Something to refuse.
#[derive(Debug)]
pub(crate) struct Case {
    /// Of the machine.
    pub(crate) name: &'static str,
    /// Its own kernel arguments.
    kernel_args: &'static str,
    /// What is wrong with its manifest; `None`: it boots the published revision.
    spoil: Option<fn(&mut Manifest)>,
    /// Exit code of the client.
    exit: u8,
    /// In the boot event.
    refused: Refusal,
    /// In the message.
    words: &'static str,
}

/// All of them. The signed manifest of each is in order otherwise.
pub(crate) const CASES: [Case; 3] = [
    Case {
        name: "no-tree",
        kernel_args: "",
        spoil: Some(|manifest| manifest.verity = None),
        exit: 14,
        refused: Refusal::Unchecked,
        words: "the image has no dm-verity tree",
    },
    Case {
        name: "no-mapper",
        // the kernel does not load it, for whoever asks
        kernel_args: "module_blacklist=dm_mod",
        spoil: None,
        exit: 14,
        refused: Refusal::Unchecked,
        words: "no device-mapper",
    },
    Case {
        name: "other-tree",
        kernel_args: "",
        spoil: Some(other_root_hash),
        exit: 11,
        refused: Refusal::WrongImage,
        words: "dm-verity",
    },
];

/// No block of the image has this tree.
fn other_root_hash(manifest: &mut Manifest) {
    manifest.verity = manifest.verity.and_then(|verity| {
        let blocks = NonZeroU64::new(verity.data_blocks())?;
        Verity::new(Sha256Digest([9; 32]), verity.salt, blocks)
    });
}

/// Writes the inventory that gives each machine its kernel arguments.
pub(crate) fn inventory(folder: &Path, ports: &[Node]) -> Result<PathBuf> {
    let rows = CASES
        .iter()
        .zip(ports)
        .map(|(case, port)| format!("{},{},{}\n", port.mac(), case.name, case.kernel_args));
    let text: String = std::iter::once("mac,name,kernel_args\n".to_owned()).chain(rows).collect();
    let path = folder.join("inventory.csv");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Boots one machine after the other, each for `limit` at most, and takes away what was made for them.
pub(crate) fn play(
    admin: &Node,
    ports: &[Node],
    (image, programs): (&Image, &Programs),
    services: &mut Services,
    (vm, limit): (&VmConfig, Duration),
) -> Result<()> {
    for (case, port) in CASES.iter().zip(ports) {
        if let Some(spoil) = case.spoil {
            let node = port.mac().parse().context("the address of a machine")?;
            variant::assign(image, programs, case.name, node, spoil)?;
        }
        let message = boot(case, admin, port, services, (vm, limit))
            .with_context(|| format!("the machine {}", case.name))?;
        note(format_args!("{}: exit code {}, {message}", case.name, case.exit));
    }
    variant::remove_all(&Store::open(&image.store)?)
}

/// Powers a machine on and waits until it has refused; returns its words.
fn boot(
    case: &Case,
    admin: &Node,
    port: &Node,
    services: &mut Services,
    (vm, limit): (&VmConfig, Duration),
) -> Result<String> {
    let mut machine = Machine::power_on(port, vm)?;
    let deadline = Instant::now() + limit;
    loop {
        services.look()?;
        machine.look(None)?;
        // the tracker knows a node from its boot script on
        let known = tracker::nodes(admin)?.contains_key(port.mac());
        let history = if known { Some(tracker::history(admin, port.mac())?) } else { None };
        let message = history.map(|history| judge(case, &history)).transpose()?.flatten();
        if let Some(message) = message
            && says(machine.console(), case)?
        {
            return Ok(message);
        }
        if Instant::now() > deadline {
            bail!("it has not refused its image; {}", machine.last_words());
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// The message of the refusal, when it has come; an error when something else came of the boot.
fn judge(case: &Case, history: &History) -> Result<Option<String>> {
    let gone_on = history.events.iter().find(|entry| FORBIDDEN.contains(&entry.stage.as_str()));
    ensure!(gone_on.is_none(), "it went on to {gone_on:?}");
    let Some(Entry { message: Some(message), refused, .. }) = history.last("failed") else {
        return Ok(None);
    };
    ensure!(
        *refused == Some(case.refused) && message.contains(case.words),
        "it failed for another reason than {:?} ({}): {refused:?}, {message}",
        case.refused,
        case.words
    );
    Ok(Some(message.clone()))
}

/// Whether the console shows message and exit code, the latter in the words of our boot script or of
/// systemd.
fn says(console: &Path, case: &Case) -> Result<bool> {
    let text = fs::read(console).with_context(|| format!("cannot read {}", console.display()))?;
    let text = String::from_utf8_lossy(&text);
    let Some((_, failed)) = text.split_once("beeswarm: FAILED: ") else { return Ok(false) };
    let exits = [format!("(exit code {})", case.exit), format!("status={}/", case.exit)];
    Ok(failed.contains(case.words) && exits.iter().any(|exit| failed.contains(exit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(events: &str) -> History {
        serde_json::from_str(&format!("{{\"events\":[{events}]}}")).unwrap()
    }

    #[test]
    fn only_the_right_reason_counts() {
        let case = &CASES[0];
        let failed = r#"{"stage":"failed","refused":"unchecked","message":"x: the image has no dm-verity tree"}"#;
        let seen = judge(case, &history(failed)).unwrap();
        assert_eq!(seen.as_deref(), Some("x: the image has no dm-verity tree"));
        assert_eq!(judge(case, &history(r#"{"stage":"attach"}"#)).unwrap(), None);
        for wrong in [
            failed.replace("unchecked", "wrong-image"),
            failed.replace("tree", "forest"),
            format!("{failed},{{\"stage\":\"mount\"}}"),
        ] {
            assert!(judge(case, &history(&wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn message_and_exit_code_must_be_on_the_console() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let shows = |text: &str| {
            fs::write(file.path(), text).unwrap();
            says(file.path(), &CASES[0]).unwrap()
        };
        let message = "beeswarm: FAILED: it is demanded, and the image has no dm-verity tree\r\n";
        assert!(shows(&format!("{message}beeswarm: not mounted (exit code 14), see above")));
        assert!(shows(&format!("{message}code=exited, status=14/n/a")));
        assert!(!shows(message));
        assert!(!shows(&format!("{message}(exit code 1)")));
        assert!(!shows("(exit code 14) beeswarm: FAILED: the image has no tree"));
    }
}
