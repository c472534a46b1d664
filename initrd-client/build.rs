//! Link options that make `bee-initrd-client` smaller where it goes into an initrd: optimised for
//! size (the profile `initrd`), static with musl. Here, and not in the commands that build it, so
//! that every build of it is the one that was tested.

use std::env;
use std::path::Path;
use std::process::Command;

/// The first compiler whose musl (1.2.5) relocates itself with packed relocations; with an older
/// one the program would crash before `main`.
const PACKED_RELOCATIONS_SINCE: u32 = 93;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=no-unwind-tables.ld");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if !(is("CARGO_CFG_TARGET_ENV", "musl") && is("OPT_LEVEL", "z")) {
        return;
    }
    let folder = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let script = Path::new(&folder).join("no-unwind-tables.ld");
    link_with(&format!("-Wl,--no-eh-frame-hdr,-T,{}", script.display()));
    // `sys::backtrace` takes the place of a function whose object file may be linked all the same
    link_with("-Wl,-z,muldefs");
    if compiler_minor().is_some_and(|minor| minor >= PACKED_RELOCATIONS_SINCE) {
        link_with("-Wl,-z,pack-relative-relocs");
    }
}

fn link_with(option: &str) {
    println!("cargo::rustc-link-arg-bins={option}");
}

/// 95 for rustc 1.95.0.
fn compiler_minor() -> Option<u32> {
    let output = Command::new(env::var_os("RUSTC")?).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(1)?.split('.').nth(1)?.parse().ok()
}
