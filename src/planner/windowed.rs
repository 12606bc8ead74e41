//! Gives window functions their place in the plan: a window waits for the GROUP BY above it, or its columns
//! are made real, row by row.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::CastExpr;

use crate::error::SqlState;
use crate::operators::emit::EmitMode;
use crate::operators::window_assign::WindowAssignSpec;
use crate::planner::error::{PlanError, from_datafusion};
use crate::planner::physical::{EventTimeColumn, Node, PhysicalPlan, StateBound, WindowRole};
use crate::planner::translate::{Built, Pending, Slot, Translator, column_expr, type_of};
use crate::planner::window_facts::size_max;
use crate::planner::window_node::{WindowColumn, WindowKind, WindowNode, window_time_type};
use crate::planner::window_rows::window_field;

impl Translator {
    /// A window function: checks the time column and leaves the window pending.
    pub(super) fn window(&self, node: &WindowNode, outermost: bool) -> Result<Built, PlanError> {
        let built = self.build(&node.input, outermost)?;
        let mut built = self.materialize(built)?;
        let names = built.physical_names()?;
        let mut added: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
        let width = built.plan.schema.fields().len();
        let mut place = |expr: &Expr| -> Result<usize, PlanError> {
            match built.plain_column(expr) {
                Some(column) => Ok(column),
                None => {
                    added.push((self.lower(expr, &names)?, format!("__predicate_{}", added.len())));
                    Ok(width + added.len() - 1)
                }
            }
        };
        let mut time = node.time.as_ref().map(&mut place).transpose()?;
        let partition = node.partition.iter().map(&mut place).collect::<Result<_, _>>()?;
        let start = node.start.as_ref().map(&mut place).transpose()?;
        let end = node.end.as_ref().map(&mut place).transpose()?;
        let mut time_name = String::new();
        if let Some(column) = time {
            time_name.clone_from(built.plan.schema.field(column).name());
            self.check_time(&built, node, column)?;
            let wanted = window_time_type(type_of(&built.plan, column));
            if *type_of(&built.plan, column) != wanted {
                let cast = CastExpr::new(column_expr(&built.plan, column), wanted, None);
                added.push((Arc::new(cast), "__time".into()));
                time = Some(width + added.len() - 1);
            }
        }
        let delay = time.and_then(|column| built.plan.facts.delay_of(column)).unwrap_or(0);
        if !added.is_empty() {
            built.plan = self.append_columns(built.plan, added, time)?;
        }
        if delay > 0 {
            built.plan = delayed(built.plan, delay);
        }
        if let Some(column) = time
            && built.plan.facts.delay_of(column).is_none()
            && closes_by_time(&node.kind)
        {
            // The watermark says nothing about this column: no row is late by it, nothing closes.
            built.plan = delayed(built.plan, i64::MAX);
        }
        let mut slots = built.slots;
        slots.extend(node.kind.columns().iter().map(|column| Slot::Window(*column)));
        let pending = Pending {
            kind: node.kind.clone(),
            time,
            time_name,
            partition,
            start,
            end,
            row_filter: None,
            window_filters: vec![],
            pair_filters: vec![],
            outermost,
        };
        use datafusion::logical_expr::UserDefinedLogicalNodeCore;
        let schema = Arc::clone(UserDefinedLogicalNodeCore::schema(node));
        Ok(Built { plan: built.plan, schema, slots, pending: Some(pending) })
    }

    /// A span of logical time is an integer, any other an interval.
    pub(super) fn check_lateness_unit(
        &self,
        built: &Built,
        column: usize,
    ) -> Result<(), PlanError> {
        let is_logical = type_of(&built.plan, column).is_integer();
        if self.emit.allowed_lateness == 0 || self.emit.lateness_is_logical == is_logical {
            return Ok(());
        }
        let (kind, example) = match is_logical {
            true => ("an integer", "5"),
            false => ("an interval", "INTERVAL '5' SECOND"),
        };
        let name = built.plan.schema.field(column).name();
        Err(PlanError::Window {
            code: SqlState::INVALID_PARAMETER,
            message: format!("ALLOWED LATENESS over column \"{name}\" must be {kind}"),
            hint: Some(format!("Write for example ALLOWED LATENESS {example}.")),
        })
    }

    /// Windows that close by event time need a watermark on their column, unless every change is
    /// wanted anyway.
    fn check_time(&self, built: &Built, node: &WindowNode, column: usize) -> Result<(), PlanError> {
        self.check_lateness_unit(built, column)?;
        let bounded = built.plan.facts.delay_of(column).is_some();
        let open_ended = matches!(node.kind, WindowKind::Time(_) | WindowKind::Session(_))
            && self.emit.mode == Some(EmitMode::Changes);
        if !closes_by_time(&node.kind) || bounded || open_ended {
            return Ok(());
        }
        Err(PlanError::WatermarkRequired {
            relation: describe_source(&built.plan),
            column: built.plan.schema.field(column).name().clone(),
        })
    }

    /// Adds computed columns behind the others; a cast time column keeps its watermark.
    pub(super) fn append_columns(
        &self,
        input: PhysicalPlan,
        added: Vec<(Arc<dyn PhysicalExpr>, String)>,
        time: Option<usize>,
    ) -> Result<PhysicalPlan, PlanError> {
        let width = input.schema.fields().len();
        let mut outputs: Vec<(Arc<dyn PhysicalExpr>, String)> = (0..width)
            .map(|column| (column_expr(&input, column), input.schema.field(column).name().clone()))
            .collect();
        outputs.extend(added);
        let old_times = input.facts.event_times.clone();
        let mut plan = self.filter_project(input, None, Some(outputs))?;
        if let Some(column) = time.filter(|column| *column >= width)
            && let Some(first) = old_times.first()
        {
            plan.facts.event_times.push(EventTimeColumn { column, delay: first.delay });
        }
        Ok(plan)
    }

    /// WHERE beside a count, session or punctuation window: a column says which rows count.
    pub(super) fn add_row_filter(
        &self,
        mut built: Built,
        condition: &Expr,
    ) -> Result<Built, PlanError> {
        let names = built.physical_names()?;
        let mut filter = self.lower(condition, &names)?;
        let pending = built.pending.as_mut().expect("only called while a window is pending");
        if let Some(column) = pending.row_filter {
            let earlier = column_expr(&built.plan, column);
            filter = datafusion::physical_expr::expressions::binary(
                earlier,
                datafusion::logical_expr::Operator::And,
                filter,
                &built.plan.schema,
            )
            .map_err(from_datafusion)?;
        }
        pending.row_filter = Some(built.plan.schema.fields().len());
        built.plan = self.append_columns(built.plan, vec![(filter, "__counts".into())], None)?;
        Ok(built)
    }

    /// Makes the columns of a pending time window real, row by row.
    pub(super) fn materialize(&self, mut built: Built) -> Result<Built, PlanError> {
        let Some(pending) = built.pending.take() else { return Ok(built) };
        let (WindowKind::Time(window), Some(time)) = (&pending.kind, pending.time) else {
            return self.materialize_rows(built, pending);
        };
        let width = built.plan.schema.fields().len();
        let time_type = type_of(&built.plan, time).clone();
        let input_fields = built.plan.schema.fields().iter();
        let mut fields: Vec<Field> = input_fields.map(|field| WindowRole::unmark(field)).collect();
        fields.push(window_field(WindowColumn::Start, &pending.kind, &time_type));
        fields.push(window_field(WindowColumn::End, &pending.kind, &time_type));
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let mut facts = built.plan.facts.clone();
        let base = facts.delay_of(time);
        facts.unique_keys.clear();
        facts.windows = vec![None; width];
        facts
            .windows
            .extend([WindowRole::start_of(&pending.kind), WindowRole::end_of(&pending.kind)]);
        if let Some(base) = base {
            let size = size_max(window);
            facts.event_times.extend(
                size.map(|size| EventTimeColumn {
                    column: width,
                    delay: base.saturating_add(size),
                }),
            );
            facts.event_times.push(EventTimeColumn { column: width + 1, delay: base });
        }
        let spec = WindowAssignSpec {
            window: window.clone(),
            time_column: time,
            allowed_lateness: self.emit.allowed_lateness,
            input_schema: Arc::clone(&built.plan.schema),
            schema: Arc::clone(&schema),
        };
        built.plan = PhysicalPlan {
            node: Node::WindowAssign(Arc::new(spec)),
            schema,
            facts,
            state: StateBound::Stateless,
            inputs: vec![built.plan],
        };
        for slot in &mut built.slots {
            *slot = match slot {
                Slot::Window(WindowColumn::Start) => Slot::Column(width),
                Slot::Window(_) => Slot::Column(width + 1),
                Slot::Column(column) => Slot::Column(*column),
            };
        }
        self.apply_window_filters(built, &pending, |column| match column {
            WindowColumn::Start => Some(width),
            _ => Some(width + 1),
        })
    }

    /// Conditions on window columns, once those columns exist.
    pub(super) fn apply_window_filters(
        &self,
        mut built: Built,
        pending: &Pending,
        place: impl Fn(WindowColumn) -> Option<usize>,
    ) -> Result<Built, PlanError> {
        for (condition, named) in &pending.window_filters {
            let mut condition = condition.clone();
            let mut first_names: HashMap<usize, Column> = HashMap::new();
            let mut fields: Vec<_> = (0..built.plan.schema.fields().len())
                .map(|column| {
                    let field = built.plan.schema.field(column).clone();
                    (None, Arc::new(field.with_name(format!("__column_{column}"))))
                })
                .collect();
            for (qualifier, field, window) in named {
                let column = place(*window).ok_or_else(|| PlanError::Window {
                    code: SqlState::GROUPING,
                    message: format!(
                        "column \"{}\" must appear in the GROUP BY clause",
                        field.name()
                    ),
                    hint: Some("Group by all columns of the window that conditions name.".into()),
                })?;
                let name = Column::new(qualifier.clone(), field.name());
                if let Some(first) = first_names.get(&column) {
                    condition = renamed(condition, &name, first)?;
                    continue;
                }
                first_names.insert(column, name);
                let physical = built.plan.schema.field(column).clone();
                fields[column] = (qualifier.clone(), Arc::new(physical.with_name(field.name())));
            }
            let names =
                DFSchema::new_with_metadata(fields, Default::default()).map_err(from_datafusion)?;
            let filter = self.lower(&condition, &names)?;
            built.plan = self.filter_project(built.plan, Some(filter), None)?;
        }
        self.named_once(built)
    }

    /// Gives each logical column a physical one of its own: expressions find columns by name.
    fn named_once(&self, mut built: Built) -> Result<Built, PlanError> {
        let width = built.plan.schema.fields().len();
        let (mut known, mut added) = (HashSet::new(), Vec::new());
        for slot in &mut built.slots {
            if let Slot::Column(column) = slot
                && !known.insert(*column)
            {
                added.push((column_expr(&built.plan, *column), format!("__copy_{}", added.len())));
                *slot = Slot::Column(width + added.len() - 1);
            }
        }
        if !added.is_empty() {
            built.plan = self.append_columns(built.plan, added, None)?;
        }
        Ok(built)
    }
}

/// A condition in which a column goes by another of its names.
fn renamed(condition: Expr, from: &Column, to: &Column) -> Result<Expr, PlanError> {
    let renamed = condition.transform(|expr| match expr {
        Expr::Column(column) if column == *from => Ok(Transformed::yes(Expr::Column(to.clone()))),
        other => Ok(Transformed::no(other)),
    });
    Ok(renamed.map_err(from_datafusion)?.data)
}

/// Whether windows of a kind close, or are formed, by event time.
pub(super) fn closes_by_time(kind: &WindowKind) -> bool {
    match kind {
        WindowKind::Time(_) | WindowKind::Session(_) => true,
        WindowKind::Count(window) => window.ordered,
        WindowKind::Punctuation(_) => false,
    }
}

/// Holds the watermark back, so that a window over a delayed column closes only when it is complete.
pub(super) fn delayed(input: PhysicalPlan, delay: i64) -> PhysicalPlan {
    let mut facts = input.facts.clone();
    for time in &mut facts.event_times {
        time.delay = (time.delay - delay).max(0);
    }
    PhysicalPlan {
        node: Node::Delay(delay),
        schema: Arc::clone(&input.schema),
        facts,
        state: StateBound::Stateless,
        inputs: vec![input],
    }
}

/// The relation at the bottom, with its kind, for messages.
pub(super) fn describe_source(plan: &PhysicalPlan) -> String {
    match &plan.node {
        Node::Source(source) => format!("{} \"{}\"", source.kind.noun(), source.relation),
        _ => plan.inputs.first().map_or_else(|| "its input".into(), describe_source),
    }
}
