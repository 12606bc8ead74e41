//! Is an entry of the changelog that a replay regenerates, and compares the two.
//!
//! A replay trusts its operators and compares numbers of rows. Builds for debugging, and those with the
//! feature `failpoints`, compare every byte: so each test that restarts a query shows that a replay is
//! exact.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;

use crate::data::change::Change;
use crate::error::{Error, Result, SqlState};
use crate::log::frame::{FrameKind, Position};
use crate::views::changelog::Changelog;
use crate::views::entry_meta::EntryMeta;

/// Whether contents are compared, too.
const EXACT: bool = cfg!(any(debug_assertions, feature = "failpoints"));

/// An entry that is in the changelog already.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// How far its inputs had been read.
    pub meta: EntryMeta,
    /// Its rows.
    pub rows: u64,
    at: Position,
}

impl Recorded {
    /// Entries of a changelog from a frame on, and the watermark of the last one before. The changelog
    /// learns of the signs of those from `unknown` on; those before are not read.
    ///
    /// # Errors
    /// XX001 for damage, 58030 where the disk fails.
    pub fn entries(
        changelog: &Changelog,
        unknown: u64,
        from: u64,
    ) -> Result<(VecDeque<Recorded>, i64)> {
        let (mut entries, mut before) = (VecDeque::new(), i64::MIN);
        let wanted = |kind| matches!(kind, FrameKind::Rows | FrameKind::Progress);
        for entry in changelog.log().summaries_from(unknown, wanted)? {
            changelog.note(&entry.meta);
            let meta = EntryMeta::decode(&entry.meta)
                .ok_or_else(|| Error::new(SqlState::CORRUPT, "changelog entry has no frontier"))?;
            if entry.at.frame < from {
                before = meta.watermark;
                continue;
            }
            entries.push_back(Recorded { meta, rows: entry.rows, at: entry.at });
        }
        Ok((entries, before))
    }

    /// The watermark that the entries before this one left; they may be retained no more.
    ///
    /// # Errors
    /// The log's.
    pub fn watermark_before(&self, changelog: &Changelog) -> Result<i64> {
        let recorded = changelog.read(self.at, 1)?;
        Ok(recorded.first().map_or(i64::MIN, |frame| frame.watermark))
    }

    /// In what the regenerated entry is another one.
    ///
    /// # Errors
    /// The log's.
    pub(super) fn difference(
        &self,
        changelog: &Changelog,
        changes: &[Change],
        before: i64,
        meta: &EntryMeta,
    ) -> Result<Option<String>> {
        let rows: u64 = changes.iter().map(entry_rows).sum();
        if rows != self.rows {
            return Ok(Some(format!("an entry of {} rows came out with {rows}", self.rows)));
        }
        if !EXACT || rows == 0 {
            return Ok(None);
        }
        let again = changelog.frame(changes, before, meta)?;
        let recorded = changelog.read(self.at, 1)?;
        let Some(frame) = recorded.first() else {
            return Ok(Some("an entry is gone".to_owned()));
        };
        let differs = match (&frame.batch, &again.batch) {
            (Some(was), Some(is)) if was != is => first_difference(was, is),
            (was, is) if was != is => "one of them has no rows".to_owned(),
            _ if frame.meta != again.meta || frame.watermark != before => "in its place".to_owned(),
            _ => return Ok(None),
        };
        let offset = self.at.offset;
        Ok(Some(format!("the entry at offset {offset} came out otherwise: {differs}")))
    }
}

/// The first row in which two entries differ.
fn first_difference(was: &RecordBatch, is: &RecordBatch) -> String {
    let row_of = |batch: &RecordBatch, row: usize| -> String {
        let values = batch.columns().iter().map(|column| array_value_to_string(column, row));
        values.map(|value| value.unwrap_or_default()).collect::<Vec<_>>().join(" | ")
    };
    let rows = was.num_rows().min(is.num_rows());
    match (0..rows).find(|&row| was.slice(row, 1) != is.slice(row, 1)) {
        Some(row) => format!("row {row} was {}, is {}", row_of(was, row), row_of(is, row)),
        None => format!("{} rows were {}", is.num_rows(), was.num_rows()),
    }
}

/// Rows that a change takes in the changelog, where every weight is +1 or −1.
pub(super) fn entry_rows(change: &Change) -> u64 {
    match &change.weights {
        None => change.batch.num_rows() as u64,
        Some(weights) => weights.values().iter().map(|weight| weight.unsigned_abs()).sum(),
    }
}
