//! Is the schema `weir`: what runs, how far it has come, and what could not be used.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::catalog::record::Kind;
use crate::data::schema::{TIMESTAMP, as_json};
use crate::engine::adapted;
use crate::engine::query::{QueryState, Status};
use crate::engine::registry::Registry;
use crate::engine::report_log;
use crate::engine::resting::Resting;
use crate::engine::state::Engine;
use crate::engine::stream::StreamState;
use crate::error::{Error, Result, SqlState};
use crate::log::frame::Position;
use crate::log::log::Durability;

/// Rows that were refused.
pub(super) const DEAD_LETTERS: &str = "weir.dead_letters";
/// Rows that came after their window was dropped.
pub(super) const LATE_ROWS: &str = "weir.late_rows";

/// Numbers of rows for which there was no room.
pub(super) const SHED: &str = "weir.shed";
/// Where queries began to keep more or fewer rows.
pub(super) const ADAPTATIONS: &str = "weir.adaptations";

/// Names and columns of the system relations; a type word stands behind each column's name.
const RELATIONS: [(&str, &str); 11] = [
    (
        "weir.streams",
        "name text, next_offset int, first_offset int, rows_rejected int, watermark time, \
         durability text, bytes int, rows_shed int, waiting int, error text, sql text, \
         logical_watermark int",
    ),
    ("weir.tables", "name text, rows int, error text, sql text"),
    (
        "weir.queries",
        "name text, status text, lag int, watermark time, rows_in int, rows_out int, late_rows int, \
         rejected_rows int, rows_shed int, state_bytes int, next_offset int, append_only flag, waits_for text, \
         error text, sql text, logical_watermark int",
    ),
    (
        "weir.operators",
        "query text, node int, operator text, rows_in int, rows_out int, state_bytes int, \
         held int, shards int",
    ),
    (
        "weir.sinks",
        "name text, query text, into text, status text, committed_offset int, rows_written int, \
         retries int, error text",
    ),
    (
        "weir.snapshots",
        "query text, written int, bytes int, pause_max_us int, took_us int, at time, \
         restored_us int, refused text",
    ),
    ("weir.subscriptions", "query text, subscribers int"),
    (
        DEAD_LETTERS,
        "relation text, offset int, line int, code text, reason text, raw bytes, at time, query text",
    ),
    (
        LATE_ROWS,
        "query text, stream text, offset int, event_time time, watermark time, row json, at time, \
         windows int",
    ),
    (ADAPTATIONS, "query text, operator text, decision text, at time"),
    (SHED, "stream text, offset int, rows int, reason text, at time, query text"),
];

/// The columns of a system relation; `None` for other names.
pub(super) fn schema_of(name: &str) -> Option<SchemaRef> {
    let (_, columns) = RELATIONS.iter().find(|(relation, _)| *relation == name)?;
    let fields: Vec<Field> = columns
        .split(", ")
        .filter_map(|column| column.split_once(' '))
        .map(|(name, kind)| match kind {
            "int" => Field::new(name, DataType::Int64, true),
            "time" => Field::new(name, TIMESTAMP, true),
            "flag" => Field::new(name, DataType::Boolean, true),
            "bytes" => Field::new(name, DataType::Binary, true),
            "json" => as_json(Field::new(name, DataType::Utf8View, true)),
            _ => Field::new(name, DataType::Utf8View, true),
        })
        .collect();
    Some(Arc::new(Schema::new(fields)))
}

/// The rows of a system relation now.
pub(super) fn rows(engine: &Engine, registry: &Registry, name: &str) -> Result<Vec<RecordBatch>> {
    let columns = match name {
        "weir.streams" => streams(registry),
        "weir.tables" => tables(registry)?,
        "weir.queries" => queries(registry),
        "weir.operators" => operators(registry),
        "weir.sinks" => sinks(registry),
        "weir.snapshots" => snapshots(registry),
        "weir.subscriptions" => subscriptions(registry),
        DEAD_LETTERS => return report_log::rows(&engine.reports.dead_letters, name),
        LATE_ROWS => return report_log::rows(&engine.reports.late_rows, name),
        SHED => {
            engine.reports.write_shed()?;
            return adapted::shed(registry, &report_log::rows(&engine.reports.shed, name)?);
        }
        ADAPTATIONS => return adapted::adaptations(registry),
        _ => return Ok(vec![]),
    };
    let schema = schema_of(name).ok_or_else(|| broken("no such relation"))?;
    Ok(vec![RecordBatch::try_new(schema, columns).map_err(broken)?])
}

fn texts<T: AsRef<str>>(values: impl IntoIterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringViewArray>())
}

fn counts(values: impl IntoIterator<Item = Option<u64>>) -> ArrayRef {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    Arc::new(values.into_iter().map(|value| value.map(signed)).collect::<Int64Array>())
}

fn times(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    let known = |time: i64| (time != i64::MIN && time != i64::MAX).then_some(time);
    Arc::new(values.into_iter().map(known).collect::<TimestampMicrosecondArray>())
}

/// What has no watermark.
const NO_MARK: (i64, bool) = (i64::MIN, false);

/// Watermarks as times, and those of logical time as the numbers that they are.
fn watermarks(marks: Vec<(i64, bool)>) -> [ArrayRef; 2] {
    let known = |mark: i64| (mark != i64::MIN && mark != i64::MAX).then_some(mark);
    let logical = marks.iter().map(|(mark, logical)| known(*mark).filter(|_| *logical));
    let logical: Int64Array = logical.collect();
    let time = |(mark, logical)| if logical { i64::MIN } else { mark };
    [times(marks.into_iter().map(time)), Arc::new(logical)]
}

fn streams(registry: &Registry) -> Vec<ArrayRef> {
    let streams: Vec<_> = registry.streams.values().collect();
    let durability = |durability| match durability {
        Durability::Durable => "durable",
        Durability::Written => "written",
        Durability::Memory => "memory",
    };
    let rest = registry.resting_of(Kind::Stream);
    let none = || rest.iter().map(|_| None);
    let figure = |get: &dyn Fn(&StreamState) -> u64| {
        counts(streams.iter().map(|stream| Some(get(stream))).chain(none()))
    };
    let names = streams.iter().map(|s| Some(&*s.definition.name));
    let marks = streams.iter().map(|s| (s.watermark.load(Ordering::Relaxed), s.is_logical()));
    let [marks, logical_marks] = watermarks(marks.chain(rest.iter().map(|_| NO_MARK)).collect());
    let kept = streams.iter().map(|s| Some(durability(s.definition.durability)));
    let sql = streams.iter().map(|s| s.options.read().sql.clone());
    vec![
        texts(names.chain(rest.iter().map(|resting| Some(&*resting.record.name)))),
        figure(&|s| s.log.visible().offset),
        figure(&|s| s.log.start().offset),
        figure(&|s| s.rows_rejected.load(Ordering::Relaxed)),
        marks,
        texts(kept.chain(rest.iter().map(|_| None))),
        figure(&|s| s.log.bytes()),
        figure(&|s| s.rows_shed.load(Ordering::Relaxed)),
        figure(&|s| s.budget.waiting.load(Ordering::Relaxed)),
        errors(streams.len(), &rest),
        texts(sql.chain(statements(&rest)).map(Some)),
        logical_marks,
    ]
}

/// The statements that made what rests.
fn statements<'a>(rest: &'a [&Resting]) -> impl Iterator<Item = String> + 'a {
    rest.iter().map(|resting| resting.record.sql.clone())
}

/// Nothing for those that run, then why the others rest.
fn errors(running: usize, rest: &[&Resting]) -> ArrayRef {
    let none = std::iter::repeat_n(None, running);
    texts(none.chain(rest.iter().map(|resting| Some(resting.line()))))
}

fn tables(registry: &Registry) -> Result<Vec<ArrayRef>> {
    let rest = registry.resting_of(Kind::Table);
    let mut rows = Vec::new();
    for table in registry.tables.values() {
        let (batches, _) = table.view.snapshot()?;
        rows.push(Some(batches.iter().map(|batch| batch.num_rows() as u64).sum()));
    }
    rows.extend(rest.iter().map(|_| None));
    let names = registry.tables.keys().chain(rest.iter().map(|resting| &resting.record.name));
    let sql = registry.tables.values().map(|table| table.record.sql.clone());
    Ok(vec![
        texts(names.map(Some)),
        counts(rows),
        errors(registry.tables.len(), &rest),
        texts(sql.chain(statements(&rest)).map(Some)),
    ])
}

/// Rows that are in a query's inputs and not yet in its results.
fn lag(registry: &Registry, query: &QueryState) -> u64 {
    let processed = query.processed.lock();
    query
        .sources()
        .iter()
        .zip(processed.iter())
        .map(|(name, done)| head(registry, name).offset.saturating_sub(done.offset))
        .sum()
}

fn head(registry: &Registry, name: &str) -> Position {
    if let Some(stream) = registry.streams.get(name) {
        stream.log.visible()
    } else if let Some(table) = registry.tables.get(name) {
        table.changelog.log().visible()
    } else {
        registry.queries.get(name).map_or(Position::default(), |q| q.changelog.log().visible())
    }
}

fn queries(registry: &Registry) -> Vec<ArrayRef> {
    let queries: Vec<_> = registry.queries.values().collect();
    let rest = registry.resting_of(Kind::Query);
    let figure = |get: &dyn Fn(&QueryState) -> u64| {
        let none = rest.iter().map(|_| None);
        counts(queries.iter().map(|query| Some(get(query))).chain(none))
    };
    let status = |query: &QueryState| match &*query.status.lock() {
        Status::Running => ("running", None),
        Status::Paused => ("paused", None),
        Status::Failed { code, message } => ("failed", Some(format!("{code}: {message}"))),
        Status::Dropped => ("dropped", None),
        Status::Replaced => ("replaced", None),
    };
    // A query over a watermarked input that holds rows and has emitted none waits for its watermark.
    let waits = |query: &QueryState| {
        let holds = query.figures.state_bytes.load(Ordering::Relaxed) > 0;
        let time = query.info().event_times.into_iter().next();
        let idle = lag(registry, query) == 0 && query.is_running();
        if query.figures.stalled.load(Ordering::Relaxed) {
            return Some("disk".to_string());
        }
        let below = registry.waits_for(query);
        below.or_else(|| (holds && idle && time.is_some()).then(|| "watermark".to_string()))
    };
    let flags = queries.iter().map(|q| Some(q.changelog.append_only()));
    let mark = |q: &QueryState| q.figures.watermark.load(Ordering::Relaxed);
    let marks = queries.iter().map(|q| (mark(q), q.shape().logical_time));
    let [marks, logical_marks] = watermarks(marks.chain(rest.iter().map(|_| NO_MARK)).collect());
    let sql = queries.iter().map(|q| Some(q.record.lock().sql.clone()));
    let names = queries.iter().map(|q| Some(q.name()));
    let rested = |text: fn(&Resting) -> String| rest.iter().map(move |d| Some(text(d)));
    // One that runs over one that has stopped has not failed, and is not well either.
    let below = |q: &QueryState| registry.stopped_line(q.name());
    let errors = queries.iter().map(|q| status(q).1.or_else(|| below(q)));
    let failed = rest.iter().map(|_| Some("failed"));
    vec![
        texts(names.chain(rest.iter().map(|resting| Some(&*resting.record.name)))),
        texts(queries.iter().map(|q| Some(status(q).0)).chain(failed)),
        figure(&|q| lag(registry, q)),
        marks,
        figure(&|q| q.figures.rows_in.load(Ordering::Relaxed)),
        figure(&|q| q.figures.rows_out.load(Ordering::Relaxed)),
        figure(&|q| q.figures.late_rows.load(Ordering::Relaxed)),
        figure(&|q| q.figures.rejected_rows.load(Ordering::Relaxed)),
        figure(&|q| q.rows_shed()),
        figure(&|q| q.figures.state_bytes.load(Ordering::Relaxed)),
        figure(&|q| q.changelog.log().visible().offset),
        Arc::new(BooleanArray::from_iter(flags.chain(rest.iter().map(|_| None)))),
        texts(queries.iter().map(|q| waits(q)).chain(rest.iter().map(|_| None))),
        texts(errors.chain(rested(Resting::line))),
        texts(sql.chain(rested(|resting| resting.record.sql.clone()))),
        logical_marks,
    ]
}

fn operators(registry: &Registry) -> Vec<ArrayRef> {
    let rows: Vec<_> = registry
        .queries
        .values()
        .flat_map(|query| {
            let operators = query.operators.lock().clone();
            operators.into_iter().enumerate().map(|(node, o)| (query.name().to_string(), node, o))
        })
        .collect();
    vec![
        texts(rows.iter().map(|(query, ..)| Some(query))),
        counts(rows.iter().map(|(_, node, _)| Some(*node as u64))),
        texts(rows.iter().map(|(.., operator)| Some(operator.name))),
        counts(rows.iter().map(|(.., operator)| Some(operator.rows.rows_in))),
        counts(rows.iter().map(|(.., operator)| Some(operator.rows.rows_out))),
        counts(rows.iter().map(|(.., operator)| Some(operator.state_bytes as u64))),
        counts(rows.iter().map(|(.., operator)| Some(operator.held as u64))),
        counts(rows.iter().map(|(.., operator)| Some(operator.shards as u64))),
    ]
}

fn sinks(registry: &Registry) -> Vec<ArrayRef> {
    let sinks: Vec<_> = registry.sinks.values().map(|sink| (sink, sink.figures())).collect();
    vec![
        texts(sinks.iter().map(|(sink, _)| Some(&sink.name))),
        texts(sinks.iter().map(|(sink, _)| Some(&sink.from))),
        texts(sinks.iter().map(|(sink, _)| Some(&sink.into))),
        texts(sinks.iter().map(|(_, figures)| figures.status)),
        counts(sinks.iter().map(|(_, figures)| figures.committed_offset)),
        counts(sinks.iter().map(|(_, figures)| figures.rows_written)),
        counts(sinks.iter().map(|(_, figures)| figures.retries)),
        texts(sinks.iter().map(|(_, figures)| figures.error.clone())),
    ]
}

fn snapshots(registry: &Registry) -> Vec<ArrayRef> {
    let queries = registry.queries.values();
    let rows: Vec<_> = queries.map(|q| (q.name(), q.snapshots.figures())).collect();
    let positive = |micros: i64| u64::try_from(micros).ok();
    vec![
        texts(rows.iter().map(|(name, _)| Some(name))),
        counts(rows.iter().map(|(_, figures)| Some(figures.written))),
        counts(rows.iter().map(|(_, figures)| Some(figures.bytes))),
        counts(rows.iter().map(|(_, figures)| positive(figures.pause_max))),
        counts(rows.iter().map(|(_, figures)| positive(figures.took))),
        times(
            rows.iter().map(|(_, figures)| if figures.written > 0 { figures.at } else { i64::MIN }),
        ),
        counts(rows.iter().map(|(_, figures)| positive(figures.restore?))),
        texts(rows.iter().map(|(_, figures)| figures.refused.as_deref())),
    ]
}

fn subscriptions(registry: &Registry) -> Vec<ArrayRef> {
    let queries: Vec<_> = registry.queries.values().collect();
    vec![
        texts(queries.iter().map(|q| Some(q.name()))),
        counts(queries.iter().map(|q| Some(q.view.subscribers() as u64))),
    ]
}

pub(super) fn broken(error: impl std::fmt::Display) -> Error {
    Error::new(SqlState::INTERNAL, format!("system relation cannot be read: {error}"))
}
