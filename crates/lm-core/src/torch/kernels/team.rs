//! Work on the threads that libtorch's operators use.
//!
//! Between two operators OpenMP's threads spin for a while, ready for the next one. Threads of another pool would fight them for
//! the processors, and sleeping ones would take longer to wake than a small product takes. So this module asks the same OpenMP
//! for the same team: libgomp, which libtorch and its bindings link.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Mutex;

/// Less than so many bytes of a result are not worth waking the other threads for.
pub(super) const ALONE: usize = 64 << 10;

unsafe extern "C" {
    /// What a compiler makes of `#pragma omp parallel`: `work(data)` on each thread of a team of `threads`, then a barrier.
    fn GOMP_parallel(
        work: extern "C" fn(*mut c_void),
        data: *mut c_void,
        threads: c_uint,
        flags: c_uint,
    );
    fn omp_get_thread_num() -> c_int;
    fn omp_get_num_threads() -> c_int;
}

/// `work(part, parts)` for each part, on at most `threads` threads; returns when all are done. It must not panic: the process
/// would abort.
pub(super) fn run(threads: usize, work: &(dyn Fn(usize, usize) + Sync)) {
    if threads <= 1 {
        return work(0, 1);
    }
    let mut data: &(dyn Fn(usize, usize) + Sync) = work;
    // SAFETY: `GOMP_parallel` returns after all threads have, so `data` outlives their use of it; `work` is `Sync`.
    unsafe {
        GOMP_parallel(
            on_this_thread,
            (&raw mut data).cast(),
            c_uint::try_from(threads).unwrap_or(1),
            0,
        );
    }
}

/// `work(first, part)` for parts of `out` of whole units of `unit` elements, `first` being the number of a part's first unit. As
/// [`run`], it must not panic.
pub(super) fn run_on<T: Send>(
    threads: usize,
    out: &mut [T],
    unit: usize,
    work: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    let units = out.len() / unit.max(1);
    let threads = threads.min(units);
    if threads <= 1 || size_of_val(out) < ALONE {
        return work(0, out);
    }
    let of_each = units.div_ceil(threads);
    let parts: Vec<Mutex<&mut [T]>> = out.chunks_mut(of_each * unit).map(Mutex::new).collect();
    run(threads, &|part, team| {
        for index in (part..parts.len()).step_by(team) {
            // Each is locked once.
            if let Some(Ok(mut own)) = parts.get(index).map(Mutex::lock) {
                work(index * of_each, &mut own);
            }
        }
    });
}

extern "C" fn on_this_thread(data: *mut c_void) {
    // SAFETY: `run` passes the address of such a reference, which nobody writes to; the two queries have no conditions.
    let (work, part, parts) = unsafe {
        (
            *data.cast::<&(dyn Fn(usize, usize) + Sync)>(),
            omp_get_thread_num(),
            omp_get_num_threads(),
        )
    };
    // The team may be smaller than what was asked for.
    work(
        part.cast_unsigned() as usize,
        parts.cast_unsigned() as usize,
    );
}
