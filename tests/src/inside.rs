//! Running code inside a lab's namespaces.
//!
//! A thread of this process enters the holder's mount and PID namespaces once, and a node's network
//! namespace for each job. What it starts is then in the lab, and yet a child of this process, so
//! that it can be waited for, signalled and measured without a helper in between.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::Pid;

use crate::error::LabError;

type Job = Box<dyn FnOnce() + Send>;

/// Handle on the thread that lives in the lab.
#[derive(Debug)]
pub(crate) struct Inside {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    switch_net: PathBuf,
}

impl Inside {
    /// Starts a thread and has it enter the mount and PID namespaces of `init`.
    pub(crate) fn enter(init: Pid) -> Result<Inside, LabError> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, entered) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("lab-inside".to_owned())
            .spawn(move || {
                let result = enter_namespaces(init);
                let go_on = result.is_ok();
                // The receiver waits below, so this cannot fail.
                let _ = ready.send(result);
                if go_on {
                    for job in inbox {
                        job();
                    }
                }
            })
            .map_err(|source| LabError::Spawn { program: "lab-inside".to_owned(), source })?;
        entered.recv().map_err(|_| LabError::Stopped)??;
        let switch_net = PathBuf::from(format!("/proc/{init}/ns/net"));
        Ok(Inside { jobs: Some(jobs), thread: Some(thread), switch_net })
    }

    /// Runs `work` in the lab, in the network namespace at `net` (a path as this process sees it;
    /// the switch's namespace when `None`).
    pub(crate) fn run<T: Send + 'static>(
        &self,
        net: Option<&Path>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, LabError> {
        let net = open_namespace(net.unwrap_or(&self.switch_net))?;
        let (reply, answer) = mpsc::sync_channel(1);
        let job: Job = Box::new(move || {
            let result = setns(&net, CloneFlags::CLONE_NEWNET).map(|()| work());
            // The receiver waits below, so this cannot fail.
            let _ = reply.send(result);
        });
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or(LabError::Stopped)?;
        answer.recv().map_err(|_| LabError::Stopped)?.map_err(|errno| LabError::Enter {
            what: "a node's network namespace".to_owned(),
            source: errno.into(),
        })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A job that panicked has reported itself through its dropped reply channel.
            let _ = thread.join();
        }
    }
}

/// Runs `work` on a thread of its own in the network namespace at `net`, and only in that one: it
/// sees the host's files. For sockets, which stay in the namespace they were made in.
pub(crate) fn in_network<T: Send + 'static>(
    net: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LabError> {
    let net = open_namespace(net)?;
    let thread = thread::spawn(move || setns(&net, CloneFlags::CLONE_NEWNET).map(|()| work()));
    thread.join().map_err(|_| LabError::Stopped)?.map_err(|errno| LabError::Enter {
        what: "a node's network namespace".to_owned(),
        source: errno.into(),
    })
}

fn open_namespace(path: &Path) -> Result<File, LabError> {
    File::open(path).map_err(|source| LabError::Enter { what: path.display().to_string(), source })
}

fn enter_namespaces(init: Pid) -> Result<(), LabError> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |errno: nix::Error| LabError::Enter { what, source: io::Error::from(errno) }
    };
    let mount = open_namespace(Path::new(&format!("/proc/{init}/ns/mnt")))?;
    let pid = open_namespace(Path::new(&format!("/proc/{init}/ns/pid")))?;
    // A mount namespace can only be entered by a thread that shares its root and cwd with no other.
    unshare(CloneFlags::CLONE_FS).map_err(failed("a file system context of its own"))?;
    setns(&pid, CloneFlags::CLONE_NEWPID).map_err(failed("the lab's PID namespace"))?;
    setns(&mount, CloneFlags::CLONE_NEWNS).map_err(failed("the lab's mount namespace"))
}
