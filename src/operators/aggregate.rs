//! Groups rows by key without a window, and keeps every group's result current: GROUP BY, DISTINCT.
//!
//! # Method
//!
//! Rows fold into groups as they come; groups that were touched are remembered in the order of their
//! first touch. When results are due (EMIT CHANGES: at the end of the step) each touched group is
//! read, and where its result differs from the one emitted last, that one is retracted and the new
//! one inserted. What was emitted is kept as bytes, so a retraction equals its insertion to the bit.
//! A group whose rows cancel out is retracted and freed. Without keys there is one group, whose
//! result exists from the start.
//!
//! EMIT EVERY n ROWS cuts its input at every n-th row; EMIT EVERY INTERVAL emits at whole multiples of
//! the interval since 1970, before any later row. ON CLOSE emits when the input ends, or when a
//! punctuation completes groups. A watermark waits for the results of the rows before it.
//!
//! # Errors
//!
//! A row whose arguments fail is left out and reported. A group whose *result* fails (a sum out of
//! range) keeps all its rows and shows no result; the row that came last to it is reported, once,
//! until the result is valid again.
//!
//! # State
//!
//! Per group with rows: its key, its partial results, the result emitted last. Unbounded, unless
//! retractions or punctuations end groups. Keys of freed groups go when they are more than half.
//!
//! # Invariants
//!
//! 1. `emitted` of a group is the row that the output's changelog sums to for its key.
//! 2. A watermark is forwarded only when no touched group waits to be emitted.
//!
//! # Not here
//!
//! Windows (`window_aggregate`), GROUPING SETS.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;

use crate::data::change::{Change, Marks, Origin};
use crate::data::punctuation::{Pattern, Punctuation};
use crate::error::SqlState;
use crate::operators::aggregates::fold::{FoldRows, Inputs, Measure};
use crate::operators::aggregates::spec::AggregateSpec;
use crate::operators::emission::Emission;
use crate::operators::emit::{EmitMode, EmitSpec, Refinement};
use crate::operators::expr;
use crate::operators::filter_project::reject_rows;
use crate::operators::keys::KeyDictionary;
use crate::operators::operator::{Emitter, EvalError, Operator, RejectedRow};
use crate::operators::touched::{Touch, Touched};
use crate::time::EventTime;

/// What to group by and what to compute.
#[derive(Debug, Clone)]
pub struct AggregateOpSpec {
    /// Key columns of the input; none: one group of all rows.
    pub keys: Vec<usize>,
    /// What is computed per group; none: DISTINCT.
    pub aggregates: Vec<AggregateSpec>,
    /// When results appear.
    pub emit: EmitSpec,
    /// No retraction ever comes in.
    pub input_append_only: bool,
    /// Columns of the input.
    pub input_schema: SchemaRef,
    /// Columns of the output: the keys, then the aggregates.
    pub schema: SchemaRef,
}

/// Runs an [`AggregateOpSpec`].
pub struct Aggregate {
    spec: Arc<AggregateOpSpec>,
    measures: Vec<Measure>,
    keys: KeyDictionary,
    groups: Groups,
    emission: Emission,
    /// The frame that came last; what is emitted names it as its cause.
    origin: Arc<Origin>,
    /// Taken in and not forwarded yet.
    watermark: Option<EventTime>,
    /// Rows since the last emission of EMIT EVERY n ROWS.
    rows_since: u64,
    /// Next emission of EMIT EVERY INTERVAL.
    due: Option<i64>,
    /// Groups freed since the keys were compacted.
    freed: usize,
}

/// What is known of groups, apart from keys and aggregates.
#[derive(Default)]
struct Groups {
    /// Insertions less retractions.
    rows: Vec<i64>,
    /// Whether the result could not be read last time.
    failing: Vec<bool>,
    /// Those that changed since the last emission.
    touched: Touched,
}

/// Groups below which keys of freed ones are not worth looking for.
const COMPACT_MIN: usize = 1_024;

/// Code and reason of a result that could not be read.
type RowError = (SqlState, String);

impl Aggregate {
    /// An operator without rows.
    pub fn new(spec: Arc<AggregateOpSpec>) -> Result<Aggregate, EvalError> {
        assert_eq!(spec.schema.fields().len(), spec.keys.len() + spec.aggregates.len());
        let schema = &spec.input_schema;
        let measures = spec
            .aggregates
            .iter()
            .map(|aggregate| Measure::new(aggregate, schema, spec.input_append_only))
            .collect::<Result<Vec<_>, _>>()?;
        let key_types = spec.keys.iter().map(|key| schema.field(*key).data_type().clone());
        let keys = KeyDictionary::of_types(key_types)?;
        let emission = Emission::new(Arc::clone(&spec.schema), spec.keys.len())?;
        let origin = Arc::new(Origin {
            relation: Arc::from(""),
            first_offset: 0,
            ingest_time: 0,
            arrival: Marks::All(i64::MIN),
            progress: Marks::All(i64::MIN),
        });
        let mut aggregate = Aggregate {
            measures,
            keys,
            groups: Groups::default(),
            emission,
            origin,
            watermark: None,
            rows_since: 0,
            due: None,
            freed: 0,
            spec,
        };
        if aggregate.is_global() {
            // SQL's one row over no rows: it exists before anything came.
            aggregate.resize();
            aggregate.groups.touched.touch(0, &Arc::from(""), 0);
        }
        Ok(aggregate)
    }

    fn is_global(&self) -> bool {
        self.spec.keys.is_empty()
    }

    fn refinement(&self) -> Refinement {
        match self.spec.emit.mode {
            EmitMode::EveryInterval { refinement, .. } | EmitMode::EveryRows { refinement, .. } => {
                refinement
            }
            EmitMode::Changes | EmitMode::OnClose => Refinement::Retracting,
        }
    }

    /// Makes room for the groups that have keys.
    fn resize(&mut self) {
        let count = if self.is_global() { 1 } else { self.keys.len() };
        self.groups.rows.resize(count, 0);
        self.groups.failing.resize(count, false);
        self.groups.touched.resize(count);
        self.emission.resize(count);
        self.measures.iter_mut().for_each(|measure| measure.fold.resize(count));
    }

    /// Folds rows in.
    fn absorb(&mut self, change: &Change, out: &mut Emitter) -> Result<(), EvalError> {
        let (pieces, failures) =
            expr::evaluate_in_pieces(&change.batch, |part| Measure::inputs(&self.measures, part));
        reject_rows(change, failures, out);
        for piece in pieces {
            if piece.length == change.batch.num_rows() {
                self.fold(change, &piece.value)?;
            } else {
                self.fold(&change.slice(piece.start, piece.length), &piece.value)?;
            }
        }
        self.origin = Arc::clone(&change.origin);
        Ok(())
    }

    /// Folds rows whose arguments are known.
    fn fold(&mut self, change: &Change, inputs: &Inputs) -> Result<(), EvalError> {
        let rows = change.batch.num_rows();
        let mut groups = vec![0; if self.is_global() { rows } else { 0 }];
        if !self.is_global() {
            let keys: Vec<ArrayRef> =
                self.spec.keys.iter().map(|key| Arc::clone(change.batch.column(*key))).collect();
            let mut ids = Vec::with_capacity(rows);
            self.keys.intern(&keys, rows, &mut ids)?;
            groups = ids.into_iter().map(|id| id as usize).collect();
            self.resize();
        }
        for (row, &group) in groups.iter().enumerate() {
            self.groups.rows[group] += change.weight(row);
            self.groups.touched.touch(group, &change.origin.relation, change.offset(row));
        }
        for (measure, (arguments, included)) in self.measures.iter_mut().zip(inputs) {
            measure.fold.update(&FoldRows {
                groups: &groups,
                arguments,
                included: included.as_ref(),
                weights: change.weights.as_ref(),
            })?;
        }
        Ok(())
    }

    /// Emits the results of touched groups; of those that `chosen` names, if it is given.
    fn flush(&mut self, chosen: Option<&[bool]>, out: &mut Emitter) -> Result<(), EvalError> {
        let touches = self.groups.touched.take(chosen);
        if touches.is_empty() {
            return Ok(());
        }
        let global = self.is_global();
        let live: Vec<usize> = touches
            .iter()
            .map(|touch| touch.group)
            .filter(|group| global || self.groups.rows[*group] > 0)
            .collect();
        let failed = self.read(&live)?;
        let refinement = self.refinement();
        let mut next_live = 0;
        for touch in &touches {
            let group = touch.group;
            let is_live = global || self.groups.rows[group] > 0;
            let position = next_live;
            next_live += usize::from(is_live);
            if !is_live {
                self.groups.failing[group] = false;
                self.emission.remove(group, refinement);
                self.free(group);
                continue;
            }
            match failed.get(&position) {
                Some(error) => {
                    // What was shown before depends on where steps end; showing nothing does not.
                    self.emission.remove(group, refinement);
                    self.fail(touch, error, out);
                }
                None => {
                    self.groups.failing[group] = false;
                    self.emission.show(group, position, refinement);
                }
            }
            if refinement == Refinement::Discarding {
                self.forget(group);
            }
        }
        let keys = |groups: &[usize]| {
            let ids: Vec<u32> = groups.iter().map(|&group| group as u32).collect();
            self.keys.keys_of(&ids)
        };
        if let Some((batch, weights)) = self.emission.finish(keys)? {
            out.change(Change::derived(batch, weights, &self.origin));
        }
        self.compact()
    }

    /// Reads the results of groups; gives the positions of those that failed.
    fn read(&mut self, live: &[usize]) -> Result<BTreeMap<usize, RowError>, EvalError> {
        let (mut columns, mut failed) = (Vec::with_capacity(self.measures.len()), BTreeMap::new());
        for measure in &mut self.measures {
            let evaluated = measure.fold.evaluate(live)?;
            for (position, code, reason) in evaluated.failed {
                failed.entry(position).or_insert((code, reason));
            }
            columns.push(evaluated.values);
        }
        self.emission.start(columns, live.len())?;
        Ok(failed)
    }

    /// Reports that a group has no result, the first time.
    fn fail(&mut self, touch: &Touch, error: &RowError, out: &mut Emitter) {
        if !std::mem::replace(&mut self.groups.failing[touch.group], true) {
            out.reject(RejectedRow {
                relation: Arc::clone(&touch.relation),
                offset: touch.offset,
                code: error.0,
                reason: error.1.clone(),
            });
        }
    }

    /// Frees a group without rows, unless retractions that came early still wait for insertions.
    fn free(&mut self, group: usize) {
        let empty = |measure: &Measure| measure.fold.is_empty(group);
        if self.groups.rows[group] == 0 && self.measures.iter().all(empty) {
            self.forget(group);
        }
    }

    fn forget(&mut self, group: usize) {
        self.freed += 1;
        self.groups.rows[group] = 0;
        self.measures.iter_mut().for_each(|measure| measure.fold.clear(group));
    }

    /// Drops the keys of freed groups when they are more than half of all.
    fn compact(&mut self) -> Result<(), EvalError> {
        let count = self.groups.rows.len();
        if self.is_global() || count < COMPACT_MIN || !self.groups.touched.is_empty() {
            return Ok(());
        }
        // Looking costs O(groups), so it waits until as many groups were freed as may be left.
        if self.freed * 2 < count {
            return Ok(());
        }
        self.freed = 0;
        let used: Vec<usize> = (0..count)
            .filter(|group| {
                self.groups.rows[*group] != 0
                    || self.emission.is_shown(*group)
                    || !self.measures.iter().all(|measure| measure.fold.is_empty(*group))
            })
            .collect();
        let mut kept = vec![false; count];
        used.iter().for_each(|&group| kept[group] = true);
        self.keys.retain(&kept)?;
        self.groups.rows = used.iter().map(|group| self.groups.rows[*group]).collect();
        self.groups.failing = used.iter().map(|group| self.groups.failing[*group]).collect();
        self.groups.touched.renumber(used.len());
        self.emission.keep(&used);
        self.measures.iter_mut().for_each(|measure| measure.fold.keep(&used));
        Ok(())
    }
}

impl Operator for Aggregate {
    fn name(&self) -> &'static str {
        "Aggregate"
    }

    fn on_change(
        &mut self,
        port: usize,
        change: Change,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        assert_eq!(port, 0, "Aggregate has one input");
        let EmitMode::EveryRows { rows: every, .. } = self.spec.emit.mode else {
            return self.absorb(&change, out);
        };
        let (mut start, rows) = (0, change.batch.num_rows());
        while start < rows {
            let wanted = usize::try_from(every.max(1) - self.rows_since).unwrap_or(usize::MAX);
            let length = wanted.min(rows - start);
            self.absorb(&change.slice(start, length), out)?;
            start += length;
            self.rows_since += length as u64;
            if self.rows_since == every.max(1) {
                self.rows_since = 0;
                self.flush(None, out)?;
            }
        }
        Ok(())
    }

    fn on_watermark(
        &mut self,
        _port: usize,
        watermark: EventTime,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        self.watermark = Some(watermark);
        if watermark == EventTime::MAX {
            // The input has ended: nothing else can make these results due.
            self.flush(None, out)?;
            self.forward_watermark(out);
        }
        Ok(())
    }

    fn on_punctuation(
        &mut self,
        _port: usize,
        punctuation: &Punctuation,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let Some(patterns) = self.key_patterns(punctuation) else {
            return Ok(());
        };
        let complete = self.keys.matching(&patterns)?;
        self.flush(Some(&complete), out)?;
        // The flush may have renumbered the groups.
        let complete = self.keys.matching(&patterns)?;
        for group in (0..complete.len()).filter(|group| complete[*group]) {
            self.forget(group);
            self.emission.forget(group);
        }
        self.compact()?;
        let renamed = patterns
            .into_iter()
            .map(|(key, pattern)| (self.spec.schema.field(key).name().clone(), pattern));
        out.punctuation(Arc::new(Punctuation { columns: renamed.collect() }));
        Ok(())
    }

    fn on_tick(&mut self, now: i64, out: &mut Emitter) -> Result<(), EvalError> {
        let EmitMode::EveryInterval { interval, .. } = self.spec.emit.mode else {
            return Ok(());
        };
        if self.due.is_some_and(|due| due <= now) {
            self.flush(None, out)?;
            self.forward_watermark(out);
        }
        if self.due.is_none_or(|due| due <= now) {
            let interval = interval.max(1);
            self.due = Some(now.div_euclid(interval).saturating_add(1).saturating_mul(interval));
        }
        Ok(())
    }

    fn next_tick(&self) -> Option<i64> {
        self.due.filter(|_| !self.groups.touched.is_empty())
    }

    fn on_step_end(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        if self.spec.emit.mode == EmitMode::Changes {
            self.flush(None, out)?;
        }
        self.forward_watermark(out);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let folds: usize = self.measures.iter().map(|measure| measure.fold.bytes()).sum();
        let per_group = size_of::<i64>() + size_of::<bool>();
        let groups = self.groups.rows.capacity() * per_group + self.groups.touched.bytes();
        folds + groups + self.keys.size() + self.emission.bytes()
    }
}

impl Aggregate {
    /// Forwards the watermark if the results of all rows before it are out.
    fn forward_watermark(&mut self, out: &mut Emitter) {
        if self.groups.touched.is_empty()
            && let Some(watermark) = self.watermark.take()
        {
            out.watermark(watermark);
        }
    }

    /// The patterns by key position, if the punctuation speaks of keys only.
    fn key_patterns(&self, punctuation: &Punctuation) -> Option<Vec<(usize, Pattern)>> {
        if punctuation.columns.is_empty() {
            return None;
        }
        let by_key = |(name, pattern): &(String, Pattern)| {
            let column = self.spec.input_schema.index_of(name).ok()?;
            let key = self.spec.keys.iter().position(|key| *key == column)?;
            Some((key, pattern.clone()))
        };
        punctuation.columns.iter().map(by_key).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use arrow::array::{Float64Array, Int64Array, RecordBatch, StringViewArray};
    use arrow::compute::SortOptions;
    use arrow::datatypes::{DataType, Field, FieldRef, Schema};
    use datafusion::functions_aggregate as functions;
    use datafusion::logical_expr::{AggregateUDF, Operator as Op};
    use datafusion::physical_expr::PhysicalExpr;
    use datafusion::physical_expr::PhysicalSortExpr;
    use datafusion::physical_expr::aggregate::AggregateExprBuilder;
    use datafusion::physical_expr::expressions::{binary, col, lit};
    use datafusion::scalar::ScalarValue;
    use proptest::prelude::*;

    use super::*;
    use crate::operators::aggregates::spec::NativeFunction;
    use crate::operators::operator::Output;

    /// Key, value, number, weight.
    type Row = (i64, Option<i64>, Option<f64>, i64);

    fn input_schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("k", DataType::Int64, true),
            Field::new("v", DataType::Int64, true),
            Field::new("f", DataType::Float64, true),
            Field::new("s", DataType::Utf8View, true),
        ]))
    }

    fn change(rows: &[Row], offset: u64) -> Change {
        let k = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
        let v: Int64Array = rows.iter().map(|row| row.1).collect();
        let f: Float64Array = rows.iter().map(|row| row.2).collect();
        let s: StringViewArray =
            rows.iter().map(|row| row.1.map(|v| format!("a rather long text {v}"))).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(k), Arc::new(v), Arc::new(f), Arc::new(s)];
        let origin = Origin {
            relation: Arc::from("s"),
            first_offset: offset,
            ingest_time: 0,
            arrival: Marks::All(i64::MIN),
            progress: Marks::All(i64::MIN),
        };
        let retracts = rows.iter().any(|row| row.3 != 1);
        Change {
            batch: RecordBatch::try_new(input_schema(), columns).unwrap(),
            weights: retracts.then(|| Int64Array::from_iter_values(rows.iter().map(|row| row.3))),
            origin: Arc::new(origin),
            rows: None,
        }
    }

    fn named(
        function: Arc<AggregateUDF>,
        argument: Arc<dyn PhysicalExpr>,
        native: Option<NativeFunction>,
        distinct: bool,
    ) -> AggregateSpec {
        let function = AggregateExprBuilder::new(function, vec![argument])
            .schema(input_schema())
            .alias("a")
            .with_distinct(distinct)
            .build()
            .unwrap();
        let output: FieldRef = Arc::new(function.field().as_ref().clone().with_nullable(true));
        AggregateSpec { function: Arc::new(function), filter: None, native, output }
    }

    fn of(name: &str) -> Arc<dyn PhysicalExpr> {
        col(name, &input_schema()).unwrap()
    }

    fn sum_v() -> AggregateSpec {
        named(functions::sum::sum_udaf(), of("v"), Some(NativeFunction::Sum), false)
    }

    fn count_rows() -> AggregateSpec {
        let count = functions::count::count_udaf();
        named(count, lit(1i64), Some(NativeFunction::CountRows), false)
    }

    fn all_aggregates() -> Vec<AggregateSpec> {
        let count = functions::count::count_udaf;
        let min = functions::min_max::min_udaf();
        let max = functions::min_max::max_udaf();
        vec![
            count_rows(),
            named(count(), of("v"), Some(NativeFunction::Count), false),
            sum_v(),
            named(functions::average::avg_udaf(), of("f"), Some(NativeFunction::Avg), false),
            named(min, of("s"), Some(NativeFunction::Min), false),
            named(max, of("v"), Some(NativeFunction::Max), false),
            named(count(), of("v"), None, true),
            named(functions::median::median_udaf(), of("f"), None, false),
        ]
    }

    fn operator(
        keys: Vec<usize>,
        aggregates: Vec<AggregateSpec>,
        mode: EmitMode,
        input_append_only: bool,
    ) -> Aggregate {
        let input_schema = input_schema();
        let mut fields: Vec<FieldRef> =
            keys.iter().map(|key| Arc::clone(&input_schema.fields()[*key])).collect();
        for (i, aggregate) in aggregates.iter().enumerate() {
            let field = aggregate.output.as_ref().clone().with_name(format!("a{i}"));
            fields.push(Arc::new(field));
        }
        Aggregate::new(Arc::new(AggregateOpSpec {
            keys,
            aggregates,
            emit: EmitSpec { mode, allowed_lateness: 0 },
            input_append_only,
            input_schema,
            schema: Arc::new(Schema::new(fields)),
        }))
        .unwrap()
    }

    /// What came out, as text: `+1 cell cell`, `wm t`, `! code offset`.
    fn text(out: Emitter) -> Vec<String> {
        let mut lines = Vec::new();
        for output in out.outputs {
            match output {
                Output::Watermark(watermark) => lines.push(format!("wm {}", watermark.0)),
                Output::Punctuation(p) => lines.push(format!("punctuation {}", p.columns[0].0)),
                Output::Change(change) => {
                    for row in 0..change.batch.num_rows() {
                        let mut line = format!("{:+}", change.weight(row));
                        for column in change.batch.columns() {
                            let cell = ScalarValue::try_from_array(column, row).unwrap();
                            line.push_str(&format!(" {cell}"));
                        }
                        lines.push(line);
                    }
                }
            }
        }
        lines.extend(out.rejected.iter().map(|row| format!("! {} {}", row.code, row.offset)));
        lines
    }

    fn push(operator: &mut Aggregate, rows: &[Row], offset: u64) -> Vec<String> {
        let mut out = Emitter::default();
        operator.on_change(0, change(rows, offset), &mut out).unwrap();
        text(out)
    }

    fn end(operator: &mut Aggregate) -> Vec<String> {
        let mut out = Emitter::default();
        operator.on_step_end(&mut out).unwrap();
        text(out)
    }

    fn row(k: i64, v: i64, weight: i64) -> Row {
        (k, Some(v), None, weight)
    }

    #[test]
    fn changes_are_coalesced_per_step_in_the_order_of_first_touch() {
        let mut op = operator(vec![0], vec![count_rows(), sum_v()], EmitMode::Changes, false);
        assert!(push(&mut op, &[row(2, 5, 1), row(1, 7, 1), row(2, 6, 1)], 0).is_empty());
        assert_eq!(end(&mut op), ["+1 2 2 11", "+1 1 1 7"]);
        push(&mut op, &[row(1, 7, -1), row(2, 0, 1), row(2, 0, -1), row(3, 1, 1)], 3);
        assert_eq!(end(&mut op), ["-1 1 1 7", "+1 3 1 1"], "key 2 did not change");
        assert!(end(&mut op).is_empty());
    }

    #[test]
    fn the_result_over_no_rows_exists_from_the_start() {
        let mut op = operator(vec![], vec![count_rows(), sum_v()], EmitMode::Changes, false);
        assert_eq!(end(&mut op), ["+1 0 NULL"]);
        push(&mut op, &[row(1, 5, 1)], 0);
        assert_eq!(end(&mut op), ["-1 0 NULL", "+1 1 5"]);
        push(&mut op, &[row(1, 5, -1)], 1);
        assert_eq!(end(&mut op), ["-1 1 5", "+1 0 NULL"]);
    }

    #[test]
    fn distinct_rows_come_once_and_go_with_their_last_copy() {
        let mut op = operator(vec![0], vec![], EmitMode::Changes, false);
        push(&mut op, &[row(1, 0, 1), row(1, 0, 1)], 0);
        assert_eq!(end(&mut op), ["+1 1"]);
        push(&mut op, &[row(1, 0, -1)], 2);
        assert!(end(&mut op).is_empty());
        push(&mut op, &[row(1, 0, -1)], 3);
        assert_eq!(end(&mut op), ["-1 1"]);
    }

    #[test]
    fn a_sum_out_of_range_rejects_the_last_row_and_shows_nothing_until_it_is_valid_again() {
        let mut op = operator(vec![0], vec![sum_v()], EmitMode::Changes, false);
        push(&mut op, &[row(1, i64::MAX, 1)], 10);
        assert_eq!(end(&mut op), [format!("+1 1 {}", i64::MAX)]);
        push(&mut op, &[row(1, 1, 1), row(2, 3, 1), row(1, 2, 1)], 11);
        let gone = format!("-1 1 {}", i64::MAX);
        assert_eq!(end(&mut op), [gone.as_str(), "+1 2 3", "! 22003 13"]);
        push(&mut op, &[row(1, 1, 1)], 14);
        assert!(end(&mut op).is_empty(), "it is reported once");
        push(&mut op, &[row(1, -5, 1)], 15);
        assert_eq!(end(&mut op), [format!("+1 1 {}", i64::MAX - 1)]);
    }

    #[test]
    fn an_argument_fails_only_where_filter_lets_the_row_in() {
        let schema = input_schema();
        let quotient = binary(lit(10i64), Op::Divide, of("v"), &schema).unwrap();
        let mut sum = named(functions::sum::sum_udaf(), quotient, Some(NativeFunction::Sum), false);
        sum.filter = Some(binary(of("k"), Op::Gt, lit(1i64), &schema).unwrap());
        let mut op = operator(vec![0], vec![sum], EmitMode::Changes, true);
        let rejected = push(&mut op, &[row(1, 0, 1), row(2, 0, 1), row(2, 5, 1)], 20);
        assert_eq!(rejected, ["! 22012 21"]);
        assert_eq!(end(&mut op), ["+1 1 NULL", "+1 2 2"]);
    }

    #[test]
    fn every_n_rows_is_counted_across_batches() {
        let mode = |refinement| EmitMode::EveryRows { rows: 3, refinement };
        let rows: Vec<Row> = (1..=7).map(|v| row(1, v, 1)).collect();
        let run = |refinement, cut: usize| {
            let mut op = operator(vec![0], vec![sum_v()], mode(refinement), true);
            let mut lines = push(&mut op, &rows[..cut], 0);
            lines.extend(end(&mut op));
            lines.extend(push(&mut op, &rows[cut..], cut as u64));
            lines
        };
        for cut in 0..7 {
            assert_eq!(run(Refinement::Retracting, cut), ["+1 1 6", "-1 1 6", "+1 1 21"]);
            assert_eq!(run(Refinement::Accumulating, cut), ["+1 1 6", "+1 1 21"]);
            assert_eq!(run(Refinement::Discarding, cut), ["+1 1 6", "+1 1 15"]);
        }
    }

    #[test]
    fn every_interval_emits_at_ticks_and_the_watermark_waits() {
        let mode = EmitMode::EveryInterval { interval: 10, refinement: Refinement::Retracting };
        let mut op = operator(vec![0], vec![sum_v()], mode, true);
        let mut tick = |now, rows: &[Row], watermark| {
            let mut out = Emitter::default();
            op.on_tick(now, &mut out).unwrap();
            op.on_change(0, change(rows, 0), &mut out).unwrap();
            op.on_watermark(0, EventTime(watermark), &mut out).unwrap();
            op.on_step_end(&mut out).unwrap();
            (text(out), op.next_tick())
        };
        assert_eq!(tick(5, &[row(1, 1, 1)], 1), (vec![], Some(10)));
        assert_eq!(tick(9, &[row(1, 2, 1)], 2), (vec![], Some(10)));
        let lines = ["+1 1 3", "wm 2", "wm 3"].map(str::to_owned).to_vec();
        assert_eq!(tick(31, &[], 3), (lines, None));
        assert_eq!(tick(32, &[row(1, 5, 1)], i64::MAX).0[1], "+1 1 8");
    }

    #[test]
    fn a_punctuation_completes_and_frees_groups() {
        let mut op = operator(vec![0], vec![sum_v()], EmitMode::OnClose, true);
        push(&mut op, &[row(1, 1, 1), row(2, 2, 1)], 0);
        assert!(end(&mut op).is_empty());
        let pattern = Pattern::OneOf(vec![ScalarValue::Int64(Some(2))]);
        let punctuate = |op: &mut Aggregate, column: &str| {
            let columns = vec![(column.to_owned(), pattern.clone())];
            let mut out = Emitter::default();
            op.on_punctuation(0, &Punctuation { columns }, &mut out).unwrap();
            text(out)
        };
        assert_eq!(punctuate(&mut op, "k"), ["+1 2 2", "punctuation k"]);
        assert_eq!(op.groups.rows, [1, 0]);
        assert!(punctuate(&mut op, "v").is_empty(), "v is no key");
        let mut out = Emitter::default();
        op.on_watermark(0, EventTime::MAX, &mut out).unwrap();
        assert_eq!(text(out), ["+1 1 1".to_owned(), format!("wm {}", i64::MAX)]);
    }

    #[test]
    fn keys_of_freed_groups_are_dropped() {
        let mut op = operator(vec![0], all_aggregates(), EmitMode::Changes, false);
        push(&mut op, &[row(-1, 7, 1)], 0);
        for start in 0..10 {
            let rows: Vec<Row> = (0..1_000).map(|i| row(start * 1_000 + i, i, 1)).collect();
            push(&mut op, &rows, 1);
            assert_eq!(end(&mut op).len(), if start == 0 { 1_001 } else { 1_000 });
            let back: Vec<Row> = rows.iter().map(|r| (r.0, r.1, r.2, -1)).collect();
            push(&mut op, &back, 1);
            assert_eq!(end(&mut op).len(), 1_000);
        }
        assert!(op.keys.len() < 3_000, "{} keys", op.keys.len());
        push(&mut op, &[row(-1, 7, -1)], 0);
        assert_eq!(end(&mut op).len(), 1, "the group kept its result through renumbering");
    }

    #[test]
    fn a_retraction_may_come_before_its_insertion() {
        let mut op = operator(vec![0], all_aggregates(), EmitMode::Changes, false);
        push(&mut op, &[row(1, 5, -1), row(1, 6, 1)], 0);
        assert!(end(&mut op).is_empty(), "the rows cancel out in number");
        push(&mut op, &[row(1, 5, 1)], 2);
        assert_eq!(end(&mut op), ["+1 1 1 1 6 NULL a rather long text 6 6 1 NULL"]);
    }

    #[test]
    fn aggregates_with_an_order_see_their_rows_in_it() {
        let ordered = |function: Arc<AggregateUDF>, arguments: Vec<Arc<dyn PhysicalExpr>>| {
            let by = PhysicalSortExpr::new(of("f"), SortOptions::new(true, false));
            let function = AggregateExprBuilder::new(function, arguments)
                .schema(input_schema())
                .alias("a")
                .order_by(vec![by])
                .build()
                .unwrap();
            let output: FieldRef = Arc::new(function.field().as_ref().clone().with_nullable(true));
            AggregateSpec { function: Arc::new(function), filter: None, native: None, output }
        };
        let aggregates = || {
            let joined = functions::string_agg::string_agg_udaf();
            vec![
                ordered(functions::array_agg::array_agg_udaf(), vec![of("v")]),
                ordered(functions::first_last::first_value_udaf(), vec![of("v")]),
                ordered(joined, vec![of("s"), lit(", ")]),
            ]
        };
        for append_only in [true, false] {
            let mut op = operator(vec![0], aggregates(), EmitMode::Changes, append_only);
            push(&mut op, &[(1, Some(7), Some(2.0), 1), (1, Some(5), Some(1.0), 1)], 0);
            end(&mut op);
            push(&mut op, &[(1, Some(9), Some(1.5), 1)], 2);
            let text = |v| format!("a rather long text {v}");
            let joined = [7, 9, 5].map(text).join(", ");
            assert_eq!(end(&mut op)[1], format!("+1 1 [7, 9, 5] 7 {joined}"), "{append_only}");
        }
    }

    /// The result of one group by definition.
    fn naive(key: i64, rows: &[&Row]) -> String {
        let values: Vec<i64> = rows.iter().filter_map(|row| row.1).collect();
        let mut numbers: Vec<f64> = rows.iter().filter_map(|row| row.2).collect();
        numbers.sort_by(f64::total_cmp);
        let float = |value: f64| ScalarValue::Float64(Some(value)).to_string();
        let null = || "NULL".to_owned();
        let or_null = |value: Option<String>| value.unwrap_or_else(null);
        let sum = (!values.is_empty()).then(|| values.iter().sum::<i64>().to_string());
        let n = numbers.len();
        let average = (n > 0).then(|| float(numbers.iter().sum::<f64>() / n as f64));
        let median = (n > 0).then(|| float((numbers[(n - 1) / 2] + numbers[n / 2]) / 2.0));
        let least = values.iter().map(|v| format!("a rather long text {v}")).min();
        let greatest = values.iter().max().map(i64::to_string);
        let distinct = values.iter().collect::<BTreeSet<_>>().len();
        format!(
            "{key} {} {} {} {} {} {} {distinct} {}",
            rows.len(),
            values.len(),
            or_null(sum),
            or_null(average),
            or_null(least),
            or_null(greatest),
            or_null(median),
        )
    }

    /// Checks the sum of the changelog after every step against the rows that are there then.
    fn check(steps: &[Vec<Row>], append_only: bool) -> Result<(), TestCaseError> {
        let mut op = operator(vec![0], all_aggregates(), EmitMode::Changes, append_only);
        let mut there: Vec<Row> = Vec::new();
        let mut shown: BTreeSet<String> = BTreeSet::new();
        for step in steps {
            for batch in step.chunks(3) {
                prop_assert!(push(&mut op, batch, 0).is_empty());
            }
            for row in step {
                if row.3 > 0 {
                    there.push(*row);
                } else {
                    let same = (row.0, row.1, row.2, 1);
                    let at = there.iter().position(|other| *other == same).unwrap();
                    there.swap_remove(at);
                }
            }
            for line in end(&mut op) {
                let (weight, result) = line.split_once(' ').unwrap();
                let changed = match weight {
                    "+1" => shown.insert(result.to_owned()),
                    _ => shown.remove(result),
                };
                prop_assert!(changed, "{line} is no change");
            }
            let keys: BTreeSet<i64> = there.iter().map(|row| row.0).collect();
            let expected: BTreeSet<String> = keys
                .into_iter()
                .map(|key| naive(key, &there.iter().filter(|r| r.0 == key).collect::<Vec<_>>()))
                .collect();
            prop_assert_eq!(&shown, &expected);
        }
        Ok(())
    }

    fn rows() -> impl Strategy<Value = Vec<Vec<Row>>> {
        let value = prop::option::weighted(0.8, -3i64..4);
        let number = prop::option::weighted(0.8, (-8i64..8).prop_map(|n| n as f64 / 4.0));
        let row = (0i64..4, value, number).prop_map(|(k, v, f)| (k, v, f, 1));
        prop::collection::vec(prop::collection::vec(row, 0..8), 1..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn the_changelog_sums_to_the_result_over_append_only_input(steps in rows()) {
            check(&steps, true)?;
        }

        #[test]
        fn the_changelog_sums_to_the_result_over_input_with_retractions(
            steps in rows(),
            choices in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 64),
        ) {
            // Turns some of the rows into retractions of rows that are there at that point.
            let (mut there, mut choices): (Vec<Row>, _) = (Vec::new(), choices.iter().cycle());
            let mut steps = steps;
            for row in steps.iter_mut().flatten() {
                let (index, retract) = choices.next().unwrap();
                if *retract && !there.is_empty() {
                    let gone = there.swap_remove(index.index(there.len()));
                    *row = (gone.0, gone.1, gone.2, -1);
                } else {
                    there.push(*row);
                }
            }
            check(&steps, false)?;
        }
    }
}
