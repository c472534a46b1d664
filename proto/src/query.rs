//! Query strings with binary values: percent-encoding as trackers use it (RFC 3986).

/// Percent-encodes bytes; unreserved characters stay as they are.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 3);
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte.into())
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Decodes percent-encoding to bytes; `None` when a `%` is not followed by two hex digits.
///
/// `+` stays `+`: BitTorrent clients do not send spaces, and some send a bare `+` in a peer id.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut nibble =
                || (bytes.next()? as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
            out.push(nibble()? << 4 | nibble()?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

/// Splits `a=1&b=2` into raw (still encoded) pairs; a part without `=` has an empty value.
pub fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once('=').unwrap_or((part, "")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn never_panics(text in ".*") {
            let _ = decode(&text);
            let _ = pairs(&text).count();
        }
    }

    #[test]
    fn refuses_bad_escapes() {
        for bad in ["%", "%1", "%zz", "a%2"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
        assert_eq!(decode("%00a+b").unwrap(), b"\0a+b");
    }
}
