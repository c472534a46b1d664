//! Lists of hosts as pdsh, ClusterShell and Slurm write them: `rack[1-4]n[01-32],login1`.
//!
//! Words are divided by commas or white space. A word may have several groups in brackets; each is a list
//! of numbers and ranges, and every combination is one host. A number that begins with `0` sets the width:
//! `[08-11]` is 08, 09, 10, 11. What a list expands to is bounded.

/// Hosts in one list.
pub const MAX_HOSTS: usize = 65_536;

/// Longest name of a host, in bytes.
const MAX_NAME: usize = 255;

/// A text that is no list of hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostListError {
    /// A `[` without `]`, or the other way round.
    #[error("{0:?}: brackets do not match; write it like rack[1-4]n[01-32]")]
    Brackets(String),
    /// Something in brackets that is no list of numbers.
    #[error("{word:?}: {part:?} is no number and no range; write it like [1-4,7] or [01-32]")]
    Range {
        /// The word.
        word: String,
        /// The part of it.
        part: String,
    },
    /// A range whose end is before its start.
    #[error("{word:?}: the range {part:?} ends before it starts")]
    Backwards {
        /// The word.
        word: String,
        /// The range.
        part: String,
    },
    /// More than [`MAX_HOSTS`].
    #[error("{0:?}: these are more than {MAX_HOSTS} hosts")]
    TooMany(String),
    /// A host whose name is too long.
    #[error("a name of a host is longer than {MAX_NAME} bytes")]
    TooLong,
}

/// Expands a list; the order is that of the text, the last group of a word counts fastest. Hosts that are named
/// twice are there twice.
///
/// # Errors
/// [`HostListError`], with the word that is wrong.
pub fn expand(text: &str) -> Result<Vec<String>, HostListError> {
    let mut hosts = Vec::new();
    for word in words(text)? {
        let room = MAX_HOSTS - hosts.len();
        hosts.extend(expand_word(word, room)?);
    }
    Ok(hosts)
}

/// The words of a list: commas within brackets divide nothing.
fn words(text: &str) -> Result<Vec<&str>, HostListError> {
    let mut found = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            '[' if !inside => inside = true,
            ']' if inside => inside = false,
            '[' | ']' => return Err(HostListError::Brackets(short(&text[start..]))),
            ',' if !inside => {
                found.push(&text[start..at]);
                start = at + 1;
            }
            c if c.is_whitespace() => {
                if inside {
                    return Err(HostListError::Brackets(short(&text[start..])));
                }
                found.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    if inside {
        return Err(HostListError::Brackets(short(&text[start..])));
    }
    found.push(&text[start..]);
    found.retain(|word| !word.is_empty());
    Ok(found)
}

/// All hosts of one word, `room` at most.
fn expand_word(word: &str, room: usize) -> Result<Vec<String>, HostListError> {
    let too_many = || HostListError::TooMany(short(word));
    if room == 0 {
        return Err(too_many());
    }
    let mut hosts = vec![String::new()];
    let mut rest = word;
    while let Some((fixed, behind)) = rest.split_once('[') {
        let (group, behind) =
            behind.split_once(']').ok_or_else(|| HostListError::Brackets(short(word)))?;
        let numbers = numbers(word, group, room)?;
        if hosts.len().saturating_mul(numbers.len()) > room {
            return Err(too_many());
        }
        hosts = hosts
            .iter()
            .flat_map(|host| numbers.iter().map(move |number| format!("{host}{fixed}{number}")))
            .collect();
        too_long(&hosts)?;
        rest = behind;
    }
    hosts.iter_mut().for_each(|host| host.push_str(rest));
    too_long(&hosts)?;
    Ok(hosts)
}

/// Names of one word grow together: the first is as good as the longest, but for the numbers.
fn too_long(hosts: &[String]) -> Result<(), HostListError> {
    if hosts.iter().any(|host| host.len() > MAX_NAME) {
        return Err(HostListError::TooLong);
    }
    Ok(())
}

/// `1-4,7,09-11` as texts.
fn numbers(word: &str, group: &str, room: usize) -> Result<Vec<String>, HostListError> {
    let mut found = Vec::new();
    for part in group.split(',') {
        let wrong = || HostListError::Range { word: short(word), part: short(part) };
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse::<u64>().ok()).flatten()
        };
        let (from, to) = (number(first).ok_or_else(wrong)?, number(last).ok_or_else(wrong)?);
        if to < from {
            return Err(HostListError::Backwards { word: short(word), part: short(part) });
        }
        let more = usize::try_from(to - from).unwrap_or(usize::MAX);
        if more >= room.saturating_sub(found.len()) {
            return Err(HostListError::TooMany(short(word)));
        }
        let width = if first.starts_with('0') { first.len() } else { 0 };
        if width > MAX_NAME {
            return Err(HostListError::TooLong);
        }
        found.extend((from..=to).map(|number| format!("{number:0>width$}")));
    }
    Ok(found)
}

/// A text as it is shown in an error.
fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_are_expanded_in_order() {
        for (text, hosts) in [
            ("n1", "n1"),
            ("n1,n2 n3,\n n4,", "n1 n2 n3 n4"),
            ("n[1-3]", "n1 n2 n3"),
            ("n[08-11]", "n08 n09 n10 n11"),
            ("n[1,3-4,007]x", "n1x n3x n4x n007x"),
            ("rack[1-2]n[01-02]", "rack1n01 rack1n02 rack2n01 rack2n02"),
            ("[1-2][3-4],a", "13 14 23 24 a"),
            ("[98-101]", "98 99 100 101"),
            ("52:54:00:00:00:[01-02]", "52:54:00:00:00:01 52:54:00:00:00:02"),
            ("n[0-0]", "n0"),
            ("", ""),
        ] {
            assert_eq!(expand(text).unwrap().join(" "), hosts, "{text}");
        }
        assert_eq!(expand("rack[1-4]n[01-32]").unwrap().len(), 128);
        assert_eq!(expand("n[1-65536]").unwrap().len(), MAX_HOSTS);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("n[1-3", "brackets"),
            ("n1-3]", "brackets"),
            ("n[[1]]", "brackets"),
            ("n[1 2]", "brackets"),
            ("n[]", "\"\" is no number"),
            ("n[1-]", "\"1-\" is no number"),
            ("n[a-c]", "\"a-c\""),
            ("n[1-2-3]", "\"1-2-3\""),
            ("n[+1]", "\"+1\""),
            ("a,n[3-1]", "\"n[3-1]\": the range \"3-1\" ends before"),
            ("n[1-65537]", "more than 65536"),
            ("n[1-18446744073709551615]", "more than 65536"),
            ("n[1-99999999999999999999999]", "no number"),
            ("n[1-1000]m[1-1000]", "more than 65536"),
            ("n[1-65536],n0", "more than 65536"),
        ] {
            let error = expand(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!(expand(&"n".repeat(256)), Err(HostListError::TooLong));
        let wide = format!("n[{}1]", "0".repeat(300));
        assert_eq!(expand(&wide), Err(HostListError::TooLong));
    }

    proptest! {
        #[test]
        fn any_text_is_a_bounded_list_or_an_error(text in r"[a-c0-9,\[\]\- ]{0,40}") {
            if let Ok(hosts) = expand(&text) {
                prop_assert!(hosts.len() <= MAX_HOSTS);
                prop_assert!(hosts.iter().all(|host| host.len() <= MAX_NAME && !host.contains('[')));
            }
        }

        #[test]
        fn a_range_has_each_number_once(from in 0u64..2000, more in 0u64..2000) {
            let hosts = expand(&format!("n[{from}-{}]", from + more)).unwrap();
            let expected: Vec<_> = (from..=from + more).map(|n| format!("n{n}")).collect();
            prop_assert_eq!(hosts, expected);
        }
    }
}
