//! Is an engine on a simulated disk with a clock that is moved by hand, and whose workers take turns
//! by hand: equal seeds, equal runs.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};

use futures::FutureExt;
use serde_json::Value;
use weir::crew::{Crew, Hands};
use weir::decode::{Format, decoder};
use weir::encode::json::write_ndjson;
use weir::engine::{
    AckLevel, Engine, EngineSettings, IngestOrigin, IngestReceipt, Producer, SubscribeRequest,
    SubscriptionFrame, Surroundings,
};
use weir::error::{Error, Result};
use weir::log::storage::MemoryStorage;
use weir::sinks::sink::OpenTarget;
use weir::sql::statement::SubscribeFrom;
use weir::time::VirtualClock;

use super::remote::Remote;

/// Timers of the engine ask for a runtime; nobody drives it, so none of them ever fires.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("no resources")
});

/// What a client waits for.
pub(crate) type Asked = Pin<Box<dyn Future<Output = Result<Option<IngestReceipt>>>>>;

/// How an engine is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub snapshot_interval: i64,
    pub step_rows: usize,
    pub segment_bytes: u64,
    /// Rows that may wait for a stream's writer.
    pub queue_rows: u64,
}

/// What a subscriber saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    /// Rows with their signs, by offset.
    pub changes: BTreeMap<u64, (String, i8)>,
    /// Offsets that have no rows: from, to.
    pub gaps: Vec<(u64, u64)>,
    /// The next offset to come.
    pub next: u64,
}

impl Seen {
    /// Goes on with what came then; a gap makes void what it covers.
    pub(crate) fn go_on(&mut self, new: Seen) {
        for (from, to) in &new.gaps {
            self.changes.retain(|offset, _| offset < from || offset >= to);
        }
        self.changes.extend(new.changes);
        self.gaps.extend(new.gaps);
        self.next = new.next;
    }
}

/// An engine that runs.
pub(crate) struct World {
    pub disk: MemoryStorage,
    pub clock: Arc<VirtualClock>,
    pub hands: Arc<Hands>,
    crew: Crew,
    pub engine: Arc<Engine>,
}

impl World {
    /// Opens an engine over what is on the disk.
    pub(crate) fn open(
        disk: &MemoryStorage,
        clock: &Arc<VirtualClock>,
        seed: u64,
        setup: Setup,
        remote: Option<&Remote>,
    ) -> Result<World> {
        let _inside = RUNTIME.enter();
        let (crew, hands) = Crew::by_hand(seed);
        let settings = EngineSettings {
            timers: false,
            query_threads: 1,
            // Another number after each restart.
            shards: 1 + (seed % 4) as usize,
            shards_from: (0, 0),
            step_rows: setup.step_rows,
            snapshot_interval: setup.snapshot_interval,
            segment_bytes: setup.segment_bytes,
            queue: (setup.queue_rows, 256 << 20),
            ..EngineSettings::new("simulated")
        };
        let surroundings = Surroundings {
            storage: Arc::new(disk.clone()),
            clock: Arc::<VirtualClock>::clone(clock),
            crew: crew.clone(),
            targets: remote.map(|remote| Arc::new(remote.clone()) as Arc<dyn OpenTarget>),
        };
        let opened = Engine::open_in(settings, surroundings);
        if opened.is_err() {
            hands.dismiss();
        }
        let (disk, clock) = (disk.clone(), Arc::clone(clock));
        Ok(World { disk, clock, hands, crew, engine: opened? })
    }

    /// Lets the workers take turns until something is done.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        let _inside = RUNTIME.enter();
        self.crew.block_on(work)
    }

    /// Looks once whether a client has its answer.
    pub(crate) fn poll(&self, asked: &mut Asked) -> Poll<Result<Option<IngestReceipt>>> {
        let _inside = RUNTIME.enter();
        asked.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Executes SQL and gives the rows of its last answer.
    pub(crate) fn sql(&self, text: &str) -> Result<Vec<Value>> {
        let execution = self.wait(self.engine.execute(text));
        if let Some(error) = execution.error {
            return Err(error);
        }
        let mut out = Vec::new();
        for batch in execution.results.last().iter().flat_map(|result| &result.batches) {
            write_ndjson(batch, &mut out);
        }
        Ok(lines(&out).iter().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// A client that has SQL executed.
    pub(crate) fn ask_sql(&self, text: String) -> Asked {
        let engine = Arc::clone(&self.engine);
        Box::pin(async move {
            let execution = engine.execute(&text).await;
            execution.error.map_or(Ok(None), Err)
        })
    }

    /// A client that sends rows.
    pub(crate) fn ask_rows(
        &self,
        stream: &str,
        rows: &str,
        ack: Option<AckLevel>,
        producer: Option<Producer>,
    ) -> Asked {
        let (engine, stream, rows) =
            (Arc::clone(&self.engine), stream.to_string(), rows.to_string());
        Box::pin(async move {
            let handle = engine.stream(&stream)?;
            let decoded = decoder(Format::NdJson, handle.decode_spec()).decode(rows.as_bytes(), 1);
            let origin = IngestOrigin { protocol: "http", producer };
            handle.ingest(decoded, ack, origin).await.map(Some)
        })
    }

    /// What a subscriber sees of a query from an offset on, as far as it goes now.
    pub(crate) fn follow(&self, query: &str, from: u64) -> Result<Seen> {
        let _inside = RUNTIME.enter();
        let request =
            SubscribeRequest { from: SubscribeFrom::Offset(from), ..SubscribeRequest::default() };
        let mut subscription = self.engine.subscribe(query, request)?;
        let mut seen = Seen { next: from, ..Seen::default() };
        while let Some(Some(frame)) = subscription.next().now_or_never() {
            match frame {
                SubscriptionFrame::Data { offset, batch, ops } => {
                    assert_eq!(offset, seen.next, "offsets of {query} have no holes");
                    let mut out = Vec::new();
                    write_ndjson(&batch, &mut out);
                    for (row, line) in lines(&out).into_iter().enumerate() {
                        let sign = ops.as_ref().map_or(1, |ops| ops[row]);
                        seen.changes.insert(offset + row as u64, (line, sign));
                    }
                    seen.next = offset + batch.num_rows() as u64;
                }
                // Says that from here on the answer is that of a sample.
                SubscriptionFrame::Gap { from, to, .. } if from == to => {
                    assert_eq!(from, seen.next, "{query}");
                }
                SubscriptionFrame::Gap { from, to, .. } => {
                    assert!(from <= seen.next && seen.next <= to, "{query}: {from} to {to}");
                    (seen.next, seen.gaps) = (to, [seen.gaps, vec![(from, to)]].concat());
                }
                SubscriptionFrame::Error(error) => return Err(error),
                SubscriptionFrame::Snapshot { .. } | SubscriptionFrame::Progress { .. } => {}
            }
        }
        Ok(seen)
    }

    /// Runs whatever is due by the clock.
    pub(crate) fn timers(&self) -> Result<usize> {
        let _inside = RUNTIME.enter();
        self.engine.run_timers()
    }

    pub(crate) fn snapshots(&self) {
        self.engine.run_snapshots();
    }

    pub(crate) fn retention(&self) -> Result<usize, Error> {
        let _inside = RUNTIME.enter();
        self.engine.run_retention()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _inside = RUNTIME.enter();
        // The process is gone: whatever is dropped now has no effect on the disk.
        self.disk.end();
        self.hands.dismiss();
    }
}

fn lines(ndjson: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(ndjson).lines().map(str::to_string).collect()
}
