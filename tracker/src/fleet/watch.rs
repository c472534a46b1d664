//! Who gets stuck and who gets on again, as notices.

use std::collections::BTreeMap;

use proto::node_id::NodeId;

use super::Stalled;
use crate::app::Notice;
use crate::nodes::trouble::Cause;

/// Who was stuck when it was last looked, and why.
#[derive(Debug, Default)]
pub(crate) struct Watch(BTreeMap<NodeId, Cause>);

impl Watch {
    /// What is new.
    pub(crate) fn changes(&mut self, stalled: &[Stalled]) -> Vec<Notice> {
        let mut before = std::mem::take(&mut self.0);
        let mut notices = Vec::new();
        for one in stalled {
            let cause = one.trouble.cause;
            if before.remove(&one.id) != Some(cause) {
                notices.push(notice(one));
            }
            self.0.insert(one.id, cause);
        }
        notices.extend(before.into_keys().map(|node| Notice::Recovered { node }));
        notices
    }
}

/// That this one is stuck.
pub(crate) fn notice(stalled: &Stalled) -> Notice {
    Notice::Stalled {
        node: stalled.id,
        name: stalled.name.clone(),
        stage: stalled.stage,
        cause: stalled.trouble.cause,
        detail: stalled.trouble.detail.clone(),
        remedy: stalled.trouble.cause.remedy(),
    }
}

#[cfg(test)]
mod tests {
    use proto::event::StallCause;

    use super::*;
    use crate::nodes::trouble::Trouble;

    fn stalled(n: u8, cause: StallCause) -> Stalled {
        let trouble = Trouble { cause: Cause::Told(cause), detail: "x".into() };
        let id = NodeId([2, 0, 0, 0, 0, n]);
        Stalled { id, name: format!("n{n}"), stage: "fetch", trouble, heard: None }
    }

    #[test]
    fn each_change_is_told_once() {
        let mut watch = Watch::default();
        let words = |notices: Vec<Notice>| -> Vec<String> {
            let word = |notice: &Notice| match notice {
                Notice::Stalled { name, cause, .. } => format!("{name} {cause}"),
                Notice::Recovered { node } => format!("{node} recovered"),
                other => format!("{other:?}"),
            };
            notices.iter().map(word).collect()
        };
        let (one, two) = (stalled(1, StallCause::NoPeers), stalled(2, StallCause::NoData));
        assert_eq!(
            words(watch.changes(&[one.clone(), two.clone()])),
            ["n1 no-peers", "n2 no-data"]
        );
        assert_eq!(words(watch.changes(&[one, two.clone()])), [""; 0]);
        let other = stalled(1, StallCause::NoData);
        assert_eq!(words(watch.changes(&[other, two])), ["n1 no-data"]);
        let all = ["02:00:00:00:00:01 recovered", "02:00:00:00:00:02 recovered"];
        assert_eq!(words(watch.changes(&[])), all);
    }
}
