//! Measures count and sum over tumbling windows by keys of several kinds, beside hand-written loops.
//!
//! Each with one shard and with two; once more with a count of distinct values beside count and sum, which
//! the loop leaves out. The loop over integers from 0 on has an array for its table and knows it; the others have a hash
//! map. `cargo bench --bench tumbling`; with `-- "4 M"` only the runs whose names hold that. Without
//! `--bench` few rows, and only the answers are checked.

mod window;

use std::hash::Hash;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use hashbrown::HashMap;
use weir::data::change::Change;
use weir::time::SECOND;
use weir::windows::spec::{Span, TimeWindowKind};
use window::{Digest, Keys, Load, columns, full, number_of_text, run};

const SIZE: i64 = 10 * SECOND;

fn main() {
    let runs: [(&str, Keys, i64); 9] = [
        ("100 integer keys", Keys::Dense, 100),
        ("100 k integer keys", Keys::Dense, 100_000),
        ("4 M integer keys", Keys::Dense, 4_000_000),
        ("100 k integer keys far apart", Keys::Spread, 100_000),
        ("100 k short texts", Keys::Short, 100_000),
        ("100 k long texts", Keys::Long, 100_000),
        ("100 k pairs of integers", Keys::Pairs, 100_000),
        ("1 M integer keys far apart", Keys::Spread, 1_000_000),
        ("4 M integer keys far apart", Keys::Spread, 4_000_000),
    ];
    let costly = [("100 integer keys", 100), ("100 k integer keys", 100_000)];
    let costly =
        costly.map(|(name, count)| (format!("{name}, distinct values"), Keys::Dense, count));
    let runs = runs.map(|(name, kind, count)| (name.to_owned(), kind, count));
    let runs = runs.map(|run| (run, false)).into_iter().chain(costly.map(|run| (run, true)));
    let runs = runs.flat_map(|run| [1, 2].map(|shards| (run.clone(), shards)));
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| name.contains(wanted));
    let runs = runs.filter(|(((name, ..), _), _)| is_wanted(name));
    for (((name, kind, count), costly), shards) in runs {
        let load = match full() {
            true => load(kind, count, 8_000_000.max(4 * count as usize)),
            false => Load {
                rows: 20_000,
                rows_per_second: 500,
                batch: 700,
                ..load(kind, count.min(100), 0)
            },
        };
        let load = Load { shards, costly, ..load };
        let name = format!("tumbling 10 s, count and sum, {name}, {shards} shards");
        match kind {
            Keys::Dense => run(&name, &load, |changes, digest| array(&load, changes, digest)),
            Keys::Spread => run(&name, &load, |changes, digest| {
                map(changes, digest, |change| columns(change).1, |keys, row| keys[row], |key| key);
            }),
            Keys::Pairs => run(&name, &load, |changes, digest| {
                let columns = |change| (column(change, 1), column(change, 3));
                map(
                    changes,
                    digest,
                    columns,
                    |keys, row| (keys.0[row], keys.1[row]),
                    |key| key.0 * 1_000 + key.1,
                );
            }),
            Keys::Short | Keys::Long => run(&name, &load, |changes, digest| {
                let texts = |change| Change::column(change).as_string_view();
                map(changes, digest, texts, |keys, row| keys.value(row), number_of_text);
            }),
        }
    }
}

fn load(keys: Keys, key_count: i64, rows: usize) -> Load {
    Load {
        kind: TimeWindowKind::Tumble { size: Span::Fixed(SIZE) },
        keys,
        key_count,
        rows,
        // A window holds ten rows a key, and not fewer than a million.
        rows_per_second: 100_000.max(key_count as usize / 10),
        batch: 32_768,
        shards: 1,
        costly: false,
    }
}

fn column(change: &Change, column: usize) -> &[i64] {
    change.batch.column(column).as_primitive::<Int64Type>().values()
}

/// The second column, by whatever type it has.
trait KeyColumn {
    fn column(&self) -> &dyn Array;
}

impl KeyColumn for Change {
    fn column(&self) -> &dyn Array {
        self.batch.column(1).as_ref()
    }
}

/// The loop that knows that its keys are the numbers from 0 on.
fn array(load: &Load, changes: &[Change], digest: &mut Digest) {
    let mut cells = vec![(0_i64, 0_i64); load.key_count as usize];
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
}

/// The loop that looks its keys up in a hash map.
fn map<'a, C, K: Hash + Ord + Copy>(
    changes: &'a [Change],
    digest: &mut Digest,
    keys_of: impl Fn(&'a Change) -> C,
    key_at: impl Fn(&C, usize) -> K,
    number: impl Fn(K) -> i64,
) {
    let mut table = Table { places: HashMap::new(), cells: Vec::new(), sorted: Vec::new() };
    let mut start = 0;
    for change in changes {
        let (times, keys, values) = (column(change, 0), keys_of(change), column(change, 2));
        for (row, (&t, &value)) in times.iter().zip(values).enumerate() {
            if t >= start + SIZE {
                table.close(start, &number, digest);
                start += SIZE;
            }
            let next = table.cells.len() as u32;
            let place = *table.places.entry(key_at(&keys, row)).or_insert(next);
            if place == next {
                table.cells.push((0, 0));
            }
            let cell = &mut table.cells[place as usize];
            *cell = (cell.0 + 1, cell.1 + value);
        }
    }
    table.close(start, &number, digest);
}

/// What the loop knows of each key.
struct Table<K> {
    places: HashMap<K, u32>,
    cells: Vec<(i64, i64)>,
    sorted: Vec<(K, u32)>,
}

impl<K: Ord + Copy> Table<K> {
    fn close(&mut self, start: i64, number: impl Fn(K) -> i64, digest: &mut Digest) {
        if self.sorted.len() < self.places.len() {
            self.sorted = self.places.iter().map(|(&key, &place)| (key, place)).collect();
            self.sorted.sort_unstable();
        }
        for &(key, place) in &self.sorted {
            let cell = &mut self.cells[place as usize];
            if cell.0 > 0 {
                digest.add((start, number(key), cell.0, cell.1));
                *cell = (0, 0);
            }
        }
    }
}
