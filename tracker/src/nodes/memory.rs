//! Since when the table has every node that was heard.

use std::time::SystemTime;

use super::Nodes;
use crate::state::{Op, unix_ms};

/// Key in the state's `meta`: Unix time in milliseconds, as digits.
pub(crate) const KEY: &str = "nodes-since";

impl Nodes {
    /// Unix time in milliseconds from which on no node was forgotten that may run an image; `None`: since the
    /// tracker started.
    pub(crate) fn complete_since(&self) -> Option<i64> {
        self.complete_since
    }

    /// Goes on with what is stored. A state without it is new, or of a version that did not keep it: what
    /// was before is not known.
    pub(crate) fn remember_since(&mut self, stored: Option<&Vec<u8>>) {
        let digits = stored.and_then(|bytes| std::str::from_utf8(bytes).ok());
        match digits.and_then(|digits| digits.parse().ok()) {
            Some(since) => self.complete_since = Some(since),
            None => self.begin_anew(),
        }
    }

    /// From now on.
    pub(super) fn begin_anew(&mut self) {
        let since = unix_ms(SystemTime::now());
        self.complete_since = Some(since);
        self.log.push(|| Op::PutMeta { key: KEY, value: since.to_string().into_bytes() });
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Instant;

    use proto::node_id::NodeId;

    use super::*;
    use crate::nodes::{Limits, Told};

    #[test]
    fn a_forgotten_node_that_may_run_an_image_ends_the_memory() {
        let mut nodes = Nodes::new(Limits { nodes: 1, events_per_node: 9 });
        assert_eq!(nodes.complete_since(), None, "without a state: since the start");
        nodes.log.keep(9, 0);
        nodes.remember_since(Some(&b"5".to_vec()));
        assert_eq!(nodes.complete_since(), Some(5));

        let now = Instant::now();
        let mut asks = |number: u8, told: Told<'_>| {
            let (mac, addr) = (NodeId([2, 0, 0, 0, 0, number]), IpAddr::from([10, 0, 0, number]));
            nodes.asked(mac, addr, told, now);
            let ops = nodes.log.drain();
            let stored = ops.into_iter().any(|op| matches!(op, Op::PutMeta { key: KEY, .. }));
            (nodes.complete_since(), stored)
        };
        asks(1, Told::Disk);
        let revision = "debian@0123456789ab".parse().unwrap();
        assert_eq!(asks(2, Told::Boot(&revision)), (Some(5), false), "the first ran nothing");
        let before = unix_ms(SystemTime::now());
        let (since, stored) = asks(3, Told::Disk);
        assert!(since >= Some(before) && stored, "{since:?}");

        let mut new = Nodes::new(Limits { nodes: 1, events_per_node: 9 });
        new.remember_since(None);
        assert!(new.complete_since() >= Some(before), "a state without it begins now");
    }
}
