//! Sheds rows for which there is no room, as the stream's ON OVERLOAD says, before they have a place.
//!
//! There is no room when the queue of the stream's writer is full, or when the stream is larger than
//! its `retention_bytes` and a running query needs what would have to go. In the second case no later
//! moment helps, so all rows are shed; in the first one half of the rows, or of the keys. Which rows is a
//! function of the stream and of the offset that the row would have got, or of its key.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::row::{RowConverter, SortField};

use crate::catalog::definition::OnOverload;
use crate::decode::Decoded;
use crate::engine::state::Engine;
use crate::engine::stream::{StreamState, keep_rows};
use crate::error::{Error, Result, SqlState};
use crate::log::retention::RetentionRequest;

/// Why rows were shed, as `weir.shed` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shortage {
    /// The writer's queue is full.
    Queue,
    /// The stream is as large as it may be.
    Disk,
}

impl Shortage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Shortage::Queue => "queue",
            Shortage::Disk => "disk",
        }
    }
}

impl Engine {
    /// Takes the rows out for which there is no room; gives their number.
    pub(super) fn shed(&self, stream: &StreamState, decoded: &mut Decoded) -> Result<u64> {
        let rows = decoded.batch.num_rows();
        if stream.definition.overload == OnOverload::Block || rows == 0 {
            return Ok(0);
        }
        let shortage = if self.is_over_budget(stream) {
            Shortage::Disk
        } else if stream.appender.is_full() {
            Shortage::Queue
        } else {
            return Ok(0);
        };
        let first = stream.log.visible().offset + stream.appender.queued().0;
        let seed = stream.record.id;
        let keep = match (shortage, &stream.definition.overload) {
            (Shortage::Disk, _) => vec![false; rows],
            (Shortage::Queue, OnOverload::Block) => return Ok(0),
            (Shortage::Queue, OnOverload::DropOldest) => {
                self.drop_oldest(stream);
                return Ok(0);
            }
            (Shortage::Queue, OnOverload::ShedRandom) => {
                (first..first + rows as u64).map(|offset| is_kept(seed, offset)).collect()
            }
            (Shortage::Queue, OnOverload::ShedKeys(columns)) => {
                kept_keys(&decoded.batch, columns, seed)?
            }
        };
        keep_rows(decoded, keep)?;
        let shed = (rows - decoded.batch.num_rows()) as u64;
        if shed > 0 {
            // Written before the others are stored: a crash in between loses none of them from sight.
            self.reports.shed(&stream.definition.name, first, shed, shortage)?;
            stream.rows_shed.fetch_add(shed, Ordering::Relaxed);
        }
        Ok(shed)
    }

    /// Makes room for newer requests. Those that go are counted here, because nobody may wait for their
    /// answers any more.
    fn drop_oldest(&self, stream: &StreamState) {
        stream.appender.drop_oldest(|rows| {
            let offset = stream.log.visible().offset;
            stream.rows_shed.fetch_add(rows, Ordering::Relaxed);
            self.reports.shed_already(&stream.definition.name, offset, rows, Shortage::Queue);
        });
    }

    /// Whether the stream's size asks for the removal of what a running query needs.
    fn is_over_budget(&self, stream: &StreamState) -> bool {
        let Some(limit) = stream.options.read().retention_bytes else { return false };
        if stream.log.bytes() <= limit {
            return false;
        }
        let all = RetentionRequest { max_bytes: Some(limit), ..RetentionRequest::default() };
        let needed_from = self.needed_from(&stream.definition.name);
        let allowed = RetentionRequest { needed_from, ..all };
        stream.log.removable(all) > stream.log.removable(allowed)
    }
}

/// Half of all numbers, by chance.
fn is_kept(seed: u64, number: u64) -> bool {
    let mut mixed = number.wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) & 1 == 1
}

/// Half of all keys, by chance; all rows of a key share its fate.
fn kept_keys(batch: &RecordBatch, columns: &[usize], seed: u64) -> Result<Vec<bool>> {
    let broken = |error: arrow::error::ArrowError| {
        Error::new(SqlState::INTERNAL, format!("keys cannot be compared: {error}"))
    };
    let columns: Vec<ArrayRef> = columns.iter().map(|c| Arc::clone(batch.column(*c))).collect();
    let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
    let converter = RowConverter::new(fields).map_err(broken)?;
    let rows = converter.convert_columns(&columns).map_err(broken)?;
    let hash = |bytes: &[u8]| {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
    };
    Ok(rows.iter().map(|row| is_kept(seed, hash(row.as_ref()))).collect())
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn about_half_is_kept_and_the_same_half_each_time() {
        let kept: Vec<bool> = (0..10_000).map(|offset| is_kept(7, offset)).collect();
        let count = kept.iter().filter(|kept| **kept).count();
        assert!((4_800..5_200).contains(&count), "{count}");
        assert_eq!(kept, (0..10_000).map(|offset| is_kept(7, offset)).collect::<Vec<_>>());
        assert_ne!(kept, (0..10_000).map(|offset| is_kept(8, offset)).collect::<Vec<_>>());
    }

    #[test]
    fn all_rows_of_a_key_share_its_fate() {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values((0..1_000).map(|n| n % 50)));
        let batch = RecordBatch::try_from_iter([("k", keys)]).unwrap();
        let kept = kept_keys(&batch, &[0], 3).unwrap();
        assert!((0..50).all(|k| (0..20).all(|n| kept[k + 50 * n] == kept[k])));
        let count = kept[..50].iter().filter(|kept| **kept).count();
        assert!((10..40).contains(&count), "{count}");
    }
}
