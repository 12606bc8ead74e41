//! Measures count and sum by 10 k integer keys over windows of 60 s by 1 s, beside a hand-written
//! loop that keeps a running total and subtracts what slides out.

mod window;

use std::collections::VecDeque;

use weir::time::SECOND;
use weir::windows::spec::{Span, TimeWindowKind};
use window::{Digest, Keys, Load, columns, full, run};

const SECONDS: i64 = 60;

/// Totals of the last minute, and of each of its seconds.
struct Sliding {
    total: Vec<(i64, i64)>,
    seconds: VecDeque<Vec<(i64, i64)>>,
    current: Vec<(i64, i64)>,
}

impl Sliding {
    /// Ends the second that ends at `end`: emits the minute before it.
    fn close(&mut self, end: i64, digest: &mut Digest) {
        let empty = vec![(0, 0); self.total.len()];
        let second = std::mem::replace(&mut self.current, empty);
        for (total, part) in self.total.iter_mut().zip(&second) {
            *total = (total.0 + part.0, total.1 + part.1);
        }
        self.seconds.push_back(second);
        if self.seconds.len() > SECONDS as usize {
            let gone = self.seconds.pop_front().unwrap_or_default();
            for (total, part) in self.total.iter_mut().zip(&gone) {
                *total = (total.0 - part.0, total.1 - part.1);
            }
        }
        for (key, total) in self.total.iter().enumerate().filter(|(_, total)| total.0 > 0) {
            digest.add((end - SECONDS * SECOND, key as i64, total.0, total.1));
        }
    }
}

fn main() {
    let full = full();
    let keys = if full { 10_000 } else { 50 };
    let load = Load {
        kind: TimeWindowKind::Hop {
            slide: Span::Fixed(SECOND),
            size: Span::Fixed(SECONDS * SECOND),
        },
        rows: if full { 12_000_000 } else { 20_000 },
        rows_per_second: if full { 100_000 } else { 200 },
        keys: Keys::Dense,
        key_count: keys,
        batch: if full { 32_768 } else { 700 },
        shards: 1,
        costly: false,
    };
    run("sliding 60 s by 1 s, count and sum", &load, |changes, digest| {
        let zero = || vec![(0, 0); keys as usize];
        let mut sliding = Sliding { total: zero(), seconds: VecDeque::new(), current: zero() };
        let mut end = SECOND;
        for change in changes {
            let (times, keys, values) = columns(change);
            for ((&t, &key), &value) in times.iter().zip(keys).zip(values) {
                while t >= end {
                    sliding.close(end, digest);
                    end += SECOND;
                }
                let cell = &mut sliding.current[key as usize];
                *cell = (cell.0 + 1, cell.1 + value);
            }
        }
        for _ in 0..SECONDS {
            sliding.close(end, digest);
            end += SECOND;
        }
    });
}
