//! The secrets gate: what is packed is handed to every node, and by every node to whoever asks.
//!
//! So an image holds no private key, no password and no password hash, unless the admin says for
//! each that it may. CVE-2023-27486 is such a key: xCAT gave root's to every node.
//!
//! A file is told by what it is called, where programs keep their secrets in fixed places, and by
//! what is in it, for the kinds that say what they are. It looks at what really goes into the image,
//! after overlays and excludes, and names everything that it finds. It cannot find what looks like
//! nothing: a password in a script, a key inside an archive.

mod content;
mod login;
mod openpgp;
mod paths;
mod pem;
mod scan;

use serde::Serialize;

pub(crate) use scan::scan;

/// What kind of secret was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// `/etc/ssh/ssh_host_*_key` and dropbear's.
    SshHostKey,
    /// OpenSSH, ssh.com 1 and PuTTY.
    SshKey,
    /// PKCS#1, PKCS#8, SEC 1, PKCS#12; as PEM or DER.
    PrivateKey,
    /// OpenPGP.
    PgpKey,
    /// `AGE-SECRET-KEY-1…`.
    AgeKey,
    /// minisign, signify, and our own.
    SigningKey,
    /// In shadow, gshadow, passwd, kickstart files, debconf.
    PasswordHash,
    /// A secret access key.
    AwsCredentials,
    /// A service account or a refresh token.
    GcpCredentials,
    /// A storage account's key, or a token cache.
    AzureCredentials,
    /// kubeconfig, k3s and RKE2 tokens.
    KubernetesCredentials,
    /// Of docker, podman, skopeo.
    RegistryCredentials,
    /// Wi-Fi and VPN passwords: NetworkManager, wpa_supplicant, iwd, netplan.
    NetworkPassword,
    /// A private or preshared key of WireGuard.
    WireguardKey,
    /// Kerberos.
    Keytab,
    /// munge, slurm, ceph, BeeGFS: who has it is a member of the cluster.
    ClusterKey,
    /// .netrc, .pgpass, .my.cnf, apt, LDAP, IPsec, Samba, …
    Password,
    /// Keys that a system makes for itself: systemd's credential secret, NetworkManager's, rndc's.
    SystemKey,
}

impl Kind {
    /// For people.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::SshHostKey => "SSH host key",
            Self::SshKey => "SSH private key",
            Self::PrivateKey => "private key",
            Self::PgpKey => "OpenPGP secret key",
            Self::AgeKey => "age secret key",
            Self::SigningKey => "minisign or signify secret key",
            Self::PasswordHash => "password hash",
            Self::AwsCredentials => "AWS credentials",
            Self::GcpCredentials => "Google Cloud credentials",
            Self::AzureCredentials => "Azure credentials",
            Self::KubernetesCredentials => "Kubernetes credentials",
            Self::RegistryCredentials => "container registry credentials",
            Self::NetworkPassword => "network password",
            Self::WireguardKey => "WireGuard key",
            Self::Keytab => "Kerberos keytab",
            Self::ClusterKey => "shared key of a cluster service",
            Self::Password => "password",
            Self::SystemKey => "secret of one system",
        }
    }
}

/// One secret in the image or the initrd.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Absolute, seen from the node; `initrd:/…` when it lies in the initrd.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// The value for `--allow-secret` that allows this path and no other.
    pub allow: String,
}

impl Finding {
    /// The flag that allows it, for a shell.
    #[must_use]
    pub fn flag(&self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=".contains(c);
        if self.allow.chars().all(plain) {
            format!("--allow-secret {}", self.allow)
        } else {
            format!("--allow-secret '{}'", self.allow.replace('\'', r"'\''"))
        }
    }
}

/// The findings as the lines of an error message.
pub(crate) fn list(findings: &[Finding]) -> String {
    let line = |f: &Finding| format!("    {}: {}\n        {}", f.path, f.kind.describe(), f.flag());
    findings.iter().map(line).collect::<Vec<_>>().join("\n")
}
