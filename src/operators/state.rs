//! Writes the state of operators as bytes and reads it back, for snapshots of running queries.
//!
//! Numbers are little-endian, sequences have their length in front, columns are Arrow IPC streams of
//! one batch. Nothing here says what the bytes mean: an operator reads back what an operator of the
//! same plan wrote, and the snapshot's header says which plan that was. The bytes carry a checksum
//! there, so what is read here was written here; still every length is checked before it is used.
//! Why not serde: most of the state is Arrow columns, which it does not know.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute;
use arrow::datatypes::{Field, Schema, i256};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use crate::operators::compact::compact;
use crate::operators::operator::EvalError;
use crate::time::EventTime;

/// Collects bytes of state.
#[derive(Debug, Default)]
pub struct StateWriter {
    bytes: Vec<u8>,
}

/// Reads bytes of state in the order in which they were written.
#[derive(Debug)]
pub struct StateReader<'a> {
    rest: &'a [u8],
}

/// A value that can be part of a snapshot.
pub trait Stored: Sized {
    /// Writes the value.
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError>;
    /// Reads what [`store`](Self::store) wrote.
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError>;
    /// Writes values one behind the other.
    fn store_all(values: &[Self], out: &mut StateWriter) -> Result<(), EvalError> {
        values.iter().try_for_each(|value| value.store(out))
    }
    /// Reads as many values as there are places.
    fn load_all(places: &mut [Self], from: &mut StateReader<'_>) -> Result<(), EvalError> {
        for place in places {
            *place = Self::load(from)?;
        }
        Ok(())
    }
}

impl StateWriter {
    /// Writes a value.
    pub fn put<T: Stored>(&mut self, value: &T) -> Result<(), EvalError> {
        value.store(self)
    }

    /// Writes a number of elements.
    pub fn length(&mut self, length: usize) {
        self.bytes.extend((length as u64).to_le_bytes());
    }

    /// Writes bytes with their length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.bytes.extend(bytes);
    }

    /// Writes bytes whose number the reader knows.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes what `part` writes as a piece that a reader can tell from what follows it.
    pub fn piece(
        &mut self,
        part: impl FnOnce(&mut StateWriter) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let at = self.bytes.len();
        self.length(0);
        part(self)?;
        let length = (self.bytes.len() - at - 8) as u64;
        self.bytes[at..at + 8].copy_from_slice(&length.to_le_bytes());
        Ok(())
    }

    /// Writes columns of equal length.
    pub fn columns(&mut self, columns: &[ArrayRef]) -> Result<(), EvalError> {
        let rows = columns.first().map_or(0, |column| column.len());
        let fields: Vec<Field> = columns
            .iter()
            .map(|column| Field::new("c", column.data_type().clone(), true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let columns = columns.iter().map(compact).collect();
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
        self.piece(|out| {
            let mut stream = StreamWriter::try_new(&mut out.bytes, &schema)?;
            stream.write(&batch)?;
            Ok(stream.finish()?)
        })
    }

    /// How many bytes were written.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes what another writer holds.
    pub fn append(&mut self, other: StateWriter) {
        if self.bytes.is_empty() {
            self.bytes = other.bytes;
        } else {
            self.bytes.extend_from_slice(&other.bytes);
        }
    }

    /// All bytes written.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

impl<'a> StateReader<'a> {
    /// Reads these bytes.
    pub fn new(bytes: &'a [u8]) -> StateReader<'a> {
        StateReader { rest: bytes }
    }

    /// Reads a value.
    pub fn get<T: Stored>(&mut self) -> Result<T, EvalError> {
        T::load(self)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], EvalError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| misfit("it ends"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EvalError> {
        let bytes = self.take(N)?;
        Ok(bytes.try_into().expect("as many bytes were taken"))
    }

    /// Reads a number of elements, each of which takes at least one byte unless it is empty.
    pub fn length(&mut self) -> Result<usize, EvalError> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| misfit("a length is wrong"))
    }

    /// Reads so many bytes.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], EvalError> {
        self.take(length)
    }

    /// Reads bytes that were written with their length.
    pub fn raw(&mut self) -> Result<&'a [u8], EvalError> {
        let length = self.length()?;
        self.take(length)
    }

    /// Reads a piece; what reads it has to read all of it.
    pub fn piece<T>(
        &mut self,
        part: impl FnOnce(&mut StateReader<'a>) -> Result<T, EvalError>,
    ) -> Result<T, EvalError> {
        let mut piece = StateReader::new(self.raw()?);
        let value = part(&mut piece)?;
        piece.end()?;
        Ok(value)
    }

    /// The next byte, which stays where it is.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Whether everything is read.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Checks that nothing is left.
    pub fn end(&self) -> Result<(), EvalError> {
        if self.rest.is_empty() { Ok(()) } else { Err(misfit("bytes are left")) }
    }

    /// Reads columns.
    pub fn columns(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        let columns = self.shared_columns()?;
        if columns.len() < 2 {
            return Ok(columns);
        }
        // Each gets values of its own, so that they can be freed, and counted, one by one.
        let all = UInt32Array::from_iter_values(0..columns[0].len() as u32);
        let own = compute::take_arrays(&columns, &all, None)?;
        Ok(own.iter().map(compact).collect())
    }

    /// Reads columns that share their memory, for whoever does not keep them.
    pub fn shared_columns(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        let stream = StreamReader::try_new(Cursor::new(self.raw()?), None)?;
        let mut batches = stream.collect::<Result<Vec<_>, _>>()?;
        match (batches.pop(), batches.is_empty()) {
            (Some(batch), true) => Ok(batch.columns().to_vec()),
            _ => Err(misfit("columns are missing")),
        }
    }
}

/// The error of bytes that no operator of this plan wrote.
pub fn misfit(what: &str) -> EvalError {
    EvalError::Misfit(what.to_owned())
}

macro_rules! stored_number {
    ($($number:ty),*) => {$(
        impl Stored for $number {
            fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
                out.bytes.extend(self.to_le_bytes());
                Ok(())
            }
            fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
                Ok(<$number>::from_le_bytes(from.array()?))
            }
            fn store_all(values: &[Self], out: &mut StateWriter) -> Result<(), EvalError> {
                const WIDTH: usize = size_of::<$number>();
                let at = out.bytes.len();
                out.bytes.resize(at + values.len() * WIDTH, 0);
                for (place, value) in out.bytes[at..].chunks_exact_mut(WIDTH).zip(values) {
                    place.copy_from_slice(&value.to_le_bytes());
                }
                Ok(())
            }
            fn load_all(places: &mut [Self], from: &mut StateReader<'_>) -> Result<(), EvalError> {
                const WIDTH: usize = size_of::<$number>();
                let length = places.len().checked_mul(WIDTH).ok_or_else(|| misfit("it ends"))?;
                for (place, bytes) in places.iter_mut().zip(from.take(length)?.chunks_exact(WIDTH)) {
                    *place = <$number>::from_le_bytes(bytes.try_into().expect("as many bytes"));
                }
                Ok(())
            }
        }
    )*};
}

stored_number!(u8, u32, u64, i16, i32, i64, i128, f32, f64, i256);

impl Stored for usize {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.length(*self);
        Ok(())
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        from.length()
    }
}

impl Stored for bool {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        u8::from(*self).store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        match u8::load(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(misfit("a truth value is neither")),
        }
    }
}

impl Stored for EventTime {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.0.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(EventTime(from.get()?))
    }
}

impl Stored for String {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.raw(self.as_bytes());
        Ok(())
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        String::from_utf8(from.raw()?.to_vec()).map_err(|_| misfit("a text is not UTF-8"))
    }
}

impl Stored for Arc<str> {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.raw(self.as_bytes());
        Ok(())
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(Arc::from(from.get::<String>()?))
    }
}

impl Stored for Box<[u8]> {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.raw(self);
        Ok(())
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(Box::from(from.raw()?))
    }
}

impl<T: Stored> Stored for Option<T> {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.is_some().store(out)?;
        self.as_ref().map_or(Ok(()), |value| value.store(out))
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(if from.get()? { Some(from.get()?) } else { None })
    }
}

impl<A: Stored, B: Stored> Stored for (A, B) {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.0.store(out)?;
        self.1.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok((from.get()?, from.get()?))
    }
}

impl<A: Stored, B: Stored, C: Stored> Stored for (A, B, C) {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.0.store(out)?;
        self.1.store(out)?;
        self.2.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok((from.get()?, from.get()?, from.get()?))
    }
}

macro_rules! stored_sequence {
    ($($sequence:ident where $($bound:path),*;)*) => {$(
        impl<T: Stored $(+ $bound)*> Stored for $sequence<T> {
            fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
                out.length(self.len());
                self.iter().try_for_each(|element| element.store(out))
            }
            fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
                let length = from.length()?;
                (0..length).map(|_| from.get()).collect()
            }
        }
    )*};
}

stored_sequence!(
    Vec where;
    VecDeque where;
    BTreeSet where Ord;
);

impl<K: Stored + Ord, V: Stored> Stored for BTreeMap<K, V> {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.length(self.len());
        self.iter().try_for_each(|(key, value)| {
            key.store(out)?;
            value.store(out)
        })
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        let length = from.length()?;
        (0..length).map(|_| Ok((from.get()?, from.get()?))).collect()
    }
}

impl Stored for ArrayRef {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.columns(std::slice::from_ref(self))
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        from.columns()?.pop().ok_or_else(|| misfit("a column is missing"))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringViewArray};
    use datafusion::scalar::ScalarValue;
    use proptest::prelude::*;

    use super::*;
    use crate::data::punctuation::{Pattern, Punctuation};

    fn check<T: Stored + PartialEq + std::fmt::Debug>(value: T) {
        let mut out = StateWriter::default();
        out.put(&value).unwrap();
        let bytes = out.finish();
        let mut from = StateReader::new(&bytes);
        assert_eq!(from.get::<T>().unwrap(), value);
        from.end().unwrap();
        for cut in 0..bytes.len() {
            // Whatever is cut off, it is an error or another value, never a panic.
            let mut from = StateReader::new(&bytes[..cut]);
            assert!(from.get::<T>().is_err(), "{cut} of {} bytes", bytes.len());
        }
    }

    #[test]
    fn values_come_back() {
        check((-5_i64, 7_u32, true));
        check(vec![Some(1.5_f64), None]);
        check(BTreeMap::from([(String::from("a"), vec![1_i64]), (String::new(), vec![])]));
        check(ScalarValue::from("text"));
        check(Punctuation {
            columns: vec![(
                "at".into(),
                Pattern::Range { low: None, high: Some((ScalarValue::from(5_i64), false)) },
            )],
        });
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let texts: ArrayRef =
            Arc::new(StringViewArray::from(vec!["a", "a text too long to inline"]));
        check(vec![numbers, texts]);
    }

    #[test]
    fn a_length_that_cannot_be_is_an_error_before_it_is_memory() {
        let bytes = u64::MAX.to_le_bytes();
        assert!(StateReader::new(&bytes).get::<Vec<u64>>().is_err());
        assert!(StateReader::new(&bytes).raw().is_err());
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(StateReader::new(&bytes).get::<Vec<(String, Option<i64>)>>());
            drop(StateReader::new(&bytes).get::<ArrayRef>());
        }
    }
}
