//! Translates DataFusion's optimised logical plan into a tree of operator specs.
//!
//! The walk goes bottom-up and carries, for each output column of a logical node, where it stands in
//! the physical output ([`Slot`]). A window function does not become an operator at once: it stays
//! *pending*, its columns virtual, until a GROUP BY takes it up (so that rows fold into slices and are
//! never multiplied by the number of their windows) or until something needs the columns row by row
//! (then [`crate::operators::window_assign`] makes them real). See [`super::windowed`].

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef, TableReference};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};

use crate::operators::emit::EmitMode;
use crate::planner::error::{PlanError, from_datafusion};
use crate::planner::functions;
use crate::planner::join::shows_rows_without_match;
use crate::planner::match_node::MatchNode;
use crate::planner::physical::{
    EventTimeColumn, Facts, Node, PhysicalPlan, SourceSpec, StateBound, WindowRole,
};
use crate::planner::relations::{RelationKind, RelationSource};
use crate::planner::window_node::{WindowColumn, WindowKind, WindowNode};

/// What the EMIT clause asks, resolved to widths.
#[derive(Debug, Clone)]
pub struct EmitRequest {
    /// The mode, if one was written.
    pub mode: Option<EmitMode>,
    /// ALLOWED LATENESS, 0 if not written.
    pub allowed_lateness: i64,
    /// Whether it was written as an integer, which is a span of logical time.
    pub lateness_is_logical: bool,
}

/// Where an output column of a logical node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// In this physical column.
    Column(usize),
    /// Nowhere yet: it is a column of the pending window.
    Window(WindowColumn),
}

/// A window whose rows have not been assigned yet. Numbers are physical columns of the input.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub kind: WindowKind,
    pub time: Option<usize>,
    /// What the time column was called.
    pub time_name: String,
    pub partition: Vec<usize>,
    pub start: Option<usize>,
    pub end: Option<usize>,
    /// Boolean column: which rows count, after the windows are formed (WHERE beside a window).
    pub row_filter: Option<usize>,
    /// Conditions on the window's columns alone, with the name each column had.
    pub window_filters: Vec<(Expr, Vec<NamedWindowColumn>)>,
    /// Conditions on rows and their windows together ([`super::window_rows`]).
    pub pair_filters: Vec<Expr>,
    /// Whether no aggregate lies above it.
    pub outermost: bool,
}

pub(super) type NamedWindowColumn = (Option<TableReference>, FieldRef, WindowColumn);

/// A logical node, translated.
#[derive(Debug, Clone)]
pub(super) struct Built {
    pub plan: PhysicalPlan,
    /// The logical node's columns.
    pub schema: DFSchemaRef,
    /// One per logical column.
    pub slots: Vec<Slot>,
    pub pending: Option<Pending>,
}

/// Walks a plan.
pub(super) struct Translator {
    pub emit: EmitRequest,
    pub properties: ExecutionProps,
    pub planning: PhysicalPlanningContext,
    /// Whether operators emit amid a batch.
    pub row_marks: bool,
    /// Joins with a marker, so far.
    pub markers: Cell<usize>,
    /// Whether an operator emits as `emit` asks.
    pub emit_taken: Cell<bool>,
}

/// Translates a whole query, which had so many `markers` ([`super::join_as_of`]) before it was
/// optimised; the output has exactly the logical plan's columns.
pub(super) fn translate(
    logical: &LogicalPlan,
    emit: EmitRequest,
    markers: usize,
) -> Result<PhysicalPlan, PlanError> {
    let row_marks =
        matches!(emit.mode, Some(EmitMode::EveryRows { .. })) || shows_rows_without_match(logical)?;
    let translator = Translator {
        row_marks,
        emit,
        properties: ExecutionProps::new(),
        planning: PhysicalPlanningContext::default(),
        markers: Cell::new(0),
        emit_taken: Cell::new(false),
    };
    let built = translator.build(logical, true)?;
    if translator.markers.get() < markers {
        return Err(PlanError::unsupported(
            "this condition beside an as-of join",
            "Put the as-of join into a subquery of its own.",
        ));
    }
    let built = translator.materialize(built)?;
    let plan = translator.arrange(built)?;
    translator.check_emit_was_taken(&plan)?;
    Ok(plan)
}

impl Translator {
    /// Translates a node; `outermost` says whether no aggregate lies above it.
    pub(super) fn build(&self, logical: &LogicalPlan, outermost: bool) -> Result<Built, PlanError> {
        match logical {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => {
                let built = self.build(&alias.input, outermost)?;
                Ok(Built { schema: Arc::clone(&alias.schema), ..built })
            }
            LogicalPlan::Projection(projection) => {
                let built = self.build(&projection.input, outermost)?;
                self.project(built, &projection.expr, &projection.schema)
            }
            LogicalPlan::Filter(filter) => {
                let built = self.build(&filter.input, outermost)?;
                self.filter(built, &filter.predicate)
            }
            LogicalPlan::Extension(extension) => {
                let node = extension.node.as_any();
                if let Some(node) = node.downcast_ref::<WindowNode>() {
                    self.window(node, outermost)
                } else if let Some(node) = node.downcast_ref::<MatchNode>() {
                    self.match_recognize(node, outermost)
                } else {
                    Err(unsupported(logical))
                }
            }
            LogicalPlan::Aggregate(aggregate) => {
                let built = self.build(&aggregate.input, false)?;
                self.aggregate(built, aggregate, outermost)
            }
            LogicalPlan::Window(window) => self.over(window, outermost),
            LogicalPlan::Limit(limit) => self.limit(limit, outermost),
            LogicalPlan::Sort(sort) => self.sort(sort, outermost),
            LogicalPlan::Union(union) => self.union(union, outermost),
            LogicalPlan::Join(join) => self.join(join, outermost),
            LogicalPlan::Unnest(unnest) => {
                let built = self.build(&unnest.input, outermost)?;
                let built = self.materialize(built)?;
                self.unnest(built, unnest)
            }
            other => Err(unsupported(other)),
        }
    }

    fn scan(&self, scan: &datafusion::logical_expr::TableScan) -> Result<Built, PlanError> {
        let Some(source) = scan.source.downcast_ref::<RelationSource>() else {
            return Err(PlanError::unsupported(
                format!("relation \"{}\"", scan.table_name),
                "Use a stream, a table or a continuous query.",
            ));
        };
        let info = &source.info;
        if info.kind == RelationKind::System {
            return Err(PlanError::unsupported(
                format!("system relation \"{}\"", info.name),
                "Ask it with SELECT; its content is not a stream.",
            ));
        }
        let columns: Vec<usize> = match &scan.projection {
            Some(projection) => projection.clone(),
            None => (0..info.schema.fields().len()).collect(),
        };
        let schema =
            Arc::new(info.schema.project(&columns).map_err(|e| from_datafusion(e.into()))?);
        let position = |column: usize| columns.iter().position(|c| *c == column);
        let event_times = info
            .event_times
            .iter()
            .filter_map(|time| {
                Some(EventTimeColumn { column: position(time.column)?, delay: time.delay })
            })
            .collect();
        let unique_keys = info
            .unique_keys
            .iter()
            .filter_map(|key| key.iter().map(|column| position(*column)).collect())
            .collect();
        let windows = schema.fields().iter().map(|field| WindowRole::of_field(field)).collect();
        let plan = PhysicalPlan {
            node: Node::Source(SourceSpec {
                relation: Arc::clone(&info.name),
                kind: info.kind,
                columns,
                processing_time: info.processing_time,
                row_marks: self.row_marks,
            }),
            facts: Facts { append_only: info.append_only, event_times, unique_keys, windows },
            state: StateBound::Stateless,
            inputs: vec![],
            schema,
        };
        let slots = (0..plan.schema.fields().len()).map(Slot::Column).collect();
        Ok(Built { plan, schema: Arc::clone(&scan.projected_schema), slots, pending: None })
    }

    /// Lowers an expression against physical columns named as `names` says.
    pub(super) fn lower(
        &self,
        expr: &Expr,
        names: &DFSchema,
    ) -> Result<Arc<dyn PhysicalExpr>, PlanError> {
        refuse_volatile(expr)?;
        create_physical_expr(expr, names, &self.properties, &self.planning).map_err(from_datafusion)
    }
}

impl Slot {
    /// The physical column; slots of materialised nodes always have one.
    pub(super) fn column(self) -> usize {
        match self {
            Slot::Column(column) => column,
            Slot::Window(column) => unreachable!("{column:?} was materialised before"),
        }
    }
}

impl Built {
    /// The window column that a logical column stands for.
    pub(super) fn window_column(&self, column: &Column) -> Option<WindowColumn> {
        let index = self.schema.maybe_index_of_column(column)?;
        match self.slots[index] {
            Slot::Window(window) => Some(window),
            Slot::Column(_) => None,
        }
    }

    /// The window column that an expression is, under whatever alias.
    pub(super) fn plain_window(&self, expr: &Expr) -> Option<WindowColumn> {
        match expr {
            Expr::Alias(alias) => self.plain_window(&alias.expr),
            Expr::Column(column) => self.window_column(column),
            _ => None,
        }
    }

    /// The physical column that an expression is, under whatever alias.
    pub(super) fn plain_column(&self, expr: &Expr) -> Option<usize> {
        match expr {
            Expr::Alias(alias) => self.plain_column(&alias.expr),
            Expr::Column(column) => match self.slots[self.schema.maybe_index_of_column(column)?] {
                Slot::Column(column) => Some(column),
                Slot::Window(_) => None,
            },
            _ => None,
        }
    }

    /// Whether an expression reads a column of the pending window.
    pub(super) fn uses_window(&self, expr: &Expr) -> bool {
        columns_of(expr).iter().any(|column| self.window_column(column).is_some())
    }

    pub(super) fn named_window_columns(
        &self,
        columns: &BTreeSet<Column>,
    ) -> Vec<NamedWindowColumn> {
        columns
            .iter()
            .filter_map(|column| {
                let window = self.window_column(column)?;
                let index = self.schema.maybe_index_of_column(column)?;
                let (qualifier, field) = self.schema.qualified_field(index);
                Some((qualifier.cloned(), Arc::clone(field), window))
            })
            .collect()
    }

    /// The physical columns under their logical names, for lowering expressions.
    pub(super) fn physical_names(&self) -> Result<DFSchema, PlanError> {
        let mut fields: Vec<(Option<TableReference>, FieldRef)> =
            (0..self.plan.schema.fields().len())
                .map(|column| {
                    let field = self.plan.schema.field(column);
                    (None, Arc::new(field.clone().with_name(format!("__column_{column}"))))
                })
                .collect();
        for (index, slot) in self.slots.iter().enumerate() {
            if let Slot::Column(column) = slot {
                let (qualifier, logical) = self.schema.qualified_field(index);
                let physical = self.plan.schema.field(*column);
                let named = physical.clone().with_name(logical.name());
                fields[*column] = (qualifier.cloned(), Arc::new(named));
            }
        }
        DFSchema::new_with_metadata(fields, Default::default()).map_err(from_datafusion)
    }
}

/// An expression that reads a physical column.
pub(super) fn column_expr(plan: &PhysicalPlan, column: usize) -> Arc<dyn PhysicalExpr> {
    let name = plan.schema.field(column).name();
    Arc::new(datafusion::physical_expr::expressions::Column::new(name, column))
}

/// The column that an expression passes on unchanged.
pub(super) fn source_column(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expr.downcast_ref::<datafusion::physical_expr::expressions::Column>().map(|c| c.index())
}

/// The columns that an expression reads.
pub(super) fn columns_of(expr: &Expr) -> BTreeSet<Column> {
    expr.column_refs().into_iter().cloned().collect()
}

/// random(), uuid() and the like would give another answer on replay.
fn refuse_volatile(expr: &Expr) -> Result<(), PlanError> {
    let mut found = None;
    expr.apply(|node| {
        if let Expr::ScalarFunction(call) = node
            && call.func.signature().volatility == Volatility::Volatile
            && !functions::is_row_clock(&call.func)
        {
            found = Some(call.func.name().to_string());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(from_datafusion)?;
    match found {
        None => Ok(()),
        Some(name) => Err(PlanError::unsupported(
            format!("volatile function {name}()"),
            "A continuous query must give the same answer when it is replayed; \
             compute the value before you send the row.",
        )),
    }
}

/// Says what a logical node is in the words of SQL.
fn unsupported(plan: &LogicalPlan) -> PlanError {
    let (what, hint) = match plan {
        LogicalPlan::Subquery(_) => {
            ("LATERAL in this place", "Put the subquery behind the relations that it refers to.")
        }
        LogicalPlan::RecursiveQuery(_) => ("WITH RECURSIVE", "Ask it with SELECT."),
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => {
            ("a query without a stream, table or query in FROM", "Ask it with SELECT.")
        }
        other => return PlanError::unsupported(other.display().to_string(), "Ask it with SELECT."),
    };
    PlanError::unsupported(what, hint)
}

/// Gives `DataType` of a physical column.
pub(super) fn type_of(plan: &PhysicalPlan, column: usize) -> &DataType {
    plan.schema.field(column).data_type()
}
