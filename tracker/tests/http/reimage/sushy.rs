//! Redfish over TLS, answered by a program that nobody here wrote: sushy-emulator of OpenStack's sushy-tools.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use serde_json::json;

use super::cluster::{Cluster, switched};
use crate::access::authority;
use crate::bed::wait_until;

/// User `admin`, password `secret` (bcrypt).
const USERS: &str = "admin:$2b$04$UqDgVnipAn5zGiJVCKaDUe3P.tmnNrbsaGtqTmIkjDmUFbjtfKXpu\n";

/// What its log says of a power action that it took, with or without colours between.
const DONE: [&str; 2] = ["Actions/ComputerSystem.Reset HTTP/1.1", "\" 204 "];

/// The program, where `cargo xtask test --install` puts it: below cargo's target folder.
fn program() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let target = this.ancestors().nth(3).unwrap();
    let program = target.join("foreign/python/bin/sushy-emulator");
    assert!(
        program.is_file(),
        "{} is missing: `cargo xtask test --install` installs it",
        program.display()
    );
    program
}

/// A controller with one system; it ends with the test. Whom it switches boots.
struct Controller {
    child: Child,
    log: Option<JoinHandle<()>>,
    addr: SocketAddr,
}

impl Controller {
    fn start(dir: &Path, node: &'static str, power: &str, reboots: PathBuf) -> Self {
        let at = dir.join(format!("{node}-controller"));
        fs::create_dir(&at).unwrap();
        fs::write(dir.join("users"), USERS).unwrap();
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = at.join("config.py");
        let text = format!(
            "SUSHY_EMULATOR_STATE_DIR = '{}'\n\
             SUSHY_EMULATOR_AUTH_FILE = '{}'\n\
             SUSHY_EMULATOR_FAKE_SYSTEMS = [{{'uuid': '{node}-uuid', 'name': '{node}', 'power_state': '{power}', \
             'nics': []}}]\n",
            at.display(),
            dir.join("users").display()
        );
        fs::write(&config, text).unwrap();
        let (interface, port) = (addr.ip().to_string(), addr.port().to_string());
        let mut child = Command::new(program())
            .args(["--fake", "--interface", &interface, "--port", &port, "--config"])
            .arg(config)
            .args(["--ssl-certificate", "n.pem", "--ssl-key", "n.key"])
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if DONE.iter().all(|part| line.contains(part)) {
                    switched(&reboots, node);
                }
            }
        });
        wait_until("the controller listens", || std::net::TcpStream::connect(addr).is_ok());
        Self { child, log: Some(log), addr }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.log.take().map(JoinHandle::join);
    }
}

/// A node that is on, one that is off, their controllers, and a tracker that believes this authority.
struct Rack {
    cluster: Cluster,
    _controllers: [Controller; 2],
    _certificates: tempfile::TempDir,
}

impl Rack {
    /// The controllers' certificate is of the authority `ca`.
    fn new(believed: &str, password: &str) -> Self {
        let certificates = tempfile::tempdir().unwrap();
        let dir = certificates.path();
        authority(dir, "other", &[]);
        authority(dir, "ca", &["n"]);
        let settings = format!(
            "power = 'redfish'\n[reimage.redfish]\nuser = 'admin'\npassword_file = 'DIR/password'\nca = '{}'\n",
            dir.join(believed).with_extension("pem").display()
        );
        let mut cluster = Cluster::new(2, &settings);
        let reboots = cluster.dir.path().join("reboots");
        let controllers = [("n01", "On"), ("n02", "Off")]
            .map(|(node, power)| Controller::start(dir, node, power, reboots.clone()));
        fs::write(cluster.dir.path().join("password"), password).unwrap();
        cluster.controllers_at(&controllers.each_ref().map(|controller| controller.addr));
        assert_eq!(cluster.order(&json!({ "batch": "2", "max_failed": "0" })).status, 200);
        Self { cluster, _controllers: controllers, _certificates: certificates }
    }

    /// Why the first node could not be rebooted.
    fn refusal(&self) -> String {
        self.cluster.wait_for("stopped");
        assert!(self.cluster.reboots().is_empty());
        let last = self.cluster.last();
        last["nodes"][0]["detail"].as_str().unwrap().to_owned()
    }
}

#[test]
fn who_is_on_restarts_and_who_is_off_is_switched_on() {
    let rack = Rack::new("ca", "secret\n");
    rack.cluster.wait_for("done");
    assert_eq!(rack.cluster.states(), ["up"; 2]);
    let mut reboots = rack.cluster.reboots();
    reboots.sort();
    assert_eq!(reboots, ["n01", "n02"]);
}

#[test]
fn a_controller_that_another_authority_knows_gets_no_password() {
    let refusal = Rack::new("other", "secret\n").refusal();
    assert!(refusal.contains("certificate"), "{refusal}");
}

#[test]
fn a_wrong_password_is_named() {
    let refusal = Rack::new("ca", "guess\n").refusal();
    assert!(refusal.contains("answers with status 401"), "{refusal}");
}
