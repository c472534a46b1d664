//! The benchmark's scenarios in the simulation, and what each part of the crowd got.

use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;
use sim::{NodeId, Stop, World};

use crate::bench::scenario::{Role, SLOWER, Scenario};

/// How one part of the crowd fared. Ratios are against the node's own link, from its own start.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    pub(super) role: Role,
    pub(super) nodes: usize,
    /// Of the last and of the median node; `None` when one is not complete.
    pub(super) last: Option<f64>,
    pub(super) median: Option<f64>,
}

/// A scenario with a crowd in it.
pub(super) struct Crowd {
    scenario: Scenario,
    /// Bytes per second of a usual link.
    rate: u64,
    roles: Vec<(NodeId, Role)>,
}

impl Crowd {
    /// Gives every node its part and lets all start, each after a time of up to `spread`.
    pub(super) fn seat(
        scenario: Scenario,
        world: &mut World,
        rate: u64,
        trunk: u64,
        spread: Duration,
    ) -> anyhow::Result<Self> {
        let nodes = world.setup().leechers;
        let known = [
            Scenario::FlashCrowd,
            Scenario::Trickle,
            Scenario::Reboot,
            Scenario::SlowTenth,
            Scenario::TwoSubnets,
            Scenario::SlowUplinks,
        ];
        ensure!(
            known.contains(&scenario),
            "{scenario} is not simulated; there are {}",
            known.map(|known| known.to_string()).join(", ")
        );
        ensure!(
            nodes >= scenario.fewest_nodes(),
            "{scenario} takes {} nodes at least",
            scenario.fewest_nodes()
        );
        let seats = scenario.seats(nodes, Duration::ZERO);
        let roles: Vec<(NodeId, Role)> =
            (1..).map(NodeId).zip(seats.iter().map(|seat| seat.role)).collect();
        let image = world.setup().total;
        if scenario == Scenario::SlowUplinks {
            (0..=nodes).for_each(|node| world.set_rates(NodeId(node), rate / 2, rate));
        }
        let far: Vec<NodeId> =
            roles.iter().filter(|(_, role)| *role == Role::Far).map(|(node, _)| *node).collect();
        if !far.is_empty() {
            world.set_segments(trunk, &far);
        }
        for (node, role) in &roles {
            match role {
                Role::Slow => {
                    let slow = rate / u64::from(SLOWER);
                    world.set_rates(*node, slow, slow);
                }
                Role::Rebooted => {
                    let half = Duration::from_secs_f64(0.55 * image as f64 / rate as f64);
                    world.stop_at(half, *node, Stop::Restart);
                }
                _ => {}
            }
        }
        if scenario == Scenario::Trickle {
            world.start_at(Duration::ZERO, NodeId(0));
            for ((node, _), seat) in roles.iter().zip(&seats) {
                world.start_at(seat.delay, *node);
            }
        } else {
            world.start_all(spread);
        }
        Ok(Self { scenario, rate, roles })
    }

    /// Seconds below which the crowd cannot be done.
    pub(super) fn ideal(&self, world: &World) -> f64 {
        let setup = world.setup();
        let slowest = match self.scenario {
            Scenario::SlowTenth => self.rate / u64::from(SLOWER),
            _ => self.rate,
        };
        self.scenario.ideal_seconds(setup.total, slowest, setup.leechers)
    }

    /// The parts of the crowd after a run.
    pub(super) fn groups(&self, world: &World) -> Vec<Group> {
        let mut roles: Vec<Role> = self.roles.iter().map(|(_, role)| *role).collect();
        roles.sort();
        roles.dedup();
        roles.into_iter().map(|role| self.group(role, world)).collect()
    }

    fn group(&self, role: Role, world: &World) -> Group {
        let setup = world.setup();
        let rate = if role == Role::Slow { self.rate / u64::from(SLOWER) } else { self.rate };
        let ideal = self.scenario.ideal_seconds(setup.total, rate, setup.leechers);
        let members: Vec<NodeId> =
            self.roles.iter().filter(|(_, of)| *of == role).map(|(node, _)| *node).collect();
        let mut ratios: Vec<f64> = members
            .iter()
            .filter_map(|node| {
                let node = world.node(*node);
                Some((node.finished_at()? - node.started_at()).as_secs_f64() / ideal)
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        let all = ratios.len() == members.len();
        Group {
            role,
            nodes: members.len(),
            last: ratios.last().copied().filter(|_| all),
            median: ratios.get(members.len() / 2).copied(),
        }
    }
}
