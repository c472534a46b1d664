//! Container images that want out, that are damaged, or that are not the one that was meant.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use proto::hash::Sha256Digest;
use serde_json::{Value, json};

use crate::layout::{Bed, here, image};
use crate::support::{Mounted, complete, events, files, packer, run, stderr, text};
use crate::tarball::Tarball;

#[test]
fn layers_cannot_reach_out_of_the_root() {
    let bed = Bed::new();
    let outside = bed.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "x").unwrap();
    let base = Tarball::root().directory("srv/data/").file("srv/data/old", "x").bytes();
    // a layer turns a directory into a link, the next ones go through it
    let link = Tarball::empty().symlink("srv/data", text(&outside)).bytes();
    let write = Tarball::empty().file("srv/data/evil", "x").bytes();
    let remove = Tarball::empty().file("srv/data/.wh.precious", "").bytes();
    let opaque = Tarball::empty().file("srv/data/.wh..wh..opq", "").bytes();
    let source = bed.index(&[bed.image(&[base.clone(), link, write, remove, opaque], here())]);
    let (packed, _) = bed.packed(&source, &[]);
    assert_eq!(files(&outside), [Path::new("precious")]);
    let mounted = Mounted::new(&image(&packed), bed.path("at"));
    assert!(mounted.0.join("srv/data").symlink_metadata().unwrap().is_symlink());
    assert!(mounted.0.join(outside.strip_prefix("/").unwrap()).is_dir());
    for (member, word) in
        [("../evil", "leads out"), (".wh...", "whiteout of nothing"), (".wh.", "whiteout")]
    {
        let bed = Bed::new();
        let bad = Tarball::empty().file(member, "x").bytes();
        let source = bed.index(&[bed.image(&[base.clone(), bad], here())]);
        bed.refused(&source, &[], &["layer 2 of 2", member, word]);
    }
    let bed = Bed::new();
    let bad = Tarball::empty().hard_link("srv/passwd", "/etc/passwd").bytes();
    let source = bed.index(&[bed.image(&[base, bad], here())]);
    bed.refused(&source, &[], &["layer 2 of 2", "srv/passwd", "not in it before"]);
}

#[test]
fn whiteouts_concern_what_is_below_them() {
    let bed = Bed::new();
    let base = {
        let mut tar = Tarball::root();
        tar.directory("srv/dir/").directory("srv/dir/sub/").file("srv/dir/sub/low", "low");
        tar.file("srv/file", "low").file("srv/dir/low", "low").symlink("srv/link", "dir");
        tar.bytes()
    };
    let upper = {
        let mut tar = Tarball::empty();
        // of this layer: stays, before and behind the whiteout of its name
        tar.file("srv/file", "high").file("srv/.wh.file", "");
        tar.directory("srv/dir/").file("srv/dir/sub/high", "high").file("srv/dir/.wh..wh..opq", "");
        tar.file("srv/.wh.nothing", "").file("no/where/.wh.nothing", "");
        // by another name of the same directory
        tar.file("srv/link/also", "high").file("srv/dir/.wh.also", "");
        // notes of a builder, about the layer
        tar.file(".wh..wh.plnk", "x");
        tar.bytes()
    };
    let source = bed.index(&[bed.image(&[base, upper], here())]);
    let (packed, _) = bed.packed(&source, &[]);
    let mounted = Mounted::new(&image(&packed), bed.path("at"));
    let srv = mounted.0.join("srv");
    let found: Vec<String> = files(&srv).iter().map(|p| p.display().to_string()).collect();
    assert_eq!(found, ["dir", "dir/also", "dir/sub", "dir/sub/high", "file", "link"]);
    assert_eq!(fs::read_to_string(srv.join("file")).unwrap(), "high");
    assert_eq!(
        files(&mounted.0).iter().filter(|p| p.to_str().unwrap().contains(".wh.")).count(),
        0
    );
}

#[test]
fn a_wrong_digest_is_named() {
    let base = Tarball::root().bytes();
    let digest = |descriptor: &Value| descriptor["digest"].as_str().unwrap()[7..].to_owned();
    let damage = |bed: &Bed, name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let path = bed.layout().join("blobs/sha256").join(name);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    };
    let layer = Sha256Digest::of(&base).to_string();
    let flip = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1;
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(700);
    for (change, word) in
        [(&flip as &dyn Fn(&mut Vec<u8>), "and it has sha256:"), (&cut, "and it has 700")]
    {
        let bed = Bed::new();
        let source = bed.index(&[bed.image(std::slice::from_ref(&base), here())]);
        damage(&bed, &layer, change);
        bed.refused(&source, &[], &["layer 1 of 1", &layer, word, "Copy the image again"]);
    }
    // the manifest, and what it names, as well
    let bed = Bed::new();
    let manifest = bed.image(std::slice::from_ref(&base), here());
    let source = bed.index(std::slice::from_ref(&manifest));
    damage(&bed, &digest(&manifest), &|bytes| bytes[5] ^= 1);
    bed.refused(&source, &[], &["manifest", "damaged or was replaced"]);
    // a layer that is what its descriptor says, but not what the configuration says
    let bed = Bed::new();
    let blob = bed.blob("application/vnd.oci.image.layer.v1.tar", &base);
    let other = format!("sha256:{}", "0".repeat(64));
    let config =
        json!({ "architecture": here(), "os": "linux", "rootfs": { "diff_ids": [other] } });
    let source = bed.index(&[bed.manifest(&config, std::slice::from_ref(&blob))]);
    bed.refused(&source, &[], &["without compression", &other, &layer]);
    let config = json!({ "architecture": here(), "os": "linux", "rootfs": { "diff_ids": [] } });
    let source = bed.index(&[bed.manifest(&config, &[blob])]);
    bed.refused(&source, &[], &["1 layers", "its configuration 0"]);
    // compressed, and damaged behind what the decoder still understands
    let bed = Bed::new();
    fs::write(bed.path("layer.tar"), &base).unwrap();
    run("gzip", &[text(&bed.path("layer.tar"))]);
    let packed = fs::read(bed.path("layer.tar.gz")).unwrap();
    let blob = bed.blob("application/vnd.oci.image.layer.v1.tar+gzip", &packed);
    let ids = [format!("sha256:{layer}")];
    let config = json!({ "architecture": here(), "os": "linux", "rootfs": { "diff_ids": ids } });
    let source = bed.index(&[bed.manifest(&config, std::slice::from_ref(&blob))]);
    damage(&bed, &digest(&blob), &flip);
    bed.refused(&source, &[], &["layer 1 of 1", &digest(&blob), "and it has sha256:"]);
    fs::remove_file(bed.layout().join("blobs/sha256").join(digest(&blob))).unwrap();
    bed.refused(&source, &[], &["layer 1 of 1", "is missing", "with all layers"]);
}

#[test]
fn one_image_of_several_is_chosen() {
    let ours = Tarball::root().file("srv/ours", "x").bytes();
    let other = Tarball::root().bytes();
    let bed = Bed::new();
    let (amd, arm) = (bed.image(&[ours], here()), bed.image(&[other], "mips"));
    let platform = |mut descriptor: Value, architecture: &str| {
        descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
        descriptor
    };
    let attestation = {
        let mut descriptor = platform(amd.clone(), "unknown");
        descriptor["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
        descriptor
    };
    let several = [platform(amd.clone(), here()), platform(arm.clone(), "mips"), attestation];
    let index = json!({ "schemaVersion": 2, "manifests": several });
    let kind = "application/vnd.oci.image.index.v1+json";
    let nested = bed.blob(kind, &serde_json::to_vec(&index).unwrap());
    let source = bed.index(&[nested]);
    let (_, manifest) = bed.packed(&source, &[]);
    assert_eq!(manifest["build"]["source-manifest"], amd["digest"]);
    let (_, manifest) = bed.packed(&source, &["--platform", "linux/mips"]);
    assert_eq!(manifest["build"]["source-manifest"], arm["digest"]);

    let bed = Bed::new();
    let only = bed.index(&[bed.image(&[Tarball::root().bytes()], "mips")]);
    bed.refused(&only, &[], &["no image for linux/", "it holds linux/mips", "--platform"]);
    let named = |name: &str, bytes: Vec<u8>| {
        let mut descriptor = bed.image(&[bytes], here());
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        descriptor
    };
    let first = named("first", Tarball::root().bytes());
    let second = named("second", Tarball::root().file("srv/second", "x").bytes());
    let both = bed.index(&[first.clone(), second]);
    bed.refused(&both, &[], &["more than one image", "first", "second", "FILE:TAG"]);
    bed.refused(&format!("{both}:third"), &[], &["no image with the tag third", "first, second"]);
    let (_, manifest) = bed.packed(&format!("{both}:first"), &[]);
    assert_eq!(manifest["build"]["source-manifest"], first["digest"]);
}

/// As Docker wrote it before version 25: a directory for each layer, and a link for one that occurs
/// twice.
#[test]
fn an_old_docker_archive_with_links() {
    let bed = Bed::new();
    let (base, upper) = (Tarball::root().bytes(), Tarball::empty().file("srv/x", "x").bytes());
    let id = |bytes: &[u8]| format!("sha256:{}", Sha256Digest::of(bytes));
    let config = json!({
        "architecture": here(), "os": "linux",
        "rootfs": { "diff_ids": [id(&base), id(&upper), id(&upper)] },
    });
    let config = config.to_string();
    let name = format!("{}.json", Sha256Digest::of(config.as_bytes()));
    let manifest = json!([{
        "Config": name, "RepoTags": null, "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"],
    }]);
    let mut tar = Tarball::empty();
    let mut write = |name: &str, bytes: &[u8]| {
        tar.add(name.as_bytes(), b'0', b"", bytes);
    };
    write("a/layer.tar", &base);
    write("b/layer.tar", &upper);
    write(&name, config.as_bytes());
    write("manifest.json", manifest.to_string().as_bytes());
    tar.symlink("c/layer.tar", "../b/layer.tar").write(&bed.path("saved.tar"));
    let source = format!("docker-archive:{}", bed.path("saved.tar").display());
    let (_, packed) = bed.packed(&source, &[]);
    assert_eq!(packed["build"]["source-image"], id(config.as_bytes()));
}

/// As Docker writes it since version 25: an image layout with a `manifest.json` beside.
#[test]
fn a_docker_archive_that_is_a_layout_as_well() {
    let bed = Bed::new();
    let layers = [Tarball::root().bytes(), Tarball::empty().file("srv/x", "x").bytes()];
    let mut descriptor = bed.image(&layers, here());
    descriptor["annotations"] = json!({
        "io.containerd.image.name": "docker.io/site/node:v1",
        "org.opencontainers.image.ref.name": "v1",
    });
    bed.index(&[descriptor.clone()]);
    let blob = |digest: &Value| format!("blobs/{}", digest.as_str().unwrap().replace(':', "/"));
    let manifest = fs::read(bed.layout().join(blob(&descriptor["digest"]))).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let names = manifest["layers"].as_array().unwrap().iter().map(|layer| blob(&layer["digest"]));
    let docker = json!([{
        "Config": blob(&manifest["config"]["digest"]),
        "RepoTags": ["site/node:v1"],
        "Layers": names.collect::<Vec<_>>(),
    }]);
    fs::write(bed.layout().join("manifest.json"), docker.to_string()).unwrap();
    let saved = bed.path("saved.tar");
    let members = ["blobs", "index.json", "manifest.json", "oci-layout"];
    run("tar", &[&["-cf", text(&saved), "-C", text(&bed.layout())], &members[..]].concat());
    let packed = |source: &str| bed.packed(source, &[]).0["info_hash"].clone();
    let expected = packed(text(&bed.layout()));
    for source in ["", "oci-archive:", "docker-archive:"] {
        assert_eq!(packed(&format!("{source}{}", saved.display())), expected, "{source}");
    }
    assert_eq!(packed(&format!("docker-archive:{}:site/node:v1", saved.display())), expected);
}

#[test]
fn an_image_without_an_init_is_told() {
    let bed = Bed::new();
    let warned = |tar: &Tarball| {
        let source = bed.index(&[bed.image(&[tar.bytes()], here())]);
        let output = bed.pack(&source, &[]);
        complete(&output);
        events(&output).iter().any(|e| e.to_string().contains("made for containers"))
    };
    assert!(warned(&Tarball::root()));
    assert!(!warned(Tarball::root().symlink("sbin", "usr/bin").file("usr/bin/init", "x")));
    // and one without a kernel: what to do is said
    let source = bed.index(&[bed.image(&[Tarball::root().bytes()], here())]);
    let store = bed.path("store");
    let args = ["pack", "--name", "test", "--source", &source, "--store", text(&store)];
    let message = stderr(&packer(&args));
    assert!(
        message.contains("no kernel modules") && message.contains("--keep-initrd"),
        "{message}"
    );
}

#[test]
fn what_is_no_image_is_told() {
    let bed = Bed::new();
    let tar = bed.path("root.tar");
    Tarball::root().write(&tar);
    let tar = tar.display();
    bed.refused(&format!("oci-archive:{tar}"), &[], &["no oci-layout", "skopeo copy"]);
    bed.refused(&format!("docker-archive:{tar}"), &[], &["no manifest.json", "docker save"]);
    fs::create_dir(bed.layout()).unwrap();
    bed.refused(&format!("oci:{}", bed.layout().display()), &[], &["no oci-layout"]);
    let broken = bed.index(&[]);
    fs::File::create(bed.layout().join("index.json")).unwrap().write_all(b"{").unwrap();
    bed.refused(&broken, &[], &["index.json is not understood"]);
    let output = bed.pack("oci:/no/where", &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("/no/where"));
}
