//! Redfish (DMTF DSP0266): a node's power by HTTP requests to its management controller.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

use super::Subject;
use super::template::Template;
use crate::error::ConfigError;

/// Largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// Where the list of systems is.
const SYSTEMS: &str = "/redfish/v1/Systems";

/// The action that changes a system's power.
const RESET: &str = "#ComputerSystem.Reset";

/// Whom to believe.
#[derive(Clone)]
pub(super) enum Certificates {
    /// Nobody: only `http://` will do.
    None,
    /// Who is signed by one of these, or is one of them.
    These(Arc<Vec<Certificate<'static>>>),
    /// Everybody.
    Any,
}

impl Certificates {
    pub(super) fn read(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let certificate = |item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        };
        let found: Vec<_> = ureq::tls::parse_pem(text.as_bytes()).filter_map(certificate).collect();
        if found.is_empty() {
            let message = format!("[reimage.redfish]: {} has no certificate (PEM)", path.display());
            return Err(ConfigError::Setting(message));
        }
        Ok(Self::These(Arc::new(found)))
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::These(_) => "These(…)",
            Self::Any => "Any",
        })
    }
}

/// How to reach management controllers.
#[derive(Clone)]
pub(super) struct Redfish {
    pub(super) url: Template,
    pub(super) system: Option<Template>,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) reset: String,
    pub(super) certificates: Certificates,
}

impl std::fmt::Debug for Redfish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redfish").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Redfish {
    pub(super) async fn reboot(
        self: &Arc<Self>,
        subject: &Subject,
        limit: Duration,
    ) -> Result<(), String> {
        let base = self.url.fill_controller(subject)?.trim_end_matches('/').to_owned();
        let system = self.system.as_ref().map(|path| path.fill(subject)).transpose()?;
        let this = self.clone();
        // ureq waits on its thread; each request has the limit
        let asked = tokio::task::spawn_blocking(move || {
            let agent = this.agent(limit);
            Session { redfish: &this, agent, base }.reboot(system)
        });
        asked.await.map_err(|error| error.to_string())?
    }

    fn agent(&self, limit: Duration) -> ureq::Agent {
        let roots = match &self.certificates {
            Certificates::These(certificates) => RootCerts::Specific(certificates.clone()),
            Certificates::None | Certificates::Any => RootCerts::Specific(Arc::default()),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .root_certs(roots)
            .disable_verification(matches!(self.certificates, Certificates::Any))
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(limit))
            .tls_config(tls)
            .http_status_as_error(false)
            // a password is not carried on to where a redirect points
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("bee-tracker/", env!("CARGO_PKG_VERSION")))
            .build();
        config.into()
    }

    fn authorization(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password)))
    }
}

/// Requests to one controller.
struct Session<'a> {
    redfish: &'a Redfish,
    agent: ureq::Agent,
    base: String,
}

impl Session<'_> {
    fn reboot(&self, system: Option<String>) -> Result<(), String> {
        let path = match system {
            Some(path) => path,
            None => self.only_system()?,
        };
        let system = self.get(&path)?;
        let action = &system["Actions"][RESET];
        let target = action["target"].as_str();
        let target = target.ok_or_else(|| format!("{path} has no action {RESET}"))?;
        let wanted = match system["PowerState"].as_str() {
            Some("Off") => "On",
            _ => self.redfish.reset.as_str(),
        };
        let allowed = action["ResetType@Redfish.AllowableValues"].as_array();
        if let Some(allowed) = allowed
            && !allowed.iter().any(|value| value == wanted)
        {
            let values: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
            return Err(format!(
                "{path} does not know ResetType {wanted}; set reset to one of {}",
                values.join(", ")
            ));
        }
        let url = self.url(target)?;
        let body = json!({ "ResetType": wanted }).to_string();
        let request = self
            .agent
            .post(&url)
            .header("Authorization", self.redfish.authorization())
            .header("Content-Type", "application/json");
        let answer = request.send(body.as_bytes());
        self.read(&url, answer).map(drop)
    }

    fn only_system(&self) -> Result<String, String> {
        let list = self.get(SYSTEMS)?;
        let members = list["Members"].as_array().map(Vec::as_slice).unwrap_or_default();
        match members {
            [one] => one["@odata.id"]
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| format!("{SYSTEMS} names a system without a path")),
            several => Err(format!(
                "{SYSTEMS} has {} systems: set system in [reimage.redfish]",
                several.len()
            )),
        }
    }

    fn get(&self, path: &str) -> Result<Value, String> {
        let url = self.url(path)?;
        let request = self
            .agent
            .get(&url)
            .header("Authorization", self.redfish.authorization())
            .header("Accept", "application/json");
        let body = self.read(&url, request.call())?;
        serde_json::from_slice(&body).map_err(|error| format!("{url} is no JSON: {error}"))
    }

    /// A path of the controller; one that leads elsewhere would get its password.
    fn url(&self, path: &str) -> Result<String, String> {
        if !path.starts_with('/') || path.starts_with("//") || path.contains(char::is_whitespace) {
            return Err(format!("{path:?} is no path of {}", self.base));
        }
        Ok(format!("{}{path}", self.base))
    }

    fn read(
        &self,
        url: &str,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Vec<u8>, String> {
        let mut answer = answer.map_err(|error| format!("{url}: {error}"))?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
        let body = body.map_err(|error| format!("{url}: {error}"))?;
        if status.is_success() {
            return Ok(body);
        }
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        let said = said["error"]["message"].as_str().unwrap_or("no message");
        Err(format!("{url} answers with status {status}: {said:.200}"))
    }
}
