//! Ctrl-C, SIGTERM and SIGHUP: undo what was done, then end.

use std::io;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::workspace::say;

type Action = Box<dyn FnOnce() + Send>;

/// What is to be undone when a signal comes. Clones share the list.
///
/// What a normal end undoes by itself (the lab's end, removed folders) is entered here as well; both
/// ways must be able to find the work done.
#[derive(Clone, Default)]
pub(crate) struct Interrupt {
    actions: Arc<Mutex<Vec<Action>>>,
    came: Arc<AtomicBool>,
}

/// What Ctrl-C means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CtrlC {
    /// The end.
    Ends,
    /// Nothing: it is meant for a program in the foreground.
    Ignored,
}

impl Interrupt {
    /// From now on signals run the actions, the last one first, and end this process.
    pub(crate) fn install(ctrl_c_means: CtrlC) -> Result<Interrupt> {
        let interrupt = Interrupt::default();
        let runtime = Builder::new_current_thread().enable_io().build();
        let runtime = runtime.context("cannot listen for signals")?;
        let guard = runtime.enter();
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let ctrl_c = listen(SignalKind::interrupt())?;
        let terminate = listen(SignalKind::terminate())?;
        let hang_up = listen(SignalKind::hangup())?;
        drop(guard);
        let theirs = interrupt.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let (name, number) = runtime.block_on(first(ctrl_c_means, ctrl_c, terminate, hang_up));
            theirs.came.store(true, Ordering::SeqCst);
            say(format_args!("\n{name}: cleaning up"));
            theirs.run();
            leave(128 + number);
        })?;
        Ok(interrupt)
    }

    /// Adds an action.
    pub(crate) fn undo(&self, action: impl FnOnce() + Send + 'static) {
        self.list().push(Box::new(action));
    }

    /// To be called before a failure is told: when a signal is what made things fail, this does not
    /// return, and the signal's own end of the process comes.
    pub(crate) fn give_way(&self) {
        while self.came.load(Ordering::SeqCst) {
            thread::park();
        }
    }

    fn run(&self) {
        let actions = std::mem::take(&mut *self.list());
        for action in actions.into_iter().rev() {
            action();
        }
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Action>> {
        // a panic while this was held leaves a list, which is still good
        self.actions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn first(
    ctrl_c_means: CtrlC,
    mut int: Signal,
    mut term: Signal,
    mut hup: Signal,
) -> (&'static str, i32) {
    loop {
        tokio::select! {
            _ = int.recv() => if ctrl_c_means == CtrlC::Ends { return ("interrupted", 2) },
            _ = term.recv() => return ("SIGTERM", 15),
            _ = hup.recv() => return ("SIGHUP", 1),
        }
    }
}

#[expect(clippy::exit, reason = "a signal ends the process; everything has been undone")]
fn leave(code: i32) -> ! {
    // what was written last should be seen
    let _ = io::Write::flush(&mut io::stdout());
    process::exit(code)
}
