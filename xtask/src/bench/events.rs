//! What a scenario lets happen while the crowd fetches.

use std::time::Duration;

use super::member::{Member, Parts};
use super::scenario::{IMAGES_BEFORE_DEATH, Role, Scenario};
use super::stage::Stage;

/// How long the seeder may take to leave in good order.
const FAREWELL: Duration = Duration::from_secs(5);

/// What is still to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Events {
    /// Nothing.
    None,
    /// The seeder is killed once this many bytes have left its host.
    Death { after: u64 },
    /// The seeder leaves when all that have started are done, and the others start.
    Relief,
    /// Each of these members, by number, is restarted once it has received this many bytes.
    Reboots { victims: Vec<usize>, after: u64 },
}

impl Events {
    /// Those of a scenario, for an image of `length` bytes and these members.
    pub(crate) fn of(scenario: Scenario, length: u64, crowd: &[Member]) -> Events {
        match scenario {
            Scenario::SeederDies => Events::Death { after: images(IMAGES_BEFORE_DEATH, length) },
            Scenario::LateJoiners => Events::Relief,
            Scenario::Reboot => {
                let is_victim = |(_, member): &(usize, &Member)| member.role() == Role::Rebooted;
                let victims = crowd.iter().enumerate().filter(is_victim).map(|(n, _)| n).collect();
                Events::Reboots { victims, after: length / 2 }
            }
            _ => Events::None,
        }
    }

    /// Lets happen what is due at `now`. Says so in a line for people.
    pub(crate) fn happen(
        &mut self,
        stage: &mut Stage,
        parts: Parts<'_>,
        now: Duration,
    ) -> anyhow::Result<Option<String>> {
        let at = now.as_secs_f64();
        match self {
            Events::None => Ok(None),
            Events::Death { after } => {
                if stage.admin_sent()? < *after {
                    return Ok(None);
                }
                *self = Events::None;
                stage.seeder.kill()?;
                let done = stage.crowd.iter().filter(|member| member.is_done()).count();
                Ok(Some(format!("the seeder was killed after {at:.1} s, {done} nodes were done")))
            }
            Events::Relief => {
                let early = |member: &&mut Member| member.role() != Role::Late;
                if !stage.crowd.iter_mut().filter(early).all(|member| member.is_settled()) {
                    return Ok(None);
                }
                *self = Events::None;
                stage.seeder.terminate(FAREWELL)?;
                stage.late_barrier.open()?;
                for member in stage.crowd.iter_mut().filter(|m| m.role() == Role::Late) {
                    member.starts(now);
                }
                Ok(Some(format!("the seeder left after {at:.1} s, and the second half started")))
            }
            Events::Reboots { victims, after } => {
                let mut restarted = 0;
                let mut left = Vec::new();
                for number in std::mem::take(victims) {
                    let Some(member) = stage.crowd.get_mut(number) else { continue };
                    if member.is_settled() {
                        // too late for this one; `leftovers` tells
                        left.push(number);
                    } else if member.received()? >= *after {
                        member.reboot(parts, now)?;
                        restarted += 1;
                    } else {
                        left.push(number);
                    }
                }
                *victims = left;
                let line = || format!("{restarted} restarted with nothing after {at:.1} s");
                Ok((restarted > 0).then(line))
            }
        }
    }

    /// What did not come to pass, in a line for people.
    pub(crate) fn leftovers(&self) -> Option<String> {
        match self {
            Events::None => None,
            Events::Death { .. } => {
                Some(format!("the seeder lived: it never sent {IMAGES_BEFORE_DEATH} images"))
            }
            Events::Relief => Some("the second half never started".to_owned()),
            Events::Reboots { victims, .. } if victims.is_empty() => None,
            Events::Reboots { victims, .. } => {
                Some(format!("{} were not restarted", victims.len()))
            }
        }
    }
}

/// So many images, in bytes.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few images")]
fn images(count: f64, length: u64) -> u64 {
    (count * length as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_happen_is_told() {
        let death = Events::of(Scenario::SeederDies, 1_000, &[]);
        assert_eq!(death, Events::Death { after: 1_200 });
        assert!(death.leftovers().unwrap().contains("1.2"));
        assert_eq!(Events::of(Scenario::FlashCrowd, 1_000, &[]).leftovers(), None);
        let reboots = Events::of(Scenario::Reboot, 1_000, &[]);
        assert_eq!(reboots, Events::Reboots { victims: vec![], after: 500 });
        assert_eq!(reboots.leftovers(), None);
        let missed = Events::Reboots { victims: vec![3], after: 500 };
        assert_eq!(missed.leftovers().unwrap(), "1 were not restarted");
        assert!(Events::Relief.leftovers().is_some());
    }
}
