//! Puts out the rows of session, count and punctuation windows, and reads rows and windows together.
//!
//! Without a GROUP BY on its columns such a window gives its rows, each beside the columns of its
//! window, when the window closes. What reads a row and its window together (a condition, the
//! argument of an aggregate, a key) is kept as a logical expression over names of its own until the
//! operator is built: by then projections have moved the columns.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::Expr;

use crate::operators::emit::{EmitMode, EmitSpec};
use crate::operators::window_answer::{Content, Pairs, WindowAnswer};
use crate::planner::error::{PlanError, from_datafusion};
use crate::planner::group_by::window_operator;
use crate::planner::physical::{EventTimeColumn, Facts, PhysicalPlan, WindowRole};
use crate::planner::translate::{Built, Pending, Slot, Translator, type_of};
use crate::planner::window_facts::{is_append_only, operator_columns, window_state};
use crate::planner::window_node::{
    WINDOW_END, WINDOW_ID, WINDOW_REASON, WINDOW_START, WindowColumn, WindowKind,
};
use crate::planner::windowed::{closes_by_time, describe_source};

/// The name of a physical column in expressions over pairs.
fn column_name(column: usize) -> String {
    format!("__column_{column}")
}

/// The name of a window's column in expressions over pairs.
fn window_name(column: WindowColumn) -> &'static str {
    match column {
        WindowColumn::Start => "__of_window_start",
        WindowColumn::End => "__of_window_end",
        WindowColumn::Id => "__of_window_id",
        WindowColumn::Reason => "__of_window_reason",
    }
}

/// The name of the column that holds a computed expression over pairs.
pub(super) fn computed_name(index: usize) -> String {
    format!("__pair_{index}")
}

/// A field of the window's, as operators put it out.
pub(super) fn window_field(column: WindowColumn, kind: &WindowKind, time_type: &DataType) -> Field {
    let time = |name: &str| Field::new(name, time_type.clone(), true);
    match column {
        WindowColumn::Start => match WindowRole::start_of(kind) {
            Some(role) => role.mark(time(WINDOW_START)),
            None => time(WINDOW_START),
        },
        WindowColumn::End => match WindowRole::end_of(kind) {
            Some(role) => role.mark(time(WINDOW_END)),
            None => time(WINDOW_END),
        },
        WindowColumn::Id => Field::new(WINDOW_ID, DataType::Int64, false),
        // Null while the window is open.
        WindowColumn::Reason => Field::new(WINDOW_REASON, DataType::Utf8View, true),
    }
}

/// The type of a pending window's bounds.
pub(super) fn bound_type(plan: &PhysicalPlan, pending: &Pending) -> DataType {
    match pending.time {
        Some(time) => type_of(plan, time).clone(),
        None => DataType::Timestamp(TimeUnit::Microsecond, None),
    }
}

impl Built {
    /// An expression over rows and the pending window in names that outlive projections.
    pub(super) fn over_pairs(&self, expr: &Expr) -> Result<Expr, PlanError> {
        let renamed = expr.clone().transform(|node| {
            let Expr::Column(column) = &node else { return Ok(Transformed::no(node)) };
            let Some(index) = self.schema.maybe_index_of_column(column) else {
                return Ok(Transformed::no(node));
            };
            let name = match self.slots[index] {
                Slot::Column(column) => column_name(column),
                Slot::Window(window) => window_name(window).to_string(),
            };
            Ok(Transformed::yes(Expr::Column(Column::new_unqualified(name))))
        });
        Ok(renamed.map_err(from_datafusion)?.data)
    }
}

/// An expression over pairs after a projection; `keep` tells where a column went.
pub(super) fn moved(expr: Expr, keep: &mut impl FnMut(usize) -> usize) -> Expr {
    let moved = expr.transform(|node| {
        let Expr::Column(column) = &node else { return Ok(Transformed::no(node)) };
        let number = column.name.strip_prefix("__column_").and_then(|n| n.parse().ok());
        let Some(number) = number else { return Ok(Transformed::no(node)) };
        let name = column_name(keep(number));
        Ok(Transformed::yes(Expr::Column(Column::new_unqualified(name))))
    });
    moved.expect("renaming columns cannot fail").data
}

impl Translator {
    /// What an operator is told of the expressions over pairs: the window's conditions, and
    /// `computed` columns.
    pub(super) fn pairs(
        &self,
        plan: &PhysicalPlan,
        pending: &Pending,
        computed: &[Expr],
    ) -> Result<Option<Arc<Pairs>>, PlanError> {
        if pending.pair_filters.is_empty() && computed.is_empty() {
            return Ok(None);
        }
        let time_type = bound_type(plan, pending);
        let mut fields: Vec<Arc<Field>> = plan.schema.fields().iter().map(Arc::clone).collect();
        let width = fields.len();
        let mut names: Vec<_> = (0..width)
            .map(|column| {
                (None, Arc::new(fields[column].as_ref().clone().with_name(column_name(column))))
            })
            .collect();
        for column in operator_columns(&pending.kind) {
            let field = window_field(*column, &pending.kind, &time_type).with_nullable(true);
            names.push((None, Arc::new(field.clone().with_name(window_name(*column)))));
            fields.push(Arc::new(field));
        }
        let names =
            DFSchema::new_with_metadata(names, Default::default()).map_err(from_datafusion)?;
        let schema: SchemaRef = Arc::new(Schema::new(fields.clone()));
        let condition = pending.pair_filters.iter().cloned().reduce(|a, b| a.and(b));
        let filter = condition.map(|condition| self.lower(&condition, &names)).transpose()?;
        let computed: Vec<_> =
            computed.iter().map(|expr| self.lower(expr, &names)).collect::<Result<_, _>>()?;
        fields.truncate(width);
        for (index, expr) in computed.iter().enumerate() {
            let data_type = expr.data_type(&schema).map_err(from_datafusion)?;
            fields.push(Arc::new(Field::new(computed_name(index), data_type, true)));
        }
        let output = Arc::new(Schema::new(fields));
        Ok(Some(Arc::new(Pairs { computed, filter, schema, output })))
    }

    /// Puts out the rows of a pending session, count or punctuation window.
    pub(super) fn materialize_rows(
        &self,
        mut built: Built,
        pending: Pending,
    ) -> Result<Built, PlanError> {
        self.check_input(&built.plan, &pending.kind)?;
        let width = built.plan.schema.fields().len();
        let columns = operator_columns(&pending.kind);
        let emit = self.pending_emit(&built.plan, &pending, pending.outermost)?;
        let time_type = bound_type(&built.plan, &pending);
        let input_fields = built.plan.schema.fields().iter();
        let mut fields: Vec<Field> = input_fields.map(|field| WindowRole::unmark(field)).collect();
        fields
            .extend(columns.iter().map(|column| window_field(*column, &pending.kind, &time_type)));
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let mut windows = vec![None; width];
        windows.extend(schema.fields()[width..].iter().map(|field| WindowRole::of_field(field)));
        let mut event_times = Vec::new();
        let watermarked =
            pending.time.is_some_and(|time| built.plan.facts.delay_of(time).is_some());
        if watermarked && matches!(pending.kind, WindowKind::Session(_)) {
            event_times
                .push(EventTimeColumn { column: width + 1, delay: self.emit.allowed_lateness });
        }
        let facts = Facts {
            append_only: is_append_only(&emit, Some(&pending.kind)) && built.plan.facts.append_only,
            event_times,
            unique_keys: vec![],
            windows,
        };
        let state = window_state(&pending, &emit, watermarked, false);
        let answer = WindowAnswer {
            content: Content::Rows,
            row_filter: pending.row_filter,
            pairs: self.pairs(&built.plan, &pending, &[])?,
        };
        let node = window_operator(&built.plan, &pending, answer, emit, &schema);
        built.plan = PhysicalPlan { node, schema, facts, state, inputs: vec![built.plan] };
        let place = |window: WindowColumn| {
            columns.iter().position(|column| *column == window).map(|place| width + place)
        };
        for slot in &mut built.slots {
            if let Slot::Window(window) = *slot {
                *slot = Slot::Column(place(window).unwrap_or_default());
            }
        }
        self.apply_window_filters(built, &pending, place)
    }

    /// When the results of a pending window appear. Windows without a watermark on their column never close:
    /// all that can be asked of them is every change.
    pub(super) fn pending_emit(
        &self,
        plan: &PhysicalPlan,
        pending: &Pending,
        outermost: bool,
    ) -> Result<EmitSpec, PlanError> {
        let bounded = pending.time.is_some_and(|time| plan.facts.delay_of(time).is_some());
        let closes = bounded || !closes_by_time(&pending.kind);
        let emit = self.window_emit(outermost, Some(&pending.kind), closes)?;
        if closes || emit.mode == EmitMode::Changes {
            return Ok(emit);
        }
        Err(PlanError::WatermarkRequired {
            relation: describe_source(plan),
            column: pending.time_name.clone(),
        })
    }

    /// Windows that depend on the order and number of rows cannot take rows back.
    pub(super) fn check_input(
        &self,
        plan: &PhysicalPlan,
        kind: &WindowKind,
    ) -> Result<(), PlanError> {
        if plan.facts.append_only || matches!(kind, WindowKind::Time(_) | WindowKind::Session(_)) {
            return Ok(());
        }
        Err(PlanError::AppendOnlyRequired {
            what: kind.name().to_string(),
            detail: "Its answer depends on the order and number of rows, and rows of the input can be retracted.".into(),
        })
    }

    /// A clause that no operator took is harmless where every row is final as it comes, and means
    /// nothing where rows are taken back.
    pub(super) fn check_emit_was_taken(&self, plan: &PhysicalPlan) -> Result<(), PlanError> {
        let (clause, hint) = match self.emit.mode {
            None | Some(EmitMode::Changes) => return Ok(()),
            Some(EmitMode::OnClose) => (
                "EMIT ON CLOSE needs a window to close",
                "Group by window_start and window_end of a window function, or use EMIT CHANGES.",
            ),
            Some(EmitMode::EveryInterval { .. } | EmitMode::EveryRows { .. }) => (
                "EMIT EVERY needs groups that have early results",
                "Put EMIT EVERY where the rows are grouped, or use EMIT CHANGES.",
            ),
        };
        if self.emit_taken.get() || plan.facts.append_only {
            return Ok(());
        }
        Err(PlanError::Window {
            code: crate::error::SqlState::WINDOWING,
            message: clause.into(),
            hint: Some(hint.into()),
        })
    }
}
