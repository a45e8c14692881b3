//! See [`fuzz::harness::deltas`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::allocations::within_budget(|| fuzz::harness::deltas(data)));
