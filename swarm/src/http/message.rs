//! HTTP/1.1 messages as bytes: the request's head, the answer's head and the framing of its body
//! (RFC 9112). No I/O here: what a server sends is cut in every way it can be by the tests.

use std::fmt::Write as _;

use httparse::Status;

/// Longest head of an answer, interim answers before it included, in bytes.
pub(super) const MAX_HEAD: usize = 16 * 1024;
/// Most header fields in it.
const MAX_FIELDS: usize = 64;
/// Longest line that gives the length of a chunk, in bytes; its extensions count.
const MAX_CHUNK_LINE: usize = 256;

/// How an answer breaks HTTP/1.1.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The head is not one of HTTP/1.
    #[error("the head of the answer is malformed: {0}")]
    Head(httparse::Error),
    /// The head does not end.
    #[error("the head of the answer is longer than {MAX_HEAD} bytes")]
    LongHead,
    /// The server changes to another protocol, which nobody asked for.
    #[error("the server changes the protocol unasked")]
    Upgrade,
    /// `Content-Length` is no number, or there are several that differ.
    #[error("the length of the answer is malformed")]
    Length,
    /// `Transfer-Encoding` is not `chunked`.
    #[error("the answer comes in a transfer encoding other than chunked")]
    Encoding,
    /// A chunk has no length, or does not end where it should.
    #[error("a chunk of the answer is malformed")]
    Chunk,
    /// The connection is closed before the answer ends.
    #[error("the connection ends before the answer does")]
    Truncated,
}

/// The head of a request, with the empty line after it.
pub(super) struct RequestHead(String);

impl RequestHead {
    /// `method` and `path` are without spaces and line ends.
    pub(super) fn new(method: &str, path: &str) -> Self {
        Self(format!("{method} {path} HTTP/1.1\r\n"))
    }

    /// Adds a field; `value` is without line ends.
    pub(super) fn field(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        // writing to a string does not fail
        let _ = write!(self.0, "{name}: {value}\r\n");
        self
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.push_str("\r\n");
        self.0.into_bytes()
    }
}

/// The head of an answer: what is of use here.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    /// `Location`, where it is text.
    pub(super) location: Option<String>,
    /// `Content-Type`, where it is text.
    pub(super) content_type: Option<String>,
    pub(super) body: Body,
}

impl Head {
    /// Parses the head at the start of `bytes`, and says how long it is; `None` when more bytes
    /// are needed.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, ProtocolError> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut fields);
        let length = match parsed.parse(bytes).map_err(ProtocolError::Head)? {
            Status::Complete(length) if length <= MAX_HEAD => length,
            Status::Partial if bytes.len() < MAX_HEAD => return Ok(None),
            _ => return Err(ProtocolError::LongHead),
        };
        // a complete answer has a status
        let status = parsed.code.unwrap_or_default();
        let values = |name: &'static str| {
            let named = parsed.headers.iter().filter(move |f| f.name.eq_ignore_ascii_case(name));
            named.map(|field| std::str::from_utf8(field.value).unwrap_or("?").trim())
        };
        let text = |name| values(name).next().map(str::to_owned);
        let body = match status {
            101 => return Err(ProtocolError::Upgrade),
            // these have no body, whatever the fields say
            100..=199 | 204 | 304 => Body::Length(0),
            _ => Body::framing(values("transfer-encoding"), values("content-length"))?,
        };
        let (location, content_type) = (text("location"), text("content-type"));
        Ok(Some((Self { status, location, content_type, body }, length)))
    }

    /// Whether the real answer comes after this one.
    pub(super) fn is_interim(&self) -> bool {
        self.status < 200
    }
}

/// What is still to come of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunks(Chunk),
    /// All until the server closes the connection.
    UntilClose,
}

/// Where in a chunked body the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    /// In the line with the length.
    Size,
    /// In the data, of which this many bytes are missing.
    Data(u64),
    /// In the line end after the data.
    End,
    /// After the last chunk. Trailer fields are of no use, and the connection is not used again.
    Last,
}

impl Body {
    fn framing<'a>(
        encodings: impl Iterator<Item = &'a str>,
        lengths: impl Iterator<Item = &'a str>,
    ) -> Result<Self, ProtocolError> {
        let mut body = None;
        // a transfer encoding overrides a length
        for encoding in encodings {
            if body.is_some() || !encoding.eq_ignore_ascii_case("chunked") {
                return Err(ProtocolError::Encoding);
            }
            body = Some(Self::Chunks(Chunk::Size));
        }
        if let Some(body) = body {
            return Ok(body);
        }
        // some proxies join repeated fields with commas
        for length in lengths.flat_map(|value| value.split(',')).map(str::trim) {
            if length.is_empty() || !length.bytes().all(|c| c.is_ascii_digit()) {
                return Err(ProtocolError::Length);
            }
            let length = Self::Length(length.parse().map_err(|_| ProtocolError::Length)?);
            if body.is_some_and(|earlier| earlier != length) {
                return Err(ProtocolError::Length);
            }
            body = Some(length);
        }
        Ok(body.unwrap_or(Self::UntilClose))
    }

    /// Bytes the body has at least.
    pub(super) fn at_least(&self) -> u64 {
        match self {
            Self::Length(left) | Self::Chunks(Chunk::Data(left)) => *left,
            Self::Chunks(_) | Self::UntilClose => 0,
        }
    }

    /// Whether all of it has come.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunks(Chunk::Last))
    }

    /// Takes in the end of the connection.
    pub(super) fn closed(&self) -> Result<(), ProtocolError> {
        match self {
            Self::UntilClose => Ok(()),
            _ if self.is_complete() => Ok(()),
            _ => Err(ProtocolError::Truncated),
        }
    }

    /// What is at the front of `input`.
    pub(super) fn take(&mut self, input: &[u8]) -> Result<Part, ProtocolError> {
        if self.is_complete() {
            return Ok(Part::Complete);
        }
        if input.is_empty() {
            return Ok(Part::More);
        }
        match self {
            Self::UntilClose => Ok(Part::Data(input.len())),
            Self::Length(left) => Ok(data(left, input)),
            Self::Chunks(chunk) => chunk.take(input),
        }
    }
}

/// What is at the front of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// This many bytes of data, at least one.
    Data(usize),
    /// This many bytes that only frame the data.
    Frame(usize),
    /// Too few bytes to tell.
    More,
    /// Nothing of the body any more.
    Complete,
}

/// As much of the `left` bytes of data as there is in `input`.
fn data(left: &mut u64, input: &[u8]) -> Part {
    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    *left -= n as u64;
    Part::Data(n)
}

impl Chunk {
    fn take(&mut self, input: &[u8]) -> Result<Part, ProtocolError> {
        match self {
            // the parser takes a line without a number for the last chunk
            Self::Size if !input.first().is_some_and(u8::is_ascii_hexdigit) => {
                Err(ProtocolError::Chunk)
            }
            Self::Size => match httparse::parse_chunk_size(input) {
                Ok(Status::Complete((used, size))) if used <= MAX_CHUNK_LINE => {
                    *self = if size == 0 { Self::Last } else { Self::Data(size) };
                    Ok(Part::Frame(used))
                }
                Ok(Status::Partial) if input.len() < MAX_CHUNK_LINE => Ok(Part::More),
                Ok(_) | Err(_) => Err(ProtocolError::Chunk),
            },
            Self::Data(left) => {
                let part = data(left, input);
                if *left == 0 {
                    *self = Self::End;
                }
                Ok(part)
            }
            Self::End => match input {
                [b'\r', b'\n', ..] => {
                    *self = Self::Size;
                    Ok(Part::Frame(2))
                }
                [] | [b'\r'] => Ok(Part::More),
                _ => Err(ProtocolError::Chunk),
            },
            Self::Last => Ok(Part::Complete),
        }
    }
}

#[cfg(test)]
mod tests;
