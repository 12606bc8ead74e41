//! Tests the loop with a target and a source that do as they are told.

use std::collections::VecDeque;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use parking_lot::Mutex;

use super::*;
use crate::sinks::ddl::TableName;
use crate::sinks::sink::{Refuse, SinkMode};
use crate::sinks::status::SinkStatus;
use crate::time::VirtualClock;

fn plan() -> SinkPlan {
    SinkPlan {
        id: "1".into(),
        name: "s".into(),
        changelog: "q".into(),
        schema: Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)])),
        table: TableName::plain("t"),
        mode: SinkMode::Changelog,
        key: vec![],
        adopt: false,
        add_columns: false,
        history: None,
    }
}

fn chunk(first_offset: u64, rows: &[i64]) -> ChangelogChunk {
    let column: ArrayRef = Arc::new(Int64Array::from(rows.to_vec()));
    ChangelogChunk {
        first_offset,
        batch: RecordBatch::try_from_iter([("n", column)]).unwrap(),
        weights: None,
        next_offset: first_offset + rows.len() as u64,
    }
}

/// What a target was told to commit.
type Log = Arc<Mutex<Vec<String>>>;

/// Fails as often as it has failures, then commits into a log.
struct Target {
    failures: VecDeque<SinkError>,
    log: Log,
}

impl SinkTarget for Target {
    fn forget(&mut self, _: &SinkPlan) -> Result<(), SinkError> {
        Ok(())
    }

    fn prepare(&mut self, _: &SinkPlan) -> Result<u64, SinkError> {
        Ok(10)
    }

    fn commit(
        &mut self,
        batch: &SinkBatch,
        from: u64,
        to: u64,
        refuse: Refuse<'_>,
    ) -> Result<u64, SinkError> {
        let rows: Vec<String> = batch
            .batch
            .column(0)
            .as_primitive::<Int64Type>()
            .values()
            .iter()
            .enumerate()
            .map(|(row, n)| format!("{n}{}", if batch.weight(row) < 0 { "-" } else { "" }))
            .collect();
        self.log.lock().push(format!(
            "[{from},{to}) at {}: {}",
            batch.first_offset,
            rows.join(" ")
        ));
        if let Some(failure) = self.failures.pop_front() {
            return Err(failure);
        }
        if rows.contains(&"13".to_owned()) {
            let (code, reason, row) = ("23514".into(), "no".into(), "{}".into());
            refuse(&[Refused { offset: 13, code, reason, row }]).map_err(SinkError::Record)?;
        }
        Ok(rows.len() as u64)
    }
}

/// Hands its chunks out in order; stops the sink when they are at an end.
struct Source {
    chunks: VecDeque<ChangelogChunk>,
    clock: Arc<VirtualClock>,
    stop: Option<SinkHandle>,
    waits: Log,
}

impl ChangelogSource for Source {
    fn read(&mut self, from: u64, _: usize) -> Result<Option<ChangelogChunk>> {
        let Some(next) = self.chunks.front() else { return Ok(None) };
        if next.batch.num_rows() == 0 && next.first_offset == u64::MAX {
            // A pause in the input.
            self.chunks.pop_front();
            return Ok(None);
        }
        assert!(next.first_offset == from || next.next_offset > from);
        Ok(self.chunks.pop_front())
    }

    fn wait(&mut self, past: u64, timeout: Duration) {
        self.waits.lock().push(format!("{past} for {timeout:?}"));
        self.clock.advance(micros(timeout));
        if let (true, Some(stop)) = (self.chunks.is_empty(), &self.stop) {
            stop.stop();
        }
    }
}

fn pause() -> ChangelogChunk {
    ChangelogChunk { first_offset: u64::MAX, ..chunk(0, &[]) }
}

struct Ran {
    log: Vec<String>,
    waits: Vec<String>,
    status: SinkStatus,
    refused: usize,
    handle: SinkHandle,
}

/// Runs a sink over the chunks, six rows a transaction, until they are at an end.
fn run(chunks: Vec<ChangelogChunk>, failures: Vec<SinkError>) -> Ran {
    run_with_flush(chunks, failures, 0)
}

/// The same while somebody waits for the offset `flush`.
fn run_with_flush(chunks: Vec<ChangelogChunk>, failures: Vec<SinkError>, flush: u64) -> Ran {
    let (log, waits, refused) = (Log::default(), Log::default(), Arc::new(Mutex::new(0)));
    let clock = Arc::new(VirtualClock::new(0));
    let target = Target { failures: failures.into(), log: Arc::clone(&log) };
    let source = Source {
        chunks: chunks.into(),
        clock: Arc::clone(&clock),
        stop: None,
        waits: Arc::clone(&waits),
    };
    let counted = Arc::clone(&refused);
    let dead_letters = Box::new(move |rows: &[Refused]| {
        *counted.lock() += rows.len();
        Ok(())
    });
    let unused: Box<dyn ChangelogSource> = Box::new(Source {
        chunks: VecDeque::new(),
        clock: Arc::clone(&clock),
        stop: None,
        waits: Log::default(),
    });
    let mut runner = SinkRunner::new(plan(), Box::new(target), unused, dead_letters, clock)
        .with_settings(SinkSettings {
            batch_rows: 6,
            linger: Duration::from_millis(20),
            ..SinkSettings::default()
        });
    let handle = runner.handle();
    assert!(!handle.wait_committed(flush, Duration::ZERO).unwrap());
    runner.source = Box::new(Source { stop: Some(handle.clone()), ..source });
    runner.run();
    let refused = *refused.lock();
    let (log, waits) = (log.lock().clone(), waits.lock().clone());
    Ran { log, waits, status: handle.status(), refused, handle }
}

fn away() -> SinkError {
    SinkError::Unavailable { sink: "s".into(), cause: "connection refused".into() }
}

#[test]
fn chunks_are_joined_into_transactions() {
    let mut retraction = chunk(12, &[10]);
    retraction.weights = Some(Int64Array::from(vec![-1]));
    let ran =
        run(vec![chunk(10, &[10, 11]), retraction, chunk(13, &[1, 2, 3]), chunk(16, &[4])], vec![]);
    assert_eq!(ran.log, ["[10,16) at 10: 10 11 10- 1 2 3", "[16,17) at 16: 4"]);
    assert_eq!((ran.status.committed, ran.status.rows_written), (Some(17), 7));
    assert_eq!((ran.status.transactions, ran.status.state), (2, SinkState::Stopped));
    assert_eq!(ran.status.last_error, None);
}

#[test]
fn a_batch_lingers_for_rows_no_longer_than_it_may() {
    let ran = run(
        vec![chunk(10, &[1]), pause(), pause(), chunk(11, &[2]), pause(), chunk(12, &[3])],
        vec![],
    );
    // The first pause is lingered through, the second finds the time used up.
    assert_eq!(ran.log, ["[10,11) at 10: 1", "[11,13) at 11: 2 3"]);
    assert_eq!(ran.waits[..2], ["11 for 20ms", "12 for 20ms"]);
}

#[test]
fn a_flush_ends_the_lingering() {
    let chunks = || vec![chunk(10, &[1]), pause(), chunk(11, &[2]), pause(), chunk(12, &[3])];
    let lingering = run(chunks(), vec![]);
    assert_eq!(lingering.log, ["[10,12) at 10: 1 2", "[12,13) at 12: 3"]);
    let flushed = run_with_flush(chunks(), vec![], 11);
    assert_eq!(flushed.log, ["[10,11) at 10: 1", "[11,13) at 11: 2 3"]);
    assert_eq!(flushed.waits[0], "12 for 20ms");
}

#[test]
fn a_snapshot_is_a_transaction_of_its_own() {
    let snapshot = ChangelogChunk { next_offset: 100, ..chunk(10, &[1, 2]) };
    let ran = run(vec![snapshot, chunk(100, &[3])], vec![]);
    assert_eq!(ran.log, ["[10,100) at 10: 1 2", "[100,101) at 100: 3"]);
}

#[test]
fn a_target_that_is_away_gets_the_same_batch_again() {
    let ran = run(vec![chunk(10, &[1, 13, 3, 4, 5, 6]), chunk(16, &[7])], vec![away(), away()]);
    assert_eq!(ran.log[0], "[10,16) at 10: 1 13 3 4 5 6");
    assert_eq!([&ran.log[1], &ran.log[2]], [&ran.log[0], &ran.log[0]]);
    assert_eq!(ran.log[3..], ["[16,17) at 16: 7"]);
    assert_eq!((ran.status.retries, ran.status.committed), (2, Some(17)));
    assert_eq!((ran.refused, ran.status.rows_refused), (1, 1));
    assert_eq!(ran.status.last_error, None, "what is over is not shown");
}

#[test]
fn a_final_error_ends_the_sink_and_tells_those_who_wait() {
    let fenced = SinkError::Fenced { sink: "s".into(), found: "fence 2".into() };
    let ran = run(vec![chunk(10, &[1])], vec![fenced]);
    assert_eq!((ran.log.len(), ran.status.state), (1, SinkState::Failed));
    let error = ran.handle.wait_committed(11, Duration::from_secs(60)).unwrap_err();
    assert_eq!(error.code(), SqlState::OBJECT_STATE);
    assert!(ran.handle.wait_committed(10, Duration::ZERO).unwrap(), "that much is committed");
}

#[test]
fn a_panic_is_a_failure_of_this_sink_alone() {
    let stuck = ChangelogChunk { next_offset: 10, ..chunk(10, &[]) };
    let stuck = ChangelogChunk { first_offset: 10, ..stuck };
    let (log, clock) = (Log::default(), Arc::new(VirtualClock::new(0)));
    struct Stuck(ChangelogChunk);
    impl ChangelogSource for Stuck {
        fn read(&mut self, _: u64, _: usize) -> Result<Option<ChangelogChunk>> {
            Ok(Some(self.0.clone()))
        }
        fn wait(&mut self, _: u64, _: Duration) {}
    }
    let target = Box::new(Target { failures: VecDeque::new(), log });
    let runner =
        SinkRunner::new(plan(), target, Box::new(Stuck(stuck)), Box::new(|_| Ok(())), clock);
    let handle = runner.handle();
    runner.spawn().unwrap().join().unwrap();
    let status = handle.status();
    assert_eq!(status.state, SinkState::Failed);
    assert_eq!(status.last_error.unwrap().0, SqlState::INTERNAL);
}

#[test]
fn a_stop_ends_a_long_delay_at_once() {
    let (log, clock) = (Log::default(), Arc::new(VirtualClock::new(0)));
    let failures = (0..1_000).map(|_| away()).collect();
    let target = Box::new(Target { failures, log: Arc::clone(&log) });
    let source = Box::new(Source {
        chunks: vec![chunk(10, &[1])].into(),
        clock: Arc::new(VirtualClock::new(0)),
        stop: None,
        waits: Log::default(),
    });
    let runner = SinkRunner::new(plan(), target, source, Box::new(|_| Ok(())), clock);
    let handle = runner.handle();
    let thread = runner.spawn().unwrap();
    assert!(!handle.wait_committed(11, Duration::from_millis(1)).unwrap());
    handle.stop();
    thread.join().unwrap();
    assert_eq!(handle.status().state, SinkState::Stopped);
    assert!(!handle.wait_committed(11, Duration::from_secs(60)).unwrap());
    assert!(log.lock().len() < 1_000);
}

#[test]
fn delays_double_up_to_the_longest() {
    let delays: Vec<u128> = (0..10).map(|attempt| delay(attempt).as_millis()).collect();
    assert_eq!(delays, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000]);
    assert_eq!(delay(u32::MAX), DELAY_MAX);
}
