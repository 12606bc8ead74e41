//! Talks to people: the job that shows Weir at work.

pub mod demo;
