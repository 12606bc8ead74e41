//! Answers with a value of the frame: first_value, last_value, min, max.
//!
//! The first value needs all values of a bounded frame, the last one only itself. The least and the
//! greatest stand in front of a deque that keeps only those which a later row may still leave behind
//! as the best, so each row enters and leaves it once.

use std::collections::VecDeque;
use std::marker::PhantomData;

use arrow::array::ArrayRef;

use super::call::column;
use super::cells::{Cell, Codec};
use super::framed::{FrameFunction, FramedCall, Values};
use super::frames::{Frame, Gather};
use crate::operators::aggregates::fold::Evaluated;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored};

/// Positions and values, with the bytes that the values hold.
#[derive(Debug)]
pub(super) struct Kept<T> {
    rows: VecDeque<(i64, T)>,
    heap: usize,
}

impl<T> Default for Kept<T> {
    fn default() -> Kept<T> {
        Kept { rows: VecDeque::new(), heap: 0 }
    }
}

impl<T: Cell> Kept<Option<T>> {
    fn push(&mut self, position: i64, value: Option<T>) {
        self.heap += value.as_ref().map_or(0, Cell::heap);
        self.rows.push_back((position, value));
    }
    fn gone(&mut self, value: &Option<T>) {
        self.heap -= value.as_ref().map_or(0, Cell::heap);
    }
    fn leave(&mut self, below: i64) {
        while self.rows.front().is_some_and(|(at, _)| *at < below) {
            let (_, value) = self.rows.pop_front().expect("it was looked at just above");
            self.gone(&value);
        }
    }
    fn held(&self) -> usize {
        self.heap + self.rows.len() * size_of::<(i64, Option<T>)>()
    }
}

impl<T: Cell> Stored for Kept<Option<T>> {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.rows.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        let rows: VecDeque<(i64, Option<T>)> = from.get()?;
        let heap = rows.iter().filter_map(|(_, value)| value.as_ref()).map(Cell::heap).sum();
        Ok(Kept { rows, heap })
    }
}

/// Which rows of the frame are kept.
pub(super) trait Choice: Default + Send {
    /// Whether a kept row is of no use any more once `value` has come behind it.
    fn outlives<T: Ord>(kept: &Option<T>, value: &Option<T>) -> bool;
    /// Whether a row is of no use beside the kept ones if no row will ever leave.
    fn is_beaten<T: Ord>(value: &Option<T>, kept: &Option<T>) -> bool;
}

macro_rules! choice {
    ($(#[$doc:meta] $name:ident, $kept:ident, $value:ident, $goes:expr, $beaten:expr;)*) => {$(
        #[$doc]
        #[derive(Debug, Default)]
        pub(super) struct $name;
        impl Choice for $name {
            fn outlives<T: Ord>($kept: &Option<T>, $value: &Option<T>) -> bool { $goes }
            fn is_beaten<T: Ord>($value: &Option<T>, $kept: &Option<T>) -> bool { $beaten }
        }
    )*};
}

choice! {
    /// The row that entered first.
    First, _kept, _value, false, true;
    /// The row that entered last.
    Last, _kept, _value, true, false;
    /// The least value.
    Least, kept, value, kept > value, value >= kept;
    /// The greatest value.
    Greatest, kept, value, kept < value, value <= kept;
}

/// The value that a choice makes among the rows of a frame.
#[derive(Debug)]
pub(super) struct Chosen<T, C> {
    kept: Kept<Option<T>>,
    choice: PhantomData<C>,
}

impl<T, C> Default for Chosen<T, C> {
    fn default() -> Self {
        Chosen { kept: Kept::default(), choice: PhantomData }
    }
}

impl<T: Cell, C> Stored for Chosen<T, C> {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.kept.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(Chosen { kept: from.get()?, choice: PhantomData })
    }
}

impl<T: Cell, C: Choice> Gather for Chosen<T, C> {
    type Value = Option<T>;
    type Answer = Option<T>;

    fn enter(&mut self, position: i64, value: Option<T>, bounded: bool) {
        if !bounded
            && let Some((_, kept)) = self.kept.rows.front()
            && C::is_beaten(&value, kept)
        {
            return;
        }
        while self.kept.rows.back().is_some_and(|(_, kept)| C::outlives(kept, &value)) {
            let (_, gone) = self.kept.rows.pop_back().expect("it was looked at just above");
            self.kept.gone(&gone);
        }
        self.kept.push(position, value);
    }

    fn leave(&mut self, below: i64) {
        self.kept.leave(below);
    }

    fn read(&self) -> Option<T> {
        self.kept.rows.front().and_then(|(_, value)| value.clone())
    }

    fn held(&self) -> usize {
        self.kept.held()
    }
}

/// Answers with a value of the frame.
pub(super) struct ValueFunction<C: Codec, P: Choice> {
    codec: C,
    argument: usize,
    /// Whether nulls enter the frame, too.
    with_nulls: bool,
    choice: PhantomData<P>,
}

impl<C: Codec, P: Choice> ValueFunction<C, P> {
    /// first_value and last_value, over nulls, too.
    pub(super) fn of_all(argument: usize, frame: Frame, codec: C) -> FramedCall<Self> {
        let choice = PhantomData;
        FramedCall::new(ValueFunction { codec, argument, with_nulls: true, choice }, frame)
    }

    /// min and max.
    pub(super) fn of_values(argument: usize, frame: Frame, codec: C) -> FramedCall<Self> {
        let choice = PhantomData;
        FramedCall::new(ValueFunction { codec, argument, with_nulls: false, choice }, frame)
    }
}

impl<C: Codec, P: Choice> FrameFunction for ValueFunction<C, P> {
    type State = Chosen<C::Cell, P>;

    fn values(&self, columns: &[ArrayRef], _: usize) -> Result<Values<Self::State>, EvalError> {
        let cells = self.codec.read(&column(columns, self.argument))?.into_iter();
        let enters = |cell: &Option<C::Cell>| self.with_nulls || cell.is_some();
        Ok(cells.map(|cell| enters(&cell).then_some(cell)).collect())
    }

    fn write(&self, answers: Vec<Option<C::Cell>>) -> Result<Evaluated, EvalError> {
        Ok(Evaluated::all(self.codec.write(answers)?))
    }
}
