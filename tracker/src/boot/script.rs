//! The text of the iPXE scripts. Pure: the same values give the same bytes.

use proto::hash::Sha256Digest;
use proto::node_id::NodeId;
use store::{Channel, RevisionName, RevisionRef};

use super::values::{Authority, BaseUrl, KernelArgs};

/// Seconds between two tries.
const PAUSE: u32 = 5;

/// Milliseconds without progress after which a mirror is given up.
const MIRROR_PATIENCE_MS: u32 = 10_000;

/// Which image was asked for; travels in the query from `boot.ipxe` to the node's script.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    /// `?channel=`
    pub channel: Option<Channel>,
    /// `?image=`
    pub image: Option<RevisionName>,
}

impl Choice {
    fn query(&self) -> String {
        let channel = self.channel.iter().map(|c| format!("channel={c}"));
        let image = self.image.iter().map(|i| format!("image={i}"));
        let all: Vec<_> = channel.chain(image).collect();
        if all.is_empty() { String::new() } else { format!("?{}", all.join("&")) }
    }
}

/// What a node boots.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The revision.
    pub revision: RevisionRef,
    /// SHA-256 of its `manifest.json`.
    pub pin: Sha256Digest,
    /// Whether its initrd knows `beeswarm.token=`.
    pub takes_token: bool,
}

/// Where the node reached us, and what the admin adds.
#[derive(Debug, Clone)]
pub struct Site {
    /// This tracker.
    pub tracker: Authority,
    /// The seeder's HTTP.
    pub images: BaseUrl,
    /// A node that serves kernel and initrd, asked before [`Site::images`].
    pub mirror: Option<Mirror>,
    /// Further kernel arguments, of all nodes and of this one.
    pub kernel_args: KernelArgs,
    /// The node's token for this boot: hexadecimal digits; `None`: another machine asks.
    pub token: Option<String>,
}

/// What iPXE gets by TFTP, before it knows the tracker. The tracker may be away when nodes are switched on.
#[must_use]
pub fn chain(tracker: &Authority) -> String {
    format!(
        "#!ipxe\n\
         # Beeswarm: goes to the tracker's boot.ipxe, and tries again while it is away\n\
         :again\n\
         chain --replace --autofree http://{tracker}/boot.ipxe ||\n\
         echo Beeswarm: http://{tracker}/boot.ipxe did not answer (reason above). Next try in {PAUSE} s.\n\
         sleep {PAUSE} ||\n\
         goto again\n"
    )
}

/// Another node that has kernel and initrd.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// Its HTTP.
    pub base: BaseUrl,
    /// Where signatures of what it serves are, for iPXE's `imgverify`.
    pub signatures: Option<BaseUrl>,
}

/// The script for any node: finds its MAC address and asks for its own.
#[must_use]
pub fn any_node(tracker: &Authority, choice: &Choice) -> String {
    let query = choice.query();
    format!(
        "#!ipxe\n\
         # Beeswarm: the same script for every node; it asks for the node's own one.\n\
         # netX is the interface that was opened last: the one this script came through.\n\
         :ask\n\
         echo Beeswarm: ${{netX/mac}} asks {tracker} what to boot\n\
         chain --replace --autofree http://{tracker}/boot/${{netX/mac:hexhyp}}.ipxe{query} ||\n\
         echo Beeswarm: {tracker} gave no boot script (reason above). Next try in {PAUSE} s.\n\
         sleep {PAUSE} ||\n\
         goto ask\n"
    )
}

/// The script of one node for which there is something to boot.
#[must_use]
pub fn boot(node: NodeId, offer: &Offer, site: &Site, choice: &Choice) -> String {
    let Site { tracker, images, mirror, kernel_args, token } = site;
    let RevisionNames { name, id } = names(&offer.revision);
    let pin = offer.pin;
    let bootif = hyphens(node);
    let mut args = format!(
        "initrd=initrd.img root=beeswarm:${{base}}/ beeswarm.pin=sha256:{pin} \
         beeswarm.tracker=http://{tracker}/announce beeswarm.node={node} BOOTIF=01-{bootif} \
         rd.neednet=1"
    );
    if let Some(token) = token.as_ref().filter(|_| offer.takes_token) {
        args.push_str(" beeswarm.token=");
        args.push_str(token);
    }
    let extra = kernel_args.to_string();
    if !extra.is_empty() {
        args.push(' ');
        args.push_str(&extra);
    }
    let again = retry(node, tracker, choice);
    if let Some(mirror) = mirror {
        let folder = format!("revisions/{name}/{id}");
        return from_mirror(node, mirror, &format!("{images}/{folder}"), &folder, &args, &again);
    }
    format!(
        "#!ipxe\n\
         # Beeswarm: node {node}, image {name}, revision {id}\n\
         set base {images}/revisions/{name}/{id}\n\
         echo Beeswarm: {node} boots {name} {id}\n\
         set what ${{base}}/vmlinuz\n\
         kernel ${{what}} {args} || goto failed\n\
         set what ${{base}}/initrd.img\n\
         initrd ${{what}} || goto failed\n\
         set what the start of ${{base}}/vmlinuz\n\
         boot || goto failed\n\
         :failed\n\
         echo Beeswarm: ${{what}} failed (reason above). Next try in {PAUSE} s.\n\
         imgfree ||\n\
         {again}"
    )
}

/// The script of a node that is sent to a mirror first. Whatever goes wrong there (it is switched off, slow,
/// has no such file, or what it has is not what was signed), the admin host is asked at once.
fn from_mirror(
    node: NodeId,
    mirror: &Mirror,
    base: &str,
    folder: &str,
    args: &str,
    again: &str,
) -> String {
    let near = &mirror.base;
    let verify = |file: &str| match &mirror.signatures {
        Some(url) => {
            let name = folder.trim_start_matches("revisions/");
            format!(
                "iseq ${{from}} ${{base}} || imgverify --timeout {MIRROR_PATIENCE_MS} {file} \
                 {url}/{name}/{file}.sig || goto refused\n"
            )
        }
        None => String::new(),
    };
    let (kernel, initrd) = (verify("vmlinuz"), verify("initrd.img"));
    let refused = match &mirror.signatures {
        Some(_) => {
            ":refused\n\
             imgfree ||\n\
             echo Beeswarm: ${what} is refused: it does not match its signature, or that could not be \
             checked (reason above). Now from the admin host.\n\
             set from ${base}\n\
             goto load\n"
        }
        None => "",
    };
    format!(
        "#!ipxe\n\
         # Beeswarm: node {node}, {folder}, kernel and initrd from a node near it\n\
         set base {base}\n\
         set from {near}/{folder}\n\
         :load\n\
         echo Beeswarm: {node} boots {folder}, kernel and initrd from ${{from}}\n\
         set what ${{from}}/vmlinuz\n\
         kernel --timeout {MIRROR_PATIENCE_MS} ${{what}} {args} || goto failed\n\
         {kernel}\
         set what ${{from}}/initrd.img\n\
         initrd --timeout {MIRROR_PATIENCE_MS} ${{what}} || goto failed\n\
         {initrd}\
         set what the start of ${{from}}/vmlinuz\n\
         boot || goto failed\n\
         :failed\n\
         imgfree ||\n\
         iseq ${{from}} ${{base}} && goto wait ||\n\
         echo Beeswarm: ${{what}} failed (reason above). Now from the admin host.\n\
         set from ${{base}}\n\
         goto load\n\
         {refused}\
         :wait\n\
         echo Beeswarm: ${{what}} failed (reason above). Next try in {PAUSE} s.\n\
         {again}"
    )
}

/// The script of a node for which there is nothing to boot; `reason` is shown and asked again.
#[must_use]
pub fn wait(node: NodeId, reason: &str, tracker: &Authority, choice: &Choice) -> String {
    let reason = printable(reason);
    let again = retry(node, tracker, choice);
    format!(
        "#!ipxe\n\
         # Beeswarm: nothing to boot for node {node}\n\
         set what {reason}\n\
         :failed\n\
         echo Beeswarm: {node} waits: ${{what}}. Next try in {PAUSE} s.\n\
         {again}"
    )
}

/// The script of a node that goes on to the next device of its firmware, and why. UEFI goes on after a failure
/// only: what ends well leads to its setup menu (UEFI 2.10, 3.1.1), where a node would wait for a person.
#[must_use]
pub fn disk(node: NodeId, reason: &str) -> String {
    let reason = printable(reason);
    format!(
        "#!ipxe\n\
         # Beeswarm: node {node} does not boot by network\n\
         echo Beeswarm: {node} goes on to its disk: {reason}\n\
         exit 1\n"
    )
}

/// Sleeps and asks for a new script; when that fails too, says so and starts over. A key pressed
/// during the sleep ends the sleep, not the script.
fn retry(node: NodeId, tracker: &Authority, choice: &Choice) -> String {
    let (mac, query) = (hyphens(node), choice.query());
    format!(
        "sleep {PAUSE} ||\n\
         set what http://{tracker}/boot/{mac}.ipxe{query}\n\
         chain --replace --autofree ${{what}} ||\n\
         goto failed\n"
    )
}

struct RevisionNames<'a> {
    name: &'a str,
    id: &'a str,
}

fn names(revision: &RevisionRef) -> RevisionNames<'_> {
    RevisionNames { name: revision.name.as_str(), id: revision.id.as_str() }
}

fn hyphens(node: NodeId) -> String {
    node.to_string().replace(':', "-")
}

/// Keeps a text on one line of a script and free of its special characters.
fn printable(text: &str) -> String {
    let plain =
        |c: char| matches!(c, ' '..='~') && !matches!(c, '$' | '\\' | '|' | '&' | ';' | '#');
    text.chars().map(|c| if plain(c) { c } else { '?' }).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        Site {
            tracker: "10.0.0.1:6969".parse().unwrap(),
            images: "http://10.0.0.1:8080".parse().unwrap(),
            mirror: None,
            kernel_args: "console=ttyS0".parse().unwrap(),
            token: Some("00ff".to_owned()),
        }
    }

    fn node() -> NodeId {
        "52:54:00:12:34:56".parse().unwrap()
    }

    #[test]
    fn golden_any_node() {
        let choice =
            Choice { channel: Some(Channel::new("gpu").unwrap()), image: "debian".parse().ok() };
        let expected = "#!ipxe
# Beeswarm: the same script for every node; it asks for the node's own one.
# netX is the interface that was opened last: the one this script came through.
:ask
echo Beeswarm: ${netX/mac} asks 10.0.0.1:6969 what to boot
chain --replace --autofree http://10.0.0.1:6969/boot/${netX/mac:hexhyp}.ipxe?channel=gpu&image=debian ||
echo Beeswarm: 10.0.0.1:6969 gave no boot script (reason above). Next try in 5 s.
sleep 5 ||
goto ask
";
        assert_eq!(any_node(&site().tracker, &choice), expected);
    }

    #[test]
    fn golden_boot() {
        let offer = Offer {
            revision: "debian@0123456789ab".parse().unwrap(),
            pin: Sha256Digest([0xab; 32]),
            takes_token: true,
        };
        let expected = format!(
            "#!ipxe
# Beeswarm: node 52:54:00:12:34:56, image debian, revision 0123456789ab
set base http://10.0.0.1:8080/revisions/debian/0123456789ab
echo Beeswarm: 52:54:00:12:34:56 boots debian 0123456789ab
set what ${{base}}/vmlinuz
kernel ${{what}} initrd=initrd.img root=beeswarm:${{base}}/ beeswarm.pin=sha256:{} beeswarm.tracker=http://10.0.0.1:6969/announce beeswarm.node=52:54:00:12:34:56 BOOTIF=01-52-54-00-12-34-56 rd.neednet=1 beeswarm.token=00ff console=ttyS0 || goto failed
set what ${{base}}/initrd.img
initrd ${{what}} || goto failed
set what the start of ${{base}}/vmlinuz
boot || goto failed
:failed
echo Beeswarm: ${{what}} failed (reason above). Next try in 5 s.
imgfree ||
sleep 5 ||
set what http://10.0.0.1:6969/boot/52-54-00-12-34-56.ipxe
chain --replace --autofree ${{what}} ||
goto failed
",
            "ab".repeat(32)
        );
        assert_eq!(boot(node(), &offer, &site(), &Choice::default()), expected);
        let older = Offer { takes_token: false, ..offer };
        let expected = expected.replace(" beeswarm.token=00ff", "");
        assert_eq!(boot(node(), &older, &site(), &Choice::default()), expected);
    }

    #[test]
    fn golden_boot_from_a_mirror() {
        let offer = Offer {
            revision: "debian@0123456789ab".parse().unwrap(),
            pin: Sha256Digest([0xab; 32]),
            takes_token: false,
        };
        let mirror = Mirror { base: "http://10.0.0.7:8081".parse().unwrap(), signatures: None };
        let site = Site { mirror: Some(mirror.clone()), ..site() };
        let expected = format!(
            "#!ipxe
# Beeswarm: node 52:54:00:12:34:56, revisions/debian/0123456789ab, kernel and initrd from a node near it
set base http://10.0.0.1:8080/revisions/debian/0123456789ab
set from http://10.0.0.7:8081/revisions/debian/0123456789ab
:load
echo Beeswarm: 52:54:00:12:34:56 boots revisions/debian/0123456789ab, kernel and initrd from ${{from}}
set what ${{from}}/vmlinuz
kernel --timeout 10000 ${{what}} initrd=initrd.img root=beeswarm:${{base}}/ beeswarm.pin=sha256:{} beeswarm.tracker=http://10.0.0.1:6969/announce beeswarm.node=52:54:00:12:34:56 BOOTIF=01-52-54-00-12-34-56 rd.neednet=1 console=ttyS0 || goto failed
set what ${{from}}/initrd.img
initrd --timeout 10000 ${{what}} || goto failed
set what the start of ${{from}}/vmlinuz
boot || goto failed
:failed
imgfree ||
iseq ${{from}} ${{base}} && goto wait ||
echo Beeswarm: ${{what}} failed (reason above). Now from the admin host.
set from ${{base}}
goto load
:wait
echo Beeswarm: ${{what}} failed (reason above). Next try in 5 s.
sleep 5 ||
set what http://10.0.0.1:6969/boot/52-54-00-12-34-56.ipxe
chain --replace --autofree ${{what}} ||
goto failed
",
            "ab".repeat(32)
        );
        assert_eq!(boot(node(), &offer, &site, &Choice::default()), expected);
        let signatures = "http://10.0.0.1/sig".parse().ok();
        let site = Site { mirror: Some(Mirror { signatures, ..mirror }), ..site };
        let check = |file: &str| {
            format!(
                "iseq ${{from}} ${{base}} || imgverify --timeout 10000 {file} \
                 http://10.0.0.1/sig/debian/0123456789ab/{file}.sig || goto refused\n"
            )
        };
        let expected = expected
            .replace("set what ${from}/initrd.img\n", &(check("vmlinuz") + "set what ${from}/initrd.img\n"))
            .replace("set what the start", &(check("initrd.img") + "set what the start"))
            .replace(
                ":wait\n",
                ":refused
imgfree ||
echo Beeswarm: ${what} is refused: it does not match its signature, or that could not be checked (reason above). Now from the admin host.
set from ${base}
goto load
:wait
",
            );
        assert_eq!(boot(node(), &offer, &site, &Choice::default()), expected);
    }

    /// Else a label that is missing ends the script, and with it the boot, where it is needed.
    #[test]
    fn every_goto_has_its_label() {
        let offer = Offer {
            revision: "debian@0123456789ab".parse().unwrap(),
            pin: Sha256Digest([0xab; 32]),
            takes_token: true,
        };
        let base: BaseUrl = "http://10.0.0.7:8081".parse().unwrap();
        let mirrors = [None, Some(None), Some(Some(base.clone()))];
        let mirrors =
            mirrors.map(|m| m.map(|signatures| Mirror { base: base.clone(), signatures }));
        let boots = mirrors
            .map(|mirror| boot(node(), &offer, &Site { mirror, ..site() }, &Choice::default()));
        let tracker = site().tracker;
        let others = [
            chain(&tracker),
            any_node(&tracker, &Choice::default()),
            wait(node(), "x", &tracker, &Choice::default()),
        ];
        for script in boots.iter().chain(&others) {
            let labels: Vec<_> = script.lines().filter_map(|line| line.strip_prefix(':')).collect();
            let words: Vec<_> = script.split_whitespace().collect();
            for pair in words.windows(2).filter(|pair| pair[0] == "goto") {
                let found = labels.iter().filter(|label| **label == pair[1]).count();
                assert_eq!(found, 1, "{}: {script}", pair[1]);
            }
        }
    }

    /// What iPXE makes of the kernel line is what the client's parser expects.
    #[test]
    fn the_client_understands_the_arguments() {
        use proto::kernel_args::{KernelArgs, Pin, Source};
        let offer = Offer {
            revision: "debian@0123456789ab".parse().unwrap(),
            pin: Sha256Digest([0xab; 32]),
            takes_token: true,
        };
        let script = boot(node(), &offer, &site(), &Choice::default());
        let base = "http://10.0.0.1:8080/revisions/debian/0123456789ab";
        let line = script.lines().find(|l| l.starts_with("kernel ")).unwrap();
        let line = line.replace("${base}", base).replace(" || goto failed", "");
        let args = KernelArgs::parse(&line).unwrap();
        assert_eq!(args.source, Source::Manifest(format!("{base}/manifest.json")));
        assert_eq!(args.pin, Some(Pin::Manifest(Sha256Digest([0xab; 32]))));
        assert_eq!(args.trackers, ["http://10.0.0.1:6969/announce"]);
        assert_eq!(args.node, Some(node()));
        assert_eq!(args.token.as_deref(), Some("00ff"));
    }

    #[test]
    fn a_reason_cannot_become_a_command() {
        let reason = "nothing in \"x\"\nshell || ${y} && \u{7}é";
        let script = wait(node(), reason, &site().tracker, &Choice::default());
        assert_eq!(script.lines().count(), 9, "{script}");
        let line = script.lines().nth(2).unwrap();
        assert_eq!(line, "set what nothing in \"x\"?shell ?? ?{y} ?? ??");
        let script = disk(node(), reason);
        assert_eq!(script.lines().count(), 4, "{script}");
        assert!(script.ends_with(": nothing in \"x\"?shell ?? ?{y} ?? ??\nexit 1\n"), "{script}");
    }
}
