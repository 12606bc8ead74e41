//! Reduces changelog rows to what a transaction has to do to the target table.
//!
//! # Method
//! `upsert`: rows are sorted by key; within a key equal rows cancel by their weights. A row that is
//! left with a positive weight is put, the last inserted one if there are several; if only negative
//! ones are left the key is deleted; if nothing is left nothing happens. So a batch may hold a
//! retraction and its replacement in either order.
//! `append` and `changelog`: every row in its order, as often as its weight says.
//!
//! # Invariants
//! N1 at most one item per key in upsert mode. N2 deletes come before puts, each by ascending key,
//! so that writers lock rows in one order and secondary unique keys are free before they are taken.

use std::collections::HashMap;

use arrow::array::ArrayRef;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

use crate::sinks::sink::{SinkBatch, SinkError, SinkMode, SinkPlan};

/// Weights above this come from a broken query, not from equal rows of an honest one.
const WEIGHT_MAX: u64 = 1 << 20;

/// What to do with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Remove the row of its key.
    Delete,
    /// Insert it, or let it replace the row of its key.
    Put,
    /// Insert it as a change with this sign.
    Log(i16),
}

/// One row of the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// Position in the batch.
    pub row: usize,
    /// What to do with it.
    pub operation: Operation,
}

/// The items of a transaction, in the order in which they are applied.
pub fn net_effect(plan: &SinkPlan, batch: &SinkBatch) -> Result<Vec<Item>, SinkError> {
    for row in 0..batch.batch.num_rows() {
        let weight = batch.weight(row);
        if weight.unsigned_abs() > WEIGHT_MAX {
            return Err(SinkError::Weight { offset: batch.offset(row), weight });
        }
    }
    match plan.mode {
        SinkMode::Append => appended(plan, batch),
        SinkMode::Changelog => Ok(logged(batch)),
        SinkMode::Upsert => upserted(batch, &plan.key).map_err(|error| SinkError::Conversion {
            sink: plan.name.clone(),
            cause: error.to_string(),
        }),
    }
}

fn appended(plan: &SinkPlan, batch: &SinkBatch) -> Result<Vec<Item>, SinkError> {
    let mut items = Vec::with_capacity(batch.batch.num_rows());
    for row in 0..batch.batch.num_rows() {
        let weight = batch.weight(row);
        if weight < 0 {
            let offset = batch.offset(row);
            return Err(SinkError::Retraction { sink: plan.name.clone(), offset });
        }
        items.extend((0..weight).map(|_| Item { row, operation: Operation::Put }));
    }
    Ok(items)
}

fn logged(batch: &SinkBatch) -> Vec<Item> {
    let mut items = Vec::with_capacity(batch.batch.num_rows());
    for row in 0..batch.batch.num_rows() {
        let weight = batch.weight(row);
        let operation = Operation::Log(weight.signum() as i16);
        items.extend((0..weight.unsigned_abs()).map(|_| Item { row, operation }));
    }
    items
}

fn upserted(batch: &SinkBatch, key: &[usize]) -> Result<Vec<Item>, ArrowError> {
    let columns = batch.batch.columns();
    let key_columns: Vec<ArrayRef> = key.iter().map(|&i| ArrayRef::clone(&columns[i])).collect();
    let keys = encode(&key_columns)?;
    let mut order: Vec<usize> =
        (0..batch.batch.num_rows()).filter(|&row| batch.weight(row) != 0).collect();
    order.sort_unstable_by(|&a, &b| keys.row(a).cmp(&keys.row(b)).then(a.cmp(&b)));
    // Rows are compared with each other only where a key has several.
    let several = order.windows(2).any(|pair| keys.row(pair[0]) == keys.row(pair[1]));
    let rows = several.then(|| encode(columns)).transpose()?;

    let (mut deletes, mut puts) = (Vec::new(), Vec::new());
    for group in order.chunk_by(|&a, &b| keys.row(a) == keys.row(b)) {
        match settle(batch, rows.as_ref(), group) {
            Some(item) if item.operation == Operation::Delete => deletes.push(item),
            Some(item) => puts.push(item),
            None => {}
        }
    }
    deletes.append(&mut puts);
    Ok(deletes)
}

/// What is left of the changes of one key, which `group` lists in changelog order.
fn settle(batch: &SinkBatch, rows: Option<&Rows>, group: &[usize]) -> Option<Item> {
    if let [row] = *group {
        let operation = if batch.weight(row) > 0 { Operation::Put } else { Operation::Delete };
        return Some(Item { row, operation });
    }
    let rows = rows.expect("a key has several rows, so that they are encoded");
    let mut weights: HashMap<&[u8], i64> = HashMap::with_capacity(group.len());
    for &row in group {
        *weights.entry(rows.row(row).data()).or_default() += batch.weight(row);
    }
    let net = |row: usize| weights[rows.row(row).data()];
    let last = |wanted: fn(i64, i64) -> bool| {
        group.iter().rev().copied().find(|&row| wanted(batch.weight(row), net(row)))
    };
    if let Some(row) = last(|weight, net| weight > 0 && net > 0) {
        return Some(Item { row, operation: Operation::Put });
    }
    last(|weight, net| weight < 0 && net < 0).map(|row| Item { row, operation: Operation::Delete })
}

fn encode(columns: &[ArrayRef]) -> Result<Rows, ArrowError> {
    let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
    RowConverter::new(fields)?.convert_columns(columns)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch, StringViewArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::sinks::ddl::TableName;

    fn plan(mode: SinkMode) -> SinkPlan {
        let schema = Schema::new(vec![
            Field::new("k", DataType::Utf8View, true),
            Field::new("n", DataType::Int64, true),
        ]);
        SinkPlan {
            id: "id".into(),
            name: "s".into(),
            changelog: "q".into(),
            schema: Arc::new(schema),
            table: TableName::plain("t"),
            mode,
            key: if mode == SinkMode::Upsert { vec![0] } else { vec![] },
            adopt: false,
            add_columns: false,
            history: None,
        }
    }

    /// `+a1 -b2`: sign, key, number. Answers the items in the same form, `!` for a delete.
    fn check(mode: SinkMode, changes: &str) -> Result<String, SinkError> {
        let words: Vec<&str> = changes.split_whitespace().collect();
        let plan = plan(mode);
        let keys = StringViewArray::from_iter(
            words.iter().map(|w| Some(&w[1..2]).filter(|key| *key != "_")),
        );
        let numbers = Int64Array::from_iter_values(words.iter().map(|w| w[2..].parse().unwrap()));
        let weights = words.iter().map(|w| match &w[..1] {
            "+" => 1,
            "-" => -1,
            "2" => 2,
            "^" => i64::MIN,
            _ => 0,
        });
        let batch = SinkBatch {
            batch: RecordBatch::try_new(
                Arc::clone(&plan.schema),
                vec![Arc::new(keys), Arc::new(numbers)],
            )
            .unwrap(),
            weights: Some(Int64Array::from_iter_values(weights)),
            first_offset: 100,
        };
        let items = net_effect(&plan, &batch)?;
        let texts: Vec<String> = items
            .iter()
            .map(|item| match item.operation {
                Operation::Delete => format!("!{}", &words[item.row][1..2]),
                Operation::Put => format!("={}", &words[item.row][1..]),
                Operation::Log(sign) => format!("{sign}{}", &words[item.row][1..]),
            })
            .collect();
        Ok(texts.join(" "))
    }

    #[test]
    fn the_last_insertion_of_a_key_wins() {
        assert_eq!(check(SinkMode::Upsert, "+a1 -a1 +a2 -a2 +a3").unwrap(), "=a3");
        assert_eq!(check(SinkMode::Upsert, "+a1 +a2").unwrap(), "=a2");
    }

    #[test]
    fn a_retraction_and_its_replacement_may_come_in_either_order() {
        assert_eq!(check(SinkMode::Upsert, "-a1 +a2").unwrap(), "=a2");
        assert_eq!(check(SinkMode::Upsert, "+a2 -a1").unwrap(), "=a2");
        assert_eq!(check(SinkMode::Upsert, "-a1 +a2 -a2").unwrap(), "!a");
        assert_eq!(check(SinkMode::Upsert, "-a1 +a1").unwrap(), "");
        assert_eq!(check(SinkMode::Upsert, "+a1 -a1").unwrap(), "");
    }

    #[test]
    fn deletes_come_first_and_both_are_sorted_by_key() {
        assert_eq!(check(SinkMode::Upsert, "+d1 -c1 +b1 -a1 +_1").unwrap(), "!a !c =_1 =b1 =d1");
    }

    #[test]
    fn weights_above_one_repeat_rows_and_zero_is_nothing() {
        assert_eq!(check(SinkMode::Append, "2a1 0b1 +c1").unwrap(), "=a1 =a1 =c1");
        assert_eq!(check(SinkMode::Changelog, "2a1 -a1 0b1").unwrap(), "1a1 1a1 -1a1");
        assert_eq!(check(SinkMode::Upsert, "2a1 -a1 0b1").unwrap(), "=a1");
    }

    #[test]
    fn append_refuses_a_retraction_and_names_its_offset() {
        let error = check(SinkMode::Append, "+a1 -a1").unwrap_err();
        assert!(matches!(error, SinkError::Retraction { offset: 101, .. }), "{error}");
    }

    #[test]
    fn a_monstrous_weight_is_an_error_and_not_a_loop() {
        let error = check(SinkMode::Changelog, "+a1 ^a1").unwrap_err();
        assert!(matches!(error, SinkError::Weight { offset: 101, weight: i64::MIN }), "{error}");
    }
}
