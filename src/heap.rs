//! The memory of static builds: little is asked of the kernel while little is needed, and huge pages after that.
//!
//! In: what Rust's allocator is asked for. Out: memory. A small request touches a few dozen pages in half a millisecond; one that makes a
//! pack touches thousands, and each of them the kernel has to find, to clear and to map: two megabytes at once cost what a hundred
//! pages do. Nothing is given back to the kernel: what is free is used again, and most processes end with their request.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether much will be needed.
static MUCH: AtomicBool = AtomicBool::new(false);

/// From now on huge pages are asked for: what is done next needs more than one has.
pub fn expect_much() {
    MUCH.store(true, Ordering::Relaxed);
}

#[cfg(any(target_env = "musl", test))]
mod allocator;
#[cfg(any(target_env = "musl", test))]
pub use allocator::Heap;
