//! What happens to the swarm while it is measured, and to which nodes.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

/// What happens during a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// All nodes start together
    FlashCrowd,
    /// A node starts every 200 ms
    Trickle,
    /// The seeder stops once half of the nodes are done; then the other half starts
    LateJoiners,
    /// The seeder is killed after 1.2 images have left its host
    SeederDies,
    /// One node in ten is killed half-way and starts again with nothing
    Reboot,
    /// One node in ten has a link ten times slower
    SlowTenth,
    /// One node in twenty sends wrong data
    Liars,
    /// Half of the nodes run another client (--mixed-with)
    Mixed,
    /// Half of the nodes are behind a link as thin as one node's
    TwoSubnets,
    /// Uplinks half as fast as downlinks
    SlowUplinks,
}

/// Time between two nodes of a trickle.
const TRICKLE: Duration = Duration::from_millis(200);

/// Images that leave the admin host before its seeder is killed.
pub(crate) const IMAGES_BEFORE_DEATH: f64 = 1.2;

/// How much slower the slow nodes' links are.
pub(crate) const SLOWER: u32 = 10;

/// What is special about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// Nothing.
    Plain,
    /// It starts when the seeder has gone.
    Late,
    /// It is killed half-way.
    Rebooted,
    /// Its link is slow.
    Slow,
    /// It runs the other client of a mixed swarm.
    Guest,
    /// It is behind the thin link.
    Far,
    /// It sends wrong data, and is not expected to have the image.
    Liar,
}

/// One node's part in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) role: Role,
    /// From the start of its part of the crowd to its own.
    pub(crate) delay: Duration,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Plain => "plain",
            Role::Late => "late",
            Role::Rebooted => "rebooted",
            Role::Slow => "slow",
            Role::Guest => "guest",
            Role::Far => "far",
            Role::Liar => "liar",
        })
    }
}

impl Scenario {
    /// The nodes' parts, in the order in which they are made: the same for every client.
    pub(crate) fn seats(self, nodes: u32, jitter: Duration) -> Vec<Seat> {
        let (role, share) = match self {
            Scenario::FlashCrowd | Scenario::Trickle | Scenario::SeederDies => (Role::Plain, 0),
            Scenario::SlowUplinks => (Role::Plain, 0),
            Scenario::LateJoiners => (Role::Late, nodes / 2),
            Scenario::Reboot => (Role::Rebooted, (nodes / 10).max(1)),
            Scenario::SlowTenth => (Role::Slow, (nodes / 10).max(1)),
            Scenario::Liars => (Role::Liar, (nodes / 20).max(1)),
            Scenario::Mixed => (Role::Guest, nodes / 2),
            Scenario::TwoSubnets => (Role::Far, nodes / 2),
        };
        (0..nodes)
            .map(|number| {
                let role = if is_picked(number, share, nodes) { role } else { Role::Plain };
                let queue =
                    if self == Scenario::Trickle { TRICKLE * number } else { Duration::ZERO };
                Seat { role, delay: queue + jitter.mul_f64(spread(number)) }
            })
            .collect()
    }

    /// Seconds below which nobody can be done: `length` bytes over links of `rate` bytes per second.
    ///
    /// With thin uplinks it is the swarm's sum of uplinks that limits: all nodes and the seeder
    /// together must send the image once per node.
    pub(crate) fn ideal_seconds(self, length: u64, rate: u64, nodes: u32) -> f64 {
        let alone = length as f64 / rate as f64;
        match self {
            Scenario::SlowUplinks => {
                let nodes = f64::from(nodes);
                alone.max(2.0 * alone * nodes / (nodes + 1.0))
            }
            _ => alone,
        }
    }

    /// Fewest nodes that make sense.
    pub(crate) fn fewest_nodes(self) -> u32 {
        match self {
            Scenario::FlashCrowd | Scenario::Trickle | Scenario::SlowUplinks => 1,
            Scenario::SeederDies => 2,
            _ => 4,
        }
    }

    /// Why this cannot be measured with a client that has no swarm (HTTP from one host).
    pub(crate) fn without_swarm(self) -> Option<&'static str> {
        match self {
            Scenario::LateJoiners | Scenario::SeederDies => {
                Some("without its one server nobody can be done")
            }
            Scenario::Liars => Some("nodes ask nobody but the server"),
            Scenario::Mixed => Some("there is no swarm to share"),
            _ => None,
        }
    }
}

/// Whether the node is one of `share` among `nodes`, spread evenly and never the first.
fn is_picked(number: u32, share: u32, nodes: u32) -> bool {
    let (number, share, nodes) = (u64::from(number), u64::from(share), u64::from(nodes.max(1)));
    (number + 1) * share / nodes > number * share / nodes
}

/// A number from 0 to 1 for each node, without pattern, the same in every run (multiples of the
/// golden ratio).
fn spread(number: u32) -> f64 {
    (f64::from(number) * 0.618_033_988_749_895).fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(scenario: Scenario, nodes: u32, role: Role) -> usize {
        let seats = scenario.seats(nodes, Duration::ZERO);
        assert_eq!(seats.len(), nodes as usize);
        seats.iter().filter(|seat| seat.role == role).count()
    }

    #[test]
    fn shares_are_what_the_scenarios_say() {
        for (nodes, tenth) in [(4, 1), (10, 1), (30, 3), (100, 10)] {
            assert_eq!(count(Scenario::Reboot, nodes, Role::Rebooted), tenth);
            assert_eq!(count(Scenario::SlowTenth, nodes, Role::Slow), tenth);
            assert_eq!(count(Scenario::Mixed, nodes, Role::Guest), nodes as usize / 2);
        }
        assert_eq!(count(Scenario::Liars, 30, Role::Liar), 1);
        assert_eq!(count(Scenario::Liars, 100, Role::Liar), 5);
        assert_eq!(count(Scenario::FlashCrowd, 30, Role::Plain), 30);
    }

    #[test]
    fn special_nodes_are_spread_out() {
        let seats = Scenario::SlowTenth.seats(30, Duration::ZERO);
        let slow: Vec<usize> = seats
            .iter()
            .enumerate()
            .filter(|(_, s)| s.role == Role::Slow)
            .map(|(i, _)| i)
            .collect();
        assert_eq!(slow, [9, 19, 29]);
        let mixed = Scenario::Mixed.seats(6, Duration::ZERO);
        let guests: Vec<bool> = mixed.iter().map(|seat| seat.role == Role::Guest).collect();
        assert_eq!(guests, [false, true, false, true, false, true]);
    }

    #[test]
    fn a_trickle_and_jitter_delay_the_start() {
        let seats = Scenario::Trickle.seats(3, Duration::ZERO);
        assert_eq!(seats[2].delay, Duration::from_millis(400));
        let jitter = Duration::from_secs(2);
        let seats = Scenario::FlashCrowd.seats(50, jitter);
        assert!(seats.iter().all(|seat| seat.delay < jitter));
        let mean = seats.iter().map(|seat| seat.delay.as_secs_f64()).sum::<f64>() / 50.0;
        assert!((0.9..1.1).contains(&mean), "{mean}");
    }

    #[test]
    fn thin_uplinks_have_an_ideal_of_their_own() {
        assert_eq!(Scenario::FlashCrowd.ideal_seconds(32, 4, 30), 8.0);
        let thin = Scenario::SlowUplinks.ideal_seconds(32, 4, 30);
        assert!((thin - 16.0 * 30.0 / 31.0).abs() < 1e-9);
        assert_eq!(Scenario::SlowUplinks.ideal_seconds(32, 4, 1), 8.0, "the seeder sends it all");
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        assert_eq!(Scenario::LateJoiners.to_string(), "late-joiners");
        assert_eq!(serde_json::to_string(&Scenario::TwoSubnets).unwrap(), "\"two-subnets\"");
    }
}
