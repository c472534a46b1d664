//! Rebooting nodes: by a program, by IPMI, or by Redfish.
//!
//! What is called, and with which secrets, is in the tracker's own configuration file. An order that comes over
//! HTTP names nodes only; what it says of them goes into single arguments, never through a shell. Where a password
//! goes, the settings and the inventory say alone: neither the order's names nor the addresses that nodes are heard
//! from, which are those of whoever sent the last event.

mod ipmi;
mod program;
mod redfish;
mod settings;
mod template;

use std::net::IpAddr;
use std::time::Duration;

use proto::node_id::NodeId;

use crate::inventory::Bmc;
use program::Program;
use settings::{Audit, Method};
pub use settings::{File, Settings};

/// A power action is tried so often.
const TRIES: u32 = 3;

/// Pause before the next try.
const PAUSE: Duration = Duration::from_secs(2);

/// A node, as power actions and audits see it.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) name: String,
    /// Whether the inventory has it; otherwise the name is the order's.
    pub(crate) listed: bool,
    pub(crate) mac: NodeId,
    /// Where it was last heard.
    pub(crate) address: Option<IpAddr>,
    pub(crate) bmc: Option<Bmc>,
}

/// Who says that a node that came up is sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Auditor {
    /// Nobody is asked.
    Nobody,
    /// A program on this host.
    Program,
    /// The node itself, by an event, within this time.
    Event(Duration),
}

/// Reboots and audits.
#[derive(Debug)]
pub(crate) struct Power(Settings);

impl Power {
    pub(crate) fn new(settings: Settings) -> Self {
        Self(settings)
    }

    /// Actions at one time.
    pub(crate) fn at_once(&self) -> usize {
        self.0.at_once
    }

    /// Who audits.
    pub(crate) fn auditor(&self) -> Auditor {
        match self.0.audit {
            Audit::Nobody => Auditor::Nobody,
            Audit::Program(_) => Auditor::Program,
            Audit::Event => Auditor::Event(self.0.audit_timeout),
        }
    }

    /// Restarts a node; switches it on when it is off.
    pub(crate) async fn reboot(&self, subject: &Subject) -> Result<(), String> {
        let mut last = String::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let limit = self.0.timeout;
            let result = match &self.0.method {
                Method::Command(words) => match template::fill_all(words, subject) {
                    // it will be as wrong the next time
                    Err(error) => return Err(error),
                    Ok(words) => Program::new(&words)?.run(limit).await.map(drop),
                },
                Method::Ipmi(ipmi) => ipmi.reboot(subject, limit).await,
                Method::Redfish(redfish) => redfish.reboot(subject, limit).await,
            };
            match result {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::warn!(node = subject.name, attempt, error, "not rebooted");
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// Whether a node that came up is sound, as the program says.
    pub(crate) async fn audit(&self, subject: &Subject) -> Result<(), String> {
        let Audit::Program(words) = &self.0.audit else { return Ok(()) };
        let words = template::fill_all(words, subject)?;
        Program::new(&words)?.run(self.0.audit_timeout).await.map(drop)
    }
}
