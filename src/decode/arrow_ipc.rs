//! Decodes an Arrow IPC stream: columns by name, as the stream's types where no value is altered.
//!
//! The bytes come from outside, and Arrow's reader allocates what a message claims to hold. So the
//! framing is checked against the bytes that are there before the reader sees them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::root_as_message;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use super::error::{RowError, ValueError};
use super::kind::Member;
use super::quiet::catch_quietly;
use super::texts::{self, Form};
use super::{DecodeSpecRef, Decoded, Decoder, Lines, Rejected};
use crate::encode;
use crate::error::Report;

/// Rows that a message may have whatever its size: columns of nulls take no bytes.
const ROWS_FREE: usize = 1 << 16;
/// Bad rows that a body may have whatever its size; each is kept with its reason.
const REJECTED_MAX: usize = 1 << 16;
/// How many times larger than its message a compressed buffer may become.
const EXPANSION_MAX: usize = 1024;
/// Bytes that are kept of a body that cannot be read.
const KEPT: usize = 1024;

/// Decodes whole bodies; holds nothing between them.
pub(crate) struct ArrowIpcDecoder {
    spec: DecodeSpecRef,
    columns: Vec<Member>,
}

impl ArrowIpcDecoder {
    pub(crate) fn new(spec: DecodeSpecRef) -> ArrowIpcDecoder {
        let columns = spec.schema.fields().iter().map(|f| Member::of(f)).collect();
        ArrowIpcDecoder { spec, columns }
    }

    /// Takes a batch in: its good rows, their lines, and the bad ones.
    fn batch(
        &self,
        batch: &RecordBatch,
        first_line: u64,
        out: &mut Gathered,
    ) -> Result<(), ArrowError> {
        let rows = batch.num_rows();
        let mut errors = Errors::new();
        if self.spec.reject_unknown_fields {
            let known = |f: &&Arc<Field>| self.spec.schema.field_with_name(f.name()).is_err();
            if let Some(field) = batch.schema().fields().iter().find(known) {
                let error = RowError::UnknownField(field.name().clone());
                errors.extend((0..rows).map(|row| (row, error.clone())));
            }
        }
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter().zip(self.spec.schema.fields()) {
            arrays.push(column_of(batch, column, field, &mut errors));
            if out.rejected.len() + errors.len() > out.rejected_max {
                return Err(broken("too many of its rows are bad"));
            }
        }
        let good = self.good_rows(arrays, rows, &errors)?;
        out.batches.push(good);
        out.lines.extend(
            (0..rows).filter(|row| !errors.contains_key(row)).map(|r| first_line + r as u64),
        );
        if errors.is_empty() {
            return Ok(());
        }
        let source = encode::json::RowWriter::new(batch);
        for (row, error) in errors {
            let mut raw = Vec::new();
            source.object(row, &mut raw);
            let (code, message) = (error.code(), error.to_string());
            out.rejected.push(Rejected { line: first_line + row as u64, code, message, raw });
        }
        Ok(())
    }

    fn good_rows(
        &self,
        arrays: Vec<ArrayRef>,
        rows: usize,
        errors: &Errors,
    ) -> Result<RecordBatch, ArrowError> {
        let keep: BooleanArray = (0..rows).map(|row| Some(!errors.contains_key(&row))).collect();
        // Bad rows may hold nulls where none are allowed until they are filtered out.
        let nullable = self.spec.schema.fields().iter().map(|f| f.as_ref().clone());
        let loose: Vec<Field> = nullable.map(|f| f.with_nullable(true)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch =
            RecordBatch::try_new_with_options(Arc::new(Schema::new(loose)), arrays, &options)?;
        let good = filter_record_batch(&batch, &keep)?;
        let options = RecordBatchOptions::new().with_row_count(Some(good.num_rows()));
        let schema = Arc::clone(&self.spec.schema);
        RecordBatch::try_new_with_options(schema, good.columns().to_vec(), &options)
    }

    fn body(&self, input: &[u8], first_line: u64) -> Result<Gathered, ArrowError> {
        check_framing(input)?;
        let rejected_max = REJECTED_MAX.max(input.len() / 4);
        let mut out = Gathered { rejected_max, ..Gathered::default() };
        let mut line = first_line;
        for batch in StreamReader::try_new(input, None)? {
            let batch = batch?;
            self.batch(&batch, line, &mut out)?;
            line += batch.num_rows() as u64;
        }
        Ok(out)
    }
}

#[derive(Default)]
struct Gathered {
    batches: Vec<RecordBatch>,
    lines: Vec<u64>,
    rejected: Vec<Rejected>,
    rejected_max: usize,
}

/// Bad rows of a batch, by position.
type Errors = BTreeMap<usize, RowError>;

/// The batch's column for one of ours; rows whose value does not fit get an error.
///
/// What Arrow converts without loss it converts. Any other value is taken as if its row had come as
/// NDJSON, so that no interface takes what another one refuses.
fn column_of(batch: &RecordBatch, column: &Member, field: &Field, errors: &mut Errors) -> ArrayRef {
    let rows = batch.num_rows();
    let mut wrong = |row: usize, error: RowError| {
        errors.entry(row).or_insert(error);
    };
    let Some(position) = batch.schema().fields().iter().rposition(|f| *f.name() == column.name)
    else {
        if !column.nullable {
            (0..rows).for_each(|row| wrong(row, column.error(ValueError::Null, "")));
        }
        return new_null_array(field.data_type(), rows);
    };
    let sent = batch.column(position);
    let exact = is_exact(sent.data_type(), field.data_type())
        .then(|| cast_with_options(sent, field.data_type(), &CastOptions::default()).ok())
        .flatten()
        .filter(|array| array.logical_null_count() == sent.logical_null_count());
    let array = match exact {
        Some(array) => array,
        None => {
            let texts = json_texts(sent, batch.schema().field(position));
            let texts = texts.iter().map(Option::as_deref);
            texts::column(column, field, Form::Json, texts, &mut wrong)
        }
    };
    let nulls = sent.logical_nulls();
    let texts = (*array.data_type() == DataType::Utf8View).then(|| array.as_string_view());
    for row in 0..rows {
        let error = if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            (!column.nullable).then_some(ValueError::Null)
        } else {
            texts
                .filter(|texts| texts.is_valid(row))
                .and_then(|texts| texts::text_error(texts.value(row), field))
        };
        if let Some(error) = error {
            wrong(row, column.error(error, &shown(sent, row)));
        }
    }
    array
}

/// Whether Arrow's cast keeps every value as it is, or makes it null.
fn is_exact(from: &DataType, to: &DataType) -> bool {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary, LargeUtf8, Utf8, Utf8View};
    if let DataType::Dictionary(_, values) = from {
        return is_exact(values, to);
    }
    let is_text = |data_type: &DataType| matches!(data_type, Utf8 | LargeUtf8 | Utf8View);
    let is_bytes = |data_type: &DataType| {
        matches!(data_type, Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
    };
    match (from, to) {
        (DataType::Null, _) => true,
        (DataType::Timestamp(from, _), DataType::Timestamp(..)) => *from != TimeUnit::Nanosecond,
        (DataType::Float16, DataType::Float32 | DataType::Float64)
        | (DataType::Float32, DataType::Float64) => true,
        // A number that is too large for the other type becomes null, and so goes the slow way.
        (from, to) if from.is_integer() && to.is_integer() => true,
        (from, to) if is_text(from) && is_text(to) || is_bytes(from) && is_bytes(to) => true,
        (from, to) => from.equals_datatype(to),
    }
}

/// The values as JSON would carry them, null as none.
fn json_texts(array: &ArrayRef, field: &Field) -> Vec<Option<String>> {
    let nulls = array.logical_nulls();
    let schema = Arc::new(Schema::new(vec![field.clone().with_nullable(true)]));
    let Ok(batch) = RecordBatch::try_new(schema, vec![Arc::clone(array)]) else {
        return vec![None; array.len()];
    };
    let writer = encode::json::RowWriter::new(&batch);
    let text = |row| {
        let mut out = Vec::new();
        writer.array(row, &mut out);
        // What stands between the brackets of a row of one column is its value.
        let value = &out[1..out.len() - 1];
        String::from_utf8_lossy(value).into_owned()
    };
    let is_null = |row| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
    (0..array.len()).map(|row| (!is_null(row)).then(|| text(row))).collect()
}

fn shown(array: &ArrayRef, row: usize) -> String {
    arrow::util::display::array_value_to_string(array, row).unwrap_or_default()
}

fn broken(what: &str) -> ArrowError {
    ArrowError::IpcError(what.to_string())
}

/// Refuses messages that claim more than the input holds.
fn check_framing(input: &[u8]) -> Result<(), ArrowError> {
    let mut rest = input;
    let word = |bytes: &[u8]| bytes.first_chunk::<4>().map(|b| u32::from_le_bytes(*b));
    let mut messages = 0;
    while !rest.is_empty() {
        let mut length = word(rest).ok_or_else(|| broken("a message is cut short"))?;
        rest = &rest[4..];
        if length == u32::MAX {
            length = word(rest).ok_or_else(|| broken("a message is cut short"))?;
            rest = &rest[4..];
        }
        if length == 0 {
            break;
        }
        let metadata =
            rest.get(..length as usize).ok_or_else(|| broken("a message is cut short"))?;
        rest = &rest[length as usize..];
        let message = root_as_message(metadata).map_err(|e| broken(&e.to_string()))?;
        let body = usize::try_from(message.bodyLength())
            .ok()
            .and_then(|length| rest.get(..length))
            .ok_or_else(|| broken("the body of a message is cut short"))?;
        rest = &rest[body.len()..];
        let dictionary = message.header_as_dictionary_batch().and_then(|d| d.data());
        if let Some(batch) = message.header_as_record_batch().or(dictionary) {
            check_batch(&batch, body)?;
        }
        messages += 1;
    }
    if messages == 0 { Err(broken("it has no schema")) } else { Ok(()) }
}

fn check_batch(batch: &arrow::ipc::RecordBatch<'_>, body: &[u8]) -> Result<(), ArrowError> {
    let nodes = batch.nodes().into_iter().flatten();
    // Any other value takes a bit at least, or what compression makes of it.
    let expansion = if batch.compression().is_some() { 64 } else { 8 };
    let rows_max = ROWS_FREE.saturating_add(body.len().saturating_mul(expansion)) as i64;
    let long = |length: i64| !(0..=rows_max).contains(&length);
    if long(batch.length()) || nodes.into_iter().any(|node| long(node.length())) {
        return Err(broken("a batch claims too many rows"));
    }
    for buffer in batch.buffers().into_iter().flatten() {
        let start = usize::try_from(buffer.offset()).unwrap_or(usize::MAX);
        let length = usize::try_from(buffer.length()).unwrap_or(usize::MAX);
        let bytes = start.checked_add(length).and_then(|end| body.get(start..end));
        let bytes = bytes.ok_or_else(|| broken("a buffer lies outside its message"))?;
        if batch.compression().is_none() {
            continue;
        }
        // A compressed buffer starts with its expanded length; -1 means that it is not compressed.
        if let Some(head) = bytes.first_chunk::<8>() {
            let claimed = i64::from_le_bytes(*head);
            let most = bytes.len().saturating_mul(EXPANSION_MAX);
            if claimed < -1 || usize::try_from(claimed.max(0)).is_ok_and(|c| c > most) {
                return Err(broken("a compressed buffer claims too many bytes"));
            }
        }
    }
    Ok(())
}

impl Decoder for ArrowIpcDecoder {
    fn decode(&mut self, input: &[u8], first_line: u64) -> Decoded {
        // The reader was written for honest senders: a panic in it is the sender's fault.
        let read = catch_quietly(|| {
            let gathered = self.body(input, first_line)?;
            let batch = concat_batches(&self.spec.schema, &gathered.batches)?;
            Ok::<_, ArrowError>((gathered, batch))
        });
        let error = match read {
            Some(Ok((gathered, batch))) => {
                return Decoded {
                    batch,
                    lines: Lines::of(gathered.lines, first_line),
                    rejected: gathered.rejected,
                    punctuations: Vec::new(),
                    malformed: None,
                };
            }
            Some(Err(error)) => RowError::ArrowIpc(error.to_string()),
            None => RowError::ArrowIpc("it is damaged".to_string()),
        };
        let rejected = Rejected {
            line: first_line,
            code: error.code(),
            message: error.to_string(),
            raw: input[..input.len().min(KEPT)].to_vec(),
        };
        Decoded {
            batch: RecordBatch::new_empty(Arc::clone(&self.spec.schema)),
            lines: Lines::From(first_line),
            rejected: vec![rejected],
            punctuations: Vec::new(),
            malformed: None,
        }
    }
}
