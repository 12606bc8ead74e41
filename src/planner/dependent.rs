//! Spreads a subquery over a domain, node by node: the dependent join of Neumann and Kemper.
//!
//! The domain is joined to the leaves of the subquery, and goes with its rows up to its top: there each row of it
//! stands once for every row of the domain for which the subquery has it. What refers to the row outside on the
//! way refers to the columns of the domain beside it instead. GROUP BY, PARTITION BY and joins of two parts that
//! both have the domain take its columns as keys.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, JoinConstraint, JoinType, NullEquality, Result, ScalarValue};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, Filter, Join, LogicalPlan, LogicalPlanBuilder, Projection, Sort,
    SubqueryAlias, Union, Unnest, Values, Window, cast, lit,
};

use crate::planner::domain::{Domain, HINT, Spread, own, place_of};
use crate::planner::error::PlanError;
use crate::planner::outer_references::{Resolution, refers_outside};
use crate::planner::row_numbers::{first_of_groups, limited};

impl Domain<'_> {
    /// The rows that a part of the subquery has, for each row of the domain.
    pub(super) fn spread(&mut self, plan: LogicalPlan) -> Result<Spread> {
        if matches!(&plan, LogicalPlan::EmptyRelation(one) if one.produce_one_row) {
            return self.copy();
        }
        if !refers_outside(&plan)? {
            let Spread { plan: rows, copy } = self.copy()?;
            let plan = LogicalPlanBuilder::from(rows).cross_join(plan)?.build()?;
            return Ok(Spread { plan, copy });
        }
        match plan {
            LogicalPlan::Filter(filter) => {
                let own = Arc::clone(filter.input.schema());
                let below = self.spread(Arc::unwrap_or_clone(filter.input))?;
                let predicate = self.resolved(filter.predicate, &own, &below)?;
                let plan = Filter::try_new(predicate, Arc::new(below.plan))?;
                Ok(Spread { plan: LogicalPlan::Filter(plan), copy: below.copy })
            }
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => {
                let below = self.spread(Arc::unwrap_or_clone(input))?;
                let plan = SubqueryAlias::try_new(Arc::new(below.plan), alias)?;
                Ok(Spread { plan: LogicalPlan::SubqueryAlias(plan), copy: below.copy })
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let below = self.spread(Arc::unwrap_or_clone(input))?;
                let plan = LogicalPlan::Distinct(Distinct::All(Arc::new(below.plan)));
                Ok(Spread { plan, copy: below.copy })
            }
            LogicalPlan::Sort(Sort { input, fetch: None, .. }) => {
                self.spread(Arc::unwrap_or_clone(input))
            }
            LogicalPlan::Distinct(Distinct::On(on)) => self.spread(first_of_groups(on, false)?),
            LogicalPlan::Limit(limit) => self.spread(limited(&limit)?),
            LogicalPlan::Unnest(Unnest { input, exec_columns, options, .. }) => {
                let below = self.spread(Arc::unwrap_or_clone(input))?;
                let plan = Unnest::try_new(Arc::new(below.plan), exec_columns, options)?;
                Ok(Spread { plan: LogicalPlan::Unnest(plan), copy: below.copy })
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Values(values) => self.spread(rows_of(values)?),
            other => {
                let what = format!("{} in a correlated subquery of this form", in_words(&other));
                Err(PlanError::unsupported(&what, HINT).into())
            }
        }
    }

    fn projection(&mut self, projection: Projection) -> Result<Spread> {
        let own = Arc::clone(projection.input.schema());
        let below = self.spread(Arc::unwrap_or_clone(projection.input))?;
        let names = NamePreserver::new_for_projection();
        let mut columns = Vec::new();
        for expr in projection.expr {
            let name = names.save(&expr);
            columns.push(name.restore(self.resolved(expr, &own, &below)?));
        }
        columns.extend(self.carried(&below.plan, below.copy)?);
        let plan = Projection::try_new(columns, Arc::new(below.plan))?;
        Ok(Spread { plan: LogicalPlan::Projection(plan), copy: below.copy })
    }

    fn aggregate(&mut self, aggregate: Aggregate) -> Result<Spread> {
        let Aggregate { input, group_expr, aggr_expr, .. } = aggregate;
        if group_expr.iter().any(|key| matches!(key, Expr::GroupingSet(_))) {
            let what = "GROUPING SETS in a correlated subquery of this form";
            return Err(PlanError::unsupported(what, HINT).into());
        }
        if aggr_expr.iter().any(aggregates_outside) {
            let what = "an aggregate of nothing but columns outside of its subquery";
            let hint = "Take the aggregate in the query that has the columns.";
            return Err(PlanError::unsupported(what, hint).into());
        }
        let own = Arc::clone(input.schema());
        let below = self.spread(Arc::unwrap_or_clone(input))?;
        let names = NamePreserver::new_for_projection();
        let mut resolve = |expr: Expr| -> Result<Expr> {
            let name = names.save(&expr);
            Ok(name.restore(self.resolved(expr, &own, &below)?))
        };
        let mut keys = group_expr.into_iter().map(&mut resolve).collect::<Result<Vec<_>>>()?;
        let calls = aggr_expr.into_iter().map(&mut resolve).collect::<Result<Vec<_>>>()?;
        let is_one_group = keys.is_empty();
        keys.extend(self.carried(&below.plan, below.copy)?);
        let grouped = Aggregate::try_new(Arc::new(below.plan), keys, calls.clone())?;
        let grouped = Spread { plan: LogicalPlan::Aggregate(grouped), copy: below.copy };
        match is_one_group {
            true => self.with_empty_groups(grouped, &calls),
            false => Ok(grouped),
        }
    }

    /// Without GROUP BY there is a row where there are none to aggregate, too.
    fn with_empty_groups(&mut self, grouped: Spread, calls: &[Expr]) -> Result<Spread> {
        let all = self.copy()?;
        let on = self.same_rows(&all, &grouped)?;
        let copy = all.copy;
        let joined = LogicalPlan::Join(Join::try_new(
            Arc::new(all.plan),
            Arc::new(grouped.plan),
            on,
            None,
            JoinType::Left,
            JoinConstraint::On,
            NullEquality::NullEqualsNothing,
            false,
        )?);
        let mut columns = Vec::new();
        for call in calls {
            let name = call.schema_name().to_string();
            let value = own(&joined, &name)?;
            let none = match call.clone().unalias() {
                Expr::AggregateFunction(call) => {
                    let (_, field) = joined.schema().qualified_field(place_of(&joined, &name)?);
                    call.func.default_value(field.data_type())?
                }
                _ => ScalarValue::Null,
            };
            columns.push(match none.is_null() {
                true => value,
                false => coalesce(vec![value, lit(none)]).alias(name),
            });
        }
        columns.extend(self.carried(&joined, copy)?);
        let plan = Projection::try_new(columns, Arc::new(joined))?;
        Ok(Spread { plan: LogicalPlan::Projection(plan), copy })
    }

    fn same_rows(&self, left: &Spread, right: &Spread) -> Result<Vec<(Expr, Expr)>> {
        let keys = self.keys(left.copy)?.into_iter().zip(self.keys(right.copy)?);
        keys.map(|(l, r)| Ok((own(&left.plan, &l)?, own(&right.plan, &r)?))).collect()
    }

    fn join(&mut self, join: Join) -> Result<Spread> {
        use JoinType::{Full, Inner, Left, LeftAnti, LeftSemi, Right};
        let columns = join.schema.columns();
        let own_columns = merge_schema(&[&join.left, &join.right]);
        let kind = join.join_type;
        if !matches!(kind, Inner | Left | Right | Full | LeftSemi | LeftAnti) {
            let what = "a join of this kind in a correlated subquery of this form";
            return Err(PlanError::unsupported(what, HINT).into());
        }
        let (of_left, of_right) = (refers_outside(&join.left)?, refers_outside(&join.right)?);
        let needs_left = matches!(kind, Left | Full | LeftSemi | LeftAnti);
        let needs_right = matches!(kind, Right | Full);
        let spreads_left = of_left || needs_left || !(of_right || needs_right);
        let spreads_right = of_right || needs_right;
        let mut side = |plan: Arc<LogicalPlan>, spreads: bool| -> Result<Option<Spread>> {
            spreads.then(|| self.spread(Arc::unwrap_or_clone(plan))).transpose()
        };
        let left = side(Arc::clone(&join.left), spreads_left)?;
        let right = side(Arc::clone(&join.right), spreads_right)?;
        let mut on = join.on;
        if let (Some(left), Some(right)) = (&left, &right) {
            on.extend(self.same_rows(left, right)?);
        }
        let copies = (left.as_ref().map(|side| side.copy), right.as_ref().map(|side| side.copy));
        let left_plan = left.map_or(join.left, |side| Arc::new(side.plan));
        let right_plan = right.map_or(join.right, |side| Arc::new(side.plan));
        let (from, copy) = match (copies, kind) {
            ((_, Some(copy)), Right) | ((None, Some(copy)), _) => (&right_plan, copy),
            ((Some(copy), _), _) => (&left_plan, copy),
            ((None, None), _) => return Err(PlanError::unsupported("this join", HINT).into()),
        };
        let resolve = |expr: Expr| self.resolved_by(expr, &own_columns, (from, copy));
        let mut pairs = Vec::new();
        for (l, r) in on {
            pairs.push((resolve(l)?, resolve(r)?));
        }
        let filter = join.filter.map(resolve).transpose()?;
        let joined = LogicalPlan::Join(Join::try_new(
            left_plan,
            right_plan,
            pairs,
            filter,
            kind,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )?);
        let (Full, (Some(left), Some(right))) = (kind, copies) else {
            return Ok(Spread { plan: joined, copy });
        };
        // Either side may have no row: what one lacks the other has.
        let mut columns: Vec<Expr> = columns.into_iter().map(Expr::Column).collect();
        for (l, r) in self.names(left)?.into_iter().zip(self.names(right)?) {
            let both = vec![own(&joined, &l)?, own(&joined, &r)?];
            columns.push(coalesce(both).alias(l));
        }
        let plan = Projection::try_new(columns, Arc::new(joined))?;
        Ok(Spread { plan: LogicalPlan::Projection(plan), copy: left })
    }

    fn union(&mut self, union: Union) -> Result<Spread> {
        let mut inputs = Vec::new();
        let mut first = None;
        for input in union.inputs {
            let mut columns: Vec<Expr> =
                input.schema().columns().into_iter().map(Expr::Column).collect();
            let below = self.spread(Arc::unwrap_or_clone(input))?;
            let copy = *first.get_or_insert(below.copy);
            let carried = self.carried(&below.plan, below.copy)?.into_iter();
            columns.extend(carried.zip(self.names(copy)?).map(|(column, name)| column.alias(name)));
            let plan = Projection::try_new(columns, Arc::new(below.plan))?;
            inputs.push(Arc::new(LogicalPlan::Projection(plan)));
        }
        let plan = LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?);
        Ok(Spread { plan, copy: first.unwrap_or_default() })
    }

    fn window(&mut self, window: Window) -> Result<Spread> {
        let own = Arc::clone(window.input.schema());
        let below = self.spread(Arc::unwrap_or_clone(window.input))?;
        let carried = self.carried(&below.plan, below.copy)?;
        let names = NamePreserver::new_for_projection();
        let mut calls = Vec::new();
        for call in window.window_expr {
            let name = names.save(&call);
            let parted = self.resolved(call, &own, &below)?.transform_down(|part| match part {
                Expr::WindowFunction(mut call) => {
                    let WindowFunction { params, .. } = call.as_mut();
                    params.partition_by.extend(carried.iter().cloned());
                    Ok(Transformed::yes(Expr::WindowFunction(call)))
                }
                part => Ok(Transformed::no(part)),
            })?;
            calls.push(name.restore(parted.data));
        }
        let plan = Window::try_new(calls, Arc::new(below.plan))?;
        Ok(Spread { plan: LogicalPlan::Window(plan), copy: below.copy })
    }

    fn resolved(&self, expr: Expr, own: &DFSchema, below: &Spread) -> Result<Expr> {
        self.resolved_by(expr, own, (&below.plan, below.copy))
    }

    /// An expression over the columns of `own`, with the columns of a copy for what it refers to outside.
    fn resolved_by(
        &self,
        expr: Expr,
        own_columns: &DFSchema,
        (plan, copy): (&LogicalPlan, usize),
    ) -> Result<Expr> {
        let mut found = Vec::new();
        for (place, (_, column)) in self.references.iter().enumerate() {
            let Expr::Column(own) = own(plan, &Domain::name(place, copy))? else { continue };
            found.push((column.clone(), own));
        }
        Resolution::of(found).expr(expr, own_columns)
    }
}

/// Whether the SQL standard takes an aggregate for one of the query around.
fn aggregates_outside(call: &Expr) -> bool {
    match call.clone().unalias() {
        Expr::AggregateFunction(call) => {
            let args = &call.params.args;
            args.iter().any(Expr::contains_outer) && !args.iter().any(Expr::any_column_refs)
        }
        _ => false,
    }
}

/// Rows of VALUES as SELECTs without FROM.
pub(super) fn rows_of(values: Values) -> Result<LogicalPlan> {
    let fields = values.schema.fields().iter();
    let names: Vec<(&str, &DataType)> =
        fields.map(|f| (f.name().as_str(), f.data_type())).collect();
    let row = |row: Vec<Expr>| {
        let columns = row.into_iter().zip(&names);
        let columns =
            columns.map(|(value, (name, kind))| cast(value, DataType::clone(kind)).alias(*name));
        LogicalPlanBuilder::empty(true).project(columns)?.build().map(Arc::new)
    };
    let mut rows = values.values.into_iter().map(row).collect::<Result<Vec<_>>>()?;
    Ok(match rows.len() {
        1 => Arc::unwrap_or_clone(rows.remove(0)),
        _ => LogicalPlan::Union(Union { inputs: rows, schema: values.schema }),
    })
}

fn in_words(plan: &LogicalPlan) -> &'static str {
    match plan {
        LogicalPlan::Subquery(_) => "LATERAL",
        LogicalPlan::Sort(_) => "ORDER BY",
        LogicalPlan::Extension(_) => "a window function",
        _ => "what stands",
    }
}
