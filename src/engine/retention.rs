//! Removes what is past its retention, from streams and from the changelogs of queries.
//!
//! A changelog's result stays whole. Before its oldest segments go, the result at their end is written
//! to a log of its own, `queries/<id>/kept-<frame>`, and the catalog learns of it; from then on it stands
//! for what is removed. On recovery the query reads on to that place without comparing.

use std::sync::Arc;

use crate::catalog::record::Base;
use crate::engine::query::QueryState;
use crate::engine::state::Engine;
use crate::engine::stream::StreamState;
use crate::error::{Error, Result, SqlState};
use crate::fault;
use crate::log::error::LogError;
use crate::log::frame::{NewFrame, Position};
use crate::log::log::{Durability, Log, LogOptions};
use crate::log::retention::RetentionRequest;
use crate::views::changelog::{Changelog, Kept};
use crate::views::difference::Difference;
use crate::views::entry_meta::EntryMeta;

/// Rows of the kept result in one frame.
const FRAME_ROWS: usize = 65_536;

impl Engine {
    /// Removes what is past its retention and needed by no query, and gives the number of logs that
    /// lost something. A query needs its inputs from
    /// the older of its snapshots on, or from where it began.
    ///
    /// # Errors
    /// The log's.
    pub fn run_retention(&self) -> Result<usize> {
        // While a query is being rebuilt, its inputs and its changelog stay as they are.
        let Ok(_no_statement) = self.ddl.try_lock() else { return Ok(0) };
        let now = self.clock.now();
        let streams: Vec<Arc<StreamState>> =
            self.registry.read().streams.values().map(Arc::clone).collect();
        let mut trimmed = self.trim_reports()?;
        for stream in streams {
            trimmed += usize::from(self.retain_stream(&stream, now, 0)?);
        }
        let queries: Vec<Arc<QueryState>> =
            self.registry.read().queries.values().map(Arc::clone).collect();
        for query in queries.iter().filter(|query| query.is_running()) {
            trimmed += usize::from(self.trim_changelog(query, now)?);
        }
        Ok(trimmed)
    }

    /// Removes what is past its retention and needed by no query from a stream, so that `more` bytes fit;
    /// whether anything went. While a query is being rebuilt this must not be called.
    pub(super) fn retain_stream(&self, stream: &StreamState, now: i64, more: u64) -> Result<bool> {
        let needed_from = self.needed_from(&stream.definition.name);
        let (retention, max_bytes) = {
            let options = stream.options.read();
            (options.retention, options.retention_bytes)
        };
        let request = RetentionRequest {
            older_than_ingest_time: Some(now.saturating_sub(retention)),
            max_bytes: max_bytes.map(|limit| limit.saturating_sub(more)),
            needed_from,
        };
        let carried = self.producers.carried(stream, request, now);
        if !carried.is_empty() {
            let (written, answer) = std::sync::mpsc::channel();
            // Whoever waits may be gone already when the engine stops.
            stream.appender.submit(carried, move |appended| drop(written.send(appended)));
            if let Some(appended) = self.crew.receive(&answer) {
                self.producers.moved(&appended?);
            }
        }
        Ok(stream.log.retain(request)?.frames > 0)
    }

    /// The earliest position of a stream or changelog that a query would start again from, unless it is paused.
    pub(super) fn needed_from(&self, stream: &str) -> Option<Position> {
        let registry = self.registry.read();
        let readers = registry.queries.values().filter(|query| query.needs_input());
        readers
            .flat_map(|query| {
                let snapshots = query.snapshots.needed_from();
                let starts = snapshots.unwrap_or_else(|| query.start());
                query.sources().into_iter().zip(starts).collect::<Vec<_>>()
            })
            .filter(|(name, _)| &**name == stream)
            .map(|(_, position)| position)
            .chain(registry.resting_need(stream))
            .min()
    }

    /// Bounds the history of a query's changelog; whether something went.
    fn trim_changelog(&self, query: &QueryState, now: i64) -> Result<bool> {
        let changelog = &query.changelog;
        let log = changelog.log();
        let Some(retention) = query.shape().options.retention else { return Ok(false) };
        let Some(needed_from) = self.changelog_needed_from(query)? else { return Ok(false) };
        if log.durability() == Durability::Memory {
            return Ok(false);
        }
        let request = RetentionRequest {
            older_than_ingest_time: Some(now.saturating_sub(retention)),
            max_bytes: None,
            needed_from: Some(needed_from),
        };
        let end = log.removable(request);
        if end.frame <= changelog.start().frame {
            return Ok(false);
        }
        if let Some(stream) = query.late_rows_to() {
            // From now on they do not come again.
            stream.log.sync()?;
        }
        // A step must not come between: the replay has to know each entry behind the place.
        let held = query.run.lock();
        if let Some(run) = &*held {
            run.make_durable()?;
        }
        let last = log.read(Position { frame: end.frame - 1, offset: end.offset }, 1)?;
        let meta = last.first().and_then(|frame| EntryMeta::decode(&frame.meta));
        let meta =
            meta.ok_or_else(|| Error::new(SqlState::CORRUPT, "changelog entry has no frontier"))?;
        let mut record = query.record.lock();
        let id = record.id;
        let kept = self.written_result(query, id, end)?;
        fault::at("retention.kept", &query.name);
        let before = self.change(&mut record, |record| {
            if record.base.as_ref().is_none_or(|base| base.frame < end.frame - 1) {
                let places = meta.frontier.iter();
                let frontier = places.map(|place| (place.frame, place.offset)).collect();
                record.base = Some(Base { frame: end.frame - 1, frontier });
            }
            record.kept.replace((end.frame, end.offset))
        })?;
        fault::at("retention.recorded", &query.name);
        changelog.keep(Kept::new(end, kept));
        drop(record);
        let written = std::mem::take(&mut *query.unrecorded.lock());
        let written =
            written.into_iter().map(|(frame, _)| frame).filter(|&frame| frame != end.frame);
        for frame in before.into_iter().map(|(frame, _)| frame).chain(written) {
            self.remove_files(&format!("queries/{id}"), &kept_name(frame));
        }
        log.retain(request)?;
        Ok(true)
    }

    /// The log of the result as it stood at `end`. One that an earlier attempt wrote is taken again where the
    /// catalog answered by an error: it may speak of that log all the same. Whatever else has its name, an attempt
    /// left that failed or ended, and nobody knows what the disk holds of it.
    fn written_result(&self, query: &QueryState, id: u64, end: Position) -> Result<Arc<Log>> {
        let mut unrecorded = query.unrecorded.lock();
        if let Some((_, log)) = unrecorded.iter().find(|(frame, _)| *frame == end.frame) {
            return Ok(Arc::clone(log));
        }
        let directory = kept_directory(id, end.frame);
        let removed = self.storage.remove_dir(&directory);
        removed.map_err(|error| LogError::io("remove", &directory, &error))?;
        let log = self.kept_log(id, end.frame, &query.changelog)?;
        write_result(&query.changelog, end, &log)?;
        unrecorded.push((end.frame, Arc::clone(&log)));
        Ok(log)
    }

    /// From where on somebody still reads a changelog; `None` while that is not known.
    fn changelog_needed_from(&self, query: &QueryState) -> Result<Option<Position>> {
        let log = query.changelog.log();
        let mut needed = log.visible();
        if let Some(position) = self.needed_from(query.name()) {
            needed = needed.min(position);
        }
        let registry = self.registry.read();
        for sink in registry.sinks_of(query.name()) {
            let Some(offset) = sink.committed() else { return Ok(None) };
            needed = needed.min(log.position_of_offset(offset)?);
        }
        Ok(Some(needed))
    }

    /// The log of a kept result.
    pub(super) fn kept_log(&self, id: u64, frame: u64, of: &Changelog) -> Result<Arc<Log>> {
        let visible: Vec<usize> = (0..of.schema().fields().len()).collect();
        let schema = of.layout().log_schema(of.schema()).project(&visible);
        let schema = schema.map_err(|error| Error::new(SqlState::INTERNAL, error.to_string()))?;
        let log = Log::open(
            Arc::clone(&self.storage),
            &kept_directory(id, frame),
            Arc::new(schema),
            LogOptions { durability: Durability::Durable, tail_bytes: 0, ..LogOptions::default() },
            Arc::clone(&self.sequencer),
        )?;
        Ok(Arc::new(log))
    }
}

/// Where the result of the query of this `id` before `frame` is kept.
pub(super) fn kept_directory(id: u64, frame: u64) -> String {
    format!("queries/{id}/{}", kept_name(frame))
}

fn kept_name(frame: u64) -> String {
    format!("kept-{frame}")
}

/// Writes the result as it stood at `end` to an empty log.
fn write_result(changelog: &Changelog, end: Position, to: &Log) -> Result<()> {
    let mut frames: Vec<NewFrame> = Vec::new();
    let mut add = |batch: arrow::array::RecordBatch| {
        for start in (0..batch.num_rows()).step_by(FRAME_ROWS) {
            let rows = batch.slice(start, FRAME_ROWS.min(batch.num_rows() - start));
            frames.push(NewFrame::rows(rows, i64::MIN));
        }
    };
    let kept = changelog.kept().map_or_else(|| Ok(vec![]), |kept| kept.batches())?;
    let mut position = changelog.start();
    let mut sum = match changelog.append_only() {
        true => None,
        false => Some(Difference::new(changelog.schema())?),
    };
    for batch in kept {
        match &mut sum {
            None => add(batch),
            Some(sum) => sum.add(&batch, None, 1)?,
        }
    }
    while position.frame < end.frame {
        let read = changelog.read(position, FRAME_ROWS)?;
        for frame in read.iter().filter(|frame| frame.index < end.frame) {
            position = Position { frame: frame.index + 1, offset: frame.next_offset() };
            let Some(entry) = changelog.entry(frame) else { continue };
            match &mut sum {
                None => add(entry.batch),
                Some(sum) => sum.add(&entry.batch, entry.weights.as_ref(), 1)?,
            }
        }
    }
    if let Some(change) = sum.map(|sum| sum.finish("", i64::MIN)).transpose()?.flatten() {
        add(crate::views::changelog::repeated(&change)?);
    }
    // One request: all of it is there after a crash, or nothing.
    to.append(frames, true)?;
    Ok(())
}
