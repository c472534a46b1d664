//! The part of an `http://` URL that a request needs.

use std::fmt;
use std::net::Ipv6Addr;

use super::HttpError;

/// Where a request goes.
#[derive(Debug, Clone)]
pub(super) struct Target {
    host: String,
    port: u16,
    path: String,
}

fn error(url: &str, reason: &'static str) -> HttpError {
    HttpError::Url { url: url.chars().take(200).collect(), reason }
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, HttpError> {
        let error = |reason| Err(error(url, reason));
        let Some((scheme, rest)) = url.split_once("://") else {
            return error("it is not of the form http://host[:port]/path");
        };
        if scheme.eq_ignore_ascii_case("https") {
            return error("https is not supported; use http, what is fetched is verified anyway");
        }
        if !scheme.eq_ignore_ascii_case("http") {
            return error("it does not start with http://");
        }
        if rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return error("it holds a space or a control character; write it as %20 and the like");
        }
        // a fragment is for browsers
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if authority.contains('@') {
            return error("it holds a user name; names and passwords are not supported");
        }
        // the colons of an IPv6 address are within brackets
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (authority, ""),
        };
        let port = match port {
            "" => 80,
            digits if digits.bytes().all(|c| c.is_ascii_digit()) => match digits.parse() {
                Ok(port) => port,
                Err(_) => return error("its port is larger than 65535"),
            },
            _ => return error("its port is no number"),
        };
        let host = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
            Some(Some(address)) if address.parse::<Ipv6Addr>().is_ok() => address,
            Some(_) => return error("what it has in brackets is no IPv6 address"),
            None if host.is_empty() => return error("it names no host"),
            None if host.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c)) => host,
            None => return error("its host is neither a name nor an address"),
        };
        Ok(Self { host: host.to_owned(), port, path })
    }

    /// The target of a redirect, absolute or relative.
    pub(super) fn join(&self, location: &str) -> Result<Self, HttpError> {
        if location.contains("://") {
            return Self::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("http://{rest}"));
        }
        let folder = self.path.split('?').next().unwrap_or("/");
        let path = match location.strip_prefix('/') {
            Some(absolute) => format!("/{absolute}"),
            None => format!("{}/{location}", folder.rsplit_once('/').map_or("", |(dir, _)| dir)),
        };
        // parsing again keeps what cannot be sent out of the request
        Self::parse(&format!("http://{}{path}", self.authority()))
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// `host:port`, the port left out when it is 80, brackets around IPv6.
    pub(super) fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 80 { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_shows() {
        for (url, host, port, path) in [
            ("http://a.example/x?y=1", "a.example", 80, "/x?y=1"),
            ("http://10.0.0.1:6969/announce", "10.0.0.1", 6969, "/announce"),
            ("http://[fe80::1]:80/", "fe80::1", 80, "/"),
            ("http://h", "h", 80, "/"),
            ("HTTP://h:?q#part", "h", 80, "/?q"),
            ("http://[::1]", "::1", 80, "/"),
            ("http://a_b.c/\u{e9}?u=http://x:1/@", "a_b.c", 80, "/\u{e9}?u=http://x:1/@"),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.host(), target.port(), target.path()), (host, port, path), "{url}");
        }
        for bad in [
            "",
            "ftp://x/",
            "https://x/",
            "http://",
            "http:///x",
            "x",
            "udp://h:1/announce",
            "http://h/a b",
            "http://h/\r\nx: y",
            "http://h/\0",
            "http://h:65536/",
            "http://h:+1/",
            "http://h:x/",
            "http://[::1/",
            "http://::1/",
            "http://[h]/",
            "http://[::1]x/",
            "http://u:p@h/",
            "http://h\u{e9}/",
            "http://:80/",
            "http://h%00/",
        ] {
            assert!(matches!(Target::parse(bad), Err(HttpError::Url { .. })), "{bad}");
        }
    }

    #[test]
    fn joins_redirects() {
        let base = Target::parse("http://h:81/a/b?q").unwrap();
        for (location, result) in [
            ("http://o/x", "http://o/x"),
            ("/x", "http://h:81/x"),
            ("x?z", "http://h:81/a/x?z"),
            ("//o:5/y", "http://o:5/y"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), result);
        }
        for bad in ["https://o/", "/a b", "x\ny", "//", "//u@h/"] {
            assert!(base.join(bad).is_err(), "{bad}");
        }
    }
}
