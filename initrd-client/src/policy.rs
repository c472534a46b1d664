//! Which signatures this node demands: from its initrd, and from the kernel arguments as far as the
//! initrd lets them.

use std::io;
use std::path::{Path, PathBuf};

use proto::kernel_args::Pin;
use proto::signature::{KeyIds, PublicKey};
use proto::trust_policy::{TrustPolicy, TrustPolicyError};

use crate::trust::{Demands, Trusted};

/// A policy that cannot be used. Never the same as none: the node must not go on without it.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It cannot be read.
    #[error("cannot read the trust policy {}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It says something that this program does not understand.
    #[error("the trust policy {} is not usable; pack the initrd again", path.display())]
    Damaged {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: TrustPolicyError,
    },
    /// The kernel arguments ask for what it forbids.
    #[error(transparent)]
    Forbidden(TrustPolicyError),
}

/// Reads the policy at `path`; `None` when there is no such file.
///
/// # Errors
/// [`PolicyError`] for any other reason.
pub fn baked(path: &Path) -> Result<Option<TrustPolicy>, PolicyError> {
    match std::fs::read(path) {
        Ok(bytes) => TrustPolicy::parse(&bytes)
            .map(Some)
            .map_err(|source| PolicyError::Damaged { path: path.into(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PolicyError::Read { path: path.into(), source }),
    }
}

/// What this run demands.
///
/// # Errors
/// [`PolicyError::Forbidden`].
pub fn demands(
    baked: Option<TrustPolicy>,
    keys: &[PublicKey],
    pin: Option<Pin>,
) -> Result<Demands, PolicyError> {
    let policy = TrustPolicy::resolve(baked, keys).map_err(PolicyError::Forbidden)?;
    Ok(Demands { pin, policy })
}

/// What is demanded, in one line for people.
#[must_use]
pub fn describe(demands: &Demands) -> String {
    match (&demands.policy, &demands.pin) {
        (Some(policy), _) => {
            let keys = KeyIds::of(&policy.keys);
            let age = policy.not_before.map(|time| format!(", not before {time}"));
            format!("only an image signed by key {keys} is used{}", age.unwrap_or_default())
        }
        (None, Some(_)) => "no signing key in this initrd: no signature is demanded, the image is \
                            proved by beeswarm.pin= alone"
            .to_owned(),
        (None, None) => "no signing key in this initrd and no beeswarm.pin=: nothing proves where \
                         the image comes from"
            .to_owned(),
    }
}

/// Who signed what was found.
#[must_use]
pub fn describe_signer(trusted: &Trusted) -> Option<String> {
    let signed = trusted.signed.as_ref()?;
    let time = signed.by.comment.time.map(|time| format!(" at {time}")).unwrap_or_default();
    Some(format!("{} was signed by key {}{time}", signed.name, signed.by.key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    #[test]
    fn only_a_file_that_is_not_there_means_no_policy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trust.json");
        assert_eq!(baked(&path).unwrap(), None);
        for bad in ["", "{}", "{\"version\":1,\"keys\":[]}"] {
            std::fs::write(&path, bad).unwrap();
            let error = baked(&path).unwrap_err();
            assert!(error.to_string().contains("trust.json"), "{bad}: {error}");
        }
        let policy = TrustPolicy::new(vec![KEY.parse().unwrap()]).unwrap();
        std::fs::write(&path, policy.to_bytes().unwrap()).unwrap();
        assert_eq!(baked(&path).unwrap(), Some(policy));
        // a folder is there, and is no policy
        assert!(matches!(baked(dir.path()), Err(PolicyError::Read { .. })));
    }

    #[test]
    fn it_is_said_what_proves_the_image() {
        let pin = Some(Pin::InfoHash(proto::hash::InfoHash([7; 20])));
        let say = |keys: &[PublicKey], pin| describe(&demands(None, keys, pin).unwrap());
        assert!(say(&[], None).contains("nothing proves"));
        assert!(say(&[], pin).contains("by beeswarm.pin= alone"));
        assert!(say(&[KEY.parse().unwrap()], pin).contains("signed by key E7620F1842B4E81F"));
    }
}
