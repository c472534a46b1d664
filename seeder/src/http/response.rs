//! The head of an answer.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::date;

/// Status line and headers, as they go out.
#[derive(Debug)]
pub(super) struct Head {
    text: String,
}

impl Head {
    /// Begins an answer whose body has `length` bytes. `None`: it can have no body (304).
    pub(super) fn new(status: u16, length: Option<u64>) -> Self {
        let mut text = String::with_capacity(512);
        let date = date::format(SystemTime::now());
        // Writing to a String does not fail.
        let _ = write!(text, "HTTP/1.1 {status} {}\r\nDate: {date}\r\n", reason(status));
        let mut head = Self { text };
        if let Some(length) = length {
            head = head.with("Content-Length", length);
        }
        head
    }

    /// Adds a header. Only values made by this program go in: none holds a line break.
    pub(super) fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        let _ = write!(self.text, "{name}: {value}\r\n");
        self
    }

    /// The bytes, with what becomes of the connection.
    pub(super) fn finish(self, keep_alive: bool) -> Vec<u8> {
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let mut bytes = self.with("Connection", connection).text.into_bytes();
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

/// Whether an `If-None-Match` header names `etag`, or `*` (RFC 9110, section 13.1.2: weak
/// comparison).
pub(super) fn matches_none(header: &str, etag: &str) -> bool {
    header.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_an_empty_line() {
        let head = Head::new(206, Some(5)).with("ETag", "\"e\"").finish(true);
        let text = String::from_utf8(head).unwrap();
        assert!(text.starts_with("HTTP/1.1 206 Partial Content\r\nDate: "), "{text}");
        let end = "Content-Length: 5\r\nETag: \"e\"\r\nConnection: keep-alive\r\n\r\n";
        assert!(text.ends_with(end), "{text}");
        assert!(!String::from_utf8(Head::new(304, None).finish(false)).unwrap().contains("Length"));
    }

    #[test]
    fn etag_lists() {
        for (header, matches) in [
            ("\"e\"", true),
            ("W/\"e\"", true),
            ("\"a\", \"e\"", true),
            ("*", true),
            ("\"a\"", false),
        ] {
            assert_eq!(matches_none(header, "\"e\""), matches, "{header}");
        }
    }
}
