//! Gives GROUP BY its operator, and checks that the answers can ever be final.
//!
//! A GROUP BY over a pending window becomes the operator of that window's kind. A GROUP BY over the
//! `window_start` and `window_end` of an earlier node is stacked on those windows. Any other GROUP BY
//! keeps its groups for ever and emits changes.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{Aggregate, Expr};

use crate::data::punctuation::name_at;
use crate::error::SqlState;
use crate::operators::aggregate::AggregateOpSpec;
use crate::operators::count_window::CountWindowSpec;
use crate::operators::emit::{EmitMode, EmitSpec, Refinement};
use crate::operators::punctuation_window::PunctuationWindowSpec;
use crate::operators::session_aggregate::SessionAggregateSpec;
use crate::operators::window_aggregate::{WindowAggregateSpec, WindowSource};
use crate::operators::window_answer::{Content, WindowAnswer};
use crate::planner::error::PlanError;
use crate::planner::group_columns::wide_names;
use crate::planner::grouping::{COMPUTED, Input, Part};
use crate::planner::lower_aggregate::lower_aggregate;
use crate::planner::mining_facts::{self, with_summaries};
use crate::planner::physical::{EventTimeColumn, Facts, Node, PhysicalPlan, StateBound};
use crate::planner::translate::{Built, Pending, Translator, column_expr, type_of};
use crate::planner::window_facts::{
    check_grouping, is_append_only, is_landmark, is_one_row_per_group, keeps_arguments,
    lateness_text, operator_columns, shares, window_facts, window_state,
};
use crate::planner::window_node::{WindowColumn, WindowKind};
use crate::planner::window_rows::bound_type;
use crate::planner::windowed::{delayed, describe_source};

impl Translator {
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
        let emit = self.pending_emit(&input.built.plan, &pending, input.outermost)?;
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
        let state = window_state(&pending, &emit, watermarked, shares(&input, &emit));
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
        let roles = &input.built.plan.facts.windows;
        let bounds = [roles[start], roles[end]];
        let delay = input.built.plan.facts.delay_of(end);
        let emit = self.window_emit(input.outermost, None, delay.is_some())?;
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
            append_only: is_append_only(&emit, None) && input.built.plan.facts.append_only,
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
    /// its results are changes. So are those of a window below the outermost that nothing `closes`, where
    /// EMIT CHANGES asks for them.
    pub(super) fn window_emit(
        &self,
        outermost: bool,
        kind: Option<&WindowKind>,
        closes: bool,
    ) -> Result<EmitSpec, PlanError> {
        let below = self.emit.mode.filter(|mode| *mode == EmitMode::Changes && !closes);
        let mode = if outermost { self.emit.mode } else { below };
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
            let name = |column: &usize| name_at(&input.schema, *column);
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
