//! Container images as builders write them: what umoci makes of one, we make of it, in every format.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::layout::{Bed, image};
use crate::support::{Mounted, files, run, text};
use crate::tarball::Tarball;

/// Makes an image of four layers with umoci, as a builder would; returns what umoci unpacks of it.
pub(crate) fn real_image(bed: &Bed) -> PathBuf {
    let layout = bed.layout();
    let tagged = format!("{}:v1", layout.display());
    run("umoci", &["init", "--layout", text(&layout)]);
    run("umoci", &["new", "--image", &tagged]);
    let steps: [&dyn Fn(&Path); 3] = [
        &|root| {
            fs::create_dir_all(root.join("usr/bin")).unwrap();
            fs::create_dir_all(root.join("etc/old/deep")).unwrap();
            fs::create_dir_all(root.join("srv/opaque/below")).unwrap();
            symlink("usr/bin", root.join("bin")).unwrap();
            for name in ["etc/one", "etc/two", "etc/old/deep/file", "srv/opaque/a", "srv/kind"] {
                fs::write(root.join(name), name).unwrap();
            }
            fs::write(root.join("usr/bin/tool"), vec![1; 300_000]).unwrap();
            fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/same")).unwrap();
            run("setcap", &["cap_net_raw+ep", text(&root.join("usr/bin/tool"))]);
            run("setfattr", &["-n", "user.note", "-v", "0x0a00ff", text(&root.join("etc/one"))]);
            run("mknod", &[text(&root.join("srv/device")), "c", "240", "7"]);
            run("touch", &["-d", "2001-02-03T04:05:06Z", text(&root.join("etc/one"))]);
            std::os::unix::fs::chown(root.join("etc/two"), Some(1234), Some(5678)).unwrap();
        },
        &|root| {
            fs::remove_file(root.join("etc/two")).unwrap();
            fs::remove_dir_all(root.join("etc/old")).unwrap();
            fs::remove_file(root.join("srv/kind")).unwrap();
            fs::create_dir(root.join("srv/kind")).unwrap();
            fs::write(root.join("srv/kind/now a directory"), "x").unwrap();
            fs::set_permissions(root.join("usr/bin/tool"), fs::Permissions::from_mode(0o4755))
                .unwrap();
            fs::write(root.join("usr/bin/new"), "x").unwrap();
            fs::hard_link(root.join("etc/one"), root.join("etc/three")).unwrap();
        },
        &|root| {
            fs::remove_dir_all(root.join("srv/kind")).unwrap();
            symlink("../etc", root.join("srv/kind")).unwrap();
            fs::create_dir(root.join("etc/old")).unwrap();
            fs::write(root.join("etc/old/again"), "x").unwrap();
        },
    ];
    for (number, step) in steps.iter().enumerate() {
        let bundle = bed.path(&format!("bundle{number}"));
        run("umoci", &["unpack", "--image", &tagged, text(&bundle)]);
        step(&bundle.join("rootfs"));
        run("umoci", &["repack", "--image", &tagged, text(&bundle)]);
    }
    // what umoci does not write by itself: an opaque directory, and its mark behind its files
    let mut tar = Tarball::empty();
    tar.directory("srv/").directory("srv/opaque/").file("srv/opaque/kept", "new");
    tar.file("srv/opaque/.wh..wh..opq", "").file("etc/.wh.three", "");
    tar.write(&bed.path("layer.tar"));
    run("umoci", &["raw", "add-layer", "--image", &tagged, text(&bed.path("layer.tar"))]);
    let unpacked = bed.path("unpacked");
    run("umoci", &["unpack", "--image", &tagged, text(&unpacked)]);
    unpacked.join("rootfs")
}

#[test]
fn a_real_image_is_what_umoci_makes_of_it_in_every_format() {
    let bed = Bed::new();
    let reference = real_image(&bed);
    let (plain, _) = bed.packed(text(&reference), &[]);
    let layout = format!("oci:{}:v1", bed.layout().display());
    let (packed, manifest) = bed.packed(&layout, &[]);
    if packed["info_hash"] != plain["info_hash"] {
        explain(&bed, &reference, &image(&packed));
    }
    let build = &manifest["build"];
    let index: Value =
        serde_json::from_slice(&fs::read(bed.layout().join("index.json")).unwrap()).unwrap();
    assert_eq!(build["source"], "oci");
    assert_eq!(build["source-manifest"], index["manifests"][0]["digest"]);

    let archive = |kind: &str, name: &str| format!("{kind}:{}", bed.path(name).display());
    let copy = |to: &str, further: &[&str]| {
        let policy = ["--insecure-policy", "copy", "--quiet"];
        run("skopeo", &[&policy[..], further, &[&layout, to]].concat());
    };
    copy(&(archive("oci-archive", "oci.tar") + ":v1"), &[]);
    copy(&(archive("docker-archive", "docker.tar") + ":site/node:v1"), &[]);
    copy(&(archive("oci", "zstd") + ":v1"), &["--dest-compress-format", "zstd"]);
    run("gzip", &["-k", text(&bed.path("docker.tar"))]);
    run("zstd", &["-q", text(&bed.path("oci.tar"))]);
    let bare = |name: &str| bed.path(name).display().to_string();
    for (source, kind) in [
        (archive("oci", "layout"), "oci"),
        (bare("layout"), "oci"),
        (archive("oci", "zstd"), "oci"),
        (archive("oci-archive", "oci.tar"), "oci"),
        (archive("oci-archive", "oci.tar") + ":v1", "oci"),
        (bare("oci.tar"), "oci"),
        (bare("oci.tar.zst"), "oci"),
        (archive("docker-archive", "docker.tar"), "docker-archive"),
        (archive("docker-archive", "docker.tar") + ":v1", "docker-archive"),
        (bare("docker.tar"), "docker-archive"),
        (bare("docker.tar.gz"), "docker-archive"),
    ] {
        let (packed, manifest) = bed.packed(&source, &[]);
        assert_eq!(packed["info_hash"], plain["info_hash"], "{source}");
        assert_eq!(manifest["build"]["source"], kind, "{source}");
    }
    let words = ["no image with the tag v2", "v1"];
    bed.refused_in(&archive("oci", "layout:v2"), &words);
    bed.refused_in(
        &archive("docker-archive", "docker.tar:v2"),
        &["no image with the tag v2", "node:v1"],
    );
}

/// What differs between a directory and an image, for people.
fn explain(bed: &Bed, reference: &Path, image: &Path) {
    let mounted = Mounted::new(image, bed.path("explain"));
    let list = |root: &Path| {
        let mut lines = Vec::new();
        for path in files(root) {
            let shown = ["-c", "%n %f %u:%g %h %t,%T %Y"];
            let full = root.join(&path);
            let line = run("stat", &[&shown[..], &[text(&full)]].concat());
            let attributes =
                run("getfattr", &["-h", "-d", "-m-", "-e", "hex", "--absolute-names", text(&full)]);
            lines.push(format!("{line}{attributes}").replace(text(root), ""));
        }
        lines
    };
    let (expected, found) = (list(reference), list(&mounted.0));
    let only = |a: &[String], b: &[String]| {
        a.iter().filter(|l| !b.contains(l)).cloned().collect::<String>()
    };
    panic!("umoci:\n{}\nours:\n{}", only(&expected, &found), only(&found, &expected));
}
