//! Numbers the rows of groups in an order: for LIMIT ([`super::limit`]), DISTINCT ON, and row_number().
//!
//! `WHERE row_number <= n` above the numbering becomes part of it, so
//! that only rows which can be among the first n are kept; and where nothing reads the number, rows do
//! not change when only their number does.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::logical_expr::expr::Sort as SortExpr;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, Window};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::scalar::ScalarValue;

use crate::operators::emit::EmitMode;
use crate::operators::expr;
use crate::operators::ranking::RankingSpec;
use crate::planner::error::PlanError;
use crate::planner::over_changes::closed_times;
use crate::planner::over_layers::WindowCall;
use crate::planner::physical::{Facts, Node, PhysicalPlan, StateBound, WindowRole};
use crate::planner::translate::{Built, Slot, Translator, source_column};

impl Translator {
    /// `row_number()` whose order is not that of OVER by event time or log.
    pub(super) fn numbered(
        &self,
        built: Built,
        call: &WindowCall,
        window: &Window,
    ) -> Result<Built, PlanError> {
        let params = &call.params;
        let (plan, mut slots) =
            self.rank(built, &params.partition_by, &params.order_by, (0, None))?;
        slots.push(Slot::Column(plan.schema.fields().len() - 1));
        Ok(Built { plan, schema: Arc::clone(&window.schema), slots, pending: None })
    }

    /// Puts the operator above the input.
    pub(super) fn rank(
        &self,
        mut built: Built,
        partition: &[Expr],
        sorts: &[SortExpr],
        (skip, fetch): (usize, Option<usize>),
    ) -> Result<(PhysicalPlan, Vec<Slot>), PlanError> {
        let kept = built.plan.schema.fields().len();
        let names = built.physical_names()?;
        let mut added: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
        let mut place = |expr: &Expr| -> Result<usize, PlanError> {
            if let Some(column) = built.plain_column(expr) {
                return Ok(column);
            }
            let column = kept + added.len();
            added.push((self.lower(expr, &names)?, format!("__column_{column}")));
            Ok(column)
        };
        let partition: Vec<usize> = partition.iter().map(&mut place).collect::<Result<_, _>>()?;
        let options =
            |sort: &SortExpr| SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
        let order: Vec<(usize, SortOptions)> = sorts
            .iter()
            .map(|sort| Ok((place(&sort.expr)?, options(sort))))
            .collect::<Result<_, PlanError>>()?;
        if !added.is_empty() {
            built.plan = self.append_columns(built.plan, added, None)?;
        }
        let close = self.closing(&built.plan, &partition)?;
        check_types(&built.plan)?;
        let fields = built.plan.schema.fields()[..kept].iter().map(|field| field.as_ref().clone());
        let number = Field::new("__number", DataType::Int64, false);
        let spec = RankingSpec {
            partition,
            order,
            skip,
            fetch,
            numbered: true,
            close,
            input_append_only: built.plan.facts.append_only,
            kept,
            input_schema: Arc::clone(&built.plan.schema),
            schema: Arc::new(Schema::new(fields.chain([number]).collect::<Vec<_>>())),
        };
        let mut plan = PhysicalPlan {
            schema: Arc::clone(&spec.schema),
            facts: built.plan.facts.clone(),
            node: Node::Ranking(Arc::new(spec)),
            state: StateBound::Stateless,
            inputs: vec![built.plan],
        };
        describe_output(&mut plan);
        Ok((plan, built.slots))
    }

    /// The end of the window that groups belong to, where they can be put out once, and how far the
    /// watermark must be behind it.
    pub(super) fn closing(
        &self,
        plan: &PhysicalPlan,
        partition: &[usize],
    ) -> Result<Option<(usize, i64)>, PlanError> {
        if !plan.facts.append_only || self.emit.mode == Some(EmitMode::Changes) {
            return Ok(None);
        }
        let roles = &plan.facts.windows;
        let end = (0..roles.len()).find(|column| {
            roles[*column].is_some_and(|role| !role.is_start())
                && plan.facts.delay_of(*column).is_some()
        });
        let start = roles.iter().position(|role| role.is_some_and(WindowRole::is_start));
        let Some(end) = end else { return Ok(None) };
        let tells = |column: usize| {
            partition.contains(&column) && roles[column].is_some_and(WindowRole::tells_window)
        };
        let is_told = tells(end)
            || start.is_some_and(tells)
            || (partition.contains(&end) && start.is_some_and(|start| partition.contains(&start)));
        if !is_told {
            return Ok(None);
        }
        if matches!(
            self.emit.mode,
            Some(EmitMode::EveryInterval { .. } | EmitMode::EveryRows { .. })
        ) {
            return Err(PlanError::unsupported(
                "EMIT EVERY of the first rows of windows",
                "Use EMIT CHANGES, or EMIT ON CLOSE.",
            ));
        }
        self.emit_taken.set(true);
        let delay = plan.facts.delay_of(end).unwrap_or(0);
        Ok(Some((end, delay.max(self.emit.allowed_lateness))))
    }
}

/// All rows are kept as bytes.
pub(super) fn check_types(plan: &PhysicalPlan) -> Result<(), PlanError> {
    let bad = plan.schema.fields().iter().find(|field| !expr::is_sortable(field.data_type()));
    match bad {
        None => Ok(()),
        Some(field) => Err(PlanError::unsupported(
            format!("column \"{}\" in the first rows of an order", field.name()),
            "Leave the column out, or take its parts as columns of their own.",
        )),
    }
}

/// Says what holds of the output of a ranking, and of the projections and filters above it.
fn describe_output(plan: &mut PhysicalPlan) {
    let below = &plan.inputs[0];
    match &plan.node {
        Node::Ranking(spec) => {
            plan.facts = facts_of(&below.facts, spec);
            plan.state = state_of(below, spec);
        }
        Node::FilterProject(spec) => {
            plan.facts = match &spec.projection {
                None => below.facts.clone(),
                Some(outputs) => {
                    let sources: Vec<_> = outputs.iter().map(|(e, _)| source_column(e)).collect();
                    below.facts.project(&sources)
                }
            };
        }
        _ => {}
    }
}

fn facts_of(input: &Facts, spec: &RankingSpec) -> Facts {
    // Without an order the first rows to come are the first ones for ever.
    let is_final = spec.close.is_some() || (spec.order.is_empty() && spec.input_append_only);
    let all_kept = |columns: &[usize]| columns.iter().all(|column| *column < spec.kept);
    let mut unique_keys = Vec::new();
    if all_kept(&spec.partition) && (spec.numbered || spec.fetch == Some(1)) {
        let mut key = spec.partition.clone();
        key.extend((spec.fetch != Some(1)).then_some(spec.kept));
        if !key.is_empty() {
            unique_keys.push(key);
        }
    }
    unique_keys.extend(input.unique_keys.iter().filter(|key| all_kept(key)).cloned());
    let close = spec.close;
    let event_times = close.map_or(vec![], |close| closed_times(input, spec.kept, close));
    let mut windows = input.windows[..spec.kept].to_vec();
    windows.push(None);
    Facts { append_only: is_final, event_times, unique_keys, windows }
}

fn state_of(input: &PhysicalPlan, spec: &RankingSpec) -> StateBound {
    let rows = match spec.reach() {
        Some(1) if spec.input_append_only => "one row".to_string(),
        Some(reach) if spec.input_append_only => format!("{reach} rows"),
        _ => "all rows".to_string(),
    };
    let name = |column: usize| input.schema.field(column).name();
    if let Some((end, _)) = spec.close {
        return StateBound::Bounded(format!(
            "{rows} per group; rows leave when the watermark passes their {}",
            name(end)
        ));
    }
    match (spec.partition.is_empty(), spec.reach().is_some() && spec.input_append_only) {
        (true, true) => StateBound::Bounded(rows),
        (true, false) => StateBound::Unbounded(rows),
        (false, _) => StateBound::Unbounded(format!("{rows} per group; groups are kept for ever")),
    }
}

/// The node's column with the number of a ranking below projections and filters that pass it on.
fn number_of(plan: &PhysicalPlan) -> Option<usize> {
    match &plan.node {
        Node::Ranking(spec) if spec.numbered => Some(spec.kept),
        Node::FilterProject(spec) => {
            let below = number_of(&plan.inputs[0])?;
            if spec.filter.as_ref().is_some_and(|f| expr::columns_of(f).contains(&below)) {
                return None;
            }
            let Some(outputs) = &spec.projection else { return Some(below) };
            let readers: Vec<usize> = (0..outputs.len())
                .filter(|output| expr::columns_of(&outputs[*output].0).contains(&below))
                .collect();
            match readers.as_slice() {
                [only] if source_column(&outputs[*only].0) == Some(below) => Some(*only),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Changes the ranking that [`number_of`] found.
fn change(plan: &mut PhysicalPlan, how: &dyn Fn(&mut RankingSpec)) {
    match &mut plan.node {
        Node::Ranking(spec) => how(Arc::make_mut(spec)),
        _ => change(&mut plan.inputs[0], how),
    }
    describe_output(plan);
}

/// Lets rows keep still when only their number changes, which nobody reads.
pub(super) fn unnumber(plan: &mut PhysicalPlan) {
    if number_of(plan).is_some() {
        change(plan, &|spec| spec.numbered = false);
    }
}

/// Lets a ranking below forget the numbers that a projection does not read.
pub(super) fn forget_number(plan: &mut PhysicalPlan, outputs: &[(Arc<dyn PhysicalExpr>, String)]) {
    let Some(number) = number_of(plan) else { return };
    if !outputs.iter().any(|(output, _)| expr::columns_of(output).contains(&number)) {
        unnumber(plan);
    }
}

/// Takes a condition on the number of a ranking below into it; whether it did.
pub(super) fn absorb(built: &mut Built, condition: &Expr) -> bool {
    let Some(number) = number_of(&built.plan) else { return false };
    let Some((first, last)) = bounds_of(built, condition, number) else { return false };
    change(&mut built.plan, &|spec| {
        let old_last = spec.reach().unwrap_or(usize::MAX);
        let skip = spec.skip.max(first.saturating_sub(1));
        let last = last.unwrap_or(usize::MAX).min(old_last);
        spec.skip = skip;
        spec.fetch = (last < usize::MAX).then(|| last.saturating_sub(skip));
    });
    true
}

/// The first and the last number that a condition lets through.
fn bounds_of(built: &Built, condition: &Expr, number: usize) -> Option<(usize, Option<usize>)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return None };
    let is_number = |expr: &Expr| match expr {
        Expr::Cast(cast) => built.plain_column(&cast.expr) == Some(number),
        expr => built.plain_column(expr) == Some(number),
    };
    let (bound, op) = match (is_number(left), is_number(right)) {
        (true, false) => (right, *op),
        (false, true) => (left, op.swap()?),
        _ => return None,
    };
    let Expr::Literal(value, _) = bound.as_ref() else { return None };
    if !value.data_type().is_integer() {
        return None;
    }
    let Ok(ScalarValue::Int64(Some(value))) = value.cast_to(&DataType::Int64) else { return None };
    let value = usize::try_from(value).ok()?;
    match op {
        Operator::LtEq => Some((1, Some(value))),
        Operator::Lt => Some((1, Some(value.checked_sub(1)?))),
        Operator::Eq if value > 0 => Some((value, Some(value))),
        Operator::GtEq => Some((value.max(1), None)),
        Operator::Gt => Some((value.checked_add(1)?, None)),
        _ => None,
    }
}

/// The operator in EXPLAIN.
pub(super) fn describe(plan: &PhysicalPlan, spec: &RankingSpec) -> String {
    let input = &plan.inputs[0].schema;
    let name = |column: &usize| input.field(*column).name().as_str();
    let order = spec.order.iter().map(|(column, options)| {
        let nulls = if options.nulls_first == options.descending { "" } else { " nulls apart" };
        format!("{}{}{nulls}", name(column), if options.descending { " desc" } else { "" })
    });
    let last = if spec.input_append_only { "log order" } else { "values" };
    let order: Vec<String> = order.chain([last.to_string()]).collect();
    let rows = match (spec.skip, spec.fetch) {
        (0, None) => "all rows".to_string(),
        (skip, None) => format!("rows from {} on", skip.saturating_add(1)),
        (skip, Some(fetch)) => {
            format!("rows {} to {}", skip.saturating_add(1), skip.saturating_add(fetch))
        }
    };
    let keys: Vec<&str> = spec.partition.iter().map(name).collect();
    let numbered = if spec.numbered { ", numbered" } else { "" };
    let emit = if spec.close.is_some() { "on close" } else { "changes" };
    format!(
        "{rows}{numbered}; order by {}; groups ({}); emit {emit}",
        order.join(", "),
        keys.join(", ")
    )
}
