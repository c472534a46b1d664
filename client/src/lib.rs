//! Requests to the API of a tracker, over HTTP or HTTPS: what `bee-tracker nodes` and `bee-packer` share.
//!
//! A crate of its own, since the packer does not depend on the tracker, and what both depend on is also in the
//! initrd, where TLS has no place.

use std::time::Duration;

use serde_json::Value;
use ureq::http::uri::Uri;
use ureq::http::{Response, header};

mod error;
mod tls;

pub use error::AskError;
use error::Peer;
pub use tls::TlsArgs;

/// Longest time to find the host, and to connect to it.
const CONNECT: Duration = Duration::from_secs(5);

/// Longest time until an answer begins.
const PATIENCE: Duration = Duration::from_secs(10);

/// For everything together.
const TOTAL: Duration = Duration::from_secs(30);

/// Most bytes read of an answer that tells why there is none.
const MAX_REASON: u64 = 4096;

/// Most characters shown of it.
const SHOWN_REASON: usize = 400;

/// Asks one tracker.
#[derive(Debug)]
pub struct Client {
    agent: ureq::Agent,
    origin: String,
    peer: Peer,
    token: Option<String>,
}

impl Client {
    /// Of the tracker at `http://HOST`, `https://HOST` or `HOST`, each with `:PORT` or without: plain HTTP is at
    /// `plain_port` then, HTTPS at 443. The token goes with orders.
    ///
    /// # Errors
    /// [`AskError`] of the URL and of the files.
    pub fn new(
        url: &str,
        plain_port: u16,
        tls: &TlsArgs,
        token: Option<String>,
    ) -> Result<Self, AskError> {
        let (scheme, at) = origin(url, plain_port).ok_or_else(|| AskError::Url(url.to_owned()))?;
        let mut config = ureq::Agent::config_builder()
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_global(Some(TOTAL))
            .http_status_as_error(false)
            // a tracker sends nobody on, and an order is for this one
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("beeswarm/", env!("CARGO_PKG_VERSION")));
        let ca = if scheme == "https" {
            let (ca, settings) = tls.read()?;
            config = config.tls_config(settings);
            Some(ca)
        } else if tls.is_given() {
            return Err(AskError::NotForPlain(at));
        } else {
            None
        };
        let peer = Peer { at: at.clone(), ca, cert: tls.cert.clone() };
        Ok(Self { agent: config.build().into(), origin: format!("{scheme}://{at}"), peer, token })
    }

    /// What a path answers with, `max` bytes at most: to a question, or to an order in JSON.
    ///
    /// # Errors
    /// [`AskError`] with the cause and what to do.
    pub fn send(&self, path: &str, order: Option<&[u8]>, max: u64) -> Result<Vec<u8>, AskError> {
        let url = format!("{}{path}", self.origin);
        let answer = match order {
            None => self.agent.get(url).header(header::CONNECTION, "close").call(),
            Some(body) => {
                let mut request = self
                    .agent
                    .post(url)
                    .header(header::CONNECTION, "close")
                    .header(header::CONTENT_TYPE, "application/json");
                if let Some(token) = &self.token {
                    request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
                }
                request.send(body)
            }
        };
        let mut answer = answer.map_err(|error| self.peer.explain(error))?;
        let status = answer.status();
        if !status.is_success() {
            let message = reason(&mut answer);
            return Err(AskError::Status {
                at: self.peer.at.clone(),
                status: status.as_u16(),
                message,
            });
        }
        let body = answer.body_mut().with_config().limit(max).read_to_vec();
        body.map_err(|error| self.peer.explain(error))
    }
}

/// Scheme, and host and port, of a URL that has nothing else.
fn origin(url: &str, plain_port: u16) -> Option<(&'static str, String)> {
    let whole = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let uri: Uri = whole.trim_end_matches('/').parse().ok()?;
    let (scheme, port) = match uri.scheme_str()? {
        "http" => ("http", plain_port),
        "https" => ("https", 443),
        _ => return None,
    };
    let authority = uri.authority()?;
    let host = authority.host();
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() || host.is_empty() {
        return None;
    }
    // a user's name would stand before the host; `port_u16` says nothing of a port that is none
    let port = match authority.as_str().strip_prefix(host)?.trim_matches(':') {
        "" => port,
        digits => digits.parse().ok()?,
    };
    Some((scheme, format!("{host}:{port}")))
}

/// Why it refuses, as the tracker says it in JSON, or the first line of what something else says.
fn reason(answer: &mut Response<ureq::Body>) -> String {
    if answer.status().is_redirection()
        && let Some(to) = answer.headers().get(header::LOCATION)
    {
        return format!("it sends on to {to:?}: give that tracker's URL");
    }
    let body = answer.body_mut().with_config().limit(MAX_REASON).read_to_vec();
    let body = body.unwrap_or_default();
    let json: Option<Value> = serde_json::from_slice(&body).ok();
    let text = json.as_ref().and_then(|json| json["error"].as_str()).map(str::to_owned);
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
    text.lines().next().unwrap_or_default().chars().take(SHOWN_REASON).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn client(url: &str, tls: &TlsArgs) -> Result<Client, AskError> {
        Client::new(url, 6969, tls, None)
    }

    #[test]
    fn a_url_is_a_scheme_a_host_and_a_port() {
        let none = TlsArgs::default();
        for (url, origin) in [
            ("http://h:81", "http://h:81"),
            ("HTTP://h/", "http://h:6969"),
            ("h:81", "http://h:81"),
            ("h", "http://h:6969"),
            ("[::1]:81", "http://[::1]:81"),
            ("http://[fd00::1]", "http://[fd00::1]:6969"),
        ] {
            assert_eq!(client(url, &none).unwrap().origin, origin, "{url}");
        }
        for url in [
            "",
            "http://",
            "ftp://h",
            "http://h/announce",
            "h?x=1",
            "http://u:p@h",
            "h:x",
            "h:65536",
            "a b",
        ] {
            assert!(matches!(client(url, &none), Err(AskError::Url(_))), "{url}");
        }
    }

    #[test]
    fn certificates_do_not_go_unnoticed_with_a_plain_url() {
        let tls = TlsArgs { ca: Some(PathBuf::from("/no/such/ca.pem")), ..TlsArgs::default() };
        let plain = client("h:81", &tls).unwrap_err().to_string();
        assert!(plain.contains("write https://"), "{plain}");
        let secure = client("https://h", &tls).unwrap_err().to_string();
        assert!(secure.contains("cannot read --ca /no/such/ca.pem"), "{secure}");
    }
}
