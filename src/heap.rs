//! The memory of static builds: small mappings while little is needed, huge pages after that.
//!
//! In: the requests to Rust's allocator. Out: memory. A small request touches a few dozen pages in half a millisecond.
//! One that makes a pack touches thousands, each of which the kernel has to find, clear and map; two megabytes at once
//! cost as much as a hundred pages. Memory is never returned to the kernel: what is freed is used again, and most
//! processes end with their request.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether much memory will be needed.
static MUCH: AtomicBool = AtomicBool::new(false);

/// Makes the allocator ask for huge pages from this call on, because the coming work needs more than one.
pub fn expect_much() {
    MUCH.store(true, Ordering::Relaxed);
}

#[cfg(any(target_env = "musl", test))]
mod allocator;
#[cfg(any(target_env = "musl", test))]
pub use allocator::Heap;
