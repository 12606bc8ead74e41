//! Folds any aggregate of a window over input with retractions: a counted multiset per group.
//!
//! The multiset is [`MultisetFold`]'s; here it gets the contract of windows, whose partial results
//! are merged. A partial result is the list of entries of a group: argument, multiplicity, and when
//! each instance came. Merged instances count as later than all that were there.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, Int64Builder, ListBuilder, UInt64Builder,
};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, UInt64Type};

use crate::operators::aggregates::accumulator::{GroupedAggregate, Rows};
use crate::operators::aggregates::fold::{Evaluated, Fold, FoldRows, question_of};
use crate::operators::aggregates::multiset::{MultisetFold, Question};
use crate::operators::aggregates::spec::{AggregateSpec, NativeFunction};
use crate::operators::operator::EvalError;

/// A multiset per group.
pub(super) struct Retractable {
    spec: AggregateSpec,
    types: Vec<DataType>,
    fold: MultisetFold,
    group_count: usize,
}

/// Whether an aggregate over retractions needs a multiset: its partial results cannot be taken back.
pub fn needs_multiset(spec: &AggregateSpec, schema: &SchemaRef) -> Result<bool, EvalError> {
    Ok(match spec.native {
        Some(NativeFunction::CountRows | NativeFunction::Count) => false,
        Some(NativeFunction::Sum | NativeFunction::Avg) => {
            argument_types(spec, schema)?.iter().any(DataType::is_floating)
        }
        Some(NativeFunction::Min | NativeFunction::Max) | None => true,
    })
}

fn argument_types(spec: &AggregateSpec, schema: &SchemaRef) -> Result<Vec<DataType>, EvalError> {
    let expressions = spec.function.all_expressions();
    let all = expressions.args.iter().chain(&expressions.order_by_exprs);
    Ok(all.map(|expression| expression.data_type(schema)).collect::<Result<_, _>>()?)
}

impl Retractable {
    /// Without groups, for input of a schema.
    pub(super) fn new(spec: &AggregateSpec, schema: &SchemaRef) -> Result<Retractable, EvalError> {
        let types = argument_types(spec, schema)?;
        Ok(Retractable {
            fold: MultisetFold::new(question(spec, &types), &types)?,
            spec: spec.clone(),
            types,
            group_count: 0,
        })
    }

    fn grow(&mut self, group_count: usize) {
        self.group_count = self.group_count.max(group_count);
        self.fold.resize(self.group_count);
    }

    fn empty(&mut self) -> Result<(), EvalError> {
        self.fold = MultisetFold::new(question(&self.spec, &self.types), &self.types)?;
        self.group_count = 0;
        Ok(())
    }

    fn results(&mut self, groups: &[usize]) -> Result<ArrayRef, EvalError> {
        let Evaluated { values, failed } = self.fold.evaluate(groups)?;
        match failed.into_iter().next() {
            None => Ok(values),
            Some(_) => Err(EvalError::Overflow {
                function: self.spec.function.name().to_string(),
                data_type: self.spec.output.data_type().to_string(),
            }),
        }
    }
}

fn question(spec: &AggregateSpec, types: &[DataType]) -> Question {
    match spec.native {
        Some(NativeFunction::Min) => Question::Min,
        Some(NativeFunction::Max) => Question::Max,
        _ => question_of(spec, types),
    }
}

impl GroupedAggregate for Retractable {
    fn update(&mut self, values: &[ArrayRef], rows: &Rows<'_>) -> Result<(), EvalError> {
        self.grow(rows.group_count);
        // A null of the filter counts as false, and a mask without nulls is what the fold takes.
        let included = rows.filter.map(|filter| match filter.null_count() {
            0 => filter.clone(),
            _ => arrow::compute::prep_null_mask_filter(filter),
        });
        let groups: Vec<usize> = rows.groups.iter().map(|&group| group as usize).collect();
        self.fold.update(&FoldRows {
            groups: &groups,
            arguments: values,
            included: included.as_ref(),
            weights: rows.weights,
        })
    }

    fn merge(
        &mut self,
        state: &[ArrayRef],
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), EvalError> {
        self.grow(group_count);
        let [keys, counts, arrivals] = state else {
            return Err(EvalError::Broken("a multiset's state has three columns".to_owned()));
        };
        let later_than = self.fold.arrivals();
        for (row, &group) in groups.iter().enumerate() {
            let keys = keys.as_list::<i32>().value(row);
            let counts = counts.as_list::<i32>().value(row);
            let arrivals = arrivals.as_list::<i32>().value(row);
            let mut arrivals = arrivals.as_primitive::<UInt64Type>().values().iter();
            for (key, &count) in
                keys.as_binary::<i32>().iter().zip(counts.as_primitive::<Int64Type>().values())
            {
                let instances = usize::try_from(count).unwrap_or_default();
                let came = arrivals.by_ref().take(instances).map(|at| later_than + at).collect();
                self.fold.insert(group as usize, key.unwrap_or_default(), count, came);
            }
        }
        Ok(())
    }

    fn can_overflow(&self) -> bool {
        true
    }

    fn is_retractable(&self) -> bool {
        true
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        let all: Vec<u32> = (0..self.group_count as u32).collect();
        self.state_of(&all)
    }

    fn state_of(&mut self, groups: &[u32]) -> Result<Vec<ArrayRef>, EvalError> {
        // Without capacities there would be room for a thousand rows in each, and it would stay.
        let rows = groups.len();
        let mut keys = ListBuilder::with_capacity(BinaryBuilder::with_capacity(rows, 0), rows);
        let mut counts = ListBuilder::with_capacity(Int64Builder::with_capacity(rows), rows);
        let mut arrivals = ListBuilder::with_capacity(UInt64Builder::with_capacity(rows), rows);
        for &group in groups {
            for (key, count, came) in self.fold.entries(group as usize) {
                keys.values().append_value(key);
                counts.values().append_value(count);
                // Functions that ask for no order remember none.
                let instances = usize::try_from(count).unwrap_or_default();
                let came = came.iter().copied().chain(std::iter::repeat(0)).take(instances);
                came.for_each(|at| arrivals.values().append_value(at));
            }
            keys.append(true);
            counts.append(true);
            arrivals.append(true);
        }
        Ok(vec![Arc::new(keys.finish()), Arc::new(counts.finish()), Arc::new(arrivals.finish())])
    }

    fn take_state(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        let state = self.state()?;
        self.empty()?;
        Ok(state)
    }

    fn evaluate(&mut self) -> Result<ArrayRef, EvalError> {
        let all: Vec<usize> = (0..self.group_count).collect();
        let results = self.results(&all)?;
        self.empty()?;
        Ok(results)
    }

    fn evaluate_of(&mut self, groups: &[u32]) -> Result<ArrayRef, EvalError> {
        let groups: Vec<usize> = groups.iter().map(|&group| group as usize).collect();
        self.results(&groups)
    }

    fn group_count(&self) -> usize {
        self.group_count
    }

    fn size(&self) -> usize {
        self.fold.bytes()
    }
}
