//! Whether the hardware of a node is what it should be, as a program on it found.

use serde::{Deserialize, Serialize};

use super::{MAX_TEXT_LEN, cut};

/// Most findings of an audit.
pub const MAX_FINDINGS: usize = 32;

/// Longest name of a finding, in characters.
pub const MAX_NAME_LEN: usize = 80;

/// Longest detail of a finding, in characters.
pub const MAX_DETAIL_LEN: usize = 200;

/// A verdict; the newest of a boot counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Whether the node is sound. A word that is neither `pass` nor `fail` is refused: what is not
    /// understood must not count as either.
    pub verdict: Verdict,
    /// What it comes to, for people.
    pub text: String,
    /// What was looked at, at most [`MAX_FINDINGS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// What an audit comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// Not as it should be.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What: `memory`, `disk sda`.
    pub name: String,
    /// Whether it is as it should be.
    pub verdict: Verdict,
    /// What was found, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl Verdict {
    /// Its name, as in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
        }
    }
}

impl Audit {
    /// Brings what came from outside into its bounds; of too many findings those that are bad stay.
    pub(super) fn bound(&mut self) {
        cut(&mut self.text, MAX_TEXT_LEN);
        if self.findings.len() > MAX_FINDINGS {
            self.findings.sort_by_key(|finding| finding.verdict == Verdict::Pass);
            self.findings.truncate(MAX_FINDINGS);
        }
        for finding in &mut self.findings {
            cut(&mut finding.name, MAX_NAME_LEN);
            cut(&mut finding.detail, MAX_DETAIL_LEN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_findings_the_bad_ones_stay() {
        let finding = |n: usize| Finding {
            name: format!("{n} {}", "n".repeat(200)),
            verdict: if n == 90 { Verdict::Fail } else { Verdict::Pass },
            detail: "é".repeat(900),
        };
        let mut audit = Audit {
            verdict: Verdict::Fail,
            text: "é".repeat(900),
            findings: (0..99).map(finding).collect(),
        };
        audit.bound();
        assert_eq!(audit.text.chars().count(), MAX_TEXT_LEN);
        assert_eq!(audit.findings.len(), MAX_FINDINGS);
        let first = &audit.findings[0];
        assert!(first.verdict == Verdict::Fail && first.name.starts_with("90 "));
        assert_eq!(first.name.chars().count(), MAX_NAME_LEN);
        assert_eq!(first.detail.chars().count(), MAX_DETAIL_LEN);
        assert!(audit.findings[1].name.starts_with("0 "), "the others keep their order");
    }

    #[test]
    fn words_are_those_of_json() {
        for verdict in [Verdict::Pass, Verdict::Fail] {
            let word = format!("\"{}\"", verdict.word());
            assert_eq!(serde_json::to_string(&verdict).unwrap(), word);
        }
    }
}
