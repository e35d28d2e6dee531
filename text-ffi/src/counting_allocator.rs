//! The system allocator with a count of the bytes that the current thread
//! holds, by which chat templates (template/limits.rs) and grammars (matcher.rs)
//! are stopped before they take too much memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD_BYTES: Cell<isize> = const { Cell::new(0) };
}

/// Bytes allocated less bytes freed by this thread. Memory that another
/// thread frees stays counted here, so only differences on one thread mean
/// something.
pub fn held_bytes() -> isize {
    HELD_BYTES.with(Cell::get)
}

fn count(bytes: isize) {
    // A thread that is going down may free memory after its counter is gone.
    let _ = HELD_BYTES.try_with(|held| held.set(held.get().wrapping_add(bytes)));
}

pub struct CountingAllocator;

// SAFETY: every call is passed on to the system allocator unchanged.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        System.alloc(layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        System.alloc_zeroed(layout)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        System.dealloc(pointer, layout)
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size as isize - layout.size() as isize);
        System.realloc(pointer, layout, new_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_bytes_follow_a_vector() {
        let before = held_bytes();
        let vector = vec![0u8; 1 << 20];
        assert_eq!(held_bytes() - before, 1 << 20);
        drop(vector);
        assert_eq!(held_bytes(), before);
    }
}
