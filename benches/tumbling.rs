//! Measures count and sum by 100 k integer keys over tumbling windows, beside a hand-written loop.

mod window;

use weir::time::SECOND;
use weir::windows::spec::{Span, TimeWindowKind};
use window::{Digest, Load, columns, full, run};

const SIZE: i64 = 10 * SECOND;

fn main() {
    let full = full();
    let keys = if full { 100_000 } else { 100 };
    let load = Load {
        kind: TimeWindowKind::Tumble { size: Span::Fixed(SIZE) },
        rows: if full { 8_000_000 } else { 20_000 },
        rows_per_second: if full { 100_000 } else { 500 },
        keys,
        batch: if full { 32_768 } else { 700 },
    };
    run("tumbling 10 s, count and sum", &load, |changes, digest| {
        let mut cells = vec![(0_i64, 0_i64); keys as usize];
        let mut start = 0;
        let close = |start: i64, cells: &mut Vec<(i64, i64)>, digest: &mut Digest| {
            for (key, cell) in cells.iter_mut().enumerate().filter(|(_, cell)| cell.0 > 0) {
                digest.add((start, key as i64, cell.0, cell.1));
                *cell = (0, 0);
            }
        };
        for change in changes {
            let (times, keys, values) = columns(change);
            for ((&t, &key), &value) in times.iter().zip(keys).zip(values) {
                if t >= start + SIZE {
                    close(start, &mut cells, digest);
                    start += SIZE;
                }
                let cell = &mut cells[key as usize];
                *cell = (cell.0 + 1, cell.1 + value);
            }
        }
        close(start, &mut cells, digest);
    });
}
