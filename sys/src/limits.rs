//! Resource limits of the process (setrlimit(2)).

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use thiserror::Error;

/// The limit on open files could not be read or raised.
#[derive(Debug, Error)]
#[error("cannot raise the limit on open files to {wanted}")]
pub struct LimitError {
    /// The hard limit.
    pub wanted: u64,
    /// What the system call said.
    #[source]
    pub source: Errno,
}

/// Raises the soft limit on open files to the hard limit and returns it. A seeder holds one
/// descriptor per peer, and the usual soft limit of 1024 is less than a cluster.
///
/// # Errors
/// [`LimitError`]; going on with the old limit is right.
pub fn raise_open_files() -> Result<u64, LimitError> {
    let fail = |wanted| move |source| LimitError { wanted, source };
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(fail(0))?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(fail(hard))?;
    }
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_limit_reaches_the_hard_one() {
        let hard = raise_open_files().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
        assert_eq!(raise_open_files().unwrap(), hard);
    }
}
