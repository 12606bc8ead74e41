//! Measures the newest row of each key (Nexmark q18) and the ten greatest values of each key with their
//! numbers (Nexmark q19), beside hand-written loops that keep them in vectors.

mod ordered;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::compute::SortOptions;
use ordered::{Load, columns, full, hash, input, output, run};
use weir::data::change::Change;
use weir::operators::ranking::{Ranking, RankingSpec};

fn spec(order: usize, fetch: usize, numbered: bool) -> Arc<RankingSpec> {
    Arc::new(RankingSpec {
        partition: vec![1],
        order: vec![(order, SortOptions { descending: true, nulls_first: true })],
        skip: 0,
        fetch: Some(fetch),
        numbered,
        close: None,
        input_append_only: true,
        kept: 3,
        input_schema: input(),
        schema: output(),
    })
}

/// A row, and what it is ordered by.
type Row = (i64, i64, i64);

/// Keeps the first rows of each key, and sums what is put out and taken back at the end of each batch.
fn by_hand(changes: &[Change], keys: i64, order: usize, fetch: usize, numbered: bool) -> i64 {
    let mut groups: Vec<Vec<Row>> = vec![Vec::new(); keys as usize];
    let mut answer = 0_i64;
    let of = |row: &Row| if order == 0 { row.0 } else { row.2 };
    for change in changes {
        let mut before: BTreeMap<i64, Vec<Row>> = BTreeMap::new();
        let (times, keys, values) = columns(change);
        for ((&time, &key), &value) in times.iter().zip(keys).zip(values) {
            let row = (time, key, value);
            let group = &mut groups[key as usize];
            let place = group.partition_point(|other| of(other) >= of(&row));
            if place >= fetch {
                continue;
            }
            before.entry(key).or_insert_with(|| group.clone());
            group.insert(place, row);
            group.truncate(fetch);
        }
        for (key, old) in before {
            let number = |place: usize| if numbered { place as i64 + 1 } else { 0 };
            for (place, row) in old.iter().enumerate() {
                answer = answer.wrapping_sub(hash(row.0, row.1, row.2, number(place)));
            }
            for (place, row) in groups[key as usize].iter().enumerate() {
                answer = answer.wrapping_add(hash(row.0, row.1, row.2, number(place)));
            }
        }
    }
    answer
}

fn main() {
    let load = Load {
        rows: if full() { 4_000_000 } else { 5_000 },
        keys: if full() { 100_000 } else { 20 },
        disorder: 1,
    };
    for (name, order, fetch, numbered) in
        [("newest of each key (q18)", 0, 1, false), ("ten greatest of each key (q19)", 2, 10, true)]
    {
        run(
            name,
            &load,
            || {
                let spec = spec(order, fetch, numbered);
                Box::new(Ranking::new(spec).expect("the spec is sound"))
            },
            |changes| by_hand(changes, load.keys, order, fetch, numbered),
        );
    }
}
