//! Computes with windows: pure arithmetic on the time line. Knows no rows, keys or aggregates.

pub mod spec;
