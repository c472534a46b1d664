//! Why a tracker could not be asked, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use rustls::{AlertDescription, CertificateError};
use ureq::Timeout;

/// Why a tracker could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Not a URL of a tracker.
    #[error(
        "{0:?} is not the URL of a tracker; it looks like http://HOST:6969, or https://HOST:PORT for the port of [tls]"
    )]
    Url(String),
    /// Certificates, but no TLS.
    #[error(
        "--ca, --cert and --key are for TLS, and {0} would be asked over plain HTTP: write https:// before the host \
         and the port of [tls], or leave them out"
    )]
    NotForPlain(String),
    /// Nobody said whom to believe.
    #[error(
        "https:// needs the certificate of the authority that signed the tracker's: name it with --ca FILE \
         ({0} is not on this host)"
    )]
    NoAuthority(&'static str),
    /// A file that was named.
    #[error("cannot read {option} {}: it must be there, and readable for who runs this", path.display())]
    Read {
        /// What named it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file with something else in it.
    #[error("{option} {} {reason}", path.display())]
    Unusable {
        /// What named it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers there.
    #[error("no tracker at {at} (is bee-tracker running there? are host and port right?)")]
    Connect {
        /// Host and port.
        at: String,
        /// What the system says.
        source: io::Error,
    },
    /// It takes too long.
    #[error(
        "the tracker at {at} does not {what} in time (is bee-tracker running there? is the port right?)"
    )]
    Slow {
        /// Host and port.
        at: String,
        /// What it does not.
        what: &'static str,
    },
    /// It is not the tracker that is meant, as far as certificates tell.
    #[error("the tracker at {at} is not believed: its certificate {reason}")]
    Certificate {
        /// Host and port.
        at: String,
        /// What is wrong with its certificate, and what to do.
        reason: String,
    },
    /// It does not believe us.
    #[error("the tracker at {at} does not take the certificate {} ({reason:?}): {OWN}", cert.display())]
    Refused {
        /// Host and port.
        at: String,
        /// Our certificate.
        cert: PathBuf,
        /// What it says.
        reason: AlertDescription,
    },
    /// It hangs up on who shows a certificate.
    #[error(
        "the connection to {at} broke, as it does when the tracker does not take the certificate {} ({reason}): {OWN}",
        cert.display()
    )]
    HungUp {
        /// Host and port.
        at: String,
        /// Our certificate.
        cert: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// TLS fails in another way.
    #[error("what listens at {at} does not speak TLS as a tracker does: {reason}{}", hint.unwrap_or_default())]
    Tls {
        /// Host and port.
        at: String,
        /// What went wrong.
        reason: String,
        /// What to do.
        hint: Option<&'static str>,
    },
    /// What answers is not HTTP, or stopped in the middle.
    #[error("what listens at {at} does not answer as a tracker: {reason}{}", hint.unwrap_or_default())]
    Exchange {
        /// Host and port.
        at: String,
        /// What went wrong.
        reason: String,
        /// What to do.
        hint: Option<&'static str>,
    },
    /// It refuses.
    #[error("the tracker at {at} answers {status}: {message}")]
    Status {
        /// Host and port.
        at: String,
        /// Of the answer.
        status: u16,
        /// The reason that it gives.
        message: String,
    },
    /// More than there can be.
    #[error("the answer of {at} is larger than {limit} bytes: is that a bee-tracker?")]
    TooLarge {
        /// Host and port.
        at: String,
        /// Bytes allowed.
        limit: u64,
    },
}

/// What a certificate of our own needs.
const OWN: &str = "it must be signed by client_ca in the tracker's [tls] and not be expired; without --cert and \
                   --key, --token-file gives orders";

/// For plain HTTP where it is not understood.
const TRY_TLS: &str = "; if that is the port of [tls], write https:// before the host";

/// For TLS where it is not understood.
const TRY_PLAIN: &str =
    "; if that is the port for plain HTTP, write http://, or name the port of [tls]";

/// Who is asked, and what was to prove who is who.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) at: String,
    /// With TLS, the authorities that are believed.
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
}

impl Peer {
    /// What an error of the HTTP library means here.
    pub(super) fn explain(&self, error: ureq::Error) -> AskError {
        let at = self.at.clone();
        match error {
            ureq::Error::HostNotFound => {
                let source = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                AskError::Connect { at, source }
            }
            ureq::Error::Timeout(at_step) => {
                let what = match at_step {
                    Timeout::Resolve | Timeout::Connect => "accept a connection",
                    _ => "answer",
                };
                AskError::Slow { at, what }
            }
            ureq::Error::BodyExceedsLimit(limit) => AskError::TooLarge { at, limit },
            ureq::Error::Rustls(error) => self.of_tls(&error),
            ureq::Error::Io(error) => {
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
                match inner {
                    Some(error) => self.of_tls(error),
                    None => self.of_the_connection(error),
                }
            }
            other => self.exchange(other.to_string()),
        }
    }

    fn exchange(&self, reason: String) -> AskError {
        let hint = self.ca.is_none().then_some(TRY_TLS);
        AskError::Exchange { at: self.at.clone(), reason, hint }
    }

    fn of_the_connection(&self, error: io::Error) -> AskError {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let at = self.at.clone();
        if !matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
        {
            return AskError::Connect { at, source: error };
        }
        match (&self.ca, &self.cert) {
            // with TLS 1.3 we are refused after the handshake; the reason may be lost with the connection
            (Some(_), Some(cert)) => {
                AskError::HungUp { at, cert: cert.clone(), reason: error.to_string() }
            }
            (Some(_), None) => {
                AskError::Tls { at, reason: error.to_string(), hint: Some(TRY_PLAIN) }
            }
            (None, _) => self.exchange(error.to_string()),
        }
    }

    fn of_tls(&self, error: &rustls::Error) -> AskError {
        use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
        let at = self.at.clone();
        let tls = |hint| AskError::Tls { at: at.clone(), reason: error.to_string(), hint };
        match (error, &self.cert) {
            (InvalidCertificate(problem), _) => {
                let ca = self.ca.as_deref().unwrap_or(Path::new(""));
                AskError::Certificate { reason: problem_of(problem, ca), at }
            }
            (AlertReceived(alert), Some(cert)) if concerns_us(*alert) => {
                AskError::Refused { at, cert: cert.clone(), reason: *alert }
            }
            // its first bytes are no record of TLS
            (InvalidMessage(_), _) => tls(Some(TRY_PLAIN)),
            _ => tls(None),
        }
    }
}

/// Alerts about the certificate of who receives them.
fn concerns_us(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::UnknownCA
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::CertificateRequired
            | A::AccessDenied
            | A::DecryptError
    )
}

fn problem_of(problem: &CertificateError, ca: &Path) -> String {
    use CertificateError as C;
    let clock = "the tracker needs a new one, or a clock is wrong";
    match problem {
        // an authority of the same name, but with another key, is another authority
        C::UnknownIssuer | C::BadSignature => format!(
            "is not signed by an authority in {}: name the file of the right one with --ca",
            ca.display()
        ),
        C::NotValidForName => "is for another host: use the name in it in the URL".to_owned(),
        C::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            let names = if names.is_empty() { "no host".into() } else { names.join(", ") };
            format!(
                "is for {names}, not for {}: write a name that it has in the URL, or make one with \
                 subjectAltName for this name",
                expected.to_str()
            )
        }
        C::Expired => format!("has expired: {clock}"),
        C::ExpiredContext { time, not_after } => {
            let hours = time.as_secs().saturating_sub(not_after.as_secs()) / 3600;
            format!("has expired {} ago: {clock}", span(hours))
        }
        C::NotValidYet => format!("is not valid yet: {clock}"),
        C::NotValidYetContext { time, not_before } => {
            let hours = not_before.as_secs().saturating_sub(time.as_secs()) / 3600;
            format!("is valid in {} only: {clock}", span(hours))
        }
        // what `openssl req -x509` makes by itself
        other if other.to_string().contains("CaUsedAsEndEntity") => {
            "is that of an authority itself: let that authority sign one for the tracker (openssl x509 -req -CA …)"
                .to_owned()
        }
        other => format!("cannot be used: {other}"),
    }
}

fn span(hours: u64) -> String {
    if hours < 48 { format!("{hours} h") } else { format!("{} days", hours / 24) }
}

/// `x` of rustls' `DnsName("x")` or `IpAddress(x)`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner);
    inner.trim_end_matches(')').trim_matches('"')
}
