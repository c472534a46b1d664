//! Giving up root for good.
//!
//! The node seeder opens its block device as root and serves the network as a user who owns
//! nothing. Call [`drop_to`] before any thread is started: "no new privileges" is a property of
//! the thread (prctl(2)).

use std::fmt;
use std::io;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{Gid, Group, Uid, User, getresgid, getresuid, setgroups, setresgid, setresuid};
use thiserror::Error;

/// Privileges could not be given up. Nothing may be served then.
#[derive(Debug, Error)]
pub enum PrivilegeError {
    /// The user is not in the user database.
    #[error(
        "there is no user `{name}`: create it (systemd-sysusers does, from sysusers.d/beeswarm.conf) or name another"
    )]
    NoUser {
        /// The name looked for.
        name: String,
    },
    /// The group is not in the group database.
    #[error("there is no group `{name}`")]
    NoGroup {
        /// The name looked for.
        name: String,
    },
    /// The user or group database cannot be read.
    #[error("cannot look up `{name}`")]
    Lookup {
        /// The name looked for.
        name: String,
        /// What getpwnam_r(3) said.
        #[source]
        source: Errno,
    },
    /// The user to become is root.
    #[error("user `{name}` is root: name an unprivileged one")]
    StillRoot {
        /// The name given.
        name: String,
    },
    /// A step was refused.
    #[error("cannot {step}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// What the system call said.
        #[source]
        source: Errno,
    },
    /// /proc/self/status cannot be read.
    #[error("cannot read /proc/self/status")]
    Status {
        /// What the system call said.
        #[source]
        source: io::Error,
    },
    /// All steps went well and privileges are still there.
    #[error("privileges are not gone after dropping to {identity}: {left}")]
    NotDropped {
        /// Who the process should be now.
        identity: String,
        /// What it still has.
        left: String,
    },
}

/// A user and the group it runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name of the user, for messages.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Identity {
    /// Looks up `user`, in its primary group or in `group`.
    ///
    /// # Errors
    /// No such user or group, the database is unreadable, or the user is root.
    pub fn look_up(user: &str, group: Option<&str>) -> Result<Self, PrivilegeError> {
        let lookup = |name: &str| {
            let name = name.to_owned();
            move |source| PrivilegeError::Lookup { name, source }
        };
        let entry = User::from_name(user)
            .map_err(lookup(user))?
            .ok_or_else(|| PrivilegeError::NoUser { name: user.into() })?;
        let gid = match group {
            None => entry.gid,
            Some(group) => {
                Group::from_name(group)
                    .map_err(lookup(group))?
                    .ok_or_else(|| PrivilegeError::NoGroup { name: group.into() })?
                    .gid
            }
        };
        if entry.uid.is_root() {
            return Err(PrivilegeError::StillRoot { name: user.into() });
        }
        Ok(Self { name: entry.name, uid: entry.uid.as_raw(), gid: gid.as_raw() })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.name, self.uid, self.gid)
    }
}

/// Whether the process runs as root.
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Becomes `identity`, with no supplementary group, no capability and no way back, and checks it.
///
/// # Errors
/// [`PrivilegeError`]: the process must end then.
pub fn drop_to(identity: &Identity) -> Result<(), PrivilegeError> {
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    let step = |step| move |source| PrivilegeError::Step { step, source };
    setgroups(&[]).map_err(step("leave the supplementary groups"))?;
    setresgid(gid, gid, gid).map_err(step("change the group"))?;
    setresuid(uid, uid, uid).map_err(step("change the user"))?;
    prctl::set_no_new_privs().map_err(step("forbid new privileges"))?;
    verify(identity)
}

/// Trust nothing: ask the kernel who we are, and try to come back.
fn verify(identity: &Identity) -> Result<(), PrivilegeError> {
    let not_dropped =
        |left: String| PrivilegeError::NotDropped { identity: identity.to_string(), left };
    let step = |source| PrivilegeError::Step { step: "ask who we are", source };
    let (users, groups) = (getresuid().map_err(step)?, getresgid().map_err(step)?);
    for (kind, id, wanted) in [
        ("real user", users.real.as_raw(), identity.uid),
        ("effective user", users.effective.as_raw(), identity.uid),
        ("saved user", users.saved.as_raw(), identity.uid),
        ("real group", groups.real.as_raw(), identity.gid),
        ("effective group", groups.effective.as_raw(), identity.gid),
        ("saved group", groups.saved.as_raw(), identity.gid),
    ] {
        if id != wanted {
            return Err(not_dropped(format!("{kind} is {id}")));
        }
    }
    let status = std::fs::read_to_string("/proc/self/status")
        .map_err(|e| PrivilegeError::Status { source: e })?;
    if let Some(set) = capabilities_left(&status) {
        return Err(not_dropped(set.to_owned()));
    }
    let root = Uid::from_raw(0);
    if setresuid(root, root, root).is_ok() {
        return Err(not_dropped("could become root again".into()));
    }
    Ok(())
}

/// The first line of /proc/self/status that shows a capability in use or within reach.
fn capabilities_left(status: &str) -> Option<&str> {
    status.lines().find(|line| {
        ["CapPrm:", "CapEff:", "CapAmb:"]
            .iter()
            .filter_map(|name| line.strip_prefix(name))
            .any(|mask| mask.trim().bytes().any(|digit| digit != b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_unknown_names() {
        let nobody = Identity::look_up("nobody", None).unwrap();
        assert_ne!(nobody.uid, 0);
        let error = Identity::look_up("no-such-user-here", None).unwrap_err();
        assert!(error.to_string().contains("no-such-user-here"), "{error}");
        assert!(matches!(
            Identity::look_up("nobody", Some("no-such-group-here")),
            Err(PrivilegeError::NoGroup { .. })
        ));
        assert!(matches!(Identity::look_up("root", None), Err(PrivilegeError::StillRoot { .. })));
    }

    #[test]
    fn left_capabilities_are_seen() {
        let none = "CapInh:\t00ff\nCapPrm:\t0000\nCapEff:\t0000\nCapBnd:\t1ff\nCapAmb:\t0000\n";
        assert_eq!(capabilities_left(none), None);
        let some = none.replace("CapEff:\t0000", "CapEff:\t0400");
        assert_eq!(capabilities_left(&some), Some("CapEff:\t0400"));
    }
}
