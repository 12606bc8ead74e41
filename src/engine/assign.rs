//! Turns what a SELECT answered into values of a relation's columns, as PostgreSQL assigns them.
//!
//! Numbers become numbers, moments moments, and a text whatever its column reads from it; anything
//! becomes text. A value that the column cannot hold is an error, never another value.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, ListArray, StructArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type};

use crate::data::schema::is_json;
use crate::decode::{Misfit, check_texts, column_of_texts};
use crate::encode::text::TextColumn;
use crate::encode::type_name::sql_type_name;
use crate::error::{Error, Result, SqlState};

/// What kinds of values there are between which values may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Null,
    Bool,
    Int,
    Float,
    Decimal,
    Text,
    Bytes,
    Moment,
    Span,
    List,
    Struct,
    Other,
}

fn family(data_type: &DataType) -> Family {
    match data_type {
        DataType::Null => Family::Null,
        DataType::Boolean => Family::Bool,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Family::Float,
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => Family::Decimal,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Family::Text,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => Family::Bytes,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => Family::Moment,
        DataType::Interval(_) | DataType::Duration(_) => Family::Span,
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => Family::List,
        DataType::Struct(_) => Family::Struct,
        other if other.is_integer() => Family::Int,
        _ => Family::Other,
    }
}

/// The values of a column of an answer as values of a column of a relation.
///
/// # Errors
/// 42804 where the types do not go together, else what is wrong with the first value.
pub(super) fn assign(array: &ArrayRef, from: &Field, to: &Field) -> Result<ArrayRef> {
    if let DataType::Dictionary(_, values) = array.data_type() {
        let plain = cast(array, values).map_err(|_| mismatch(from, to))?;
        return assign(&plain, &from.clone().with_data_type(values.as_ref().clone()), to);
    }
    let (source, target) = (family(array.data_type()), family(to.data_type()));
    if source == Family::Null || array.null_count() == array.len() {
        return Ok(new_null_array(to.data_type(), array.len()));
    }
    match (source, target) {
        (Family::Text, Family::Text) => {
            let texts = cast(array, &DataType::Utf8View).map_err(|_| mismatch(from, to))?;
            check_texts(to, texts.as_string_view().iter()).map_err(misfit)?;
            Ok(texts)
        }
        (_, Family::Text) if is_json(to) => Err(mismatch(from, to)),
        // PostgreSQL spells the words out in a text, though not in an answer.
        (Family::Bool, Family::Text) => from_cast(array, from, to),
        (Family::Text, _) | (_, Family::Text) => from_texts(array, from, to),
        (Family::List, Family::List) => list(array, from, to),
        (Family::Struct, Family::Struct) => structure(array.as_struct(), from, to),
        _ if array.data_type() == to.data_type() => Ok(Arc::clone(array)),
        (Family::Int, Family::Int | Family::Float) | (Family::Float, Family::Float) => {
            number(array, from, to)
        }
        (Family::Int | Family::Float | Family::Decimal, Family::Decimal)
        | (Family::Decimal, Family::Float) => from_texts(array, from, to),
        (Family::Decimal, Family::Int) => {
            let whole = from.clone().with_data_type(DataType::Decimal128(38, 0));
            let whole = whole.with_name(to.name());
            from_texts(&from_texts(array, from, &whole)?, &whole, to)
        }
        (Family::Float, Family::Int) => {
            // To the nearest, and halfway to the even one, as PostgreSQL rounds a float.
            let floats = cast(array, &DataType::Float64).map_err(|_| mismatch(from, to))?;
            let floats = floats.as_primitive::<Float64Type>();
            let whole: Float64Array = floats.unary(f64::round_ties_even);
            let text = |value: f64| if value == 0.0 { "0".into() } else { format!("{value:.0}") };
            let texts: Vec<_> = whole.iter().map(|value| value.map(text)).collect();
            column_of_texts(to, &texts).map_err(misfit)
        }
        (Family::Moment, Family::Moment)
        | (Family::Span, Family::Span)
        | (Family::Bytes, Family::Bytes) => from_cast(array, from, to),
        _ => Err(mismatch(from, to)),
    }
}

/// A cast that alters no value; one that the type cannot hold is told by its text.
fn number(array: &ArrayRef, from: &Field, to: &Field) -> Result<ArrayRef> {
    let all = cast(array, to.data_type()).map_err(|_| mismatch(from, to))?;
    let became_infinite = to.data_type() == &DataType::Float32
        && array.data_type() == &DataType::Float64
        && array.as_primitive::<Float64Type>().iter().flatten().any(|value| {
            value.is_finite()
                && ((value as f32).is_infinite() || (value != 0.0 && value as f32 == 0.0))
        });
    if became_infinite || all.null_count() > array.null_count() {
        return from_texts(array, from, to);
    }
    Ok(all)
}

fn from_cast(array: &ArrayRef, from: &Field, to: &Field) -> Result<ArrayRef> {
    let all = cast(array, to.data_type()).map_err(|_| mismatch(from, to))?;
    if all.null_count() > array.null_count() {
        let (name, type_name) = (to.name(), sql_type_name(to).to_lowercase());
        let message = format!("value of column \"{name}\" is out of range for type {type_name}");
        return Err(Error::new(SqlState::DATETIME_RANGE, message));
    }
    Ok(all)
}

fn from_texts(array: &ArrayRef, from: &Field, to: &Field) -> Result<ArrayRef> {
    let texts = TextColumn::new(array, from);
    let texts: Vec<_> = (0..array.len()).map(|row| texts.value(row)).collect();
    column_of_texts(to, &texts).map_err(misfit)
}

fn list(array: &ArrayRef, from: &Field, to: &Field) -> Result<ArrayRef> {
    let (DataType::List(wanted), Some(item)) = (to.data_type(), item_of(array.data_type())) else {
        return Err(mismatch(from, to));
    };
    // One kind of list, so that there is one kind of offsets.
    let plain = DataType::List(Arc::clone(&item));
    let lists = cast(array, &plain).map_err(|_| mismatch(from, to))?;
    let lists = lists.as_list::<i32>();
    let source = item.as_ref().clone().with_name(from.name());
    let target = wanted.as_ref().clone().with_name(to.name());
    let items = assign(lists.values(), &source, &target)?;
    let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
    ListArray::try_new(Arc::clone(wanted), offsets, items, nulls)
        .map(|lists| Arc::new(lists) as ArrayRef)
        .map_err(|_| mismatch(from, to))
}

fn item_of(data_type: &DataType) -> Option<Arc<Field>> {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            Some(Arc::clone(item))
        }
        _ => None,
    }
}

/// Fields by name where all have theirs, else by their places.
fn structure(array: &StructArray, from: &Field, to: &Field) -> Result<ArrayRef> {
    let DataType::Struct(wanted) = to.data_type() else { return Err(mismatch(from, to)) };
    if wanted.len() != array.num_columns() {
        return Err(mismatch(from, to));
    }
    let named: Option<Vec<usize>> =
        wanted.iter().map(|field| Some(array.fields().find(field.name())?.0)).collect();
    let places = named.unwrap_or_else(|| (0..wanted.len()).collect());
    let columns = places.iter().zip(wanted).map(|(place, field)| {
        let target = field.as_ref().clone().with_name(to.name());
        assign(array.column(*place), &array.fields()[*place], &target)
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    StructArray::try_new(wanted.clone(), columns, array.nulls().cloned())
        .map(|structs| Arc::new(structs) as ArrayRef)
        .map_err(|_| mismatch(from, to))
}

fn misfit(misfit: Misfit) -> Error {
    Error::new(misfit.code, misfit.message)
}

fn mismatch(from: &Field, to: &Field) -> Error {
    let (target, source) = (sql_type_name(to), sql_type_name(from));
    Error::new(
        SqlState::TYPE_MISMATCH,
        format!(
            "column \"{}\" is of type {} but expression is of type {}",
            to.name(),
            target.to_lowercase(),
            source.to_lowercase()
        ),
    )
    .with_hint(format!("Write a value of the type, or CAST(… AS {target})."))
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Int64Array, StringArray};

    use super::*;

    fn check(array: ArrayRef, to: DataType, expected: Result<&str, &str>) {
        let from = Field::new("x", array.data_type().clone(), true);
        let to = Field::new("n", to, true);
        let found = assign(&array, &from, &to).map(|values| {
            assert_eq!(values.data_type(), to.data_type());
            crate::encode::text::display(&values, 0, &to)
        });
        let found = found.as_ref().map(String::as_str).map_err(|error| error.code().0);
        assert_eq!(found, expected, "{from} to {to}");
    }

    #[test]
    fn numbers_are_rounded_and_checked_but_never_cut() {
        let float = |value: f64| Arc::new(Float64Array::from(vec![value])) as ArrayRef;
        check(float(2.5), DataType::Int64, Ok("2"));
        check(float(3.5), DataType::Int64, Ok("4"));
        check(float(-0.4), DataType::Int64, Ok("0"));
        check(float(1e19), DataType::Int64, Err("22003"));
        check(float(1e39), DataType::Float32, Err("22003"));
        check(float(1e-60), DataType::Float32, Err("22003"));
        check(float(0.1), DataType::Decimal128(20, 4), Ok("0.1000"));
        let int = |value: i64| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
        check(int(40_000), DataType::Int16, Err("22003"));
        check(int(-7), DataType::Int16, Ok("-7"));
        check(int(7), DataType::Utf8View, Ok("7"));
        let decimal = Field::new("n", DataType::Decimal128(5, 2), true);
        let decimal = |text: &str| column_of_texts(&decimal, &[Some(text.into())]).unwrap();
        check(decimal("2.50"), DataType::Int32, Ok("3"));
        check(decimal("-2.50"), DataType::Int32, Ok("-3"));
        check(decimal("2.55"), DataType::Decimal128(5, 1), Ok("2.6"));
        check(decimal("999.99"), DataType::Decimal128(4, 2), Err("22003"));
    }

    #[test]
    fn what_is_no_number_is_none() {
        let yes = Arc::new(BooleanArray::from(vec![true])) as ArrayRef;
        check(Arc::clone(&yes), DataType::Int64, Err("42804"));
        check(yes, DataType::Utf8View, Ok("true"));
        let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
        check(text("12"), DataType::Int64, Ok("12"));
        check(text("many"), DataType::Int64, Err("22P02"));
        check(text("\\x00ff"), DataType::Binary, Ok("\\x00ff"));
        let one = Arc::new(Int64Array::from(vec![1])) as ArrayRef;
        check(Arc::clone(&one), DataType::Boolean, Err("42804"));
        check(one, crate::data::schema::TIMESTAMP, Err("42804"));
    }
}
