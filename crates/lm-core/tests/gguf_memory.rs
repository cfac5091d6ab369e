//! No GGUF file, however it is made, costs more memory than its own size can justify.
//!
//! A binary of its own, because it counts what the whole process allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use lm_core::weights::gguf::Gguf;

#[path = "gguf/builder.rs"]
#[allow(dead_code, reason = "shared with another test binary")]
mod builder;
#[path = "gguf/corpus.rs"]
#[allow(dead_code, reason = "shared with another test binary")]
mod corpus;

/// Most heap that reading any one file may take, in bytes.
const LIMIT: usize = 64 << 20;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counting.
struct Counting;

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`, and the pointer came from the same allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes of heap at most in use while `file` is read, beyond those in use before.
fn peak(file: &[u8]) -> usize {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let gguf = Gguf::parse(file);
    let peak = PEAK.load(Ordering::Relaxed) - before;
    drop(gguf);
    peak
}

// One test only: a second thread's allocations would be counted as well.
#[test]
fn reading_costs_no_more_than_the_file_justifies() {
    for case in corpus::refused() {
        let peak = peak(&case.file);
        assert!(
            peak <= 4096 + 4 * case.file.len() && peak < LIMIT,
            "{}: {peak} bytes",
            case.name
        );
    }
    for (name, file) in corpus::costly() {
        let peak = peak(&file);
        assert!(
            peak < LIMIT,
            "{name}: {peak} bytes for a file of {}",
            file.len()
        );
    }
}
