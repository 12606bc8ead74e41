//! Works out from a plan how many rows it can have, by the keys of what it reads.
//!
//! Bottom up, for each node: which sets of columns differ in any two rows (*keys*), and which columns are the same in
//! all rows (*fixed*, by a comparison with a constant). Where a whole key is fixed there is one row at most.

use std::collections::BTreeSet;

use arrow::datatypes::DataType;
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, JoinType, TableReference};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, ExprSchemable, FetchType, Join, LogicalPlan, Operator,
    TableScan,
};

use crate::planner::relations::RelationLookup;

/// What is known of the rows of a plan; columns are numbers.
#[derive(Default)]
pub(super) struct Rows {
    /// There is one at most.
    pub one: bool,
    /// Sets of columns that are different in any two rows.
    keys: Vec<BTreeSet<usize>>,
    /// Columns that are equal in all rows, and not null.
    fixed: BTreeSet<usize>,
}

impl Rows {
    fn settled(mut self) -> Rows {
        self.one |= self.keys.iter().any(|key| key.is_subset(&self.fixed));
        self
    }

    fn single(one: bool) -> Rows {
        Rows { one, ..Rows::default() }
    }
}

/// Works it out.
pub(super) struct Reader<'a> {
    /// Knows the keys of relations.
    pub lookup: &'a dyn RelationLookup,
    /// Whether LIMIT 1 makes one row.
    pub limits_count: bool,
}

impl Reader<'_> {
    /// What is known of a plan's rows.
    pub(super) fn rows(&self, plan: &LogicalPlan) -> Rows {
        let rows = match plan {
            LogicalPlan::TableScan(scan) => self.scanned(scan),
            LogicalPlan::SubqueryAlias(alias) => self.rows(&alias.input),
            LogicalPlan::Subquery(subquery) => self.rows(&subquery.subquery),
            LogicalPlan::Sort(sort) => self.rows(&sort.input),
            LogicalPlan::Window(window) => self.rows(&window.input),
            LogicalPlan::Limit(limit) => {
                let first = matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(0 | 1))));
                let rows = self.rows(&limit.input);
                Rows { one: rows.one || first && self.limits_count, ..rows }
            }
            LogicalPlan::Filter(filter) => {
                let mut rows = self.rows(&filter.input);
                let schema = filter.input.schema();
                let conditions = split_conjunction(&filter.predicate).into_iter();
                rows.fixed.extend(conditions.filter_map(|part| fixed_column(part, schema)));
                rows
            }
            LogicalPlan::Projection(projection) => {
                projected(&self.rows(&projection.input), &projection.expr, &projection.input)
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let mut rows = self.rows(input);
                rows.keys.push((0..input.schema().fields().len()).collect());
                rows
            }
            LogicalPlan::Distinct(Distinct::On(on)) => {
                let below = self.rows(&on.input);
                let is_fixed = |expr: &Expr| source(expr, &on.input).is_fixed(&below);
                let one = below.one || on.on_expr.iter().all(is_fixed);
                Rows { one, ..projected(&below, &on.select_expr, &on.input) }
            }
            LogicalPlan::Aggregate(aggregate) => self.grouped(aggregate),
            LogicalPlan::Join(join) => self.joined(join),
            LogicalPlan::Values(values) => Rows::single(values.values.len() <= 1),
            LogicalPlan::EmptyRelation(_) => Rows::single(true),
            _ => Rows::default(),
        };
        rows.settled()
    }

    fn scanned(&self, scan: &TableScan) -> Rows {
        // A recursive query sees itself under a name of its own.
        let provider = source_as_provider(&scan.source);
        if provider.is_ok_and(|provider| provider.downcast_ref::<CteWorkTable>().is_some()) {
            return Rows::default();
        }
        let name = match &scan.table_name {
            TableReference::Bare { table } => table.to_string(),
            TableReference::Partial { schema, table }
            | TableReference::Full { schema, table, .. } => format!("{schema}.{table}"),
        };
        let name = name.strip_prefix("public.").unwrap_or(&name);
        let Some(info) = self.lookup.relation(name) else { return Rows::default() };
        let place = |column: &usize| {
            let name = info.schema.field(*column).name();
            scan.projected_schema.index_of_column_by_name(None, name)
        };
        let keys = info.unique_keys.iter();
        let keys = keys.filter_map(|key| key.iter().map(place).collect()).collect();
        Rows { keys, ..Rows::default() }
    }

    fn grouped(&self, aggregate: &Aggregate) -> Rows {
        let keys = aggregate.group_expr.as_slice();
        if let [Expr::GroupingSet(_)] = keys {
            return Rows::default();
        }
        let below = self.rows(&aggregate.input);
        let mut rows = projected(&below, keys, &aggregate.input);
        rows.one = below.one || keys.is_empty();
        rows.keys.push((0..keys.len()).collect());
        rows
    }

    fn joined(&self, join: &Join) -> Rows {
        let (left, right) = (self.rows(&join.left), self.rows(&join.right));
        match join.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => left,
            JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => right,
            JoinType::Full => Rows::default(),
            JoinType::Inner | JoinType::Left | JoinType::Right => {
                let width = join.left.schema().fields().len();
                let moved = |key: &BTreeSet<usize>| -> BTreeSet<usize> {
                    key.iter().map(|column| column + width).collect()
                };
                let pairs = |own: &BTreeSet<usize>| -> Vec<BTreeSet<usize>> {
                    right
                        .keys
                        .iter()
                        .map(|other| own.union(&moved(other)).copied().collect())
                        .collect()
                };
                let mut fixed = BTreeSet::new();
                if join.join_type != JoinType::Right {
                    fixed.extend(left.fixed.iter().copied());
                }
                if join.join_type != JoinType::Left {
                    fixed.extend(moved(&right.fixed));
                }
                let keys = left.keys.iter().flat_map(pairs).collect();
                Rows { one: left.one && right.one, keys, fixed }
            }
        }
    }
}

/// What an expression is of its input.
enum Source {
    Constant,
    Column(usize),
    Computed,
}

impl Source {
    fn is_fixed(&self, rows: &Rows) -> bool {
        match self {
            Source::Constant => true,
            Source::Column(column) => rows.fixed.contains(column),
            Source::Computed => false,
        }
    }
}

fn source(expr: &Expr, input: &LogicalPlan) -> Source {
    match expr {
        Expr::Alias(alias) => source(&alias.expr, input),
        Expr::Column(column) => {
            input.schema().maybe_index_of_column(column).map_or(Source::Computed, Source::Column)
        }
        other if is_constant(other) => Source::Constant,
        _ => Source::Computed,
    }
}

fn projected(below: &Rows, exprs: &[Expr], input: &LogicalPlan) -> Rows {
    let sources: Vec<Source> = exprs.iter().map(|expr| source(expr, input)).collect();
    let place = |wanted: &usize| {
        sources.iter().position(|source| matches!(source, Source::Column(found) if found == wanted))
    };
    let keys = below.keys.iter().filter_map(|key| key.iter().map(place).collect()).collect();
    let fixed = sources.iter().enumerate().filter(|(_, source)| source.is_fixed(below));
    Rows { one: below.one, keys, fixed: fixed.map(|(column, _)| column).collect() }
}

/// The column that a condition compares with a constant.
fn fixed_column(condition: &Expr, schema: &DFSchema) -> Option<usize> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else {
        return None;
    };
    let column = |expr: &Expr| match expr {
        Expr::Column(column) => schema.maybe_index_of_column(column),
        _ => None,
    };
    let (column, value) = match (column(left), column(right)) {
        (Some(column), None) => (column, right),
        (None, Some(column)) => (column, left),
        _ => return None,
    };
    let compared = value.get_type(schema).ok()?;
    let tells = tells_apart(schema.field(column).data_type(), &compared);
    (tells && is_constant(value)).then_some(column)
}

/// Whether values that differ are different, too, to a comparison with this type: large integers and a DOUBLE
/// are not.
fn tells_apart(column: &DataType, compared: &DataType) -> bool {
    // Zero has two forms, and so have intervals.
    if column.is_floating() || matches!(column, DataType::Interval(_)) {
        return false;
    }
    column == compared
        || compared.is_string()
        || column.is_integer() && compared.is_integer()
        || matches!((column, compared), (DataType::Date32, DataType::Timestamp(..)))
}

/// Whether an expression is the same for all rows of a plan; columns outside it are.
fn is_constant(expr: &Expr) -> bool {
    let reads = expr.exists(|part| {
        Ok(match part {
            Expr::ScalarSubquery(subquery) => !subquery.outer_ref_columns.is_empty(),
            Expr::Column(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => {
                true
            }
            _ => false,
        })
    });
    !expr.is_volatile() && reads.is_ok_and(|reads| !reads)
}
