//! Holds everything that runs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::catalog::persist::Store;
use crate::crew::Crew;
use crate::crew::helpers::Helpers;
use crate::engine::EngineSettings;
use crate::engine::producers::Producers;
use crate::engine::recounts::Recounts;
use crate::engine::registry::Registry;
use crate::engine::reports::Reports;
use crate::engine::snapshot_writing::SnapshotWriter;
use crate::log::sequence::Sequencer;
use crate::log::storage::Storage;
use crate::operators::fork::Sharding;
use crate::pipeline::schedule::Scheduler;
use crate::sinks::sink::OpenTarget;
use crate::time::Clock;

/// A running engine. Everything that outlives a call is here.
pub struct Engine {
    pub(super) settings: EngineSettings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) crew: Crew,
    pub(super) storage: Arc<dyn Storage>,
    /// The durable catalog.
    pub(super) store: Store,
    /// What exists, by name.
    pub(super) registry: RwLock<Registry>,
    /// Held while the catalog changes, so that statements that change it come one after the other.
    pub(super) ddl: tokio::sync::Mutex<()>,
    pub(super) sequencer: Arc<Sequencer>,
    pub(super) scheduler: Scheduler,
    pub(super) reports: Arc<Reports>,
    /// What the reports told of streams at the start.
    pub(super) recounts: Recounts,
    pub(super) snapshot_writer: Arc<SnapshotWriter>,
    /// How queries split their keys.
    pub(super) sharding: Sharding,
    /// Who works beside the queries' threads.
    pub(super) helpers: Arc<Helpers>,
    /// Who sends rows with sequences.
    pub(super) producers: Producers,
    /// Rings when a query has taken a step.
    pub(super) stepped: Arc<Notify>,
    /// Rings when senders that wait for room should look again.
    pub(super) room: Arc<Notify>,
    /// Places for one-off answers that are computed at once.
    pub(super) select_places: Arc<tokio::sync::Semaphore>,
    /// What was written and not synced before this run may be gone.
    pub(super) power_lost: bool,
    /// The catalog knows of this run.
    pub(super) run_noted: AtomicBool,
    /// Whom sinks write to, where that is not what their options say.
    pub(super) targets: Option<Arc<dyn OpenTarget>>,
    pub(super) stopping: Arc<AtomicBool>,
    pub(super) timer: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// Keeps a second server off the data directory, until this one has stopped.
    pub(super) lock: Mutex<Option<std::fs::File>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("settings", &self.settings).finish_non_exhaustive()
    }
}
