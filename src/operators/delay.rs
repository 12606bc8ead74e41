//! Holds the watermark back by a fixed width.
//!
//! A window over a column that trails the watermark (`window_start` of a window below trails it by the
//! window's size) must close that much later. Rows pass unchanged.
//!
//! # State
//! None.

use std::sync::Arc;

use crate::data::change::{Change, Origin};
use crate::data::punctuation::Punctuation;
use crate::operators::operator::{Emitter, EvalError};
use crate::operators::stateless::Stateless;
use crate::time::EventTime;

/// The operator.
#[derive(Debug)]
pub struct Delay {
    width: i64,
}

impl Delay {
    /// Holds watermarks back by `width` units of the time column.
    pub fn new(width: i64) -> Delay {
        assert!(width >= 0, "a delay never runs ahead");
        Delay { width }
    }
}

impl Stateless for Delay {
    const NAME: &'static str = "Delay";

    fn pass(&self, change: Change, out: &mut Emitter) -> Result<(), EvalError> {
        let origin = Origin {
            relation: Arc::clone(&change.origin.relation),
            first_offset: change.origin.first_offset,
            ingest_time: change.origin.ingest_time,
            arrival: change.origin.arrival.held_back(self.width),
            progress: change.origin.progress.held_back(self.width),
            derived: change.origin.derived,
        };
        out.change(Change { origin: Arc::new(origin), ..change });
        Ok(())
    }

    fn watermark(&self, watermark: EventTime) -> EventTime {
        watermark.minus(self.width)
    }

    fn punctuation(&self, punctuation: &Punctuation) -> Option<Punctuation> {
        Some(punctuation.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::operator::{Operator, Output};

    #[test]
    fn the_watermark_is_held_back_and_the_end_of_time_is_not() {
        let mut delay = Delay::new(10);
        let mut out = Emitter::default();
        delay.on_watermark(0, EventTime(25), &mut out).unwrap();
        delay.on_watermark(0, EventTime::MAX, &mut out).unwrap();
        let marks: Vec<EventTime> = out
            .outputs
            .iter()
            .map(|output| match output {
                Output::Watermark(mark) => *mark,
                Output::Change(_) | Output::Punctuation(_) => panic!("only watermarks went in"),
            })
            .collect();
        assert_eq!(marks, [EventTime(15), EventTime::MAX]);
    }
}
