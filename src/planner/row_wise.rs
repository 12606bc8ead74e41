//! Translates what passes rows on one by one: projections, filters, UNNEST and UNION ALL.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::DFSchemaRef;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;

use crate::data::schema::remembering_name;
use crate::operators::expr::is_volatile;
use crate::operators::filter_project::FilterProjectSpec;
use crate::operators::unnest::{ListUnnest, UnnestSpec};
use crate::planner::error::{PlanError, from_datafusion};
use crate::planner::join_as_of::marker;
use crate::planner::mining_facts;
use crate::planner::physical::{EventTimeColumn, Facts, Node, PhysicalPlan, StateBound};
use crate::planner::ranking;
use crate::planner::translate::{
    Built, Pending, Slot, Translator, column_expr, columns_of, source_column,
};
use crate::planner::trend_call::is_later;
use crate::planner::window_node::WindowKind;
use crate::planner::window_rows::moved;

impl Translator {
    pub(super) fn project(
        &self,
        mut built: Built,
        exprs: &[Expr],
        schema: &DFSchemaRef,
    ) -> Result<Built, PlanError> {
        if built.pending.is_some()
            && exprs.iter().any(|e| built.plain_window(e).is_none() && built.uses_window(e))
        {
            built = self.materialize(built)?;
        }
        let names = built.physical_names()?;
        let mut outputs: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
        let mut slots = Vec::with_capacity(exprs.len());
        for (expr, field) in exprs.iter().zip(schema.fields()) {
            if let Some(column) = built.plain_window(expr) {
                slots.push(Slot::Window(column));
                continue;
            }
            slots.push(Slot::Column(outputs.len()));
            outputs.push((self.lower(expr, &names)?, field.name().clone()));
        }
        let pending =
            built.pending.take().map(|pending| keep_pending(pending, &built.plan, &mut outputs));
        ranking::forget_number(&mut built.plan, &outputs);
        let plan = self.filter_project(built.plan, None, Some(outputs))?;
        Ok(Built { plan, schema: Arc::clone(schema), slots, pending })
    }

    pub(super) fn filter(&self, mut built: Built, predicate: &Expr) -> Result<Built, PlanError> {
        let mut conjuncts = datafusion::logical_expr::utils::split_conjunction(predicate);
        conjuncts.retain(|conjunct| marker(conjunct).is_none());
        let mut below = Vec::new();
        let mut beside = Vec::new();
        for conjunct in conjuncts {
            let Some(pending) = &built.pending else {
                if !ranking::absorb(&mut built, conjunct) {
                    below.push(conjunct);
                }
                continue;
            };
            let columns = columns_of(conjunct);
            let of_window =
                columns.iter().filter(|column| built.window_column(column).is_some()).count();
            let time_window = matches!(pending.kind, WindowKind::Time(_));
            if of_window == 0 && time_window {
                below.push(conjunct);
            } else if of_window == 0 {
                beside.push(conjunct.clone());
            } else if of_window == columns.len() {
                let named = built.named_window_columns(&columns);
                let pending = built.pending.as_mut().expect("looked at just above");
                pending.window_filters.push((conjunct.clone(), named));
            } else if time_window {
                built = self.materialize(built)?;
                below.push(conjunct);
            } else {
                let condition = built.over_pairs(conjunct)?;
                let pending = built.pending.as_mut().expect("looked at just above");
                pending.pair_filters.push(condition);
            }
        }
        if let Some(condition) = beside.into_iter().reduce(|a, b| a.and(b)) {
            built = self.add_row_filter(built, &condition)?;
        }
        if let Some(condition) = below.into_iter().cloned().reduce(|a, b| a.and(b)) {
            let names = built.physical_names()?;
            let condition = self.lower(&condition, &names)?;
            built.plan = self.filter_project(built.plan, Some(condition), None)?;
        }
        Ok(built)
    }

    pub(super) fn unnest(
        &self,
        built: Built,
        unnest: &datafusion::logical_expr::Unnest,
    ) -> Result<Built, PlanError> {
        let input = self.arrange(built)?;
        let fields: Vec<Field> = unnest
            .schema
            .fields()
            .iter()
            .map(|field| field.as_ref().clone().with_nullable(true))
            .collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let exploded: BTreeSet<usize> = unnest
            .list_type_columns
            .iter()
            .map(|(column, _)| *column)
            .chain(unnest.struct_type_columns.iter().copied())
            .collect();
        let sources: Vec<Option<usize>> = unnest
            .dependency_indices
            .iter()
            .map(|column| (!exploded.contains(column)).then_some(*column))
            .collect();
        let mut facts = input.facts.project(&sources);
        let columns: Vec<usize> = unnest.list_type_columns.iter().map(|(c, _)| *c).collect();
        let (structs, from) = (&unnest.struct_type_columns, &unnest.dependency_indices);
        facts.unique_keys = mining_facts::unnested_keys(&input, &columns, structs, from);
        let lists = unnest.list_type_columns.iter();
        let spec = UnnestSpec {
            lists: lists
                .map(|(column, list)| ListUnnest { column: *column, depth: list.depth })
                .collect(),
            structs: unnest.struct_type_columns.clone(),
            nulls: unnest.options.null_handling,
            dependencies: unnest.dependency_indices.clone(),
            input_schema: Arc::clone(&input.schema),
            schema: Arc::clone(&schema),
        };
        let slots = (0..schema.fields().len()).map(Slot::Column).collect();
        let plan = PhysicalPlan {
            node: Node::Unnest(Arc::new(spec)),
            schema,
            facts,
            state: StateBound::Stateless,
            inputs: vec![input],
        };
        Ok(Built { plan, schema: Arc::clone(&unnest.schema), slots, pending: None })
    }

    pub(super) fn union(
        &self,
        union: &datafusion::logical_expr::Union,
        outermost: bool,
    ) -> Result<Built, PlanError> {
        let mut inputs = Vec::with_capacity(union.inputs.len());
        for input in &union.inputs {
            let built = self.build(input, outermost)?;
            let built = self.materialize(built)?;
            inputs.push(self.arrange(built)?);
        }
        let fields: Vec<Field> = union
            .schema
            .fields()
            .iter()
            .enumerate()
            .map(|(i, f)| Field::new(f.name(), inputs[0].schema.field(i).data_type().clone(), true))
            .collect();
        let width = fields.len();
        let event_times = (0..width)
            .filter_map(|column| {
                let delays: Option<Vec<i64>> =
                    inputs.iter().map(|input| input.facts.delay_of(column)).collect();
                Some(EventTimeColumn { column, delay: delays?.into_iter().max()? })
            })
            .collect();
        let facts = Facts {
            append_only: inputs.iter().all(|input| input.facts.append_only),
            event_times,
            unique_keys: vec![],
            windows: vec![None; width],
        };
        let plan = PhysicalPlan {
            node: Node::Union,
            schema: Arc::new(Schema::new(fields)),
            facts,
            state: StateBound::Stateless,
            inputs,
        };
        let slots = (0..width).map(Slot::Column).collect();
        Ok(Built { plan, schema: Arc::clone(&union.schema), slots, pending: None })
    }

    /// Puts the physical columns into the order of the logical ones and drops the rest.
    pub(super) fn arrange(&self, built: Built) -> Result<PhysicalPlan, PlanError> {
        let wanted: Vec<usize> = built.slots.iter().map(|slot| slot.column()).collect();
        let named_right = built
            .schema
            .fields()
            .iter()
            .zip(built.plan.schema.fields())
            .all(|(logical, physical)| logical.name() == physical.name());
        let identity = wanted.iter().copied().eq(0..built.plan.schema.fields().len());
        if identity && named_right {
            return Ok(built.plan);
        }
        let outputs = wanted
            .iter()
            .zip(built.schema.fields())
            .map(|(column, field)| (column_expr(&built.plan, *column), field.name().clone()))
            .collect();
        self.filter_project(built.plan, None, Some(outputs))
    }

    /// Puts a filter and a projection on top, fused with a bare filter below.
    pub(super) fn filter_project(
        &self,
        input: PhysicalPlan,
        filter: Option<Arc<dyn PhysicalExpr>>,
        projection: Option<Vec<(Arc<dyn PhysicalExpr>, String)>>,
    ) -> Result<PhysicalPlan, PlanError> {
        let (input, filter) = match (input, filter) {
            (PhysicalPlan { node: Node::FilterProject(spec), mut inputs, .. }, None)
                if spec.projection.is_none() =>
            {
                (inputs.swap_remove(0), spec.filter.clone())
            }
            (input, filter) => (input, filter),
        };
        refuse_row_clock(&input, filter.iter().chain(projection.iter().flatten().map(|(e, _)| e)))?;
        let Some(outputs) = projection else {
            let spec = FilterProjectSpec {
                filter,
                projection: None,
                input_schema: Arc::clone(&input.schema),
                schema: Arc::clone(&input.schema),
            };
            return Ok(PhysicalPlan {
                node: Node::FilterProject(Arc::new(spec)),
                schema: Arc::clone(&input.schema),
                facts: input.facts.clone(),
                state: StateBound::Stateless,
                inputs: vec![input],
            });
        };
        let schema = projected_schema(&outputs, &input.schema)?;
        let sources: Vec<Option<usize>> = outputs.iter().map(|(e, _)| source_column(e)).collect();
        let mut facts = input.facts.project(&sources);
        let later = |(column, (expr, _)): (usize, &(Arc<dyn PhysicalExpr>, String))| {
            let earlier = source_column(is_later(expr)?)?;
            Some(EventTimeColumn { column, delay: input.facts.delay_of(earlier)? })
        };
        facts.event_times.extend(outputs.iter().enumerate().filter_map(later));
        let spec = FilterProjectSpec {
            filter,
            projection: Some(outputs),
            input_schema: Arc::clone(&input.schema),
            schema: Arc::clone(&schema),
        };
        Ok(PhysicalPlan {
            node: Node::FilterProject(Arc::new(spec)),
            schema,
            facts,
            state: StateBound::Stateless,
            inputs: vec![input],
        })
    }
}

/// A row is taken back at another moment than the one at which it came.
fn refuse_row_clock<'a>(
    input: &PhysicalPlan,
    mut expressions: impl Iterator<Item = &'a Arc<dyn PhysicalExpr>>,
) -> Result<(), PlanError> {
    match !input.facts.append_only && expressions.any(is_volatile) {
        true => Err(PlanError::unsupported(
            "now() over rows that are taken back",
            "Compare with a column that holds the time.",
        )),
        false => Ok(()),
    }
}

/// What columns that only a window needs are called.
const KEPT: &str = "__window_";

/// Keeps the physical columns that a pending window needs alive through a projection.
fn keep_pending(
    pending: Pending,
    input: &PhysicalPlan,
    outputs: &mut Vec<(Arc<dyn PhysicalExpr>, String)>,
) -> Pending {
    let mut keep = |column: usize| -> usize {
        let present = outputs.iter().position(|(expr, _)| source_column(expr) == Some(column));
        present.unwrap_or_else(|| {
            outputs.push((column_expr(input, column), format!("{KEPT}{column}")));
            outputs.len() - 1
        })
    };
    Pending {
        time: pending.time.map(&mut keep),
        time_name: pending.time_name,
        partition: pending.partition.into_iter().map(&mut keep).collect(),
        start: pending.start.map(&mut keep),
        end: pending.end.map(&mut keep),
        row_filter: pending.row_filter.map(&mut keep),
        pair_filters: pending.pair_filters.into_iter().map(|e| moved(e, &mut keep)).collect(),
        kind: pending.kind,
        window_filters: pending.window_filters,
        outermost: pending.outermost,
    }
}

fn projected_schema(
    outputs: &[(Arc<dyn PhysicalExpr>, String)],
    input: &SchemaRef,
) -> Result<SchemaRef, PlanError> {
    let mut fields = Vec::with_capacity(outputs.len());
    for (expr, name) in outputs {
        let field = expr.return_field(input).map_err(from_datafusion)?;
        let mut named = Field::clone(&field).with_name(name);
        if name.starts_with(KEPT) && source_column(expr).is_some() {
            named = remembering_name(named, &field);
        }
        fields.push(named);
    }
    Ok(Arc::new(Schema::new(fields)))
}
