//! The part of an `http://` URL that a request needs.

use std::fmt;

use hyper::Uri;

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
        let uri: Uri =
            url.parse().map_err(|_| error(url, "it is not of the form http://host[:port]/path"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(error(
                    url,
                    "https is not supported; use http, what is fetched is verified anyway",
                ));
            }
            _ => return Err(error(url, "it does not start with http://")),
        }
        let host =
            uri.host().filter(|h| !h.is_empty()).ok_or_else(|| error(url, "it names no host"))?;
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: uri.port_u16().unwrap_or(80),
            path,
        })
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

    pub(super) fn error(&self, reason: &'static str) -> HttpError {
        error(&self.to_string(), reason)
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
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.host(), target.port(), target.path()), (host, port, path), "{url}");
        }
        for bad in ["", "ftp://x/", "https://x/", "http://", "http:///x", "x", "udp://h:1/announce"]
        {
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
        assert!(base.join("https://o/").is_err());
    }
}
