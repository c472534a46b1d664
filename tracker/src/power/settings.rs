//! The section `[reimage]` of the configuration file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::ipmi::Ipmi;
use super::redfish::{Certificates, Redfish};
use super::template::Template;
use crate::error::ConfigError;

/// How nodes are rebooted.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum By {
    Command,
    Ipmi,
    Redfish,
}

/// The section as it is written. Times are in seconds. In texts `{name}`, `{mac}`, `{address}` and `{bmc}` (of the
/// inventory) stand for what is known of the node. `{address}` is where the last event came from, which anybody may
/// have sent: an IP address, and no more can be said of it. No controller can be named by it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// `"command"`, `"ipmi"` or `"redfish"`.
    power: By,
    /// Nodes that are rebooted (and audited) at one time. Default 16.
    at_once: Option<usize>,
    /// Time for one power action. Default 60.
    timeout_secs: Option<u64>,
    /// A program and its arguments, which reboots a node.
    command: Option<Vec<Template>>,
    /// A program and its arguments, which ends with status 0 when a node that came up is sound; or `"event"`:
    /// the node says so itself, by an event `audit`. Default: none.
    audit: Option<AuditFile>,
    /// Time for that. Default 600.
    audit_timeout_secs: Option<u64>,
    ipmi: Option<IpmiFile>,
    redfish: Option<RedfishFile>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum AuditFile {
    Word(String),
    Program(Vec<String>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct IpmiFile {
    /// Where the controller is. Default `"{bmc}"`.
    host: Option<Template>,
    /// Default 623.
    port: Option<u16>,
    /// Default `"lanplus"`.
    interface: Option<String>,
    user: String,
    /// File with the password, 0600.
    password_file: PathBuf,
    /// Default `"ipmitool"`.
    program: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RedfishFile {
    /// Where the controller is. Default `"https://{bmc}"`.
    url: Option<Template>,
    /// Path of the node in there. Default: the only one that `/redfish/v1/Systems` has.
    system: Option<Template>,
    user: String,
    /// File with the password, 0600.
    password_file: PathBuf,
    /// `ResetType` for a node that is on. Default `"ForceRestart"`.
    reset: Option<String>,
    /// File with the certificates (PEM) that controllers' own are signed by, or are.
    ca: Option<PathBuf>,
    /// Takes any certificate: who is between can read the password. Default false.
    #[serde(default)]
    any_certificate: bool,
}

/// What to do.
#[derive(Debug, Clone)]
pub(super) enum Method {
    Command(Vec<Template>),
    Ipmi(Ipmi),
    Redfish(Arc<Redfish>),
}

/// Who says that a node that came up is sound.
#[derive(Debug, Clone)]
pub(super) enum Audit {
    Nobody,
    Program(Vec<Template>),
    /// The node itself.
    Event,
}

/// The section, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) method: Method,
    pub(super) at_once: usize,
    pub(super) timeout: Duration,
    pub(super) audit: Audit,
    pub(super) audit_timeout: Duration,
}

impl File {
    /// # Errors
    /// When something is missing, or a file cannot be read.
    pub(crate) fn check(self) -> Result<Settings, ConfigError> {
        let missing = |what: &str| ConfigError::Setting(format!("[reimage] needs {what}"));
        let method = match self.power {
            By::Command => Method::Command(
                self.command
                    .filter(|words| !words.is_empty())
                    .ok_or_else(|| missing("command = [\"program\", \"argument\"]"))?,
            ),
            By::Ipmi => Method::Ipmi(self.ipmi.ok_or_else(|| missing("[reimage.ipmi]"))?.check()?),
            By::Redfish => {
                let redfish = self.redfish.ok_or_else(|| missing("[reimage.redfish]"))?;
                Method::Redfish(Arc::new(redfish.check()?))
            }
        };
        let at_once = self.at_once.unwrap_or(16);
        let seconds = [self.timeout_secs.unwrap_or(60), self.audit_timeout_secs.unwrap_or(600)];
        if at_once == 0 || seconds.contains(&0) {
            return Err(ConfigError::Setting("[reimage]: no number in it can be 0".to_owned()));
        }
        let [timeout, audit_timeout] = seconds.map(Duration::from_secs);
        let audit = self.audit.map_or(Ok(Audit::Nobody), AuditFile::check)?;
        Ok(Settings { method, at_once, timeout, audit, audit_timeout })
    }
}

impl AuditFile {
    fn check(self) -> Result<Audit, ConfigError> {
        match self {
            Self::Program(words) if words.is_empty() => Ok(Audit::Nobody),
            Self::Program(words) => {
                let words = words.iter().map(|word| template(word));
                words.collect::<Result<_, _>>().map(Audit::Program)
            }
            Self::Word(word) if word == "event" => Ok(Audit::Event),
            Self::Word(word) => Err(ConfigError::Setting(format!(
                "[reimage] audit is a program, like [\"program\", \"{{name}}\"], or \"event\"; not {word:?}"
            ))),
        }
    }
}

fn template(text: &str) -> Result<Template, ConfigError> {
    Template::try_from(text.to_owned()).map_err(|e| ConfigError::Setting(e.to_string()))
}

fn readable(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|error| {
        ConfigError::Setting(format!("[reimage] cannot read {}: {error}", path.display()))
    })
}

impl IpmiFile {
    fn check(self) -> Result<Ipmi, ConfigError> {
        readable(&self.password_file)?;
        Ok(Ipmi {
            program: self.program.unwrap_or_else(|| "ipmitool".into()),
            host: self
                .host
                .map_or_else(|| template("{bmc}"), Ok)?
                .controller("[reimage.ipmi] host")?,
            port: self.port.unwrap_or(623),
            interface: self.interface.unwrap_or_else(|| "lanplus".to_owned()),
            user: self.user,
            password_file: self.password_file,
        })
    }
}

impl RedfishFile {
    fn check(self) -> Result<Redfish, ConfigError> {
        let password = readable(&self.password_file)?;
        let certificates = match (self.ca, self.any_certificate) {
            (Some(_), true) => {
                let message = "[reimage.redfish]: ca and any_certificate exclude each other";
                return Err(ConfigError::Setting(message.to_owned()));
            }
            (Some(path), false) => Certificates::read(&path, &readable(&path)?)?,
            (None, true) => Certificates::Any,
            (None, false) => Certificates::None,
        };
        Ok(Redfish {
            url: self
                .url
                .map_or_else(|| template("https://{bmc}"), Ok)?
                .controller("[reimage.redfish] url")?,
            system: self.system,
            user: self.user,
            password: password.trim_end_matches(['\r', '\n']).to_owned(),
            reset: self.reset.unwrap_or_else(|| "ForceRestart".to_owned()),
            certificates,
        })
    }
}
