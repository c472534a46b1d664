//! Why a node does not get on: what it said itself, or what follows from what it did not say.

use std::fmt;
use std::time::{Duration, Instant};

use proto::event::{Refusal, StallCause};
use serde::{Serialize, Serializer};

use super::node::{NETBOOT, Node};

/// A cause, as a type. [`Cause::word`] is its name for machines, [`Cause::remedy`] what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The node says why nothing moves, or what the machine lacks.
    Told(StallCause),
    /// The node refused what it was given.
    Refused(Refusal),
    /// The node gave up for another reason.
    GaveUp,
    /// Its firmware waits: there is nothing to boot for it.
    NothingToBoot,
    /// It was told what to boot, and was not heard since: nobody switched it on, or it boots elsewhere.
    NotAsked,
    /// It got its boot script, and nothing was heard since.
    NotStarted,
    /// It left the initrd, and nothing was heard since.
    SeederNotStarted,
    /// It reported until a moment ago, in the middle of its boot.
    Silent,
    /// It runs, and its hardware is not what it should be.
    Unsound,
}

/// Something is wrong with a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What kind of trouble.
    pub cause: Cause,
    /// What is known of it, for people.
    pub detail: String,
}

impl Cause {
    /// Every cause, for lists and tests.
    pub const ALL: [Self; 31] = [
        Self::Told(StallCause::NoCarrier),
        Self::Told(StallCause::NoAddress),
        Self::Told(StallCause::NoRoute),
        Self::Told(StallCause::NameResolution),
        Self::Told(StallCause::SourceUnreachable),
        Self::Told(StallCause::TrackerUnreachable),
        Self::Told(StallCause::TrackerRefuses),
        Self::Told(StallCause::NoPeers),
        Self::Told(StallCause::PeersUnreachable),
        Self::Told(StallCause::NoData),
        Self::Told(StallCause::HashFailures),
        Self::Told(StallCause::Memory),
        Self::Told(StallCause::Storage),
        Self::Told(StallCause::Mount),
        Self::Told(StallCause::Unknown),
        Self::Refused(Refusal::Content),
        Self::Refused(Refusal::Unsigned),
        Self::Refused(Refusal::WrongKey),
        Self::Refused(Refusal::AlteredManifest),
        Self::Refused(Refusal::WrongTorrent),
        Self::Refused(Refusal::WrongImage),
        Self::Refused(Refusal::TooOld),
        Self::Refused(Refusal::Policy),
        Self::Refused(Refusal::Unchecked),
        Self::GaveUp,
        Self::NothingToBoot,
        Self::NotAsked,
        Self::NotStarted,
        Self::SeederNotStarted,
        Self::Silent,
        Self::Unsound,
    ];

    /// Its name in the API and on the page, fixed.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Told(StallCause::NoCarrier) => "no-carrier",
            Self::Told(StallCause::NoAddress) => "no-address",
            Self::Told(StallCause::NoRoute) => "no-route",
            Self::Told(StallCause::NameResolution) => "name-resolution",
            Self::Told(StallCause::SourceUnreachable) => "source-unreachable",
            Self::Told(StallCause::TrackerUnreachable) => "tracker-unreachable",
            Self::Told(StallCause::TrackerRefuses) => "tracker-refuses",
            Self::Told(StallCause::NoPeers) => "no-peers",
            Self::Told(StallCause::PeersUnreachable) => "peers-unreachable",
            Self::Told(StallCause::NoData) => "no-data",
            Self::Told(StallCause::HashFailures) => "hash-failures",
            Self::Told(StallCause::Memory) => "memory",
            Self::Told(StallCause::Storage) => "storage",
            Self::Told(StallCause::Mount) => "mount",
            Self::Told(_) => "stalled",
            Self::Refused(Refusal::Content) => "refused-content",
            Self::Refused(Refusal::Unsigned) => "refused-unsigned",
            Self::Refused(Refusal::WrongKey) => "refused-wrong-key",
            Self::Refused(Refusal::AlteredManifest) => "refused-altered-manifest",
            Self::Refused(Refusal::WrongTorrent) => "refused-wrong-torrent",
            Self::Refused(Refusal::WrongImage) => "refused-wrong-image",
            Self::Refused(Refusal::TooOld) => "refused-too-old",
            Self::Refused(Refusal::Policy) => "refused-policy",
            Self::Refused(Refusal::Unchecked) => "refused-unchecked",
            Self::Refused(_) => "refused",
            Self::GaveUp => "gave-up",
            Self::NothingToBoot => "nothing-to-boot",
            Self::NotAsked => "not-asked",
            Self::NotStarted => "not-started",
            Self::SeederNotStarted => "seeder-not-started",
            Self::Silent => "silent",
            Self::Unsound => "audit-failed",
        }
    }

    /// The same for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Told(StallCause::NoCarrier) => "no carrier",
            Self::Told(StallCause::NoAddress) => "no DHCP address",
            Self::Told(StallCause::NoRoute) => "no route",
            Self::Told(StallCause::NameResolution) => "name does not resolve",
            Self::Told(StallCause::SourceUnreachable) => "image server unreachable",
            Self::Told(StallCause::TrackerUnreachable) => "tracker unreachable",
            Self::Told(StallCause::TrackerRefuses) => "tracker refuses",
            Self::Told(StallCause::NoPeers) => "no peers",
            Self::Told(StallCause::PeersUnreachable) => "peers unreachable",
            Self::Told(StallCause::NoData) => "peers, but no data",
            Self::Told(StallCause::HashFailures) => "wrong data from a peer",
            Self::Told(StallCause::Memory) => "too little memory",
            Self::Told(StallCause::Storage) => "device trouble",
            Self::Told(StallCause::Mount) => "mount failed",
            Self::Told(_) => "stalled",
            Self::Refused(_) => "content refused",
            Self::GaveUp => "gave up",
            Self::NothingToBoot => "nothing to boot",
            Self::NotAsked => "assigned, but never asked",
            Self::NotStarted => "not started",
            Self::SeederNotStarted => "seeder not started",
            Self::Silent => "silent",
            Self::Unsound => "hardware audit failed",
        }
    }

    /// What to do about it, in one line.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Told(cause) => told(cause),
            Self::Refused(refusal) => refused(refusal),
            Self::GaveUp => "read the message; the node's page has the end of its console",
            Self::NothingToBoot => "publish an image in the node's channel, or assign one to it",
            Self::NotAsked => {
                "switch it on, and check that it boots from the network first, in a network whose DHCP names \
                 this tracker; is its address in the assignment right?"
            }
            Self::NotStarted => {
                "look at its console: kernel or initrd not loaded (is bee-seeder watch --http reachable?), \
                 a kernel panic, or no network in the initrd"
            }
            Self::SeederNotStarted => {
                "look at its console; on the node: systemctl status beeswarm-node-seeder, and is the tracker \
                 reachable from the booted system?"
            }
            Self::Silent => "switched off, crashed, or cut off from this host: look at its console",
            Self::Unsound => "its page has the findings: repair it, or take it out of the cluster",
        }
    }
}

fn told(cause: StallCause) -> &'static str {
    match cause {
        StallCause::NoCarrier => {
            "plug in the cable, check the switch port; does the initrd have the card's driver?"
        }
        StallCause::NoAddress => {
            "check the DHCP server: running, in this network, with free addresses?"
        }
        StallCause::NoRoute => "check gateway, netmask and firewall of the node's network",
        StallCause::NameResolution => {
            "give the name server by DHCP, or use an address instead of the name"
        }
        StallCause::SourceUnreachable => {
            "check that bee-seeder watch --http runs and the revision is published"
        }
        StallCause::TrackerUnreachable => {
            "check that the announce URL leads to this host and no firewall is between"
        }
        StallCause::TrackerRefuses => {
            "publish the revision again, or reboot the node with the current one"
        }
        StallCause::NoPeers => "start bee-seeder watch on the admin host: nobody offers this image",
        StallCause::PeersUnreachable => {
            "open TCP port 6881 between the nodes and to the admin host"
        }
        StallCause::NoData => {
            "check the seeder's upload limit and its disk; restart the seeder if it hangs"
        }
        StallCause::HashFailures => {
            "check memory and network card of the peer that is named; take it off the network"
        }
        StallCause::Memory => "give the node more memory, or boot a smaller image",
        StallCause::Storage => "check the kernel of the image for loop devices and tmpfs",
        StallCause::Mount => {
            "check that the kernel has squashfs or erofs, and overlayfs, and the image is whole"
        }
        _ => "read the message; this tracker is older than the node's client",
    }
}

fn refused(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Content => {
            "boot it again: the revision has changed since its boot script was made"
        }
        Refusal::Unsigned => "sign the revision: bee-packer sign",
        Refusal::WrongKey => "sign it with a key that is in the initrd, or make the initrd anew",
        Refusal::AlteredManifest => "the store was changed: publish the revision again and sign it",
        Refusal::WrongTorrent => "the store was changed: pack and publish the revision again",
        Refusal::WrongImage => "pack the revision again; if one node only, check its memory",
        Refusal::TooOld => "sign the revision again, or publish a newer one",
        Refusal::Policy => "make the initrd anew: its trust policy cannot be used",
        Refusal::Unchecked => "pack with --verity, with a kernel that has dm-verity",
        _ => "read the message; this tracker is older than the node's client",
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.word())
    }
}

impl Node {
    /// What is wrong with it, when it needs somebody's eye.
    #[must_use]
    pub fn trouble(&self, now: Instant) -> Option<Trouble> {
        let some = |cause, detail: String| Some(Trouble { cause, detail });
        if let Some(failed) = &self.failed {
            return some(failed.cause, failed.detail.clone());
        }
        if let Some(stall) = &self.stall {
            return some(Cause::Told(stall.cause), stall.detail.clone());
        }
        if let Some(reason) = &self.waits {
            return some(Cause::NothingToBoot, reason.clone());
        }
        let Some(silence) = self.silent(now) else {
            return self.unsound().and_then(|audit| some(Cause::Unsound, audit.text.clone()));
        };
        let time = seconds(silence);
        match self.stage {
            NETBOOT => some(
                Cause::NotStarted,
                format!("its firmware took a boot script {time} ago, and no event came since"),
            ),
            "handover" => some(
                Cause::SeederNotStarted,
                format!("it went over to its root {time} ago, and no seeder reported since"),
            ),
            stage => some(Cause::Silent, format!("no word for {time}, in stage {stage}")),
        }
    }
}

pub(crate) fn seconds(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
#[path = "trouble/tests.rs"]
mod tests;
