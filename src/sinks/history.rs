//! Tells whether a mark that a target holds belongs to the changelog that is here.
//!
//! An offset alone says how far a sink has come, not in which past: a data directory that was restored from an
//! older copy counts its new entries from where the copy ends. So a mark also says when the entry before its
//! offset was appended: `query-5 150@1767225600000000`. Two entries at one offset of two pasts have two times.
//!
//! The words stand in the column `changelog`, which targets always had: a column of its own would have to be
//! added to tables that the user of the sink may write to, but not alter. A mark without a time is not judged
//! by it, nor one whose words are about another offset, which a version that does not know them has left.

use crate::sinks::sink::{SinkError, SinkPlan};

/// What a changelog knows of its own past.
pub trait History: Send + Sync + std::fmt::Debug {
    /// The next offset to come.
    fn end(&self) -> u64;

    /// When the entry was appended that holds the row before `offset`, in microseconds; `None`: it is gone,
    /// or there never was one.
    fn entry_time(&self, offset: u64) -> Option<i64>;
}

impl SinkPlan {
    /// What a mark at this offset says beside it.
    pub fn counted(&self, offset: u64) -> String {
        match self.entry_time(offset) {
            Some(time) => format!("{} {offset}@{time}", self.changelog),
            None => self.changelog.clone(),
        }
    }

    /// Whether a mark is one of the changelog's own past. To be asked before the mark is claimed: a writer
    /// that cannot go on must not end another one that can.
    ///
    /// # Errors
    /// [`SinkError::Ahead`], which trying again cannot mend.
    pub fn judge(&self, offset: u64, counted: &str) -> Result<(), SinkError> {
        let Some(history) = &self.history else { return Ok(()) };
        let ahead = |detail| Err(SinkError::Ahead { sink: self.name.clone(), detail });
        let end = history.end();
        if end < offset {
            return ahead(format!(
                "The target has the changelog up to offset {offset}, and here it ends at {end}."
            ));
        }
        let there = time_of(counted, offset);
        match (there, self.entry_time(offset)) {
            (Some(there), Some(here)) if there != here => ahead(format!(
                "The target has the changelog up to offset {offset}, of another past: the row before it was \
                 appended at {}, and here at {}.",
                shown(there),
                shown(here)
            )),
            _ => Ok(()),
        }
    }

    fn entry_time(&self, offset: u64) -> Option<i64> {
        self.history.as_ref().filter(|_| offset > 0)?.entry_time(offset)
    }
}

/// The changelog that a mark's words name.
pub(crate) fn changelog_of(counted: &str) -> &str {
    counted.split_once(' ').map_or(counted, |(changelog, _)| changelog)
}

/// The time that a mark's words give for its offset.
fn time_of(counted: &str, offset: u64) -> Option<i64> {
    let (at, time) = counted.split_once(' ')?.1.split_once('@')?;
    (at.parse() == Ok(offset)).then(|| time.parse().ok())?
}

fn shown(micros: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(micros);
    time.map_or(format!("{micros} µs"), |time| time.to_rfc3339())
}
