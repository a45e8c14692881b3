//! See [`fuzz::harness::receive_commands`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::allocations::within_budget(|| fuzz::harness::receive_commands(data)));
