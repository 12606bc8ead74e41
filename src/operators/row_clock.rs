//! Holds the processing time of the frame in work, which is what `now()` means in a continuous query.
//!
//! PRODUCT, "Semantics, exactly" 7: in a continuous query now() and current_* are the row's
//! `_ingest_time`. All rows of a frame share it, so the driver sets it once per frame; it is a function
//! of the log, and replay sees the same.

use std::cell::Cell;

thread_local! {
    static ROW_CLOCK: Cell<i64> = const { Cell::new(0) };
}

/// Sets the ingest time of the frame that this thread is about to push, in microseconds.
pub fn set(ingest_time: i64) {
    ROW_CLOCK.with(|clock| clock.set(ingest_time));
}

/// The ingest time of the frame in work.
pub fn get() -> i64 {
    ROW_CLOCK.with(Cell::get)
}
