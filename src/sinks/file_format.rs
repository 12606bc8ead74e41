//! Writes rows as the content of a file: NDJSON, CSV or Parquet.
//!
//! NDJSON and CSV have the forms of the server's own answers. Parquet keeps the columns' types, but
//! for intervals, which it holds as ISO 8601 text.

use std::io::{BufWriter, Write};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int16Array, Int64Array, RecordBatch, StringViewArray};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::encode::{csv, json};
use crate::sinks::ddl::{CHANGE_OFFSET, CHANGE_OPERATION};
use crate::sinks::net_effect::{Item, Operation};
use crate::sinks::sink::{SinkBatch, SinkMode};
use crate::sinks::text;
use crate::sinks::values;

/// Rows that are turned into text at a time.
const SLICE_ROWS: usize = 8_192;

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// A JSON object per line.
    Ndjson,
    /// RFC 4180 with a header line.
    Csv,
    /// Parquet, compressed with Snappy.
    Parquet,
}

impl FileFormat {
    /// The end of a file's name.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            FileFormat::Ndjson => "ndjson",
            FileFormat::Csv => "csv",
            FileFormat::Parquet => "parquet",
        }
    }
}

/// The rows that items ask for, in changelog mode with their offsets and signs.
pub(crate) fn rows(
    mode: SinkMode,
    batch: &SinkBatch,
    items: &[Item],
) -> Result<RecordBatch, ArrowError> {
    let all = items.len() == batch.batch.num_rows()
        && items.iter().enumerate().all(|(row, item)| item.row == row);
    let rows = match all {
        true => batch.batch.clone(),
        false => {
            let wanted = Int64Array::from_iter_values(items.iter().map(|item| item.row as i64));
            take_record_batch(&batch.batch, &wanted)?
        }
    };
    if mode != SinkMode::Changelog {
        return Ok(rows);
    }
    let offsets = items.iter().map(|item| batch.offset(item.row) as i64);
    let signs = items.iter().map(|item| match item.operation {
        Operation::Log(sign) => sign,
        Operation::Put => 1,
        Operation::Delete => -1,
    });
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(Int64Array::from_iter_values(offsets)));
    columns.push(Arc::new(Int16Array::from_iter_values(signs)));
    let schema = rows.schema();
    let mut fields: Vec<Field> = schema.fields().iter().map(|field| (**field).clone()).collect();
    fields.push(Field::new(CHANGE_OFFSET, DataType::Int64, false));
    fields.push(Field::new(CHANGE_OPERATION, DataType::Int16, false));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Why rows did not become a file.
#[derive(Debug)]
pub(crate) enum Unwritten {
    /// The disk.
    Io(std::io::Error),
    /// A value has no form.
    Value(String),
}

impl From<std::io::Error> for Unwritten {
    fn from(error: std::io::Error) -> Unwritten {
        Unwritten::Io(error)
    }
}

impl From<ArrowError> for Unwritten {
    fn from(error: ArrowError) -> Unwritten {
        Unwritten::Value(error.to_string())
    }
}

/// Writes the rows and whatever begins and ends a file of the format.
pub(crate) fn write(
    format: FileFormat,
    rows: &RecordBatch,
    file: &std::fs::File,
) -> Result<(), Unwritten> {
    if format == FileFormat::Parquet {
        return write_parquet(rows, file);
    }
    let mut file = BufWriter::new(file);
    let mut out = Vec::new();
    if format == FileFormat::Csv {
        csv::write_header(&rows.schema(), &mut out);
    }
    for start in (0..rows.num_rows()).step_by(SLICE_ROWS) {
        let slice = rows.slice(start, SLICE_ROWS.min(rows.num_rows() - start));
        match format {
            FileFormat::Csv => csv::write_rows(&slice, &mut out),
            FileFormat::Ndjson | FileFormat::Parquet => json::write_ndjson(&slice, &mut out),
        }
        file.write_all(&out)?;
        out.clear();
    }
    Ok(file.flush()?)
}

fn write_parquet(rows: &RecordBatch, file: &std::fs::File) -> Result<(), Unwritten> {
    let rows = parquet_rows(rows)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(concat!("weir ", env!("CARGO_PKG_VERSION")).into())
        .build();
    // Parquet's own error hides whether the disk was at fault; the next call to the file tells.
    let failed = |error: parquet::errors::ParquetError| match &error {
        parquet::errors::ParquetError::External(_) => {
            Unwritten::Io(std::io::Error::other(error.to_string()))
        }
        _ => Unwritten::Value(error.to_string()),
    };
    let file = BufWriter::new(file);
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).map_err(failed)?;
    writer.write(&rows).map_err(failed)?;
    let file = writer.into_inner().map_err(failed)?;
    file.into_inner().map_err(|error| Unwritten::Io(error.into_error()))?;
    Ok(())
}

/// The type that a column has in Parquet; `None`: it has none.
pub(crate) fn in_parquet(field: &Field) -> Option<DataType> {
    fn nests_interval(data_type: &DataType) -> bool {
        match data_type {
            DataType::Interval(_) => true,
            DataType::List(item) => nests_interval(item.data_type()),
            // Parquet has no group without fields either.
            DataType::Struct(fields) => {
                fields.is_empty() || fields.iter().any(|field| nests_interval(field.data_type()))
            }
            _ => false,
        }
    }
    match values::canonical_type(field.data_type())? {
        DataType::Interval(_) => Some(DataType::Utf8View),
        nested if nests_interval(&nested) => None,
        canonical => Some(canonical),
    }
}

fn parquet_rows(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let rows = values::canonical_batch(rows)?;
    let (mut fields, mut columns) = (Vec::new(), Vec::<ArrayRef>::new());
    let typed = values::Column::of_batch(&rows);
    for ((field, column), typed) in rows.schema().fields().iter().zip(rows.columns()).zip(typed) {
        let values::Column::Interval(intervals) = typed else {
            fields.push((**field).clone());
            columns.push(Arc::clone(column));
            continue;
        };
        let texts: StringViewArray = intervals
            .iter()
            .map(|interval| {
                interval.map(|value| {
                    let mut out = String::new();
                    text::push_interval_iso(&mut out, value.months, value.days, value.nanoseconds);
                    out
                })
            })
            .collect();
        fields.push((**field).clone().with_data_type(DataType::Utf8View));
        columns.push(Arc::new(texts));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}
