//! Computes what every query of the harness must answer over the stored rows, row by row.

use std::collections::BTreeMap;

use super::clients::KEYS;

const MINUTE: i64 = 60_000;
const TEN_MINUTES: i64 = 10 * MINUTE;
const BOUND: i64 = 5_000;
const GAP: i64 = 2_000;
const WINDOW_ROWS: usize = 100;

/// A row of the stream `s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) n: i64,
    /// Milliseconds.
    pub(super) at: i64,
}

/// Count and sum.
pub(super) type Totals = (i64, i64);

/// Everything that stands in the results.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answers {
    /// Window and key.
    pub(super) minutes: BTreeMap<(i64, i64), Totals>,
    pub(super) tens: BTreeMap<i64, Totals>,
    /// Start, end and key.
    pub(super) sessions: BTreeMap<(i64, i64, i64), Totals>,
    pub(super) hundreds: BTreeMap<(i64, i64), Totals>,
    pub(super) groups: BTreeMap<i64, Totals>,
    pub(super) thirds: Vec<(i64, i64)>,
    /// Offsets and numbers of rows whose minute was dropped when they came.
    pub(super) late: Vec<(i64, i64)>,
}

fn add<K: Ord>(to: &mut BTreeMap<K, Totals>, key: K, (count, total): Totals) {
    let entry = to.entry(key).or_default();
    *entry = (entry.0 + count, entry.1 + total);
}

pub(super) fn answers(rows: &[Row]) -> Answers {
    let mut answers = Answers::default();
    let mut watermark = i64::MIN;
    let mut minutes = BTreeMap::new();
    let mut in_sessions: BTreeMap<i64, Vec<Row>> = BTreeMap::new();
    let mut in_counts: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (offset, row) in rows.iter().enumerate() {
        let k = row.n % KEYS as i64;
        add(&mut answers.groups, k, (1, row.n));
        if row.n % 3 == 0 {
            answers.thirds.push((row.n, k));
        }
        let start = row.at.div_euclid(MINUTE) * MINUTE;
        if watermark < start + MINUTE {
            add(&mut minutes, (start, k), (1, row.n));
        } else {
            answers.late.push((offset as i64, row.n));
        }
        if row.at >= watermark {
            in_sessions.entry(k).or_default().push(*row);
        }
        in_counts.entry(k).or_default().push(row.n);
        watermark = watermark.max(row.at - BOUND);
    }
    minutes.retain(|(start, _), _| start + MINUTE <= watermark);
    for ((start, _), totals) in &minutes {
        let ten = (start + MINUTE).div_euclid(TEN_MINUTES) * TEN_MINUTES;
        if ten + TEN_MINUTES <= watermark {
            add(&mut answers.tens, ten, *totals);
        }
    }
    answers.minutes = minutes;
    for (k, mut rows) in in_sessions {
        rows.sort_by_key(|row| row.at);
        for session in rows.chunk_by(|one, next| next.at - one.at < GAP) {
            let (start, end) = (session[0].at, session[session.len() - 1].at + GAP);
            if end <= watermark {
                let total = session.iter().map(|row| row.n).sum();
                answers.sessions.insert((start, end, k), (session.len() as i64, total));
            }
        }
    }
    for (k, numbers) in in_counts {
        for (window, rows) in numbers.chunks_exact(WINDOW_ROWS).enumerate() {
            let totals = (WINDOW_ROWS as i64, rows.iter().sum());
            answers.hundreds.insert((window as i64, k), totals);
        }
    }
    answers
}

/// Groups of the stream `raw`.
pub(super) fn raw_groups(numbers: &[i64]) -> BTreeMap<i64, Totals> {
    let mut groups = BTreeMap::new();
    numbers.iter().for_each(|n| add(&mut groups, n % 5, (1, *n)));
    groups
}
