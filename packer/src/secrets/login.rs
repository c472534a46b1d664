//! Passwords and their hashes in the files that every system has.

/// Whether a file of `name:password:…` lines (passwd, shadow, gshadow) holds a hash.
///
/// A `!` in front only locks the password: the hash behind it can be guessed as well. `x`, `*`,
/// `!` and an empty field are none.
pub(super) fn has_hash(text: &[u8]) -> bool {
    lines(text).any(|line| {
        let Some(field) = line.split(|b| *b == b':').nth(1) else { return false };
        let field = field.trim_ascii();
        let start = field.iter().position(|b| !matches!(b, b'!' | b'*')).unwrap_or(field.len());
        let hash = &field[start..];
        let old = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/');
        // crypt(5): $id$…, _… of BSD, 13 characters of DES
        (hash.starts_with(b"$") && hash.len() > 8)
            || (hash.starts_with(b"_") && hash.len() == 20)
            || (hash.len() == 13 && hash.iter().all(old))
    })
}

/// Whether one of `keys` has a value, as `key=value`, `key: value` or `key value`, in a line that
/// is no comment. A value in pointed brackets is a placeholder.
pub(super) fn has_value(text: &[u8], keys: &[&str]) -> bool {
    lines(text).any(|line| {
        keys.iter().any(|key| {
            let Some(head) = line.get(..key.len()) else { return false };
            if !head.eq_ignore_ascii_case(key.as_bytes()) {
                return false;
            }
            let rest = &line[key.len()..];
            let value = rest.trim_ascii_start();
            let divided = value.len() < rest.len();
            let value = value.strip_prefix(b"=").or_else(|| value.strip_prefix(b":"));
            let value = match value {
                Some(value) => value.trim_ascii(),
                None if divided => rest.trim_ascii(),
                None => return false,
            };
            let value = value.strip_prefix(b"\"").unwrap_or(value);
            !matches!(value.first(), None | Some(b'"' | b'<' | b'#'))
        })
    })
}

/// Whether a word is followed by another one in a line that is no comment (.netrc).
pub(super) fn has_word_pair(text: &[u8], word: &str) -> bool {
    let uncommented: Vec<&[u8]> = lines(text).collect();
    let all = uncommented.join(&b' ');
    let mut words = all.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
    words.any(|w| w == word.as_bytes()) && words.next().is_some()
}

/// Whether there is a line that is neither empty nor a comment.
pub(super) fn has_lines(text: &[u8]) -> bool {
    lines(text).next().is_some()
}

/// Lines that say something, trimmed.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && !matches!(line[0], b'#' | b';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_told_from_locked_accounts() {
        for none in [
            "root:*:19000:0:99999:7:::\nsync:!:19000::\nme::19000::\n",
            "root:x:0:0:root:/root:/bin/bash\n",
            "ssh:!::\nadm:*::syslog\nempty\n",
            "root:!*:19000::\nlocked:!locked:1\nold:!!:17000::\n",
        ] {
            assert!(!has_hash(none.as_bytes()), "{none}");
        }
        for hash in [
            "root:$y$j9T$abcdefghijkl$0123456789:19000::\n",
            "daemon:*:1::\nroot:$6$salt$0123456789abcdef:19000::\n",
            "root:!$6$salt$0123456789abcdef:19000::\n",
            "old:ab01FAX.bQRSU:1::\n",
            "bsd:_J9..rasmBYk8r9AiWNc:1::\n",
        ] {
            assert!(has_hash(hash.as_bytes()), "{hash}");
        }
    }

    #[test]
    fn values_are_told_from_comments_and_placeholders() {
        for (text, found) in [
            ("[wifi-security]\npsk=hunter22\n", true),
            ("  psk = \"hunter22\"\n", true),
            ("psk-flags=1\n", false),
            ("#psk=hunter22\npsk=\n", false),
            ("psk=<YOUR KEY>\n", false),
            ("bindpw secret\n", true),
            ("bindpwx secret\n", false),
        ] {
            assert_eq!(has_value(text.as_bytes(), &["psk", "bindpw"]), found, "{text}");
        }
        assert!(has_word_pair(b"machine h login me\n  password x", "password"));
        assert!(!has_word_pair(b"# password x\nmachine h", "password"));
        assert!(has_lines(b"# x\n\ny") && !has_lines(b"# x\n ; y\n\n"));
    }
}
