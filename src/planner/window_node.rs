//! Stands for a window function in DataFusion's logical plan: a node that adds window columns.
//!
//! The optimiser may push projections and, where that cannot change the answer, filters through it.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::{DFSchema, DFSchemaRef, Result, TableReference};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::windows::spec::{CountWindow, PunctuationWindow, SessionWindow, TimeWindow};

/// Window column: start.
pub const WINDOW_START: &str = "window_start";
/// Window column: end.
pub const WINDOW_END: &str = "window_end";
/// Window column of count and punctuation windows: number within the partition, from 0.
pub const WINDOW_ID: &str = "window_id";
/// Window column of punctuation windows: what closed it.
pub const WINDOW_REASON: &str = "window_reason";

/// Which window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WindowKind {
    /// TUMBLE, HOP, CUMULATE, LANDMARK.
    Time(TimeWindow),
    /// SESSION.
    Session(SessionWindow),
    /// COUNT_WINDOW.
    Count(CountWindow),
    /// PUNCTUATION_WINDOW.
    Punctuation(PunctuationWindow),
}

impl WindowKind {
    /// The columns that the window adds, in order.
    pub fn columns(&self) -> &'static [WindowColumn] {
        match self {
            WindowKind::Time(_) | WindowKind::Session(_) => {
                &[WindowColumn::Start, WindowColumn::End]
            }
            WindowKind::Count(_) => &[WindowColumn::Start, WindowColumn::End, WindowColumn::Id],
            WindowKind::Punctuation(_) => {
                &[WindowColumn::Start, WindowColumn::End, WindowColumn::Id, WindowColumn::Reason]
            }
        }
    }

    /// The function's name.
    pub fn name(&self) -> &'static str {
        use crate::windows::spec::TimeWindowKind as Kind;
        match self {
            WindowKind::Time(window) => match window.kind {
                Kind::Tumble { .. } => "TUMBLE",
                Kind::Hop { .. } | Kind::Horizons { .. } => "HOP",
                Kind::Cumulate { .. } => "CUMULATE",
                Kind::Landmark { .. } => "LANDMARK",
            },
            WindowKind::Session(_) => "SESSION",
            WindowKind::Count(_) => "COUNT_WINDOW",
            WindowKind::Punctuation(_) => "PUNCTUATION_WINDOW",
        }
    }
}

/// A column that a window adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WindowColumn {
    /// `window_start`.
    Start,
    /// `window_end`.
    End,
    /// `window_id`.
    Id,
    /// `window_reason`.
    Reason,
}

/// Adds the columns of a window to its input. One row may come out several times (HOP, CUMULATE,
/// sliding counts) or not at all (gaps between windows, windows that never fill).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowNode {
    /// The rows.
    pub input: LogicalPlan,
    /// Which window.
    pub kind: WindowKind,
    /// The ordering attribute; always there for time and session windows.
    pub time: Option<Expr>,
    /// PARTITION.
    pub partition: Vec<Expr>,
    /// START predicate of a punctuation window.
    pub start: Option<Expr>,
    /// END predicate of a punctuation window.
    pub end: Option<Expr>,
    schema: DFSchemaRef,
}

impl WindowNode {
    /// Builds the node and its schema: the input's columns, then the window's.
    pub fn new(
        input: LogicalPlan,
        kind: WindowKind,
        time: Option<Expr>,
        partition: Vec<Expr>,
        predicates: (Option<Expr>, Option<Expr>),
    ) -> Result<WindowNode> {
        let time_type = match &time {
            Some(expr) => window_time_type(&expr.get_type(input.schema())?),
            None => DataType::Timestamp(TimeUnit::Microsecond, None),
        };
        let mut fields: Vec<(Option<TableReference>, FieldRef)> =
            input.schema().iter().map(|(q, f)| (q.cloned(), Arc::clone(f))).collect();
        for column in kind.columns() {
            fields.push((None, window_field(*column, &time_type)));
        }
        let schema = DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?;
        let (start, end) = predicates;
        Ok(WindowNode { input, kind, time, partition, start, end, schema: Arc::new(schema) })
    }

    /// Number of columns of the input.
    pub fn input_width(&self) -> usize {
        self.input.schema().fields().len()
    }
}

/// The type of `window_start` and `window_end` for a time column's type.
pub fn window_time_type(time: &DataType) -> DataType {
    match time {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Date32 | DataType::Date64 => DataType::Timestamp(TimeUnit::Microsecond, None),
        other if other.is_integer() => DataType::Int64,
        other => other.clone(),
    }
}

impl WindowColumn {
    /// The column's name.
    pub fn name(self) -> &'static str {
        match self {
            WindowColumn::Start => WINDOW_START,
            WindowColumn::End => WINDOW_END,
            WindowColumn::Id => WINDOW_ID,
            WindowColumn::Reason => WINDOW_REASON,
        }
    }
}

fn window_field(column: WindowColumn, time_type: &DataType) -> FieldRef {
    Arc::new(match column {
        WindowColumn::Start => Field::new(WINDOW_START, time_type.clone(), true),
        WindowColumn::End => Field::new(WINDOW_END, time_type.clone(), true),
        WindowColumn::Id => Field::new(WINDOW_ID, DataType::Int64, false),
        WindowColumn::Reason => Field::new(WINDOW_REASON, DataType::Utf8View, true),
    })
}

impl UserDefinedLogicalNodeCore for WindowNode {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let predicates = self.start.iter().chain(&self.end);
        self.time.iter().chain(&self.partition).chain(predicates).cloned().collect()
    }

    /// Time windows assign each row by itself, so a filter on the row's own columns may move below;
    /// for the others only a filter on the partition may.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let width = self.input_width();
        let partition: HashSet<&str> = self
            .partition
            .iter()
            .filter_map(
                |expr| if let Expr::Column(c) = expr { Some(c.name.as_str()) } else { None },
            )
            .collect();
        let movable = |(index, name): (usize, &str)| match self.kind {
            WindowKind::Time(_) => index < width,
            WindowKind::Session(_) | WindowKind::Count(_) | WindowKind::Punctuation(_) => {
                index < width && partition.contains(name)
            }
        };
        let names = self.schema.fields().iter().map(|f| f.name().as_str()).enumerate();
        names.filter(|column| !movable(*column)).map(|(_, name)| name.to_string()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {:?}", self.kind.name(), self.kind)
    }

    fn with_exprs_and_inputs(
        &self,
        exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> Result<Self> {
        let mut exprs = exprs.into_iter();
        let time = if self.time.is_some() { exprs.next() } else { None };
        let partition = exprs.by_ref().take(self.partition.len()).collect();
        let start = if self.start.is_some() { exprs.next() } else { None };
        let end = if self.end.is_some() { exprs.next() } else { None };
        WindowNode::new(inputs.swap_remove(0), self.kind.clone(), time, partition, (start, end))
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input_width();
        Some(vec![output_columns.iter().copied().filter(|&column| column < width).collect()])
    }
}

impl Hash for WindowNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        format!("{:?}", self.kind).hash(state);
        self.expressions().hash(state);
    }
}

impl PartialOrd for WindowNode {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        let key = |node: &WindowNode| format!("{:?}", node.kind);
        let order = self.input.partial_cmp(&other.input)?;
        Some(order.then_with(|| key(self).cmp(&key(other))))
    }
}

/// Positions of the window's columns in the node's schema.
pub fn window_columns(node: &WindowNode) -> BTreeMap<usize, WindowColumn> {
    let width = node.input_width();
    node.kind.columns().iter().enumerate().map(|(i, column)| (width + i, *column)).collect()
}
