//! Decodes an Arrow IPC stream: columns by name, cast to the stream's types.
//!
//! The bytes come from outside, and Arrow's reader allocates what a message claims to hold. So the
//! framing is checked against the bytes that are there before the reader sees them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::root_as_message;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use super::error::{RowError, ValueError};
use super::kind::Member;
use super::{DecodeSpecRef, Decoded, Decoder, Lines, Rejected};
use crate::data::schema;
use crate::encode;
use crate::error::Report;

/// Rows of one message; more is a forged length.
const ROWS_MAX: i64 = 16 << 20;
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

    /// The good rows of a batch; bad ones go to `rejected`. `good` gets the lines.
    fn batch(
        &self,
        batch: &RecordBatch,
        first_line: u64,
        out: &mut Gathered,
    ) -> Result<(), ArrowError> {
        let mut errors: Vec<Option<RowError>> = vec![None; batch.num_rows()];
        if self.spec.reject_unknown_fields {
            let known = |f: &&Arc<Field>| self.spec.schema.field_with_name(f.name()).is_err();
            if let Some(field) = batch.schema().fields().iter().find(known) {
                errors.fill(Some(RowError::UnknownField(field.name().clone())));
            }
        }
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter().zip(self.spec.schema.fields()) {
            arrays.push(column_of(batch, column, field, &mut errors));
        }
        let source = encode::json::RowWriter::new(batch);
        for (row, error) in errors.iter().enumerate() {
            let line = first_line + row as u64;
            let Some(error) = error else {
                out.lines.push(line);
                continue;
            };
            let mut raw = Vec::new();
            source.object(row, &mut raw);
            let (code, message) = (error.code(), error.to_string());
            out.rejected.push(Rejected { line, code, message, raw });
        }
        let keep: BooleanArray = errors.iter().map(|e| Some(e.is_none())).collect();
        // Bad rows may hold nulls where none are allowed until they are filtered out.
        let nullable = self.spec.schema.fields().iter().map(|f| f.as_ref().clone());
        let nullable = nullable.map(|f| f.with_nullable(true)).collect::<Vec<_>>();
        let loose = Arc::new(arrow::datatypes::Schema::new(nullable));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(loose, arrays, &options)?;
        let good = filter_record_batch(&batch, &keep)?;
        let options = RecordBatchOptions::new().with_row_count(Some(good.num_rows()));
        let schema = Arc::clone(&self.spec.schema);
        let columns = good.columns().to_vec();
        out.batches.push(RecordBatch::try_new_with_options(schema, columns, &options)?);
        Ok(())
    }

    fn body(&self, input: &[u8], first_line: u64) -> Result<Gathered, ArrowError> {
        check_framing(input)?;
        let mut out = Gathered::default();
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
}

/// The batch's column for one of ours, cast; rows that it fails get an error.
fn column_of(
    batch: &RecordBatch,
    column: &Member,
    field: &Field,
    errors: &mut [Option<RowError>],
) -> ArrayRef {
    let rows = batch.num_rows();
    let position = batch.schema().fields().iter().rposition(|f| *f.name() == column.name);
    let sent = position.map(|i| Arc::clone(batch.column(i)));
    let sent = sent.unwrap_or_else(|| new_null_array(field.data_type(), rows));
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let Ok(array) = cast_with_options(&sent, field.data_type(), &options) else {
        let error = RowError::ColumnType {
            column: column.name.clone(),
            from: sent.data_type().to_string(),
            to: column.type_name.clone(),
        };
        errors.iter_mut().for_each(|slot| *slot = slot.take().or_else(|| Some(error.clone())));
        return new_null_array(field.data_type(), rows);
    };
    let (before, after) = (sent.logical_nulls(), array.logical_nulls());
    let texts = (*array.data_type() == DataType::Utf8View).then(|| array.as_string_view());
    for (row, slot) in errors.iter_mut().enumerate().filter(|(_, slot)| slot.is_none()) {
        let was_null = before.as_ref().is_some_and(|nulls| nulls.is_null(row));
        let is_null = after.as_ref().is_some_and(|nulls| nulls.is_null(row));
        let error = if is_null && !was_null {
            Some(cast_error(column))
        } else if is_null {
            (!column.nullable).then_some(ValueError::Null)
        } else {
            texts.and_then(|texts| text_error(texts.value(row), field))
        };
        if let Some(error) = error {
            *slot = Some(column.error(error, &shown(&sent, row)));
        }
    }
    array
}

/// What a failed cast means for a column of that kind.
fn cast_error(column: &Member) -> ValueError {
    use super::kind::Kind;
    match column.kind {
        Kind::Int { .. } | Kind::Decimal { .. } => ValueError::Range,
        Kind::Timestamp | Kind::Date => ValueError::DatetimeSyntax,
        _ => ValueError::Syntax,
    }
}

fn text_error(text: &str, field: &Field) -> Option<ValueError> {
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Some(ValueError::Nul);
    }
    let valid = !schema::is_json(field) || encode::json::is_document(text);
    (!valid).then_some(ValueError::Syntax)
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
    let long = |length: i64| !(0..=ROWS_MAX).contains(&length);
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
        let read = catch_unwind(AssertUnwindSafe(|| {
            let gathered = self.body(input, first_line)?;
            let batch = concat_batches(&self.spec.schema, &gathered.batches)?;
            Ok::<_, ArrowError>((gathered, batch))
        }));
        let error = match read {
            Ok(Ok((gathered, batch))) => {
                return Decoded {
                    batch,
                    lines: Lines::of(gathered.lines, first_line),
                    rejected: gathered.rejected,
                    punctuations: Vec::new(),
                };
            }
            Ok(Err(error)) => RowError::ArrowIpc(error.to_string()),
            Err(_) => RowError::ArrowIpc("it is damaged".to_string()),
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
        }
    }
}
