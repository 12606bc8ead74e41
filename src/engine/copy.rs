//! Takes the rows behind COPY … FROM STDIN into a stream or a table.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema};

use crate::catalog::options::Options;
use crate::crew::Crew;
use crate::data::floats::canonical_batch;
use crate::decode::{DecodeSpec, DecodeSpecRef, Decoded, Format, Limits, decoder};
use crate::engine::ingest::{IngestOrigin, check_form};
use crate::engine::state::Engine;
use crate::engine::{IngestReceipt, StatementResult};
use crate::error::{Error, Result, SqlState};
use crate::sql::statement::OptionItem;

impl Engine {
    /// COPY: into a stream as a request of rows would go, into a table all or nothing.
    pub(super) async fn copy(
        self: &Arc<Engine>,
        target: &str,
        options: &[OptionItem],
        data: &str,
    ) -> Result<StatementResult> {
        let format = format_of(options, data)?;
        if self.registry.read().tables.contains_key(target) {
            return self.copy_into_table(target, format, data).await;
        }
        let stream = self.stream(target)?;
        let decoded = decode(&self.crew, format, stream.decode_spec(), data).await?;
        let refused = |line: u64, code: SqlState, message: &str| {
            Err(Error::new(code, message.to_string()).with_detail(format!(
                "Line {line}. Stream \"{target}\" has on_error = 'reject', so nothing is stored."
            )))
        };
        let receipt = stream.ingest(decoded, None, IngestOrigin::default()).await?;
        if let Some((line, code, message)) = receipt.errors.first().filter(|_| receipt.refused) {
            return refused(*line, *code, message);
        }
        answer(&receipt)
    }

    async fn copy_into_table(
        self: &Arc<Engine>,
        name: &str,
        format: Format,
        data: &str,
    ) -> Result<StatementResult> {
        let table = self.table_state(name)?;
        let spec = Arc::new(DecodeSpec {
            schema: Arc::clone(&table.definition.schema),
            reject_unknown_fields: true,
            limits: Limits::default(),
        });
        let decoded = decode(&self.crew, format, spec, data).await?;
        check_form(&decoded)?;
        if let Some(row) = decoded.rejected.into_iter().next() {
            return Err(Error::new(row.code, row.message)
                .with_detail(format!("Line {}. Nothing of the COPY is stored.", row.line)));
        }
        if !decoded.punctuations.is_empty() {
            let message = format!("table \"{name}\" takes no punctuations");
            return Err(Error::new(SqlState::WRONG_OBJECT, message));
        }
        let rows = decoded.batch.num_rows();
        if rows > 0 {
            let _writing = table.writing.lock().await;
            table.apply(canonical_batch(decoded.batch), vec![1; rows])?;
        }
        Ok(StatementResult::command(format!("COPY {rows}")))
    }
}

/// The work of a large text is no work for the threads of a runtime.
async fn decode(crew: &Crew, format: Format, spec: DecodeSpecRef, data: &str) -> Result<Decoded> {
    let data = data.to_string();
    let work = move || decoder(format, spec).decode(data.as_bytes(), 1);
    let decoded = crew.apart(work).await;
    decoded.map_err(|_| Error::new(SqlState::INTERNAL, "rows broke the decoder"))
}

/// `FORMAT csv | json` and, for CSV, `HEADER`.
fn format_of(options: &[OptionItem], data: &str) -> Result<Format> {
    let options = Options::new(options, &["format", "header"])?;
    let format = options.choice("format", &["csv", "json"])?;
    let header = options.flag("header")?;
    if format == "csv" {
        return Ok(Format::Csv { header });
    }
    if header {
        return Err(Error::new(SqlState::INVALID_PARAMETER, "HEADER goes with FORMAT csv only"));
    }
    // An array of objects, or one object a line.
    Ok(if data.trim_start().starts_with('[') { Format::Json } else { Format::NdJson })
}

/// The number of stored rows; refused ones are shown, too.
fn answer(receipt: &IngestReceipt) -> Result<StatementResult> {
    let tag = format!("COPY {}", receipt.accepted);
    if receipt.rejected == 0 {
        return Ok(StatementResult::command(tag));
    }
    let schema = Arc::new(Schema::new(vec![
        Field::new("line", DataType::Int64, false),
        Field::new("code", DataType::Utf8View, false),
        Field::new("message", DataType::Utf8View, false),
    ]));
    let errors = &receipt.errors;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(errors.iter().map(|error| error.0 as i64))),
        Arc::new(StringViewArray::from_iter_values(errors.iter().map(|error| error.1.0))),
        Arc::new(StringViewArray::from_iter_values(errors.iter().map(|error| &error.2))),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)
        .map_err(|e| Error::new(SqlState::INTERNAL, e.to_string()))?;
    Ok(StatementResult { tag, schema, batches: vec![batch] })
}
