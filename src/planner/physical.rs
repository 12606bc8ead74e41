//! Names the plan of a continuous query: a tree of operator specs, each edge with what is known of it.
//!
//! The planner makes it, EXPLAIN prints it, [`crate::pipeline::build`] turns it into operators. It
//! holds no state.

use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};

use crate::operators::aggregate::AggregateOpSpec;
use crate::operators::count_window::CountWindowSpec;
use crate::operators::filter_project::FilterProjectSpec;
use crate::operators::join::asof::AsofSpec;
use crate::operators::join::spec::JoinSpec;
use crate::operators::match_recognize::MatchSpec;
use crate::operators::over::OverSpec;
use crate::operators::over_changes::OverChangesSpec;
use crate::operators::punctuation_window::PunctuationWindowSpec;
use crate::operators::ranking::RankingSpec;
use crate::operators::session_aggregate::SessionAggregateSpec;
use crate::operators::unnest::UnnestSpec;
use crate::operators::window_aggregate::WindowAggregateSpec;
use crate::operators::window_assign::WindowAssignSpec;
use crate::planner::relations::RelationKind;
use crate::planner::window_node::WindowKind;
use crate::windows::spec::TimeWindowKind;

/// What is known of the rows on an edge.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// No retraction ever flows here.
    pub append_only: bool,
    /// The event-time columns: watermarked, each with its delay against the pipeline's watermark.
    pub event_times: Vec<EventTimeColumn>,
    /// Sets of columns that identify a row of the current result, each on its own; the first is shown.
    pub unique_keys: Vec<Vec<usize>>,
    /// Per column, whether it is a bound of a window that a node below made.
    pub windows: Vec<Option<WindowRole>>,
}

/// A column that is a bound of a time window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowRole {
    /// `window_start`, which tells the window.
    Start,
    /// `window_end`, which tells the window.
    End,
    /// `window_start` where other windows may start as well: sessions, cumulating windows, windows of
    /// several sizes.
    SharedStart,
    /// `window_end` where other windows may end as well: sessions, windows of several sizes.
    SharedEnd,
}

/// Field metadata key under which a query's output remembers [`WindowRole`]s.
const WINDOW_MARK: &str = "weir.window";

impl WindowRole {
    /// The role of a window's start; `None` where windows are not told by their bounds, and of a
    /// landmark window, which never closes: whatever is grouped by it is a group like any other.
    pub fn start_of(kind: &WindowKind) -> Option<WindowRole> {
        match kind {
            WindowKind::Time(window) => match window.kind {
                TimeWindowKind::Cumulate { .. } | TimeWindowKind::Horizons { .. } => {
                    Some(WindowRole::SharedStart)
                }
                TimeWindowKind::Landmark { .. } => None,
                TimeWindowKind::Tumble { .. } | TimeWindowKind::Hop { .. } => {
                    Some(WindowRole::Start)
                }
            },
            WindowKind::Session(_) => Some(WindowRole::SharedStart),
            WindowKind::Count(_) | WindowKind::Punctuation(_) => None,
        }
    }

    /// The role of a window's end.
    pub fn end_of(kind: &WindowKind) -> Option<WindowRole> {
        match kind {
            WindowKind::Time(window) => match window.kind {
                TimeWindowKind::Landmark { .. } => None,
                TimeWindowKind::Horizons { .. } => Some(WindowRole::SharedEnd),
                TimeWindowKind::Tumble { .. }
                | TimeWindowKind::Hop { .. }
                | TimeWindowKind::Cumulate { .. } => Some(WindowRole::End),
            },
            WindowKind::Session(_) => Some(WindowRole::SharedEnd),
            WindowKind::Count(_) | WindowKind::Punctuation(_) => None,
        }
    }

    /// Whether it is a start.
    pub fn is_start(self) -> bool {
        matches!(self, WindowRole::Start | WindowRole::SharedStart)
    }

    /// Whether the column alone tells the window.
    pub fn tells_window(self) -> bool {
        matches!(self, WindowRole::Start | WindowRole::End)
    }

    /// Reads the role from a field's metadata.
    pub fn of_field(field: &Field) -> Option<WindowRole> {
        match field.metadata().get(WINDOW_MARK).map(String::as_str) {
            Some("start") => Some(WindowRole::Start),
            Some("end") => Some(WindowRole::End),
            Some("shared start") => Some(WindowRole::SharedStart),
            Some("shared end") => Some(WindowRole::SharedEnd),
            _ => None,
        }
    }

    /// Writes the role into a field's metadata.
    pub fn mark(self, field: Field) -> Field {
        let text = match self {
            WindowRole::Start => "start",
            WindowRole::End => "end",
            WindowRole::SharedStart => "shared start",
            WindowRole::SharedEnd => "shared end",
        };
        let mut metadata = field.metadata().clone();
        metadata.insert(WINDOW_MARK.into(), text.into());
        field.with_metadata(metadata)
    }

    /// The field without a role: a window above it has bounds of its own.
    pub fn unmark(field: &Field) -> Field {
        let mut metadata = field.metadata().clone();
        metadata.remove(WINDOW_MARK);
        field.clone().with_metadata(metadata)
    }
}

impl Facts {
    /// The delay of an event-time column; `None` for other columns.
    pub fn delay_of(&self, column: usize) -> Option<i64> {
        self.event_times.iter().find(|time| time.column == column).map(|time| time.delay)
    }

    /// The facts of a projection: per output column the input column that it passes on unchanged.
    pub fn project(&self, sources: &[Option<usize>]) -> Facts {
        let position = |column: usize| sources.iter().position(|source| *source == Some(column));
        let event_times = sources
            .iter()
            .enumerate()
            .filter_map(|(column, source)| {
                Some(EventTimeColumn { column, delay: self.delay_of((*source)?)? })
            })
            .collect();
        Facts {
            append_only: self.append_only,
            event_times,
            unique_keys: self
                .unique_keys
                .iter()
                .filter_map(|key| key.iter().map(|column| position(*column)).collect())
                .collect(),
            windows: sources.iter().map(|source| self.windows[(*source)?]).collect(),
        }
    }
}

/// A column whose values the watermark bounds from below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTimeColumn {
    /// Column index.
    pub column: usize,
    /// Rows below `watermark - delay` are not expected. In the column's units.
    pub delay: i64,
}

/// One node with its inputs.
#[derive(Debug, Clone)]
pub struct PhysicalPlan {
    /// What the node does.
    pub node: Node,
    /// Columns of the output.
    pub schema: SchemaRef,
    /// What is known of the output.
    pub facts: Facts,
    /// How much state the node holds and when rows leave it, as EXPLAIN says it.
    pub state: StateBound,
    /// Where the rows come from.
    pub inputs: Vec<PhysicalPlan>,
}

/// How much state a node holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateBound {
    /// None at all.
    Stateless,
    /// Bounded; the text says by what, and when rows leave.
    Bounded(String),
    /// Unbounded; the text says why.
    Unbounded(String),
}

/// What a node does.
#[derive(Debug, Clone)]
pub enum Node {
    /// Reads a stream, a table, or the changelog of another query.
    Source(SourceSpec),
    /// Filters and projects.
    FilterProject(Arc<FilterProjectSpec>),
    /// Makes a row of each element of lists.
    Unnest(Arc<UnnestSpec>),
    /// Puts the rows of several inputs into one stream (UNION ALL).
    Union,
    /// Joins two inputs.
    Join(Arc<JoinSpec>),
    /// Joins each row with the newest one of the other side that is not after it.
    AsofJoin(Arc<AsofSpec>),
    /// Holds the watermark back by so many units, for windows over a delayed event-time column.
    Delay(i64),
    /// Adds window columns to rows (time windows without GROUP BY).
    WindowAssign(Arc<WindowAssignSpec>),
    /// Groups by window and key over tumbling, sliding, cumulating and landmark windows.
    WindowAggregate(Arc<WindowAggregateSpec>),
    /// Groups by session and key.
    SessionAggregate(Arc<SessionAggregateSpec>),
    /// Groups by count window and partition.
    CountWindow(Arc<CountWindowSpec>),
    /// Groups by punctuation window and partition.
    PunctuationWindow(Arc<PunctuationWindowSpec>),
    /// Groups without a window.
    Aggregate(Arc<AggregateOpSpec>),
    /// Answers OVER by event time or log order.
    Over(Arc<OverSpec>),
    /// Finds runs of rows that fit a pattern.
    MatchRecognize(Arc<MatchSpec>),
    /// Answers OVER in any order by answering touched partitions anew.
    OverChanges(Arc<OverChangesSpec>),
    /// Keeps the first rows of groups in an order.
    Ranking(Arc<RankingSpec>),
}

/// A relation at the bottom of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceSpec {
    /// Name of the stream, table or query.
    pub relation: Arc<str>,
    /// What it is.
    pub kind: RelationKind,
    /// Indices into the relation's columns followed by the hidden ones (streams only).
    pub columns: Vec<usize>,
    /// Whether a `_ingest_time` column serves as the event time (streams without WATERMARK).
    pub processing_time: bool,
    /// Whether operators emit amid a batch, and so ask for the watermark before each row.
    pub row_marks: bool,
}
