//! Gathers the columns of pairs: for the rest of the condition, and for what comes out.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array,
};
use arrow::compute;
use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;

use super::side::NONE;
use super::spec::{JoinKind, JoinSpec};
use super::{Join, Lot};
use crate::data::change::{Change, Marks, Origin};
use crate::operators::expr;
use crate::operators::operator::{Emitter, EvalError, RejectedRow};
use crate::operators::union::lowered;
use crate::time::EventTime;

/// The rest of a condition, over the columns that it reads.
pub(super) struct Condition {
    expr: Arc<dyn PhysicalExpr>,
    /// The columns, per side.
    columns: [Vec<usize>; 2],
    schema: SchemaRef,
}

impl Condition {
    pub(super) fn new(
        filter: &Arc<dyn PhysicalExpr>,
        spec: &JoinSpec,
    ) -> Result<Condition, EvalError> {
        let read: Vec<usize> = expr::columns_of(filter).into_iter().collect();
        let filter = expr::checked(filter, &spec.joined)?;
        let width = spec.inputs[0].fields().len();
        let left = read.iter().copied().filter(|&column| column < width).collect();
        let right = read.iter().filter(|&&column| column >= width).map(|c| c - width).collect();
        Ok(Condition {
            expr: expr::over_columns(&filter, &read)?,
            columns: [left, right],
            schema: Arc::new(spec.joined.project(&read)?),
        })
    }
}

/// What comes out, by slots; `NONE` stands for nulls.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    left: Vec<u32>,
    right: Vec<u32>,
    weight: Vec<i64>,
    /// The row that completed it: its lot and slot.
    cause: Vec<(u32, u32)>,
}

impl Outputs {
    #[inline]
    pub(super) fn push(&mut self, left: u32, right: u32, weight: i64, cause: (u32, u32)) {
        self.left.push(left);
        self.right.push(right);
        self.weight.push(weight);
        self.cause.push(cause);
    }

    /// A pair of an append-only join.
    #[inline]
    pub(super) fn push_plain(&mut self, port: usize, arriving: u32, stored: u32) {
        let (left, right) = if port == 0 { (arriving, stored) } else { (stored, arriving) };
        self.left.push(left);
        self.right.push(right);
        self.cause.push((0, arriving));
    }

    pub(super) fn len(&self) -> usize {
        self.left.len()
    }

    /// A row of one side without the other.
    pub(super) fn push_alone(&mut self, port: usize, slot: u32, weight: i64, cause: (u32, u32)) {
        let (left, right) = if port == 0 { (slot, NONE) } else { (NONE, slot) };
        self.push(left, right, weight, cause);
    }

    /// A row of the left side with its mark, which stands where the other side's slot would.
    pub(super) fn push_marked(&mut self, slot: u32, mark: bool, weight: i64, cause: (u32, u32)) {
        self.push(slot, if mark { 0 } else { NONE }, weight, cause);
    }
}

impl Join {
    /// Per pair of the block whether the rest of the condition holds; `None` where there is none.
    /// Rows on which it fails are reported, and match nothing by that pair.
    pub(super) fn passing(
        &self,
        lots: &[Lot],
        out: &mut Emitter,
    ) -> Result<Option<Vec<bool>>, EvalError> {
        let Some(condition) = &self.condition else { return Ok(None) };
        let block = &self.block;
        let mut passing = vec![true; block.len()];
        let pairs: Vec<usize> = (0..block.len()).filter(|&p| block.stored[p] != NONE).collect();
        if pairs.is_empty() {
            return Ok(Some(passing));
        }
        let of = |side: usize| -> Vec<u32> {
            let slot = |&pair: &usize| match lots[block.lot[pair] as usize].port == side {
                true => block.arriving[pair],
                false => block.stored[pair],
            };
            pairs.iter().map(slot).collect()
        };
        let [left, right] = &condition.columns;
        let mut columns = self.sides[0].gather(&of(0), left.iter().copied())?;
        columns.extend(self.sides[1].gather(&of(1), right.iter().copied())?);
        let options = RecordBatchOptions::new().with_row_count(Some(pairs.len()));
        let schema = Arc::clone(&condition.schema);
        let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
        let evaluate = |part: &RecordBatch| expr::evaluate_mask(&condition.expr, part);
        let (pieces, failures) = expr::evaluate_in_pieces(&batch, evaluate);
        for piece in pieces {
            for row in 0..piece.length {
                passing[pairs[piece.start + row]] = piece.value.value(row);
            }
        }
        let mut reported = None;
        for failure in failures {
            let pair = pairs[failure.row];
            passing[pair] = false;
            let cause = (block.lot[pair], block.arriving[pair]);
            if reported.replace(cause) != Some(cause) {
                let Lot { change, first, .. } = &lots[cause.0 as usize];
                out.reject(RejectedRow {
                    relation: Arc::clone(&change.origin.relation),
                    offset: change.offset((cause.1 - first) as usize),
                    code: failure.code,
                    reason: failure.reason,
                });
            }
        }
        Ok(Some(passing))
    }

    /// Puts out pairs and rows without a match.
    pub(super) fn put_out(
        &self,
        outputs: Outputs,
        lots: &[Lot],
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        if outputs.left.is_empty() {
            return Ok(());
        }
        let arriving = match lots {
            [lot] => Some(lot),
            _ => None,
        };
        let mut columns = self.columns(0, &outputs.left, arriving)?;
        if self.spec.kind.shows_pairs() {
            columns.extend(self.columns(1, &outputs.right, arriving)?);
        }
        if self.spec.kind == JoinKind::Mark {
            let marks = outputs.right.iter().map(|&mark| mark != NONE);
            columns.push(Arc::new(BooleanArray::from_iter(marks.map(Some))));
        }
        let batch = self.batch(columns, outputs.left.len())?;
        let weights = (!self.append_only).then(|| Int64Array::from(outputs.weight));
        let (origin, rows) = self.origin_of(&outputs.cause, lots);
        out.change(Change { batch, weights, origin, rows });
        out.check_room()
    }

    /// What completed rows that come out: of each its lot and slot.
    fn origin_of(&self, cause: &[(u32, u32)], lots: &[Lot]) -> (Arc<Origin>, Option<UInt32Array>) {
        // Sides that read one log have come equally far, however much of its frame they have had.
        let limit = |port: usize| match self.spec.as_of_now || self.trails.is_some() {
            true => EventTime::MAX,
            false => self.watermarks[1 - port],
        };
        let behind =
            |port: usize| self.trails.map_or(0, |trails| trails[0].max(trails[1]) - trails[port]);
        let of = |(lot, slot): &(u32, u32)| {
            let lot = &lots[*lot as usize];
            (lot, (slot - lot.first) as usize)
        };
        let first = &lots[0].change.origin;
        let judged_alike =
            |lot: &Lot| first.is_judged_as(&lot.change.origin) && behind(lot.port) == 0;
        if lots.iter().all(judged_alike) {
            let places = cause.iter().map(of).map(|(lot, row)| lot.change.place(row) as u32);
            let rows = UInt32Array::from_iter_values(places);
            return (lowered(first, limit(lots[0].port)), Some(rows));
        }
        let arrival = cause.iter().map(of).map(|(lot, row)| lot.change.arrival(row).0);
        let progress = |(lot, row): (&Lot, usize)| {
            lot.change.progress(row).minus(behind(lot.port)).min(limit(lot.port)).0
        };
        let origin = Origin {
            relation: Arc::clone(&first.relation),
            first_offset: first.first_offset,
            ingest_time: first.ingest_time,
            arrival: Marks::Rows(arrival.collect()),
            progress: Marks::Rows(cause.iter().map(of).map(progress).collect()),
            derived: true,
        };
        (Arc::new(origin), None)
    }

    /// Rows of one side with nulls for the other.
    pub(super) fn without_match(
        &self,
        port: usize,
        slots: &[u32],
    ) -> Result<RecordBatch, EvalError> {
        let nulls = vec![NONE; slots.len()];
        let of = |side: usize| if side == port { slots } else { &nulls };
        let mut columns = self.columns(0, of(0), None)?;
        if self.spec.kind.shows_pairs() {
            columns.extend(self.columns(1, of(1), None)?);
        }
        self.batch(columns, slots.len())
    }

    /// The columns of one side. Rows that have just arrived are taken from where they came.
    fn columns(
        &self,
        side: usize,
        slots: &[u32],
        arriving: Option<&Lot>,
    ) -> Result<Vec<ArrayRef>, EvalError> {
        let Some(lot) = arriving.filter(|lot| lot.port == side) else {
            return self.sides[side].gather(slots, 0..self.spec.inputs[side].fields().len());
        };
        let batch = &lot.change.batch;
        if slots.len() == batch.num_rows()
            && slots.iter().copied().eq(lot.first..lot.first + slots.len() as u32)
        {
            return Ok(batch.columns().to_vec());
        }
        let row = |&slot: &u32| (slot != NONE).then(|| slot - lot.first);
        let rows: UInt32Array = slots.iter().map(row).collect();
        Ok(compute::take_arrays(batch.columns(), &rows, None)?)
    }

    fn batch(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, EvalError> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.spec.schema);
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }
}
