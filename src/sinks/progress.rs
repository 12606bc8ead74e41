//! Keeps the marks of sinks: how far each has come, which writer owns it, which table it fills.
//!
//! `weir_progress(sink, target, "offset", fence, changelog)` lives beside the target table. The fence
//! grows with every claim; a writer moves the mark only while the fence is its own. `changelog` says
//! what the offset counts, so that another sink can tell whether it may continue from there, and in which
//! past ([`crate::sinks::history`]).

use arrow::datatypes::Field;

use crate::error::SqlState;
use crate::sinks::history::changelog_of;
use crate::sinks::sink::{SinkError, SinkPlan};

/// The table in which every sink of a database keeps its mark.
pub const PROGRESS: &str = "weir_progress";
/// CREATE TABLE IF NOT EXISTS for the progress table.
pub fn create_progress(progress: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {progress} (sink TEXT PRIMARY KEY, target TEXT NOT NULL, \
         \"offset\" BIGINT NOT NULL, fence BIGINT NOT NULL, changelog TEXT NOT NULL)"
    )
}

/// A mark as a table holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marked {
    /// Everything below is committed.
    pub(crate) offset: i64,
    /// Grows with every claim.
    pub(crate) fence: i64,
    /// What the offset counts.
    pub(crate) counted: String,
}

impl Marked {
    /// Whether the plan's sink may go on from here; to be asked inside the transaction that claims.
    pub(crate) fn judge(self, plan: &SinkPlan) -> Result<Marked, SinkError> {
        let offset = u64::try_from(self.offset).map_err(|_| SinkError::Target {
            sink: plan.name.clone(),
            code: SqlState::CORRUPT.0.into(),
            message: format!("weir_progress holds the offset {}", self.offset),
        })?;
        plan.judge(offset, &self.counted)?;
        Ok(self)
    }

    /// The offset of a mark that was judged.
    pub(crate) fn offset(&self) -> u64 {
        u64::try_from(self.offset).expect("a judged mark has an offset")
    }
}

/// Claims a mark. Parameters: sink, target, offset if it is new, changelog. Answers offset, fence, changelog.
pub fn claim_progress(progress: &str) -> String {
    format!(
        "INSERT INTO {progress} AS p (sink, target, \"offset\", fence, changelog) \
         VALUES ($1, $2, $3, 1, $4) ON CONFLICT (sink) DO UPDATE SET fence = p.fence + 1 \
         RETURNING \"offset\", fence, changelog"
    )
}

/// Moves a mark. Parameters: to, changelog, sink, from, fence (in the order in which SQLite counts them).
pub fn advance_progress(progress: &str) -> String {
    format!(
        "UPDATE {progress} SET \"offset\" = $1, changelog = $2 \
         WHERE sink = $3 AND \"offset\" = $4 AND fence = $5"
    )
}

/// Takes a mark out. Parameter: sink.
pub fn forget_progress(progress: &str) -> String {
    format!("DELETE FROM {progress} WHERE sink = $1")
}

/// The error of a writer whose mark is not where, or whose, it thought.
pub(crate) fn fenced(
    plan: &SinkPlan,
    (offset, fence): (i64, i64),
    found: Option<(i64, i64)>,
) -> SinkError {
    let found = match found {
        Some((o, f)) => format!("offset {o} with fence {f} instead of {offset} with fence {fence}"),
        None => "no progress of this sink any more".into(),
    };
    SinkError::Fenced { sink: plan.name.clone(), found: format!("weir_progress holds {found}.") }
}

/// Offsets count rows, so none reaches the top bit.
pub(crate) fn signed(offset: u64) -> i64 {
    i64::try_from(offset).expect("an offset is below 2^63")
}

/// Where a new mark starts on a table that has the marks `others` (sink, changelog, offset), and what it counts.
pub(crate) fn adopted(
    plan: &SinkPlan,
    others: &[(String, String, i64)],
) -> Result<(i64, String), SinkError> {
    if !others.is_empty() && !plan.adopt {
        let table = plan.table.to_string();
        let others = others.iter().map(|(sink, ..)| sink.clone()).collect();
        return Err(SinkError::InUse { table, others });
    }
    let same = others.iter().filter(|(_, counted, _)| changelog_of(counted) == plan.changelog);
    let furthest = same.max_by_key(|(.., offset)| *offset);
    Ok(furthest
        .map_or((0, plan.changelog.clone()), |(_, counted, offset)| (*offset, counted.clone())))
}

/// Of the columns that a table lacks: those that the sink may add, and those that it misses. Only
/// columns of the query are added, and none of the key, which rows that are there would have no value of.
pub(crate) fn added_columns(plan: &SinkPlan, lacking: Vec<String>) -> (Vec<Field>, Vec<String>) {
    let (mut added, mut missing) = (Vec::new(), Vec::new());
    for name in lacking {
        match plan.schema.index_of(&name) {
            Ok(index) if plan.add_columns && !plan.key.contains(&index) => {
                added.push(plan.schema.field(index).clone());
            }
            _ => missing.push(name),
        }
    }
    (added, missing)
}

/// Judges an existing table by the columns it lacks and those that no row of ours could fill.
pub(crate) fn check_names(
    plan: &SinkPlan,
    missing: &[String],
    unfillable: &[String],
) -> Result<(), SinkError> {
    let mismatch = |code, detail: String| SinkError::Mismatch {
        code,
        message: format!("table \"{}\" does not fit sink \"{}\"", plan.table, plan.name),
        detail,
        hint: match plan.add_columns {
            true => "Change the table, or name one that does not exist: it is created.".into(),
            false => "Change the table, let the sink do it with add_columns = true, or name one \
                      that does not exist: it is created."
                .into(),
        },
    };
    if !missing.is_empty() {
        let detail = format!("It lacks the columns {}.", missing.join(", "));
        return Err(mismatch(SqlState::UNDEFINED_COLUMN, detail));
    }
    if !unfillable.is_empty() {
        let detail = format!("Its columns {} need values.", unfillable.join(", "));
        return Err(mismatch(SqlState::NOT_NULL_VIOLATION, detail));
    }
    Ok(())
}
