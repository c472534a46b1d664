//! What operators of seeders are told, by `tracing`; nothing without the feature `log`.
//!
//! The client in the initrd has nobody who listens: it speaks by events of its own. Without the calls,
//! their texts and what they format, it is smaller.

#[cfg(feature = "log")]
pub(crate) use tracing::{debug, error, info, warn};

#[cfg(not(feature = "log"))]
macro_rules! nothing {
    ($($said:tt)*) => {{}};
}

#[cfg(not(feature = "log"))]
pub(crate) use {nothing as debug, nothing as error, nothing as info, nothing as warn};
