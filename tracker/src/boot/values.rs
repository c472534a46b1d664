//! Values that end up in an iPXE script. Each type admits only what cannot change the script's meaning.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// Longest further kernel arguments, in bytes; the kernel's whole line is 2 or 4 KiB.
const MAX_ARGS: usize = 1024;

/// Longest host or URL, in bytes.
const MAX_URL: usize = 300;

/// A value that cannot go into a boot script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a plain http URL.
    #[error(
        "expected http://HOST[:PORT][/PATH] without query, spaces or quotes (iPXE and the initrd \
         speak plain http; the content is pinned by its digest)"
    )]
    Url,
    /// Not `HOST` or `HOST:PORT`.
    #[error("expected HOST or HOST:PORT")]
    Host,
    /// Too long for a kernel command line.
    #[error("kernel arguments take at most {MAX_ARGS} bytes, these have {0}")]
    ArgsTooLong(usize),
    /// A character that ends or splits a line of the script.
    #[error("kernel arguments are printable ASCII on one line; {0:?} is not")]
    ArgsCharacter(char),
    /// A word with a meaning of its own in iPXE.
    #[error("{0:?} is a word of the boot script's language, not a kernel argument")]
    ArgsWord(String),
}

/// `host[:port]` as a client sent it in `Host`, or as an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority(String);

impl Authority {
    /// Host without the port; an IPv6 address keeps its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        match self.0.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => host,
            _ => &self.0,
        }
    }

    /// The root of another server on this host.
    #[must_use]
    pub fn base_url(&self, port: u16) -> BaseUrl {
        BaseUrl(format!("http://{}:{port}", self.host()))
    }
}

impl From<SocketAddr> for Authority {
    fn from(addr: SocketAddr) -> Self {
        let ip = addr.ip().to_canonical();
        // A scope belongs to this host and means nothing to another.
        Self(SocketAddr::new(ip, addr.port()).to_string())
    }
}

impl FromStr for Authority {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (text, None),
        };
        let name = |s: &str| {
            s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        };
        let v6 = |s: &str| {
            s.strip_prefix('[')
                .and_then(|s| s.strip_suffix(']'))
                .is_some_and(|s| s.parse::<std::net::Ipv6Addr>().is_ok())
        };
        let host_ok = !host.is_empty() && host.len() <= MAX_URL && (name(host) || v6(host));
        let port_ok = port.is_none_or(|p| p.parse::<u16>().is_ok_and(|p| p != 0));
        if host_ok && port_ok { Ok(Self(text.to_ascii_lowercase())) } else { Err(ValueError::Host) }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An http URL without trailing slash, to which paths are added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(String);

impl From<SocketAddr> for BaseUrl {
    fn from(addr: SocketAddr) -> Self {
        Self(format!("http://{}", Authority::from(addr)))
    }
}

impl FromStr for BaseUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let rest = text.strip_prefix("http://").ok_or(ValueError::Url)?;
        let rest = rest.trim_end_matches('/');
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path_ok = path.len() <= MAX_URL
            && path.bytes().all(|b| {
                b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/' | b'~')
            });
        let authority: Authority = authority.parse().map_err(|_| ValueError::Url)?;
        if !path_ok {
            return Err(ValueError::Url);
        }
        let slash = if path.is_empty() { "" } else { "/" };
        Ok(Self(format!("http://{authority}{slash}{path}")))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Further kernel arguments from the admin. `${…}` is left in: iPXE fills in its settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelArgs(String);

impl FromStr for KernelArgs {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.len() > MAX_ARGS {
            return Err(ValueError::ArgsTooLong(text.len()));
        }
        if let Some(bad) = text.chars().find(|c| !matches!(c, ' '..='~') || *c == '\\') {
            return Err(ValueError::ArgsCharacter(bad));
        }
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let special = |word: &&&str| matches!(**word, "||" | "&&" | ";") || word.starts_with('#');
        match words.iter().find(special) {
            Some(word) => Err(ValueError::ArgsWord((*word).to_owned())),
            None => Ok(Self(words.join(" "))),
        }
    }
}

impl KernelArgs {
    /// Several, one behind the other; for most arguments the last one counts.
    ///
    /// # Errors
    /// [`ValueError::ArgsTooLong`].
    pub fn joined(all: &[&Self]) -> Result<Self, ValueError> {
        let all: Vec<&str> = all.iter().map(|args| args.0.as_str()).collect();
        all.join(" ").parse()
    }
}

impl fmt::Display for KernelArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, host) in [
            ("admin.cluster:6969", "admin.cluster"),
            ("10.0.0.1", "10.0.0.1"),
            ("[fd00::1]:6969", "[fd00::1]"),
            ("[fd00::1]", "[fd00::1]"),
        ] {
            let authority: Authority = text.parse().unwrap();
            assert_eq!((authority.host(), authority.to_string()), (host, text.to_owned()));
        }
        for bad in
            ["", ":1", "a b", "a\nb", "a:0", "a:x", "a/b", "${x}", "[zz]", "a:1:2", "a;b", "é"]
        {
            assert_eq!(bad.parse::<Authority>(), Err(ValueError::Host), "{bad}");
        }
    }

    #[test]
    fn urls() {
        let url: BaseUrl = "http://Admin:8080/boot/".parse().unwrap();
        assert_eq!(url.to_string(), "http://admin:8080/boot");
        assert_eq!("http://a".parse::<BaseUrl>().unwrap().to_string(), "http://a");
        for bad in
            ["", "https://a", "http://", "http://a/b c", "http://a/?q", "http://u@h/", "a:80"]
        {
            assert_eq!(bad.parse::<BaseUrl>(), Err(ValueError::Url), "{bad}");
        }
    }

    #[test]
    fn kernel_arguments_stay_on_their_line() {
        let args: KernelArgs = " console=ttyS0,115200   quiet ip=${net0/ip} ".parse().unwrap();
        assert_eq!(args.to_string(), "console=ttyS0,115200 quiet ip=${net0/ip}");
        for bad in ["a\nshell", "a\rb", "a || shell", "a && b", "a ; b", "#x", "é", "a\\", "\t"] {
            assert!(bad.parse::<KernelArgs>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(1025).parse::<KernelArgs>().is_err());
    }
}
