//! Framing: every cut, every lie that a server can tell about lengths.

use super::*;

fn head(text: &str) -> Result<Option<(Head, usize)>, ProtocolError> {
    Head::parse(text.as_bytes())
}

fn body_of(fields: &str) -> Result<Body, ProtocolError> {
    Ok(head(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"))?.unwrap().0.body)
}

/// Reads a body that comes in parts of `step` bytes; the rest that is not part of it comes back.
fn read(mut body: Body, input: &[u8], step: usize) -> Result<(Vec<u8>, usize), ProtocolError> {
    let (mut data, mut buffer, mut used) = (Vec::new(), Vec::new(), 0);
    for part in input.chunks(step) {
        buffer.extend_from_slice(part);
        loop {
            let n = match body.take(&buffer)? {
                Part::Data(n) => {
                    data.extend_from_slice(&buffer[..n]);
                    n
                }
                Part::Frame(n) => n,
                Part::More | Part::Complete => break,
            };
            assert!(n > 0);
            buffer.drain(..n);
            used += n;
        }
    }
    body.closed()?;
    Ok((data, used))
}

#[test]
fn heads_at_any_cut() {
    let text =
        "HTTP/1.1 302 Found\r\nLOCATION:  /x \r\nContent-type: a/b\r\nContent-Length: 3\r\n\r\nabc";
    let end = text.len() - 3;
    for cut in 0..end {
        assert!(head(&text[..cut]).unwrap().is_none(), "{cut}");
    }
    let (parsed, length) = head(text).unwrap().unwrap();
    assert_eq!((parsed.status, length, parsed.body), (302, end, Body::Length(3)));
    assert_eq!(parsed.location.as_deref(), Some("/x"));
    assert_eq!(parsed.content_type.as_deref(), Some("a/b"));
    let interim = head("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n").unwrap().unwrap().0;
    assert!(interim.is_interim() && interim.body.is_complete());
}

#[test]
fn heads_that_are_none() {
    for bad in
        ["SSH-2.0-x\r\n", "HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "ICY 200 OK\r\n"]
    {
        assert!(matches!(head(bad), Err(ProtocolError::Head(_))), "{bad}");
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS + 1));
    assert!(matches!(head(&many), Err(ProtocolError::Head(httparse::Error::TooManyHeaders))));
    let endless = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(MAX_HEAD));
    assert!(matches!(head(&endless), Err(ProtocolError::LongHead)));
    let long = format!("{endless}\r\n\r\n");
    assert!(matches!(head(&long), Err(ProtocolError::LongHead)));
    assert!(matches!(head("HTTP/1.1 101 x\r\n\r\n"), Err(ProtocolError::Upgrade)));
}

#[test]
fn framing_is_told_from_the_fields() {
    for (fields, body) in [
        ("", Body::UntilClose),
        ("Content-Length: 0\r\n", Body::Length(0)),
        ("Content-Length: 7\r\ncontent-length: 7\r\n", Body::Length(7)),
        ("Content-Length: 7, 7\r\n", Body::Length(7)),
        ("Transfer-Encoding: Chunked\r\nContent-Length: 7\r\n", Body::Chunks(Chunk::Size)),
    ] {
        assert_eq!(body_of(fields).unwrap(), body, "{fields}");
    }
    for bad in
        ["7\r\nContent-Length: 8", "-1", "+1", "0x10", "", "7,", "18446744073709551616", "\u{7c}"]
    {
        let error = body_of(&format!("Content-Length: {bad}\r\n")).unwrap_err();
        assert!(matches!(error, ProtocolError::Length), "{bad}: {error}");
    }
    for bad in ["gzip", "gzip, chunked", "chunked\r\nTransfer-Encoding: chunked", ""] {
        let error = body_of(&format!("Transfer-Encoding: {bad}\r\n")).unwrap_err();
        assert!(matches!(error, ProtocolError::Encoding), "{bad}: {error}");
    }
    let nothing = head("HTTP/1.1 204 x\r\nContent-Length: 9\r\n\r\n").unwrap().unwrap().0;
    assert!(nothing.body.is_complete());
}

#[test]
fn bodies_at_any_cut() {
    let chunks = b"3\r\nhel\r\n2;name=\"v\"\r\nlo\r\n0\r\nTrailer: x\r\n\r\n";
    for step in 1..=chunks.len() {
        let (data, _) = read(Body::Chunks(Chunk::Size), chunks, step).unwrap();
        assert_eq!(data, b"hello", "{step}");
        let (data, used) = read(Body::Length(5), b"hello, and more", step).unwrap();
        assert_eq!((&data[..], used), (&b"hello"[..], 5), "{step}");
        let (data, _) = read(Body::UntilClose, b"hello", step).unwrap();
        assert_eq!(data, b"hello", "{step}");
    }
}

#[test]
fn bodies_that_break_the_rules() {
    let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(MAX_CHUNK_LINE));
    for bad in [
        "x\r\n",
        "\r\n",
        "-1\r\n",
        "10000000000000000\r\n",
        "3\r\nabcd\r\n",
        "3\r\nabc\n0\r\n",
        long.as_str(),
    ] {
        for step in [1, 4, 1000] {
            let error = read(Body::Chunks(Chunk::Size), bad.as_bytes(), step).unwrap_err();
            assert!(matches!(error, ProtocolError::Chunk), "{bad}: {error}");
        }
    }
    for short in ["", "3", "3\r\n", "3\r\nab", "3\r\nabc", "3\r\nabc\r\n", "3\r\nabc\r\n0"] {
        let error = read(Body::Chunks(Chunk::Size), short.as_bytes(), 1).unwrap_err();
        assert!(matches!(error, ProtocolError::Truncated), "{short}: {error}");
    }
    assert!(matches!(read(Body::Length(6), b"hello", 2), Err(ProtocolError::Truncated)));
}
