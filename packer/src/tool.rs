//! Running the programs of the host: found or named, watched, and their failure explained.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;

use crate::error::PackError;
use crate::{log_tail, terminal};

/// A program of the host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    /// Its name.
    pub(crate) program: &'static str,
    /// Completes "cannot run X, which …".
    pub(crate) purpose: &'static str,
    /// Debian and Fedora package.
    pub(crate) package: &'static str,
}

pub(crate) const MKSQUASHFS: Tool = Tool {
    program: "mksquashfs",
    purpose: "makes the image",
    package: "squashfs-tools (Debian, Fedora; squashfs on openSUSE)",
};
pub(crate) const GZIP: Tool = Tool { program: "gzip", purpose: "decodes gzip", package: "gzip" };
pub(crate) const ZSTD: Tool = Tool { program: "zstd", purpose: "decodes zstd", package: "zstd" };
pub(crate) const XZ: Tool =
    Tool { program: "xz", purpose: "decodes xz", package: "xz-utils (Debian), xz (Fedora)" };
pub(crate) const BZIP2: Tool =
    Tool { program: "bzip2", purpose: "decodes bzip2", package: "bzip2" };
pub(crate) const MMDEBSTRAP: Tool = Tool {
    program: "mmdebstrap",
    purpose: "installs the recipe's packages",
    package: "mmdebstrap (Debian, Fedora)",
};
pub(crate) const DNF: Tool = Tool {
    program: "dnf",
    purpose: "installs the recipe's packages",
    package: "dnf (Debian, Fedora)",
};
pub(crate) const SETPRIV: Tool = Tool {
    program: "setpriv",
    purpose: "keeps what runs in the root in bounds",
    package: "util-linux",
};
pub(crate) const MKFS_EROFS: Tool = Tool {
    program: "mkfs.erofs",
    purpose: "makes the image",
    package: "erofs-utils (Debian, Fedora, RHEL 9 and later)",
};
pub(crate) const DRACUT: Tool = Tool {
    program: "dracut",
    purpose: "makes the initrd",
    package: "dracut-core and dracut-network (Debian), dracut and dracut-network (Fedora)",
};
pub(crate) const BUSYBOX: Tool = Tool {
    program: "busybox",
    purpose: "takes the place of systemd in the initrd",
    package: "busybox-static (Debian), busybox (Fedora)",
};
pub(crate) const LSINITRD: Tool = Tool {
    program: "lsinitrd",
    purpose: "checks the initrd",
    package: "dracut-core (Debian), dracut (Fedora)",
};

/// What programs say of a full disk: the system's words, and those of rpm and apt, which look at the room before
/// they begin.
const FULL: [&str; 5] = [
    "No space left on device",
    "Disk quota exceeded",
    "B more space on the ",
    " more inodes on the ",
    "You don't have enough free space in ",
];

/// How often one looks at a program that says nothing, in milliseconds.
const LOOK: u16 = 500;

/// A look at a program that runs.
#[derive(Debug)]
pub(crate) struct Look<'a> {
    /// What it printed since the last one; nothing when only time went by.
    pub(crate) output: &'a [u8],
    /// Its process.
    pub(crate) pid: u32,
}

/// What a program printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    /// stdout and stderr together, as they came.
    pub(crate) text: String,
}

impl Tool {
    /// A command without the host's locale, and with nothing on stdin.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new(self.program);
        command.env("LC_ALL", "C").env_remove("SOURCE_DATE_EPOCH").stdin(Stdio::null());
        command
    }

    /// # Errors
    /// [`PackError::ToolMissing`] when it is not in `PATH`: for a program that another one starts.
    pub(crate) fn require(self) -> Result<(), PackError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if std::env::split_paths(&path).any(|dir| dir.join(self.program).is_file()) {
            return Ok(());
        }
        Err(self.missing(io::ErrorKind::NotFound.into()))
    }

    /// Runs the command to its end. `watch` sees the output in pieces, as they come.
    ///
    /// The program holds one end of a pipe only: when this process is killed, it is too (SIGPIPE)
    /// as soon as it prints something.
    pub(crate) fn run(
        self,
        command: Command,
        mut watch: impl FnMut(&[u8]),
    ) -> Result<Output, PackError> {
        self.follow(command, |look| {
            if !look.output.is_empty() {
                watch(look.output);
            }
        })
    }

    /// As [`Tool::run`]; `watch` sees it twice a second also when it prints nothing.
    pub(crate) fn follow(
        self,
        command: Command,
        watch: impl FnMut(Look<'_>),
    ) -> Result<Output, PackError> {
        let ends = pipe2(OFlag::O_CLOEXEC).map_err(|errno| self.missing(errno.into()))?;
        self.follow_at((File::from(ends.0), ends.1), command, watch)
    }

    /// As [`Tool::follow`], but the program prints to a terminal where there can be one. It is then not killed
    /// with this process, but must find out by what it writes.
    pub(crate) fn follow_on_terminal(
        self,
        command: Command,
        watch: impl FnMut(Look<'_>),
    ) -> Result<Output, PackError> {
        match terminal::open() {
            Ok(ends) => self.follow_at(ends, command, watch),
            Err(_) => self.follow(command, watch),
        }
    }

    fn follow_at(
        self,
        (mut reader, writer): (File, OwnedFd),
        mut command: Command,
        mut watch: impl FnMut(Look<'_>),
    ) -> Result<Output, PackError> {
        let missing = |source| self.missing(source);
        let both = writer.try_clone().map_err(missing)?;
        let mut child = command.stdout(both).stderr(writer).spawn().map_err(missing)?;
        // the parent's ends are in the command
        drop(command);
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        let pid = child.id();
        loop {
            let mut ready = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
            // an error of poll is one of read as well, which ends this
            if poll(&mut ready, PollTimeout::from(LOOK)) == Ok(0) {
                watch(Look { output: &[], pid });
                continue;
            }
            let Ok(count @ 1..) = reader.read(&mut buffer) else { break };
            watch(Look { output: &buffer[..count], pid });
            text.extend_from_slice(&buffer[..count]);
        }
        let status = child.wait().map_err(missing)?;
        Ok(Output { status, text: String::from_utf8_lossy(&text).into_owned() })
    }

    /// The error for a program that cannot be started.
    pub(crate) fn missing(self, source: io::Error) -> PackError {
        let (purpose, package) = (self.purpose, self.package);
        PackError::ToolMissing { program: self.program.to_owned(), purpose, package, source }
    }

    /// The error for a program that failed; `store` and `step` for a full disk.
    pub(crate) fn failed(self, output: &Output, place: &Place<'_>, remedy: &str) -> PackError {
        if FULL.iter().any(|words| output.text.contains(words)) {
            return place.disk_full();
        }
        PackError::ToolFailed {
            program: self.program.to_owned(),
            status: output.status.to_string(),
            tail: log_tail::tail(&output.text),
            remedy: remedy.to_owned(),
            log: keep_log(self.program, &output.text),
        }
    }
}

/// Where and at what packing is, for errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) store: &'a std::path::Path,
    pub(crate) step: &'static str,
}

impl Place<'_> {
    pub(crate) fn disk_full(&self) -> PackError {
        PackError::DiskFull { store: self.store.to_owned(), step: self.step.to_owned() }
    }

    /// The error for a file that cannot be written.
    pub(crate) fn write_error(&self, path: PathBuf, source: io::Error) -> PackError {
        if source.kind() == io::ErrorKind::StorageFull {
            self.disk_full()
        } else {
            PackError::Write { path, source }
        }
    }
}

/// Keeps the whole output where a failed run leaves it; `None` when even that fails.
pub(crate) fn keep_log(program: &str, text: &str) -> Option<PathBuf> {
    use std::io::Write as _;
    let dir = std::env::temp_dir();
    (0..100).find_map(|n| {
        let path = dir.join(format!("bee-packer-{program}-{}-{n}.log", std::process::id()));
        // create_new: /tmp is everybody's, a link may lie in wait
        let mut file = File::create_new(&path).ok()?;
        file.write_all(text.as_bytes()).ok()?;
        Some(path)
    })
}
