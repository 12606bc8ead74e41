//! Makes one row of each element of list columns, and one column of each field of struct columns.
//!
//! Several lists of a row expand side by side; the shorter ones are padded with null. A list of
//! lists that is unnested to depth 2 is expanded twice. All other columns repeat.
//!
//! ```text
//!  a      b      n            a     b     n
//!  [1,2]  [x]    7     ->     1     x     7
//!  []     null   8            2     null  7
//! ```
//!
//! # Method
//!
//! Level by level from the greatest depth down, every list that is due is replaced by its elements,
//! and a list of parents says which input row each output row came from. The other columns are
//! taken once, at the end. Output is cut so that a change has about [`ROWS_PER_CHANGE`] rows; one
//! input row is never cut.
//!
//! Where a row takes the place of another (a retraction, then an insertion) and only the list is another, what both
//! lists begin with is left out: it would be retracted and inserted again. So a list that grows by an element costs
//! a row, and not one for each element that was there before; of such lists EXCEPT ALL makes the copies of a row.
//!
//! # State
//!
//! None.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, RecordBatch, RecordBatchOptions, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use datafusion::common::NullHandling;

use crate::data::change::Change;
use crate::data::punctuation::{Punctuation, column_named, name_at};
use crate::operators::operator::{Emitter, EvalError};
use crate::operators::stateless::Stateless;

/// Rows that one change of the output holds, unless a single input row makes more.
const ROWS_PER_CHANGE: usize = 65_536;

/// Which columns to expand, in the terms of DataFusion's `LogicalPlan::Unnest`.
#[derive(Debug, Clone)]
pub struct UnnestSpec {
    /// `list_type_columns`: a column may appear several times with different depths.
    pub lists: Vec<ListUnnest>,
    /// `struct_type_columns`: indices into the input.
    pub structs: Vec<usize>,
    /// `options.null_handling`: what null and empty lists give. SQL's UNNEST is `Drop`.
    pub nulls: NullHandling,
    /// `dependency_indices`: for each output column the input column that it comes from.
    pub dependencies: Vec<usize>,
    /// Columns of the input.
    pub input_schema: SchemaRef,
    /// Columns of the output: each input column in its place, or what it expands to.
    pub schema: SchemaRef,
}

/// A list column to expand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListUnnest {
    /// Index in the input.
    pub column: usize,
    /// How many levels of lists to expand; at least 1.
    pub depth: usize,
}

/// Runs an [`UnnestSpec`].
#[derive(Debug)]
pub struct Unnest {
    spec: Arc<UnnestSpec>,
    depth_max: usize,
}

/// A list that is being expanded, or has been.
struct Expansion {
    list: ListUnnest,
    /// Its values in the rows as they are now; `None` until its depth is reached.
    values: Option<ArrayRef>,
}

impl Unnest {
    /// An operator for `spec`.
    pub fn new(spec: Arc<UnnestSpec>) -> Unnest {
        assert!(spec.lists.iter().all(|list| list.depth > 0));
        let depth_max = spec.lists.iter().map(|list| list.depth).max().unwrap_or(0);
        Unnest { spec, depth_max }
    }

    /// Expands `change`, whose output is not cut again.
    fn expand(&self, change: &Change) -> Result<Change, EvalError> {
        let mut expansions: Vec<Expansion> =
            self.spec.lists.iter().map(|&list| Expansion { list, values: None }).collect();
        let mut parents: Option<UInt32Array> = None;
        for depth in (1..=self.depth_max).rev() {
            let level = self.expand_level(change, depth, &mut expansions, parents.as_ref())?;
            parents = Some(match parents {
                Some(earlier) => take(&earlier, &level)?.as_primitive().clone(),
                None => level,
            });
        }
        let repeated = match &parents {
            Some(parents) => {
                // Only columns that survive are worth repeating.
                let survivors = self.without_lists(change)?;
                survivors.take(parents)?
            }
            None => change.clone(),
        };
        let batch = self.assemble(&repeated.batch, expansions)?;
        Ok(repeated.with_batch(batch))
    }

    /// The change with every expanded list replaced by nothing that costs: an empty-typed null.
    fn without_lists(&self, change: &Change) -> Result<Change, EvalError> {
        let keep: Vec<usize> = (0..change.batch.num_columns())
            .filter(|column| !self.spec.lists.iter().any(|list| list.column == *column))
            .collect();
        Ok(change.with_batch(change.batch.project(&keep)?))
    }

    /// Replaces the lists due at `depth` by their elements; gives each new row's former row.
    fn expand_level(
        &self,
        change: &Change,
        depth: usize,
        expansions: &mut [Expansion],
        parents: Option<&UInt32Array>,
    ) -> Result<UInt32Array, EvalError> {
        let mut due: Vec<(usize, ListArray)> = Vec::new();
        for (i, expansion) in expansions.iter_mut().enumerate() {
            let values = match expansion.values.take() {
                Some(values) => values,
                None if expansion.list.depth == depth => {
                    let column = change.batch.column(expansion.list.column);
                    parents.map_or_else(|| Ok(Arc::clone(column)), |p| take(column, p))?
                }
                None => continue,
            };
            due.push((i, as_list(&values)?));
        }
        let rows = due.first().map_or(0, |(_, list)| list.len());
        let (mut level, mut lengths) = (Vec::new(), Vec::with_capacity(rows));
        for row in 0..rows {
            let length =
                due.iter().map(|(_, list)| self.length(list, row)).max().unwrap_or_default();
            level.extend(std::iter::repeat_n(row as u32, length));
            lengths.push(length);
        }
        for (i, list) in due {
            expansions[i].values = Some(elements(&list, &lengths, level.len())?);
        }
        Ok(UInt32Array::from(level))
    }

    /// How many rows a list asks for.
    fn length(&self, list: &ListArray, row: usize) -> usize {
        let null = list.is_null(row);
        match (null, if null { 0 } else { list.value_length(row) as usize }) {
            (true, _) => usize::from(self.spec.nulls != NullHandling::Drop),
            (false, 0) => usize::from(self.spec.nulls == NullHandling::PreserveAndExpandEmpty),
            (false, length) => length,
        }
    }

    /// The same rows, without what the lists of a retraction and of the insertion behind it begin with. `None` where
    /// there is nothing to leave out, or a list without elements would give a row.
    fn without_common(&self, change: &Change) -> Result<Option<Change>, EvalError> {
        let [ListUnnest { column, depth: 1 }] = self.spec.lists[..] else { return Ok(None) };
        let list = change.batch.column(column).as_list_opt::<i32>();
        let (Some(list), NullHandling::Drop) = (list, self.spec.nulls) else { return Ok(None) };
        let mut skipped = vec![0; list.len()];
        let mut row = 1;
        while row < list.len() {
            if change.weight(row - 1) < 0
                && change.weight(row - 1) + change.weight(row) == 0
                && others_equal(&change.batch, column, row)
            {
                let common = common_start(list, row);
                skipped[row - 1] = common;
                skipped[row] = common;
                row += 1;
            }
            row += 1;
        }
        if skipped.iter().all(|&common| common == 0) {
            return Ok(None);
        }
        let mut columns = change.batch.columns().to_vec();
        columns[column] = Arc::new(without_start(list, &skipped)?);
        Ok(Some(change.with_batch(RecordBatch::try_new(change.batch.schema(), columns)?)))
    }

    /// Puts the output's columns in order. `repeated` lacks the expanded lists.
    fn assemble(
        &self,
        repeated: &RecordBatch,
        mut expansions: Vec<Expansion>,
    ) -> Result<RecordBatch, EvalError> {
        let mut columns = Vec::with_capacity(self.spec.schema.fields().len());
        let mut others = repeated.columns().iter();
        for input in 0..self.spec.input_schema.fields().len() {
            let mut expanded = false;
            for expansion in expansions.iter_mut().filter(|e| e.list.column == input) {
                expanded = true;
                columns.extend(expansion.values.take());
            }
            if expanded {
                continue;
            }
            let column = others.next().expect("every other input column was repeated");
            if self.spec.structs.contains(&input) {
                columns.extend(fields_of(column)?);
            } else {
                columns.push(Arc::clone(column));
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(repeated.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.spec.schema), columns, &options)?)
    }

    /// Ranges of rows whose output fits into one change.
    fn cuts(&self, batch: &RecordBatch) -> Result<Vec<(usize, usize)>, EvalError> {
        let rows = batch.num_rows();
        let mut sizes = vec![1usize; rows];
        for list in &self.spec.lists {
            let mut values = Arc::clone(batch.column(list.column));
            // Elements of the innermost level that a row owns, by following the offsets down.
            let mut edges: Vec<usize> = (0..=rows).collect();
            for _ in 0..list.depth {
                let array = as_list(&values)?;
                let offsets = array.value_offsets();
                edges = edges.iter().map(|&edge| offsets[edge] as usize).collect();
                values = Arc::clone(array.values());
            }
            for row in 0..rows {
                sizes[row] = sizes[row].max(edges[row + 1] - edges[row]);
            }
        }
        let (mut cuts, mut start, mut size) = (Vec::new(), 0, 0usize);
        for (row, rows_out) in sizes.iter().enumerate() {
            if row > start && size + rows_out > ROWS_PER_CHANGE {
                cuts.push((start, row - start));
                (start, size) = (row, 0);
            }
            size += rows_out;
        }
        cuts.push((start, rows - start));
        Ok(cuts)
    }
}

fn take(values: &dyn Array, indices: &UInt32Array) -> Result<ArrayRef, ArrowError> {
    compute::take(values, indices, None)
}

/// Any kind of list as the plain one.
fn as_list(values: &ArrayRef) -> Result<ListArray, EvalError> {
    let item = match values.data_type() {
        DataType::List(_) => return Ok(values.as_list::<i32>().clone()),
        DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => Arc::clone(item),
        other => return Err(EvalError::Broken(format!("unnest of a column of type {other}"))),
    };
    Ok(compute::cast(values, &DataType::List(item))?.as_list::<i32>().clone())
}

/// The elements of each list, padded with nulls to `lengths`.
fn elements(list: &ListArray, lengths: &[usize], total: usize) -> Result<ArrayRef, ArrowError> {
    let mut indices: Vec<Option<u32>> = Vec::with_capacity(total);
    for (row, &length) in lengths.iter().enumerate() {
        let start = list.value_offsets()[row] as u32;
        let own = if list.is_null(row) { 0 } else { list.value_length(row) as usize };
        indices.extend((start..start + own as u32).map(Some));
        indices.extend(std::iter::repeat_n(None, length - own));
    }
    take(list.values(), &UInt32Array::from(indices))
}

/// Whether a row and the one before it have the same values, but for one column.
fn others_equal(batch: &RecordBatch, except: usize, row: usize) -> bool {
    let mut others = batch.columns().iter().enumerate().filter(|(column, _)| *column != except);
    others.all(|(_, values)| values.slice(row - 1, 1) == values.slice(row, 1))
}

/// How many elements the lists of a row and of the one before it have in common at their start.
fn common_start(list: &ListArray, row: usize) -> usize {
    if list.is_null(row - 1) || list.is_null(row) {
        return 0;
    }
    let (before, now) = (list.value(row - 1), list.value(row));
    let length = before.len().min(now.len());
    if before.slice(0, length) == now.slice(0, length) {
        return length;
    }
    // The most elements that are equal; one more are not.
    let (mut equal, mut unequal) = (0, length);
    while unequal - equal > 1 {
        let middle = equal.midpoint(unequal);
        match before.slice(0, middle) == now.slice(0, middle) {
            true => equal = middle,
            false => unequal = middle,
        }
    }
    equal
}

/// Each list without so many elements at its start.
fn without_start(list: &ListArray, skipped: &[usize]) -> Result<ListArray, ArrowError> {
    let (mut indices, mut lengths) = (Vec::new(), Vec::with_capacity(list.len()));
    for (row, &skipped) in skipped.iter().enumerate() {
        let (start, end) = (list.value_offsets()[row], list.value_offsets()[row + 1]);
        let kept = if list.is_null(row) { end..end } else { start + skipped as i32..end };
        lengths.push(kept.len());
        indices.extend(kept.map(|index| index as u32));
    }
    let values = take(list.values(), &UInt32Array::from(indices))?;
    let DataType::List(item) = list.data_type() else { unreachable!("a ListArray is a list") };
    let offsets = OffsetBuffer::from_lengths(lengths);
    ListArray::try_new(Arc::clone(item), offsets, values, list.nulls().cloned())
}

/// The fields of a struct column; a null struct has null fields.
fn fields_of(column: &ArrayRef) -> Result<Vec<ArrayRef>, EvalError> {
    let Some(fields) = column.as_struct_opt() else {
        let data_type = column.data_type();
        return Err(EvalError::Broken(format!("unnest of a struct, found type {data_type}")));
    };
    if fields.null_count() == 0 {
        return Ok(fields.columns().to_vec());
    }
    let present: UInt32Array =
        (0..fields.len()).map(|row| fields.is_valid(row).then_some(row as u32)).collect();
    Ok(fields.columns().iter().map(|field| take(field, &present)).collect::<Result<_, _>>()?)
}

impl Stateless for Unnest {
    const NAME: &'static str = "Unnest";
    const ROWS_AT_ONCE: usize = 4096;

    fn pass(&self, mut change: Change, out: &mut Emitter) -> Result<(), EvalError> {
        if change.weights.is_some()
            && let Some(rest) = self.without_common(&change)?
        {
            change = rest;
        }
        for (start, length) in self.cuts(&change.batch)? {
            out.change(self.expand(&change.slice(start, length))?);
            out.check_room()?;
        }
        Ok(())
    }

    /// Holds for the output if it speaks of repeated columns only.
    fn punctuation(&self, punctuation: &Punctuation) -> Option<Punctuation> {
        let spec = &self.spec;
        punctuation.renamed(|name| {
            let input = column_named(&spec.input_schema, name)?;
            let expanded =
                spec.structs.contains(&input) || spec.lists.iter().any(|list| list.column == input);
            let output = spec.dependencies.iter().position(|&column| column == input)?;
            (!expanded).then(|| name_at(&spec.schema, output))
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StructArray};
    use arrow::buffer::NullBuffer;
    use arrow::datatypes::{Field, Fields, Int32Type, Int64Type, Schema};
    use arrow::util::pretty::pretty_format_batches;
    use expect_test::{Expect, expect};

    use super::*;
    use crate::data::change::{Marks, Origin};
    use crate::operators::operator::{Operator, Output};

    fn list(values: Vec<Option<Vec<Option<i32>>>>) -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(values))
    }

    fn change(columns: Vec<(&str, ArrayRef)>) -> Change {
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        )
        .unwrap();
        let origin = Origin {
            relation: Arc::from("s"),
            first_offset: 10,
            ingest_time: 0,
            arrival: Marks::All(i64::MIN),
            progress: Marks::All(i64::MIN),
            derived: false,
        };
        Change { batch, weights: None, origin: Arc::new(origin), rows: None }
    }

    fn unnest(
        change: &Change,
        lists: &[(usize, usize)],
        structs: &[usize],
        nulls: NullHandling,
    ) -> Unnest {
        let input_schema = change.batch.schema();
        let (mut fields, mut dependencies) = (Vec::new(), Vec::new());
        for (i, field) in input_schema.fields().iter().enumerate() {
            let mut own = Vec::new();
            for (_, depth) in lists.iter().filter(|(column, _)| *column == i) {
                let mut data_type = field.data_type().clone();
                for _ in 0..*depth {
                    if let DataType::List(item) = data_type {
                        data_type = item.data_type().clone();
                    }
                }
                own.push(Field::new(format!("{}{depth}", field.name()), data_type, true));
            }
            match field.data_type() {
                DataType::Struct(inner) if structs.contains(&i) => {
                    own.extend(inner.iter().map(|f| f.as_ref().clone().with_nullable(true)));
                }
                _ if own.is_empty() => own.push(field.as_ref().clone()),
                _ => {}
            }
            dependencies.extend(own.iter().map(|_| i));
            fields.extend(own);
        }
        Unnest::new(Arc::new(UnnestSpec {
            lists: lists.iter().map(|&(column, depth)| ListUnnest { column, depth }).collect(),
            structs: structs.to_vec(),
            nulls,
            dependencies,
            input_schema,
            schema: Arc::new(Schema::new(fields)),
        }))
    }

    fn run(mut unnest: Unnest, change: Change) -> Vec<Change> {
        let mut out = Emitter::default();
        unnest.on_change(0, change, &mut out).unwrap();
        let changes = out.outputs.into_iter().map(|output| match output {
            Output::Change(change) => change,
            other => panic!("expected rows, found {other:?}"),
        });
        changes.collect()
    }

    fn check(unnest: Unnest, change: Change, expected: Expect) {
        let batches: Vec<RecordBatch> = run(unnest, change).into_iter().map(|c| c.batch).collect();
        expected.assert_eq(&pretty_format_batches(&batches).unwrap().to_string());
    }

    fn two_lists() -> Change {
        let a = list(vec![Some(vec![Some(1), None]), Some(vec![]), None, Some(vec![Some(4)])]);
        let b = list(vec![Some(vec![Some(10)]), None, None, Some(vec![Some(40), Some(41)])]);
        change(vec![("a", a), ("n", Arc::new(Int64Array::from(vec![7, 8, 9, 6]))), ("b", b)])
    }

    #[test]
    fn lists_expand_side_by_side_and_the_shorter_is_padded() {
        let input = two_lists();
        let op = unnest(&input, &[(0, 1), (2, 1)], &[], NullHandling::Drop);
        check(
            op,
            input,
            expect![[r#"
                +----+---+----+
                | a1 | n | b1 |
                +----+---+----+
                | 1  | 7 | 10 |
                |    | 7 |    |
                | 4  | 6 | 40 |
                |    | 6 | 41 |
                +----+---+----+"#]],
        );
    }

    #[test]
    fn null_and_empty_lists_give_a_row_only_where_asked() {
        let input = two_lists();
        let rows = |nulls| {
            let changes = run(unnest(&input, &[(0, 1)], &[], nulls), input.clone());
            changes.iter().map(|c| c.batch.num_rows()).sum::<usize>()
        };
        assert_eq!(rows(NullHandling::Drop), 3);
        assert_eq!(rows(NullHandling::Preserve), 4);
        assert_eq!(rows(NullHandling::PreserveAndExpandEmpty), 5);
    }

    #[test]
    fn elements_remember_the_row_that_they_came_from() {
        let mut input = two_lists();
        input.weights = Some(Int64Array::from(vec![1, 1, 1, -1]));
        let changes = run(unnest(&input, &[(0, 1)], &[], NullHandling::Drop), input);
        let rows: Vec<_> = (0..3).map(|i| (changes[0].offset(i), changes[0].weight(i))).collect();
        assert_eq!(rows, [(10, 1), (10, 1), (13, -1)]);
    }

    #[test]
    fn what_a_list_and_its_successor_begin_with_is_not_said_again() {
        let a = list(vec![
            Some(vec![Some(1), None, Some(3)]),
            Some(vec![Some(1), None, Some(4), Some(5)]),
            Some(vec![Some(6)]),
            Some(vec![Some(6)]),
        ]);
        let n = Arc::new(Int64Array::from(vec![7, 7, 8, 9]));
        let mut input = change(vec![("a", a), ("n", n)]);
        input.weights = Some(Int64Array::from(vec![-1, 1, -1, 1]));
        let changes = run(unnest(&input, &[(0, 1)], &[], NullHandling::Drop), input.clone());
        let weights: Vec<i64> = (0..5).map(|row| changes[0].weight(row)).collect();
        assert_eq!(weights, [-1, 1, 1, -1, 1]);
        check(
            unnest(&input, &[(0, 1)], &[], NullHandling::Drop),
            input,
            expect![[r#"
                +----+---+
                | a1 | n |
                +----+---+
                | 3  | 7 |
                | 4  | 7 |
                | 5  | 7 |
                | 6  | 8 |
                | 6  | 9 |
                +----+---+"#]],
        );
    }

    #[test]
    fn a_column_may_be_unnested_to_several_depths() {
        let inner = list(vec![Some(vec![Some(1), Some(2)]), Some(vec![Some(3)]), None]);
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([2, 1, 0]);
        let field = Arc::new(Field::new("item", inner.data_type().clone(), true));
        let outer: ArrayRef = Arc::new(ListArray::new(field, offsets, inner, None));
        let input = change(vec![("a", outer), ("n", Arc::new(Int64Array::from(vec![7, 8, 9])))]);
        let op = unnest(&input, &[(0, 2), (0, 1)], &[], NullHandling::Drop);
        check(
            op,
            input,
            expect![[r#"
                +----+--------+---+
                | a2 | a1     | n |
                +----+--------+---+
                | 1  | [1, 2] | 7 |
                | 2  | [3]    | 7 |
                | 3  | [1, 2] | 7 |
                |    | [3]    | 7 |
                |    |        | 8 |
                +----+--------+---+"#]],
        );
    }

    #[test]
    fn a_null_struct_has_null_fields() {
        let fields = Fields::from(vec![Field::new("p", DataType::Int64, false)]);
        let column = Arc::new(Int64Array::from(vec![1, 99])) as ArrayRef;
        let nulls = Some(NullBuffer::from(vec![true, false]));
        let pair: ArrayRef = Arc::new(StructArray::new(fields, vec![column], nulls));
        let input = change(vec![("s", pair)]);
        let changes = run(unnest(&input, &[], &[0], NullHandling::Drop), input);
        let p = changes[0].batch.column(0).as_primitive::<Int64Type>().clone();
        assert_eq!(p, Int64Array::from(vec![Some(1), None]));
    }

    #[test]
    fn large_output_is_cut_between_input_rows() {
        let long = Some((0..40_000).map(Some).collect::<Vec<_>>());
        let input = change(vec![("a", list(vec![long.clone(), long.clone(), long]))]);
        let changes = run(unnest(&input, &[(0, 1)], &[], NullHandling::Drop), input);
        let sizes: Vec<usize> = changes.iter().map(|c| c.batch.num_rows()).collect();
        assert_eq!(sizes, [40_000; 3]);
        assert_eq!(changes[2].offset(0), 12);
    }
}
