//! What the tracker's page of a node says of its trouble, when its own client told the tracker.

use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::{Cmd, Node, Proc, http, program};

use super::fixture::{ADMIN, Cluster, LIMIT};

/// A fetch that reports to the tracker and sees the cards of its own node: `/sys` of the lab is the host's.
pub(crate) fn fetch(node: &Node, source: &str, further: &[&str]) -> Proc {
    let own_sysfs = "mount -t sysfs sysfs /sys && exec \"$0\" \"$@\"";
    let command = Cmd::new("unshare")
        .args(["--mount", "sh", "-c", own_sysfs])
        .arg(program("bee-initrd-client").unwrap())
        .args(["fetch", "--keep-seeding", "--json", "--listen", "0.0.0.0:6881"])
        .args(["--torrent", source, "--output"])
        .arg(node.scratch().join("image"))
        .args(["--report", &format!("http://{ADMIN}:6969"), "--node", node.mac()])
        .args(further);
    node.spawn(&command).unwrap()
}

/// Waits until this is what is wrong with a node now, as the box above all else on its page has it.
pub(crate) fn troubled(cluster: &Cluster, node: &Node, cause: &str, text: &str) {
    says(cluster, node, &format!("<b>{cause}</b>: "), text);
}

/// Waits until this is among what the node has said: what could not be told at once is told later.
pub(crate) fn told(cluster: &Cluster, node: &Node, cause: &str, text: &str) {
    says(cluster, node, &format!("<td>{cause}: "), text);
}

fn says(cluster: &Cluster, node: &Node, cause: &str, text: &str) {
    let tracker = format!("{ADMIN}:6969").parse().unwrap();
    let path = format!("/nodes/{}", node.mac());
    let deadline = Instant::now() + LIMIT;
    loop {
        // a tracker that was started a moment ago may not listen yet
        let page = http::get(&cluster.admin, tracker, &path, LIMIT).map_or(vec![], |r| r.body);
        let page = String::from_utf8(page).unwrap();
        // behind its style sheet
        let page = page.split("<main").nth(1).unwrap_or(&page);
        let details = page.split(cause).skip(1).filter_map(|rest| rest.split('<').next());
        if details.into_iter().any(|detail| detail.contains(text)) {
            return;
        }
        let name = node.name();
        assert!(Instant::now() < deadline, "the page of {name} lacks `{cause}…{text}`:\n{page}");
        sleep(Duration::from_millis(200));
    }
}
