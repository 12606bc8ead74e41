//! Measures MATCH_RECOGNIZE over 10 k keys in event-time order, over rows that come up to a second late:
//! runs of at least three rises, whose condition looks at neighbours and is evaluated in columns, and
//! jumps, whose condition looks back at the match and is evaluated row by row. Beside each a hand-written
//! loop that sorts what the watermark has passed and keeps a run per key.

mod ordered;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::Operator as Op;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, binary, lit};
use ordered::{Load, columns, full, hash, input, output, run};
use weir::data::change::Change;
use weir::operators::match_recognize::pattern::Pattern;
use weir::operators::match_recognize::{
    Aggregation, Cell, Condition, MatchOrder, MatchRecognize, MatchSpec, Place, RunningFunction,
    Skip,
};
use weir::time::SECOND;

const JUMP: i64 = 500_000;
const RISES: u32 = 3;

fn at(of: Option<usize>, back: usize, column: usize) -> Cell {
    Cell::At(Place { of, from_first: false, skip: 0, back }, column)
}

fn cell(index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(&format!("__cell_{index}"), index))
}

fn integers(names: &[&str]) -> SchemaRef {
    let field = |name: &&str| Field::new(*name, DataType::Int64, true);
    Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>()))
}

/// `PATTERN (a b{3,})`, b above its neighbour; or `PATTERN (a b)`, b above a by a jump.
fn spec(rises: bool) -> Arc<MatchSpec> {
    let count = Aggregation {
        function: RunningFunction::Count,
        column: None,
        of: None,
        data_type: DataType::Int64,
    };
    let cells = vec![
        at(None, 0, 2),
        at(None, 1, 2),
        at(Some(0), 0, 2),
        at(None, 0, 0),
        Cell::Aggregate(count),
    ];
    let frame = integers(&["__cell_0", "__cell_1", "__cell_2", "__cell_3", "__cell_4"]);
    let above = |right: Arc<dyn PhysicalExpr>| {
        Some(binary(cell(0), Op::Gt, right, &frame).expect("numbers compare"))
    };
    let jump = binary(cell(2), Op::Plus, lit(JUMP), &frame).expect("numbers add");
    let condition = match rises {
        true => Condition { alone: above(cell(1)), looking_back: None },
        false => Condition { alone: None, looking_back: above(jump) },
    };
    let (first, second) = (Pattern::Variable(0), Pattern::Variable(1));
    let runs =
        Pattern::Repeat { inner: Box::new(second.clone()), min: RISES, max: None, greedy: true };
    Arc::new(MatchSpec {
        partition: vec![1],
        order: MatchOrder::Time(0),
        ties: vec![],
        lateness: 0,
        pattern: Pattern::Sequence(vec![first, if rises { runs } else { second }]),
        pattern_text: Arc::from(if rises { "a b{3,}" } else { "a b" }),
        variables: ["a", "b"].map(Arc::from).to_vec(),
        conditions: vec![Condition::default(), condition],
        skip: Skip::PastLastRow,
        within: None,
        cells,
        measures: vec![cell(3), cell(0), cell(4)],
        frame,
        reach: 0,
        is_numbered: false,
        input_schema: input(),
        schema: output(),
    })
}

/// A run of one key: its rows so far, and the last of them.
#[derive(Clone, Copy, Default)]
struct Run {
    rows: i64,
    at: i64,
    value: i64,
}

fn by_hand(changes: &[Change], keys: i64, rises: bool) -> i64 {
    let mut runs = vec![Run::default(); keys as usize];
    let mut held: Vec<(i64, usize, i64, i64)> = Vec::new();
    let (mut number, mut answer) = (0, 0_i64);
    let mut found = |key: i64, run: &Run| {
        answer = answer.wrapping_add(hash(key, run.at, run.value, run.rows));
    };
    let mut flush = |held: &mut Vec<(i64, usize, i64, i64)>, watermark: i64| {
        held.sort_unstable();
        let due = held.partition_point(|row| row.0 < watermark);
        for (at, _, key, value) in held.drain(..due) {
            let run = &mut runs[key as usize];
            let bar = if rises { run.value } else { run.value + JUMP };
            let goes_on = run.rows > 0 && value > bar;
            if rises && !goes_on && run.rows > i64::from(RISES) {
                found(key, run);
            }
            *run = Run { rows: if goes_on { run.rows + 1 } else { 1 }, at, value };
            if !rises && goes_on {
                found(key, run);
                run.rows = 0;
            }
        }
        if watermark == i64::MAX && rises {
            let open = runs.iter().enumerate().filter(|(_, run)| run.rows > i64::from(RISES));
            open.for_each(|(key, run)| found(key as i64, run));
        }
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
    for (name, rises) in [("runs of rises, by columns", true), ("jumps, row by row", false)] {
        run(
            name,
            &load,
            || Box::new(MatchRecognize::new(spec(rises)).expect("the spec is sound")),
            |changes| by_hand(changes, load.keys, rises),
        );
    }
}
