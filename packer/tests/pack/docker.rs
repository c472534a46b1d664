//! What `docker save` writes, by a docker of the test's own: what was built is what is packed.

use std::fs;
use std::process::Command;

use crate::layout::{Bed, image};
use crate::oci::real_image;
use crate::support::{Mounted, run, stderr, text};

/// `$1`: scratch directory. In namespaces of its own: no bridge, no firewall, no container of the host's docker
/// is touched, and everything ends with this shell.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs tmpfs /run
ip link set lo up
cd "$1"
export HOME="$1" DOCKER_HOST=unix:///run/docker.sock DOCKER_BUILDKIT=0
dockerd --storage-driver vfs --bridge none --iptables=false --ip6tables=false --ip-forward=false \
    --data-root "$1/docker" --exec-root /run/docker --pidfile /run/docker.pid --host "$DOCKER_HOST" \
    > docker.log 2>&1 &
until docker version > /dev/null 2>&1; do
    kill -0 $! 2> /dev/null || { tail -n 20 docker.log >&2; exit 1; }
done
docker load --quiet --input in.tar
docker build --quiet --tag site/node:v2 context
docker save --output both.tar site/node:v1 site/node:v2
kill $!
wait $! || true
"#;

#[test]
fn what_docker_builds_and_saves_is_what_umoci_makes_of_it() {
    let bed = Bed::new();
    let reference = real_image(&bed);
    let skopeo = |from: &str, to: &str| {
        run("skopeo", &["--insecure-policy", "copy", "--quiet", from, to]);
    };
    let layout = format!("oci:{}:v1", bed.layout().display());
    skopeo(&layout, &format!("docker-archive:{}:site/node:v1", bed.path("in.tar").display()));
    let context = bed.path("context");
    fs::create_dir_all(context.join("etc")).unwrap();
    fs::write(context.join("etc/motd"), "hello\n").unwrap();
    fs::write(context.join("etc/one"), "another\n").unwrap();
    fs::write(context.join("Dockerfile"), "FROM site/node:v1\nCOPY etc /etc/\n").unwrap();
    run("touch", &["-d", "2001-02-03T04:05:06Z", text(&context.join("etc/motd"))]);

    let mut docker = Command::new("setpriv");
    // a test that is killed leaves none of it behind
    docker.args(["--pdeathsig", "KILL", "timeout", "--kill-after", "5", "120", "unshare"]);
    docker.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    let output = docker.args(["sh", "-c", SCRIPT, "sh", text(&bed.path(""))]).output().unwrap();
    assert!(output.status.success(), "dockerd (docker.io) is needed here: {}", stderr(&output));

    let saved = format!("docker-archive:{}", bed.path("both.tar").display());
    let (plain, _) = bed.packed(text(&reference), &[]);
    let (first, manifest) = bed.packed(&format!("{saved}:site/node:v1"), &[]);
    assert_eq!(first["info_hash"], plain["info_hash"], "layers with whiteouts, links, attributes");
    assert_eq!(manifest["build"]["source"], "docker-archive");

    let (second, _) = bed.packed(&format!("{saved}:site/node:v2"), &[]);
    skopeo(&format!("{saved}:site/node:v2"), &format!("oci:{}:v2", bed.path("again").display()));
    let tagged = format!("{}:v2", bed.path("again").display());
    run("umoci", &["unpack", "--image", &tagged, text(&bed.path("second"))]);
    let (unpacked, _) = bed.packed(text(&bed.path("second/rootfs")), &[]);
    assert_eq!(second["info_hash"], unpacked["info_hash"]);
    let at = Mounted::new(&image(&second), bed.path("at"));
    assert_eq!(fs::read_to_string(at.0.join("etc/motd")).unwrap(), "hello\n");
    assert_eq!(fs::read_to_string(at.0.join("etc/one")).unwrap(), "another\n");
    assert_eq!(fs::read_to_string(at.0.join("srv/opaque/kept")).unwrap(), "new");
}
