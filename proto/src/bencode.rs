//! Bencode (BEP 3) as a small borrowed tree, on top of the `bendy` tokeniser.
//!
//! `bendy` enforces canonical form (sorted keys, no leading zeros) and a nesting limit; this module
//! adds a limit on the number of values, so that a short input cannot become a large tree.

use bendy::decoding::{Decoder, Object};

/// Deepest nesting accepted: a torrent needs 5.
const MAX_DEPTH: usize = 16;

/// Most values in one document: a non-compact announce reply of 4,000 peers stays below it.
const MAX_VALUES: usize = 65_536;

/// Why a document was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BencodeError {
    /// Not bencode, or not canonical; the text comes from the tokeniser.
    #[error("not valid bencode: {0}")]
    Syntax(String),
    /// More values than any document of ours has.
    #[error("more than {MAX_VALUES} values in one bencode document")]
    TooManyValues,
    /// Bytes follow the document.
    #[error("{0} bytes follow the end of the bencode document")]
    TrailingBytes(usize),
    /// The document is empty.
    #[error("empty input where a bencode document was expected")]
    Empty,
}

/// One bencode value that borrows its strings from the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// `i42e`; integers outside `i64` are refused.
    Integer(i64),
    /// `4:spam`
    Bytes(&'a [u8]),
    /// `l…e`
    List(Vec<Value<'a>>),
    /// `d…e`, in the order of the input (sorted, as `bendy` checks).
    Dict(Vec<(&'a [u8], Value<'a>)>),
}

impl<'a> Value<'a> {
    /// Parses a whole document.
    ///
    /// # Errors
    /// [`BencodeError`] when the input is no canonical bencode, too large a tree, or has a tail.
    pub fn parse(input: &'a [u8]) -> Result<Self, BencodeError> {
        let (value, used) = Self::parse_prefix(input)?;
        match input.len() - used {
            0 => Ok(value),
            rest => Err(BencodeError::TrailingBytes(rest)),
        }
    }

    /// Parses the document at the start of `input` and says how many bytes it took (the metadata
    /// extension and some trackers append to one).
    ///
    /// # Errors
    /// As [`Value::parse`], without the check for a tail.
    pub fn parse_prefix(input: &'a [u8]) -> Result<(Self, usize), BencodeError> {
        let used = document_length(input)?;
        let mut budget = MAX_VALUES;
        let mut decoder = Decoder::new(&input[..used]).with_max_depth(MAX_DEPTH);
        let object = decoder.next_object().map_err(syntax)?.ok_or(BencodeError::Empty)?;
        Ok((build(object, &mut budget)?, used))
    }

    /// The value of `key` when this is a dictionary that has it.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Value<'a>> {
        match self {
            Value::Dict(pairs) => pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The bytes of a string.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match self {
            Value::Bytes(b) => Some(b),
            _ => None,
        }
    }

    /// The text of a string that is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        self.as_bytes().and_then(|b| std::str::from_utf8(b).ok())
    }

    /// The number of an integer.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Value::Integer(n) => Some(*n),
            _ => None,
        }
    }

    /// The number of an integer that is not negative.
    #[must_use]
    pub fn as_unsigned(&self) -> Option<u64> {
        self.as_integer().and_then(|n| u64::try_from(n).ok())
    }

    /// The items of a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Value<'a>]> {
        match self {
            Value::List(items) => Some(items),
            _ => None,
        }
    }
}

/// The raw bytes of the value of `key` in the dictionary at the start of `input`, exactly as they
/// stand there: the info-hash is taken over these, never over a re-encoding.
///
/// # Errors
/// [`BencodeError`] when `input` is no dictionary in canonical bencode.
pub fn raw_value<'a>(input: &'a [u8], key: &[u8]) -> Result<Option<&'a [u8]>, BencodeError> {
    let mut decoder = Decoder::new(input).with_max_depth(MAX_DEPTH);
    let Some(object) = decoder.next_object().map_err(syntax)? else {
        return Err(BencodeError::Empty);
    };
    let mut dict = object.try_into_dictionary().map_err(syntax)?;
    while let Some((found, value)) = dict.next_pair().map_err(syntax)? {
        if found == key {
            return match value {
                Object::Dict(d) => d.into_raw().map(Some).map_err(syntax),
                Object::List(l) => l.into_raw().map(Some).map_err(syntax),
                Object::Integer(text) => Ok(Some(text.as_bytes())),
                Object::Bytes(b) => Ok(Some(b)),
            };
        }
    }
    Ok(None)
}

fn build<'a>(object: Object<'_, 'a>, budget: &mut usize) -> Result<Value<'a>, BencodeError> {
    *budget = budget.checked_sub(1).ok_or(BencodeError::TooManyValues)?;
    match object {
        Object::Integer(text) => text
            .parse()
            .map(Value::Integer)
            .map_err(|_| BencodeError::Syntax(format!("integer {text:.32} is out of range"))),
        Object::Bytes(bytes) => Ok(Value::Bytes(bytes)),
        Object::List(mut list) => {
            let mut items = Vec::new();
            while let Some(item) = list.next_object().map_err(syntax)? {
                items.push(build(item, budget)?);
            }
            Ok(Value::List(items))
        }
        Object::Dict(mut dict) => {
            let mut pairs = Vec::new();
            while let Some((key, value)) = dict.next_pair().map_err(syntax)? {
                pairs.push((key, build(value, budget)?));
            }
            Ok(Value::Dict(pairs))
        }
    }
}

/// Length in bytes of the document at the start of `input`; checks brackets and string lengths only.
fn document_length(input: &[u8]) -> Result<usize, BencodeError> {
    let cut = || BencodeError::Syntax("the document ends early".into());
    let mut at = 0usize;
    let mut depth = 0usize;
    loop {
        match input.get(at).copied() {
            None if at == 0 => return Err(BencodeError::Empty),
            None => return Err(cut()),
            Some(b'i') => {
                let end = input[at..].iter().take(24).position(|b| *b == b'e').ok_or_else(cut)?;
                at += end + 1;
            }
            Some(b'l' | b'd') => {
                depth += 1;
                at += 1;
                if depth > MAX_DEPTH {
                    return Err(BencodeError::Syntax(format!("nested deeper than {MAX_DEPTH}")));
                }
                continue;
            }
            Some(b'e') if depth > 0 => {
                depth -= 1;
                at += 1;
            }
            Some(b'0'..=b'9') => {
                let colon = input[at..].iter().take(12).position(|b| *b == b':').ok_or_else(cut)?;
                let length: usize = std::str::from_utf8(&input[at..at + colon])
                    .ok()
                    .and_then(|text| text.parse().ok())
                    .ok_or_else(|| BencodeError::Syntax("bad string length".into()))?;
                let end = (at + colon + 1).checked_add(length).ok_or_else(cut)?;
                if end > input.len() {
                    return Err(cut());
                }
                at = end;
            }
            Some(other) => {
                return Err(BencodeError::Syntax(format!("unexpected byte 0x{other:02x} at {at}")));
            }
        }
        if depth == 0 {
            return Ok(at);
        }
    }
}

fn syntax(error: bendy::decoding::Error) -> BencodeError {
    BencodeError::Syntax(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_kind() {
        let value = Value::parse(b"d4:listli1ei-2ee4:spam3:egge").unwrap();
        assert_eq!(value.get(b"spam").and_then(Value::as_str), Some("egg"));
        let list = value.get(b"list").and_then(Value::as_list).unwrap();
        assert_eq!(list, [Value::Integer(1), Value::Integer(-2)]);
        assert_eq!(list[1].as_unsigned(), None);
    }

    #[test]
    fn refuses_what_is_not_canonical() {
        for bad in [
            &b""[..],
            b"i01e",
            b"i-0e",
            b"d1:b0:1:a0:e",
            b"4:spa",
            b"l",
            b"e",
            b"i1",
            b"hello",
            b"99999999999999999999:x",
            b"i99999999999999999999999e",
            b"i1ei2e",
            b"<html>",
        ] {
            assert!(Value::parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn bounds_depth_and_size() {
        assert!(Value::parse(&b"l".repeat(100_000)).is_err());
        let mut many = b"l".to_vec();
        many.extend(b"i0e".repeat(MAX_VALUES + 1));
        many.push(b'e');
        assert_eq!(Value::parse(&many), Err(BencodeError::TooManyValues));
    }

    #[test]
    fn raw_value_keeps_the_bytes() {
        let doc = b"d1:ai1e4:infod1:xi7ee1:z0:e";
        assert_eq!(raw_value(doc, b"info").unwrap(), Some(&b"d1:xi7ee"[..]));
        assert_eq!(raw_value(doc, b"none").unwrap(), None);
        assert!(raw_value(b"i1e", b"info").is_err());
    }

    #[test]
    fn prefix_says_what_it_used() {
        assert_eq!(Value::parse_prefix(b"i7etail").unwrap(), (Value::Integer(7), 3));
    }
}
