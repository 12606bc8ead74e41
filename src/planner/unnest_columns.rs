//! Names the columns of UNNEST in FROM as PostgreSQL does: of values the one column is called as the relation, of
//! structs each field is a column. A struct that is null gives a row of nulls.
//!
//! ```text
//!   FROM s, UNNEST(s.tags) AS tag                               tag
//!   FROM s, UNNEST(s.items) AS i                                i.sku, i.qty
//!   FROM s, UNNEST(s.items) WITH ORDINALITY AS i (article)      i.article, i.qty, i.ordinality
//! ```
//!
//! `i` alone is the struct itself. There are no relations as values, so where a query names it (see
//! [`super::lateral`]), the list of the alias says so, and the struct is the only column.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::functions::core::get_field;
use datafusion::logical_expr::planner::{
    RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, lit};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, TableFactor, Value};

use crate::planner::column_lists::named;
use crate::planner::hidden::fold;
use crate::planner::sql_call::{as_bigint, sql_call};

/// What WITH ORDINALITY adds.
pub(super) const ORDINALITY: &str = "ordinality";

/// Plans UNNEST of one list.
#[derive(Debug)]
pub(super) struct UnnestPlanner;

impl RelationPlanner for UnnestPlanner {
    fn plan_relation(
        &self,
        mut relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::UNNEST { alias, array_exprs, with_ordinality, .. } = &mut relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        if array_exprs.len() != 1 || alias.is_none() {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        let alias = alias.take().expect("it was seen to have one");
        if std::mem::take(with_ordinality) {
            array_exprs.push(numbers_beside(array_exprs[0].clone()));
        }
        let name = fold(&alias.name);
        let is_whole = alias.columns.first().is_some_and(|column| fold(&column.name) == name);
        let plan = context.plan(relation)?;
        let columns = plan.schema().columns();
        let mut exprs = Vec::new();
        for (place, column) in columns.into_iter().enumerate() {
            let data_type = plan.schema().field(place).data_type();
            let column = Expr::Column(column);
            match data_type {
                _ if place > 0 => exprs.push(column.alias(ORDINALITY)),
                DataType::Struct(fields) if !is_whole => exprs.extend(fields.iter().map(|field| {
                    get_field().call(vec![column.clone(), lit(field.name())]).alias(field.name())
                })),
                _ => exprs.push(column.alias(&name)),
            }
        }
        let plan = LogicalPlanBuilder::from(plan).project(exprs)?.build()?;
        named(plan, alias, context)
    }
}

/// WITH ORDINALITY is a second list beside the first.
fn numbers_beside(list: SqlExpr) -> SqlExpr {
    let length = sql_call("array_length", vec![list]);
    let one = SqlExpr::value(Value::Number("1".into(), false));
    sql_call("generate_series", vec![one, as_bigint(length)])
}
