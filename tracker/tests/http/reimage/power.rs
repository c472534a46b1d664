//! IPMI against OpenIPMI's simulator, and Redfish against a controller that follows DMTF's schema.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::cluster::{Cluster, switched};

/// A management controller that speaks RMCP+; it ends with the test.
struct Simulator(Child);

impl Simulator {
    /// `program` is asked for, and told, the state of the chassis.
    fn start(dir: &Path, name: &str, address: &str, port: u16, program: &Path) -> Self {
        let at = dir.join(name);
        fs::create_dir(&at).unwrap();
        let lan = format!(
            "name \"{name}\"\nset_working_mc 0x20\n  startlan 1\n    addr {address} {port}\n    priv_limit admin\n    \
             allowed_auths_admin none md2 md5 straight\n    guid a123456789abcdefa123456789abcdef\n  endlan\n  \
             chassis_control \"{} {name}\"\n  user 1 true \"\" \"test\" user 10 none md2 md5 straight\n  \
             user 2 true \"admin\" \"secret\" admin 10 none md2 md5 straight\n",
            program.display()
        );
        fs::write(at.join("lan.conf"), lan).unwrap();
        let controller = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
                          mc_enable 0x20\n";
        fs::write(at.join("emu"), controller).unwrap();
        let child = Command::new("ipmi_sim")
            .args(["-c", "lan.conf", "-f", "emu", "-s", "state", "-n"])
            .current_dir(&at)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect(
                "ipmi_sim of OpenIPMI (Debian: openipmi); cargo xtask test --install installs it",
            );
        Self(child)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn ipmi_cycles_who_is_on_and_switches_on_who_is_off() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = format!(
        "power = 'ipmi'\n[reimage.ipmi]\nuser = 'admin'\npassword_file = 'DIR/password'\nport = {port}\n"
    );
    let cluster = Cluster::new(2, &settings);
    let dir = cluster.dir.path();
    // its state is a file; a node that is switched on boots
    let program = dir.join("chassis");
    let script = format!(
        "#!/bin/sh\ncd {}\nnode=$1\ncase $2 in\nget) shift 2; for what; do case $what in power) echo power:$(cat $node.power);; \
         *) echo $what:0;; esac; done;;\nset) [ $3 = power ] || exit 0; [ $4 = 1 ] && [ $(cat $node.power) = 0 ] && echo $node >> reboots\n\
         echo $4 > $node.power; echo $node $4 >> actions;;\nesac\n",
        dir.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for (name, power) in [("n01", "1"), ("n02", "0")] {
        fs::write(dir.join(format!("{name}.power")), power).unwrap();
    }
    let _simulators = [("n01", "127.0.0.2"), ("n02", "127.0.0.3")]
        .map(|(name, address)| Simulator::start(dir, name, address, port, &program));
    assert_eq!(cluster.order(&json!({ "batch": "2", "max_failed": "0" })).status, 200);
    cluster.wait_for("done");
    assert_eq!(cluster.states(), ["up"; 2]);
    let actions = fs::read_to_string(dir.join("actions")).unwrap();
    let of = |name: &str| -> Vec<&str> {
        actions.lines().filter_map(|line| line.strip_prefix(name)).map(str::trim).collect()
    };
    assert_eq!((of("n01"), of("n02")), (vec!["0", "1"], vec!["1"]), "{actions}");
}

/// One request, as a controller sees it.
#[derive(Debug, Clone)]
struct Asked {
    line: String,
    authorized: bool,
    body: String,
}

/// A controller with one system (DSP0266, ComputerSystem v1). Who asks without the password gets 401.
fn controller(
    node: &'static str,
    power: &'static str,
    types: Value,
    reboots: std::path::PathBuf,
) -> (SocketAddr, Arc<Mutex<Vec<Asked>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = Vec::new();
            while head.last().is_none_or(|line: &String| line.len() > 2) {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    break;
                }
                head.push(line);
            }
            let field = |name: &str| {
                let line = head.iter().find(|line| line.to_ascii_lowercase().starts_with(name));
                line.map(|line| line.split_once(": ").unwrap().1.trim().to_owned())
            };
            let mut body = vec![0; field("content-length").map_or(0, |n| n.parse().unwrap())];
            reader.read_exact(&mut body).unwrap();
            let Some(line) = head.first() else { continue };
            let request = Asked {
                line: line.trim().to_owned(),
                // admin:secret
                authorized: field("authorization").as_deref() == Some("Basic YWRtaW46c2VjcmV0"),
                body: String::from_utf8(body).unwrap(),
            };
            let system = "/redfish/v1/Systems/437XR1138R2";
            let answer = match request.line.split(' ').take(2).collect::<Vec<_>>().as_slice() {
                _ if !request.authorized => (
                    401,
                    json!({ "error": { "code": "Base.1.8.AccessDenied",
                    "message": "the password is wrong" } }),
                ),
                ["GET", "/redfish/v1/Systems"] => (
                    200,
                    json!({
                    "@odata.id": "/redfish/v1/Systems", "Members@odata.count": 1,
                    "@odata.type": "#ComputerSystemCollection.ComputerSystemCollection",
                    "Members": [{ "@odata.id": system }], "Name": "Systems" }),
                ),
                ["GET", path] if *path == system => (
                    200,
                    json!({
                    "@odata.id": system, "@odata.type": "#ComputerSystem.v1_5_0.ComputerSystem",
                    "Id": "437XR1138R2", "Name": node, "PowerState": power,
                    "Actions": { "#ComputerSystem.Reset": { "target": format!("{system}/Actions/ComputerSystem.Reset"),
                        "ResetType@Redfish.AllowableValues": types } } }),
                ),
                ["POST", _] => (204, Value::Null),
                _ => (404, json!({ "error": { "message": "no such resource" } })),
            };
            if answer.0 == 204 {
                switched(&reboots, node);
            }
            log.lock().unwrap().push(request);
            let text = if answer.0 == 204 { String::new() } else { answer.1.to_string() };
            let length = text.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {} x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{text}",
                answer.0
            );
        }
    });
    (addr, asked)
}

#[test]
fn redfish_restarts_who_is_on_and_switches_on_who_is_off() {
    let settings = "power = 'redfish'\n[reimage.redfish]\nurl = 'http://{bmc}'\nuser = 'admin'\npassword_file = 'DIR/password'\n";
    let mut cluster = Cluster::new(3, settings);
    let reboots = cluster.dir.path().join("reboots");
    let types = json!(["On", "ForceOff", "GracefulShutdown", "ForceRestart"]);
    let (first, asked) = controller("n01", "On", types.clone(), reboots.clone());
    let (second, other) = controller("n02", "Off", types, reboots.clone());
    let (third, _) = controller("n03", "On", json!(["PushPowerButton"]), reboots);
    cluster.controllers_at(&[first, second, third]);
    assert_eq!(cluster.order(&json!({ "batch": "3", "max_failed": "1" })).status, 200);
    cluster.wait_for("done");
    assert_eq!(cluster.states(), ["up", "up", "failed"]);
    let detail = cluster.last()["nodes"][2]["detail"].as_str().unwrap().to_owned();
    assert!(
        detail
            .contains("does not know ResetType ForceRestart; set reset to one of PushPowerButton"),
        "{detail}"
    );
    let posted = |asked: &Mutex<Vec<Asked>>| {
        let asked = asked.lock().unwrap();
        assert!(asked.iter().all(|asked| asked.authorized));
        let posts: Vec<_> =
            asked.iter().filter(|asked| asked.line.starts_with("POST")).cloned().collect();
        assert_eq!(posts.len(), 1, "{posts:?}");
        assert!(
            posts[0].line.contains("/redfish/v1/Systems/437XR1138R2/Actions/ComputerSystem.Reset ")
        );
        posts[0].body.clone()
    };
    assert_eq!(posted(&asked), r#"{"ResetType":"ForceRestart"}"#);
    assert_eq!(posted(&other), r#"{"ResetType":"On"}"#);
}
