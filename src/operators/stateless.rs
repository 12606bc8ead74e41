//! Makes an operator of what remembers nothing between rows.
//!
//! # State
//! None: there is nothing to save, and what is restored goes on to the bit.

use std::sync::Arc;

use crate::data::change::Change;
use crate::data::punctuation::Punctuation;
use crate::operators::operator::{Emitter, EvalError, Operator};
use crate::operators::state::{StateReader, StateWriter};
use crate::time::EventTime;

/// What an operator with one input does that remembers nothing.
pub trait Stateless: Send {
    /// The operator's name.
    const NAME: &'static str;

    /// See [`Operator::rows_at_once`].
    const ROWS_AT_ONCE: usize = usize::MAX;

    /// Puts out what becomes of rows.
    fn pass(&self, change: Change, out: &mut Emitter) -> Result<(), EvalError>;

    /// What a watermark of the input promises of the output.
    fn watermark(&self, watermark: EventTime) -> EventTime {
        watermark
    }

    /// What a punctuation of the input promises of the output.
    fn punctuation(&self, punctuation: &Punctuation) -> Option<Punctuation>;
}

impl<S: Stateless> Operator for S {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn rows_at_once(&self) -> usize {
        S::ROWS_AT_ONCE
    }

    fn on_change(
        &mut self,
        port: usize,
        change: Change,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        assert_eq!(port, 0, "{} has one input", S::NAME);
        self.pass(change, out)
    }

    fn on_watermark(
        &mut self,
        _port: usize,
        watermark: EventTime,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        out.watermark(self.watermark(watermark));
        Ok(())
    }

    fn on_punctuation(
        &mut self,
        _port: usize,
        punctuation: &Punctuation,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        if let Some(punctuation) = self.punctuation(punctuation) {
            out.punctuation(Arc::new(punctuation));
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        0
    }

    fn restores_exactly(&self) -> bool {
        true
    }

    fn save(&mut self, _out: &mut StateWriter) -> Result<(), EvalError> {
        Ok(())
    }

    fn restore(&mut self, _from: &mut StateReader<'_>) -> Result<(), EvalError> {
        Ok(())
    }
}
