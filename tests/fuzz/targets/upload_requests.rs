//! See [`fuzz::harness::upload_requests`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::allocations::within_budget(|| fuzz::harness::upload_requests(data)));
