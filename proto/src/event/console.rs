//! The last lines of a node's console, for those who do not stand before it.

use serde::{Deserialize, Serialize};

/// Most lines of a tail.
pub const MAX_LINES: usize = 30;

/// Longest line, in characters.
pub const MAX_LINE_LEN: usize = 200;

// also written as \u00xx, and with quotes and comma, all lines fit a batch, and there is room for what failed
const _: () = assert!(MAX_LINES * (6 * MAX_LINE_LEN + 3) < super::MAX_BATCH_LEN * 3 / 4);

/// What the console showed last: sent when a boot has failed, and when nothing has moved for a while. The
/// newest says all that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Console {
    /// The lines, oldest first, at most [`MAX_LINES`]; each begins with its time, as the kernel's do.
    pub lines: Vec<String>,
}

impl Console {
    /// Brings what came from outside into its bounds: the last lines stay, and are lines.
    pub(super) fn bound(&mut self) {
        let first = self.lines.len().saturating_sub(MAX_LINES);
        self.lines.drain(..first);
        for line in &mut self.lines {
            *line = clean(line);
        }
    }
}

/// A line as it may be kept and shown: one line, not longer than [`MAX_LINE_LEN`], without what moves a
/// terminal's cursor or turns the direction of the text around.
#[must_use]
pub fn clean(line: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let shown = |c: char| if c.is_control() || turns(c) { ' ' } else { c };
    line.chars().take(MAX_LINE_LEN).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_stay_and_are_lines() {
        let mut console = Console { lines: (0..99).map(|n| format!("line {n}")).collect() };
        console.lines.push(format!("\u{1b}[2J\r\n\u{202e}{}", "é".repeat(900)));
        console.bound();
        assert_eq!(console.lines.len(), MAX_LINES);
        assert_eq!(console.lines[0], "line 70");
        let last = &console.lines[MAX_LINES - 1];
        assert_eq!(last.chars().count(), MAX_LINE_LEN);
        assert!(last.starts_with(" [2J   é") && !last.contains(char::is_control), "{last}");
    }

    #[test]
    fn what_fits_its_bounds_is_not_changed() {
        let mut console = Console { lines: vec!["[   12.300] <b>&\"Ω\"".to_owned(); MAX_LINES] };
        let before = console.clone();
        console.bound();
        assert_eq!(console, before);
    }
}
