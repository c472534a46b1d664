//! What two revisions differ in.

use std::fs;
use std::path::PathBuf;

use proto::units::ByteSize;

use crate::support::{
    complete, events, noise, pack_image, packer, said, scratch, small_root, stderr, text,
};

#[test]
fn a_difference_names_packages_files_and_shared_pieces() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let status = root.join("var/lib/dpkg");
    fs::create_dir_all(&status).unwrap();
    let packages = |text: &str| fs::write(status.join("status"), text).unwrap();
    // so that there is more than one piece
    fs::write(root.join("etc/noise"), noise(400_000)).unwrap();
    packages("Package: bash\nVersion: 1\n\nPackage: old\nVersion: 7\n");
    let older = pack_image(&root, &store, &[]);
    packages("Package: bash\nVersion: 2\n\nPackage: new\nVersion: 8\n");
    fs::write(root.join("usr/bin/tool"), "smaller").unwrap();
    fs::remove_file(root.join("etc/hostname")).unwrap();
    fs::write(root.join("usr/more"), noise(50_000)).unwrap();
    let erofs = pack_image(&root, &store, &["--format", "erofs"]);
    let (kernel, initrd) = (dir.path().join("kernel"), dir.path().join("initrd"));
    fs::write(&kernel, [1; 1000]).unwrap();
    fs::write(&initrd, vec![2; 3 << 20]).unwrap();
    let boot = ["--kernel", text(&kernel), "--keep-initrd", text(&initrd)];
    let pack =
        ["pack", "--json", "--name", "test", "--source", text(&root), "--store", text(&store)];
    let newer = complete(&packer(&[&pack[..], &boot].concat()));
    let image_of = |packed: &serde_json::Value| {
        let path = PathBuf::from(packed["path"].as_str().unwrap());
        path.join("rootimg.sfs").metadata().unwrap().len()
    };
    let images = [&older, &newer].map(image_of);
    assert_ne!(images[0], images[1], "nothing could be told by them");
    let name =
        |packed: &serde_json::Value| format!("test@{}", packed["revision"].as_str().unwrap());
    let (older, newer, erofs) = (name(&older), name(&newer), name(&erofs));
    let output = packer(&["diff", &older, &newer, "--json", "--store", text(&store)]);
    assert!(output.status.success(), "{}", stderr(&output));
    let found = events(&output).pop().unwrap();
    assert_eq!(found["packages"]["added"][0]["name"], "new");
    assert_eq!(found["packages"]["removed"][0]["before"], "7");
    assert_eq!(found["packages"]["changed"][0]["after"], "2");
    assert_eq!(found["files"]["removed"][0]["path"], "etc/hostname");
    assert_eq!(
        found["files"]["added"][0],
        serde_json::json!({ "path": "usr/more", "before": null, "after": 50_000 })
    );
    let changed: Vec<_> =
        found["files"]["changed"].as_array().unwrap().iter().map(|c| &c["path"]).collect();
    assert_eq!(changed, ["usr/bin/tool", "var/lib/dpkg/status"]);
    assert_eq!(found["files"]["changed"][0]["before"], 100_000);
    let sizes = serde_json::json!([
        { "image": images[0], "kernel": null, "initrd": null },
        { "image": images[1], "kernel": 1000, "initrd": 3 << 20 },
    ]);
    assert_eq!(found["sizes"], sizes);
    let (shared, pieces) = (found["pieces"]["shared"].as_u64(), found["pieces"]["pieces"].as_u64());
    assert!(shared > Some(0) && shared < pieces, "{found}");

    let same = packer(&["diff", &newer, &erofs, "--files", "--store", text(&store)]);
    let same = said(&same);
    assert!(same.contains("files      0 added, 0 removed, 0 changed"), "{same}");
    assert!(same.contains("packages   0 added, 0 removed, 0 changed"), "{same}");
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains("/older") && !mounts.contains("/newer"), "{mounts}");
    let text = said(&packer(&["diff", &older, &newer, "--files", "--store", text(&store)]));
    for line in ["~ bash 1 → 2", "+ new 8", "- old 7", "- /etc/hostname", "~ /usr/bin/tool"] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
    let [before, after] = images.map(ByteSize);
    for line in [
        format!("image      {before} → {after}\n"),
        "kernel     none → 1000 B\n".to_owned(),
        "initrd     none → 3 MiB\n".to_owned(),
    ] {
        assert!(text.contains(&line), "{line:?} is not in {text}");
    }
}
