//! What can go wrong while a lab is built or used.

use std::io;
use std::path::PathBuf;

/// A failed operation of the lab, with its subject and, where there is one, the remedy.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Labs are made of namespaces that only root can create.
    #[error("a lab needs root: run this as root (for example with sudo)")]
    NotRoot,
    /// A program that the lab calls is not installed.
    #[error(
        "`{program}` is not installed ({why}); it is in the package {debian} on Debian and Ubuntu, \
         {fedora} on Fedora and RHEL-likes"
    )]
    MissingTool {
        /// Name of the program.
        program: &'static str,
        /// What it is for.
        why: &'static str,
        /// Debian package.
        debian: &'static str,
        /// Fedora package.
        fedora: &'static str,
    },
    /// A program of this repository has not been built.
    #[error("`{name}` is not built: run `cargo build --bins` first, or `cargo xtask test`")]
    NotBuilt {
        /// Name of the program.
        name: &'static str,
    },
    /// The one foreign client that no distribution has is not there.
    #[error("rqbit {version} is not built: `cargo xtask test --install` builds it")]
    MissingRqbit {
        /// The version that is wanted.
        version: &'static str,
    },
    /// The holder process did not come up.
    #[error("the lab's holder process did not start: {output}")]
    Holder {
        /// What it printed.
        output: String,
    },
    /// A program could not be started.
    #[error("cannot start `{program}`")]
    Spawn {
        /// Path or name of the program.
        program: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// `bee-tracker dnsmasq-config` wrote nothing.
    #[error("bee-tracker dnsmasq-config failed: {words}")]
    Tracker {
        /// What it said.
        words: String,
    },
    /// A set-up command failed.
    #[error("{what} failed: {output}")]
    Setup {
        /// What was attempted.
        what: String,
        /// What the command printed.
        output: String,
    },
    /// The kernel cannot delay packets.
    #[error(
        "this kernel has no network emulator for delays: load its module (modprobe sch_netem), or do \
         without a delay"
    )]
    NoDelay,
    /// A namespace of the lab could not be entered.
    #[error("cannot enter {what}")]
    Enter {
        /// Which namespace.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file of the lab could not be made, read or written.
    #[error("cannot {operation} {path}")]
    File {
        /// "create", "read", "write".
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A name is used twice, or is not fit for a namespace and a file.
    #[error("`{name}` is not usable as a node's name: {reason}")]
    Name {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The address plan has no room left.
    #[error("a lab has room for {0} nodes")]
    Full(u32),
    /// The holder is gone, and with it the lab.
    #[error("the lab has been stopped")]
    Stopped,
    /// Waiting for a process failed.
    #[error("cannot wait for `{program}`")]
    Wait {
        /// Path or name of the program.
        program: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A table of the kernel lacks what is read from it.
    #[error("{file} has no {field}")]
    Counters {
        /// The file.
        file: &'static str,
        /// What is missing.
        field: &'static str,
    },
    /// The relay from the host could not listen.
    #[error("cannot listen on this host's loopback address")]
    Relay(#[source] io::Error),
    /// A connection into the lab failed.
    #[error("cannot connect to {to} from node {node}")]
    Connect {
        /// Node whose namespace was used.
        node: String,
        /// Target.
        to: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl LabError {
    /// A file error for `path`.
    pub(crate) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> LabError {
        let path = path.into();
        move |source| LabError::File { operation, path, source }
    }
}
