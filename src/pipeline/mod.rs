//! Turns a plan into running operators and drives them step by step.

pub mod graph;
