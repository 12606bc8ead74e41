//! Stands for MATCH_RECOGNIZE in DataFusion's logical plan.
//!
//! The optimiser sees what is computed of single rows of the input: the columns of PARTITION BY and
//! ORDER BY, and the arguments of navigation and aggregates (*operands*). Conditions and measures are over
//! columns that only a match has ([`Cell`]s), so it does not see them.

use std::fmt;
use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, TableReference};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::operators::match_recognize::pattern::Pattern;
use crate::operators::match_recognize::{Cell, Skip};

/// The column of a cell.
pub(super) fn cell_name(cell: usize) -> String {
    format!("__cell_{cell}")
}

/// The cell that a column is.
pub(super) fn cell_of(column: &Column) -> Option<usize> {
    column.name.strip_prefix("__cell_")?.parse().ok()
}

/// What is looked for, whatever the rows are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Search {
    /// PATTERN, over the variables.
    pub pattern: Pattern,
    /// PATTERN as it is written.
    pub pattern_text: String,
    /// The names of the variables.
    pub variables: Vec<String>,
    /// DEFINE, one for each variable: all must hold.
    pub conditions: Vec<Conjuncts>,
    /// AFTER MATCH SKIP.
    pub skip: Skip,
    /// WITHIN.
    pub within: Option<i64>,
    /// Whether WITHIN is a width of logical time.
    pub within_is_logical: bool,
    /// The columns of the frame; their columns are operands.
    pub cells: Vec<Cell>,
    /// Names and types of the cells.
    pub frame: DFSchemaRef,
    /// MEASURES, over the frame, with their names.
    pub measures: Vec<(Expr, String)>,
}

/// The condition on a variable, over the frame.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Conjuncts {
    /// What reads a row and those before it.
    pub alone: Vec<Expr>,
    /// What looks back at the match.
    pub looking_back: Vec<Expr>,
}

/// MATCH_RECOGNIZE.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MatchNode {
    /// The rows.
    pub input: LogicalPlan,
    /// PARTITION BY.
    pub partition: Vec<Expr>,
    /// ORDER BY.
    pub order: Vec<Expr>,
    /// How each of them orders.
    pub sorts: Vec<SortOptions>,
    /// What navigation and aggregates read of rows.
    pub operands: Vec<Expr>,
    /// What is looked for.
    pub search: Arc<Search>,
    schema: DFSchemaRef,
}

impl MatchNode {
    /// Builds the node and its schema: the columns of PARTITION BY, then the measures.
    pub fn new(
        input: LogicalPlan,
        partition: Vec<Expr>,
        (order, sorts): (Vec<Expr>, Vec<SortOptions>),
        operands: Vec<Expr>,
        search: Arc<Search>,
    ) -> Result<MatchNode> {
        let mut fields: Vec<(Option<TableReference>, Arc<arrow::datatypes::Field>)> = Vec::new();
        for expr in &partition {
            let (_, field) = expr.to_field(input.schema())?;
            fields.push((None, field));
        }
        for (expr, name) in &search.measures {
            let (_, field) = expr.to_field(&search.frame)?;
            let field = field.as_ref().clone().with_name(name).with_nullable(true);
            fields.push((None, Arc::new(field)));
        }
        let schema = DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?;
        let schema = Arc::new(schema);
        Ok(MatchNode { input, partition, order, sorts, operands, search, schema })
    }
}

impl UserDefinedLogicalNodeCore for MatchNode {
    fn name(&self) -> &str {
        "MATCH_RECOGNIZE"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.partition.iter().chain(&self.order).chain(&self.operands).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "MATCH_RECOGNIZE: {}", self.search.pattern_text)
    }

    fn with_exprs_and_inputs(
        &self,
        exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> Result<Self> {
        let mut exprs = exprs.into_iter();
        let partition = exprs.by_ref().take(self.partition.len()).collect();
        let order = exprs.by_ref().take(self.order.len()).collect();
        let sorts = self.sorts.clone();
        let search = Arc::clone(&self.search);
        MatchNode::new(inputs.swap_remove(0), partition, (order, sorts), exprs.collect(), search)
    }

    /// Nothing of the input but what the expressions read.
    fn necessary_children_exprs(&self, _: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![vec![]])
    }
}

impl PartialOrd for MatchNode {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        let order = self.input.partial_cmp(&other.input)?;
        Some(order.then_with(|| self.search.pattern_text.cmp(&other.search.pattern_text)))
    }
}
