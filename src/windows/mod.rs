//! Computes with windows: pure arithmetic on the time line. Knows no rows, keys or aggregates.
//!
//! [`spec`] names windows; [`assign`] says which windows a point of time lies in; [`slice`] cuts the
//! time line at their edges; `calendar` knows days, months and time zones.

pub mod assign;
mod calendar;
pub mod slice;
pub mod spec;
