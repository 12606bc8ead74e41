//! Writes ticks into the logs of streams whose queries wait for the clock.
//!
//! Nothing in a query reads a clock: timeouts, EMIT EVERY and idle watermarks see the processing time of
//! the frames in the log, and when no frame comes, a tick. So replay sees the same times.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::engine::state::Engine;
use crate::engine::stream::StreamState;
use crate::error::Result;
use crate::log::frame::{FrameKind, NewFrame};

/// How often the timer looks.
const PERIOD: Duration = Duration::from_millis(100);
/// Rounds of the timer between two looks at snapshots of idle queries: a second.
const SNAPSHOT_ROUNDS: u64 = 10;
/// Rounds of the timer between two looks at retention: five seconds.
const RETENTION_ROUNDS: u64 = 50;
/// The round of the first look: a server that does not live long lets go of something, too.
const RETENTION_FIRST: u64 = 5;

impl Engine {
    /// Writes the ticks that are due now, waits until they stand in the logs, and gives the number
    /// of streams that got one. Blocks: not for the threads of an async runtime.
    ///
    /// # Errors
    /// The log's.
    pub fn run_timers(&self) -> Result<usize> {
        self.wake_senders();
        self.reports.write_shed()?;
        let now = self.clock.now();
        let mut due: BTreeSet<String> = BTreeSet::new();
        let registry = self.registry.read();
        for query in registry.queries.values().filter(|query| query.is_running()) {
            if query.figures.next_tick.load(Ordering::Relaxed) <= now {
                due.extend(registry.streams_below(query.name()));
            }
        }
        for (name, stream) in &registry.streams {
            if idle_watermark(stream, now).is_some() {
                due.insert(name.clone());
            }
        }
        let streams: Vec<Arc<StreamState>> =
            due.iter().filter_map(|name| registry.streams.get(name).map(Arc::clone)).collect();
        drop(registry);
        let (written, answers) = std::sync::mpsc::channel();
        for stream in &streams {
            let watermark = idle_watermark(stream, now).unwrap_or(i64::MIN);
            let tick = NewFrame::control(FrameKind::Tick, watermark, vec![]);
            let written = written.clone();
            // Whoever waits may be gone already when the engine stops.
            stream.appender.submit(vec![tick], move |appended| drop(written.send(appended)));
        }
        drop(written);
        while let Some(appended) = self.crew.receive(&answers) {
            appended?;
        }
        Ok(streams.len())
    }

    /// Starts the thread that drives the timers.
    pub(super) fn start_timer(self: &Arc<Engine>) {
        let engine = Arc::downgrade(self);
        let stopping = Arc::clone(&self.stopping);
        let thread = std::thread::Builder::new().name("timer".into()).spawn(move || {
            let mut rounds: u64 = 0;
            while !stopping.load(Ordering::Relaxed) {
                std::thread::park_timeout(PERIOD);
                let Some(engine) = engine.upgrade() else { return };
                if let Err(error) = engine.run_timers() {
                    tracing::warn!("timer: {}", error.message());
                }
                rounds += 1;
                if rounds.is_multiple_of(SNAPSHOT_ROUNDS) {
                    engine.run_snapshots();
                }
                if rounds % RETENTION_ROUNDS == RETENTION_FIRST
                    && let Err(error) = engine.run_retention()
                {
                    tracing::warn!("retention: {}", error.message());
                }
                if rounds.is_multiple_of(RETENTION_ROUNDS) {
                    engine.run_stopped();
                }
            }
        });
        *self.timer.lock() = Some(thread.expect("the system gives us a thread"));
    }
}

/// The watermark that an idle stream has come to by the clock alone, if it is one.
fn idle_watermark(stream: &StreamState, now: i64) -> Option<i64> {
    let timeout = stream.options.read().idle_timeout?;
    stream.definition.watermark.as_ref()?;
    let last = stream.last_arrival.load(Ordering::Relaxed);
    let watermark = stream.watermark.load(Ordering::Relaxed);
    if last == i64::MIN || watermark == i64::MIN || now.saturating_sub(last) < timeout {
        return None;
    }
    // From the last arrival on it advances with the clock; the appender never lets it go back.
    let base =
        stream.idle_base.lock().filter(|(at, _)| *at == last).map_or(watermark, |(_, base)| base);
    *stream.idle_base.lock() = Some((last, base));
    let advanced = base.saturating_add(now.saturating_sub(last));
    (advanced > watermark).then_some(advanced)
}
