//! Secrets by the place where programs keep them.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::Kind;
use super::login::{has_hash, has_lines, has_value, has_word_pair};

/// Whether the file holds it; gets its first bytes, at most [`super::scan::MOST`].
type Check = fn(&[u8]) -> bool;

/// Where, what, and whether it is there.
const RULES: [(&str, Kind, Check); 63] = [
    ("etc/ssh/ssh_host_*_key", Kind::SshHostKey, not_empty),
    ("etc/dropbear/*_host_key", Kind::SshHostKey, not_empty),
    ("**/private-keys-v1.d/*.key", Kind::PgpKey, not_empty),
    ("**/secring.gpg", Kind::PgpKey, not_empty),
    ("etc/ssl/private/*", Kind::PrivateKey, not_empty),
    ("etc/pki/tls/private/*", Kind::PrivateKey, not_empty),
    ("**/*.{p12,pfx}", Kind::PrivateKey, not_empty),
    ("etc/{shadow,gshadow,shadow-,gshadow-}", Kind::PasswordHash, has_hash),
    ("etc/{passwd,passwd-,group,group-}", Kind::PasswordHash, has_hash),
    ("etc/security/opasswd", Kind::PasswordHash, opasswd),
    ("root/*ks.cfg", Kind::PasswordHash, kickstart),
    ("var/cache/debconf/passwords.dat*", Kind::Password, debconf),
    ("**/*.keytab", Kind::Keytab, keytab),
    ("etc/munge/munge.key*", Kind::ClusterKey, not_empty),
    ("etc/slurm*/*.key", Kind::ClusterKey, not_empty),
    ("var/spool/slurm*/*.key", Kind::ClusterKey, not_empty),
    ("etc/ceph/*.keyring", Kind::ClusterKey, |t| has_value(t, &["key"])),
    ("etc/beegfs/*{auth,key}*file", Kind::ClusterKey, not_empty),
    ("etc/beegfs/conn.auth", Kind::ClusterKey, not_empty),
    ("etc/corosync/authkey", Kind::ClusterKey, not_empty),
    ("etc/wireguard/*", Kind::WireguardKey, wireguard),
    ("etc/NetworkManager/system-connections/*", Kind::NetworkPassword, network_manager),
    ("usr/lib/NetworkManager/system-connections/*", Kind::NetworkPassword, network_manager),
    ("etc/wpa_supplicant/*.conf", Kind::NetworkPassword, wpa_supplicant),
    ("etc/wpa_supplicant.conf", Kind::NetworkPassword, wpa_supplicant),
    ("var/lib/iwd/*", Kind::NetworkPassword, |t| has_value(t, &["passphrase", "presharedkey"])),
    ("etc/netplan/*.yaml", Kind::NetworkPassword, |t| has_value(t, &["password", "psk"])),
    ("etc/hostapd/*.conf", Kind::NetworkPassword, |t| has_value(t, &["wpa_passphrase", "wpa_psk"])),
    ("**/.aws/credentials", Kind::AwsCredentials, |t| has_value(t, &["aws_secret_access_key"])),
    ("**/.config/gcloud/{credentials,access_tokens}.db", Kind::GcpCredentials, not_empty),
    ("**/application_default_credentials.json", Kind::GcpCredentials, |t| {
        has(t, b"\"refresh_token\"") || has(t, b"\"private_key\"")
    }),
    ("**/.boto", Kind::GcpCredentials, |t| has_value(t, &["gs_oauth2_refresh_token"])),
    ("**/.azure/{accessTokens.json,msal_token_cache.*}", Kind::AzureCredentials, not_empty),
    ("**/.azure/service_principal_entries.*", Kind::AzureCredentials, not_empty),
    ("**/.kube/config", Kind::KubernetesCredentials, kubeconfig),
    ("etc/kubernetes/*.conf", Kind::KubernetesCredentials, kubeconfig),
    ("etc/kubernetes/bootstrap-kubelet.conf", Kind::KubernetesCredentials, kubeconfig),
    ("var/lib/kubelet/*kubeconfig", Kind::KubernetesCredentials, kubeconfig),
    ("etc/rancher/*/*.yaml", Kind::KubernetesCredentials, kubeconfig),
    ("var/lib/rancher/*/{server,agent}/*token", Kind::KubernetesCredentials, not_empty),
    ("**/.docker/config.json", Kind::RegistryCredentials, registry),
    ("**/.dockercfg", Kind::RegistryCredentials, registry),
    ("**/containers/auth.json", Kind::RegistryCredentials, registry),
    ("**/{.netrc,_netrc}", Kind::Password, |t| has_word_pair(t, "password")),
    ("etc/apt/{auth.conf,auth.conf.d/*}", Kind::Password, |t| has_word_pair(t, "password")),
    ("**/.pgpass", Kind::Password, has_lines),
    ("**/{.my.cnf,.mylogin.cnf}", Kind::Password, |t| {
        has_value(t, &["password"]) || (!t.is_empty() && t.contains(&0))
    }),
    ("etc/mysql/debian.cnf", Kind::Password, |t| has_value(t, &["password"])),
    ("**/.git-credentials", Kind::Password, |t| has(t, b"://")),
    ("**/.npmrc", Kind::Password, |t| has(t, b":_authToken=") || has(t, b":_password=")),
    ("**/.pypirc", Kind::Password, |t| has_value(t, &["password"])),
    ("**/.vault-token", Kind::Password, not_empty),
    ("**/.smbcredentials", Kind::Password, |t| has_value(t, &["password"])),
    ("etc/{libnss-ldap,pam_ldap,ldap}.secret", Kind::Password, not_empty),
    ("etc/{nslcd,ldap,nss_ldap,pam_ldap}.conf", Kind::Password, |t| has_value(t, &["bindpw"])),
    ("etc/sssd/{sssd.conf,conf.d/*.conf}", Kind::Password, |t| {
        has_value(t, &["ldap_default_authtok"])
    }),
    ("etc/{ipsec.secrets,ipsec.d/*.secrets}", Kind::Password, |t| has(t, b"PSK") && has_lines(t)),
    ("var/lib/samba/private/secrets.tdb", Kind::Password, not_empty),
    ("var/lib/systemd/credential.secret", Kind::SystemKey, not_empty),
    ("var/lib/NetworkManager/secret_key", Kind::SystemKey, not_empty),
    ("etc/rndc.key", Kind::SystemKey, |t| has(t, b"secret")),
    ("etc/{bind,named}/*.key", Kind::SystemKey, |t| has(t, b"secret")),
    ("**/{crypto_keyfile.bin,*.luks.key}", Kind::SystemKey, not_empty),
];

/// The rules, ready to be asked.
#[derive(Debug)]
pub(super) struct Places(GlobSet);

impl Places {
    /// Compiles the rules.
    ///
    /// # Errors
    /// None in practice: the rules are fixed, and a test compiles them.
    pub(super) fn new() -> Result<Self, globset::Error> {
        let mut set = GlobSetBuilder::new();
        for (pattern, _, _) in RULES {
            set.add(GlobBuilder::new(pattern).literal_separator(true).build()?);
        }
        Ok(Self(set.build()?))
    }

    /// The rules for a file, whose path is relative to the root.
    pub(super) fn rules(&self, path: &std::ffi::OsStr) -> Vec<(Kind, Check)> {
        let found = self.0.matches(path);
        found.into_iter().filter_map(|at| RULES.get(at)).map(|(_, k, c)| (*k, *c)).collect()
    }
}

fn not_empty(text: &[u8]) -> bool {
    !text.trim_ascii().is_empty()
}

fn has(text: &[u8], word: &[u8]) -> bool {
    memchr::memmem::find(text, word).is_some()
}

/// MIT's format, version 1 or 2, with at least one entry.
fn keytab(bytes: &[u8]) -> bool {
    matches!(bytes, [5, 1 | 2, _, ..])
}

fn wireguard(text: &[u8]) -> bool {
    let alone = text.trim_ascii();
    has_value(text, &["privatekey", "presharedkey"])
        || (alone.len() == 44 && alone.ends_with(b"=") && !alone.contains(&b' '))
}

fn network_manager(text: &[u8]) -> bool {
    let keys = [
        "psk",
        "password",
        "leap-password",
        "private-key-password",
        "phase2-private-key-password",
        "wep-key0",
        "private-key-data",
        "secret",
        "pin",
    ];
    has_value(text, &keys) || has_value(text, &["private-key", "preshared-key"])
}

fn wpa_supplicant(text: &[u8]) -> bool {
    has_value(text, &["psk", "password", "sae_password", "wep_key0", "private_key_passwd"])
}

fn kubeconfig(text: &[u8]) -> bool {
    let keys = ["token", "- token", "password", "client-key-data", "agent-token", "refresh-token"];
    has_value(text, &keys)
}

fn registry(text: &[u8]) -> bool {
    let strings = ["\"auth\"", "\"identitytoken\"", "\"password\""];
    strings.iter().any(|word| {
        memchr::memmem::find_iter(text, word.as_bytes()).any(|at| {
            let rest = text[at + word.len()..].trim_ascii_start();
            let rest = rest.strip_prefix(b":").unwrap_or_default().trim_ascii_start();
            matches!(rest, [b'"', second, ..] if *second != b'"')
        })
    })
}

/// pam_pwhistory's: `user:uid:count:hash,hash`.
fn opasswd(text: &[u8]) -> bool {
    has(text, b"$")
}

/// What anaconda leaves behind of an installation.
fn kickstart(text: &[u8]) -> bool {
    has(text, b"--iscrypted $") || has(text, b"--plaintext ") || has(text, b"--password=")
}

/// debconf keeps what an installer asked for until it is used.
fn debconf(text: &[u8]) -> bool {
    has_value(text, &["value"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(path: &str, text: &[u8]) -> Vec<Kind> {
        let rules = Places::new().unwrap().rules(path.as_ref());
        rules.into_iter().filter(|(_, check)| check(text)).map(|(kind, _)| kind).collect()
    }

    #[test]
    fn places_with_a_secret_in_them() {
        for (path, text, kind) in [
            ("etc/ssh/ssh_host_ed25519_key", &b"x"[..], Kind::SshHostKey),
            ("etc/shadow-", b"root:$6$salt$012345678:1::", Kind::PasswordHash),
            ("etc/passwd", b"root:ab01FAX.bQRSU:0:0::/root:/bin/sh", Kind::PasswordHash),
            ("root/anaconda-ks.cfg", b"rootpw --iscrypted $6$salt$x", Kind::PasswordHash),
            ("var/cache/debconf/passwords.dat", b"Name: x\nValue: geheim\n", Kind::Password),
            ("etc/krb5.keytab", b"\x05\x02\0\0\0\x3c", Kind::Keytab),
            ("srv/http.keytab", b"\x05\x02\0\0\0\x3c", Kind::Keytab),
            ("etc/munge/munge.key", b"\x07\xff", Kind::ClusterKey),
            ("etc/slurm/jwt_hs256.key", b"x", Kind::ClusterKey),
            ("etc/ceph/ceph.client.admin.keyring", b"[client]\n\tkey = AQ==\n", Kind::ClusterKey),
            (
                "etc/wireguard/wg0.key",
                b"Ab3/Ab3/Ab3/Ab3/Ab3/Ab3/Ab3/Ab3/Ab3/Ab3/Ab3=\n",
                Kind::WireguardKey,
            ),
            (
                "etc/NetworkManager/system-connections/w.nmconnection",
                b"[wifi-security]\npsk=geheim\n",
                Kind::NetworkPassword,
            ),
            (
                "etc/wpa_supplicant/wpa_supplicant.conf",
                b"network={\n  psk=\"geheim\"\n}",
                Kind::NetworkPassword,
            ),
            ("etc/netplan/50-x.yaml", b"      password: \"geheim\"\n", Kind::NetworkPassword),
            ("home/me/.aws/credentials", b"aws_secret_access_key = x", Kind::AwsCredentials),
            ("root/.config/gcloud/credentials.db", b"SQLite", Kind::GcpCredentials),
            ("root/.azure/msal_token_cache.json", b"{}", Kind::AzureCredentials),
            (
                "root/.kube/config",
                b"users:\n- user:\n    token: abc\n",
                Kind::KubernetesCredentials,
            ),
            ("var/lib/rancher/k3s/server/node-token", b"K10", Kind::KubernetesCredentials),
            (
                "root/.docker/config.json",
                b"{\"auths\":{\"r\":{\"auth\":\"dTpw\"}}}",
                Kind::RegistryCredentials,
            ),
            ("root/.netrc", b"machine h login me password x", Kind::Password),
            ("etc/apt/auth.conf.d/site.conf", b"machine h login me password x", Kind::Password),
            ("root/.pgpass", b"h:5432:*:me:x\n", Kind::Password),
            ("root/.my.cnf", b"[client]\npassword=x\n", Kind::Password),
            ("root/.gnupg/private-keys-v1.d/0A.key", b"(21:", Kind::PgpKey),
            ("root/.gnupg/secring.gpg", b"\x95", Kind::PgpKey),
            ("srv/client.p12", b"0\x82", Kind::PrivateKey),
            ("etc/ssl/private/ssl-cert-snakeoil.key", b"-----", Kind::PrivateKey),
            ("etc/sssd/sssd.conf", b"ldap_default_authtok = x", Kind::Password),
            ("var/lib/systemd/credential.secret", b"x", Kind::SystemKey),
            ("etc/bind/rndc.key", b"key \"rndc-key\" { secret \"x\"; };", Kind::SystemKey),
        ] {
            assert_eq!(kinds(path, text), [kind], "{path}");
            // a file may end anywhere
            for end in 0..text.len() {
                kinds(path, &text[..end]);
            }
        }
    }

    #[test]
    fn the_same_places_as_a_fresh_system_has_them() {
        for (path, text) in [
            ("etc/ssh/ssh_host_ed25519_key.pub", &b"ssh-ed25519 AAAA"[..]),
            ("etc/ssh/ssh_host_rsa_key", b""),
            ("etc/shadow", b"root:*:19000:0:99999:7:::\n"),
            ("etc/gshadow", b"root:*::\nadm:!::\n"),
            ("etc/passwd", b"root:x:0:0:root:/root:/bin/bash\n"),
            ("var/cache/debconf/passwords.dat", b"Name: x\nTemplate: x\nValue:\n\n"),
            (
                "etc/NetworkManager/system-connections/e.nmconnection",
                b"[connection]\nid=e\npsk-flags=1\n",
            ),
            ("etc/wpa_supplicant/functions.sh", b"psk=\"x\""),
            ("etc/netplan/50-x.yaml", b"network:\n  version: 2\n"),
            ("root/.kube/config", b"users:\n- user:\n    exec:\n      command: login\n"),
            ("root/.docker/config.json", b"{\"credsStore\": \"x\", \"auths\": {\"r\": {}}}"),
            ("etc/mysql/debian.cnf", b"# Automatically generated\n[client]\nhost = localhost\n"),
            ("etc/krb5.keytab", b"\x05\x02"),
            ("etc/nslcd.conf", b"#bindpw secret\nuri ldap://\n"),
            ("srv/etc/shadow", b"root:$6$salt$012345678:1::"),
        ] {
            assert_eq!(kinds(path, text), [], "{path}");
        }
    }
}
