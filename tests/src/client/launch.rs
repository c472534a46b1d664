//! A program that is ready to be started, now or with all others at one moment.

use std::path::Path;

use super::Done;
use crate::process::Cmd;

/// A program that is ready to be started, and how one learns that it has the file.
#[derive(Debug)]
pub struct Launch {
    /// The command. Its standard output may be what [`Launch::done`] reads.
    pub command: Cmd,
    /// When it is complete.
    pub done: Done,
    /// Whether the program itself can wait for the start.
    waits: Waits,
}

#[derive(Debug)]
enum Waits {
    /// A shell waits, and then becomes the program.
    Shell,
    /// The program does, when the pipe is its last argument.
    Itself,
}

impl Launch {
    /// A program that starts to work at once.
    pub fn new(command: Cmd, done: Done) -> Launch {
        Launch { command, done, waits: Waits::Shell }
    }

    /// A program that waits, loaded and ready, when the path of a pipe is added to its arguments,
    /// until that pipe is opened for writing. For interpreters, whose start would be measured instead
    /// of what they run.
    pub fn waiting(command: Cmd, done: Done) -> Launch {
        Launch { command, done, waits: Waits::Itself }
    }

    /// The same program, held back until somebody opens this pipe for writing: opening a pipe for
    /// reading waits for a writer. So a whole crowd starts in one moment.
    #[must_use]
    pub fn behind(self, barrier: &Path) -> Launch {
        let command = match self.waits {
            Waits::Itself => self.command.arg(barrier),
            Waits::Shell => {
                let script = format!(": <'{}'; exec \"$@\"", barrier.display());
                self.command.wrapped_by("sh", ["-c", &script, "sh"])
            }
        };
        Launch { command, ..self }
    }
}
