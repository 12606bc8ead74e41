//! Measures sums over the last ten seconds, and over the last hundred rows, of each of 10 k keys in
//! event-time order, over rows that come up to a second late; beside a hand-written loop that sorts
//! what the watermark has passed and keeps a deque per key.

mod ordered;

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Column;
use ordered::{Load, columns, full, hash, input, output, run};
use weir::data::change::Change;
use weir::operators::aggregates::spec::{AggregateSpec, NativeFunction};
use weir::operators::over::{Frame, Over, OverCall, OverFunction, OverOrder, OverSpec};
use weir::time::SECOND;

fn spec(frame: Frame) -> Arc<OverSpec> {
    let sum = AggregateExprBuilder::new(sum_udaf(), vec![Arc::new(Column::new("v", 2))])
        .schema(input())
        .alias("answer")
        .build()
        .expect("sum exists");
    let native = Some(NativeFunction::Sum);
    let output_field = sum.field();
    let sum = AggregateSpec { function: Arc::new(sum), filter: None, native, output: output_field };
    Arc::new(OverSpec {
        order: OverOrder::Time(0),
        lateness: 0,
        calls: vec![OverCall {
            partition: vec![1],
            ends: None,
            function: OverFunction::Aggregate(sum, frame),
        }],
        kept: 3,
        input_schema: input(),
        schema: output(),
    })
}

/// Rows of one key in the frame, with their sum.
#[derive(Clone, Default)]
struct Place {
    rows: VecDeque<(i64, i64)>,
    sum: i64,
}

fn by_hand(changes: &[Change], keys: i64, frame: Frame) -> i64 {
    let width = frame.start.unwrap_or(0);
    let mut places = vec![Place::default(); keys as usize];
    let mut held: Vec<(i64, usize, i64, i64)> = Vec::new();
    let (mut number, mut answer) = (0, 0_i64);
    let mut flush = |held: &mut Vec<(i64, usize, i64, i64)>, watermark: i64| {
        held.sort_unstable();
        let due = held.partition_point(|row| row.0 < watermark);
        let mut first = 0;
        while first < due {
            let time = held[first].0;
            let peers = held[first..due].iter().take_while(|row| row.0 == time).count();
            let run = first..if frame.by_rows { first + 1 } else { first + peers };
            for &(time, _, key, value) in &held[run.clone()] {
                let place = &mut places[key as usize];
                place.rows.push_back((time, value));
                place.sum += value;
                let beyond = |place: &Place| match frame.by_rows {
                    true => place.rows.len() as i64 > width + 1,
                    false => place.rows[0].0 < time - width,
                };
                while beyond(place) {
                    let (_, gone) = place.rows.pop_front().unwrap_or_default();
                    place.sum -= gone;
                }
            }
            for &(time, _, key, value) in &held[run.clone()] {
                answer = answer.wrapping_add(hash(time, key, value, places[key as usize].sum));
            }
            first = run.end;
        }
        held.drain(..due);
    };
    for change in changes {
        let (times, keys, values) = columns(change);
        for ((&time, &key), &value) in times.iter().zip(keys).zip(values) {
            held.push((time, number, key, value));
            number += 1;
        }
        flush(&mut held, change.origin.arrival.at(change.batch.num_rows() - 1));
    }
    flush(&mut held, i64::MAX);
    answer
}

fn main() {
    let load = Load {
        rows: if full() { 4_000_000 } else { 5_000 },
        keys: if full() { 10_000 } else { 20 },
        disorder: if full() { SECOND } else { SECOND / 100 },
    };
    let frames = [
        ("sum of the last 10 s", Frame { by_rows: false, start: Some(10 * SECOND), end: 0 }),
        ("sum of the last 100 rows", Frame { by_rows: true, start: Some(99), end: 0 }),
    ];
    for (name, frame) in frames {
        run(
            name,
            &load,
            || Box::new(Over::new(spec(frame)).expect("the spec is sound")),
            |changes| by_hand(changes, load.keys, frame),
        );
    }
}
