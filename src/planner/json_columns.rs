//! Computes the functions of JSON over columns ([`super::json_functions`]).

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Int32Builder, Int64Array, ListArray, ListBuilder,
    StringViewArray, StringViewBuilder,
};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;

use crate::decode::{Documents, Fault, JSON_LEVELS, JsonType, Node, Step};
use crate::planner::json_functions::JsonFunction;

use JsonFunction as F;

/// What a function other than [`JsonFunction::Contains`] says of each document.
pub(super) fn asked(
    function: JsonFunction,
    texts: &StringViewArray,
    arguments: &[ArrayRef],
) -> Result<ArrayRef> {
    let mut documents = Documents::default();
    let steps = Steps::of(function, arguments)?;
    Ok(match function {
        F::Checked(nulls) => Arc::new(texts_of(texts, |text, values| {
            let value = documents.value(text);
            values.append_option(if nulls { value.ok() } else { Some(value?) });
            Ok(())
        })?),
        F::Characters => Arc::new(texts.clone()),
        F::Get | F::Part => parts(texts, &steps, |part, values| {
            values.append_value(part);
            Ok(())
        })?,
        F::GetText | F::PartText => parts(texts, &steps, |part, values| {
            values.append_option(documents.text(part)?);
            Ok(())
        })?,
        F::Has | F::HasAny | F::HasAll => has(texts, &steps, function == F::HasAll)?,
        F::TypeOf => Arc::new(texts_of(texts, |text, values| {
            values.append_value(JsonType::of(documents.value(text)?).name());
            Ok(())
        })?),
        F::ArrayLength => {
            let mut lengths = Int32Builder::with_capacity(texts.len());
            for text in texts {
                let mut length = 0;
                let count = |text| documents.items(text, |_| length += 1);
                match text.map(count).transpose().map_err(row_error)? {
                    Some(false) => return exec_err!("cannot get array length of a non-array"),
                    is_array => lengths.append_option(is_array.map(|_| length)),
                }
            }
            Arc::new(lengths.finish())
        }
        F::Items | F::ItemTexts | F::Names => lists(function, texts)?,
        F::Contains => unreachable!("its second argument is a document"),
    })
}

/// A text for each text that is not null; `append` appends one.
fn texts_of<'t>(
    texts: &'t StringViewArray,
    mut append: impl FnMut(&'t str, &mut StringViewBuilder) -> Result<(), Fault>,
) -> Result<StringViewArray> {
    let mut values = StringViewBuilder::with_capacity(texts.len());
    for text in texts {
        match text {
            Some(text) => append(text, &mut values).map_err(row_error)?,
            None => values.append_null(),
        }
    }
    Ok(values.finish())
}

/// The part of each document; `append` appends one that is there.
fn parts(
    texts: &StringViewArray,
    steps: &Steps<'_>,
    mut append: impl FnMut(&str, &mut StringViewBuilder) -> Result<(), Fault>,
) -> Result<ArrayRef> {
    let (mut documents, mut path) = (Documents::default(), Vec::new());
    let mut values = StringViewBuilder::with_capacity(texts.len());
    for row in 0..texts.len() {
        if texts.is_null(row) || !steps.read(row, &mut path) {
            values.append_null();
            continue;
        }
        match documents.part(texts.value(row), &path).map_err(row_error)? {
            Some(part) => append(part, &mut values).map_err(row_error)?,
            None => values.append_null(),
        }
    }
    Ok(Arc::new(values.finish()))
}

/// Whether each document has any of its names, or all of them; one that is null is none of them.
fn has(texts: &StringViewArray, steps: &Steps<'_>, all: bool) -> Result<ArrayRef> {
    let (mut documents, mut names) = (Documents::default(), Vec::new());
    let mut answers = BooleanBuilder::with_capacity(texts.len());
    for row in 0..texts.len() {
        if texts.is_null(row) || !steps.read_known(row, &mut names) {
            answers.append_null();
            continue;
        }
        let document = Node::read(texts.value(row), &mut documents).map_err(row_error)?;
        let has = |step: &Step<'_>| matches!(step, Step::Either(name) if document.has(name));
        answers.append_value(if all { names.iter().all(has) } else { names.iter().any(has) });
    }
    Ok(Arc::new(answers.finish()))
}

/// What UNNEST makes rows of.
fn lists(function: JsonFunction, texts: &StringViewArray) -> Result<ArrayRef> {
    let (mut documents, mut inner) = (Documents::default(), Documents::default());
    let mut lists = ListBuilder::new(StringViewBuilder::new());
    if let DataType::List(item) = function.field().data_type() {
        lists = lists.with_field(Arc::clone(item));
    }
    for text in texts {
        let Some(text) = text else {
            lists.append_null();
            continue;
        };
        let items = lists.values();
        let mut misread = None;
        let (fits, kind) = match function {
            F::Names => (documents.members(text, |name, _| items.append_value(name)), "object"),
            F::Items => (documents.items(text, |item| items.append_value(item)), "array"),
            _ => {
                let append = |item| match inner.text(item) {
                    Ok(text) => items.append_option(text),
                    Err(fault) => misread = Some(fault),
                };
                (documents.items(text, append), "array")
            }
        };
        let fits = misread.map_or(fits, Err).map_err(row_error)?;
        if !fits {
            return exec_err!("a JSON {} is no {kind}", JsonType::of(text).name());
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

/// Whether each document contains the other one.
pub(super) fn contains(
    texts: &StringViewArray,
    others: &ColumnarValue,
    rows: usize,
) -> Result<ArrayRef> {
    let mut documents = Documents::default();
    let is_constant = matches!(others, ColumnarValue::Scalar(_));
    let others = others.to_array(if is_constant { 1 } else { rows })?;
    let others = others.as_string_view();
    let constant = match is_constant && others.is_valid(0) {
        true => Some(Node::read(others.value(0), &mut documents).map_err(row_error)?),
        false => None,
    };
    let mut answers = BooleanBuilder::with_capacity(rows);
    for row in 0..rows {
        if texts.is_null(row) || others.is_null(if is_constant { 0 } else { row }) {
            answers.append_null();
            continue;
        }
        let document = Node::read(texts.value(row), &mut documents).map_err(row_error)?;
        let answer = match &constant {
            Some(other) => document.contains(other),
            None => {
                let other = Node::read(others.value(row), &mut documents).map_err(row_error)?;
                document.contains(&other)
            }
        };
        let too_long = || {
            let text = "Two JSON documents are too large to tell whether one contains the other";
            DataFusionError::ResourcesExhausted(text.to_owned())
        };
        answers.append_value(answer.ok_or_else(too_long)?);
    }
    Ok(Arc::new(answers.finish()))
}

/// The arguments behind the document: where to go from it.
struct Steps<'a> {
    columns: Vec<StepColumn<'a>>,
    /// A text is the name of a member, never a place in an array.
    only_names: bool,
}

enum StepColumn<'a> {
    Texts(&'a StringViewArray),
    Places(&'a Int64Array),
    Paths(&'a ListArray),
}

impl<'a> Steps<'a> {
    fn of(function: JsonFunction, arguments: &'a [ArrayRef]) -> Result<Steps<'a>> {
        let column = |array: &'a ArrayRef| match array.data_type() {
            DataType::Utf8View => Ok(StepColumn::Texts(array.as_string_view())),
            DataType::Int64 => Ok(StepColumn::Places(array.as_primitive::<Int64Type>())),
            DataType::List(_) => Ok(StepColumn::Paths(array.as_list())),
            other => exec_err!("no part of a document is found by {other}"),
        };
        let columns = arguments.iter().map(column).collect::<Result<_>>()?;
        Ok(Steps { columns, only_names: matches!(function, F::Get | F::GetText) })
    }

    /// Reads those of a row; false where one is null.
    fn read(&self, row: usize, steps: &mut Vec<Step<'a>>) -> bool {
        let count = self.columns.iter().map(|column| match column {
            StepColumn::Paths(paths) if paths.is_valid(row) => paths.value_length(row) as usize,
            _ => 1,
        });
        self.read_known(row, steps) && steps.len() == count.sum::<usize>()
    }

    /// Reads those of a row without the nulls in a list; false where an argument is null.
    fn read_known(&self, row: usize, steps: &mut Vec<Step<'a>>) -> bool {
        steps.clear();
        let step = if self.only_names { Step::Member } else { Step::Either };
        self.columns.iter().all(|column| match column {
            StepColumn::Texts(texts) => {
                texts.is_valid(row) && {
                    steps.push(step(texts.value(row)));
                    true
                }
            }
            StepColumn::Places(places) => {
                places.is_valid(row) && {
                    steps.push(Step::Item(places.value(row)));
                    true
                }
            }
            StepColumn::Paths(paths) => {
                paths.is_valid(row) && {
                    let offsets = paths.value_offsets();
                    let items = paths.values().as_string_view();
                    let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                    let known = (start..end).filter(|item| items.is_valid(*item));
                    steps.extend(known.map(|item| step(items.value(item))));
                    true
                }
            }
        })
    }
}

fn row_error(fault: Fault) -> DataFusionError {
    match fault {
        Fault::Json(expected, at) => exec_datafusion_err!(
            "invalid input syntax for type json: expected {expected} at byte {}",
            at + 1
        ),
        Fault::Deep => DataFusionError::ResourcesExhausted(format!(
            "JSON nests deeper than {JSON_LEVELS} levels"
        )),
        Fault::Value(_) => exec_datafusion_err!("invalid input syntax for type json"),
    }
}
