//! Knows what holds of mining aggregates: what input they take, how much they keep, which columns tell
//! their answers apart.

use arrow::datatypes::{DataType, FieldRef};

use crate::operators::aggregates::mining::{KEY_MARK, miner_of};
use crate::operators::aggregates::spec::AggregateSpec;
use crate::planner::error::PlanError;
use crate::planner::physical::{PhysicalPlan, StateBound};

/// Summaries cannot take a row back.
pub(super) fn check_input(
    plan: &PhysicalPlan,
    aggregates: &[AggregateSpec],
) -> Result<(), PlanError> {
    let miners = aggregates.iter().filter_map(|aggregate| miner_of(&aggregate.function));
    let refused = miners.into_iter().find(|miner| miner.needs_append_only());
    match refused.filter(|_| !plan.facts.append_only) {
        Some(miner) => Err(PlanError::AppendOnlyRequired {
            what: miner.name().to_uppercase(),
            detail: "A summary cannot take a row back, and rows of the input can be retracted."
                .into(),
        }),
        None => Ok(()),
    }
}

/// A bound of an operator's state, with what its summaries hold. `leaves` says whether rows leave it,
/// so that what grows with the items of a group is bounded all the same.
pub(super) fn with_summaries(
    state: StateBound,
    aggregates: &[AggregateSpec],
    leaves: bool,
) -> StateBound {
    let miners = aggregates.iter().filter_map(|aggregate| miner_of(&aggregate.function));
    miners.fold(state, |state, miner| {
        let StateBound::Bounded(text) = state else { return state };
        let name = miner.name();
        match miner.bound() {
            Some(bound) => StateBound::Bounded(format!("{text}; {name}: {bound}")),
            None if leaves => StateBound::Bounded(format!("{text}; {name}: every item of a group")),
            None => StateBound::Unbounded(format!("{name} keeps every item of a group")),
        }
    })
}

/// The fields of a list's elements that tell them apart within the list.
pub(super) fn keys_of_elements(list: &DataType) -> Option<Vec<usize>> {
    let DataType::List(element) = list else { return None };
    let DataType::Struct(fields) = element.data_type() else { return None };
    let keys = marked(fields);
    (!keys.is_empty()).then_some(keys)
}

fn marked(fields: &[FieldRef]) -> Vec<usize> {
    let is_key = |field: &FieldRef| field.metadata().contains_key(KEY_MARK);
    (0..fields.len()).filter(|&i| is_key(&fields[i])).collect()
}

/// What identifies a row once one list, or structs, are unnested: the former key with the element in
/// the place of the list, or with the struct's own keys in its place. `dependencies` names for each
/// column of the output the one of the input.
pub(super) fn unnested_keys(
    input: &PhysicalPlan,
    lists: &[usize],
    structs: &[usize],
    dependencies: &[usize],
) -> Vec<Vec<usize>> {
    let places = |column: usize| {
        (0..dependencies.len()).filter(|&i| dependencies[i] == column).collect::<Vec<usize>>()
    };
    let data_type = |column: usize| input.schema.field(column).data_type();
    if let ([list], []) = (lists, structs) {
        if keys_of_elements(data_type(*list)).is_none() {
            return vec![];
        }
        let with_element = |key: &Vec<usize>| {
            let repeated = key.iter().filter(|column| *column != list).copied();
            repeated.chain([*list]).flat_map(places).collect()
        };
        return input.facts.unique_keys.iter().map(with_element).collect();
    }
    if !lists.is_empty() {
        return vec![];
    }
    let of_fields = |key: &Vec<usize>| {
        let mut columns = Vec::new();
        for &column in key {
            match data_type(column) {
                DataType::Struct(fields) if structs.contains(&column) => {
                    let keys = marked(fields);
                    let all = places(column);
                    let keys = if keys.is_empty() { (0..all.len()).collect() } else { keys };
                    columns.extend(keys.into_iter().filter_map(|i| all.get(i).copied()));
                }
                _ => columns.extend(places(column)),
            }
        }
        columns
    };
    input.facts.unique_keys.iter().map(of_fields).collect()
}
