//! What becomes of an image's dm-verity tree on a kernel without device-mapper, which every machine can
//! pass for. What the kernel does with one is tested in machines (`cargo xtask demo`).

use crate::boot::{Machine, serve};
use crate::image::Image;
use crate::peers::Seeder;
use crate::process::Process;
use crate::server::Server;

/// Boots `image` with `argument` where device-mapper does not listen; gives its loop device, too.
fn boot(image: fn(&[String]) -> Image, argument: &str) -> (Machine, Process, String) {
    let server = Server::start();
    let image = image(&[server.url("/announce")]);
    serve(&server, &image);
    let _seeder = Seeder::start(&image);
    let machine = Machine::new(&format!(
        "root=beeswarm:{} beeswarm.listen=127.0.0.1:0 {argument}",
        server.url("/rev/")
    ));
    let nowhere = machine.path("no-mapper").display().to_string();
    let mut process = machine.boot(&["--mapper", &nowhere], "cat $root/etc/hostname > $run/seen");
    // the image is here: tracker and seeder may go
    let device = process.event("attach")["device"].as_str().unwrap().to_owned();
    (machine, process, device)
}

#[test]
fn without_device_mapper_the_image_is_mounted_all_the_same_and_it_is_said() {
    for (argument, words) in [
        ("", "no device-mapper"),
        ("beeswarm.verity=auto", "(module dm_mod)"),
        ("beeswarm.verity=off", "=off"),
    ] {
        let (machine, mut process, device) = boot(Image::with_tree, argument);
        let mount = process.event("mount");
        let reason = mount["verity"]["inactive"].as_str().unwrap();
        assert!(reason.contains(words), "{argument}: {mount}");
        assert_eq!(process.exit(), 0);
        assert_eq!(std::fs::read_to_string(machine.path("run/seen")).unwrap(), "from-the-image\n");
        assert_eq!(machine.record().verity, None);
        assert_eq!(machine.record().device, device);
    }
}

#[test]
fn an_image_without_a_tree_has_nothing_to_say() {
    let (_machine, mut process, _) = boot(Image::root, "");
    assert!(process.event("mount").get("verity").is_none());
    assert_eq!(process.exit(), 0);
}

#[test]
fn who_demands_it_boots_nothing_else() {
    for (image, words) in [
        (Image::with_tree as fn(&[String]) -> Image, "no device-mapper"),
        (Image::root, "the image has no dm-verity tree"),
    ] {
        let (machine, mut process, device) = boot(image, "beeswarm.verity=require");
        let failed = process.event("failed");
        let message = failed["message"].as_str().unwrap();
        assert!(message.contains("beeswarm.verity=require") && message.contains(words), "{failed}");
        assert_eq!(failed["refused"], "unchecked");
        assert_eq!(process.exit(), 14);
        let number = sys::loop_device::DeviceNumber::of_path(device.as_ref()).unwrap();
        let backing = sys::loop_device::backing_file(number);
        let own = machine.path("run/image/rootimg.sfs");
        assert!(backing.is_none_or(|file| file != own), "{device} is still attached");
    }
}
