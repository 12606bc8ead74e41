//! Runs functions of the values in a frame, whose states stand in [`Places`].

use arrow::array::ArrayRef;

use super::call::Call;
use super::frames::{Frame, Gather, Ordered, Places};
use crate::operators::aggregates::fold::Evaluated;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter};

/// Per row its value; a row without one enters no frame.
pub(super) type Values<G> = Vec<Option<<G as Gather>::Value>>;

/// A function of the values in its frame.
pub(super) trait FrameFunction: Send {
    /// What is kept of the rows in a frame.
    type State: Gather;
    /// The values of `rows` rows.
    fn values(&self, columns: &[ArrayRef], rows: usize) -> Result<Values<Self::State>, EvalError>;
    /// Answers as a column.
    fn write(&self, answers: Vec<<Self::State as Gather>::Answer>) -> Result<Evaluated, EvalError>;
}

/// A running [`FrameFunction`].
pub(super) struct FramedCall<F: FrameFunction> {
    function: F,
    places: Places<F::State>,
}

impl<F: FrameFunction> FramedCall<F> {
    pub(super) fn new(function: F, frame: Frame) -> FramedCall<F> {
        FramedCall { function, places: Places::new(frame) }
    }
}

impl<F: FrameFunction> Call for FramedCall<F> {
    fn resize(&mut self, slots: usize) {
        self.places.resize(slots);
    }

    fn enter(&mut self, columns: &[ArrayRef], rows: &Ordered<'_>) -> Result<(), EvalError> {
        let mut values = self.function.values(columns, rows.slots.len())?;
        self.places.enter(rows, |row| values[row].take());
        Ok(())
    }

    fn answer(&mut self, columns: &[ArrayRef], rows: &Ordered<'_>) -> Result<Evaluated, EvalError> {
        let mut values = self.function.values(columns, rows.slots.len())?;
        let mut answers = Vec::with_capacity(values.len());
        self.places.answer(rows, |row| values[row].take(), |_, answer| answers.push(answer));
        self.function.write(answers)
    }

    fn forget(&mut self, slot: usize) {
        self.places.forget(slot);
    }

    fn clear(&mut self) {
        self.places.clear();
    }

    fn bytes(&self) -> usize {
        self.places.bytes()
    }

    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.places.save(out)
    }

    fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.places.restore(from)
    }
}
