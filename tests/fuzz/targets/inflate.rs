//! See [`fuzz::harness::inflate`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::allocations::within_budget(|| fuzz::harness::inflate(data)));
