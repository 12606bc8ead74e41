//! Gives windows and aggregates their operators, and checks that the answers can ever be final.
//!
//! A GROUP BY over a pending window becomes the operator of that window's kind. A GROUP BY over the
//! `window_start` and `window_end` of an earlier node is stacked on those windows. Any other GROUP BY
//! keeps its groups for ever and emits changes.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Aggregate, Expr};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::CastExpr;

use crate::error::SqlState;
use crate::operators::aggregate::AggregateOpSpec;
use crate::operators::aggregates::spec::AggregateSpec;
use crate::operators::count_window::CountWindowSpec;
use crate::operators::emit::{EmitMode, EmitSpec, Refinement};
use crate::operators::punctuation_window::PunctuationWindowSpec;
use crate::operators::session_aggregate::SessionAggregateSpec;
use crate::operators::window_aggregate::{WindowAggregateSpec, WindowSource};
use crate::operators::window_assign::WindowAssignSpec;
use crate::planner::constants::DAY;
use crate::planner::error::{PlanError, from_datafusion};
use crate::planner::lower_aggregate::lower_aggregate;
use crate::planner::physical::{
    EventTimeColumn, Facts, Node, PhysicalPlan, StateBound, WindowRole,
};
use crate::planner::translate::{Built, Pending, Slot, Translator, column_expr, type_of};
use crate::planner::window_node::{
    WINDOW_END, WINDOW_ID, WINDOW_REASON, WINDOW_START, WindowColumn, WindowKind, WindowNode,
    window_time_type,
};
use crate::windows::spec::{Span, TimeWindow, TimeWindowKind};

/// The GROUP BY of an aggregate, sorted out.
struct Grouping {
    /// Per group expression: a window column, or the index into `keys`.
    parts: Vec<Part>,
    /// Physical columns of the keys.
    keys: Vec<usize>,
}

enum Part {
    Window(WindowColumn),
    Key(usize),
}

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
        if let Some(column) = time {
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
        let mut slots = built.slots;
        slots.extend(node.kind.columns().iter().map(|column| Slot::Window(*column)));
        let pending = Pending {
            kind: node.kind.clone(),
            time,
            partition,
            start,
            end,
            row_filter: None,
            window_filters: vec![],
        };
        use datafusion::logical_expr::UserDefinedLogicalNodeCore;
        let schema = Arc::clone(UserDefinedLogicalNodeCore::schema(node));
        Ok(Built { plan: built.plan, schema, slots, pending: Some(pending) })
    }

    /// Windows that close by event time need a watermark on their column, unless every change is
    /// wanted anyway.
    fn check_time(&self, built: &Built, node: &WindowNode, column: usize) -> Result<(), PlanError> {
        let closes_by_time = match &node.kind {
            WindowKind::Time(_) | WindowKind::Session(_) => true,
            WindowKind::Count(window) => window.ordered,
            WindowKind::Punctuation(_) => false,
        };
        let bounded = built.plan.facts.delay_of(column).is_some();
        let open_ended =
            matches!(node.kind, WindowKind::Time(_)) && self.emit.mode == Some(EmitMode::Changes);
        if !closes_by_time || bounded || open_ended {
            return Ok(());
        }
        Err(PlanError::WatermarkRequired {
            relation: describe_source(&built.plan),
            column: built.plan.schema.field(column).name().clone(),
        })
    }

    /// Adds computed columns behind the others; a cast time column keeps its watermark.
    fn append_columns(
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
            return Err(PlanError::unsupported(
                format!("{} without GROUP BY on its window", pending.kind.name()),
                "Group by window_start, window_end (and window_id, and the partition), \
                 and collect rows with array_agg.",
            ));
        };
        let width = built.plan.schema.fields().len();
        let time_type = type_of(&built.plan, time).clone();
        let mut fields: Vec<Field> =
            built.plan.schema.fields().iter().map(|field| Field::clone(field)).collect();
        fields.push(WindowRole::Start.mark(Field::new(WINDOW_START, time_type.clone(), true)));
        fields.push(WindowRole::End.mark(Field::new(WINDOW_END, time_type, true)));
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let mut facts = built.plan.facts.clone();
        let base = facts.delay_of(time);
        facts.unique_key = None;
        facts.windows = vec![None; width];
        facts.windows.extend([Some(WindowRole::Start), Some(WindowRole::End)]);
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
    fn apply_window_filters(
        &self,
        mut built: Built,
        pending: &Pending,
        place: impl Fn(WindowColumn) -> Option<usize>,
    ) -> Result<Built, PlanError> {
        for (condition, named) in &pending.window_filters {
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
                let physical = built.plan.schema.field(column).clone();
                fields[column] = (qualifier.clone(), Arc::new(physical.with_name(field.name())));
            }
            let names =
                DFSchema::new_with_metadata(fields, Default::default()).map_err(from_datafusion)?;
            let filter = self.lower(condition, &names)?;
            built.plan = self.filter_project(built.plan, Some(filter), None)?;
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
        if built.pending.is_some() && (uses_window || !windowed) {
            if !windowed
                && !matches!(built.pending.as_ref().map(|p| &p.kind), Some(WindowKind::Time(_)))
            {
                return Err(PlanError::Window {
                    code: SqlState::WINDOWING,
                    message: "window is not grouped by its columns".into(),
                    hint: Some("Add window_start, window_end and window_id to GROUP BY.".into()),
                });
            }
            built = self.materialize(built)?;
        }
        let grouping = self.grouping(&mut built, &aggregate.group_expr)?;
        let aggr_exprs = self.compute_arguments(&mut built, &aggregate.aggr_expr)?;
        let names = built.physical_names()?;
        let aggregates = aggr_exprs
            .iter()
            .map(|expr| lower_aggregate(self, expr, &names, &built.plan.schema))
            .collect::<Result<Vec<_>, _>>()?;
        let pending = built.pending.take();
        let input = Input { built, grouping, aggregates, outermost };
        match pending {
            Some(pending) => self.pending_aggregate(input, pending, aggregate),
            None => match input.assigned_window() {
                Some(window) => self.stacked_aggregate(input, window, aggregate),
                None => self.unwindowed_aggregate(input, aggregate),
            },
        }
    }

    /// Sorts out the group expressions; computed keys become columns.
    fn grouping(&self, built: &mut Built, exprs: &[Expr]) -> Result<Grouping, PlanError> {
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
    fn compute_arguments(&self, built: &mut Built, exprs: &[Expr]) -> Result<Vec<Expr>, PlanError> {
        let names = built.physical_names()?;
        let width = built.plan.schema.fields().len();
        let mut added: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
        let mut failure = None;
        let mut column_of = |expr: Expr| -> Expr {
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
        let append_only = input.built.plan.facts.append_only;
        if !append_only && !matches!(pending.kind, WindowKind::Time(_)) {
            return Err(PlanError::AppendOnlyRequired {
                what: pending.kind.name().to_string(),
                detail: "Its answer depends on the order and number of rows, and rows of the input can be retracted.".into(),
            });
        }
        if !append_only {
            refuse_retractions(&input.aggregates)?;
        }
        let emit = self.window_emit(input.outermost);
        let columns = operator_columns(&pending.kind);
        let time_type = match pending.time {
            Some(time) => type_of(&input.built.plan, time).clone(),
            None => DataType::Timestamp(TimeUnit::Microsecond, None),
        };
        let schema = input.output_schema(columns, &time_type);
        let facts = window_facts(&pending, &input, &emit, columns.len());
        let state = window_state(&pending, &emit, self.emit.mode);
        let node = self.window_operator(&input, &pending, emit, &schema);
        let built = input.finish(node, schema, facts, state, columns, aggregate);
        self.apply_window_filters(built, &pending, |window| {
            columns.iter().position(|column| *column == window)
        })
    }

    fn window_operator(
        &self,
        input: &Input,
        pending: &Pending,
        emit: EmitSpec,
        schema: &SchemaRef,
    ) -> Node {
        let (keys, aggregates) = (input.grouping.keys.clone(), input.aggregates.clone());
        let input_schema = Arc::clone(&input.built.plan.schema);
        let schema = Arc::clone(schema);
        let (time_column, partition) = (pending.time, pending.partition.clone());
        let predicate = |column: Option<usize>| column.map(|c| column_expr(&input.built.plan, c));
        match &pending.kind {
            WindowKind::Time(window) => Node::WindowAggregate(Arc::new(WindowAggregateSpec {
                window: WindowSource::Time(window.clone()),
                time_column,
                keys,
                aggregates,
                emit,
                input_schema,
                schema,
            })),
            WindowKind::Session(window) => Node::SessionAggregate(Arc::new(SessionAggregateSpec {
                window: window.clone(),
                time_column: time_column.expect("a session window has a time column"),
                partition,
                keys,
                aggregates,
                row_filter: pending.row_filter,
                emit,
                input_schema,
                schema,
            })),
            WindowKind::Count(window) => Node::CountWindow(Arc::new(CountWindowSpec {
                window: window.clone(),
                time_column,
                partition,
                keys,
                aggregates,
                row_filter: pending.row_filter,
                emit,
                input_schema,
                schema,
            })),
            WindowKind::Punctuation(window) => {
                let name = |column: &usize| input.built.plan.schema.field(*column).name().clone();
                Node::PunctuationWindow(Arc::new(PunctuationWindowSpec {
                    window: window.clone(),
                    start: predicate(pending.start),
                    end: predicate(pending.end),
                    partition_names: partition.iter().map(name).collect(),
                    partition,
                    keys,
                    aggregates,
                    row_filter: pending.row_filter,
                    time_column,
                    emit,
                    input_schema,
                    schema,
                }))
            }
        }
    }

    /// GROUP BY over the window columns that an earlier node made.
    fn stacked_aggregate(
        &self,
        mut input: Input,
        (start, end): (usize, usize),
        aggregate: &Aggregate,
    ) -> Result<Built, PlanError> {
        if !input.built.plan.facts.append_only {
            refuse_retractions(&input.aggregates)?;
        }
        let emit = self.window_emit(input.outermost);
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
        let schema = input.output_schema(columns, &time_type);
        let width = schema.fields().len();
        let mut facts = Facts {
            append_only: is_append_only(&emit) && input.built.plan.facts.append_only,
            event_times: vec![],
            unique_key: is_one_row_per_group(emit.mode)
                .then(|| (0..2 + input.grouping.keys.len()).collect()),
            windows: vec![None; width],
        };
        facts.windows[..2].copy_from_slice(&[Some(WindowRole::Start), Some(WindowRole::End)]);
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
        let spec = WindowAggregateSpec {
            window: WindowSource::Assigned { start, end },
            time_column: None,
            keys: input.grouping.keys.clone(),
            aggregates: input.aggregates.clone(),
            emit,
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
        let schema = input.output_schema(&[], &DataType::Null);
        let key_count = input.grouping.keys.len();
        let facts = Facts {
            append_only: !retracts,
            event_times: vec![],
            unique_key: retracts.then(|| (0..key_count).collect()),
            windows: vec![None; schema.fields().len()],
        };
        let state = if key_count == 0 {
            StateBound::Bounded("one group".into())
        } else {
            StateBound::Unbounded("a group is kept for every key that was ever seen".into())
        };
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

    fn window_emit(&self, outermost: bool) -> EmitSpec {
        let mode = if outermost { self.emit.mode } else { None };
        EmitSpec {
            mode: mode.unwrap_or(EmitMode::OnClose),
            allowed_lateness: self.emit.allowed_lateness,
        }
    }
}

/// An aggregate's input with its GROUP BY sorted out.
struct Input {
    built: Built,
    grouping: Grouping,
    aggregates: Vec<AggregateSpec>,
    outermost: bool,
}

impl Input {
    fn window_parts(&self) -> Vec<WindowColumn> {
        self.grouping
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::Window(column) => Some(*column),
                Part::Key(_) => None,
            })
            .collect()
    }

    /// The columns of a window that an earlier node made, when the GROUP BY names one of them.
    fn assigned_window(&self) -> Option<(usize, usize)> {
        let roles = &self.built.plan.facts.windows;
        let grouped = self.grouping.keys.iter().any(|key| roles[*key].is_some());
        let start = roles.iter().position(|role| *role == Some(WindowRole::Start))?;
        let end = roles.iter().position(|role| *role == Some(WindowRole::End))?;
        grouped.then_some((start, end))
    }

    /// Removes the window's columns from the keys and renumbers the rest.
    fn drop_window_keys(&mut self, start: usize, end: usize) {
        let old = std::mem::take(&mut self.grouping.keys);
        let mut renumbered = vec![0; old.len()];
        for (index, column) in old.iter().enumerate() {
            if *column != start && *column != end {
                renumbered[index] = self.grouping.keys.len();
                self.grouping.keys.push(*column);
            }
        }
        for part in &mut self.grouping.parts {
            if let Part::Key(key) = part {
                *key = renumbered[*key];
            }
        }
    }

    /// Window columns, keys, aggregates.
    fn output_schema(&self, columns: &[WindowColumn], time_type: &DataType) -> SchemaRef {
        let mut fields: Vec<Field> = columns
            .iter()
            .map(|column| match column {
                WindowColumn::Start => {
                    WindowRole::Start.mark(Field::new(WINDOW_START, time_type.clone(), true))
                }
                WindowColumn::End => {
                    WindowRole::End.mark(Field::new(WINDOW_END, time_type.clone(), true))
                }
                WindowColumn::Id => Field::new(WINDOW_ID, DataType::Int64, false),
                WindowColumn::Reason => Field::new(WINDOW_REASON, DataType::Utf8View, false),
            })
            .collect();
        for key in &self.grouping.keys {
            fields.push(self.built.plan.schema.field(*key).clone());
        }
        fields.extend(self.aggregates.iter().map(|aggregate| Field::clone(&aggregate.output)));
        Arc::new(Schema::new(fields))
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of the node that it makes")]
    fn finish(
        self,
        node: Node,
        schema: SchemaRef,
        facts: Facts,
        state: StateBound,
        columns: &[WindowColumn],
        aggregate: &Aggregate,
    ) -> Built {
        let keys_from = columns.len();
        let aggregates_from = keys_from + self.grouping.keys.len();
        let mut slots: Vec<Slot> = self
            .grouping
            .parts
            .iter()
            .map(|part| {
                Slot::Column(match part {
                    Part::Key(key) => keys_from + key,
                    Part::Window(window) => {
                        columns.iter().position(|c| c == window).unwrap_or_default()
                    }
                })
            })
            .collect();
        slots.extend((0..self.aggregates.len()).map(|i| Slot::Column(aggregates_from + i)));
        let plan = PhysicalPlan { node, schema, facts, state, inputs: vec![self.built.plan] };
        Built { plan, schema: Arc::clone(&aggregate.schema), slots, pending: None }
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

/// The columns that a GROUP BY must hold for the window's rows to be told apart.
fn check_grouping(
    pending: &Pending,
    grouped: &[WindowColumn],
    keys: &[usize],
) -> Result<(), PlanError> {
    let has = |column: WindowColumn| grouped.contains(&column);
    let missing = match &pending.kind {
        WindowKind::Time(TimeWindow { kind: TimeWindowKind::Cumulate { .. }, .. }) => {
            (!has(WindowColumn::End)).then_some(WINDOW_END)
        }
        WindowKind::Time(_) | WindowKind::Session(_) => {
            (!has(WindowColumn::Start) && !has(WindowColumn::End)).then_some(WINDOW_START)
        }
        WindowKind::Count(_) | WindowKind::Punctuation(_) => {
            (!has(WindowColumn::Id)).then_some(WINDOW_ID)
        }
    };
    if let Some(column) = missing {
        return Err(PlanError::Window {
            code: SqlState::GROUPING,
            message: format!(
                "column \"{column}\" of {} must appear in the GROUP BY clause",
                pending.kind.name()
            ),
            hint: Some(format!("Add {column} to GROUP BY.")),
        });
    }
    if pending.partition.iter().any(|column| !keys.contains(column)) {
        return Err(PlanError::Window {
            code: SqlState::GROUPING,
            message: format!(
                "partition columns of {} must appear in the GROUP BY clause",
                pending.kind.name()
            ),
            hint: Some(
                "Windows are numbered per partition: group by the partition columns, too.".into(),
            ),
        });
    }
    Ok(())
}

/// Windowed min, max and the like cannot take rows back.
fn refuse_retractions(aggregates: &[AggregateSpec]) -> Result<(), PlanError> {
    use crate::operators::aggregates::spec::NativeFunction as Native;
    for aggregate in aggregates {
        match aggregate.native {
            Some(Native::CountRows | Native::Count | Native::Sum | Native::Avg) => {}
            Some(Native::Min | Native::Max) | None => {
                return Err(PlanError::AppendOnlyRequired {
                    what: format!("{} in a window", aggregate.function.name()),
                    detail: "Rows of the input can be retracted, and this aggregate cannot take them back.".into(),
                });
            }
        }
    }
    Ok(())
}

/// The window columns of an operator's output, in its order.
fn operator_columns(kind: &WindowKind) -> &'static [WindowColumn] {
    use WindowColumn::{End, Id, Reason, Start};
    match kind {
        WindowKind::Time(_) | WindowKind::Session(_) => &[Start, End],
        WindowKind::Count(_) => &[Id, Start, End],
        WindowKind::Punctuation(_) => &[Id, Start, End, Reason],
    }
}

/// Whether the result holds one row per window and key. Early results that retract nothing stand beside
/// the later ones.
fn is_one_row_per_group(mode: EmitMode) -> bool {
    match mode {
        EmitMode::OnClose | EmitMode::Changes => true,
        EmitMode::EveryInterval { refinement, .. } | EmitMode::EveryRows { refinement, .. } => {
            refinement == Refinement::Retracting
        }
    }
}

fn is_append_only(emit: &EmitSpec) -> bool {
    match emit.mode {
        EmitMode::OnClose => emit.allowed_lateness == 0,
        EmitMode::Changes => false,
        EmitMode::EveryInterval { refinement, .. } | EmitMode::EveryRows { refinement, .. } => {
            refinement != Refinement::Retracting
        }
    }
}

fn window_facts(pending: &Pending, input: &Input, emit: &EmitSpec, columns: usize) -> Facts {
    let below = &input.built.plan.facts;
    let append_only = is_append_only(emit) && below.append_only;
    let lateness = emit.allowed_lateness;
    let mut event_times = Vec::new();
    // Changes and early results carry windows that are still open: nothing bounds their columns.
    let watermarked = pending.time.is_some_and(|time| below.delay_of(time).is_some());
    if watermarked {
        match &pending.kind {
            WindowKind::Time(window) => {
                event_times.extend(size_max(window).map(|size| EventTimeColumn {
                    column: 0,
                    delay: size.saturating_add(lateness),
                }));
                event_times.push(EventTimeColumn { column: 1, delay: lateness });
            }
            WindowKind::Session(window) => {
                // A session ends a gap after its last row; a correction may reach back further.
                let delay = lateness.saturating_add(window.gap);
                event_times.push(EventTimeColumn { column: 1, delay });
            }
            WindowKind::Count(_) | WindowKind::Punctuation(_) => {}
        }
    }
    let mut windows = vec![None; input_width(input, columns)];
    if matches!(pending.kind, WindowKind::Time(_) | WindowKind::Session(_)) {
        windows[0] = Some(WindowRole::Start);
        windows[1] = Some(WindowRole::End);
    }
    let unique = is_one_row_per_group(emit.mode);
    let key_end = columns + input.grouping.keys.len();
    Facts { append_only, event_times, unique_key: unique.then(|| (0..key_end).collect()), windows }
}

fn input_width(input: &Input, columns: usize) -> usize {
    columns + input.grouping.keys.len() + input.aggregates.len()
}

fn lateness_text(emit: &EmitSpec) -> &'static str {
    if emit.allowed_lateness > 0 { " and the allowed lateness" } else { "" }
}

fn window_state(pending: &Pending, emit: &EmitSpec, mode: Option<EmitMode>) -> StateBound {
    let late = lateness_text(emit);
    match &pending.kind {
        WindowKind::Time(TimeWindow { kind: TimeWindowKind::Landmark { .. }, .. }) => {
            StateBound::Unbounded("a landmark window never closes".into())
        }
        WindowKind::Time(_) if mode == Some(EmitMode::Changes) && pending.time.is_none() => {
            StateBound::Unbounded("no watermark closes the windows".into())
        }
        WindowKind::Time(_) => StateBound::Bounded(format!(
            "one row per slice and key; rows leave when the watermark passes the end of the last window over the slice{late}"
        )),
        WindowKind::Session(_) => StateBound::Bounded(format!(
            "the rows of open sessions; they leave when the watermark passes the end of the session{late}"
        )),
        WindowKind::Count(window) => StateBound::Bounded(format!(
            "at most {} rows per partition; partitions are kept",
            window.size.max(window.slide)
        )),
        WindowKind::Punctuation(window) => match window.max_rows {
            Some(rows) => StateBound::Bounded(format!("at most {rows} rows per open window")),
            None => StateBound::Unbounded(
                "a window is open until a row or punctuation closes it".into(),
            ),
        },
    }
}

/// The greatest width of a window, `None` for landmark windows.
fn size_max(window: &TimeWindow) -> Option<i64> {
    let size = match window.kind {
        TimeWindowKind::Tumble { size }
        | TimeWindowKind::Hop { size, .. }
        | TimeWindowKind::Cumulate { size, .. } => size,
        TimeWindowKind::Landmark { .. } => return None,
    };
    Some(match size {
        Span::Fixed(width) => width,
        // A day has at most 25 hours, a month at most 31 days.
        Span::Days(days) => days.saturating_mul(DAY).saturating_add(DAY / 24 * 3),
        Span::Months(months) => months.saturating_mul(31 * DAY).saturating_add(DAY / 24 * 3),
    })
}

/// Holds the watermark back, so that a window over a delayed column closes only when it is complete.
fn delayed(input: PhysicalPlan, delay: i64) -> PhysicalPlan {
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
fn describe_source(plan: &PhysicalPlan) -> String {
    match &plan.node {
        Node::Source(source) => format!("{} \"{}\"", source.kind.noun(), source.relation),
        _ => plan.inputs.first().map_or_else(|| "its input".into(), describe_source),
    }
}
