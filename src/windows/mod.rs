//! Computes with windows: pure arithmetic on the time line. Knows no aggregates.
//!
//! [`spec`] names windows; [`assign`] says which windows a point of time lies in; [`slice`] cuts the
//! time line at their edges; `calendar` knows days, months and time zones. [`session`], [`count`] and
//! [`punctuate`] keep the windows that rows themselves delimit; [`batch`] assigns windows of every
//! kind to rows that are all there, and [`columns`] reads and writes their times.

pub mod assign;
pub mod batch;
mod calendar;
pub mod columns;
pub mod count;
pub mod punctuate;
pub mod session;
pub mod slice;
pub mod spec;
