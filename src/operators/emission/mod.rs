//! Remembers the row that each group shows in a changelog, and says what has to change in it.
//!
//! What a group shows is kept as bytes (`arrow::row`), which compare like the values to the bit: a
//! retraction always equals the insertion before it, and an unchanged row is not emitted again.
//!
//! # State
//!
//! Per group that shows a row, the bytes of its results ([`shown`]).

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, Rows, SortField};

use crate::operators::emit::Refinement;
use crate::operators::operator::EvalError;
use crate::operators::portions::Chosen;
use crate::operators::state::{StateReader, StateWriter};

mod shown;

use shown::Shown;

/// What groups show, and the entries that are being made.
///
/// One emission is [`start`](Self::start), then [`show`](Self::show) or [`remove`](Self::remove)
/// per group in the order of output, then [`finish`](Self::finish).
pub struct Emission {
    schema: SchemaRef,
    key_count: usize,
    converter: RowConverter,
    /// The results that each group shows.
    shown: Shown,
    /// New results, and the same as bytes; `None` without aggregates.
    fresh: Vec<ArrayRef>,
    fresh_rows: Option<Rows>,
    entries: Vec<Entry>,
    /// Results that are retracted.
    old: shown::Rows,
}

/// One row of output.
struct Entry {
    group: usize,
    /// Whether it is among the old results, else the fresh ones.
    retracts: bool,
    /// Position there.
    position: usize,
}

impl Emission {
    /// For an output of `key_count` keys followed by results.
    pub fn new(schema: SchemaRef, key_count: usize) -> Result<Emission, EvalError> {
        let results = &schema.fields()[key_count..];
        let fields = results.iter().map(|field| SortField::new(field.data_type().clone()));
        let converter = RowConverter::new(fields.collect())?;
        let types: Vec<_> = results.iter().map(|field| field.data_type().clone()).collect();
        Ok(Emission {
            schema,
            key_count,
            shown: Shown::new(&types, &converter)?,
            converter,
            fresh: Vec::new(),
            fresh_rows: None,
            entries: Vec::new(),
            old: shown::Rows::default(),
        })
    }

    /// Makes room for `groups` groups.
    pub fn resize(&mut self, groups: usize) {
        self.shown.resize(groups);
    }

    /// Takes the new results of `rows` groups.
    pub fn start(&mut self, fresh: Vec<ArrayRef>, rows: usize) -> Result<(), EvalError> {
        debug_assert!(fresh.iter().all(|column| column.len() == rows));
        self.fresh_rows = match fresh.is_empty() {
            true => None,
            false => Some(self.converter.convert_columns(&fresh)?),
        };
        self.fresh = fresh;
        Ok(())
    }

    /// Lets a group show the new result at `position`.
    pub fn show(&mut self, group: usize, position: usize, refinement: Refinement) {
        let result = self.fresh_rows.as_ref().map(|rows| rows.row(position));
        let result = result.as_ref().map_or(&[][..], |row| row.as_ref());
        if refinement != Refinement::Discarding {
            if self.shown.get(group) == Some(result) {
                return;
            }
            let lists = (&mut self.entries, &mut self.old);
            retract(&mut self.shown, lists, group, Some(result), refinement);
        }
        self.entries.push(Entry { group, retracts: false, position });
    }

    /// Lets a group show nothing any more.
    pub fn remove(&mut self, group: usize, refinement: Refinement) {
        retract(&mut self.shown, (&mut self.entries, &mut self.old), group, None, refinement);
    }

    /// Forgets what a group shows without taking it back: it is final.
    pub fn forget(&mut self, group: usize) {
        self.shown.put(group, None, None);
    }

    /// The rows of this emission with their weights, if there are any. Weights are left out when
    /// nothing is retracted. `keys` gives the key columns of groups.
    pub fn finish(
        &mut self,
        keys: impl FnOnce(&[usize]) -> Result<Vec<ArrayRef>, EvalError>,
    ) -> Result<Option<(RecordBatch, Option<Int64Array>)>, EvalError> {
        let entries = std::mem::take(&mut self.entries);
        let old = std::mem::take(&mut self.old);
        let fresh = std::mem::take(&mut self.fresh);
        self.fresh_rows = None;
        if entries.is_empty() {
            return Ok(None);
        }
        let groups: Vec<usize> = entries.iter().map(|entry| entry.group).collect();
        let mut columns = if self.key_count == 0 { Vec::new() } else { keys(&groups)? };
        if !fresh.is_empty() {
            columns.extend(self.results(&entries, &old, &fresh)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(entries.len()));
        let schema = Arc::clone(&self.schema);
        let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
        let weights = entries.iter().any(|entry| entry.retracts).then(|| {
            Int64Array::from_iter_values(entries.iter().map(|e| if e.retracts { -1 } else { 1 }))
        });
        Ok(Some((batch, weights)))
    }

    fn results(
        &self,
        entries: &[Entry],
        old: &shown::Rows,
        fresh: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, EvalError> {
        if old.len() == 0 {
            let positions =
                UInt32Array::from_iter_values(entries.iter().map(|entry| entry.position as u32));
            let columns = fresh.iter().map(|column| compute::take(column, &positions, None));
            return Ok(columns.collect::<Result<_, _>>()?);
        }
        let parser = self.converter.parser();
        let old = self.converter.convert_rows(old.iter().map(|row| parser.parse(row)))?;
        let sources: Vec<(usize, usize)> =
            entries.iter().map(|e| (usize::from(!e.retracts), e.position)).collect();
        let both = old.iter().zip(fresh);
        Ok(both
            .map(|(old, fresh)| compute::interleave(&[old.as_ref(), fresh.as_ref()], &sources))
            .collect::<Result<_, _>>()?)
    }

    /// Whether the group shows a row.
    pub fn is_shown(&self, group: usize) -> bool {
        self.shown.is_some(group)
    }

    /// Renumbers: group `groups[i]` becomes `i`.
    pub fn keep(&mut self, groups: &[usize]) {
        self.shown.keep(groups);
    }

    /// A copy that knows what groups show now.
    pub fn copy(&self) -> Result<Emission, EvalError> {
        let copy = Emission::new(Arc::clone(&self.schema), self.key_count)?;
        Ok(Emission { shown: self.shown.clone(), ..copy })
    }

    /// The rows that groups `from..to` show: the groups, and the columns of their results.
    pub fn current(
        &self,
        from: usize,
        to: usize,
    ) -> Result<(Vec<usize>, Vec<ArrayRef>), EvalError> {
        let groups: Vec<usize> = (from..to).filter(|&group| self.shown.is_some(group)).collect();
        if self.key_count == self.schema.fields().len() {
            return Ok((groups, Vec::new()));
        }
        let parser = self.converter.parser();
        let rows = groups.iter().filter_map(|&group| self.shown.get(group));
        let columns = self.converter.convert_rows(rows.map(|row| parser.parse(row)))?;
        Ok((groups, columns))
    }

    /// Writes what some groups show.
    pub fn save(&self, chosen: &Chosen, out: &mut StateWriter) -> Result<(), EvalError> {
        self.shown.save(chosen, out)
    }

    /// Reads what [`save`](Self::save) wrote; there is room for the groups.
    pub fn restore(
        &mut self,
        chosen: &Chosen,
        from: &mut StateReader<'_>,
    ) -> Result<(), EvalError> {
        self.shown.restore(chosen, from)
    }

    /// Bytes of state.
    pub fn bytes(&self) -> usize {
        self.shown.bytes()
    }
}

/// Lets a group show another row or none; the one before is retracted if the mode wants it so.
fn retract(
    shown: &mut Shown,
    (entries, old): (&mut Vec<Entry>, &mut shown::Rows),
    group: usize,
    row: Option<&[u8]>,
    refinement: Refinement,
) {
    if refinement != Refinement::Retracting {
        shown.put(group, row, None);
        return;
    }
    let position = old.len();
    if shown.put(group, row, Some(old)) {
        entries.push(Entry { group, retracts: true, position });
    }
}
