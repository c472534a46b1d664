//! Finding the torrent that `root=` names, and asking again until there is one.

use std::path::PathBuf;

use proto::event::{EventKind, Stall, StallCause};
use proto::kernel_args::Source;
use proto::manifest::{ArtefactKind, MAX_MANIFEST_LEN};
use proto::metainfo::MAX_TORRENT_LEN;
use proto::signature::{MAX_SIGNATURE_LEN, SIGNATURE_SUFFIX};
use swarm::http::{self, HttpError, Limits, Response};
use tokio::time::Duration;

use crate::narrator::{Narrator, text};
use crate::network;
use crate::resolver;
use crate::retry::Pauses;
use crate::trust::{self, Demands, Patience, TrustError, Trusted};

/// Answers that do not fit together are asked for again so many times: a few seconds in all.
const MISFITS: u32 = 5;

/// Where the state of the network is read from.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// `/sys/class/net`
    pub net: PathBuf,
    /// What name servers are written to and read from by networkd, if that is wanted:
    /// `/etc/resolv.conf` and `/run/systemd/netif/state`.
    pub resolver: Option<(PathBuf, PathBuf)>,
}

/// A cause that trying again does not mend.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// The torrent in the file system cannot be read.
    #[error("cannot read the torrent {}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The URL is none.
    #[error("cannot fetch the torrent")]
    Url(#[source] HttpError),
    /// It is not what is demanded.
    #[error("{from} is refused")]
    Refused {
        /// URL or path.
        from: String,
        /// Why.
        #[source]
        source: TrustError,
    },
}

/// One attempt's failure.
enum Failure {
    Final(DiscoverError),
    Http(HttpError),
    Content { from: String, source: TrustError },
}

/// Brings in the torrent and holds it against `demands`. Returns when it has one, or when the cause of
/// failure is not the network.
///
/// # Errors
/// [`DiscoverError`].
pub async fn discover(
    source: &Source,
    demands: &Demands,
    surroundings: &Surroundings,
    narrator: &mut Narrator,
) -> Result<Trusted, DiscoverError> {
    narrator.tell(EventKind::Discover { source: name(source).to_owned() });
    let mut pauses = Pauses::new(seed(surroundings));
    let mut misfits = 0;
    loop {
        if let Some(stall) = no_name_server(source, surroundings) {
            let cause = narrator.stall(stall);
            tokio::time::sleep(pauses.after(cause)).await;
            continue;
        }
        let failure = match attempt(source, demands).await {
            Ok(trusted) => return Ok(trusted),
            Err(failure) => failure,
        };
        let stall = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Content { from, source } => {
                let patience = source.patience();
                misfits += u32::from(patience == Patience::Short);
                if patience == Patience::None || misfits >= MISFITS {
                    return Err(DiscoverError::Refused { from, source });
                }
                let detail = format!("{from}: {}", chain(&source));
                Stall { cause: StallCause::SourceUnreachable, detail }
            }
            Failure::Http(error) => classify(&error),
        };
        let cause = narrator.stall(stall);
        tokio::time::sleep(pauses.after(cause)).await;
    }
}

/// Takes over networkd's name servers. The stall when a name must be resolved and there is no
/// server to ask yet.
fn no_name_server(source: &Source, surroundings: &Surroundings) -> Option<Stall> {
    let (resolv_conf, state) = surroundings.resolver.as_ref()?;
    // a file that cannot be written is noticed below
    let _ = resolver::fill_in(resolv_conf, state);
    if !resolver::needs_name_server(name(source)) || resolver::knows_server(resolv_conf) {
        return None;
    }
    let detail =
        format!("no name server yet to look up the host of {}; does DHCP give one?", name(source));
    Some(Stall { cause: StallCause::NoAddress, detail })
}

/// URL or path that a source names.
#[must_use]
pub fn name(source: &Source) -> &str {
    match source {
        Source::Manifest(url) | Source::Torrent(url) => url,
        Source::BakedTorrent(path) => path,
    }
}

async fn attempt(source: &Source, demands: &Demands) -> Result<Trusted, Failure> {
    let refused = |from: &str| {
        let from = from.to_owned();
        move |source| Failure::Content { from, source }
    };
    match source {
        Source::BakedTorrent(path) => {
            let path = PathBuf::from(path);
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                Err(source) => return Err(Failure::Final(DiscoverError::Read { path, source })),
            };
            trust::torrent(bytes, None, demands).map_err(|source| {
                // a file does not become better by waiting
                let from = path.display().to_string();
                Failure::Final(DiscoverError::Refused { from, source })
            })
        }
        Source::Torrent(url) => {
            let response = get(url, MAX_TORRENT_LEN).await?;
            trust::torrent(response.body, None, demands).map_err(refused(url))
        }
        Source::Manifest(url) => {
            let response = get(url, MAX_MANIFEST_LEN).await?;
            let signature = match &demands.policy {
                Some(_) => signature(&response.url).await?,
                None => None,
            };
            let found = trust::manifest(&response.body, signature.as_deref(), demands);
            let found = found.map_err(refused(url))?;
            // the URL that answered: a channel may redirect to the revision it stands for
            let folder = response.url.rsplit_once('/').map_or("", |(folder, _)| folder);
            let torrent_url = format!("{folder}/{}", ArtefactKind::Torrent.file_name());
            let response = get(&torrent_url, MAX_TORRENT_LEN).await?;
            let mut trusted = trust::torrent(response.body, Some(found), demands)
                .map_err(refused(&torrent_url))?;
            // The image lies beside its manifest, so its server is a web seed (BEP 19) that nobody
            // has to configure. The engine asks it only while peers bring nothing.
            trusted.metainfo.web_seeds.push(format!("{folder}/"));
            Ok(trusted)
        }
    }
}

/// The signature beside a manifest; `None` when the server says that there is none.
async fn signature(manifest: &str) -> Result<Option<Vec<u8>>, Failure> {
    match get(&format!("{manifest}{SIGNATURE_SUFFIX}"), MAX_SIGNATURE_LEN).await {
        Ok(response) => Ok(Some(response.body)),
        Err(Failure::Http(HttpError::Status { status: 404 | 410, .. })) => Ok(None),
        Err(failure) => Err(failure),
    }
}

async fn get(url: &str, max_body: usize) -> Result<Response, Failure> {
    let limits = Limits {
        max_body: u64::try_from(max_body).unwrap_or(u64::MAX),
        total: Duration::from_secs(300),
        ..Limits::default()
    };
    http::get(url, limits).await.map_err(|error| match error {
        HttpError::Url { url: ref bad, .. } if url.starts_with(bad.as_str()) => {
            Failure::Final(DiscoverError::Url(error))
        }
        error => Failure::Http(error),
    })
}

/// What kind of trouble an HTTP error is, as far as it shows that: [`network::blame`] knows more.
fn classify(error: &HttpError) -> Stall {
    let cause = match error {
        HttpError::Dns { .. } | HttpError::Timeout { what: "resolve", .. } => {
            StallCause::NameResolution
        }
        HttpError::Connect { source, .. } => match source.kind() {
            std::io::ErrorKind::NetworkUnreachable | std::io::ErrorKind::AddrNotAvailable => {
                StallCause::NoAddress
            }
            std::io::ErrorKind::HostUnreachable => StallCause::NoRoute,
            _ => StallCause::SourceUnreachable,
        },
        _ => StallCause::SourceUnreachable,
    };
    let what = if cause == StallCause::NoAddress { "no address or no route yet: " } else { "" };
    Stall { cause, detail: format!("{what}{}{}", chain(error), text::remedy(cause)) }
}

/// An error with all its causes in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// Differs between nodes, so that they do not ask in step.
fn seed(surroundings: &Surroundings) -> u64 {
    let mac = network::node_id(&network::cards(&surroundings.net)).map_or([0; 6], |node| node.0);
    mac.iter().fold(u64::from(std::process::id()), |seed, byte| {
        seed.wrapping_mul(257).wrapping_add(u64::from(*byte))
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn connect(code: i32) -> HttpError {
        HttpError::Connect {
            host: "h:80".into(),
            address: "10.0.0.1:80".parse().unwrap(),
            source: io::Error::from_raw_os_error(code),
        }
    }

    #[test]
    fn a_name_is_not_looked_up_without_a_server() {
        let dir = tempfile::tempdir().unwrap();
        let (conf, state) = (dir.path().join("resolv.conf"), dir.path().join("state"));
        let net = dir.path().join("net/eth0");
        std::fs::create_dir_all(&net).unwrap();
        std::fs::write(net.join("type"), "1\n").unwrap();
        std::fs::write(net.join("carrier"), "1\n").unwrap();
        let surroundings = Surroundings {
            net: dir.path().join("net"),
            resolver: Some((conf.clone(), state.clone())),
        };
        let named = Source::Torrent("http://admin.lab/x.torrent".into());
        let stall = no_name_server(&named, &surroundings).unwrap();
        assert!(stall.detail.contains("admin.lab"), "{stall:?}");
        let numeric = Source::Torrent("http://10.0.0.1/x.torrent".into());
        assert_eq!(no_name_server(&numeric, &surroundings), None);
        std::fs::write(&state, "DNS=10.0.0.1\n").unwrap();
        assert_eq!(no_name_server(&named, &surroundings), None);
        assert!(resolver::knows_server(&conf));
    }

    #[test]
    fn causes() {
        for (error, cause) in [
            (connect(101), StallCause::NoAddress),         // ENETUNREACH
            (connect(113), StallCause::NoRoute),           // EHOSTUNREACH
            (connect(111), StallCause::SourceUnreachable), // ECONNREFUSED
            (
                HttpError::Dns { host: "h".into(), source: io::Error::other("no") },
                StallCause::NameResolution,
            ),
            (
                HttpError::Timeout {
                    host: "h".into(),
                    what: "resolve",
                    after: Duration::from_secs(5),
                },
                StallCause::NameResolution,
            ),
            (
                HttpError::Status { url: "u".into(), status: 404, body: vec![] },
                StallCause::SourceUnreachable,
            ),
        ] {
            let stall = classify(&error);
            assert_eq!(stall.cause, cause, "{stall:?}");
            assert!(!stall.detail.is_empty());
        }
        let text = classify(&connect(111)).detail;
        assert!(text.contains("10.0.0.1:80") && text.contains("refused"), "{text}");
    }
}
