//! Writes clauses that DataFusion does not plan in forms that it does, and refuses those that it would pass over.
//!
//! * FETCH FIRST n ROWS ONLY is LIMIT n, GROUP BY () one group of all rows, and `ROLLUP ((a, b), c)` is
//!   `GROUPING SETS ((a, b, c), (a, b), ())`.
//! * DISTINCT ON (1) is the first column.
//! * `SELECT 5 AS x … GROUP BY x` groups by a number; DataFusion reads it as the fifth column.
//! * `x LIKE '50!%' ESCAPE '!'` is `x LIKE '50\%'`.
//! * `x SIMILAR TO 'a%'` is a regular expression over the whole text; DataFusion reads the pattern as one over a part.
//! * `(a, b) IN (SELECT …)`, where only its truth matters, is EXISTS over the rows that are equal.
//! * Rows are compared column by column ([`super::row_comparisons`]).
//! * Columns of a UNION have the names of its first SELECT; those of the others need not be different.
//! * TABLESAMPLE and FOR UPDATE would be taken, and not done.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Distinct, Expr, Fetch, GroupByExpr, Ident, LimitClause, OrderBy, OrderByKind,
    Query, Select, SelectItem, SetExpr, SetQuantifier, TableFactor, UnaryOperator, Value,
    ValueWithSpan, VisitMut, VisitorMut,
};

use crate::error::SqlState;
use crate::planner::error::PlanError;
use crate::planner::hidden::fold;
use crate::planner::row_comparisons::RowComparisons;
use crate::planner::selects::selects;
use crate::planner::sql_call::{as_bigint, binary, select_from, table_alias};

/// Rewrites every clause of a query.
pub(super) fn normalize(query: &mut Query) -> Result<(), PlanError> {
    match VisitMut::visit(query, &mut Normalizer::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

#[derive(Default)]
struct Normalizer {
    rows: RowComparisons,
}

impl VisitorMut for Normalizer {
    type Break = PlanError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<PlanError> {
        if !query.locks.is_empty() {
            let hint = "Leave it out: rows do not change while a SELECT reads them.";
            return refuse("FOR UPDATE or FOR SHARE", hint);
        }
        if let Some(fetch) = query.fetch.take() {
            limit(query, fetch)?;
        }
        places_in_distinct_on(query);
        names_of_legs(&mut query.body, true);
        for select in selects(&mut query.body) {
            one_group(&mut select.group_by);
            sets_of_parts(&mut select.group_by);
            numbers_beside_groups(select);
            [&mut select.selection, &mut select.having].into_iter().flatten().for_each(rows_in);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<PlanError> {
        match factor {
            TableFactor::Table { sample: Some(_), .. }
            | TableFactor::Derived { sample: Some(_), .. } => {
                let hint =
                    "Keep one row in ten, say, with a condition on a column: WHERE id % 10 = 0.";
                refuse("TABLESAMPLE", hint)
            }
            TableFactor::Table { with_hints, partitions, index_hints, .. }
                if !(with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty()) =>
            {
                refuse("this clause behind a relation", "Leave it out.")
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<PlanError> {
        match expr {
            Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
                escaped(pattern, escape_char)
            }
            Expr::SimilarTo { .. } => similar(expr),
            Expr::InSubquery { expr, .. } if matches!(**expr, Expr::Tuple(_)) => refuse(
                "NOT IN of several columns, or IN of several columns beside NOT",
                "Write EXISTS or NOT EXISTS (SELECT … WHERE … AND …).",
            ),
            _ => self.rows.rewrite(expr),
        }
    }
}

fn refuse(what: &str, hint: &str) -> ControlFlow<PlanError> {
    ControlFlow::Break(PlanError::refused(what, hint))
}

fn limit(query: &mut Query, fetch: Fetch) -> ControlFlow<PlanError> {
    if fetch.with_ties || fetch.percent {
        let hint = "Write rank() OVER (ORDER BY …) <= n around it, or FETCH FIRST n ROWS ONLY.";
        return refuse("FETCH … WITH TIES or PERCENT", hint);
    }
    let rows = fetch.quantity.unwrap_or_else(|| number("1"));
    match &mut query.limit_clause {
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(rows),
        None => {
            let limit = Some(rows);
            query.limit_clause =
                Some(LimitClause::LimitOffset { limit, offset: None, limit_by: vec![] });
        }
        Some(_) => return refuse("FETCH beside LIMIT", "Write one of the two."),
    }
    ControlFlow::Continue(())
}

fn number(digits: &str) -> Expr {
    Expr::value(Value::Number(digits.to_owned(), false))
}

/// `()` adds nothing to other keys; alone it is a group that is there without rows, too.
fn one_group(group_by: &mut GroupByExpr) {
    let GroupByExpr::Expressions(keys, _) = group_by else { return };
    let before = keys.len();
    keys.retain(|key| !matches!(key, Expr::Tuple(parts) if parts.is_empty()));
    if keys.is_empty() && before > 0 {
        keys.push(Expr::GroupingSets(vec![vec![]]));
    }
}

/// ROLLUP and CUBE of parts with several columns, spelled out as GROUPING SETS.
fn sets_of_parts(group_by: &mut GroupByExpr) {
    // More parts have more sets than a continuous query takes.
    const ROLLUP_MAX: usize = 64;
    const CUBE_MAX: usize = 10;
    let GroupByExpr::Expressions(keys, _) = group_by else { return };
    let several = |parts: &[Vec<Expr>]| parts.iter().any(|part| part.len() != 1);
    for key in keys {
        *key = match key {
            Expr::Rollup(parts) if several(parts) && parts.len() <= ROLLUP_MAX => {
                Expr::GroupingSets(
                    (0..=parts.len()).rev().map(|length| parts[..length].concat()).collect(),
                )
            }
            Expr::Cube(parts) if several(parts) && parts.len() <= CUBE_MAX => {
                let set = |left_out: usize| {
                    let kept = parts.iter().enumerate().filter(|(at, _)| left_out >> at & 1 == 0);
                    kept.flat_map(|(_, part)| part.iter().cloned()).collect()
                };
                Expr::GroupingSets((0..1 << parts.len()).map(set).collect())
            }
            _ => continue,
        };
    }
}

/// DISTINCT ON (1), and the ORDER BY beside it, name the first column of the answer.
fn places_in_distinct_on(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let Some(Distinct::On(keys)) = &mut select.distinct else { return };
    let at = |key: &Expr| {
        let place: usize = match key {
            Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => {
                digits.parse().ok()?
            }
            _ => return None,
        };
        let items = select.projection.get(..place)?;
        let column = |item: &SelectItem| match item {
            SelectItem::ExprWithAlias { alias, .. } => Some(Expr::Identifier(alias.clone())),
            SelectItem::UnnamedExpr(expr) => Some(expr.clone()),
            _ => None,
        };
        items.iter().map(column).collect::<Option<Vec<Expr>>>()?.pop()
    };
    for key in keys {
        *key = at(key).unwrap_or_else(|| key.clone());
    }
    if let Some(OrderBy { kind: OrderByKind::Expressions(keys), .. }) = &mut query.order_by {
        for key in keys {
            key.expr = at(&key.expr).unwrap_or_else(|| key.expr.clone());
        }
    }
}

/// Lets no number of the select list that GROUP BY calls by its name pass for the place of a column.
fn numbers_beside_groups(select: &mut Select) {
    if matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty()) {
        return;
    }
    for item in &mut select.projection {
        if let SelectItem::ExprWithAlias { expr, .. } = item
            && is_integer(expr)
        {
            *expr = as_bigint(expr.clone());
        }
    }
}

fn is_integer(expr: &Expr) -> bool {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => {
            digits.parse::<i64>().is_ok()
        }
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr }
        | Expr::Nested(expr) => is_integer(expr),
        _ => false,
    }
}

/// Rewrites IN of several columns in a condition of which only the truth matters.
fn rows_in(condition: &mut Expr) {
    match condition {
        Expr::Nested(inner) => rows_in(inner),
        Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
            rows_in(left);
            rows_in(right);
        }
        Expr::InSubquery { expr, subquery, negated: false } => {
            if let Expr::Tuple(values) = &**expr {
                let subquery = Box::new(equal_rows(subquery, values));
                *condition = Expr::Exists { subquery, negated: false };
            }
        }
        _ => {}
    }
}

/// The rows of a subquery whose columns are equal to these values.
fn equal_rows(rows: &Query, values: &[Expr]) -> Query {
    let name = |place: usize| Ident::new(format!("__in_column_{place}"));
    let names = (0..values.len()).map(name).collect();
    let equal = values.iter().enumerate().map(|(place, value)| {
        let value = Expr::Nested(Box::new(value.clone()));
        binary(Expr::Identifier(name(place)), BinaryOperator::Eq, value)
    });
    let and = |left, right| binary(left, BinaryOperator::And, right);
    let one = SelectItem::UnnamedExpr(number("1"));
    select_from(rows.clone(), table_alias("__in_rows", names), vec![one], equal.reduce(and))
}

/// `x LIKE p ESCAPE '!'`: a constant pattern is written with the escape character that is known below.
fn escaped(pattern: &mut Expr, escape_char: &mut Option<ValueWithSpan>) -> ControlFlow<PlanError> {
    let Some(escape) = escape_char.take() else { return ControlFlow::Continue(()) };
    let escape = match &escape.value {
        Value::SingleQuotedString(text) if text.chars().count() <= 1 => text.chars().next(),
        _ => return invalid("ESCAPE takes one character, or none"),
    };
    if escape == Some('\\') {
        return ControlFlow::Continue(());
    }
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) = pattern else {
        return refuse("ESCAPE beside a pattern that is not a constant", "Escape it with \\.");
    };
    let mut written = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let (letter, plain) = match Some(letter) == escape {
            true => match letters.next() {
                Some(next) => (next, true),
                None => return invalid("LIKE pattern must not end with its escape character"),
            },
            false => (letter, false),
        };
        if letter == '\\' || plain && matches!(letter, '%' | '_') {
            written.push('\\');
        }
        written.push(letter);
    }
    *text = written;
    ControlFlow::Continue(())
}

fn invalid(message: &str) -> ControlFlow<PlanError> {
    let (code, message) = (SqlState::INVALID_PARAMETER, message.to_owned());
    ControlFlow::Break(PlanError::Refused { code, message, hint: None })
}

/// `x SIMILAR TO 'a%|b'` is the regular expression that says the same of the whole text.
fn similar(expr: &mut Expr) -> ControlFlow<PlanError> {
    let Expr::SimilarTo { negated, expr: text, pattern, escape_char } = expr else {
        return ControlFlow::Continue(());
    };
    let escape = match escape_char.as_ref().map(|escape| &escape.value) {
        None => Some('\\'),
        Some(Value::SingleQuotedString(text)) if text.chars().count() <= 1 => text.chars().next(),
        Some(_) => return invalid("ESCAPE takes one character, or none"),
    };
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(pattern), .. }) = &**pattern
    else {
        return refuse("SIMILAR TO a pattern that is not a constant", "Write x ~ pattern.");
    };
    let Some(regex) = regex_of(pattern, escape) else {
        return invalid("SIMILAR TO pattern must not end with its escape character");
    };
    let op = match negated {
        true => BinaryOperator::PGRegexNotMatch,
        false => BinaryOperator::PGRegexMatch,
    };
    let right = Box::new(Expr::value(Value::SingleQuotedString(regex)));
    let left = Box::new(Expr::Nested(text.clone()));
    *expr = Expr::Nested(Box::new(Expr::BinaryOp { left, op, right }));
    ControlFlow::Continue(())
}

fn regex_of(pattern: &str, escape: Option<char>) -> Option<String> {
    let mut regex = String::from("(?s)^(?:");
    let mut letters = pattern.chars();
    let mut in_class = false;
    while let Some(letter) = letters.next() {
        if Some(letter) == escape {
            regex.push_str(&regex::escape(&letters.next()?.to_string()));
            continue;
        }
        match letter {
            '[' if !in_class => in_class = true,
            ']' => in_class = false,
            '%' if !in_class => {
                regex.push_str(".*");
                continue;
            }
            '_' if !in_class => {
                regex.push('.');
                continue;
            }
            '.' | '^' | '$' | '\\' if !in_class => regex.push('\\'),
            '&' | '~' | '\\' if in_class => regex.push('\\'),
            _ => {}
        }
        regex.push(letter);
    }
    regex.push_str(")$");
    Some(regex)
}

/// Names what repeats a column before it in all but the first SELECT of a UNION, INTERSECT or EXCEPT.
fn names_of_legs(body: &mut SetExpr, first: bool) {
    match body {
        SetExpr::SetOperation { left, right, set_quantifier, .. } => {
            let by_name = matches!(
                set_quantifier,
                SetQuantifier::ByName | SetQuantifier::AllByName | SetQuantifier::DistinctByName
            );
            if !by_name {
                names_of_legs(left, first);
                names_of_legs(right, false);
            }
        }
        SetExpr::Query(query) => names_of_legs(&mut query.body, first),
        SetExpr::Select(select) if !first => {
            let mut seen = BTreeSet::new();
            for (place, item) in select.projection.iter_mut().enumerate() {
                let (expr, name) = match item {
                    SelectItem::ExprWithAlias { expr, alias } => (expr, fold(alias)),
                    SelectItem::UnnamedExpr(expr) => {
                        let name = match &*expr {
                            Expr::Identifier(name) => fold(name),
                            Expr::CompoundIdentifier(names) => {
                                names.last().map_or_else(String::new, fold)
                            }
                            other => other.to_string(),
                        };
                        (expr, name)
                    }
                    _ => continue,
                };
                if !seen.insert(name) {
                    let alias = Ident::new(format!("__leg_{place}"));
                    *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                }
            }
        }
        _ => {}
    }
}
