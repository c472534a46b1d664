//! Fuzzes inventories of nodes, as CSV and as TOML.

#![no_main]

use beeswarm_tracker::inventory::{Format, Inventory};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for format in [Format::Csv, Format::Toml] {
        match Inventory::parse(format, text) {
            Ok(inventory) => {
                for entry in inventory.entries() {
                    assert!(!entry.macs.is_empty());
                    assert_eq!(inventory.named(entry.name.as_str()), Some(entry));
                    assert!(entry.macs.iter().all(|mac| inventory.of(*mac) == Some(entry)));
                }
            }
            Err(error) => assert!(error.line >= 1),
        }
    }
});
