//! Lets operators have pieces of their work done by the helpers of the crew.

use std::sync::Arc;

use crate::crew::helpers::Helpers;
use crate::operators::fork::{Fork, Job};

/// Helpers, as operators know them.
#[derive(Debug, Clone)]
pub struct Forked(pub Arc<Helpers>);

impl Fork for Forked {
    fn run(&self, jobs: Vec<Job>) {
        self.0.run(jobs);
    }
}
