//! Announces on a connection of their own, as our nodes send them, without the general server.
//!
//! What an announce costs is mostly the connection around it. When its whole request has come in one piece,
//! as it does, and asks for the connection's end, the answer is written and the connection closed, without
//! state of a server, timers or a task for it. Only what is written like that in every byte is taken;
//! everything else, also what is wrong, goes to the general server with all that was read, so that there
//! is one place that knows HTTP.

use std::cell::RefCell;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use super::announce::answer_announce;
use crate::announce::Ends;
use crate::app::App;

/// Header fields that say nothing but what is known here. One with another name may ask for something.
const PLAIN: [&str; 5] = ["host", "connection", "user-agent", "accept", "accept-encoding"];

/// Head and body of the answer to `request`; `None`: it is for the general server.
pub(crate) fn answer(app: &App, ends: Ends, request: &[u8]) -> Option<Vec<u8>> {
    let query = query(request)?;
    // the general server finds the same, and says it
    if !app.rates.take(ends.peer.ip(), std::time::Instant::now()) {
        return None;
    }
    let mut body = Vec::with_capacity(512);
    answer_announce(app, ends, query, &mut body);
    app.metrics.response(200);
    let mut out = Vec::with_capacity(256 + body.len());
    // writing to memory cannot fail
    let _ = write!(
        out,
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\ncontent-length: {}\r\nconnection: close\r\ndate: ",
        body.len()
    );
    date(&mut out);
    out.extend(b"\r\n\r\n");
    out.extend(body);
    Some(out)
}

/// The query of an announce that is the whole of `request`, and the last on its connection.
fn query(request: &[u8]) -> Option<&str> {
    let head = request.strip_prefix(b"GET /announce?")?.strip_suffix(b"\r\n\r\n")?;
    let (line, fields) = std::str::from_utf8(head).ok()?.split_once("\r\n")?;
    let query = line.strip_suffix(" HTTP/1.1")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"%&=.-_~+:,!*'()".contains(&byte);
    if !query.bytes().all(plain) {
        return None;
    }
    let mut closes = false;
    for field in fields.split("\r\n") {
        let (name, value) = field.split_once(':')?;
        let known = PLAIN.iter().find(|known| name.eq_ignore_ascii_case(known))?;
        if !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return None;
        }
        closes |= *known == "connection" && value.trim_matches(' ').eq_ignore_ascii_case("close");
    }
    closes.then_some(query)
}

/// Appends the time, as HTTP writes it.
fn date(out: &mut Vec<u8>) {
    thread_local! {
        static TOLD: RefCell<(Duration, String)> = const { RefCell::new((Duration::MAX, String::new())) };
    }
    let now = SystemTime::now();
    let second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    TOLD.with_borrow_mut(|(told, text)| {
        if told.as_secs() != second {
            (*told, *text) = (Duration::from_secs(second), httpdate::fmt_http_date(now));
        }
        out.extend(text.bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_plain_announce_that_ends_its_connection_is_taken() {
        let taken = |text: &str| query(text.as_bytes()).map(str::to_owned);
        let head = |fields: &str| format!("GET /announce?a=%01&b=c HTTP/1.1\r\n{fields}\r\n");
        let plain = head("Host: a:1\r\nconnection:  Close \r\nUser-Agent: x/1 (y)\r\n");
        assert_eq!(taken(&plain).as_deref(), Some("a=%01&b=c"));
        let others = [
            // keeps its connection, or says two things about it
            head("Host: a\r\n"),
            head("Connection: keep-alive\r\n"),
            head("Connection: close, x\r\n"),
            // has a body, or may have
            head("Connection: close\r\nContent-Length: 1\r\n"),
            head("Connection: close\r\nTransfer-Encoding: chunked\r\n"),
            head("Connection: close\r\nExpect: 100-continue\r\n"),
            // is not all, or more
            plain.trim_end().to_owned(),
            plain[..plain.len() - 1].to_owned(),
            format!("{plain}GET / HTTP/1.1\r\n\r\n"),
            format!("x{plain}"),
            // is written as nobody writes it
            head("Connection : close\r\n"),
            head("Connection: close\r\n folded\r\n"),
            head("Connection: close\r\nHost: a\tb\r\n"),
            head("Connection: close\r\nHost: a\nb\r\n"),
            head("Connection: close\r\nno field\r\n"),
            plain.replace("HTTP/1.1", "HTTP/1.0"),
            plain.replace("HTTP/1.1", " HTTP/1.1"),
            plain.replace("b=c", "b=c#d"),
            plain.replace("b=c", "b=ü"),
            plain.replace("GET", "POST"),
            plain.replace("announce?", "announce/?"),
            String::new(),
            "GET /announce?\r\n\r\n".to_owned(),
        ];
        for other in others {
            assert_eq!(taken(&other), None, "{other:?}");
        }
    }
}
