//! Compares rows column by column, as PostgreSQL does: `(a, b) < (c, d)` is `a < c OR (a = c AND b < d)`.
//!
//! DataFusion makes structs of both sides, in which a null equals a null and is less than any value; in SQL a
//! comparison that comes to a null is unknown.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, UnaryOperator, Visit,
    Visitor,
};

use crate::error::SqlState;
use crate::planner::error::PlanError;
use crate::planner::sql_call::binary;

/// The most columns of a row that is compared: with each, those before it are written once more.
const COLUMNS_MAX: usize = 100;
/// The most expressions that all comparisons of a statement are written in; rows in rows multiply.
const WRITTEN_MAX: usize = 100_000;

/// Rewrites the comparisons of a statement.
#[derive(Debug, Default)]
pub(super) struct RowComparisons {
    written: usize,
}

type Pairs = Vec<(Expr, Expr)>;

impl RowComparisons {
    /// Rewrites a comparison of rows that are written out; other expressions stay.
    pub(super) fn rewrite(&mut self, expr: &mut Expr) -> ControlFlow<PlanError> {
        match self.rewritten(expr) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(comparison)) => {
                *expr = comparison;
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn rewritten(&mut self, expr: &Expr) -> Result<Option<Expr>, PlanError> {
        use BinaryOperator as Op;
        match expr {
            Expr::BinaryOp { left, op, right } => self.compared(left, op, right),
            Expr::IsDistinctFrom(left, right) => {
                let Some(pairs) = self.pairs(left, right)? else { return Ok(None) };
                let is_distinct =
                    |(left, right)| Expr::IsDistinctFrom(Box::new(left), Box::new(right));
                Ok(Some(any(pairs.into_iter().map(is_distinct).collect())))
            }
            Expr::IsNotDistinctFrom(left, right) => {
                let Some(pairs) = self.pairs(left, right)? else { return Ok(None) };
                let is_same =
                    |(left, right)| Expr::IsNotDistinctFrom(Box::new(left), Box::new(right));
                Ok(Some(all(pairs.into_iter().map(is_same).collect())))
            }
            Expr::Between { expr, negated, low, high } => {
                let above = self.compared(expr, &Op::GtEq, low)?;
                let below = self.compared(expr, &Op::LtEq, high)?;
                let both = above.zip(below).map(|(above, below)| all(vec![above, below]));
                Ok(both.map(|both| negated_if(*negated, both)))
            }
            Expr::InList { expr, list, negated } => {
                if columns(expr).is_none() {
                    return Ok(None);
                }
                let equals = list.iter().map(|item| self.compared(expr, &Op::Eq, item));
                let equals: Option<Vec<Expr>> = equals.collect::<Result<_, _>>()?;
                let equals = equals.filter(|equals| !equals.is_empty());
                Ok(equals.map(|equals| negated_if(*negated, any(equals))))
            }
            Expr::IsNull(row) => Ok(columns(row).map(|row| {
                all(row.into_iter().map(|column| Expr::IsNull(Box::new(column))).collect())
            })),
            Expr::IsNotNull(row) => Ok(columns(row).map(|row| {
                all(row.into_iter().map(|column| Expr::IsNotNull(Box::new(column))).collect())
            })),
            _ => Ok(None),
        }
    }

    /// `None` where these are no rows, or the operator compares none.
    fn compared(
        &mut self,
        left: &Expr,
        op: &BinaryOperator,
        right: &Expr,
    ) -> Result<Option<Expr>, PlanError> {
        use BinaryOperator as Op;
        let strict = match op {
            Op::Eq | Op::NotEq => None,
            Op::Lt | Op::LtEq => Some(Op::Lt),
            Op::Gt | Op::GtEq => Some(Op::Gt),
            _ => return Ok(None),
        };
        let Some(pairs) = self.pairs(left, right)? else { return Ok(None) };
        let Some(strict) = strict else {
            let each = pairs.iter().map(|pair| self.column(pair, op)).collect::<Result<_, _>>()?;
            return Ok(Some(if *op == Op::Eq { all(each) } else { any(each) }));
        };
        // The first columns that are not equal decide.
        let mut cases = Vec::with_capacity(pairs.len());
        for (place, pair) in pairs.iter().enumerate() {
            let last = if place + 1 == pairs.len() { op } else { &strict };
            let before = pairs[..place].iter().map(|pair| self.column(pair, &Op::Eq));
            let mut case = before.collect::<Result<Vec<_>, _>>()?;
            case.push(self.column(pair, last)?);
            cases.push(all(case));
        }
        Ok(Some(any(cases)))
    }

    /// One column of both rows, which may hold rows in turn.
    fn column(
        &mut self,
        (left, right): &(Expr, Expr),
        op: &BinaryOperator,
    ) -> Result<Expr, PlanError> {
        self.written += size(left) + size(right);
        if self.written > WRITTEN_MAX {
            return Err(refused(SqlState::PROGRAM_LIMIT, "comparisons of rows are too many"));
        }
        let rows = self.compared(left, op, right)?;
        Ok(rows.unwrap_or_else(|| binary(left.clone(), op.clone(), right.clone())))
    }

    fn pairs(&mut self, left: &Expr, right: &Expr) -> Result<Option<Pairs>, PlanError> {
        let (Some(left), Some(right)) = (columns(left), columns(right)) else { return Ok(None) };
        if left.len() != right.len() {
            let message = "unequal number of entries in row expressions";
            return Err(refused(SqlState::SYNTAX, message));
        }
        if left.len() > COLUMNS_MAX {
            let message = "rows of more than 100 columns are compared";
            return Err(refused(SqlState::PROGRAM_LIMIT, message));
        }
        Ok(Some(left.into_iter().zip(right).collect()))
    }
}

fn refused(code: SqlState, message: &str) -> PlanError {
    PlanError::Refused { code, message: message.to_owned(), hint: None }
}

/// The columns of `(a, b)` and `ROW(a, b)`.
fn columns(expr: &Expr) -> Option<Vec<Expr>> {
    let columns: Vec<Expr> = match expr {
        Expr::Nested(inner) => return columns(inner),
        Expr::Tuple(columns) => columns.clone(),
        Expr::Function(call) => {
            let [name] = call.name.0.as_slice() else { return None };
            let FunctionArguments::List(list) = &call.args else { return None };
            if !name.as_ident()?.value.eq_ignore_ascii_case("row") {
                return None;
            }
            let column = |arg: &FunctionArg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
                _ => None,
            };
            list.args.iter().map(column).collect::<Option<_>>()?
        }
        _ => return None,
    };
    (!columns.is_empty()).then_some(columns)
}

/// How many expressions one is made of.
fn size(expr: &Expr) -> usize {
    struct Count(usize);
    impl Visitor for Count {
        type Break = ();

        fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
            self.0 += 1;
            ControlFlow::Continue(())
        }
    }
    let mut count = Count(0);
    let walked = expr.visit(&mut count);
    debug_assert!(walked.is_continue(), "the visitor never breaks off");
    count.0
}

fn all(conditions: Vec<Expr>) -> Expr {
    joined(conditions, &BinaryOperator::And)
}

fn any(conditions: Vec<Expr>) -> Expr {
    joined(conditions, &BinaryOperator::Or)
}

/// Conditions in a tree that is not deep, as there may be many.
fn joined(mut conditions: Vec<Expr>, op: &BinaryOperator) -> Expr {
    let half = conditions.split_off(conditions.len().div_ceil(2));
    match half.is_empty() {
        true => conditions.pop().expect("there is a condition"),
        false => binary(joined(conditions, op), op.clone(), joined(half, op)),
    }
}

fn negated_if(negated: bool, condition: Expr) -> Expr {
    match negated {
        true => {
            let expr = Box::new(Expr::Nested(Box::new(condition)));
            Expr::UnaryOp { op: UnaryOperator::Not, expr }
        }
        false => condition,
    }
}
