//! Policies of the core by name, for experiments.

use std::str::FromStr;
use std::time::Duration;

use swarm::core::CoreConfig;

/// A setting that cannot be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KnobError {
    /// No policy has this name.
    #[error("there is no policy {name:?}; there are {known}")]
    Unknown {
        /// As given.
        name: String,
        /// Names of all policies.
        known: String,
    },
    /// The value does not fit.
    #[error("{name} takes {wants}, not {value:?}")]
    Value {
        /// Name of the policy.
        name: String,
        /// What fits.
        wants: &'static str,
        /// As given.
        value: String,
    },
}

/// Milliseconds on the command line.
struct Millis(Duration);

impl FromStr for Millis {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.trim_end_matches("ms").parse().map(|ms| Self(Duration::from_millis(ms)))
    }
}

type Setter = fn(&mut CoreConfig, &str) -> bool;

fn put<T: FromStr, F>(place: &mut F, text: &str, wrap: impl Fn(T) -> F) -> bool {
    match text.parse() {
        Ok(value) => {
            *place = wrap(value);
            true
        }
        Err(_) => false,
    }
}

const NUMBER: &str = "a whole number";
const MILLIS: &str = "a number of milliseconds";
const BOOL: &str = "true or false";

const KNOBS: &[(&str, &str, Setter)] = &[
    ("upload_slots", NUMBER, |c, v| put(&mut c.upload_slots, v, |n| n)),
    ("first_slots", NUMBER, |c, v| put(&mut c.first_slots, v, |n| n)),
    ("served_at_once", NUMBER, |c, v| put(&mut c.served_at_once, v, |n| n)),
    ("beginners_at_once", NUMBER, |c, v| put(&mut c.beginners_at_once, v, |n| n)),
    ("quantum", NUMBER, |c, v| put(&mut c.quantum, v, |n| n)),
    ("longest_queue", MILLIS, |c, v| put(&mut c.longest_queue, v, |Millis(t)| t)),
    ("idle", MILLIS, |c, v| put(&mut c.idle, v, |Millis(d)| d)),
    ("have_batch", MILLIS, |c, v| put(&mut c.have_batch, v, |Millis(d)| d)),
    ("interest_lasts", MILLIS, |c, v| put(&mut c.interest_lasts, v, |Millis(d)| d)),
    ("rare_below", NUMBER, |c, v| put(&mut c.rare_below, v, |n| n)),
    ("rare_until", NUMBER, |c, v| put(&mut c.rare_until, v, |n| n)),
    ("min_window", NUMBER, |c, v| put(&mut c.min_window, v, |n| n)),
    ("total_window", NUMBER, |c, v| put(&mut c.total_window, v, |n| n)),
    ("max_window", NUMBER, |c, v| put(&mut c.max_window, v, |n| n)),
    ("queue_time", MILLIS, |c, v| put(&mut c.queue_time, v, |Millis(d)| d)),
    ("reqq", NUMBER, |c, v| put(&mut c.reqq, v, |n| n)),
    ("random_first", NUMBER, |c, v| put(&mut c.random_first, v, |n| n)),
    ("max_partial_bytes", NUMBER, |c, v| put(&mut c.max_partial_bytes, v, |n| n)),
    ("end_game_requests", NUMBER, |c, v| put(&mut c.end_game_requests, v, |n| n)),
    ("min_patience", MILLIS, |c, v| put(&mut c.min_patience, v, |Millis(d)| d)),
    ("give_up", MILLIS, |c, v| put(&mut c.give_up, v, |Millis(d)| d)),
    ("initial_seeding", BOOL, |c, v| put(&mut c.initial_seeding, v, |n| n)),
    ("ask_hashes", BOOL, |c, v| put(&mut c.ask_hashes, v, |n| n)),
    ("open_reveals", NUMBER, |c, v| put(&mut c.open_reveals, v, |n| n)),
];

/// Sets the policy `name` to `value`; times in milliseconds.
///
/// # Errors
/// [`KnobError`] names what is wrong.
pub fn set(config: &mut CoreConfig, name: &str, value: &str) -> Result<(), KnobError> {
    let Some((_, wants, setter)) = KNOBS.iter().find(|(known, ..)| *known == name) else {
        let known: Vec<&str> = KNOBS.iter().map(|(name, ..)| *name).collect();
        return Err(KnobError::Unknown { name: name.to_owned(), known: known.join(", ") });
    };
    if setter(config, value) {
        Ok(())
    } else {
        Err(KnobError::Value { name: name.to_owned(), wants, value: value.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_of_the_core_can_be_set() {
        let fields = format!("{:?}", CoreConfig::default());
        let fields = fields.trim_start_matches("CoreConfig { ").trim_end_matches(" }");
        let names: Vec<&str> = fields.split(", ").filter_map(|f| f.split(": ").next()).collect();
        let known: Vec<&str> = KNOBS.iter().map(|(name, ..)| *name).collect();
        assert_eq!(known, names, "add what CoreConfig has to KNOBS, in its order");
    }

    #[test]
    fn values_are_checked() {
        let mut config = CoreConfig::default();
        set(&mut config, "idle", "70").unwrap();
        set(&mut config, "have_batch", "20ms").unwrap();
        assert_eq!((config.idle.as_millis(), config.have_batch.as_millis()), (70, 20));
        let wrong = set(&mut config, "quantum", "lots").unwrap_err().to_string();
        assert_eq!(wrong, "quantum takes a whole number, not \"lots\"");
        assert!(matches!(set(&mut config, "x", "1"), Err(KnobError::Unknown { .. })));
    }
}
