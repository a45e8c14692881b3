//! The allocator: dlmalloc, with memory mapped as this program needs it.
//!
//! In: calls of [`GlobalAlloc`]. Out: memory. Nothing here allocates.

#![allow(unsafe_code)]

use super::MUCH;
use dlmalloc::{Allocator, Dlmalloc};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::alloc::{GlobalAlloc, Layout};
use std::ptr::null_mut;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The size of a huge page.
const HUGE_BYTES: usize = 2 << 20;
/// A process that has been given this much memory, and touched most of it, gets huge pages from then on.
const LITTLE_BYTES: usize = 1280 << 10;

/// The allocator. It must not be moved once used: the memory it hands out refers to it.
pub struct Heap(Mutex<Dlmalloc<Kernel>>);

impl Heap {
    /// The allocator of the process, empty.
    pub const fn of_process() -> Self {
        Heap::that_expects(&MUCH)
    }

    /// An empty allocator that asks for huge pages as soon as `much` is set.
    const fn that_expects(much: &'static AtomicBool) -> Self {
        Heap(Mutex::new(Dlmalloc::new_with_allocator(Kernel { given: AtomicUsize::new(0), much })))
    }

    fn lock(&self) -> MutexGuard<'_, Dlmalloc<Kernel>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: each call is passed on unchanged to dlmalloc, which has the same requirements and gives the same guarantees.
// The lock admits one thread at a time, and does not allocate itself.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe { self.lock().malloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { self.lock().free(at, layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        unsafe { self.lock().calloc(layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        unsafe { self.lock().realloc(at, layout.size(), layout.align(), size) }
    }
}

/// Where dlmalloc's memory comes from.
struct Kernel {
    /// How many bytes have been given so far.
    given: AtomicUsize,
    much: &'static AtomicBool,
}

// SAFETY: what is handed out is a new, zeroed mapping of the size reported, which is never unmapped.
unsafe impl Allocator for Kernel {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let is_much = self.much.load(Ordering::Relaxed) || self.given.load(Ordering::Relaxed) >= LITTLE_BYTES;
        let huge = if is_much { map_huge(size) } else { None };
        let Some((at, size)) = huge.or_else(|| Some((map(size)?, size))) else { return (null_mut(), 0, 0) };
        self.given.fetch_add(size, Ordering::Relaxed);
        (at, size, 0)
    }

    fn remap(&self, _at: *mut u8, _old: usize, _new: usize, _can_move: bool) -> *mut u8 {
        null_mut()
    }

    fn free_part(&self, _at: *mut u8, _old: usize, _new: usize) -> bool {
        false
    }

    fn free(&self, _at: *mut u8, _size: usize) -> bool {
        false
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        4096
    }
}

/// Maps this much memory; `None` if there is no more.
fn map(size: usize) -> Option<*mut u8> {
    // SAFETY: the kernel chooses an unused address range.
    let mapped = unsafe { mmap_anonymous(null_mut(), size, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) };
    mapped.ok().map(|at| at.cast())
}

/// Maps at least this much memory, in huge pages if the kernel has any. Returns its address and size.
fn map_huge(size: usize) -> Option<(*mut u8, usize)> {
    let size = size.checked_next_multiple_of(HUGE_BYTES)?;
    let whole = size.checked_add(HUGE_BYTES)?;
    let mapped = map(whole)?;
    let (before, behind) = edges(mapped.addr(), whole);
    let at = mapped.wrapping_add(before);
    // SAFETY: what is unmapped lies within the new mapping, before and after the part that is kept, and nothing refers
    // to it yet. If unmapping fails, the memory is never touched. Where there are no huge pages, the advice has no
    // effect.
    unsafe {
        let _ = munmap(mapped.cast(), before);
        if behind > 0 {
            let _ = munmap(at.wrapping_add(size).cast(), behind);
        }
        let _ = madvise(at.cast(), size, Advice::LinuxHugepage);
    }
    Some((at, size))
}

/// How much of a mapping is unmapped before and after the huge pages that are kept. They are placed as high as
/// possible: the kernel places mappings downwards, so they border on those of the previous mapping.
fn edges(address: usize, whole: usize) -> (usize, usize) {
    let behind = address.wrapping_add(whole) % HUGE_BYTES;
    (HUGE_BYTES - behind, behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A piece of memory from an allocator, filled with a pattern and freed when dropped.
    struct Piece<'h> {
        heap: &'h Heap,
        at: *mut u8,
        layout: Layout,
    }

    impl<'h> Piece<'h> {
        fn new(heap: &'h Heap, size: usize, align: usize, is_zeroed: bool) -> Self {
            let layout = Layout::from_size_align(size, align).unwrap();
            let at = unsafe { if is_zeroed { heap.alloc_zeroed(layout) } else { heap.alloc(layout) } };
            assert!(!at.is_null() && (at as usize).is_multiple_of(align));
            let mut piece = Piece { heap, at, layout };
            assert!(!is_zeroed || piece.bytes().iter().all(|byte| *byte == 0));
            piece.bytes().fill(size as u8);
            piece
        }

        fn bytes(&mut self) -> &mut [u8] {
            unsafe { std::slice::from_raw_parts_mut(self.at, self.layout.size()) }
        }

        fn check(&mut self) {
            let expected = self.layout.size() as u8;
            assert!(self.bytes().iter().all(|byte| *byte == expected), "{:?}", self.layout);
        }

        fn resize(&mut self, size: usize) {
            let (kept, expected) = (size.min(self.layout.size()), self.layout.size() as u8);
            self.at = unsafe { self.heap.realloc(self.at, self.layout, size) };
            assert!(!self.at.is_null() && (self.at as usize).is_multiple_of(self.layout.align()));
            self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
            assert!(self.bytes()[..kept].iter().all(|byte| *byte == expected));
            self.bytes().fill(size as u8);
        }
    }

    impl Drop for Piece<'_> {
        fn drop(&mut self) {
            unsafe { self.heap.dealloc(self.at, self.layout) }
        }
    }

    /// The tests' own flag, which nothing else in the process sets.
    static LITTLE: AtomicBool = AtomicBool::new(false);

    fn given(heap: &Heap) -> usize {
        heap.0.lock().unwrap().allocator().given.load(Ordering::Relaxed)
    }

    #[test]
    fn pieces_of_all_sizes_keep_what_is_theirs_and_are_used_again() {
        let heap = Heap::that_expects(&LITTLE);
        let mut most = 0;
        for round in 0..3 {
            let mut pieces: Vec<Piece<'_>> = Vec::new();
            for n in 0..2000_usize {
                let size = [n % 700, n * 37 % 9000, n * 4099 % 300_000][n % 3] + 1;
                pieces.push(Piece::new(&heap, size, 1 << (n % 8), n % 5 == 0));
                if n % 7 == 3 {
                    pieces.swap_remove(n * 31 % pieces.len()).check();
                }
                if n % 11 == 5 {
                    let at = n * 17 % pieces.len();
                    pieces[at].check();
                    pieces[at].resize(n * 523 % 100_000 + 1);
                }
            }
            pieces.iter_mut().for_each(Piece::check);
            assert!(round == 0 || given(&heap) <= most + 2 * HUGE_BYTES, "what was given is used again");
            most = given(&heap);
        }
        assert!(most > 16 * HUGE_BYTES);
    }

    #[test]
    fn threads_share_one_heap() {
        let heap = Heap::that_expects(&LITTLE);
        std::thread::scope(|scope| {
            for thread in 1..5_usize {
                let heap = &heap;
                scope.spawn(move || {
                    let mut pieces = std::collections::VecDeque::new();
                    for n in 0..5000 {
                        pieces.push_back(Piece::new(heap, n * thread * 97 % 5000 + 1, 8, false));
                        if pieces.len() > 50 {
                            pieces.pop_front().unwrap().check();
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn who_needs_little_is_given_little_and_who_needs_much_huge_pages() {
        let heap = Heap::that_expects(&LITTLE);
        let little: Vec<Piece<'_>> = (0..10).map(|_| Piece::new(&heap, 6000, 8, false)).collect();
        assert_eq!(given(&heap), 64 << 10);
        let mut much: Vec<Piece<'_>> = (0..300).map(|_| Piece::new(&heap, 6000, 8, false)).collect();
        assert!((LITTLE_BYTES..LITTLE_BYTES + 2 * HUGE_BYTES).contains(&given(&heap)));
        let last = much.last_mut().unwrap();
        let large = Piece::new(&heap, 3 * HUGE_BYTES, 8, true);
        assert!(given(&heap) < LITTLE_BYTES + 6 * HUGE_BYTES);
        assert!(!has_huge_pages_advised(little[0].at).unwrap_or(false));
        if std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
            assert_eq!(has_huge_pages_advised(last.at), Some(true));
            assert_eq!(has_huge_pages_advised(large.at), Some(true));
        }
        assert_eq!(unsafe { heap.alloc(Layout::from_size_align(isize::MAX as usize - 4096, 1).unwrap()) }, null_mut());
        last.check();
    }

    #[test]
    fn huge_pages_are_given_at_once_where_much_is_expected() {
        static ALL: AtomicBool = AtomicBool::new(true);
        let heap = Heap::that_expects(&ALL);
        let first = Piece::new(&heap, 100, 8, false);
        assert_eq!(given(&heap), HUGE_BYTES);
        assert_eq!((first.at as usize) / HUGE_BYTES, (first.at as usize + HUGE_BYTES / 2) / HUGE_BYTES);
        let (at, size) = map_huge(HUGE_BYTES + 1).unwrap();
        assert!(at.addr().is_multiple_of(HUGE_BYTES) && size == 2 * HUGE_BYTES);
    }

    #[test]
    fn huge_pages_stand_as_high_in_their_mapping_as_they_can() {
        let whole = 3 * HUGE_BYTES;
        for page in 0..HUGE_BYTES / 4096 {
            let address = 7 * HUGE_BYTES + page * 4096;
            let (before, behind) = edges(address, whole);
            assert!(
                (address + before).is_multiple_of(HUGE_BYTES) && before + behind == HUGE_BYTES && behind < HUGE_BYTES
            );
        }
        assert_eq!(edges(HUGE_BYTES, whole), (HUGE_BYTES, 0), "nothing lies between it and the mapping before");
    }

    /// Whether the kernel was advised to use huge pages for the mapping at an address (`VmFlags` of smaps).
    fn has_huge_pages_advised(at: *mut u8) -> Option<bool> {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut is_there = false;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            if let Some((start, end)) = range {
                let address = |text| usize::from_str_radix(text, 16).unwrap_or(0);
                is_there = (address(start)..address(end)).contains(&(at as usize));
            } else if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| is_there) {
                return Some(flags.split(' ').any(|flag| flag == "hg"));
            }
        }
        None
    }
}
