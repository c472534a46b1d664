//! `bee-seeder record-order`: which files a boot opens, and in which order, for
//! `bee-packer pack --order`.
//!
//! Everything from right after `switch_root` on is seen when the recorder is the node's first program
//! (`init=/usr/bin/bee-record-order`), see [`init`]. Opened is not read, but it is what can be seen:
//! programs and libraries are read by page faults, of which the kernel tells nobody.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Args;
use sys::opened::{Opening, Openings};

pub mod init;

/// Where the list of a boot lies.
pub const BOOT_ORDER: &str = "/run/beeswarm/boot-order";

/// How often systemd is asked, and how often a list that grew is written.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a unit is waited for.
const UNIT_LIMIT: Duration = Duration::from_secs(600);

/// Longest recording, in seconds: a day.
const MAX_SECONDS: u64 = 86_400;

/// First line of a list.
const HEADER: &str =
    "# Files in the order in which they were first opened; for bee-packer pack --order\n";

/// Flags of `record-order`.
#[derive(Debug, Clone, Args)]
pub struct RecordOptions {
    /// Where the list goes; it is written every second that it grows [default: standard output, at the
    /// end]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// When to end: a unit of systemd that must be active, or a number of seconds. A unit is waited for
    /// up to 10 minutes
    #[arg(long, value_name = "UNIT|SECONDS", default_value = "multi-user.target")]
    pub until: Until,
    /// Seconds to go on when the unit is active: services that are ready go on reading
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub settle: u64,
    /// Directory that is the root of the image; all files on its file system are watched
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

/// When a recording ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Until {
    /// When this unit is active.
    Unit(String),
    /// After this time.
    Time(Duration),
}

/// Neither a unit nor a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give a unit such as multi-user.target, or 1 to 86400 seconds")]
pub struct UntilError;

/// Why nothing could be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// fanotify refuses.
    #[error(
        "cannot watch the files of {root}: this needs root and a kernel with fanotify \
         (CONFIG_FANOTIFY, Linux 4.20)"
    )]
    Watch {
        /// The directory.
        root: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel ends it.
    #[error("cannot go on watching")]
    Read {
        /// Why.
        source: io::Error,
    },
    /// The list cannot be written.
    #[error("cannot write the list {path}")]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl FromStr for Until {
    type Err = UntilError;

    fn from_str(text: &str) -> Result<Self, UntilError> {
        if let Ok(seconds) = text.parse() {
            let bounds = 1..=MAX_SECONDS;
            let time = bounds.contains(&seconds).then(|| Duration::from_secs(seconds));
            return time.map(Self::Time).ok_or(UntilError);
        }
        // it becomes an argument of systemctl
        let fits = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let unit = text.contains('.') && !text.starts_with('-') && text.len() < 256;
        if unit && text.chars().all(fits) {
            Ok(Self::Unit(text.to_owned()))
        } else {
            Err(UntilError)
        }
    }
}

/// Records until it is to end, and writes the list.
///
/// `started` is called as soon as nothing is missed any more.
///
/// # Errors
/// [`RecordError`].
pub fn run(options: &RecordOptions, started: impl FnOnce()) -> Result<(), RecordError> {
    let watch = |source| RecordError::Watch { root: options.root.clone(), source };
    let root = fs::canonicalize(&options.root).map_err(watch)?;
    let openings = Openings::watch(&root).map_err(watch)?;
    started();
    let mut list = List::new(root);
    let mut end = End::new(options);
    let mut written = 0;
    while !end.has_come() {
        let seen = openings.next(LOOK_EVERY).map_err(|source| RecordError::Read { source })?;
        if seen.lost && !list.incomplete {
            tracing::warn!("some files could not be seen: the list is not complete");
            list.incomplete = true;
        }
        for opening in seen.openings {
            if !end.is_ours(opening.process) {
                list.add(&opening);
            }
        }
        if let Some(path) = options.output.as_deref().filter(|_| list.paths.len() > written)
            && end.looks_now()
        {
            list.save(path)?;
            written = list.paths.len();
        }
    }
    match &options.output {
        Some(path) => list.save(path)?,
        None => {
            let error = |source| RecordError::Write { path: "-".into(), source };
            io::stdout().lock().write_all(&list.text()).map_err(error)?;
        }
    }
    tracing::info!(files = list.paths.len(), "recorded which files were opened");
    Ok(())
}

/// What was opened below a root, each file once.
#[derive(Debug)]
struct List {
    root: PathBuf,
    paths: Vec<PathBuf>,
    known: HashSet<PathBuf>,
    incomplete: bool,
}

impl List {
    fn new(root: PathBuf) -> Self {
        Self { root, paths: Vec::new(), known: HashSet::new(), incomplete: false }
    }

    fn add(&mut self, opening: &Opening) {
        let Ok(path) = opening.path.strip_prefix(&self.root) else { return };
        // a line is a path
        if path.as_os_str().as_bytes().contains(&b'\n') || self.known.contains(path) {
            return;
        }
        self.known.insert(path.to_owned());
        self.paths.push(path.to_owned());
    }

    /// The list, without files that are gone: they were made by this boot.
    fn text(&self) -> Vec<u8> {
        let mut text = HEADER.as_bytes().to_owned();
        let there = |path: &&PathBuf| {
            fs::symlink_metadata(self.root.join(path)).is_ok_and(|meta| meta.is_file())
        };
        for path in self.paths.iter().filter(there) {
            text.push(b'/');
            text.extend(path.as_os_str().as_bytes());
            text.push(b'\n');
        }
        text
    }

    /// Replaces the file as a whole: whoever fetches it gets a list that ends with a line.
    fn save(&self, path: &Path) -> Result<(), RecordError> {
        let error = |source| RecordError::Write { path: path.to_owned(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs::create_dir_all(folder.unwrap_or(Path::new("."))).map_err(error)?;
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        File::create(&part).and_then(|mut file| file.write_all(&self.text())).map_err(error)?;
        fs::rename(part, path).map_err(error)
    }
}

/// Knows when to end.
#[derive(Debug)]
struct End {
    deadline: Instant,
    settle: Duration,
    unit: Option<String>,
    looked: Instant,
    asked: Instant,
    asking: Option<Child>,
    /// Processes of ours: what they open is no part of a boot.
    ours: HashSet<u32>,
}

impl End {
    fn new(options: &RecordOptions) -> Self {
        let now = Instant::now();
        let (limit, unit) = match &options.until {
            Until::Time(time) => (*time, None),
            Until::Unit(unit) => (UNIT_LIMIT, Some(unit.clone())),
        };
        Self {
            deadline: now + limit,
            settle: Duration::from_secs(options.settle.min(MAX_SECONDS)),
            unit,
            looked: now,
            asked: now,
            asking: None,
            ours: HashSet::from([std::process::id()]),
        }
    }

    fn is_ours(&self, process: u32) -> bool {
        self.ours.contains(&process)
    }

    /// Whether it is time to look again at what there is to write.
    fn looks_now(&mut self) -> bool {
        let now = Instant::now();
        let due = now.duration_since(self.looked) >= LOOK_EVERY;
        if due {
            self.looked = now;
        }
        due
    }

    fn has_come(&mut self) -> bool {
        let now = Instant::now();
        if let Some(mut child) = self.asking.take() {
            match child.try_wait() {
                Ok(None) => self.asking = Some(child),
                Ok(Some(status)) if status.success() => {
                    self.unit = None;
                    self.deadline = self.deadline.min(now + self.settle);
                }
                // not active yet, or not there yet
                _ => {}
            }
        } else if let Some(unit) = &self.unit
            && now.duration_since(self.asked) >= LOOK_EVERY
            && Path::new("/run/systemd/system").is_dir()
        {
            self.asked = now;
            self.asking = ask(unit);
            self.ours.extend(self.asking.as_ref().map(Child::id));
        }
        now >= self.deadline
    }
}

/// Asks systemd whether a unit is active; a process, since an answer may take long while it starts.
fn ask(unit: &str) -> Option<Child> {
    let mut command = Command::new("systemctl");
    command.args(["--quiet", "is-active", unit]);
    command.env("PATH", OsStr::new("/usr/bin:/bin")).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null()).spawn().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_unit_or_a_time() {
        assert_eq!("60".parse(), Ok(Until::Time(Duration::from_secs(60))));
        assert_eq!("graphical.target".parse(), Ok(Until::Unit("graphical.target".to_owned())));
        for bad in ["", "0", "86401", "-1", "soon", "--help.x", "a b.target", "x.target;reboot"] {
            assert_eq!(bad.parse::<Until>(), Err(UntilError), "{bad:?}");
        }
    }

    #[test]
    fn a_file_is_listed_once_and_only_while_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let mut list = List::new(root.clone());
        for name in ["b", "a", "two\nlines"] {
            fs::write(root.join(name), "").unwrap();
        }
        for path in ["b", "gone", "a", "b", "two\nlines", "../elsewhere (deleted)"] {
            list.add(&Opening { path: root.join(path), process: 1 });
        }
        list.add(&Opening { path: "/elsewhere".into(), process: 1 });
        assert_eq!(String::from_utf8(list.text()).unwrap(), format!("{HEADER}/b\n/a\n"));
        let path = root.join("new/folder/list");
        list.save(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), list.text());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
