//! Fuzzes orders to reimage nodes in batches.

#![no_main]

#[path = "../../proto/tests/fuzz/targets.rs"]
#[expect(dead_code, reason = "one file holds all targets; this binary runs one of them")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    targets::rollout_order(data);
});
