//! Private keys between BEGIN and END lines (RFC 7468, and what OpenSSH and OpenPGP made of it).

use super::Kind;

/// Characters of base64 that make a marker a key. An Ed25519 key, the shortest, has 64; a program
/// that only knows the marker has none.
const LEAST: usize = 60;

/// The part of a file after a marker that can matter: some header lines and the begin of the key.
const WINDOW: usize = 1024;

/// What the key is whose "PRIVATE KEY" lies at `at`; `None` when that is a mere mention.
pub(super) fn private_key(text: &[u8], at: usize) -> Option<Kind> {
    let before = &text[at.saturating_sub(40)..at];
    let begin = memchr::memmem::rfind(before, b"-----BEGIN ")?;
    let label = &before[begin + b"-----BEGIN ".len()..];
    let after = &text[at + b"PRIVATE KEY".len()..];
    let after = after.strip_prefix(b" BLOCK").unwrap_or(after).strip_prefix(b"-----")?;
    if !has_body(&after[..after.len().min(WINDOW)]) {
        return None;
    }
    match label {
        b"OPENSSH " => Some(Kind::SshKey),
        b"PGP " => Some(Kind::PgpKey),
        _ => Some(Kind::PrivateKey),
    }
}

/// Shorter pieces than this are words: base64 is written in lines of 64 or so.
const LEAST_PIECE: usize = 16;

/// Whether enough base64 follows. Lines may end in `\n` in two characters (a key in JSON), and be
/// quoted (a key in a program's source); header lines such as `Proc-Type: 4,ENCRYPTED` are skipped.
fn has_body(text: &[u8]) -> bool {
    let (mut count, mut piece) = (0, 0);
    let mut at = 0;
    while at < text.len() && count < LEAST {
        let escaped = text[at] == b'\\' && matches!(text.get(at + 1), Some(b'n' | b'r'));
        match text[at] {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' | b'=' => {
                (count, piece) = (count + 1, piece + 1);
            }
            b':' => {
                let Some(end) = memchr::memchr(b'\n', &text[at..]) else { return false };
                // what was counted was the header's name
                (count, piece, at) = (0, 0, at + end);
            }
            // within a header's name, or the END line: a key that is empty
            b'-' if text[at..].starts_with(b"-----") => return false,
            b'-' => piece = 0,
            b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'\'' | b'\\' => {
                if (1..LEAST_PIECE).contains(&piece) {
                    return false;
                }
                piece = 0;
                at += usize::from(escaped);
            }
            _ => return false,
        }
        at += 1;
    }
    count >= LEAST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str) -> Option<Kind> {
        let at = memchr::memmem::find(text.as_bytes(), b"PRIVATE KEY").unwrap();
        private_key(text.as_bytes(), at)
    }

    const BODY: &str = "MC4CAQAwBQYDK2VwBCIEIPk1Qc7lU1zqCk3Z5Jq4CdYy0n4kMZ7JQ8a0q5Xw2p1x";

    #[test]
    fn keys_are_told_from_mentions() {
        let pem =
            |label: &str| format!("x\n-----BEGIN {label}-----\n{BODY}\n-----END {label}-----");
        for (label, kind) in [
            ("PRIVATE KEY", Kind::PrivateKey),
            ("ENCRYPTED PRIVATE KEY", Kind::PrivateKey),
            ("RSA PRIVATE KEY", Kind::PrivateKey),
            ("EC PRIVATE KEY", Kind::PrivateKey),
            ("OPENSSH PRIVATE KEY", Kind::SshKey),
            ("PGP PRIVATE KEY BLOCK", Kind::PgpKey),
        ] {
            assert_eq!(find(&pem(label)), Some(kind), "{label}");
        }
        for mention in [
            "grep -q 'BEGIN RSA PRIVATE KEY' file",
            "if line == \"-----BEGIN RSA PRIVATE KEY-----\":\n    return parse_the_key_that_follows(lines)",
            "-----BEGIN PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\nMIIB",
            "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\\nMIIE...\\n-----END PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nis the line after which a program reads the lines of the key in base64",
            "-----BEGIN PUBLIC KEY-----, not a PRIVATE KEY-----",
        ] {
            assert_eq!(find(mention), None, "{mention}");
        }
    }

    #[test]
    fn headers_quotes_and_json_are_no_disguise() {
        for key in [
            format!(
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00FF\n\n{BODY}"
            ),
            format!("-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\n\n{BODY}"),
            format!(
                "{{\"key\": \"-----BEGIN PRIVATE KEY-----\\n{}\\n{}\\n",
                &BODY[..32],
                &BODY[32..]
            ),
            format!(
                "key = (\"-----BEGIN PRIVATE KEY-----\\n\"\n  \"{}\\n\"\n  \"{}\\n\")",
                &BODY[..30],
                &BODY[30..]
            ),
            format!("  key: |\n    -----BEGIN PRIVATE KEY-----\r\n    {BODY}\r\n"),
        ] {
            assert!(find(&key).is_some(), "{key}");
        }
    }
}
