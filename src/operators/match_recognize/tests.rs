//! Runs MATCH_RECOGNIZE over random rows, cut and restored in random places, beside a backtracking search
//! over the sorted rows of each partition.

use std::ops::Range;

use arrow::array::{ArrayRef, Int64Array, StringViewArray};
use arrow::compute::{SortOptions, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use datafusion::logical_expr::Operator as Op;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, binary, lit};
use proptest::prelude::*;

use super::backtracking::{first_word, patterns};
use super::pattern::Pattern;
use super::*;
use crate::operators::operator::{LateRow, Output};
use crate::operators::row_trial::{arriving, in_pieces, watermarks};

/// Time, key, number.
type Row = (i64, Option<i64>, Option<i64>);

const BOUND: i64 = 3;

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("at", DataType::Int64, true),
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
        Field::new("t", DataType::Utf8View, true),
    ]))
}

fn place(of: Option<usize>, from_first: bool, skip: usize, back: usize) -> Place {
    Place { of, from_first, skip, back }
}

fn cells() -> Vec<Cell> {
    let aggregate = |function, column, of, data_type| {
        Cell::Aggregate(Aggregation { function, column, of, data_type })
    };
    vec![
        Cell::At(place(None, false, 0, 0), 2),
        Cell::At(place(None, false, 0, 1), 2),
        Cell::At(place(Some(0), false, 0, 0), 2),
        aggregate(RunningFunction::Sum, Some(2), Some(1), DataType::Int64),
        Cell::Classifier,
        Cell::MatchNumber,
        Cell::At(place(None, false, 0, 0), 0),
        Cell::At(place(None, true, 0, 0), 3),
        Cell::At(place(Some(0), true, 1, 0), 2),
        aggregate(RunningFunction::Count, None, None, DataType::Int64),
    ]
}

fn frame() -> SchemaRef {
    let types = cells().into_iter().map(|cell| match cell {
        Cell::At(_, 3) | Cell::Classifier => DataType::Utf8View,
        _ => DataType::Int64,
    });
    let fields = types.enumerate().map(|(i, t)| Field::new(format!("__cell_{i}"), t, true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn cell(index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(&format!("__cell_{index}"), index))
}

/// How random specs differ.
#[derive(Debug, Clone)]
struct Variant {
    pattern: Pattern,
    skip: Skip,
    within: Option<i64>,
    /// What variable 2 looks at: nothing, the last row of variable 0, the sum over variable 1.
    looks_at: u8,
    numbered: bool,
    lateness: i64,
}

/// Variable 0: v >= 0; 1: v > PREV(v); 2: whatever the variant says.
fn spec(variant: &Variant) -> Arc<MatchSpec> {
    let compare = |left: usize, op, right: Arc<dyn PhysicalExpr>| {
        Some(binary(cell(left), op, right, &frame()).unwrap())
    };
    let mut conditions = vec![Condition::default(); 3];
    conditions[0].alone = compare(0, Op::GtEq, lit(0_i64));
    conditions[1].alone = compare(0, Op::Gt, cell(1));
    conditions[2].looking_back = match variant.looks_at {
        0 => None,
        1 => compare(0, Op::Gt, cell(2)),
        _ => compare(3, Op::Gt, lit(2_i64)),
    };
    let mut measured = vec![(0, "v"), (1, "before"), (3, "sum"), (4, "variable"), (6, "last_at")];
    measured.extend([(7, "first"), (8, "second_a"), (9, "rows")]);
    if variant.numbered {
        measured.push((5, "number"));
    }
    let mut fields = vec![Field::new("k", DataType::Int64, true)];
    for (index, name) in &measured {
        fields.push(frame().field(*index).clone().with_name(*name));
    }
    // The measure that looks at the row before the last one reaches back where a match may have one row.
    let reach =
        usize::from(variant.pattern.rows_before(1) == Some(0) || variant.pattern.rows_min() == 1);
    Arc::new(MatchSpec {
        partition: vec![1],
        order: MatchOrder::Time(0),
        ties: vec![(2, SortOptions { descending: true, nulls_first: false })],
        lateness: variant.lateness,
        pattern: variant.pattern.clone(),
        pattern_text: Arc::from(""),
        variables: ["a", "b", "c"].map(Arc::from).to_vec(),
        conditions,
        skip: variant.skip,
        within: variant.within,
        cells: cells(),
        frame: frame(),
        measures: measured.iter().map(|(index, _)| cell(*index)).collect(),
        reach,
        is_numbered: variant.numbered,
        input_schema: input(),
        schema: Arc::new(Schema::new(fields)),
    })
}

fn text(row: usize) -> String {
    format!("the text of row {row:09}")
}

fn change(rows: &[Row], first: usize, arrivals: &[i64]) -> Change {
    let texts = (first..first + rows.len()).map(text);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
        Arc::new(StringViewArray::from_iter_values(texts)),
    ];
    arriving(RecordBatch::try_new(input(), columns).unwrap(), first, arrivals)
}

/// Runs rows in pieces that end at `cuts`; after each the operator is saved into a new one.
fn run(spec: &Arc<MatchSpec>, rows: &[Row], cuts: &[usize]) -> (RecordBatch, Vec<LateRow>) {
    let marks = watermarks(rows.iter().map(|row| row.0), BOUND);
    let piece = |rows_of: Range<usize>| {
        change(&rows[rows_of.clone()], rows_of.start, &marks[rows_of.clone()])
    };
    let ran = in_pieces(|| MatchRecognize::new(Arc::clone(spec)).unwrap(), piece, &marks, cuts);
    assert!(ran.rejected.is_empty());
    let operator = ran.operator;
    assert!(operator.partitions.is_empty() && operator.deadlines.is_empty());
    assert_eq!((operator.partition_bytes, operator.pending.rows.state_bytes()), (0, 0));
    (concat_batches(&spec.schema, &ran.batches).unwrap(), ran.late)
}

/// Every match of a partition whose rows are in order, as the columns of the answer.
fn by_hand(variant: &Variant, rows: &[(usize, Row)]) -> Vec<String> {
    let value = |row: usize| rows[row].1.2;
    let (mut start, mut answers) = (0, Vec::new());
    while start < rows.len() {
        let word = first_word(&variant.pattern, &|way, variable| {
            let row = start + way.len();
            if row >= rows.len() {
                return false;
            }
            let is_late = |within: i64| rows[row].1.0 - rows[start].1.0 >= within;
            if variant.within.is_some_and(is_late) {
                return false;
            }
            let now = value(row);
            match (variable, variant.looks_at) {
                (0, _) => now.is_some_and(|v| v >= 0),
                (1, _) => row > 0 && now > value(row - 1) && value(row - 1).is_some(),
                (_, 0) => true,
                (_, 1) => {
                    let last = way.iter().rposition(|variable| *variable == 0);
                    let last = last.and_then(|last| value(start + last));
                    last.is_some() && now > last
                }
                _ => {
                    let all = way.iter().enumerate().filter(|(_, variable)| **variable == 1);
                    let all: Vec<i64> = all.filter_map(|(row, _)| value(start + row)).collect();
                    !all.is_empty() && all.iter().sum::<i64>() > 2
                }
            }
        });
        let Some(word) = word else {
            start += 1;
            continue;
        };
        let last = start + word.len() - 1;
        let of = |variable: usize| {
            let all = word.iter().enumerate().filter(move |(_, other)| **other == variable);
            all.map(|(row, _)| start + row).collect::<Vec<_>>()
        };
        let sum: Vec<i64> = of(1).into_iter().filter_map(value).collect();
        let sum = (!sum.is_empty()).then(|| sum.iter().sum::<i64>());
        let show = |value: Option<i64>| value.map(|v| v.to_string()).unwrap_or_default();
        let before = last.checked_sub(1).and_then(value);
        let mut cells = vec![show(rows[last].1.1), show(value(last)), show(before), show(sum)];
        cells.push(["a", "b", "c"][word[word.len() - 1]].to_string());
        cells.push(rows[last].1.0.to_string());
        cells.push(text(rows[start].0));
        cells.push(show(of(0).get(1).and_then(|row| value(*row))));
        cells.push(word.len().to_string());
        if variant.numbered {
            cells.push((answers.len() + 1).to_string());
        }
        answers.push(cells.join("|"));
        let next = match variant.skip {
            Skip::PastLastRow => Some(last + 1),
            Skip::ToNextRow => None,
            Skip::ToFirst(variable) => of(variable).first().copied(),
            Skip::ToLast(variable) => of(variable).last().copied(),
        };
        start = next.unwrap_or(0).max(start + 1);
    }
    answers
}

fn lines(batch: &RecordBatch) -> Vec<String> {
    let line = |row: usize| {
        let cells =
            batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap());
        cells.collect::<Vec<_>>().join("|")
    };
    (0..batch.num_rows()).map(line).collect()
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (
        0i64..6,
        prop_oneof![Just(None), (0i64..2).prop_map(Some)],
        prop_oneof![1 => Just(None), 9 => (-2i64..5).prop_map(Some)],
    );
    prop::collection::vec(row, 0..30).prop_map(|mut rows| {
        for (i, row) in rows.iter_mut().enumerate() {
            row.0 += i as i64 / 2;
        }
        rows
    })
}

fn variants() -> impl Strategy<Value = Variant> {
    let skip = prop_oneof![
        Just(Skip::PastLastRow),
        Just(Skip::ToNextRow),
        (0usize..3).prop_map(Skip::ToFirst),
        (0usize..3).prop_map(Skip::ToLast),
    ];
    let within = prop::option::of(1i64..8);
    (patterns(), skip, within, 0u8..3, any::<bool>(), 0i64..3).prop_map(
        |(pattern, skip, within, looks_at, numbered, lateness)| Variant {
            pattern,
            skip,
            within,
            looks_at,
            numbered,
            lateness,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn neither_cuts_nor_restores_change_a_bit(
        variant in variants(), rows in rows(),
        cuts in prop::collection::btree_set(0usize..30, 0..8),
    ) {
        let spec = spec(&variant);
        let cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < rows.len()).collect();
        let (whole, late) = run(&spec, &rows, &[]);
        let (cut, late_too) = run(&spec, &rows, &cuts);
        prop_assert_eq!(late, late_too);
        prop_assert_eq!(lines(&whole), lines(&cut));
    }

    #[test]
    fn matches_are_those_of_a_backtracking_search(variant in variants(), rows in rows()) {
        let (answer, late) = run(&spec(&variant), &rows, &[]);
        let marks = watermarks(rows.iter().map(|row| row.0), BOUND);
        let is_kept = |(i, row): &(usize, Row)| row.0 >= marks[*i].saturating_sub(variant.lateness);
        let mut kept: Vec<(usize, Row)> = rows.iter().copied().enumerate().filter(is_kept).collect();
        prop_assert_eq!(late.len(), rows.len() - kept.len());
        kept.sort_by_key(|(i, row)| (row.0, row.2.is_none(), row.2.map(|v| -v), *i));
        let mut expected = Vec::new();
        for key in [None, Some(0), Some(1)] {
            let own: Vec<(usize, Row)> =
                kept.iter().copied().filter(|(_, row)| row.1 == key).collect();
            expected.extend(by_hand(&variant, &own));
        }
        let mut found = lines(&answer);
        found.sort();
        expected.sort();
        prop_assert_eq!(found, expected);
    }
}

fn simple(pattern: Pattern) -> Variant {
    let (skip, within) = (Skip::PastLastRow, None);
    Variant { pattern, skip, within, looks_at: 0, numbered: false, lateness: 0 }
}

#[test]
fn rows_that_no_attempt_needs_are_given_up() {
    let pattern = Pattern::Sequence(vec![Pattern::Variable(0), Pattern::Variable(1)]);
    let mut operator = MatchRecognize::new(spec(&simple(pattern))).unwrap();
    let mut out = Emitter::default();
    // Numbers fall, so a row is held until the next one of its key says no.
    let rows: Vec<Row> = (0..5_000).map(|i| (i, Some(i % 10), Some(5_000 - i))).collect();
    operator.on_change(0, change(&rows, 0, &vec![i64::MIN; rows.len()]), &mut out).unwrap();
    let full = operator.state_bytes();
    operator.on_watermark(0, EventTime(5_000), &mut out).unwrap();
    assert_eq!(operator.partitions.len(), 10);
    assert!(operator.state_bytes() * 10 < full, "{} of {full}", operator.state_bytes());
}

#[test]
fn a_row_on_which_a_condition_fails_is_refused_where_it_is_asked() {
    let two = Pattern::Sequence(vec![Pattern::Variable(0), Pattern::Variable(1)]);
    let mut spec = MatchSpec::clone(&spec(&simple(two)));
    // 6 / v > 1 for the second row.
    let quotient = binary(lit(6_i64), Op::Divide, cell(0), &frame()).unwrap();
    spec.conditions[1].alone = Some(binary(quotient, Op::Gt, lit(1_i64), &frame()).unwrap());
    let mut operator = MatchRecognize::new(Arc::new(spec)).unwrap();
    let rows: Vec<Row> =
        [-1, 0, 0, 2].iter().enumerate().map(|(i, v)| (i as i64, None, Some(*v))).collect();
    let mut out = Emitter::default();
    operator.on_change(0, change(&rows, 0, &[i64::MIN; 4]), &mut out).unwrap();
    operator.on_watermark(0, EventTime::MAX, &mut out).unwrap();
    // Of row 1 only 0 <= v is asked; row 2 is refused; rows 1 and 3 match.
    let refused: Vec<_> = out.rejected.iter().map(|row| (row.offset, row.code.0)).collect();
    assert_eq!(refused, [(2, "22012")]);
    let batches = out.outputs.iter().filter_map(|output| match output {
        Output::Change(change) => Some(lines(&change.batch)),
        _ => None,
    });
    let found: Vec<String> = batches.flatten().collect();
    assert_eq!(found, [format!("|2|0|2|b|3|{}||2", text(1))]);
}
