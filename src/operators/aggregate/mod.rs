//! Groups rows by key without a window, and keeps every group's result current: GROUP BY, DISTINCT.
//!
//! # Method
//!
//! Rows fold into groups as they come; groups that were touched are remembered in the order of their
//! last touch (DISTINCT: first). When results are due (EMIT CHANGES: at the end of the step) each touched group is
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
//! retractions or punctuations end groups. Keys of freed groups go when they are more than half; of few groups, when all are freed.
//!
//! # Invariants
//!
//! 1. `emitted` of a group is the row that the output's changelog sums to for its key.
//! 2. A watermark is forwarded only when no touched group waits to be emitted.
//!
//! # Not here
//!
//! Windows (`window_aggregate`), GROUPING SETS.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;

use crate::data::change::{Change, Origin};
use crate::data::punctuation::{Pattern, Punctuation, column_named, name_at};
use crate::error::SqlState;
use crate::operators::aggregates::fold::{FoldRows, Inputs, Measure};
use crate::operators::aggregates::spec::AggregateSpec;
use crate::operators::emission::Emission;
use crate::operators::emit::{EmitMode, EmitSpec, Refinement};
use crate::operators::expr;
use crate::operators::filter_project::reject_rows;
use crate::operators::keys::KeyDictionary;
use crate::operators::operator::{Current, Emitter, EvalError, Operator};
use crate::operators::state::{StateReader, StateWriter};
use crate::operators::touched::Touched;
use crate::time::EventTime;

mod current;
mod flush;
mod persist;

#[cfg(test)]
mod tests;

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
    /// Rows of the output are final and forgotten: what groups show is not all of its sum.
    has_forgotten: bool,
    saving: Option<persist::Saving>,
    restoring: Option<persist::Restoring>,
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

/// Groups below which keys of freed ones are not worth looking for while any are left.
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
        let touched = match spec.input_append_only && measures.is_empty() {
            true => Touched::by_first_change(),
            false => Touched::default(),
        };
        let mut aggregate = Aggregate {
            measures,
            keys,
            groups: Groups { touched, ..Groups::default() },
            emission,
            origin: Origin::nowhere(),
            watermark: None,
            rows_since: 0,
            due: None,
            freed: 0,
            has_forgotten: false,
            saving: None,
            restoring: None,
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
        self.resize_to(if self.is_global() { 1 } else { self.keys.len() });
    }

    fn resize_to(&mut self, count: usize) {
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
        self.save_early(groups.iter().copied())?;
        // Of one group the last row is all that is remembered.
        let each = if self.is_global() { rows.saturating_sub(1) } else { 0 };
        if each > 0 {
            self.groups.rows[0] += (0..each).map(|row| change.weight(row)).sum::<i64>();
        }
        for (row, &group) in groups.iter().enumerate().skip(each) {
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
        let complete: Vec<usize> = (0..complete.len()).filter(|&group| complete[group]).collect();
        self.save_early(complete.iter().copied())?;
        self.has_forgotten |= !complete.is_empty();
        for group in complete {
            self.forget(group);
            self.emission.forget(group);
        }
        self.compact()?;
        let renamed =
            patterns.into_iter().map(|(key, pattern)| (name_at(&self.spec.schema, key), pattern));
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

    fn held(&self) -> usize {
        self.keys.len()
    }

    fn restores_exactly(&self) -> bool {
        self.measures.iter().all(|measure| measure.fold.restores_exactly())
    }

    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.begin_saving(out)?;
        self.go_on_saving(usize::MAX, out).map(|_| ())
    }

    fn save_begin(&mut self, out: &mut StateWriter) -> Result<bool, EvalError> {
        self.begin_saving(out)
    }

    fn save_more(&mut self, bytes: usize, out: &mut StateWriter) -> Result<bool, EvalError> {
        self.go_on_saving(bytes, out)
    }

    fn save_abandon(&mut self) {
        self.saving = None;
    }

    fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.restore_part(from)
    }

    fn current(&self) -> Result<Option<Current>, EvalError> {
        self.current_rows()
    }

    fn restored(&mut self) -> Result<(), EvalError> {
        self.end_restoring()
    }
}

impl Aggregate {
    /// The patterns by key position, if the punctuation speaks of keys only.
    fn key_patterns(&self, punctuation: &Punctuation) -> Option<Vec<(usize, Pattern)>> {
        if punctuation.columns.is_empty() {
            return None;
        }
        let by_key = |(name, pattern): &(String, Pattern)| {
            let column = column_named(&self.spec.input_schema, name)?;
            let key = self.spec.keys.iter().position(|key| *key == column)?;
            Some((key, pattern.clone()))
        };
        punctuation.columns.iter().map(by_key).collect()
    }
}
