//! Which part of a file a request wants (RFC 9110, section 14): pure.

use std::ops::Range;

/// Answer to a `Range` header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// All of it: there is no range, or one that may be ignored (another unit, several ranges, not
    /// well-formed).
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Nothing of it exists.
    Unsatisfiable,
}

/// What `header` selects of `len` bytes.
pub(super) fn select(header: &str, len: u64) -> Selection {
    let Some(spec) = header.trim().strip_prefix("bytes=").map(str::trim) else {
        return Selection::Whole;
    };
    let Some((first, last)) = spec.split_once('-') else { return Selection::Whole };
    match (number(first), number(last)) {
        (Some(Some(first)), Some(last)) if last.is_none_or(|last| last >= first) => {
            if first >= len {
                return Selection::Unsatisfiable;
            }
            let end = last.map_or(len, |last| last.saturating_add(1).min(len));
            Selection::Part(first..end)
        }
        // The last so many bytes.
        (Some(None), Some(Some(count))) => {
            if count == 0 || len == 0 {
                return Selection::Unsatisfiable;
            }
            Selection::Part(len.saturating_sub(count)..len)
        }
        _ => Selection::Whole,
    }
}

/// `Some(None)` for nothing, `None` for anything that is not a number. A number too large to hold
/// is as good as the largest one.
fn number(text: &str) -> Option<Option<u64>> {
    let text = text.trim();
    if text.is_empty() {
        return Some(None);
    }
    text.bytes().all(|b| b.is_ascii_digit()).then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        use Selection::{Part, Unsatisfiable, Whole};
        for (header, wanted) in [
            ("bytes=0-0", Part(0..1)),
            ("bytes=0-", Part(0..100)),
            ("bytes=10-19", Part(10..20)),
            (" bytes= 10 - 19 ", Part(10..20)),
            ("bytes=90-1000", Part(90..100)),
            ("bytes=99-99999999999999999999999", Part(99..100)),
            ("bytes=-10", Part(90..100)),
            ("bytes=-1000", Part(0..100)),
            ("bytes=100-", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=-", Whole),
            ("bytes=", Whole),
            ("bytes=9-3", Whole),
            ("bytes=1-2,4-5", Whole),
            ("bytes=+1-2", Whole),
            ("items=0-1", Whole),
            ("", Whole),
        ] {
            assert_eq!(select(header, 100), wanted, "{header}");
        }
        assert_eq!(select("bytes=0-", 0), Unsatisfiable);
        assert_eq!(select("bytes=-1", 0), Unsatisfiable);
    }
}
