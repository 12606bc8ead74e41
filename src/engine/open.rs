//! Opens an engine over a data directory, and brings back everything that was there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::catalog::definition;
use crate::catalog::persist::Store;
use crate::catalog::record::Record;
use crate::crew::Crew;
use crate::crew::helpers::Helpers;
use crate::data::punctuation::Punctuation;
use crate::data::schema::with_hidden;
use crate::engine::budget::Budget;
use crate::engine::data_dir::{io, lock};
use crate::engine::producers::Producers;
use crate::engine::punctuation_meta::read_punctuation;
use crate::engine::recounts::Recounts;
use crate::engine::registry::{Planning, Registry};
use crate::engine::report_log;
use crate::engine::reports::Reports;
use crate::engine::select::SELECTS_MAX;
use crate::engine::snapshot_writing::SnapshotWriter;
use crate::engine::state::Engine;
use crate::engine::stream::{StreamOptions, StreamState};
use crate::engine::system;
use crate::engine::table::TableState;
use crate::engine::{EngineSettings, SHARDS_MAX, Surroundings};
use crate::error::Result;
use crate::log::append::{Admission, Appender, QueueLimits};
use crate::log::frame::{FrameKind, NewFrame};
use crate::log::headers::FrameSummary;
use crate::log::log::{Durability, Log, LogOptions};
use crate::log::sequence::Sequencer;
use crate::log::storage::DiskStorage;
use crate::operators::fork::Sharding;
use crate::pipeline::schedule::Scheduler;
use crate::pipeline::shards::Forked;
use crate::pipeline::source::watermark_after;
use crate::time::Clock;
use crate::views::changelog::{Changelog, Layout};
use crate::views::result_view::ResultView;

/// Helpers that are there without shards, too: they read ahead.
const HELPERS_MIN: usize = 1;

impl Engine {
    /// Opens an engine over its directory: locks it, recovers every log, starts every query.
    ///
    /// # Errors
    /// 55006 when another server has the directory, XX001 for damage, 58030 for input and output.
    pub fn open(settings: EngineSettings, clock: Arc<dyn Clock>) -> Result<Arc<Engine>> {
        std::fs::create_dir_all(&settings.data_dir).map_err(|e| io(&settings, &e))?;
        let lock = lock(&settings)?;
        let storage = Arc::new(DiskStorage::new(&settings.data_dir));
        let surroundings = Surroundings { storage, clock, crew: Crew::Threads, targets: None };
        let engine = Engine::open_in(settings, surroundings)?;
        *engine.lock.lock() = Some(lock);
        Ok(engine)
    }

    /// As [`Engine::open`], with a disk, a clock and workers of the caller's, and without a lock.
    ///
    /// # Errors
    /// Those of [`Engine::open`] but for the lock.
    pub fn open_in(settings: EngineSettings, surroundings: Surroundings) -> Result<Arc<Engine>> {
        let Surroundings { storage, clock, crew, targets } = surroundings;
        let store = Store::open(&storage)?;
        let power_lost =
            store.last_run().is_none_or(|run| !run.ended && run.boot != storage.boot());
        let sequencer = Arc::new(Sequencer::new(Arc::clone(&clock), 0, 0));
        let report_log = |name| report_log::open(name, &settings, &storage, &sequencer);
        let reports = Arc::new(Reports {
            clock: Arc::clone(&clock),
            dead_letters: report_log(system::DEAD_LETTERS)?,
            late_rows: report_log(system::LATE_ROWS)?,
            shed: report_log(system::SHED)?,
            fresh_shed: Mutex::default(),
            writing_shed: Mutex::default(),
            streams: RwLock::default(),
            changelogs: RwLock::default(),
            reported: Mutex::default(),
        });
        reports.remember()?;
        let recounts = Recounts::read(&reports.dead_letters, &reports.shed)?;
        let helpers = (settings.shards.clamp(1, SHARDS_MAX) - 1).max(HELPERS_MIN);
        let helpers = Arc::new(Helpers::start(&crew, helpers).map_err(|e| io(&settings, &e))?);
        let engine = Arc::new(Engine {
            scheduler: Scheduler::start(&crew, settings.query_threads, Arc::clone(&clock)),
            snapshot_writer: Arc::new(SnapshotWriter::start(&crew)),
            sharding: sharding(&settings, &helpers),
            helpers,
            settings,
            clock,
            crew,
            storage,
            store,
            registry: RwLock::new(Registry::default()),
            ddl: tokio::sync::Mutex::new(()),
            sequencer,
            reports,
            recounts,
            producers: Producers::default(),
            stepped: Arc::new(Notify::new()),
            room: Arc::new(Notify::new()),
            power_lost,
            run_noted: AtomicBool::new(false),
            targets,
            select_places: Arc::new(tokio::sync::Semaphore::new(SELECTS_MAX)),
            stopping: Arc::new(AtomicBool::new(false)),
            timer: Mutex::new(None),
            lock: Mutex::new(None),
        });
        engine.recover()?;
        if engine.settings.timers {
            // So that the first statement does not wait for it.
            let warm_up = std::thread::Builder::new().name("warm-up".into());
            drop(warm_up.spawn(crate::planner::warm_up));
            engine.start_timer();
        }
        Ok(engine)
    }

    /// Opens a stream's log and starts its writer.
    pub(super) fn open_stream(
        &self,
        record: Record,
        definition: definition::StreamDefinition,
    ) -> Result<Arc<StreamState>> {
        let definition = Arc::new(definition);
        let log = Log::open(
            Arc::clone(&self.storage),
            &stream_directory(record.id),
            Arc::clone(&definition.schema),
            stream_log_options(&definition, log_options(&self.settings)),
            Arc::clone(&self.sequencer),
        )?;
        let log = Arc::new(log);
        let mut standing = match &definition.watermark {
            Some(watermark) => stored_watermark(&log, watermark)?,
            None => i64::MIN,
        };
        let standing_at_open = standing;
        let shown = Arc::new(AtomicI64::new(standing));
        let moved = Arc::clone(&shown);
        let watermark = definition.watermark.clone();
        // Runs on the writer's thread, in log order: the watermark of a row is that of the rows before.
        let prepare = move |frame: &mut NewFrame| {
            let Some(watermark) = &watermark else {
                frame.watermark = i64::MIN;
                return Admission::Append;
            };
            match (&frame.kind, &frame.batch) {
                (FrameKind::Rows, Some(batch)) => {
                    frame.watermark = standing;
                    // The column's type was checked at CREATE; a failure leaves the watermark alone.
                    standing = watermark_after(batch, watermark, standing).unwrap_or(standing);
                }
                _ => {
                    standing = standing.max(frame.watermark);
                    frame.watermark = standing;
                }
            }
            moved.store(standing, Ordering::Relaxed);
            Admission::Append
        };
        let name = format!("log-{}", definition.name);
        let (rows, bytes) = self.settings.queue;
        let limits = QueueLimits { rows, bytes };
        let log_of = Arc::clone(&log);
        let appender = Appender::start(&self.crew, log_of, &name, limits, Box::new(prepare))
            .map_err(|e| io(&self.settings, &e))?;
        let wanted = |kind| matches!(kind, FrameKind::Punctuation | FrameKind::Progress);
        let controls = log.summaries(wanted)?;
        let promises = stored_punctuations(&definition, &controls);
        self.producers.recall(record.id, &controls);
        let (rejected, shed) = self.recounts.of(&record);
        // Time while nobody could send is no silence of the senders: idleness begins afresh.
        let last_arrival = if standing_at_open == i64::MIN { i64::MIN } else { self.clock.now() };
        Ok(Arc::new(StreamState {
            full_schema: Arc::new(with_hidden(&definition.schema)),
            options: RwLock::new(StreamOptions::of(&definition, record.sql.clone())),
            record,
            definition,
            log,
            appender,
            punctuations: tokio::sync::RwLock::new(promises),
            last_arrival: AtomicI64::new(last_arrival),
            watermark: shown,
            rows_rejected: std::sync::atomic::AtomicU64::new(rejected),
            rows_shed: std::sync::atomic::AtomicU64::new(shed),
            budget: Budget::default(),
            idle_base: Mutex::new(None),
        }))
    }

    /// Makes a stream known, and its log's news reach the queries that read it.
    pub(super) fn add_stream(self: &Arc<Engine>, stream: Arc<StreamState>) {
        let name = stream.definition.name.to_string();
        self.listen(&stream.log, &name);
        self.reports.streams.write().insert(name.clone(), Arc::clone(&stream));
        self.registry.write().streams.insert(name, stream);
    }

    /// Wakes the readers of a relation whenever its log has moved.
    pub(super) fn listen(self: &Arc<Engine>, log: &Arc<Log>, relation: &str) {
        let engine = Arc::downgrade(self);
        let relation = relation.to_string();
        log.listen(Arc::new(move || {
            if let Some(engine) = engine.upgrade() {
                engine.wake_readers(&relation);
            }
        }));
    }

    fn wake_readers(&self, relation: &str) {
        // While the catalog changes, the statement itself wakes whom it made.
        let Some(registry) = self.registry.try_read_for(std::time::Duration::from_millis(50))
        else {
            return;
        };
        for query in registry.queries.values().filter(|query| query.reads(relation)) {
            query.wake();
        }
    }

    /// Opens a table's log.
    pub(super) fn open_table(
        self: &Arc<Engine>,
        record: Record,
        definition: definition::TableDefinition,
    ) -> Result<Arc<TableState>> {
        let layout = Layout { weights: true, arrivals: false };
        let log = Log::open(
            Arc::clone(&self.storage),
            &table_directory(record.id),
            layout.log_schema(&definition.schema),
            LogOptions { durability: Durability::Durable, ..log_options(&self.settings) },
            Arc::clone(&self.sequencer),
        )?;
        let log = Arc::new(log);
        self.listen(&log, &definition.name);
        let changelog = Arc::new(Changelog::new(log, Arc::clone(&definition.schema), layout));
        let view = ResultView::new(Arc::clone(&changelog));
        Ok(Arc::new(TableState::new(record, definition, changelog, view)))
    }

    /// The planner's view of what exists, for the duration of `work`.
    pub(super) fn planning<T>(&self, work: impl FnOnce(&Planning<'_>) -> T) -> T {
        let registry = self.registry.read();
        work(&Planning(&registry))
    }
}

/// How queries split their keys, with threads that help where there are shards.
fn sharding(settings: &EngineSettings, helpers: &Arc<Helpers>) -> Sharding {
    let shards = settings.shards.clamp(1, SHARDS_MAX);
    let (keys, rows) = settings.shards_from;
    Sharding { shards, keys, rows, fork: Arc::new(Forked(Arc::clone(helpers))) }
}

pub(super) fn stream_directory(id: u64) -> String {
    format!("streams/{id}")
}

pub(super) fn table_directory(id: u64) -> String {
    format!("tables/{id}")
}

/// How logs are kept unless their objects say otherwise.
pub(super) fn log_options(settings: &EngineSettings) -> LogOptions {
    LogOptions { segment_bytes: settings.segment_bytes, ..LogOptions::default() }
}

/// Only whole segments are removed, so one holds no more than a small part of what is retained.
pub(super) fn stream_log_options(
    definition: &definition::StreamDefinition,
    defaults: LogOptions,
) -> LogOptions {
    let bytes = definition.retention_bytes.map_or(u64::MAX, |bytes| (bytes / 8).max(16 << 10));
    let micros = (definition.retention / 8).max(crate::time::SECOND);
    LogOptions {
        durability: definition.durability,
        segment_bytes: defaults.segment_bytes.min(bytes),
        segment_micros: defaults.segment_micros.min(micros),
        ..defaults
    }
}

/// Promises that stand in a log.
fn stored_punctuations(
    definition: &definition::StreamDefinition,
    frames: &[FrameSummary],
) -> Vec<Punctuation> {
    let punctuations = frames.iter().filter(|frame| frame.kind == FrameKind::Punctuation);
    punctuations.filter_map(|frame| read_punctuation(&definition.schema, &frame.meta)).collect()
}

/// The watermark after the last frame of a stream's log.
fn stored_watermark(log: &Log, watermark: &definition::Watermark) -> Result<i64> {
    let Some(last) = log.last_frame()? else { return Ok(i64::MIN) };
    match &last.batch {
        Some(batch) => watermark_after(batch, watermark, last.watermark),
        None => Ok(last.watermark),
    }
}
