//! Compares a value with the rows of a subquery: `op ANY`, `SOME` and `ALL`.
//!
//! ```text
//!   x < ANY (S)   true    where x < s is true of a row of S       x < ALL (S)   false   where x < s is false of a row
//!                 null    else, where it is null of one                         null    else, where it is null of one
//!                 false   else, so of no rows                                   true    else, so of no rows
//! ```
//!
//! `= ANY` is IN, and `<> ALL` is NOT IN. The others become EXISTS and NOT EXISTS, in which the subquery's
//! column has a name of its own: the value outside may have the same one (`id > ALL (SELECT id FROM a)` over `a`
//! itself), and DataFusion, which goes by names, would compare it with itself. WHERE and HAVING ask
//! just for truth, which is a single one of them.

use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::expr::{InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, lit, not, when};

use crate::planner::error::PlanError;
use crate::planner::in_subqueries::{Lookup, Rewriter, is_one_row, rows_exist};
use crate::planner::single_row;

/// The comparison in other words, where there are some: of one value, ANY and ALL are the same.
pub(super) fn spelled(expr: Expr, outside: &DFSchema) -> Result<Expr> {
    let Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) = expr else {
        return Ok(expr);
    };
    let plan = &subquery.subquery;
    if let Some(value) = single_row::constant(plan, outside)? {
        return Ok(Expr::BinaryExpr(BinaryExpr::new(expr, op, Box::new(value))));
    }
    match (op, &quantifier) {
        (Operator::Eq, SetQuantifier::Any) => {
            return Ok(Expr::InSubquery(InSubquery { expr, subquery, negated: false }));
        }
        (Operator::NotEq, SetQuantifier::All) => {
            return Ok(Expr::InSubquery(InSubquery { expr, subquery, negated: true }));
        }
        _ => {}
    }
    if is_one_row(&subquery) && !plan.all_out_ref_exprs().is_empty() {
        let value = Box::new(Expr::ScalarSubquery(subquery));
        return Ok(Expr::BinaryExpr(BinaryExpr::new(expr, op, value)));
    }
    Ok(Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }))
}

/// What NOT makes of a comparison; all three values are kept.
pub(super) fn opposite(call: &SetComparison) -> Option<SetComparison> {
    let op = call.op.negate()?;
    let quantifier = match call.quantifier {
        SetQuantifier::Any => SetQuantifier::All,
        SetQuantifier::All => SetQuantifier::Any,
    };
    Some(SetComparison { op, quantifier, ..call.clone() })
}

/// Refuses what no join answers: an expression of a select list counts the rows of a subquery by equality.
pub(super) fn check_column(expr: &Expr, outside: &DFSchema) -> Result<()> {
    let compares = expr.exists(|part| {
        let is_comparison = matches!(part, Expr::SetComparison(_));
        Ok(is_comparison && matches!(spelled(part.clone(), outside)?, Expr::SetComparison(_)))
    })?;
    if compares {
        return Err(not_a_condition());
    }
    Ok(())
}

/// The error of a comparison where it is not answered.
pub(super) fn not_a_condition() -> DataFusionError {
    let what = "ANY or ALL over a subquery that is not a condition of WHERE or HAVING";
    PlanError::refused(what, "Write EXISTS or NOT EXISTS (SELECT … WHERE …).").into()
}

impl Rewriter {
    /// A comparison of which only the truth matters.
    pub(super) fn comparison_truth(
        &mut self,
        call: SetComparison,
        outside: &DFSchema,
    ) -> Result<Expr> {
        let (op, is_all) = (call.op, matches!(call.quantifier, SetQuantifier::All));
        let call = lookup_of(call);
        let lookup = Lookup::of(&call, outside)?;
        if !is_all {
            return self.any(&lookup, op, |compared| compared);
        }
        let nulls = lookup.outside_nulls || lookup.subquery_nulls;
        Ok(not(match (op.negate(), nulls) {
            (Some(op), false) => self.any(&lookup, op, |compared| compared)?,
            _ => self.any(&lookup, op, Expr::is_not_true)?,
        }))
    }

    /// A comparison whose three values matter.
    pub(super) fn comparison(&mut self, call: SetComparison, outside: &DFSchema) -> Result<Expr> {
        let (op, is_all) = (call.op, matches!(call.quantifier, SetQuantifier::All));
        let call = lookup_of(call);
        let lookup = Lookup::of(&call, outside)?;
        let decides: fn(Expr) -> Expr = if is_all { Expr::is_false } else { Expr::is_true };
        let decided = self.any(&lookup, op, decides)?;
        let unknown = self.any(&lookup, op, Expr::is_null)?;
        when(decided, lit(!is_all))
            .when(unknown, lit(ScalarValue::Boolean(None)))
            .otherwise(lit(is_all))
    }

    /// Whether a row of the subquery compares in this way to the value outside.
    fn any(
        &mut self,
        lookup: &Lookup<'_>,
        op: Operator,
        is: impl FnOnce(Expr) -> Expr,
    ) -> Result<Expr> {
        let (rows, own) = self.named(lookup)?;
        let outside = Box::new(lookup.value.clone());
        let compared = Expr::BinaryExpr(BinaryExpr::new(outside, op, Box::new(own)));
        rows_exist(rows.filter(is(compared))?)
    }
}

/// What is looked up, and where.
fn lookup_of(call: SetComparison) -> InSubquery {
    InSubquery { expr: call.expr, subquery: call.subquery, negated: false }
}
