//! Secrets that say what they are, wherever they lie.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};

use super::{Kind, openpgp, pem};

/// Words that begin a secret, and what decides whether it is one.
const WORDS: [(&str, Check); 13] = [
    ("PRIVATE KEY", pem_key),
    ("AGE-SECRET-KEY-1", age),
    // base64 of the algorithms at the begin of a secret key: Ed Sc B2, Ed 00 B2, Ed BK
    ("RWRTY0Iy", minisign),
    ("RWQAAEIy", minisign),
    ("RWRCSwAAA", minisign),
    ("aws_secret_access_key", aws),
    ("AWS_SECRET_ACCESS_KEY", aws),
    ("AccountKey=", azure),
    ("client-key-data:", kubernetes),
    ("\"auth\"", registry),
    ("PrivateKey", wireguard),
    ("PresharedKey", wireguard),
    ("private-key (", gpg_agent),
];

/// Gets the text, and where the word begins and ends in it.
type Check = fn(&[u8], usize, usize) -> Option<Kind>;

/// No word begins within another one, so the first match is all there is at its place.
static MATCHER: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    // the one kind that looks for all words at once, many bytes at a time
    let mut builder = AhoCorasick::builder();
    builder.match_kind(MatchKind::LeftmostFirst).build(WORDS.map(|(word, _)| word)).ok()
});

/// The first secret in a text.
pub(super) fn in_text(text: &[u8]) -> Option<Kind> {
    // a dozen fixed words always make a matcher; tests run it
    let matcher = MATCHER.as_ref()?;
    matcher.find_iter(text).find_map(|found| {
        let (_, check) = WORDS.get(found.pattern().as_usize())?;
        check(text, found.start(), found.end())
    })
}

/// A secret in a form that is no text, by its first bytes.
pub(super) fn in_binary(head: &[u8]) -> Option<Kind> {
    if head.starts_with(b"SSH PRIVATE KEY FILE FORMAT 1") {
        return Some(Kind::SshKey);
    }
    // OpenPGP's own form, and what gpg-agent kept its keys in before 2.3
    let agent = [&b"(11:private-key("[..], b"(21:protected-private-key("];
    if openpgp::is_secret_key(head) || agent.iter().any(|begin| head.starts_with(begin)) {
        return Some(Kind::PgpKey);
    }
    is_der_key(head).then_some(Kind::PrivateKey)
}

/// PKCS#1, SEC 1 or PKCS#8 in DER: a SEQUENCE whose first part is the version, an INTEGER of one
/// byte, and whose second one has a type that no other common file has there.
fn is_der_key(head: &[u8]) -> bool {
    let length_bytes = match head {
        [0x30, 0x81, ..] => 1,
        [0x30, 0x82, ..] => 2,
        [0x30, 0x83, ..] => 3,
        [0x30, 0..=0x7f, ..] => 0,
        _ => return false,
    };
    let Some(body) = head.get(2 + length_bytes..) else { return false };
    // RSA: the version, then a modulus of at least 512 bits
    let rsa = [&[2, 1, 0, 2, 0x41][..], &[2, 1, 0, 2, 0x81], &[2, 1, 0, 2, 0x82]];
    if rsa.iter().any(|begin| body.starts_with(begin)) {
        return true;
    }
    // EC: version 1, then the number as OCTET STRING of 28, 32, 48 or 66 bytes
    if matches!(body, [2, 1, 1, 4, 28 | 32 | 48 | 66, ..]) {
        return true;
    }
    // PKCS#8: version 0 or 1, then an algorithm: a SEQUENCE that begins with an object identifier of
    // RSA, EC, or the curves 25519 and 448
    let identifiers = [
        &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1][..],
        &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1],
        &[6, 3, 0x2b, 0x65],
    ];
    matches!(body, [2, 1, 0 | 1, 0x30, ..])
        && body.get(5..).is_some_and(|rest| identifiers.iter().any(|id| rest.starts_with(id)))
}

fn pem_key(text: &[u8], at: usize, _: usize) -> Option<Kind> {
    let kind = pem::private_key(text, at)?;
    let has = |word: &[u8]| memchr::memmem::find(text, word).is_some();
    match kind {
        Kind::PrivateKey if has(b"\"service_account\"") => Some(Kind::GcpCredentials),
        other => Some(other),
    }
}

fn age(text: &[u8], _: usize, end: usize) -> Option<Kind> {
    let upper = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    (run(&text[end..], upper) >= 50).then_some(Kind::AgeKey)
}

fn minisign(text: &[u8], start: usize, _: usize) -> Option<Kind> {
    let own_line = start == 0 || text[start - 1] == b'\n';
    (own_line && run(&text[start..], is_base64) >= 130).then_some(Kind::SigningKey)
}

fn aws(text: &[u8], _: usize, end: usize) -> Option<Kind> {
    let value = value(&text[end..])?;
    let length = run(value, is_base64);
    // the example of Amazon's own documentation ends so
    (length == 40 && !value[..40].ends_with(b"EXAMPLEKEY")).then_some(Kind::AwsCredentials)
}

fn azure(text: &[u8], _: usize, end: usize) -> Option<Kind> {
    (run(&text[end..], is_base64) == 88).then_some(Kind::AzureCredentials)
}

fn kubernetes(text: &[u8], _: usize, end: usize) -> Option<Kind> {
    let value = text[end..].trim_ascii_start();
    let value = value.strip_prefix(b"\"").unwrap_or(value);
    (run(value, is_base64) >= 60).then_some(Kind::KubernetesCredentials)
}

fn registry(text: &[u8], _: usize, end: usize) -> Option<Kind> {
    memchr::memmem::find(text, b"\"auths\"")?;
    let value = text[end..].trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    (run(value.strip_prefix(b"\"")?, is_base64) >= 4).then_some(Kind::RegistryCredentials)
}

fn wireguard(text: &[u8], start: usize, end: usize) -> Option<Kind> {
    let line = memchr::memrchr(b'\n', &text[..start]).map_or(0, |at| at + 1);
    let value = value(&text[end..])?;
    let length = run(value, is_base64);
    let alone = text[line..start].trim_ascii().is_empty()
        && value.get(length).is_none_or(u8::is_ascii_whitespace);
    // 32 bytes
    (alone && length == 44 && value[43] == b'=').then_some(Kind::WireguardKey)
}

/// The file of a key in gpg-agent's folder: `Key: (protected-private-key (ecc (curve Ed25519)(q #40…#)`.
fn gpg_agent(text: &[u8], start: usize, end: usize) -> Option<Kind> {
    let line = memchr::memrchr(b'\n', &text[..start]).map_or(0, |at| at + 1);
    let is_field = matches!(&text[line..start], b"Key: (" | b"Key: (protected-");
    let number = &text[end + memchr::memchr(b'#', &text[end..])? + 1..];
    // in lines that are broken within it
    let digits = run(number, |b| b.is_ascii_hexdigit() || b.is_ascii_whitespace());
    (is_field && digits >= 32).then_some(Kind::PgpKey)
}

/// What comes after `=` or `:`, quotes left out.
fn value(text: &[u8]) -> Option<&[u8]> {
    let quotes = |b: &u8| matches!(b, b' ' | b'\t' | b'"' | b'\'');
    let skip = |text: &[u8]| text.iter().take_while(|b| quotes(b)).count();
    let rest = &text[skip(text)..];
    let rest = rest.strip_prefix(b"=").or_else(|| rest.strip_prefix(b":"))?;
    Some(&rest[skip(rest)..])
}

fn run(text: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    text.iter().take_while(|b| belongs(**b)).count()
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(count: usize) -> String {
        "Ab3/".repeat(count.div_ceil(4))[..count].to_owned()
    }

    #[test]
    fn each_kind_is_told_and_its_mention_is_not() {
        let (d40, d43, d86) = (digits(40), digits(43), digits(86));
        let secrets = [
            (format!("AGE-SECRET-KEY-1{}", "QZ9".repeat(20)), Kind::AgeKey),
            (format!("untrusted comment: x\nRWRTY0Iy{}\n", digits(204)), Kind::SigningKey),
            (format!("untrusted comment: x\nRWRCSwAAACo{}\n", digits(129)), Kind::SigningKey),
            (format!("[default]\naws_secret_access_key = {d40}\n"), Kind::AwsCredentials),
            (format!("export AWS_SECRET_ACCESS_KEY=\"{d40}\"\n"), Kind::AwsCredentials),
            (format!("\"aws_secret_access_key\": \"{d40}\""), Kind::AwsCredentials),
            (format!("x;AccountKey={d86}==;y"), Kind::AzureCredentials),
            (format!("users:\n- user:\n    client-key-data: {d86}\n"), Kind::KubernetesCredentials),
            (
                "{\"auths\": {\"r.example\": {\"auth\": \"dXNlcjpwYXNz\"}}}".to_owned(),
                Kind::RegistryCredentials,
            ),
            (format!("[Interface]\nPrivateKey = {d43}=\n"), Kind::WireguardKey),
            (format!("[WireGuardPeer]\nPresharedKey={d43}="), Kind::WireguardKey),
            (
                format!(
                    "Created: 1\nKey: (protected-private-key (rsa (n #00{}\n 7F#)",
                    "A1".repeat(20)
                ),
                Kind::PgpKey,
            ),
        ];
        for (text, kind) in secrets {
            assert_eq!(in_text(text.as_bytes()), Some(kind), "{text}");
            // a file may end anywhere
            for end in 0..text.len() {
                let _ = in_text(&text.as_bytes()[..end]);
            }
        }
        for mention in [
            "AGE-SECRET-KEY-1 is how they begin".to_owned(),
            format!("untrusted comment: public\nRWQf6LRCGA9i{}\n", digits(44)),
            format!("a line that ends in RWRTY0Iy{}\n", digits(204)),
            "aws_secret_access_key = None\naws_secret_access_key = YOUR_KEY".to_owned(),
            "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            "AccountKey=…".to_owned(),
            "client-key-data: REDACTED".to_owned(),
            "{\"auths\": {\"r.example\": {}}} \"auth\": null".to_owned(),
            "{\"auths\": {\"r.example\": {\"auth\": \"\"}}}".to_owned(),
            "{\"auth\": \"dXNlcjpwYXNz\"}".to_owned(),
            "PrivateKey = await importKey(bytes)".to_owned(),
            format!("rsaPrivateKey = {d43}=\n"),
            "Key: (private-key (rsa (n #00e0ce9...#)".to_owned(),
            format!("(private-key (rsa (n #{}#)", "A1".repeat(20)),
            format!("Key: (shadowed-private-key (rsa (n #{}#)", "A1".repeat(20)),
        ] {
            assert_eq!(in_text(mention.as_bytes()), None, "{mention}");
        }
    }

    #[test]
    fn a_mention_does_not_hide_what_comes_after_it() {
        let text = format!("# aws_secret_access_key = X\naws_secret_access_key = {}", digits(40));
        assert_eq!(in_text(text.as_bytes()), Some(Kind::AwsCredentials));
    }

    #[test]
    fn keys_in_der_are_told_from_certificates() {
        for key in [
            &[0x30, 0x82, 4, 0xa4, 2, 1, 0, 2, 0x82, 1, 1, 0][..],
            &[0x30, 0x77, 2, 1, 1, 4, 32, 9, 9],
            &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22],
            &[0x30, 0x81, 0x87, 2, 1, 0, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1],
            b"SSH PRIVATE KEY FILE FORMAT 1.1\n\0",
        ] {
            assert!(in_binary(key).is_some(), "{key:x?}");
        }
        for other in [
            // a certificate, a public key, a PKCS#7 signature
            &[0x30, 0x82, 3, 0x10, 0x30, 0x82, 1, 0xf8, 0xa0, 3, 2, 1, 2][..],
            &[0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1],
            &[0x30, 0x82, 6, 0, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2],
            &[0x30],
            b"0\x82",
            b"",
            b"\x7fELF",
        ] {
            assert_eq!(in_binary(other), None, "{other:x?}");
        }
    }
}
