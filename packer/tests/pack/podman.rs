//! What `podman save` writes, in each of its formats: what was built is what is packed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::layout::image;
use crate::support::{Mounted, files, pack_image, run, scratch, small_root, text};

/// podman with a storage of its own, in `dir`.
fn podman(dir: &Path, args: &[&str]) {
    let (storage, state) = (dir.join("storage"), dir.join("state"));
    // the driver that works on every file system, and nothing that needs systemd
    let own = ["--root", text(&storage), "--runroot", text(&state), "--storage-driver", "vfs"];
    let quiet = ["--events-backend", "none", "--cgroup-manager", "cgroupfs"];
    run("podman", &[&own[..], &quiet, args].concat());
}

#[test]
fn what_podman_builds_and_saves_is_packed_in_every_format() {
    let dir = scratch();
    let root = small_root(dir.path());
    let tar = dir.path().join("root.tar");
    run("tar", &["-cf", text(&tar), "-C", text(&root), "."]);
    podman(dir.path(), &["import", "--quiet", text(&tar), "localhost/node:v1"]);
    // a layer upon it
    let context = dir.path().join("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Containerfile"), "FROM localhost/node:v1\nCOPY motd /etc/\n").unwrap();
    fs::write(context.join("motd"), "hello\n").unwrap();
    run("touch", &["-d", "2001-02-03T04:05:06Z", text(&context.join("motd"))]);
    podman(dir.path(), &["build", "--quiet", "--tag", "localhost/node:v2", text(&context)]);

    let packed = |number: usize, source: &str| {
        let store = dir.path().join(format!("store{number}"));
        let packed = pack_image(Path::new(source), &store, &["--no-build-facts"]);
        (packed["info_hash"].clone(), image(&packed))
    };
    let mut images = Vec::new();
    for (format, name) in
        [("docker-archive", "docker.tar"), ("oci-archive", "oci.tar"), ("oci-dir", "oci")]
    {
        let to: PathBuf = dir.path().join(name);
        let save = ["save", "--quiet", "--format", format, "--output", text(&to)];
        podman(dir.path(), &[&save[..], &["localhost/node:v2"]].concat());
        images.push(packed(images.len(), text(&to)));
        if format != "oci-dir" {
            images.push(packed(images.len(), &format!("{format}:{}", to.display())));
        }
    }
    assert!(images.iter().all(|image| image.0 == images[0].0), "{images:?}");
    let at = Mounted::new(&images[0].1, dir.path().join("at"));
    let found: Vec<String> = files(&at.0).iter().map(|path| path.display().to_string()).collect();
    let expected = ["etc", "etc/hostname", "etc/motd", "usr", "usr/bin", "usr/bin/tool"];
    assert_eq!(found, expected);
    assert_eq!(fs::read_to_string(at.0.join("etc/motd")).unwrap(), "hello\n");
    let tool = |root: &Path| fs::read(root.join("usr/bin/tool")).unwrap();
    assert!(tool(&at.0) == tool(&root));
}
