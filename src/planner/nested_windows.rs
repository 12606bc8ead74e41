//! Lets a window function be the argument of another, though both add columns of the same names.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

use crate::planner::window_node::WindowColumn;

/// Where the input has window columns itself, its own or those of the query or stream that it is, they make
/// room: `window_start` becomes `inner_window_start`. Also gives what an argument becomes by that.
pub(super) fn set_aside(
    input: LogicalPlan,
    columns: &'static [WindowColumn],
) -> Result<(LogicalPlan, impl Fn(Expr) -> Result<Expr>)> {
    let shadowed = |column: &Column| columns.iter().any(|other| other.name() == column.name);
    let aside = |column: &Column| format!("inner_{}", column.name);
    let old = input.schema().columns();
    let stays = !old.iter().any(shadowed);
    let input = if stays {
        input
    } else {
        let columns = old.into_iter().map(|column| match shadowed(&column) {
            true => {
                let (relation, name) = (column.relation.clone(), aside(&column));
                Expr::Column(column).alias_qualified(relation, name)
            }
            false => Expr::Column(column),
        });
        LogicalPlanBuilder::from(input).project(columns.collect::<Vec<_>>())?.build()?
    };
    let renamed = move |expr: Expr| {
        let moved = expr.transform(|part| match part {
            Expr::Column(column) if !stays && shadowed(&column) => {
                let name = aside(&column);
                Ok(Transformed::yes(Expr::Column(Column::new(column.relation, name))))
            }
            other => Ok(Transformed::no(other)),
        });
        moved.map(|moved| moved.data)
    };
    Ok((input, renamed))
}
