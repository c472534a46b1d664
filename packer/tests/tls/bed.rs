//! Certificates, and a `bee-tracker` that serves by them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Runs openssl in that folder.
pub(crate) fn openssl(dir: &Path, line: &str) {
    let output = Command::new("openssl").args(line.split(' ')).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

const NEW: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

fn request(dir: &Path, name: &str) {
    openssl(dir, &format!("req {NEW} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
}

/// An authority, and a certificate for 127.0.0.1 that it signed for each name.
pub(crate) fn authority(dir: &Path, ca: &str, names: &[&str]) {
    openssl(dir, &format!("req -x509 {NEW} -keyout {ca}.key -out {ca}.pem -subj /CN={ca} -days 2"));
    fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    for name in names {
        request(dir, name);
        let signed = format!("-CA {ca}.pem -CAkey {ca}.key -CAcreateserial -days 2 -extfile names");
        openssl(dir, &format!("x509 -req -in {name}.csr {signed} -out {name}.pem"));
    }
}

/// One whose days are over; `openssl x509` makes none before version 3.4.
pub(crate) fn expired(dir: &Path, ca: &str, name: &str) {
    request(dir, name);
    let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=number\nnew_certs_dir=.\ndefault_md=sha256\n\
                  policy=p\n[p]\ncommonName=supplied\n";
    fs::write(dir.join("ca.cnf"), config).unwrap();
    fs::write(dir.join("index"), "").unwrap();
    fs::write(dir.join("number"), "01\n").unwrap();
    let days = "-startdate 20200101000000Z -enddate 20200201000000Z";
    let signer = format!("-cert {ca}.pem -keyfile {ca}.key -extfile names");
    openssl(
        dir,
        &format!("ca -batch -notext -config ca.cnf {days} {signer} -in {name}.csr -out {name}.pem"),
    );
}

/// A folder with files that are named on command lines.
pub(crate) struct Bed<'a>(pub(crate) &'a Path);

impl Bed<'_> {
    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir(&path).unwrap();
        path
    }
}

/// One of our programs, with nothing set by the environment.
pub(crate) fn command(name: &str, args: &[&str]) -> Command {
    let path = Path::new(env!("CARGO_BIN_EXE_bee-packer")).with_file_name(name);
    assert!(path.is_file(), "{} is missing: build all programs first", path.display());
    let mut command = Command::new(path);
    command.args(args);
    for (variable, _) in std::env::vars().filter(|(name, _)| name.starts_with("BEESWARM_")) {
        command.env_remove(variable);
    }
    command
}

pub(crate) fn program(name: &str, args: &[&str]) -> Output {
    command(name, args).output().unwrap()
}

pub(crate) fn packer(args: &[&str]) -> Output {
    program("bee-packer", args)
}

/// A tracker that does not outlive its test.
pub(crate) struct Served {
    child: Child,
    plain: String,
    tls: String,
    token: PathBuf,
}

impl Served {
    /// With the certificate of that name in `dir`; admins are signed by `ca` there.
    pub(crate) fn start(dir: &Path, certificate: &str) -> Self {
        let (state, config) = (dir.join("state"), dir.join("tracker.toml"));
        let path = |name: String| dir.join(name).to_str().unwrap().to_owned();
        let text = format!(
            "[tls]\nlisten = '127.0.0.1:0'\ncertificate = '{}'\nkey = '{}'\nclient_ca = '{}'\norders_only = true\n",
            path(format!("{certificate}.pem")),
            path(format!("{certificate}.key")),
            path("ca.pem".to_owned()),
        );
        fs::write(&config, text).unwrap();
        let args = ["--json", "--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()];
        let mut child = command("bee-tracker", &args)
            .args(["--state", state.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        let at = |field: &str| event[field].as_str().unwrap().to_owned();
        Self { child, plain: at("address"), tls: at("tls"), token: state.join("admin-token") }
    }

    pub(crate) fn http(&self) -> String {
        format!("http://{}", self.plain)
    }

    pub(crate) fn https(&self) -> String {
        format!("https://{}", self.tls)
    }

    pub(crate) fn token(&self) -> String {
        self.token.to_str().unwrap().to_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
