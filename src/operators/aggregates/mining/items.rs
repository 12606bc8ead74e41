//! Turns columns into the items of a summary, and items back into columns.
//!
//! One column of integers, dates or times is numbers in the order of the values; one of texts is their
//! bytes. Whatever else is rows as `arrow::row` writes them, which sort like the values.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Array, PrimitiveArray, StringViewArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::{self, SortOptions};
use arrow::datatypes::{DataType, Int64Type, UInt64Type};
use arrow::row::{RowConverter, Rows, SortField};

use crate::operators::operator::EvalError;
use crate::sketches::items::{Items, Numbers, Texts};

/// A way to store items.
pub(super) trait Codec: Send + Sync {
    /// How a summary holds them.
    type Items: Items;
    /// The items of a batch.
    type Batch;
    /// Reads columns.
    fn read(&self, columns: &[ArrayRef]) -> Result<Self::Batch, EvalError>;
    /// The item of a row.
    fn item(batch: &Self::Batch, row: usize) -> Option<<Self::Items as Items>::Value<'_>>;
    /// Columns of items.
    fn columns(
        &self,
        items: &[Option<<Self::Items as Items>::Value<'_>>],
    ) -> Result<Vec<ArrayRef>, EvalError>;
}

/// The way that fits some columns.
pub(super) enum Encoding {
    Numbers(NumberCodec),
    Texts(TextCodec),
    Rows(RowCodec),
}

impl Encoding {
    pub(super) fn of(types: &[DataType]) -> Result<Encoding, EvalError> {
        use DataType::{
            Date32, Int8, Int16, Int32, Int64, LargeUtf8, Timestamp, UInt8, UInt16, UInt32, UInt64,
            Utf8, Utf8View,
        };
        Ok(match types {
            [
                Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Date32
                | Timestamp(..),
            ] => Encoding::Numbers(NumberCodec { data_type: types[0].clone() }),
            [Utf8 | Utf8View | LargeUtf8] => {
                Encoding::Texts(TextCodec { data_type: types[0].clone() })
            }
            _ => Encoding::Rows(RowCodec::new(types)?),
        })
    }
}

/// Whether columns of a type can be items.
pub(super) fn is_comparable(data_type: &DataType) -> bool {
    RowConverter::supports_fields(&[SortField::new(data_type.clone())])
}

/// One column that is stored as integers.
pub(super) struct NumberCodec {
    data_type: DataType,
}

/// Bits by which signed integers are moved, so that they sort as unsigned ones.
const SIGN: u64 = 1 << 63;

/// Numbers of a batch.
pub(super) struct NumberBatch {
    values: ScalarBuffer<u64>,
    flip: u64,
    nulls: Option<NullBuffer>,
}

impl Codec for NumberCodec {
    type Items = Numbers;
    type Batch = NumberBatch;

    fn read(&self, columns: &[ArrayRef]) -> Result<NumberBatch, EvalError> {
        let column = match columns[0].data_type() {
            DataType::Date32 => compute::cast(&columns[0], &DataType::Int32)?,
            _ => Arc::clone(&columns[0]),
        };
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0).cloned();
        if self.data_type == DataType::UInt64 {
            let column = compute::cast(&column, &DataType::UInt64)?;
            let values = column.as_primitive::<UInt64Type>().values().clone();
            return Ok(NumberBatch { values, flip: 0, nulls });
        }
        let column = compute::cast(&column, &DataType::Int64)?;
        // The same bits, read without a sign.
        let values = column.as_primitive::<Int64Type>().values().inner().clone();
        Ok(NumberBatch { values: ScalarBuffer::from(values), flip: SIGN, nulls })
    }

    #[inline]
    fn item(batch: &NumberBatch, row: usize) -> Option<u64> {
        match &batch.nulls {
            Some(nulls) if nulls.is_null(row) => None,
            _ => Some(batch.values[row] ^ batch.flip),
        }
    }

    fn columns(&self, items: &[Option<u64>]) -> Result<Vec<ArrayRef>, EvalError> {
        let numbers: ArrayRef = match self.data_type {
            DataType::UInt64 => Arc::new(items.iter().copied().collect::<UInt64Array>()),
            DataType::Date32 => {
                let days = items.iter().map(|item| item.map(|bits| (bits ^ SIGN) as i32));
                Arc::new(days.collect::<Int32Array>())
            }
            _ => {
                let numbers = items.iter().map(|item| item.map(|bits| (bits ^ SIGN) as i64));
                Arc::new(numbers.collect::<Int64Array>())
            }
        };
        Ok(vec![compute::cast(&numbers, &self.data_type)?])
    }
}

/// One column of texts.
pub(super) struct TextCodec {
    data_type: DataType,
}

impl Codec for TextCodec {
    type Items = Texts;
    type Batch = StringViewArray;

    fn read(&self, columns: &[ArrayRef]) -> Result<StringViewArray, EvalError> {
        let column = compute::cast(&columns[0], &DataType::Utf8View)?;
        Ok(column.as_string_view().clone())
    }

    #[inline]
    fn item(batch: &StringViewArray, row: usize) -> Option<&[u8]> {
        batch.is_valid(row).then(|| batch.value(row).as_bytes())
    }

    fn columns(&self, items: &[Option<&[u8]>]) -> Result<Vec<ArrayRef>, EvalError> {
        let text = |bytes| {
            std::str::from_utf8(bytes)
                .map_err(|_| EvalError::Misfit("an item of a summary is not UTF-8".into()))
        };
        let texts = items.iter().map(|item| item.map(text).transpose());
        let texts: StringViewArray = texts.collect::<Result<_, _>>()?;
        Ok(vec![compute::cast(&texts, &self.data_type)?])
    }
}

/// Several columns, or one of another type.
pub(super) struct RowCodec {
    types: Vec<DataType>,
    converter: RowConverter,
}

impl RowCodec {
    fn new(types: &[DataType]) -> Result<RowCodec, EvalError> {
        // Nulls last, as everywhere.
        let order = SortOptions { descending: false, nulls_first: false };
        let field = |data_type: &DataType| SortField::new_with_options(data_type.clone(), order);
        let fields = types.iter().map(field).collect();
        Ok(RowCodec { types: types.to_vec(), converter: RowConverter::new(fields)? })
    }
}

impl Codec for RowCodec {
    type Items = Texts;
    type Batch = Rows;

    fn read(&self, columns: &[ArrayRef]) -> Result<Rows, EvalError> {
        let cast = columns.iter().zip(&self.types).map(|(column, data_type)| {
            if column.data_type() == data_type {
                return Ok(Arc::clone(column));
            }
            compute::cast(column, data_type)
        });
        let columns: Vec<ArrayRef> = cast.collect::<Result<_, _>>()?;
        Ok(self.converter.convert_columns(&columns)?)
    }

    #[inline]
    fn item(batch: &Rows, row: usize) -> Option<&[u8]> {
        Some(batch.row(row).data())
    }

    fn columns(&self, items: &[Option<&[u8]>]) -> Result<Vec<ArrayRef>, EvalError> {
        let parser = self.converter.parser();
        let rows = items.iter().map(|item| parser.parse(item.unwrap_or_default()));
        Ok(self.converter.convert_rows(rows)?)
    }
}

/// Weights and places: integers, where NULL is nothing.
pub(super) fn naturals(column: &ArrayRef) -> Result<PrimitiveArray<Int64Type>, EvalError> {
    Ok(compute::cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}
