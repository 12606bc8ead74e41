//! Counts what a thread holds of the heap, so that tests can compare it with what operators say they hold.
#![expect(
    unsafe_code,
    reason = "an allocator is unsafe by its nature; this one hands everything on"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // While a thread ends there is nothing to count in.
    HELD.try_with(|held| held.set(held.get() + bytes)).unwrap_or_default();
}

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that were allocated on this thread, less those freed on it.
fn held() -> isize {
    HELD.with(Cell::get)
}

/// Checks that what `make` holds agrees with `says` of it, within a half and double.
pub(crate) fn check<T>(what: &str, make: impl FnOnce() -> T, says: impl Fn(&T) -> usize) {
    let before = held();
    let made = make();
    let (really, said) = ((held() - before) as f64, says(&made) as f64);
    println_if_asked(what, really, said);
    assert!(
        said * 2.0 >= really && said <= really * 2.0,
        "{what} holds {really} bytes and says {said}"
    );
}

fn println_if_asked(what: &str, really: f64, said: f64) {
    println!("{what}: holds {really}, says {said}, ratio {:.2}", said / really);
}
