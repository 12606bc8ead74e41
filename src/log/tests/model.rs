//! Tests a log against a list: random appends, failures, crashes, restarts and retention.

use proptest::prelude::*;

use super::*;
use crate::log::retention::RetentionRequest;

#[derive(Debug, Clone)]
enum Step {
    /// Frames of one request (0 rows: a tick), and whether to sync.
    Append(Vec<u8>, bool),
    Sync,
    /// The process ends; the operating system has all writes.
    Kill,
    /// The power goes.
    Crash(u64),
    FailSync(u8),
    FailWrite(u8),
    /// Removes what lies before this share (of 255) of the log.
    Retain(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (proptest::collection::vec(0u8..6, 1..4), any::<bool>())
            .prop_map(|(frames, sync)| Step::Append(frames, sync)),
        2 => Just(Step::Sync),
        1 => Just(Step::Kill),
        3 => any::<u64>().prop_map(Step::Crash),
        1 => (1u8..4).prop_map(Step::FailSync),
        1 => (1u8..4).prop_map(Step::FailWrite),
        2 => any::<u8>().prop_map(Step::Retain),
    ]
}

/// The log as a list: for each request the numbers of its frames.
struct Model {
    durability: Durability,
    sent: Vec<Vec<Vec<i64>>>,
    /// So many requests must survive power loss, and the end of the process.
    durable: usize,
    written: usize,
    next_value: i64,
}

impl Model {
    fn frames(&self, requests: usize) -> Vec<Vec<i64>> {
        self.sent[..requests].concat()
    }

    /// After a restart the log holds what was acknowledged and then maybe more of what was sent, in
    /// order and in whole requests.
    fn check_restarted(&mut self, log: &Log, acknowledged: usize) {
        let stored = log.visible().frame as usize;
        let found = (acknowledged..=self.sent.len()).find(|&n| self.frames(n).len() == stored);
        let requests = found
            .unwrap_or_else(|| panic!("{stored} frames are no whole requests of {:?}", self.sent));
        self.sent.truncate(requests);
        (self.durable, self.written) = (requests, requests);
        self.check(log, requests);
    }

    fn check(&self, log: &Log, visible: usize) {
        let expected = self.frames(visible);
        let frames = read_all(log).unwrap();
        let start = log.start().frame as usize;
        let found: Vec<Vec<i64>> = frames.iter().map(|frame| values(frame)).collect();
        assert_eq!(found, expected[start..]);
        let rows: usize = expected[..start].iter().map(Vec::len).sum();
        assert_eq!(log.start().offset, rows as u64);
        assert!(frames.windows(2).all(|w| w[0].sequence < w[1].sequence));
    }

    fn visible(&self) -> usize {
        if self.durability == Durability::Durable { self.durable } else { self.written }
    }

    fn request(&mut self, rows: &[u8]) -> Vec<NewFrame> {
        let mut request = Vec::new();
        let mut frames = Vec::new();
        for &rows in rows {
            let first = self.next_value;
            self.next_value += i64::from(rows);
            request.push((first..self.next_value).collect());
            frames.push(if rows == 0 { tick() } else { numbers(first, i64::from(rows)) });
        }
        self.sent.push(request);
        frames
    }
}

fn run(durability: Durability, steps: Vec<Step>) {
    let options = LogOptions { durability, segment_bytes: 1_500, tail_bytes: 2_000, ..small() };
    let mut storage = MemoryStorage::new();
    let mut log = open(&storage, options).unwrap();
    let mut model = Model { durability, sent: Vec::new(), durable: 0, written: 0, next_value: 0 };
    for step in steps {
        match step {
            Step::Append(rows, sync) => {
                let failed = log.failure().is_some();
                let frames = model.request(&rows);
                if log.append(frames, sync).is_ok() {
                    model.written = model.sent.len();
                    if sync {
                        model.durable = model.sent.len();
                    }
                } else if failed {
                    model.sent.pop();
                }
            }
            Step::Sync => {
                if log.sync().is_ok() {
                    model.durable = model.written;
                }
            }
            Step::Retain(share) => {
                let frame = log.visible().frame * u64::from(share) / 255;
                let needed_from = Some(Position { frame, offset: 0 });
                let request =
                    RetentionRequest { max_bytes: Some(0), needed_from, ..Default::default() };
                let start = log.start();
                log.retain(request).unwrap();
                assert!(log.start() == start || log.start().frame <= frame);
            }
            Step::FailSync(nth) => storage.fail_sync(u64::from(nth)),
            Step::FailWrite(nth) => storage.fail_write(u64::from(nth)),
            Step::Kill | Step::Crash(_) => {
                let (after, acknowledged) = match step {
                    Step::Crash(seed) => (storage.crash(seed), model.durable),
                    _ => (storage.kill(), model.written),
                };
                drop(log);
                storage = after;
                log = open(&storage, options).unwrap();
                model.check_restarted(&log, acknowledged);
            }
        }
        // Sealing a segment syncs, so a log may show more than the last sync promised.
        if log.failure().is_none() && !model.sent.is_empty() {
            let shown = log.visible().frame as usize;
            let known = (model.visible()..=model.sent.len())
                .find(|&requests| model.frames(requests).len() == shown);
            model.check(&log, known.expect("whole requests are shown"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_is_stored_and_stored_was_sent_in_order(
        steps in proptest::collection::vec(step(), 1..60),
        durable in any::<bool>(),
    ) {
        run(if durable { Durability::Durable } else { Durability::Written }, steps);
    }
}
