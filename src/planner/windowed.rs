//! Gives windows and aggregates their operators, and checks that the answers can ever be final.
//!
//! A GROUP BY over a pending window becomes the operator of that window's kind. A GROUP BY over the
//! `window_start` and `window_end` of an earlier node is stacked on those windows. Any other GROUP BY
//! keeps its groups for ever and emits changes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Aggregate, Expr};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::CastExpr;

use crate::error::SqlState;
use crate::operators::aggregate::AggregateOpSpec;
use crate::operators::count_window::CountWindowSpec;
use crate::operators::emit::{EmitMode, EmitSpec, Refinement};
use crate::operators::punctuation_window::PunctuationWindowSpec;
use crate::operators::session_aggregate::SessionAggregateSpec;
use crate::operators::window_aggregate::{WindowAggregateSpec, WindowSource};
use crate::operators::window_answer::{Content, Pairs, WindowAnswer};
use crate::operators::window_assign::WindowAssignSpec;
use crate::planner::error::{PlanError, from_datafusion};
use crate::planner::grouping::{COMPUTED, Grouping, Input, Part};
use crate::planner::lower_aggregate::lower_aggregate;
use crate::planner::mining_facts::{self, with_summaries};
use crate::planner::physical::{
    EventTimeColumn, Facts, Node, PhysicalPlan, StateBound, WindowRole,
};
use crate::planner::translate::{Built, Pending, Slot, Translator, column_expr, type_of};
use crate::planner::window_facts::{
    check_grouping, is_append_only, is_landmark, is_one_row_per_group, keeps_arguments,
    lateness_text, operator_columns, size_max, window_facts, window_state,
};
use crate::planner::window_node::{WindowColumn, WindowKind, WindowNode, window_time_type};
use crate::planner::window_rows::{bound_type, computed_name, window_field};

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

    /// GROUP BY.
    pub(super) fn aggregate(
        &self,
        mut built: Built,
        aggregate: &Aggregate,
        outermost: bool,
    ) -> Result<Built, PlanError> {
        if aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) {
            return Err(PlanError::unsupported(
                "GROUPING SETS",
                "Write one query for each grouping, or ask it with SELECT.",
            ));
        }
        let windowed = aggregate.group_expr.iter().any(|e| built.plain_window(e).is_some());
        let uses_window = aggregate
            .group_expr
            .iter()
            .filter(|e| built.plain_window(e).is_none())
            .chain(&aggregate.aggr_expr)
            .any(|e| built.uses_window(e));
        let is_time = built.pending.as_ref().is_some_and(|p| matches!(p.kind, WindowKind::Time(_)));
        if built.pending.is_some() && (!windowed || (is_time && uses_window)) {
            built = self.materialize(built)?;
        }
        let mut computed = Vec::new();
        let mut grouping = self.grouping(&mut built, &aggregate.group_expr, &mut computed)?;
        let aggr_exprs = self.compute_arguments(&mut built, &aggregate.aggr_expr, &mut computed)?;
        let pairs = match &built.pending {
            Some(pending) => self.pairs(&built.plan, pending, &computed)?,
            None => None,
        };
        let width = built.plan.schema.fields().len();
        for key in grouping.keys.iter_mut().filter(|key| **key >= COMPUTED) {
            *key = *key - COMPUTED + width;
        }
        let (names, wide) = wide_names(&built, pairs.as_deref())?;
        let aggregates = aggr_exprs
            .iter()
            .map(|expr| lower_aggregate(self, expr, &names, &wide))
            .collect::<Result<Vec<_>, _>>()?;
        mining_facts::check_input(&built.plan, &aggregates)?;
        let pending = built.pending.take();
        let input = Input { built, grouping, aggregates, outermost, wide, pairs };
        match pending {
            Some(pending) => self.pending_aggregate(input, pending, aggregate),
            None => match input.assigned_window()? {
                Some(window) => self.stacked_aggregate(input, window, aggregate),
                None => self.unwindowed_aggregate(input, aggregate),
            },
        }
    }

    /// Sorts out the group expressions; computed keys become columns. What reads the pending window
    /// goes to `computed`, and its key is counted from [`COMPUTED`] on.
    fn grouping(
        &self,
        built: &mut Built,
        exprs: &[Expr],
        computed: &mut Vec<Expr>,
    ) -> Result<Grouping, PlanError> {
        let names = built.physical_names()?;
        let width = built.plan.schema.fields().len();
        let mut added: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
        let mut grouping = Grouping { parts: vec![], keys: vec![] };
        for expr in exprs {
            if let Some(column) = built.plain_window(expr) {
                grouping.parts.push(Part::Window(column));
                continue;
            }
            let column = match built.plain_column(expr) {
                Some(column) => column,
                None if built.uses_window(expr) => {
                    computed.push(built.over_pairs(expr)?);
                    COMPUTED + computed.len() - 1
                }
                None => {
                    added.push((self.lower(expr, &names)?, format!("__key_{}", added.len())));
                    width + added.len() - 1
                }
            };
            grouping.parts.push(Part::Key(grouping.keys.len()));
            grouping.keys.push(column);
        }
        if !added.is_empty() {
            let plan = built.plan.clone();
            built.plan = self.append_columns(plan, added, None)?;
        }
        Ok(grouping)
    }

    /// Lets a projection below compute the arguments and filters of aggregates, so that a row on which
    /// one fails is refused alone; the aggregates then read plain columns.
    fn compute_arguments(
        &self,
        built: &mut Built,
        exprs: &[Expr],
        computed: &mut Vec<Expr>,
    ) -> Result<Vec<Expr>, PlanError> {
        let names = built.physical_names()?;
        let width = built.plan.schema.fields().len();
        let mut added: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
        let mut failure = None;
        let mut column_of = |expr: Expr| -> Expr {
            if built.uses_window(&expr) {
                match built.over_pairs(&expr) {
                    Ok(pair) => computed.push(pair),
                    Err(error) => failure = Some(error),
                }
                return Expr::Column(Column::new_unqualified(computed_name(computed.len() - 1)));
            }
            if matches!(expr, Expr::Column(_) | Expr::Literal(..)) {
                return expr;
            }
            match self.lower(&expr, &names) {
                Ok(physical) => {
                    // The name that `physical_names` gives to a column without a logical one.
                    let name = format!("__column_{}", width + added.len());
                    added.push((physical, name.clone()));
                    Expr::Column(Column::new_unqualified(name))
                }
                Err(error) => {
                    failure = Some(error);
                    expr
                }
            }
        };
        let rewritten: Vec<Expr> =
            exprs.iter().map(|expr| replace_arguments(expr.clone(), &mut column_of)).collect();
        if let Some(error) = failure {
            return Err(error);
        }
        if !added.is_empty() {
            let plan = built.plan.clone();
            built.plan = self.append_columns(plan, added, None)?;
        }
        Ok(rewritten)
    }

    fn pending_aggregate(
        &self,
        input: Input,
        pending: Pending,
        aggregate: &Aggregate,
    ) -> Result<Built, PlanError> {
        let grouped: Vec<WindowColumn> = input.window_parts();
        check_grouping(&pending, &grouped, &input.grouping.keys)?;
        self.check_input(&input.built.plan, &pending.kind)?;
        let shares_sessions =
            pending.partition.iter().any(|column| !input.grouping.keys.contains(column));
        let emit = self.window_emit(input.outermost, Some(&pending.kind))?;
        self.check_closes(&input.built.plan, &pending, &emit)?;
        if shares_sessions && matches!(emit.mode, EmitMode::EveryRows { .. }) {
            return Err(PlanError::unsupported(
                "EMIT EVERY n ROWS of sessions that are not grouped by their partition",
                "Group by the partition columns, too, or use EMIT EVERY INTERVAL.",
            ));
        }
        let columns = operator_columns(&pending.kind);
        let time_type = bound_type(&input.built.plan, &pending);
        let schema = input.output_schema(columns, &pending.kind, &time_type);
        let facts = window_facts(&pending, &input, &emit, columns.len());
        let watermarked =
            pending.time.is_some_and(|time| input.built.plan.facts.delay_of(time).is_some());
        let state = window_state(&pending, &emit, watermarked);
        let state = with_summaries(state, &input.aggregates, true);
        let content = Content::Groups {
            keys: input.grouping.keys.clone(),
            aggregates: input.aggregates.clone(),
        };
        let answer =
            WindowAnswer { content, row_filter: pending.row_filter, pairs: input.pairs.clone() };
        let node = window_operator(&input.built.plan, &pending, answer, emit, &schema);
        let built = input.finish(node, schema, facts, state, columns, aggregate);
        self.apply_window_filters(built, &pending, |window| {
            columns.iter().position(|column| *column == window)
        })
    }

    /// GROUP BY over the window columns that an earlier node made.
    fn stacked_aggregate(
        &self,
        mut input: Input,
        (start, end): (usize, usize),
        aggregate: &Aggregate,
    ) -> Result<Built, PlanError> {
        let emit = self.window_emit(input.outermost, None)?;
        let roles = &input.built.plan.facts.windows;
        let bounds = [roles[start], roles[end]];
        let delay = input.built.plan.facts.delay_of(end);
        if delay.is_none() && emit.mode != EmitMode::Changes {
            return Err(PlanError::WatermarkRequired {
                relation: describe_source(&input.built.plan),
                column: input.built.plan.schema.field(end).name().clone(),
            });
        }
        if let Some(delay) = delay.filter(|delay| *delay > 0) {
            input.built.plan = delayed(input.built.plan, delay);
        }
        // Keys that are the window's own columns become parts of the window.
        for part in &mut input.grouping.parts {
            if let Part::Key(key) = part {
                let column = input.grouping.keys[*key];
                if column == start {
                    *part = Part::Window(WindowColumn::Start);
                } else if column == end {
                    *part = Part::Window(WindowColumn::End);
                }
            }
        }
        input.drop_window_keys(start, end);
        let columns = &[WindowColumn::Start, WindowColumn::End];
        let time_type = type_of(&input.built.plan, end).clone();
        let schema = input.stacked_schema(bounds, &time_type);
        let width = schema.fields().len();
        let mut facts = Facts {
            append_only: is_append_only(&emit) && input.built.plan.facts.append_only,
            event_times: vec![],
            unique_keys: match is_one_row_per_group(emit.mode) {
                true => vec![(0..2 + input.grouping.keys.len()).collect()],
                false => vec![],
            },
            windows: vec![None; width],
        };
        facts.windows[..2].copy_from_slice(&bounds);
        if delay.is_some() {
            let known = input.built.plan.facts.delay_of(start);
            facts.event_times.extend(known.map(|delay| EventTimeColumn {
                column: 0,
                delay: delay.saturating_add(emit.allowed_lateness),
            }));
            facts.event_times.push(EventTimeColumn { column: 1, delay: emit.allowed_lateness });
        }
        let state = match delay {
            Some(_) => StateBound::Bounded(format!(
                "one row per window and key; rows leave when the watermark passes the end of the window{}",
                lateness_text(&emit)
            )),
            None => StateBound::Unbounded("no watermark closes the windows".into()),
        };
        let state = with_summaries(state, &input.aggregates, true);
        let spec = WindowAggregateSpec {
            window: WindowSource::Assigned { start, end },
            time_column: None,
            keys: input.grouping.keys.clone(),
            aggregates: input.aggregates.clone(),
            emit,
            input_append_only: input.built.plan.facts.append_only,
            input_schema: Arc::clone(&input.built.plan.schema),
            schema: Arc::clone(&schema),
        };
        let node = Node::WindowAggregate(Arc::new(spec));
        Ok(input.finish(node, schema, facts, state, columns, aggregate))
    }

    fn unwindowed_aggregate(
        &self,
        input: Input,
        aggregate: &Aggregate,
    ) -> Result<Built, PlanError> {
        let mode = if input.outermost { self.emit.mode } else { None };
        let mode_was_asked = mode.is_some();
        let mode = match mode {
            None | Some(EmitMode::Changes) => EmitMode::Changes,
            Some(EmitMode::OnClose) => {
                return Err(PlanError::Window {
                    code: SqlState::WINDOWING,
                    message: "EMIT ON CLOSE needs a window to close".into(),
                    hint: Some("Group by window_start and window_end of a window function, or use EMIT CHANGES.".into()),
                });
            }
            Some(every) => every,
        };
        let retracts = !matches!(
            mode,
            EmitMode::EveryInterval {
                refinement: Refinement::Accumulating | Refinement::Discarding,
                ..
            } | EmitMode::EveryRows {
                refinement: Refinement::Accumulating | Refinement::Discarding,
                ..
            }
        );
        if mode_was_asked {
            self.emit_taken.set(true);
        }
        let schema = input.unwindowed_schema();
        let key_count = input.grouping.keys.len();
        let facts = Facts {
            append_only: !retracts,
            event_times: vec![],
            unique_keys: if retracts { vec![(0..key_count).collect()] } else { vec![] },
            windows: vec![None; schema.fields().len()],
        };
        let append_only = input.built.plan.facts.append_only;
        let state = if let Some(kept) = keeps_arguments(&input.aggregates, append_only) {
            StateBound::Unbounded(format!("{kept} keeps the values of all rows"))
        } else if key_count == 0 {
            StateBound::Bounded("one group".into())
        } else {
            StateBound::Unbounded("a group is kept for every key that was ever seen".into())
        };
        let state = with_summaries(state, &input.aggregates, false);
        let spec = AggregateOpSpec {
            keys: input.grouping.keys.clone(),
            aggregates: input.aggregates.clone(),
            emit: EmitSpec { mode, allowed_lateness: 0 },
            input_append_only: input.built.plan.facts.append_only,
            input_schema: Arc::clone(&input.built.plan.schema),
            schema: Arc::clone(&schema),
        };
        let node = Node::Aggregate(Arc::new(spec));
        Ok(input.finish(node, schema, facts, state, &[], aggregate))
    }

    /// When a window's results appear: as EMIT says, else when it closes. A landmark window never does:
    /// its results are changes.
    pub(super) fn window_emit(
        &self,
        outermost: bool,
        kind: Option<&WindowKind>,
    ) -> Result<EmitSpec, PlanError> {
        let mode = if outermost { self.emit.mode } else { None };
        if mode.is_some() {
            self.emit_taken.set(true);
        }
        let is_landmark = kind.is_some_and(is_landmark);
        let mode = match mode {
            Some(EmitMode::OnClose) if is_landmark => {
                return Err(PlanError::Window {
                    code: SqlState::WINDOWING,
                    message: "EMIT ON CLOSE needs a window that closes, and LANDMARK never does"
                        .into(),
                    hint: Some("Use EMIT CHANGES or EMIT EVERY.".into()),
                });
            }
            Some(mode) => mode,
            None if is_landmark => EmitMode::Changes,
            None => EmitMode::OnClose,
        };
        Ok(EmitSpec { mode, allowed_lateness: self.emit.allowed_lateness })
    }
}

/// An aggregate call with each argument, filter and sort key as `column_of` has it.
fn replace_arguments(expr: Expr, column_of: &mut impl FnMut(Expr) -> Expr) -> Expr {
    match expr {
        Expr::Alias(mut alias) => {
            alias.expr = Box::new(replace_arguments(*alias.expr, column_of));
            Expr::Alias(alias)
        }
        Expr::AggregateFunction(mut call) => {
            let params = &mut call.params;
            params.args =
                std::mem::take(&mut params.args).into_iter().map(&mut *column_of).collect();
            params.filter = params.filter.take().map(|filter| Box::new(column_of(*filter)));
            for sort in &mut params.order_by {
                sort.expr = column_of(sort.expr.clone());
            }
            Expr::AggregateFunction(call)
        }
        other => other,
    }
}

/// The operator of a pending window.
pub(super) fn window_operator(
    input: &PhysicalPlan,
    pending: &Pending,
    answer: WindowAnswer,
    emit: EmitSpec,
    schema: &SchemaRef,
) -> Node {
    let input_schema = Arc::clone(&input.schema);
    let schema = Arc::clone(schema);
    let (time_column, partition) = (pending.time, pending.partition.clone());
    let predicate = |column: Option<usize>| column.map(|c| column_expr(input, c));
    match &pending.kind {
        WindowKind::Time(window) => Node::WindowAggregate(Arc::new(WindowAggregateSpec {
            window: WindowSource::Time(window.clone()),
            time_column,
            keys: answer.keys().to_vec(),
            aggregates: answer.aggregates().to_vec(),
            emit,
            input_append_only: input.facts.append_only,
            input_schema,
            schema,
        })),
        WindowKind::Session(window) => Node::SessionAggregate(Arc::new(SessionAggregateSpec {
            window: window.clone(),
            time_column: time_column.expect("a session window has a time column"),
            partition,
            answer,
            emit,
            input_schema,
            schema,
            input_append_only: input.facts.append_only,
        })),
        WindowKind::Count(window) => Node::CountWindow(Arc::new(CountWindowSpec {
            window: window.clone(),
            time_column,
            partition,
            answer,
            emit,
            input_schema,
            schema,
        })),
        WindowKind::Punctuation(window) => {
            let name = |column: &usize| input.schema.field(*column).name().clone();
            Node::PunctuationWindow(Arc::new(PunctuationWindowSpec {
                window: window.clone(),
                start: predicate(pending.start),
                end: predicate(pending.end),
                partition_names: partition.iter().map(name).collect(),
                partition,
                answer,
                time_column,
                emit,
                input_schema,
                schema,
            }))
        }
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

/// The names and the schema that aggregates are lowered against: the plan's columns, then those
/// that pairs compute.
fn wide_names(built: &Built, pairs: Option<&Pairs>) -> Result<(DFSchema, SchemaRef), PlanError> {
    let names = built.physical_names()?;
    let width = built.plan.schema.fields().len();
    let Some(pairs) = pairs.filter(|pairs| !pairs.computed.is_empty()) else {
        return Ok((names, Arc::clone(&built.plan.schema)));
    };
    let mut fields: Vec<_> =
        names.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
    fields.extend(pairs.output.fields()[width..].iter().map(|field| (None, Arc::clone(field))));
    let names = DFSchema::new_with_metadata(fields, Default::default()).map_err(from_datafusion)?;
    Ok((names, Arc::clone(&pairs.output)))
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
