//! Runs the windowed GROUP BY in several shards, each with a part of the keys.
//!
//! ```text
//!             ┌─ rows of these keys ─▶ WindowAggregate ─┐
//! batch ──────┤                                         ├──▶ windows by end, rows by key
//!             └─ rows of those keys ─▶ WindowAggregate ─┘
//! ```
//!
//! # Method
//! Where a row belongs (its slice; whether it is late) is judged once, for the whole batch. A hash of
//! its key says to which shard it goes ([`spread`]); each shard copies the columns that it needs of its
//! rows, and folds them as if there were no others. What the shards emit is put together by window and
//! key ([`super::merging`]). A batch or a close of few rows is done by one thread, others are forked.
//!
//! Below [`Sharding::keys`] keys there is one shard, and no copy: then tables of keys fit the processor's
//! caches, and splitting costs as much as it saves. Beyond, the one is routed into several
//! ([`super::routing`]), once.
//!
//! One shard stays one: without keys; where keys have a type whose hash is not ours; where early
//! results come by rows, one after the other; and where partial results that are merged into nothing
//! may differ from those that saw the rows, because a window whose keys lie in other slices merges others.
//!
//! # State
//! That of each shard. Row of a key: in one shard only.
//!
//! # Invariants
//! S1. What comes out, late and refused rows included, is what one shard puts out, whatever their number.
//! S2. All shards stand at the same watermark, boundary and frame.

use std::mem;
use std::ops::Range;
use std::sync::Arc;

use super::fold::Arriving;
use super::input::Columns;
use super::output::Outbox;
use super::persist_shards::Restoring;
use super::shares::{Spread, local, rows_of};
use super::{WindowAggregate, WindowAggregateSpec, WindowKey, merging};
use crate::data::change::Change;
use crate::operators::emit::EmitMode;
use crate::operators::fork::{self, Sharding};
use crate::operators::keys::spread;
use crate::operators::operator::{Emitter, EvalError, Operator};
use crate::operators::state::{StateReader, StateWriter};
use crate::time::EventTime;

/// The running operator: one [`WindowAggregate`] or several.
pub struct Shards {
    spec: Arc<WindowAggregateSpec>,
    pub(super) shards: Vec<WindowAggregate>,
    pub(super) sharding: Sharding,
    /// Rows since the last end of a step.
    rows: usize,
    /// The shard of which a snapshot takes portions.
    pub(super) saving: Option<usize>,
    pub(super) restoring: Option<Restoring>,
}

impl Shards {
    /// An operator without rows.
    pub fn new(spec: Arc<WindowAggregateSpec>, sharding: Sharding) -> Result<Shards, EvalError> {
        let one = WindowAggregate::new(Arc::clone(&spec))?;
        let may_split = !spec.keys.is_empty()
            && spec
                .keys
                .iter()
                .all(|&key| spread::is_spreadable(spec.input_schema.field(key).data_type()))
            && !matches!(spec.emit.mode, EmitMode::EveryRows { .. })
            && one.aggregates.restore_exactly;
        let shards = if may_split { sharding.shards.max(1) } else { 1 };
        let sharding = Sharding { shards, ..sharding };
        let mut all =
            Shards { spec, shards: vec![one], sharding, rows: 0, saving: None, restoring: None };
        if shards > 1 && all.sharding.keys == 0 {
            all.shards = all.empty(shards)?;
        }
        Ok(all)
    }

    /// So many new shards.
    pub(super) fn empty(&self, count: usize) -> Result<Vec<WindowAggregate>, EvalError> {
        let outbox = || (count > 1).then(Outbox::default);
        let one = |_| {
            let shard = WindowAggregate::new(Arc::clone(&self.spec))?;
            Ok(WindowAggregate { outbox: outbox(), ..shard })
        };
        (0..count).map(one).collect()
    }

    /// The only shard, if there is one only.
    fn only(&mut self) -> Option<&mut WindowAggregate> {
        match self.shards.as_mut_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Calls every shard; at once, if there are `rows` enough for that.
    fn each(
        &mut self,
        rows: usize,
        call: impl Fn(usize, &mut WindowAggregate) -> Result<(), EvalError> + Send + Sync + 'static,
    ) -> Result<(), EvalError> {
        if rows < self.sharding.rows {
            let mut shards = self.shards.iter_mut().enumerate();
            return shards.try_for_each(|(index, shard)| call(index, shard));
        }
        let shards = mem::take(&mut self.shards).into_iter().enumerate().collect();
        let done = fork::map(&*self.sharding.fork, shards, move |(index, mut shard)| {
            let result = call(index, &mut shard);
            (shard, result)
        });
        let (shards, results): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        self.shards = shards;
        results.into_iter().collect()
    }

    /// Puts out what the shards have, put together.
    fn flush(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        let boxes: Vec<Outbox> =
            self.shards.iter_mut().map(|s| mem::take(s.outbox.get_or_insert_default())).collect();
        if boxes.iter().all(|outbox| outbox.answers.is_empty() && outbox.failures.is_empty()) {
            return Ok(());
        }
        let merged = merging::merge(boxes, &self.sharding)?;
        let first = &self.shards[0];
        merged.failures.iter().for_each(|failure| first.reject(failure, out));
        for answer in merged.answers {
            out.change(answer.into_change(&self.spec.schema, &first.origin)?);
        }
        Ok(())
    }

    /// Takes a batch: folds it, and emits what its rows make due within it.
    fn take_rows(&mut self, change: &Change, out: &mut Emitter) -> Result<(), EvalError> {
        let change = self.shards[0].with_times(change, out)?;
        let rows = change.batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        self.rows += rows;
        self.shards.iter_mut().for_each(|shard| shard.origin = Arc::clone(&change.origin));
        let first = &self.shards[0];
        let arriving = first.arriving(&change)?;
        let columns = Arc::new(first.columns(&change)?);
        let spread = self.spread(&columns, rows)?;
        let first = &self.shards[0];
        if first.may_emit_within(&arriving) {
            return self.take_one_by_one(&arriving, &columns, &spread, out);
        }
        let parts = first.parts(&arriving, 0..rows, out);
        self.each(rows, move |index, shard| {
            let rows = rows_of(&spread, index);
            if rows.is_empty() {
                return Ok(());
            }
            let input = shard.share(&columns, &rows)?;
            shard.fold_parts(&input, local(&parts, rows.values()))
        })
    }

    /// Says which rows each shard gets.
    fn spread(&self, columns: &Arc<Columns>, rows: usize) -> Result<Spread, EvalError> {
        let shards = self.shards.len();
        if rows < self.sharding.rows {
            return Ok(vec![spread::spread(&columns.keys, 0..rows, shards)?]);
        }
        let length = rows.div_ceil(shards);
        let pieces = (0..rows).step_by(length).map(|start| start..rows.min(start + length));
        let columns = Arc::clone(columns);
        let spread = move |piece: Range<usize>| spread::spread(&columns.keys, piece, shards);
        fork::map(&*self.sharding.fork, pieces.collect(), spread).into_iter().collect()
    }

    /// Takes a batch of which some row may have to emit at once.
    fn take_one_by_one(
        &mut self,
        arriving: &Arriving<'_>,
        columns: &Columns,
        spread: &Spread,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let mut shares = Vec::with_capacity(self.shards.len());
        for (index, shard) in self.shards.iter_mut().enumerate() {
            let rows = rows_of(spread, index);
            shares.push((shard.share(columns, &rows)?, rows));
        }
        let count: usize = shares.iter().map(|(_, rows)| rows.len()).sum();
        let mut places = vec![(0, 0); count];
        for (shard, (_, rows)) in shares.iter().enumerate() {
            let rows = rows.values().iter().enumerate();
            rows.for_each(|(at, &row)| places[row as usize] = (shard, at));
        }
        let fold = |all: &mut Shards, range: Range<usize>, out: &mut Emitter| {
            let parts = all.shards[0].parts(arriving, range, out);
            let mut shards = all.shards.iter_mut().zip(&shares);
            shards.try_for_each(|(shard, (input, rows))| {
                shard.fold_parts(input, local(&parts, rows.values()))
            })
        };
        let mut folded = 0;
        for (row, &(index, at)) in places.iter().enumerate() {
            let id = shares[index].0.ids[at];
            let due: Vec<WindowKey> = self.shards[index].windows_due_at(arriving, row, id);
            if due.is_empty() {
                continue;
            }
            // As in one shard: what closed before this row goes first.
            fold(self, folded..row, out)?;
            let progress = self.shards[0].progress(arriving, row);
            self.close_up_to(progress, out)?;
            fold(self, row..row + 1, out)?;
            folded = row + 1;
            for window in due {
                self.shards[index].emit_key(window, id, &mut Emitter::default())?;
                self.flush(out)?;
            }
        }
        fold(self, folded..count, out)
    }

    fn close_up_to(&mut self, watermark: EventTime, out: &mut Emitter) -> Result<(), EvalError> {
        let rows = self.rows_due(watermark);
        self.each(rows, move |_, shard| shard.close_up_to(watermark, &mut Emitter::default()))?;
        self.flush(out)
    }

    /// About how many rows there are to put out when the watermark comes to be this.
    fn rows_due(&self, watermark: EventTime) -> usize {
        let closes = |shard: &WindowAggregate| {
            let first = WindowKey { end: shard.watermark.0, start: i64::MAX };
            let mut later = shard.open.range(first..);
            later.next().is_some_and(|(window, _)| window.end <= watermark.0)
        };
        let closing = self.shards.iter().filter(|shard| closes(shard));
        closing.map(|shard| shard.keys.len()).sum()
    }

    /// Splits the only shard, once it has keys enough.
    fn split(&mut self) -> Result<(), EvalError> {
        let (count, keys) = (self.sharding.shards, self.sharding.keys);
        let [only] = self.shards.as_slice() else { return Ok(()) };
        if count == 1 || only.keys.len() < keys.max(1) || only.is_saving() {
            return Ok(());
        }
        let empty = self.empty(count)?;
        let only = mem::replace(&mut self.shards, empty);
        only.into_iter().try_for_each(|only| only.route_into(&mut self.shards))
    }
}

impl Operator for Shards {
    fn name(&self) -> &'static str {
        "WindowAggregate"
    }

    fn shards(&self) -> usize {
        self.shards.len()
    }

    fn on_change(
        &mut self,
        port: usize,
        change: Change,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        match self.only() {
            Some(only) => only.on_change(port, change, out),
            None => self.take_rows(&change, out),
        }
    }

    fn on_watermark(
        &mut self,
        port: usize,
        watermark: EventTime,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        self.split()?;
        if let Some(only) = self.only() {
            return only.on_watermark(port, watermark, out);
        }
        let rows = self.rows_due(watermark);
        self.each(rows, move |_, shard| {
            shard.on_watermark(port, watermark, &mut Emitter::default())
        })?;
        self.flush(out)?;
        out.watermark(watermark);
        Ok(())
    }

    fn on_tick(&mut self, now: i64, out: &mut Emitter) -> Result<(), EvalError> {
        if let Some(only) = self.only() {
            return only.on_tick(now, out);
        }
        self.each(0, move |_, shard| shard.on_tick(now, &mut Emitter::default()))?;
        self.flush(out)
    }

    fn next_tick(&self) -> Option<i64> {
        self.shards.iter().filter_map(|shard| shard.next_tick()).min()
    }

    fn on_step_end(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        let rows = mem::take(&mut self.rows);
        if let Some(only) = self.only() {
            return only.on_step_end(out);
        }
        let rows = if self.spec.emit.mode == EmitMode::Changes { rows } else { 0 };
        self.each(rows, |_, shard| shard.on_step_end(&mut Emitter::default()))?;
        self.flush(out)
    }

    fn state_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.state_bytes()).sum()
    }

    fn held(&self) -> usize {
        self.shards.iter().map(|shard| shard.held()).sum()
    }

    fn restores_exactly(&self) -> bool {
        self.shards.iter().all(|shard| shard.restores_exactly())
    }

    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        let mut more = self.begin_saving(out)?;
        while more {
            more = self.go_on_saving(usize::MAX, out)?;
        }
        Ok(())
    }

    fn save_begin(&mut self, out: &mut StateWriter) -> Result<bool, EvalError> {
        self.begin_saving(out)
    }

    fn save_more(&mut self, bytes: usize, out: &mut StateWriter) -> Result<bool, EvalError> {
        self.go_on_saving(bytes, out)
    }

    fn save_abandon(&mut self) {
        self.saving = None;
        self.shards.iter_mut().for_each(|shard| shard.save_abandon());
    }

    fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.restore_part(from)
    }

    fn restored(&mut self) -> Result<(), EvalError> {
        self.end_restoring()
    }
}
