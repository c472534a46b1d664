//! The head of a request (RFC 9112): pure.

use httparse::Status;

/// Largest head, in bytes.
pub(super) const MAX_HEAD: usize = 8 * 1024;

/// Most header lines.
const MAX_HEADERS: usize = 64;

/// A request that this server answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// HEAD: the same answer without a body.
    pub(super) head_only: bool,
    /// As it stands in the request line.
    pub(super) target: String,
    /// Whether the connection stays open afterwards.
    pub(super) keep_alive: bool,
    /// `Range`.
    pub(super) range: Option<String>,
    /// `If-Range`.
    pub(super) if_range: Option<String>,
    /// `If-None-Match`, joined when it came in several lines.
    pub(super) if_none_match: Option<String>,
}

/// Why a head gets an error instead of an answer. The connection ends with each of them: where the
/// next request begins is not certain any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadError {
    /// 400.
    Malformed,
    /// 405: not GET or HEAD.
    Method,
    /// 413: it has a body.
    Body,
    /// 431: larger than [`MAX_HEAD`] or with more than [`MAX_HEADERS`] lines.
    TooLarge,
}

/// Reads a head; tells how long it was. `None`: it is not complete yet.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, HeadError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let used = match head.parse(bytes) {
        Ok(Status::Complete(used)) if used <= MAX_HEAD => used,
        Ok(Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(_) => return Err(HeadError::Malformed),
    };
    let head_only = match head.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Err(HeadError::Method),
    };
    let version = head.version.unwrap_or(0);
    let mut request = Request {
        head_only,
        target: head.path.unwrap_or_default().to_owned(),
        keep_alive: version == 1,
        range: None,
        if_range: None,
        if_none_match: None,
    };
    let (mut hosts, mut ranges) = (0, 0);
    for header in head.headers.iter() {
        let value = || {
            let text = std::str::from_utf8(header.value).map_err(|_| HeadError::Malformed)?;
            Ok::<_, HeadError>(text.trim())
        };
        match header.name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "connection" => {
                for option in value()?.split(',').map(str::trim) {
                    if option.eq_ignore_ascii_case("close") {
                        request.keep_alive = false;
                    } else if option.eq_ignore_ascii_case("keep-alive") {
                        request.keep_alive = true;
                    }
                }
            }
            "content-length" if value()?.parse() == Ok(0_u64) => {}
            "content-length" | "transfer-encoding" => return Err(HeadError::Body),
            "range" => {
                ranges += 1;
                request.range = Some(value()?.to_owned());
            }
            "if-range" => request.if_range = Some(value()?.to_owned()),
            "if-none-match" => {
                let earlier = request.if_none_match.take().map(|text| text + ",");
                request.if_none_match = Some(earlier.unwrap_or_default() + value()?);
            }
            _ => {}
        }
    }
    // RFC 9112, section 3.2: exactly one in HTTP/1.1.
    if version == 1 && hosts != 1 {
        return Err(HeadError::Malformed);
    }
    // Two of them are ambiguous: none counts, and the whole file is sent.
    if ranges > 1 {
        request.range = None;
    }
    Ok(Some((request, used)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(head: &str) -> Request {
        let (request, used) = parse(head.as_bytes()).unwrap().expect("complete");
        assert_eq!(used, head.len());
        request
    }

    #[test]
    fn a_request_with_everything() {
        let got = request(
            "HEAD /x HTTP/1.1\r\nhost: a\r\nRANGE: bytes=1-2\r\nIf-Range: \"e\"\r\n\
             If-None-Match: \"a\"\r\nIf-None-Match: \"b\"\r\nContent-Length: 0\r\n\r\n",
        );
        assert_eq!(
            got,
            Request {
                head_only: true,
                target: "/x".into(),
                keep_alive: true,
                range: Some("bytes=1-2".into()),
                if_range: Some("\"e\"".into()),
                if_none_match: Some("\"a\",\"b\"".into()),
            }
        );
    }

    #[test]
    fn who_keeps_the_connection() {
        assert!(request("GET / HTTP/1.1\r\nHost: a\r\n\r\n").keep_alive);
        assert!(!request("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n").keep_alive);
        assert!(!request("GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(request("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep_alive);
    }

    #[test]
    fn two_ranges_count_as_none() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\nRange: bytes=5-6\r\n\r\n";
        assert_eq!(request(head).range, None);
    }

    #[test]
    fn incomplete_is_no_error_until_it_is_too_large() {
        assert_eq!(parse(b""), Ok(None));
        assert_eq!(parse(b"GET /x HT"), Ok(None));
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(MAX_HEAD));
        assert_eq!(parse(long.as_bytes()), Err(HeadError::TooLarge));
        assert_eq!(parse(format!("{long}\r\n").as_bytes()), Err(HeadError::TooLarge));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(parse(many.as_bytes()), Err(HeadError::TooLarge));
    }

    #[test]
    fn what_is_refused() {
        for (head, error) in [
            ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Method),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", HeadError::Body),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::Body),
            ("GET / HTTP/1.1\r\n\r\n", HeadError::Malformed),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", HeadError::Malformed),
            ("GET / HTTP/2.0\r\n\r\n", HeadError::Malformed),
            ("\u{16}\u{3}\u{1}TLS hello\r\n\r\n", HeadError::Malformed),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -0\r\n\r\n", HeadError::Body),
        ] {
            assert_eq!(parse(head.as_bytes()), Err(error), "{head:?}");
        }
    }
}
