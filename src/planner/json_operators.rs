//! Plans the operators of JSON: what `j -> 'a'` and its kin call ([`super::json_functions`]), and casts to JSON.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, TryCast};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::data::schema::{as_json, is_json};
use crate::data::sql_words::type_in_sql_words;
use crate::error::SqlState;
use crate::planner::error::PlanError;
use crate::planner::json_functions::{JsonFunction, argument_type, is_text};

/// The planner of operators.
#[derive(Debug)]
pub(super) struct JsonOperators;

impl ExprPlanner for JsonOperators {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator as Op;
        use JsonFunction as F;
        let RawBinaryExpr { op, left, right } = &expr;
        let (function, is_path) = match op {
            Op::Arrow => (F::Get, false),
            Op::LongArrow => (F::GetText, false),
            Op::HashArrow => (F::Part, true),
            Op::HashLongArrow => (F::PartText, true),
            Op::AtArrow | Op::ArrowAt => (F::Contains, false),
            Op::Question => (F::Has, false),
            Op::QuestionPipe => (F::HasAny, true),
            Op::QuestionAnd => (F::HasAll, true),
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let (left_type, right_type) = (left.get_type(schema)?, right.get_type(schema)?);
        let is_list = |found: &DataType| matches!(found, DataType::List(_));
        if function == F::Contains && (is_list(&left_type) || is_list(&right_type)) {
            return Ok(PlannerResult::Original(expr));
        }
        let path = is_path.then(|| path_of(right)).transpose()?.flatten();
        let fits = is_text(&left_type)
            && match function {
                _ if path.is_some() => true,
                _ if is_path => is_list(&right_type) && argument_type(&right_type).is_some(),
                F::Get | F::GetText => is_text(&right_type) || right_type.is_integer(),
                _ => is_text(&right_type),
            };
        if !fits {
            return Err(no_operator(&left_type, op, &right_type));
        }
        let RawBinaryExpr { op, left, right } = expr;
        let arguments = match op {
            Op::ArrowAt => vec![right, left],
            _ => vec![left, path.unwrap_or(right)],
        };
        Ok(PlannerResult::Planned(function.call(arguments)))
    }
}

fn no_operator(left: &DataType, op: &BinaryOperator, right: &DataType) -> DataFusionError {
    let word = |found: &DataType| type_in_sql_words(found);
    let message = format!("operator does not exist: {} {op} {}", word(left), word(right));
    let hint = "To the left of it stands JSON or a text of it, to the right of -> and ->> a name or a place, \
                of #>, #>>, ?| and ?& a list of texts.";
    let (code, hint) = (SqlState::UNDEFINED_FUNCTION, Some(hint.to_owned()));
    PlanError::Refused { code, message, hint }.into()
}

/// The list that a quoted path is: `'{a,0,"b c"}'`; `None` of anything that is not quoted.
fn path_of(expr: &Expr) -> Result<Option<Expr>> {
    let Expr::Literal(value, _) = expr else { return Ok(None) };
    let Some(Some(text)) = value.try_as_str() else { return Ok(None) };
    let Some(items) = array_items(text) else {
        let message = format!("malformed array literal: \"{text}\"");
        let hint = Some("Write '{a,b}' or ARRAY['a', 'b'].".to_owned());
        let code = SqlState::INVALID_TEXT;
        return Err(PlanError::Refused { code, message, hint }.into());
    };
    let items: Vec<ScalarValue> = items.into_iter().map(ScalarValue::Utf8View).collect();
    let list = ScalarValue::new_list_nullable(&items, &DataType::Utf8View);
    Ok(Some(Expr::Literal(ScalarValue::List(list), None)))
}

/// The items of PostgreSQL's form of a list of texts; an item NULL is one.
fn array_items(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut items = Vec::new();
    if inner.trim().is_empty() {
        return Some(items);
    }
    let mut letters = inner.chars().peekable();
    loop {
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        let mut item = String::new();
        if letters.next_if_eq(&'"').is_some() {
            loop {
                match letters.next()? {
                    '"' => break,
                    '\\' => item.push(letters.next()?),
                    letter => item.push(letter),
                }
            }
            while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
            items.push(Some(item));
        } else {
            while let Some(letter) =
                letters.next_if(|letter| !matches!(letter, ',' | '"' | '{' | '}'))
            {
                item.push(if letter == '\\' { letters.next()? } else { letter });
            }
            let item = item.trim_end();
            if item.is_empty() {
                return None;
            }
            items.push((!item.eq_ignore_ascii_case("null")).then(|| item.to_owned()));
        }
        match letters.next() {
            Some(',') => {}
            None => return Some(items),
            Some(_) => return None,
        }
    }
}

/// What a cast means where one side is JSON and the other is not; `None` elsewhere.
pub(super) fn cast(expr: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    let (inner, field, nulls) = match expr {
        Expr::Cast(Cast { expr, field }) => (expr, field, false),
        Expr::TryCast(TryCast { expr, field }) => (expr, field, true),
        _ => return Ok(None),
    };
    let Ok((_, from)) = inner.to_field(schema) else { return Ok(None) };
    if is_json(field) && !is_json(&from) {
        if !is_text(from.data_type()) {
            let from = type_in_sql_words(from.data_type());
            let message = format!("cannot cast type {from} to json");
            let code = SqlState::TYPE_MISMATCH;
            let hint = Some("Only texts are read as JSON.".to_owned());
            return Err(PlanError::Refused { code, message, hint }.into());
        }
        return Ok(Some(JsonFunction::Checked(nulls).call(vec![(**inner).clone()])));
    }
    let is_plain = !is_json(field) && is_text(field.data_type());
    Ok((is_json(&from) && is_plain).then(|| JsonFunction::Characters.call(vec![(**inner).clone()])))
}

/// The field that a cast to JSON names.
pub(super) fn json_field() -> FieldRef {
    Arc::new(as_json(Field::new("", DataType::Utf8View, true)))
}

#[cfg(test)]
mod tests {
    use super::array_items;

    #[test]
    fn lists_of_texts_are_read_as_postgresql_writes_them() {
        let some =
            |items: &[&str]| Some(items.iter().map(|item| Some((*item).to_owned())).collect());
        assert_eq!(array_items("{a,b c, 0 }"), some(&["a", "b c", "0"]));
        assert_eq!(
            array_items(r#" {"a,b" ,"say \"hi\"",x\,y} "#),
            some(&["a,b", "say \"hi\"", "x,y"])
        );
        assert_eq!(array_items("{}"), some(&[]));
        assert_eq!(
            array_items("{a,NULL,\"null\"}"),
            Some(vec![Some("a".into()), None, Some("null".into())])
        );
        for text in ["", "a", "{a", "{a,}", "{,}", "{a}b", "{\"a}", "{{a}}", "{\"a\"b}"] {
            assert_eq!(array_items(text), None, "{text}");
        }
    }
}
