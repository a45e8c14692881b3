//! See [`fuzz::harness::pack_index`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::allocations::within_budget(|| fuzz::harness::pack_index(data)));
