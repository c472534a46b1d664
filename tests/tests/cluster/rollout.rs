//! Nodes are reimaged in batches by the real packer and the real tracker, both of which die on the way.

use std::fs;
use std::path::Path;

use lab::client::CURL;
use lab::{BitRate, Cmd, Proc, program};
use serde_json::Value;
use store::Channel;

use super::fixture::{ADMIN, Cluster, LIMIT, wait, wait_for_event};

/// A node's power: it is written down, and the node boots when the test lets it. It asks for its script, and
/// its initrd and its re-seeder report, until a tracker takes it.
const POWER: &str = r#"
echo $1 >> DIR/reboots
(
    exec < /dev/null > /dev/null 2>&1 # the tracker waits until nobody has its pipes
    until [ -e DIR/boots-$1 ]; do sleep 0.05; done
    until script=$(CURL -sf -A iPXE/1.21.1 TRACKER/boot/$2.ipxe); do sleep 0.1; done
    base=$(echo "$script" | sed -n 's/^set base //p' | head -n 1)
    token=$(echo "$script" | sed -n 's/.* beeswarm.token=\([^ ]*\).*/"token":"\1",/p' | head -n 1)
    until CURL -sf -d '{"version":1,"boot_id":"boot-'$$'",'$token'"events":[
        {"seq":0,"uptime_ms":1000,"stage":"discover","source":"'$base'/manifest.json"},
        {"seq":1,"uptime_ms":9000,"stage":"seeding","device":"/dev/loop0","user":"x","uploaded":0}]}' \
        TRACKER/api/v1/nodes/$2/events; do sleep 0.1; done
) &
"#;

/// An admin at a terminal, and the tracker's files.
struct Admin<'a> {
    cluster: &'a Cluster,
    at: &'a Path,
    url: String,
}

impl Admin<'_> {
    fn write(&self, name: &str, text: &str) {
        let curl = CURL.find().unwrap();
        let text = text.replace("DIR", self.at.to_str().unwrap()).replace("TRACKER", &self.url);
        fs::write(self.at.join(name), text.replace("CURL", curl.to_str().unwrap())).unwrap();
    }

    fn tracker(&self) -> Proc {
        let file = |name: &str| self.at.join(name).to_str().unwrap().to_owned();
        let files = [file("state"), file("tracker.toml"), file("nodes.csv")];
        let flags = ["--state", &files[0], "--config", &files[1], "--inventory", &files[2]];
        self.cluster.tracker_with(&flags)
    }

    /// `bee-packer reimage` with these words.
    fn reimage(&self, words: &str) -> Cmd {
        let command = Cmd::new(program("bee-packer").unwrap()).arg("--json").arg("reimage");
        let command = command.args(words.split(' ')).args(["--tracker-url", &self.url]);
        command.arg("--token-file").arg(self.at.join("state/admin-token"))
    }

    /// What `--status` says of the last rollout, if the tracker is there.
    fn status(&self) -> Result<Value, String> {
        let output = self.cluster.admin.run(&self.reimage("--status")).unwrap();
        if !output.status.success() {
            return Err(String::from_utf8(output.stderr).unwrap());
        }
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        Ok(told["rollout"].clone())
    }

    /// Waits until the rollout is in this phase, and its nodes in these states, the nodes of later batches waiting.
    fn wait_for(&self, phase: &str, states: &[&str]) {
        wait(&format!("{phase}, {states:?}"), LIMIT, || {
            let status = self.status()?;
            let nodes = status["nodes"].as_array().unwrap();
            let are = nodes.iter().map(|node| node["state"].as_str().unwrap());
            let wanted = states.iter().copied().chain(std::iter::repeat("waiting"));
            let there =
                status["phase"] == phase && are.zip(wanted).all(|(is, wanted)| is == wanted);
            if there { Ok(()) } else { Err(status.to_string()) }
        });
    }

    fn boots(&self, name: &str) {
        fs::write(self.at.join(format!("boots-{name}")), "").unwrap();
    }
}

#[test]
fn batches_go_on_without_the_packer_and_after_the_tracker() {
    let cluster = Cluster::start("rollout", 0, BitRate::mbit(100));
    let [old, new] = [1, 2].map(|seed| cluster.publish(seed, 64 * 1024).reference);
    cluster.store.publish(&old, &Channel::new("gpu").unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin { cluster: &cluster, at: dir.path(), url: format!("http://{ADMIN}:6969") };
    let names = ["rack1n01", "rack1n02", "rack2n01", "rack2n02"];
    let rows =
        names.iter().enumerate().map(|(n, name)| format!("52:54:00:00:01:0{n},{name},gpu\n"));
    admin.write("nodes.csv", &format!("mac,name,channel\n{}", rows.collect::<String>()));
    let power = "power = 'command'\ncommand = ['/bin/sh', 'DIR/power', '{name}', '{mac}']\n";
    admin.write("tracker.toml", &format!("[reimage]\n{power}"));
    admin.write("power", POWER);
    let mut tracker = admin.tracker();
    wait("the tracker", LIMIT, || match admin.status() {
        Err(said) if said.contains("no rollout was ordered yet") => Ok(()),
        other => Err(format!("{other:?}")),
    });

    // the terminal dies after the first batch
    let order = format!(
        "--channel gpu --revision {} --nodes rack[1-2]n[01-02] --batch 25% --max-failed 2%",
        new.id
    );
    let mut packer = cluster.admin.spawn(&admin.reimage(&order)).unwrap();
    admin.wait_for("running", &["booting"]);
    admin.boots("rack1n01");
    admin.wait_for("running", &["up", "booting"]);
    assert_eq!(packer.try_wait().unwrap(), None, "it looks on");
    packer.kill().unwrap();
    admin.boots("rack1n02");
    admin.wait_for("running", &["up", "up", "booting"]);

    // and then the tracker
    tracker.kill().unwrap();
    assert!(admin.status().unwrap_err().contains("no tracker at"));
    let mut tracker = admin.tracker();
    admin.wait_for("running", &["up", "up", "booting"]);

    // who looks on from another terminal is told that it is away, and of the end
    assert!(cluster.admin.run(&admin.reimage("--stop")).unwrap().status.success());
    let mut packer = cluster.admin.spawn(&admin.reimage("--resume")).unwrap();
    wait_for_event(&mut packer, |event| event["rollout"]["phase"] == "running");
    tracker.kill().unwrap();
    wait("the packer to say so", LIMIT, || {
        let said = fs::read_to_string(packer.log_path()).unwrap();
        let told = said.contains("no tracker at") && said.contains("trying again");
        if told { Ok(()) } else { Err(said) }
    });
    assert_eq!(packer.try_wait().unwrap(), None, "it waits");
    let _tracker = admin.tracker();
    admin.boots("rack2n01");
    admin.boots("rack2n02");
    admin.wait_for("done", &["up"; 4]);
    assert_eq!(packer.wait(LIMIT).unwrap().and_then(|status| status.code()), Some(0));
    let said = fs::read_to_string(packer.out_path()).unwrap();
    let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(last["rollout"]["phase"], "done");
    assert_eq!(last["rollout"]["revision"], new.to_string());
    let reboots = fs::read_to_string(dir.path().join("reboots")).unwrap();
    let mut reboots: Vec<_> = reboots.lines().collect();
    reboots.dedup();
    assert_eq!(reboots, names, "one batch after the other, nobody again after the next one began");
}
