//! Finds the SELECTs that a query's UNION, INTERSECT and EXCEPT put together.

use datafusion::sql::sqlparser::ast::{Select, SetExpr};

/// The SELECTs of a body, from the left. Queries in parentheses are left out: a visitor meets them as
/// queries of their own.
pub(super) fn selects(body: &mut SetExpr) -> Vec<&mut Select> {
    match body {
        SetExpr::Select(select) => vec![select],
        SetExpr::SetOperation { left, right, .. } => {
            let mut found = selects(left);
            found.extend(selects(right));
            found
        }
        _ => vec![],
    }
}
