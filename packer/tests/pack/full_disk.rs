//! A disk that is full when the store is to change: nothing changes, the error says what helps, and that helps.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::support::{
    SmallDisk, complete, files, noise, packer, run, scratch, small_root, stderr, text,
};

/// Everything in a store: what it is, where it leads, what is in it; and the times of links, by which the newest
/// revision is told.
fn state(store: &Path) -> Vec<(PathBuf, String)> {
    let of = |path: PathBuf| {
        let full = store.join(&path);
        let meta = full.symlink_metadata().unwrap();
        let what = match fs::read_link(&full) {
            Ok(target) => format!("{target:?} {:?}", meta.modified().unwrap()),
            Err(_) if meta.is_dir() => "directory".to_owned(),
            Err(_) => format!("{:?}", fs::read(&full).unwrap()),
        };
        (path, what)
    };
    files(store).into_iter().map(of).collect()
}

/// Leaves no block.
fn fill_blocks(disk: &Path) {
    let mut file = File::create(disk.join("filler")).unwrap();
    while file.write(&[7; 4096]).is_ok_and(|count| count > 0) {}
}

/// Leaves no inode.
fn fill_inodes(disk: &Path) {
    fs::create_dir(disk.join("filler")).unwrap();
    for number in 0.. {
        if File::create(disk.join(format!("filler/{number}"))).is_err() {
            return;
        }
    }
}

#[test]
fn a_full_disk_changes_nothing_and_pruning_it_helps() {
    let dir = scratch();
    let root = small_root(dir.path());
    let key = dir.path().join("key");
    complete(&packer(&["keygen", "--json", "--empty-password", "--sign-key", text(&key)]));
    for (name, fill) in [("blocks", fill_blocks as fn(&Path)), ("inodes", fill_inodes)] {
        let disk = SmallDisk::new(dir.path().join(name), "8m");
        run("mount", &["-o", "remount,nr_inodes=200", text(&disk.0)]);
        let store = disk.0.join("store");
        let mut revisions = Vec::new();
        for version in 0..4 {
            fs::write(root.join("usr/bin/version"), noise(300_000 + version)).unwrap();
            // the last one is there, but no node boots it
            let further: &[&str] = if version < 3 { &["--publish"] } else { &[] };
            let pack = ["pack", "--json", "--name", "test", "--source", text(&root)];
            let boot = ["--kernel", text(&key), "--keep-initrd", text(&key), "--store"];
            let packed = complete(&packer(&[&pack[..], &boot, &[text(&store)], further].concat()));
            revisions.push(format!("test@{}", packed["revision"].as_str().unwrap()));
        }
        let at = ["--store", text(&store)];
        let reimage = ["reimage", "--at-next-boot", "--ethers", "/no/such/file", "--nodes"];
        let (told, further) = ("52:54:00:00:00:01", "52:54:00:00:00:02");
        let output = packer(&[&reimage[..], &[told, &revisions[2]], &at].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        fill(&disk.0);
        let before = state(&store);
        let sign = ["sign", &revisions[2], "--empty-password", "--sign-key", text(&key)];
        let changes = [
            &["publish", &revisions[3]][..],
            &["publish", &revisions[0], "--channel", "testing"],
            &["unpublish", &revisions[1]],
            &["rollback", "test"],
            &sign,
            &[&reimage[..], &[further, &revisions[3]]].concat(),
            &["unassign", "--all"],
        ];
        for args in changes {
            let output = packer(&[args, &at].concat());
            let message = stderr(&output);
            assert_eq!(output.status.code(), Some(5), "{name}, {args:?}: {message}");
            for word in ["cannot write", "some space", "prune"] {
                assert!(message.contains(word), "{name}, {args:?}: {word:?} is not in: {message}");
            }
            assert!(state(&store) == before, "{name}: {args:?} changed something");
        }
        for args in [&["verify"][..], &["list"], &["history"], &["inspect", "test"]] {
            let output = packer(&[args, &at].concat());
            assert!(output.status.success(), "{name}, {args:?}: {}", stderr(&output));
        }

        // what the errors advise; it must itself need no room
        let prune = ["prune", "test", "--keep", "3", "--ignore-nodes"];
        let output = packer(&[&prune[..], &at].concat());
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(&revisions[0]), "{said}");
        let gone = revisions[0].replace('@', "/");
        assert!(!store.join("revisions").join(&gone).exists());
        assert!(fs::symlink_metadata(store.join("published").join(&gone)).is_err());
        let tmp: Vec<_> = files(&store.join("tmp"));
        assert_eq!(tmp, [".lock"].map(PathBuf::from), "{name}: leftovers");
        let later = [&["rollback", "test"][..], &["publish", &revisions[3]], &sign];
        for args in later {
            let output = packer(&[args, &at].concat());
            assert!(output.status.success(), "{name}, {args:?}: {}", stderr(&output));
        }
        let output = packer(&["verify", at[0], at[1]]);
        assert!(output.status.success(), "{name}: {}", stderr(&output));
    }
}
