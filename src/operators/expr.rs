//! Evaluates DataFusion's expressions over batches, and tells which rows fail on their own.
//!
//! DataFusion evaluates a batch at once: one division by zero fails all of its rows, and `x <> 0
//! AND 1 / x > 2` may fail on rows that the left side excludes. Weir promises evaluation row by
//! row, left to right, short-circuiting. The batch is tried first; where it fails it is halved,
//! down to single rows, and the rows that fail alone are the ones that are refused. A batch that
//! evaluates as a whole has no such row, so nothing is lost on the fast path. Cost of `k` failing
//! rows among `n`: at most `2 k log2(n)` further calls.
//!
//! # Not here
//!
//! The lowering of logical expressions (the planner's work).

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute;
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Operator as BinaryOperator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal, NegativeExpr};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::scalar::ScalarValue;

use crate::data::sql_words::{in_sql_words, invalid_regex, lower_first, undefined_function};
use crate::error::SqlState;

/// The rows `start..start + length` of a batch, evaluated together.
#[derive(Debug)]
pub struct Piece<T> {
    /// First row.
    pub start: usize,
    /// Number of rows.
    pub length: usize,
    /// What they evaluated to.
    pub value: T,
}

/// A row on which evaluation fails even when it stands alone.
#[derive(Debug, Clone, PartialEq)]
pub struct RowFailure {
    /// Index in the batch.
    pub row: usize,
    /// Why, as a code.
    pub code: SqlState,
    /// Why, in words.
    pub reason: String,
}

/// Whether the expression may come to something else when it is evaluated again.
pub fn is_volatile(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.exists(|part| Ok(part.is_volatile_node())).unwrap_or(true)
}

/// Evaluates to one value per row.
pub fn evaluate(
    expr: &Arc<dyn PhysicalExpr>,
    batch: &RecordBatch,
) -> Result<ArrayRef, DataFusionError> {
    expr.evaluate(batch)?.into_array(batch.num_rows())
}

/// Evaluates a predicate; null counts as false, the mask itself has no nulls.
pub fn evaluate_mask(
    predicate: &Arc<dyn PhysicalExpr>,
    batch: &RecordBatch,
) -> Result<BooleanArray, DataFusionError> {
    let values = evaluate(predicate, batch)?;
    let mask = values.as_any().downcast_ref::<BooleanArray>().ok_or_else(|| {
        DataFusionError::Internal(format!("predicate has type {}", values.data_type()))
    })?;
    Ok(if mask.null_count() > 0 { compute::prep_null_mask_filter(mask) } else { mask.clone() })
}

/// Evaluates a whole batch, or, where that fails, the greatest halves of halves that do not fail.
///
/// Pieces and failures ascend by row; together they cover every row once.
pub fn evaluate_in_pieces<T>(
    batch: &RecordBatch,
    mut evaluate: impl FnMut(&RecordBatch) -> Result<T, DataFusionError>,
) -> (Vec<Piece<T>>, Vec<RowFailure>) {
    let (mut pieces, mut failures) = (Vec::new(), Vec::new());
    if batch.num_rows() == 0 {
        return (pieces, failures);
    }
    let mut waiting = vec![(0, batch.num_rows())];
    while let Some((start, length)) = waiting.pop() {
        // The whole batch goes as it is, so that its columns can be shared with the output.
        let whole = length == batch.num_rows();
        match evaluate(&if whole { batch.clone() } else { batch.slice(start, length) }) {
            Ok(value) => pieces.push(Piece { start, length, value }),
            Err(error) if length == 1 => {
                let (code, reason) = row_error(&error);
                failures.push(RowFailure { row: start, code, reason });
            }
            Err(_) => {
                let half = length / 2;
                waiting.push((start + half, length - half));
                waiting.push((start, half));
            }
        }
    }
    (pieces, failures)
}

/// The SQLSTATE and the plain words for an error that a row caused.
pub fn row_error(error: &DataFusionError) -> (SqlState, String) {
    match error.find_root() {
        DataFusionError::ArrowError(error, _) => arrow_row_error(error),
        DataFusionError::Execution(text) => text_error(text),
        DataFusionError::ResourcesExhausted(text) => (SqlState::PROGRAM_LIMIT, lower_first(text)),
        other => text_error(&other.strip_backtrace()),
    }
}

fn arrow_row_error(error: &ArrowError) -> (SqlState, String) {
    match error {
        ArrowError::DivideByZero => (SqlState::DIVISION_BY_ZERO, "division by zero".to_owned()),
        ArrowError::ArithmeticOverflow(text) => {
            let facts = text.strip_prefix("Overflow happened on: ").unwrap_or(text);
            (SqlState::NUMERIC_RANGE, format!("value out of range: {}", lower_first(facts)))
        }
        ArrowError::CastError(text)
        | ArrowError::ParseError(text)
        | ArrowError::ComputeError(text)
        | ArrowError::InvalidArgumentError(text) => match text_error(text) {
            (SqlState::INVALID_PARAMETER, reason)
                if matches!(error, ArrowError::CastError(_) | ArrowError::ParseError(_)) =>
            {
                (SqlState::INVALID_TEXT, reason)
            }
            found => found,
        },
        other => text_error(&other.to_string()),
    }
}

/// The libraries below put the situation into words only, so the code is read from them.
fn text_error(text: &str) -> (SqlState, String) {
    if let Some(reason) = undefined_function(text) {
        return (SqlState::UNDEFINED_FUNCTION, reason);
    }
    if let Some(reason) = invalid_regex(text) {
        return (SqlState::INVALID_REGEX, reason);
    }
    if let Some((value, data_type)) = text_that_is_no_value(text)
        && data_type.starts_with("Int")
        && value.trim().parse::<i128>().is_ok()
    {
        let data_type = in_sql_words(data_type).to_lowercase();
        let reason = format!("value \"{value}\" is out of range for type {data_type}");
        return (SqlState::NUMERIC_RANGE, reason);
    }
    if let Some(value) = text_that_is_no_time(text)
        && has_form_of_date(value)
    {
        let reason = format!("date/time field value out of range: \"{value}\"");
        return (SqlState::DATETIME_RANGE, reason);
    }
    let lower = text.to_lowercase();
    let has = |needles: &[&str]| needles.iter().any(|needle| lower.contains(needle));
    let code = if has(&["divide by zero", "division by zero"]) {
        SqlState::DIVISION_BY_ZERO
    } else if has(&["scalar subquery returned more than one row"]) {
        SqlState::CARDINALITY
    } else if has(&["interval out of range", "timestamp out of range"]) {
        SqlState::DATETIME_RANGE
    } else if has(&["error parsing timestamp", "error parsing date", "as time", "interval"])
        || (has(&["cannot cast string", "cannot convert"])
            && has(&["timestamp", "date32", "date64", "time32", "time64"]))
    {
        SqlState::INVALID_DATETIME
    } else if has(&[
        "overflow",
        "out of range",
        "too large to store",
        "too small to store",
        "can't cast value",
    ]) {
        SqlState::NUMERIC_RANGE
    } else if has(&["cannot cast", "can't parse", "failed to parse", "invalid input syntax"]) {
        SqlState::INVALID_TEXT
    } else {
        SqlState::INVALID_PARAMETER
    };
    if code == SqlState::DIVISION_BY_ZERO {
        return (code, "division by zero".to_owned());
    }
    (code, in_plain_words(text.lines().next().unwrap_or_default()))
}

/// The text and the type, where a library says that one is no value of the other.
fn text_that_is_no_value(text: &str) -> Option<(&str, &str)> {
    let rest = text.trim_start().strip_prefix("Cannot cast string '")?;
    let (value, data_type) = rest.lines().next()?.rsplit_once("' to value of ")?;
    Some((value, data_type.trim_end_matches('.').trim_end_matches(" type")))
}

/// The text, where a library says that it is no date or timestamp.
fn text_that_is_no_time(text: &str) -> Option<&str> {
    if let Some((value, data_type)) = text_that_is_no_value(text) {
        return ["Date", "Timestamp"]
            .iter()
            .any(|name| data_type.starts_with(name))
            .then_some(value);
    }
    let (_, rest) = text.split_once("Error parsing timestamp from '")?;
    rest.split_once("': ").map(|(value, _)| value)
}

/// Whether it begins with a year, a month and a day, and goes on, if at all, with the hour.
fn has_form_of_date(text: &str) -> bool {
    let date = text.trim().split(['T', 't', ' ']).next().unwrap_or_default();
    let rest = text.trim()[date.len()..].get(1..);
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = date.split('-').collect();
    parts.len() == 3
        && parts[0].len() >= 4
        && parts.iter().all(|part| is_number(part))
        && rest.is_none_or(|rest| rest.split(':').take(2).all(is_number))
}

/// What a library says, as PostgreSQL would say it: a text that is no value, else types by SQL's names.
fn in_plain_words(text: &str) -> String {
    if let Some((value, data_type)) = text_that_is_no_value(text) {
        let data_type = in_sql_words(data_type).to_lowercase();
        return format!("invalid input syntax for type {data_type}: \"{value}\"");
    }
    lower_first(in_sql_words(text).trim_end_matches('.'))
}

/// The same expression in which integer overflow is an error; DataFusion's own arithmetic wraps.
pub fn checked(
    expr: &Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let checked = Arc::clone(expr).transform_up(|node| {
        if let Some(binary) = node.downcast_ref::<BinaryExpr>() {
            let wraps = matches!(
                binary.op(),
                BinaryOperator::Plus | BinaryOperator::Minus | BinaryOperator::Multiply
            );
            if wraps && binary.data_type(schema)?.is_integer() {
                return Ok(Transformed::yes(Arc::new(binary.clone().with_fail_on_overflow(true))));
            }
        }
        if let Some(negative) = node.downcast_ref::<NegativeExpr>() {
            let data_type = negative.arg().data_type(schema)?;
            if data_type.is_signed_integer() {
                // The negation of the smallest integer wraps; its difference from zero does not.
                let zero = Arc::new(Literal::new(ScalarValue::new_zero(&data_type)?));
                let minus =
                    BinaryExpr::new(zero, BinaryOperator::Minus, Arc::clone(negative.arg()));
                return Ok(Transformed::yes(Arc::new(minus.with_fail_on_overflow(true))));
            }
        }
        Ok(Transformed::no(node))
    })?;
    Ok(checked.data)
}

/// The input columns that an expression reads.
pub fn columns_of(expr: &Arc<dyn PhysicalExpr>) -> BTreeSet<usize> {
    collect_columns(expr).into_iter().map(|column| column.index()).collect()
}

/// The input column, where the expression is nothing but that.
pub fn as_column(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}

/// The same expression over a batch that holds the input's columns `kept`, in that order.
pub fn over_columns(
    expr: &Arc<dyn PhysicalExpr>,
    kept: &[usize],
) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let moved = Arc::clone(expr).transform_up(|node| match node.downcast_ref::<Column>() {
        Some(column) => {
            let index = kept.iter().position(|&k| k == column.index()).ok_or_else(|| {
                DataFusionError::Internal(format!("column {column} is not among those kept"))
            })?;
            Ok(Transformed::yes(Arc::new(Column::new(column.name(), index))))
        }
        None => Ok(Transformed::no(node)),
    })?;
    Ok(moved.data)
}

/// Whether values of the type have an order that is also the order of `arrow::row`.
pub fn is_sortable(data_type: &DataType) -> bool {
    arrow::row::RowConverter::supports_fields(&[arrow::row::SortField::new(data_type.clone())])
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::{Field, Int64Type};
    use datafusion::physical_expr::expressions::{binary, cast, col, lit};
    use proptest::prelude::*;

    use super::*;

    fn numbers(values: Vec<Option<i64>>) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, true)]));
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(values))]).unwrap()
    }

    fn over_x(op: BinaryOperator, left: i64) -> Arc<dyn PhysicalExpr> {
        let schema = numbers(vec![]).schema();
        let expr = binary(lit(left), op, col("x", &schema).unwrap(), &schema).unwrap();
        checked(&expr, &schema).unwrap()
    }

    fn error_of(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> (SqlState, String) {
        row_error(&evaluate(expr, batch).expect_err("the row fails"))
    }

    #[test]
    fn errors_of_rows_have_codes_and_plain_words() {
        let zero = error_of(&over_x(BinaryOperator::Divide, 1), &numbers(vec![Some(0)]));
        assert_eq!(zero, (SqlState::DIVISION_BY_ZERO, "division by zero".to_owned()));
        let (code, reason) =
            error_of(&over_x(BinaryOperator::Plus, i64::MAX), &numbers(vec![Some(1)]));
        assert_eq!(code, SqlState::NUMERIC_RANGE);
        assert_eq!(reason, "value out of range: 9223372036854775807 + 1");

        let schema = Arc::new(Schema::new(vec![Field::new("s", DataType::Utf8, true)]));
        let text = |value: &str| {
            let column = Arc::new(StringArray::from(vec![value]));
            RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap()
        };
        let to = |data_type| cast(col("s", &schema).unwrap(), &schema, data_type).unwrap();
        let code_of = |data_type, value: &str| error_of(&to(data_type), &text(value)).0;
        assert_eq!(code_of(DataType::Int64, "abc"), SqlState::INVALID_TEXT);
        assert_eq!(code_of(DataType::Boolean, "abc"), SqlState::INVALID_TEXT);
        assert_eq!(code_of(DataType::Date32, "31 foo"), SqlState::INVALID_DATETIME);
        let timestamp = crate::data::schema::TIMESTAMP;
        assert_eq!(code_of(timestamp.clone(), "yesterday"), SqlState::INVALID_DATETIME);
        assert_eq!(code_of(timestamp.clone(), "2026-02-30 noon"), SqlState::INVALID_DATETIME);
        assert_eq!(code_of(timestamp, "2026-02-30 10:00"), SqlState::DATETIME_RANGE);
        assert_eq!(code_of(DataType::Date32, "2026-13-45"), SqlState::DATETIME_RANGE);
        let x = col("x", &numbers(vec![]).schema()).unwrap();
        let narrow = cast(x, &numbers(vec![]).schema(), DataType::Int16).unwrap();
        assert_eq!(error_of(&narrow, &numbers(vec![Some(70_000)])).0, SqlState::NUMERIC_RANGE);
    }

    #[test]
    fn checked_arithmetic_does_not_wrap() {
        let schema = numbers(vec![]).schema();
        let negative = Arc::new(NegativeExpr::new(col("x", &schema).unwrap()));
        let negative = checked(&(negative as _), &schema).unwrap();
        assert_eq!(error_of(&negative, &numbers(vec![Some(i64::MIN)])).0, SqlState::NUMERIC_RANGE);
        let fine = evaluate(&negative, &numbers(vec![Some(5)])).unwrap();
        assert_eq!(fine.as_primitive::<Int64Type>().value(0), -5);
        let product = over_x(BinaryOperator::Multiply, 2);
        assert_eq!(error_of(&product, &numbers(vec![Some(i64::MAX)])).0, SqlState::NUMERIC_RANGE);
    }

    #[test]
    fn a_null_predicate_is_false() {
        let schema = numbers(vec![]).schema();
        let positive =
            binary(col("x", &schema).unwrap(), BinaryOperator::Gt, lit(0i64), &schema).unwrap();
        let mask = evaluate_mask(&positive, &numbers(vec![Some(1), None, Some(-1)])).unwrap();
        assert_eq!(mask, BooleanArray::from(vec![true, false, false]));
        assert!(evaluate_mask(&col("x", &schema).unwrap(), &numbers(vec![None])).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn pieces_equal_evaluation_row_by_row(
            values in prop::collection::vec(prop::option::weighted(0.9, -2i64..3), 0..80),
        ) {
            let batch = numbers(values.clone());
            let quotient = over_x(BinaryOperator::Divide, 12);
            let (pieces, failures) =
                evaluate_in_pieces(&batch, |part| evaluate(&quotient, part));
            let mut found: Vec<Option<Result<Option<i64>, ()>>> = vec![None; values.len()];
            for piece in &pieces {
                let part = piece.value.as_primitive::<Int64Type>();
                prop_assert_eq!(part.len(), piece.length);
                for i in 0..piece.length {
                    let value = part.is_valid(i).then(|| part.value(i));
                    prop_assert!(found[piece.start + i].replace(Ok(value)).is_none());
                }
            }
            for failure in &failures {
                prop_assert!(found[failure.row].replace(Err(())).is_none());
            }
            let expected: Vec<_> = values
                .iter()
                .map(|x| Some(match x { Some(0) => Err(()), x => Ok(x.map(|x| 12 / x)) }))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
