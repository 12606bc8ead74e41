//! Evaluates what is noted: which pairs count, groups and their aggregates, or the rows themselves.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringViewArray, UInt32Array,
};
use arrow::compute;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::row::Rows;
use hashbrown::{HashMap, HashSet};

use super::{Note, WindowColumn, WindowColumns, WindowOutput};
use crate::data::change::{Change, Marks, Origin};
use crate::data::floats::canonical;
use crate::error::Report;
use crate::operators::aggregates::one_shot::evaluate_rows;
use crate::operators::aggregates::spec::AggregateSpec;
use crate::operators::operator::{Emitter, EvalError, RejectedRow};
use crate::operators::origin_buffer::RowOrigins;
use crate::operators::window_answer::Pairs;
use crate::windows::columns::time_column;

/// Groups of noted rows: where each row goes, and what each group is.
#[derive(Default)]
struct Groups {
    /// Numbers of the rows that go into a group, each with its note.
    rows: Vec<(usize, u64)>,
    /// The group of each.
    group_of: Vec<usize>,
    /// The note of each group and the place of its first row among all rows gathered for keys.
    groups: Vec<(usize, usize)>,
}

impl WindowOutput {
    /// Leaves out the pairs of row and window that do not count.
    pub(super) fn leave_out_pairs(
        &mut self,
        notes: &mut Vec<Note>,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let Some(pairs) = &self.pairs else { return Ok(()) };
        let mut rows: Vec<(usize, u64)> = Vec::new();
        for (index, note) in notes.iter().enumerate() {
            let changed = note.changed.iter().flatten();
            rows.extend(note.version.rows.iter().chain(changed).map(|&number| (index, number)));
        }
        let (counts, failures) = pairs.judge(&self.paired(pairs, notes, &rows)?);
        for failure in failures {
            let number = rows[failure.row].1;
            if self.refused.insert(number) {
                let (relation, offset) = self.buffer.origin(number)?;
                let (code, reason) = (failure.code, failure.reason);
                out.reject(RejectedRow { relation, offset, code, reason });
            }
        }
        let mut counts = counts.into_iter();
        let mut keep = |_: &u64| counts.next().unwrap_or_default();
        for note in notes.iter_mut() {
            note.version.rows.retain(&mut keep);
            if let Some(changed) = &mut note.changed {
                changed.retain(&mut keep);
            }
        }
        notes.retain(|note| !note.version.rows.is_empty());
        Ok(())
    }

    /// Rows beside the columns of their windows.
    fn paired(
        &self,
        pairs: &Pairs,
        notes: &[Note],
        rows: &[(usize, u64)],
    ) -> Result<RecordBatch, EvalError> {
        let gathered = self.buffer.gather(rows.iter().map(|&(_, number)| number))?;
        let mut columns = gathered.columns().to_vec();
        let windows: Vec<WindowColumns> =
            rows.iter().map(|&(note, _)| notes[note].version.columns).collect();
        for column in self.spec.layout {
            let data_type = pairs.schema.field(columns.len()).data_type();
            columns.push(window_column(*column, &windows, data_type)?);
        }
        Ok(RecordBatch::try_new(Arc::clone(&pairs.schema), columns)?)
    }

    /// Rows with what pairs compute of them.
    fn widened(&self, notes: &[Note], rows: &[(usize, u64)]) -> Result<RecordBatch, EvalError> {
        match &self.pairs {
            Some(pairs) if !pairs.computed.is_empty() => {
                pairs.widen(&self.paired(pairs, notes, rows)?)
            }
            _ => self.buffer.gather(rows.iter().map(|&(_, number)| number)),
        }
    }

    pub(super) fn emit_groups(
        &self,
        aggregates: &[AggregateSpec],
        notes: &[Note],
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let (key_columns, keys) = self.keys_of(notes)?;
        let groups = group(notes, keys.as_ref());
        if groups.groups.is_empty() {
            return Ok(());
        }
        let input = self.widened(notes, &groups.rows)?;
        let all = groups.groups.len();
        let (kept, values) = match evaluate_rows(aggregates, &input, &groups.group_of, all) {
            Ok(values) => ((0..all).collect(), values),
            Err(error) if error.is_of_one_group() => {
                self.evaluate_each(aggregates, &input, &groups, out)?
            }
            Err(error) => return Err(error),
        };
        let count = kept.len();
        if count == 0 {
            return Ok(());
        }
        let key_bytes = |row: usize| keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
        // Positions among the groups that have results.
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|&at| {
            let (note, row) = groups.groups[kept[at]];
            (note, key_bytes(row))
        });
        let ordered: Vec<(usize, usize)> =
            order.iter().map(|&at| groups.groups[kept[at]]).collect();
        let noted: Vec<&Note> = ordered.iter().map(|&(note, _)| &notes[note]).collect();

        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.spec.schema.fields().len());
        self.push_window_columns(&noted, &mut columns)?;
        let firsts = UInt32Array::from_iter_values(ordered.iter().map(|&(_, row)| row as u32));
        for column in &key_columns {
            columns.push(compute::take(column, &firsts, None)?);
        }
        let order = UInt32Array::from_iter_values(order.iter().map(|&at| at as u32));
        for column in &values {
            columns.push(compute::take(column, &order, None)?);
        }
        let batch = self.output_batch(columns, count)?;
        self.emit_runs(&batch, &noted, None, out);
        Ok(())
    }

    /// The groups that have results, and these; the others, whose results do not fit their types, are
    /// reported.
    fn evaluate_each(
        &self,
        aggregates: &[AggregateSpec],
        input: &RecordBatch,
        groups: &Groups,
        out: &mut Emitter,
    ) -> Result<(Vec<usize>, Vec<ArrayRef>), EvalError> {
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); groups.groups.len()];
        groups.group_of.iter().zip(0..).for_each(|(&group, row)| rows[group].push(row));
        let (mut kept, mut results): (Vec<usize>, Vec<Vec<ArrayRef>>) = (Vec::new(), Vec::new());
        for (group, rows) in rows.into_iter().enumerate() {
            let alone = vec![0; rows.len()];
            let part = compute::take_record_batch(input, &UInt32Array::from(rows))?;
            match evaluate_rows(aggregates, &part, &alone, 1) {
                Ok(values) => {
                    kept.push(group);
                    results.push(values);
                }
                Err(error) if error.is_of_one_group() => out.reject(RejectedRow {
                    relation: Arc::clone(&self.relation),
                    offset: self.first_offset,
                    code: error.code(),
                    reason: format!("{error}, for a group of a window"),
                }),
                Err(error) => return Err(error),
            }
        }
        let columns = (0..if kept.is_empty() { 0 } else { aggregates.len() }).map(|column| {
            let parts: Vec<&dyn Array> = results.iter().map(|row| row[column].as_ref()).collect();
            compute::concat(&parts)
        });
        Ok((kept, columns.collect::<Result<_, _>>()?))
    }

    /// The rows of each note in log order.
    pub(super) fn emit_rows(&self, notes: &[Note], out: &mut Emitter) -> Result<(), EvalError> {
        let (mut numbers, mut noted) = (Vec::new(), Vec::new());
        for note in notes {
            let changed: Option<HashSet<u64>> =
                note.changed.as_ref().map(|changed| changed.iter().copied().collect());
            let shows = |number: &&u64| changed.as_ref().is_none_or(|rows| rows.contains(*number));
            numbers.extend(note.version.rows.iter().filter(shows));
            noted.resize(numbers.len(), note);
        }
        if numbers.is_empty() {
            return Ok(());
        }
        let (rows, origins) = self.buffer.gather_with_origins(&numbers)?;
        let mut columns = rows.columns().to_vec();
        self.push_window_columns(&noted, &mut columns)?;
        let batch = self.output_batch(columns, numbers.len())?;
        self.emit_runs(&batch, &noted, Some(&origins), out);
        Ok(())
    }

    fn push_window_columns(
        &self,
        noted: &[&Note],
        columns: &mut Vec<ArrayRef>,
    ) -> Result<(), EvalError> {
        let windows: Vec<WindowColumns> = noted.iter().map(|note| note.version.columns).collect();
        for column in self.spec.layout {
            let data_type = self.spec.schema.field(columns.len()).data_type();
            columns.push(window_column(*column, &windows, data_type)?);
        }
        Ok(())
    }

    fn output_batch(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, EvalError> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.spec.schema);
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }

    /// The key columns of every noted row, the changed ones behind those of their note, and the
    /// same as comparable bytes.
    fn keys_of(&self, notes: &[Note]) -> Result<(Vec<ArrayRef>, Option<Rows>), EvalError> {
        let Some(converter) = &self.converter else { return Ok((Vec::new(), None)) };
        let mut rows: Vec<(usize, u64)> = Vec::new();
        for (index, note) in notes.iter().enumerate() {
            let changed = note.changed.iter().flatten();
            rows.extend(note.version.rows.iter().chain(changed).map(|&number| (index, number)));
        }
        let rows = self.widened(notes, &rows)?;
        let columns: Vec<ArrayRef> =
            self.spec.answer.keys().iter().map(|&key| canonical(rows.column(key))).collect();
        let keys = converter.convert_columns(&columns)?;
        Ok((columns, Some(keys)))
    }

    /// Emits runs of rows of equal processing time, watermark and relation as changes of their own.
    fn emit_runs(
        &self,
        batch: &RecordBatch,
        noted: &[&Note],
        origins: Option<&RowOrigins>,
        out: &mut Emitter,
    ) {
        let same = |a: usize, b: usize| {
            (noted[a].now, noted[a].mark) == (noted[b].now, noted[b].mark)
                && origins.is_none_or(|origins| origins.same(a, b))
        };
        let places: Vec<usize> = (0..noted.len()).collect();
        for run in places.chunk_by(|&a, &b| same(a, b)) {
            let (first, rows) = (run[0], run.len());
            let (relation, first_offset, positions) = match origins {
                Some(origins) => origins.of_run(first, rows),
                None => (Arc::clone(&self.relation), self.first_offset, vec![0; rows]),
            };
            let origin = Origin {
                relation,
                first_offset,
                ingest_time: noted[first].now,
                arrival: Marks::All(noted[first].mark),
                progress: Marks::All(noted[first].mark),
                derived: origins.is_none(),
            };
            let weights = || run.iter().map(|&place| noted[place].weight);
            let weighted = weights().any(|weight| weight != 1);
            out.change(Change {
                batch: batch.slice(first, rows),
                weights: weighted.then(|| Int64Array::from_iter_values(weights())),
                origin: Arc::new(origin),
                rows: Some(UInt32Array::from(positions)),
            });
        }
    }
}

/// Groups the rows of each note by key.
fn group(notes: &[Note], keys: Option<&Rows>) -> Groups {
    let key = |row: usize| keys.map_or(&[][..], |keys| keys.row(row).data());
    let mut known: HashMap<(usize, &[u8]), usize> = HashMap::new();
    let mut groups = Groups::default();
    let mut start = 0;
    for (index, note) in notes.iter().enumerate() {
        let end = start + note.version.rows.len();
        let next = end + note.changed.as_ref().map_or(0, Vec::len);
        let changed: Option<HashSet<&[u8]>> =
            note.changed.as_ref().map(|_| (end..next).map(key).collect());
        for (row, &number) in (start..end).zip(&note.version.rows) {
            let key = key(row);
            if changed.as_ref().is_some_and(|changed| !changed.contains(key)) {
                continue;
            }
            let group = *known.entry((index, key)).or_insert_with(|| {
                groups.groups.push((index, row));
                groups.groups.len() - 1
            });
            groups.rows.push((index, number));
            groups.group_of.push(group);
        }
        start = next;
    }
    groups
}

fn window_column(
    column: WindowColumn,
    windows: &[WindowColumns],
    data_type: &DataType,
) -> Result<ArrayRef, ArrowError> {
    let columns = windows.iter();
    match column {
        WindowColumn::Id => Ok(Arc::new(columns.map(|c| c.id).collect::<Int64Array>())),
        WindowColumn::Start => time_column(columns.map(|c| c.start).collect(), data_type),
        WindowColumn::End => time_column(columns.map(|c| c.end).collect(), data_type),
        WindowColumn::Reason => {
            let texts: StringViewArray = columns.map(|c| c.reason).collect();
            compute::cast(&texts, data_type)
        }
    }
}
