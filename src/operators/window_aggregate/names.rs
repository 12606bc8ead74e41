//! Names windows and slices, in the orders in which they are walked.

/// A window, in the order of emission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WindowKey {
    pub(super) end: i64,
    pub(super) start: i64,
}

/// A slice, in the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SliceKey {
    pub(super) start: i64,
    pub(super) end: i64,
    /// The slice does not count in windows that end here or before.
    pub(super) floor: i64,
}
