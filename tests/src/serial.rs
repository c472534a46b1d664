//! How far a machine is, from what it says on its serial console.

use std::time::Duration;

/// A point on the way from power-on to a login prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Milestone {
    /// iPXE runs.
    Ipxe,
    /// The node's boot script was fetched: kernel and initrd are being loaded.
    Script,
    /// The kernel prints its first line.
    Kernel,
    /// The client in the initrd speaks.
    Client,
    /// The initrd hands over to the real root.
    SwitchRoot,
    /// A login prompt.
    Login,
}

impl Milestone {
    /// All of them, in order.
    pub const ALL: [Milestone; 6] = [
        Milestone::Ipxe,
        Milestone::Script,
        Milestone::Kernel,
        Milestone::Client,
        Milestone::SwitchRoot,
        Milestone::Login,
    ];

    /// A word for tables.
    pub fn label(self) -> &'static str {
        match self {
            Milestone::Ipxe => "iPXE",
            Milestone::Script => "load kernel",
            Milestone::Kernel => "kernel",
            Milestone::Client => "initrd",
            Milestone::SwitchRoot => "real root",
            Milestone::Login => "login prompt",
        }
    }

    /// Texts that show on the console, one after the other, when it is reached.
    fn marks(self) -> &'static [&'static str] {
        match self {
            Milestone::Ipxe => &["iPXE "],
            Milestone::Script => &["Beeswarm: "],
            Milestone::Kernel => &["Linux version"],
            Milestone::Client => &["beeswarm: looking for"],
            // systemd says this in the initrd too
            Milestone::SwitchRoot => &["beeswarm: handing over", "running in system mode"],
            Milestone::Login => &[" login: "],
        }
    }

    /// Whether the console's text shows it.
    fn shows_in(self, text: &str) -> bool {
        let mut rest = text;
        self.marks().iter().all(|mark| match rest.find(mark) {
            Some(at) => {
                rest = &rest[at + mark.len()..];
                true
            }
            None => false,
        })
    }
}

/// When each milestone was first seen.
#[derive(Debug, Clone, Default)]
pub struct Milestones {
    seen: [Option<Duration>; Milestone::ALL.len()],
}

impl Milestones {
    /// When a milestone was first seen, counted from power-on.
    pub fn reached(&self, milestone: Milestone) -> Option<Duration> {
        self.seen[milestone as usize]
    }

    /// The last milestone reached.
    pub fn latest(&self) -> Option<Milestone> {
        Milestone::ALL.into_iter().rev().find(|m| self.reached(*m).is_some())
    }

    /// Notes what the console's text shows `now`.
    pub(crate) fn update(&mut self, console: &[u8], now: Duration) {
        if self.seen.iter().all(Option::is_some) {
            return;
        }
        let text = String::from_utf8_lossy(console);
        for milestone in Milestone::ALL {
            let seen = &mut self.seen[milestone as usize];
            if seen.is_none() && milestone.shows_in(&text) {
                *seen = Some(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initrds_systemd_is_not_the_real_roots() {
        let initrd = "systemd 252 running in system mode\nbeeswarm: handing over to the image";
        assert!(!Milestone::SwitchRoot.shows_in(initrd));
        let root = format!("{initrd}\nsystemd 252 running in system mode\n");
        assert!(Milestone::SwitchRoot.shows_in(&root));
    }

    #[test]
    fn milestones_keep_the_time_they_were_first_seen() {
        let mut milestones = Milestones::default();
        assert_eq!(milestones.latest(), None);
        milestones.update(b"SeaBIOS\r\niPXE (http://ipxe.org)", Duration::from_secs(2));
        milestones.update(b"iPXE (x) Linux version 6.1\r\nnode1 login: ", Duration::from_secs(9));
        assert_eq!(milestones.reached(Milestone::Ipxe), Some(Duration::from_secs(2)));
        assert_eq!(milestones.reached(Milestone::Login), Some(Duration::from_secs(9)));
        assert_eq!(milestones.reached(Milestone::SwitchRoot), None);
        assert_eq!(milestones.latest(), Some(Milestone::Login));
    }
}
