//! Looks into a booted machine: over the peer wire, and over ssh.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab::tool::Tool;
use lab::{Cmd, Node};
use proto::hash::{InfoHash, PeerId};
use proto::verity::{VERITY_BLOCK, Verity};
use proto::wire::{Features, HANDSHAKE_LEN, Handshake};

use super::cluster::PEER_PORT;
use super::image::NODE_UNIT;

/// Looks into the machines.
pub(crate) const SSH: Tool =
    Tool::new("ssh", "looks into the booted machines", "openssh-client", "openssh-clients");

/// How long a peer may take to answer: an emulated machine is slow.
const PEER_LIMIT: Duration = Duration::from_secs(20);

/// Does the peer wire's handshake with a node, from another one.
pub(crate) fn handshake(from: &Node, to: &Node, info_hash: InfoHash) -> Result<()> {
    let address = SocketAddr::from((to.ip(), PEER_PORT));
    let mut stream = from.connect(address, PEER_LIMIT)?;
    stream.set_read_timeout(Some(PEER_LIMIT))?;
    let features = Features { fast: true, extended: false, v2: false };
    let ours = Handshake { info_hash, peer_id: PeerId(*b"-XT0001-demo-checks-"), features };
    stream.write_all(&ours.encode()).context("cannot send a handshake")?;
    let mut answer = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut answer).with_context(|| format!("{address} gave no handshake"))?;
    let theirs = Handshake::parse(&answer)?;
    ensure!(theirs.info_hash == info_hash, "{address} answered for another torrent");
    Ok(())
}

/// The list of the files that a machine's boot has opened, when its recorder has ended.
pub(crate) fn boot_order(admin: &Node, machine: &Node, key: &Path) -> Result<String> {
    let script = "for i in $(seq 120); do pgrep -f '[b]ee-seeder record-order' > /dev/null || break; sleep 1; done; \
                  cat /run/beeswarm/boot-order";
    let list = ssh(admin, machine, key, script)?;
    judge_order(&list)?;
    Ok(list)
}

/// Whether a list begins where a boot begins and goes on until services run.
fn judge_order(list: &str) -> Result<()> {
    let files: Vec<&str> = list.lines().filter(|line| line.starts_with('/')).collect();
    let at = |name: &str| {
        let found = files.iter().position(|path| path.ends_with(name));
        found.with_context(|| format!("{name} is not among the {} recorded files", files.len()))
    };
    let init = at("/systemd/systemd")?;
    ensure!(init < 5, "systemd is only number {init} of the recorded files");
    ensure!(at("/sbin/sshd")? > init, "sshd was recorded before systemd");
    let unit = at("/multi-user.target")?;
    ensure!(unit > init, "systemd's units were recorded before systemd");
    Ok(())
}

/// What a machine says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Inspection {
    /// `multi-user.target`
    pub(crate) multi_user: String,
    /// File system of `/`.
    pub(crate) root: String,
    /// User of the re-seeding service.
    pub(crate) user: String,
    /// Its effective capabilities, hexadecimal.
    pub(crate) capabilities: String,
    /// The device that holds the image.
    pub(crate) device: String,
    /// SHA-256 of the image, read back from that device.
    pub(crate) sha256: String,
    /// Id of the key that signed the image, 16 hexadecimal digits.
    pub(crate) signed_by: String,
    /// Id of the mapped device that reads from that device.
    pub(crate) verity: String,
    /// Memory in use, in MiB.
    pub(crate) used_mib: String,
}

impl Inspection {
    /// Looks into `machine` by ssh from `admin`; `length` is the image's.
    pub(crate) fn of(admin: &Node, machine: &Node, key: &Path, length: u64) -> Result<Inspection> {
        Ok(parse(&ssh(admin, machine, key, &script(length))?))
    }

    /// Whether it is as it must be: up, on our image, which dm-verity checks, and re-seeding as an
    /// unprivileged user.
    pub(crate) fn judge(&self, sha256: &str, verity: &Verity) -> Result<()> {
        ensure!(self.multi_user == "active", "multi-user.target is `{}`", self.multi_user);
        ensure!(self.root == "overlay", "/ is `{}`, not an overlay", self.root);
        ensure!(
            !self.user.is_empty() && self.user != "root",
            "{NODE_UNIT} runs as `{}`, not as a user of its own",
            self.user
        );
        let none = !self.capabilities.is_empty() && self.capabilities.chars().all(|c| c == '0');
        ensure!(none, "{NODE_UNIT} has the capabilities {}", self.capabilities);
        ensure!(self.device.starts_with("/dev/loop"), "the image is on `{}`", self.device);
        let is_id = self.signed_by.len() == 16
            && self.signed_by.chars().all(|digit| digit.is_ascii_hexdigit());
        ensure!(is_id, "the image is signed by `{}`, not by a key", self.signed_by);
        let root_hash = verity.root_hash.to_string();
        let wanted = format!("CRYPT-VERITY-{}-", root_hash.get(..32).unwrap_or_default());
        ensure!(
            self.verity.starts_with(&wanted),
            "{} is read through `{}`, not by dm-verity with root hash {root_hash}",
            self.device,
            self.verity
        );
        ensure!(self.sha256 == sha256, "{} has SHA-256 {}", self.device, self.sha256);
        Ok(())
    }
}

/// Alters a block of the image in the machine's memory, reads it through dm-verity, and puts it back.
pub(crate) fn alter(admin: &Node, machine: &Node, key: &Path, verity: &Verity) -> Result<()> {
    let output = ssh(admin, machine, key, &altering(verity))?;
    let value = |key: &str| {
        let line = output.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default()
    };
    for (when, wanted) in
        [("before", "read"), ("altered", "Input/output error"), ("restored", "read")]
    {
        let found = value(when);
        ensure!(found == wanted, "{when}, the block gives `{found}`, not `{wanted}`");
    }
    Ok(())
}

/// The last block of the image. What is written to the file reaches the loop device at once; past the
/// caches it is read anew each time. Not by O_DIRECT, for which not every dd has an aligned buffer; and not
/// without all caches, for dd itself may be in that block.
fn altering(verity: &Verity) -> String {
    let block = verity.data_blocks() - 1;
    format!(
        "image=/run/beeswarm/image/rootimg.sfs; saved=/run/block; dd='dd bs={VERITY_BLOCK} count=1 status=none'\n\
         mapped=$(sed -n 's/.*\"mapped\"[: ]*\"\\([^\"]*\\)\".*/\\1/p' /run/beeswarm/boot.json)\n\
         look() {{\n\
         blockdev --flushbufs $mapped\n\
         if words=$($dd if=$mapped of=/dev/null skip={block} 2>&1); then echo $1=read\n\
         else echo $1=$(echo \"$words\" | grep -o 'Input/output error' || echo \"$words\"); fi\n\
         }}\n\
         look before\n\
         $dd if=$image of=$saved skip={block}\n\
         $dd if=/dev/urandom of=$image seek={block} conv=notrunc\n\
         look altered\n\
         $dd if=$saved of=$image seek={block} conv=notrunc\n\
         look restored\n"
    )
}

/// Runs a shell script on a machine; returns what it printed.
fn ssh(admin: &Node, machine: &Node, key: &Path, script: &str) -> Result<String> {
    let cmd = Cmd::new(SSH.find()?)
        .arg("-i")
        .arg(key)
        .args(["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=30"])
        .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
        .args(["-o", "LogLevel=ERROR", "-F", "none"])
        .args([&format!("root@{}", machine.ip()), script]);
    let output = admin.run(&cmd)?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!("ssh to {} failed: {words}", machine.name());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn script(length: u64) -> String {
    format!(
        "for i in $(seq 60); do systemctl -q is-active multi-user.target && break; sleep 1; done\n\
         pid=$(systemctl show -p MainPID --value {NODE_UNIT})\n\
         device=$(sed -n 's/.*\"device\"[: ]*\"\\([^\"]*\\)\".*/\\1/p' /run/beeswarm/boot.json)\n\
         echo signed_by=$(sed -n 's/.*\"signed_by\"[: ]*\"\\([^\"]*\\)\".*/\\1/p' /run/beeswarm/boot.json)\n\
         echo multi_user=$(systemctl is-active multi-user.target)\n\
         echo root=$(stat -f -c %T / | sed s/overlayfs/overlay/)\n\
         echo user=$(ps -o user:32= -p \"$pid\")\n\
         echo capabilities=$(sed -n 's/^CapEff:[^0-9a-f]*//p' \"/proc/$pid/status\")\n\
         echo device=$device\n\
         holder=$(ls /sys/class/block/${{device#/dev/}}/holders)\n\
         echo verity=$(cat /sys/class/block/$holder/dm/uuid)\n\
         echo used=$(free -m | awk '/^Mem/ {{ print $3 }}')\n\
         echo sha256=$(head -c {length} \"$device\" | sha256sum | cut -d' ' -f1)\n"
    )
}

fn parse(text: &str) -> Inspection {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim().to_owned()
    };
    Inspection {
        multi_user: value("multi_user"),
        root: value("root"),
        user: value("user"),
        capabilities: value("capabilities"),
        device: value("device"),
        sha256: value("sha256"),
        signed_by: value("signed_by"),
        verity: value("verity"),
        used_mib: value("used"),
    }
}

#[cfg(test)]
mod tests {
    use proto::hash::Sha256Digest;
    use proto::verity::VERITY_SALT;

    use super::*;

    fn verity() -> Verity {
        let blocks = std::num::NonZeroU64::new(5).unwrap();
        Verity::new(Sha256Digest([7; 32]), VERITY_SALT, blocks).unwrap()
    }

    fn good() -> Inspection {
        parse(
            "multi_user=active\nroot=overlay\nuser=beeswarm-node\ncapabilities=0000000000000000\n\
             device=/dev/loop0\nused=123\nsha256=abc\nsigned_by=E7620F1842B4E81F\n\
             verity=CRYPT-VERITY-07070707070707070707070707070707-beeswarm-root\n",
        )
    }

    #[test]
    fn a_good_machine_passes() {
        good().judge("abc", &verity()).unwrap();
    }

    #[test]
    fn a_list_of_a_boot_begins_with_its_first_program() {
        let unit = "/usr/lib/systemd/system/multi-user.target";
        let good = format!("# x\n/usr/lib/systemd/systemd\n{unit}\n/usr/sbin/sshd\n");
        judge_order(&good).unwrap();
        let late = format!("/1\n/2\n/3\n/4\n/5\n{good}");
        assert!(judge_order(&late).unwrap_err().to_string().contains("number 5"));
        for missing in ["/usr/sbin/sshd", unit, "/usr/lib/systemd/systemd"] {
            assert!(judge_order(&good.replace(missing, "/x")).is_err(), "{missing}");
        }
    }

    type Spoil = fn(&mut Inspection);

    #[test]
    fn each_fault_is_found() {
        let faults: [(&str, Spoil); 8] = [
            ("multi-user", |i| i.multi_user = "inactive".into()),
            ("overlay", |i| i.root = "ext2/ext3".into()),
            ("root", |i| i.user = "root".into()),
            ("capabilities", |i| i.capabilities = "0000000000000001".into()),
            ("sda", |i| i.device = "/dev/sda".into()),
            ("signed", |i| i.signed_by = String::new()),
            ("root hash", |i| i.verity = "CRYPT-VERITY-08".into()),
            ("SHA-256", |i| i.sha256 = "abd".into()),
        ];
        for (word, spoil) in faults {
            let mut inspection = good();
            spoil(&mut inspection);
            let text = inspection.judge("abc", &verity()).unwrap_err().to_string();
            assert!(text.contains(word), "{text}");
        }
        assert!(Inspection::default().judge("", &verity()).is_err());
    }
}
