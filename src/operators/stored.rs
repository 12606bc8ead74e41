//! Writes nouns that all share as parts of snapshots: values, marks, origins, patterns, punctuations.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::ScalarBuffer;
use datafusion::scalar::ScalarValue;

use crate::data::change::{Marks, Origin};
use crate::data::punctuation::{Pattern, Punctuation};
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored, misfit};

impl Stored for ScalarValue {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.to_array()?.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        let column: ArrayRef = from.get()?;
        if column.len() != 1 {
            return Err(misfit("a value is missing"));
        }
        Ok(ScalarValue::try_from_array(&column, 0)?)
    }
}

impl Stored for Marks {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        match self {
            Marks::All(mark) => (0_u8, *mark).store(out),
            Marks::Rows(marks) => (1_u8, marks.to_vec()).store(out),
        }
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(match u8::load(from)? {
            0 => Marks::All(from.get()?),
            1 => Marks::Rows(ScalarBuffer::from(from.get::<Vec<i64>>()?)),
            _ => return Err(misfit("marks are of an unknown kind")),
        })
    }
}

impl Stored for Arc<Origin> {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.relation.store(out)?;
        self.first_offset.store(out)?;
        self.ingest_time.store(out)?;
        self.arrival.store(out)?;
        self.progress.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(Arc::new(Origin {
            relation: from.get()?,
            first_offset: from.get()?,
            ingest_time: from.get()?,
            arrival: from.get()?,
            progress: from.get()?,
            // What is kept is a cause only, of rows that are derived.
            derived: true,
        }))
    }
}

/// Whether values have one type, and one that is not nested.
fn is_flat(values: &[ScalarValue]) -> bool {
    let mut types = values.iter().map(ScalarValue::data_type);
    types.next().is_some_and(|first| !first.is_nested() && types.all(|other| other == first))
}

impl Stored for Pattern {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        match self {
            // Many values are one column.
            Pattern::OneOf(values) if values.len() > 1 && is_flat(values) => {
                2_u8.store(out)?;
                ScalarValue::iter_to_array(values.iter().cloned())?.store(out)
            }
            Pattern::OneOf(values) => (0_u8, values.clone()).store(out),
            Pattern::Range { low, high } => (1_u8, low.clone(), high.clone()).store(out),
        }
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(match u8::load(from)? {
            0 => Pattern::OneOf(from.get()?),
            1 => Pattern::Range { low: from.get()?, high: from.get()? },
            2 => {
                let column: ArrayRef = from.get()?;
                let values = (0..column.len()).map(|row| ScalarValue::try_from_array(&column, row));
                Pattern::OneOf(values.collect::<Result<_, _>>()?)
            }
            _ => return Err(misfit("a pattern is of an unknown kind")),
        })
    }
}

impl Stored for Punctuation {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.columns.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(Punctuation { columns: from.get()? })
    }
}
