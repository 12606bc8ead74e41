//! Lets sinks read changelogs, and keeps what their targets refuse.
//!
//! What a target has committed cannot be taken back. So nothing is handed to it that power loss could take:
//! of a changelog that is only written, the entries and the rows that they answer to are synced first.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use tokio::sync::Notify;

use crate::engine::query::QueryState;
use crate::engine::reports::Reports;
use crate::error::{Error, Result, SqlState};
use crate::log::frame::{Frame, FrameKind, Position};
use crate::log::log::Durability;
use crate::sinks::chunk::ChangelogChunk;
use crate::sinks::history::History;
use crate::sinks::run::ChangelogSource;
use crate::sinks::sink::Refused;
use crate::views::changelog::Changelog;

/// Reads a query's changelog for a sink.
pub(super) struct Reader {
    query: Arc<QueryState>,
    changelog: Arc<Changelog>,
    bell: Arc<Notify>,
    runtime: tokio::runtime::Runtime,
}

impl Reader {
    /// A reader of a query's changelog; `bell` ends its waiting.
    pub(super) fn new(query: Arc<QueryState>, bell: Arc<Notify>) -> Result<Reader> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|e| Error::new(SqlState::IO, format!("sink cannot start: {e}")))?;
        Ok(Reader { changelog: Arc::clone(&query.changelog), bell, query, runtime })
    }

    /// No rows, but an offset to go on from.
    fn nothing_up_to(&self, offset: u64) -> ChangelogChunk {
        let batch = RecordBatch::new_empty(Arc::clone(self.changelog.schema()));
        ChangelogChunk { first_offset: offset, batch, weights: None, next_offset: offset }
    }
}

impl ChangelogSource for Reader {
    fn read(&mut self, from: u64, max_rows: usize) -> Result<Option<ChangelogChunk>> {
        let log = self.changelog.log();
        let end = log.visible();
        if end.offset == from {
            return Ok(None);
        }
        if log.durability() != Durability::Durable {
            log.sync()?;
        }
        if let Some(kept) = self.changelog.kept().filter(|kept| from == 0 && kept.at.offset > 0) {
            // A new sink begins with the result that stands for what is gone.
            let batches = kept.batches()?;
            let schema = self.changelog.layout().log_schema(self.changelog.schema());
            let visible: Vec<usize> = (0..self.changelog.schema().fields().len()).collect();
            let schema = Arc::new(schema.project(&visible).map_err(broken)?);
            let batch = arrow::compute::concat_batches(&schema, &batches).map_err(broken)?;
            let next_offset = kept.at.offset;
            return Ok(Some(ChangelogChunk { first_offset: 0, batch, weights: None, next_offset }));
        }
        let mut position = log.position_of_offset(from)?;
        let entries = loop {
            let mut frames = self.changelog.read(position, max_rows)?;
            frames.retain(|frame| frame.index < end.frame);
            let Some(last) = frames.last() else { return Ok(None) };
            position = Position { frame: last.index + 1, offset: last.next_offset() };
            // Offsets that are passed over end a piece: its rows have one offset after the other.
            let is_void = |frame: &Arc<Frame>| frame.kind == FrameKind::Void;
            let told = frames.iter().find(|frame| frame.batch.is_some() || is_void(frame));
            if let Some(void) = told.filter(|frame| is_void(frame)) {
                return Ok(Some(self.nothing_up_to(void.next_offset())));
            }
            let rows = frames.iter().take_while(|frame| !is_void(frame));
            let entries = rows.filter_map(|frame| self.changelog.entry(frame));
            let entries: Vec<_> = entries.filter_map(|entry| entry.from_offset(from)).collect();
            if !entries.is_empty() {
                break entries;
            }
        };
        let Some(first) = entries.first() else { return Ok(None) };
        let schema = first.batch.schema();
        let batch = arrow::compute::concat_batches(&schema, entries.iter().map(|e| &e.batch))
            .map_err(broken)?;
        let weights = (!self.changelog.append_only()).then(|| {
            let rows = entries.iter().flat_map(|e| (0..e.batch.num_rows()).map(|r| e.weight(r)));
            arrow::array::Int64Array::from_iter_values(rows)
        });
        let next_offset = first.first_offset + batch.num_rows() as u64;
        Ok(Some(ChangelogChunk { first_offset: first.first_offset, batch, weights, next_offset }))
    }

    fn wait(&mut self, past: u64, timeout: Duration) {
        let (query, bell) = (Arc::clone(&self.query), Arc::clone(&self.bell));
        self.runtime.block_on(async move {
            let news = query.bell.notified();
            let stop = bell.notified();
            tokio::pin!(news, stop);
            // Armed before looking, so that nothing that happens in between is missed.
            news.as_mut().enable();
            stop.as_mut().enable();
            if query.changelog.log().visible().offset > past {
                return;
            }
            tokio::select! {
                () = news => {}
                () = stop => {}
                () = tokio::time::sleep(timeout) => {}
            }
        });
    }
}

impl History for Changelog {
    fn end(&self) -> u64 {
        self.end_to_come()
    }

    fn entry_time(&self, offset: u64) -> Option<i64> {
        let last = offset.checked_sub(1)?;
        let entry = || -> Result<Option<Arc<Frame>>> {
            let position = self.log().position_of_offset(last)?;
            Ok(self.read(position, 1)?.into_iter().next())
        };
        // What cannot be read now cannot be compared: whoever reads on there hears of it.
        let entry = entry().ok()??;
        let holds = entry.first_offset <= last && last < entry.next_offset();
        // Of offsets that are passed over nothing is known: they may stand for entries that were lost.
        (holds && entry.kind == FrameKind::Rows).then_some(entry.ingest_time)
    }
}

fn broken(error: arrow::error::ArrowError) -> Error {
    Error::new(SqlState::INTERNAL, format!("changelog cannot be read: {error}"))
}

/// Rows that a target refuses become dead letters of the sink.
pub(super) fn dead_letters(
    reports: &Arc<Reports>,
    sink: &str,
    query: &str,
) -> impl FnMut(&[Refused]) -> Result<()> + Send + use<> {
    let (reports, sink, query) = (Arc::clone(reports), sink.to_string(), query.to_string());
    move |refused: &[Refused]| {
        reports.refused_rows(&sink, &query, refused)?;
        // Durable before the transaction that passes over them.
        Ok(reports.dead_letters.sync()?)
    }
}
