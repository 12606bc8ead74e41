//! Keeps the rows of one input of a join: columns in chunks, and beside them plain vectors by slot.
//!
//! A row's *slot* is its place in the order of arrival. Rows of one key form a chain through `next`,
//! in that order; the ends of the chains are the join's. A row that is gone has weight 0 and stays in
//! its chain until the next walk unlinks it. Once half of the slots are gone, all are packed anew, and
//! slots become smaller numbers; the order stays.
//!
//! Small chunks are joined as in a log-structured tree, so a stream of single rows costs O(log rows)
//! copies of each.
//!
//! # State
//! At most twice the rows that are held, plus [`PACKED_MIN`] and one batch.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute;
use arrow::datatypes::SchemaRef;

use super::expiry::Expiry;
use super::identity::Identity;
use crate::operators::compact::compact;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, misfit};

/// No slot.
pub(super) const NONE: u32 = u32::MAX;
/// Rows of a chunk that is not joined to others any more.
const CHUNK_ROWS: usize = 65_536;
/// Slots that may be gone before rows are packed.
const PACKED_MIN: usize = if cfg!(test) { 4 } else { 1_024 };

/// What a side has to know of its rows beyond their columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct SideNeeds {
    /// Rows are retracted.
    pub retracts: bool,
    /// How many rows of the other side match is counted.
    pub counts_matches: bool,
    /// Width of the buckets by which rows leave with the watermark; `None`: they stay.
    pub granule: Option<i64>,
}

/// The rows of one input.
pub(super) struct Side {
    schema: SchemaRef,
    chunks: Vec<Chunk>,
    /// By slot: the number of the key.
    pub key: Vec<u32>,
    /// By slot: the next row of the same key.
    pub next: Vec<u32>,
    /// By slot: 0 for rows that are gone.
    pub weight: Vec<i64>,
    /// By slot: the weights of the other side's rows that match, where that is counted.
    pub matches: Vec<i64>,
    /// By slot: the event time, where rows leave by it.
    pub time: Vec<i64>,
    /// Which rows are due to leave.
    pub expiry: Option<Expiry>,
    /// Finds the row that a retraction takes back.
    pub identity: Option<Identity>,
    needs: SideNeeds,
    /// Slots whose rows are gone.
    pub gone: usize,
    /// One row of nulls.
    nulls: Vec<ArrayRef>,
}

struct Chunk {
    start: usize,
    rows: usize,
    columns: Vec<ArrayRef>,
    bytes: usize,
}

impl Chunk {
    fn new(start: usize, rows: usize, columns: Vec<ArrayRef>) -> Chunk {
        let bytes = columns.iter().map(|column| column.get_array_memory_size()).sum();
        Chunk { start, rows, columns, bytes }
    }
}

impl Side {
    pub(super) fn new(schema: SchemaRef, needs: SideNeeds) -> Result<Side, EvalError> {
        let nulls = schema.fields().iter().map(|f| new_null_array(f.data_type(), 1)).collect();
        let identity = match needs.retracts {
            true => Some(Identity::new(&schema)?),
            false => None,
        };
        Ok(Side {
            schema,
            chunks: Vec::new(),
            key: Vec::new(),
            next: Vec::new(),
            weight: Vec::new(),
            matches: Vec::new(),
            time: Vec::new(),
            expiry: needs.granule.map(Expiry::new),
            identity,
            needs,
            gone: 0,
            nulls,
        })
    }

    /// Number of slots.
    pub(super) fn len(&self) -> usize {
        self.weight.len()
    }

    /// Takes the columns of a batch; its rows count as gone until they get a weight. Gives the slot
    /// of the first one.
    pub(super) fn append(
        &mut self,
        batch: &RecordBatch,
        keys: &[u32],
        times: Option<&[i64]>,
    ) -> Result<u32, EvalError> {
        let (first, rows) = (self.len(), batch.num_rows());
        if first + rows >= NONE as usize {
            return Err(EvalError::Broken("a join holds more rows than it can number".into()));
        }
        self.key.extend_from_slice(keys);
        self.next.resize(first + rows, NONE);
        self.weight.resize(first + rows, 0);
        if self.needs.counts_matches {
            self.matches.resize(first + rows, 0);
        }
        if let Some(times) = times.filter(|_| self.expiry.is_some()) {
            self.time.extend_from_slice(times);
        }
        if let Some(identity) = &mut self.identity {
            identity.append(batch, first)?;
        }
        self.chunks.push(Chunk::new(first, rows, batch.columns().to_vec()));
        self.gone += rows;
        Ok(first as u32)
    }

    /// Gives a row of the newest batch its weight, and puts it among those that leave by time.
    #[inline]
    pub(super) fn hold(&mut self, slot: u32, weight: i64) {
        self.weight[slot as usize] = weight;
        self.gone -= 1;
        if let Some(expiry) = &mut self.expiry {
            expiry.push(self.time[slot as usize], slot);
        }
    }

    /// Lets a row go.
    pub(super) fn release(&mut self, slot: u32) {
        if std::mem::replace(&mut self.weight[slot as usize], 0) != 0 {
            self.gone += 1;
        }
    }

    /// Columns of the rows in these slots; `NONE` is a row of nulls.
    pub(super) fn gather(
        &self,
        slots: &[u32],
        columns: impl Iterator<Item = usize>,
    ) -> Result<Vec<ArrayRef>, EvalError> {
        let columns: Vec<usize> = columns.collect();
        if columns.is_empty() {
            return Ok(Vec::new());
        }
        let mut places = Vec::with_capacity(slots.len());
        let mut chunk = 0;
        for &slot in slots {
            if slot == NONE {
                places.push((self.chunks.len(), 0));
                continue;
            }
            let at = slot as usize;
            let is_in = |c: &Chunk| c.start <= at && at < c.start + c.rows;
            if !self.chunks.get(chunk).is_some_and(is_in) {
                chunk = self.chunks.partition_point(|c| c.start + c.rows <= at);
            }
            places.push((chunk, at - self.chunks[chunk].start));
        }
        let gather = |column: usize| {
            let parts = self.chunks.iter().map(|chunk| chunk.columns[column].as_ref());
            let parts: Vec<&dyn Array> = parts.chain([self.nulls[column].as_ref()]).collect();
            compute::interleave(&parts, &places)
        };
        Ok(columns.into_iter().map(gather).collect::<Result<_, _>>()?)
    }

    /// All columns of the rows in these slots.
    pub(super) fn rows(&self, slots: &[u32]) -> Result<RecordBatch, EvalError> {
        let columns = self.gather(slots, 0..self.schema.fields().len())?;
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }

    /// Joins small chunks.
    pub(super) fn tidy(&mut self) -> Result<(), EvalError> {
        while let [.., before, last] = self.chunks.as_slice() {
            if before.rows > 2 * last.rows || before.rows + last.rows > CHUNK_ROWS {
                break;
            }
            let joined = (0..self.nulls.len()).map(|column| {
                let parts = [before.columns[column].as_ref(), last.columns[column].as_ref()];
                compute::concat(&parts).map(|column| compact(&column))
            });
            let columns = joined.collect::<Result<_, _>>()?;
            let joined = Chunk::new(before.start, before.rows + last.rows, columns);
            self.chunks.truncate(self.chunks.len() - 2);
            self.chunks.push(joined);
        }
        Ok(())
    }

    /// Whether so many rows are gone that packing pays.
    pub(super) fn is_loose(&self) -> bool {
        self.gone > PACKED_MIN && self.gone * 2 > self.len()
    }

    /// Number of rows that are held.
    pub(super) fn held_rows(&self) -> usize {
        self.len() - self.gone
    }

    /// The slots of the rows that are held.
    pub(super) fn held(&self) -> Vec<u32> {
        (0..self.len() as u32).filter(|&slot| self.weight[slot as usize] != 0).collect()
    }

    /// Packs the rows that are held; chains have to be built anew.
    pub(super) fn pack(&mut self) -> Result<(), EvalError> {
        let held = self.held();
        let mut chunks = Vec::new();
        for part in held.chunks(CHUNK_ROWS) {
            let columns = self.gather(part, 0..self.nulls.len())?;
            let start = chunks.last().map_or(0, |chunk: &Chunk| chunk.start + chunk.rows);
            chunks.push(Chunk::new(start, part.len(), columns.iter().map(compact).collect()));
        }
        self.chunks = chunks;
        let of = |values: &[i64]| held.iter().map(|&slot| values[slot as usize]).collect();
        self.key = held.iter().map(|&slot| self.key[slot as usize]).collect();
        self.weight = of(&self.weight);
        if self.needs.counts_matches {
            self.matches = of(&self.matches);
        }
        if self.expiry.is_some() {
            self.time = of(&self.time);
        }
        if let Some(identity) = &mut self.identity {
            identity.pack(&held);
        }
        self.after_packing();
        Ok(())
    }

    fn after_packing(&mut self) {
        self.next = vec![NONE; self.len()];
        self.gone = 0;
        if let Some(expiry) = &mut self.expiry {
            expiry.rebuild(&self.time);
        }
    }

    pub(super) fn state_bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(|chunk| chunk.bytes).sum();
        let words = self.weight.capacity() + self.matches.capacity() + self.time.capacity();
        let halves = self.key.capacity() + self.next.capacity();
        let identity = self.identity.as_ref().map_or(0, Identity::state_bytes);
        let expiry = self.expiry.as_ref().map_or(0, Expiry::state_bytes);
        chunks + words * 8 + halves * 4 + identity + expiry
    }

    /// Writes the rows that are held.
    pub(super) fn save(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        let held = self.held();
        let of = |values: &[i64]| -> Vec<i64> {
            held.iter().filter_map(|&slot| values.get(slot as usize).copied()).collect()
        };
        out.put(&held.iter().map(|&slot| self.key[slot as usize]).collect::<Vec<u32>>())?;
        out.put(&of(&self.weight))?;
        out.put(&of(&self.matches))?;
        out.put(&of(&self.time))?;
        out.columns(&self.gather(&held, 0..self.nulls.len())?)
    }

    /// Reads what [`save`](Self::save) wrote, into a new side; chains have to be built.
    pub(super) fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.key = from.get()?;
        self.weight = from.get()?;
        self.matches = from.get()?;
        self.time = from.get()?;
        let columns = from.columns()?;
        let rows = self.len();
        let whole = |length: usize, wanted: bool| length == if wanted { rows } else { 0 };
        if self.key.len() != rows
            || !whole(self.matches.len(), self.needs.counts_matches)
            || !whole(self.time.len(), self.expiry.is_some())
            || columns.len() != self.nulls.len()
            || columns.iter().any(|column| column.len() != rows)
        {
            return Err(misfit("the rows of a join are not whole"));
        }
        if rows > 0 {
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            let schema = Arc::clone(&self.schema);
            let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
            if let Some(identity) = &mut self.identity {
                identity.append(&batch, 0)?;
                identity.restore_all();
            }
            self.chunks.push(Chunk::new(0, rows, batch.columns().to_vec()));
        }
        self.after_packing();
        Ok(())
    }
}
