//! Sets `for_initrd` for the program that goes into an initrd: optimised for size (the
//! profile `initrd`), static with musl. `initrd-client/build.rs` links that one without the tables
//! that backtraces are made from.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(for_initrd)");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_ENV", "musl") && is("OPT_LEVEL", "z") {
        println!("cargo::rustc-cfg=for_initrd");
    }
}
