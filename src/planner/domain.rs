//! Asks a subquery for all rows outside at once, and picks what belongs to one.
//!
//! The rows outside that a subquery can tell apart are its domain: the distinct values of what it refers to.
//! [`Domain::spread`] gives the subquery's rows for each of them.
//!
//! A key must not be null: a column that may be has two keys, its value or a constant, and whether it is null.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, DataFusionError, Result, ScalarValue};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};

use crate::planner::error::PlanError;
use crate::planner::outer_references::Reference;

pub(super) const HINT: &str = "Write a join with the relation instead.";

/// The rows outside that a subquery can tell apart.
pub(super) struct Domain<'a> {
    pub(super) references: Vec<Reference>,
    outside: &'a LogicalPlan,
    /// How often a domain was written down: each copy has columns of its own.
    copies: &'a mut usize,
}

/// A part of the subquery, with the columns of one copy of the domain beside its own.
pub(super) struct Spread {
    pub(super) plan: LogicalPlan,
    pub(super) copy: usize,
}

impl<'a> Domain<'a> {
    /// That of what is referred to in the rows of `outside`.
    pub(super) fn new(
        references: Vec<Reference>,
        outside: &'a LogicalPlan,
        copies: &'a mut usize,
    ) -> Domain<'a> {
        Domain { references, outside, copies }
    }

    /// A subquery with the same rows, whose only correlated conditions are equalities above all else.
    pub(super) fn picked(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let Spread { plan, copy } = self.spread(plan)?;
        let outside = |(field, column): &Reference| {
            Expr::OuterReferenceColumn(Arc::clone(field), column.clone())
        };
        let same = self.same_values(&plan, copy, outside)?.into_iter();
        let conditions = same.map(|(value, key)| key.eq(value)).collect::<Vec<_>>();
        let picked = LogicalPlanBuilder::from(plan);
        let condition = conjunction(conditions).unwrap_or_else(|| lit(true));
        picked.filter(condition)?.project(columns)?.build()
    }

    /// What must be equal for a row of the subquery to belong to one outside: values of what `outside` makes of a
    /// reference, and the keys in a plan that has them.
    pub(super) fn same_values(
        &self,
        plan: &LogicalPlan,
        copy: usize,
        outside: impl Fn(&Reference) -> Expr,
    ) -> Result<Vec<(Expr, Expr)>> {
        let mut pairs = Vec::new();
        for (place, reference) in self.references.iter().enumerate() {
            let keys = self.keys_of(place, copy)?;
            let values = self.key_values(place, outside(reference))?;
            for (key, value) in keys.into_iter().zip(values) {
                pairs.push((value, own(plan, &key)?));
            }
        }
        Ok(pairs)
    }

    /// The name of a column of the domain.
    pub(super) fn name(place: usize, copy: usize) -> String {
        format!("__outer_{copy}_{place}")
    }

    fn is_nullable(&self, place: usize) -> Result<bool> {
        let (_, column) = &self.references[place];
        let (_, field) = self.outside.schema().qualified_field_from_column(column)?;
        Ok(field.is_nullable())
    }

    /// The names of the keys of a column.
    fn keys_of(&self, place: usize, copy: usize) -> Result<Vec<String>> {
        let name = Domain::name(place, copy);
        Ok(match self.is_nullable(place)? {
            true => vec![format!("{name}_value"), format!("{name}_null")],
            false => vec![name],
        })
    }

    /// The keys of a column's value.
    fn key_values(&self, place: usize, value: Expr) -> Result<Vec<Expr>> {
        if !self.is_nullable(place)? {
            return Ok(vec![value]);
        }
        let is_null = value.clone().is_null();
        // `coalesce(b, false)` is simplified to a test for truth, of which execution believes that it may be null.
        let (value, data_type) = match self.references[place].0.data_type() {
            DataType::Boolean => (cast(value, DataType::Int32), &DataType::Int32),
            data_type => (value, data_type),
        };
        let constant = ScalarValue::new_default(data_type).map_err(|_| {
            let what = format!("a correlated subquery of this form over {data_type}");
            PlanError::unsupported(&what, HINT)
        })?;
        Ok(vec![coalesce(vec![value, lit(constant)]), is_null])
    }

    pub(super) fn keys(&self, copy: usize) -> Result<Vec<String>> {
        let keys = (0..self.references.len()).map(|place| self.keys_of(place, copy));
        Ok(keys.collect::<Result<Vec<_>>>()?.concat())
    }

    /// The names of all columns: those referred to, and further keys.
    pub(super) fn names(&self, copy: usize) -> Result<Vec<String>> {
        let places = 0..self.references.len();
        let mut names: Vec<String> = places.map(|place| Domain::name(place, copy)).collect();
        let mut keys = self.keys(copy)?;
        keys.retain(|key| !names.contains(key));
        names.append(&mut keys);
        Ok(names)
    }

    /// The columns of the domain in a plan that has them.
    pub(super) fn carried(&self, plan: &LogicalPlan, copy: usize) -> Result<Vec<Expr>> {
        self.names(copy)?.iter().map(|name| own(plan, name)).collect()
    }

    /// The domain itself.
    pub(super) fn copy(&mut self) -> Result<Spread> {
        let copy = *self.copies;
        *self.copies += 1;
        let named = |(place, (_, column)): (usize, &Reference)| {
            Expr::Column(column.clone()).alias(Domain::name(place, copy))
        };
        let values: Vec<Expr> = self.references.iter().enumerate().map(named).collect();
        let rows = LogicalPlanBuilder::from(self.outside.clone()).project(values)?.distinct()?;
        let mut columns = Vec::new();
        for place in 0..self.references.len() {
            let name = Domain::name(place, copy);
            let column = Expr::Column(Column::new_unqualified(name.clone()));
            if self.is_nullable(place)? {
                let keys = self.keys_of(place, copy)?.into_iter();
                let values = self.key_values(place, column.clone())?;
                columns.extend(keys.zip(values).map(|(key, value)| value.alias(key)));
            }
            columns.insert(place, column);
        }
        Ok(Spread { plan: rows.project(columns)?.build()?, copy })
    }
}

pub(super) fn place_of(plan: &LogicalPlan, name: &str) -> Result<usize> {
    let place = plan.schema().fields().iter().position(|field| field.name() == name);
    place.ok_or_else(|| {
        let text = format!("{name} is not among the columns of a subquery");
        DataFusionError::Internal(text)
    })
}

/// The column of a name that only one has.
pub(super) fn own(plan: &LogicalPlan, name: &str) -> Result<Expr> {
    let place = place_of(plan, name)?;
    Ok(Expr::Column(Column::from(plan.schema().qualified_field(place))))
}
