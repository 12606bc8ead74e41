//! Lets a summary of a group's rows be an aggregate: in windows, without one, and in a one-off SELECT.
//!
//! A mining aggregate folds rows into a summary per group and answers with a list of structs, the
//! frequent items or sets or rules with their bounds. A [`Miner`] is what is asked (immutable, printed
//! by EXPLAIN); its [`Summaries`] are the state, one per group. All that GROUP BY has follows from
//! the two: windows of any kind, EMIT, corrections, snapshots, limits of memory. The relations in FROM
//! (HEAVY_HITTERS and its like) are such an aggregate whose list is unnested; so a new one needs a
//! miner and the reading of its arguments, no operator.
//!
//! Summaries depend on the order of rows. Where a miner's do not merge, each window has its own; where
//! they do, the miner cuts rows into the window's slices itself (`pieces`). Either way the answer
//! over a window is the same whenever it appears, and the same as of SELECT.

mod accumulator;
mod adapters;
pub mod heavy_hitters;
mod items;
pub mod itemsets;
mod pieces;
#[cfg(test)]
mod tests;
pub mod trend;

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use crate::operators::aggregates::accumulator::Rows;
use crate::operators::operator::EvalError;
pub(super) use adapters::{MiningAggregate, MiningFold};

/// Field metadata key: among the fields of an answer, those that tell it from the group's others.
pub const KEY_MARK: &str = "weir.answer_key";

/// What a mining aggregate computes.
pub trait Miner: fmt::Debug + Send + Sync {
    /// The function's name.
    fn name(&self) -> &'static str;
    /// Everything that makes it differ from another miner, for people to read, too.
    fn describe(&self) -> String;
    /// The type of the answers of a group: a list of structs. Fields that tell an answer from the
    /// others of its group have the metadata [`KEY_MARK`].
    fn result(&self) -> DataType;
    /// Empty summaries.
    fn summaries(&self) -> Result<Box<dyn Summaries>, EvalError>;
    /// Whether a row can never be taken back.
    fn needs_append_only(&self) -> bool;
    /// Whether slices of the time line may be folded apart and merged, with the same answer as of all
    /// rows at once.
    fn merges_slices(&self) -> bool {
        false
    }
    /// How much one group holds at most, in words; `None` where nothing bounds it.
    fn bound(&self) -> Option<String>;
}

/// The summaries of all groups.
pub trait Summaries: Send + Sync {
    /// Makes room for `groups` groups; new ones are empty.
    fn resize(&mut self, groups: usize);
    /// Folds rows, in log order. `columns` are the arguments.
    fn update(&mut self, columns: &[ArrayRef], rows: &Rows<'_>) -> Result<(), EvalError>;
    /// Adds the bytes that [`write`](Self::write) gave for a group. Into an empty group they give the
    /// same summary to the bit.
    fn merge(&mut self, group: usize, bytes: &[u8]) -> Result<(), EvalError>;
    /// Appends a group's bytes, a version in front.
    fn write(&self, group: usize, out: &mut Vec<u8>);
    /// The answers of groups, one list each, and the positions of those that have none, which is a
    /// [`failure`](Self::failure).
    fn answers(&self, groups: &[usize]) -> Result<(ArrayRef, Vec<usize>), EvalError>;
    /// Why groups have no answer.
    fn failure(&self) -> EvalError {
        let (function, data_type) = ("aggregate".to_string(), "bigint".to_string());
        EvalError::Overflow { function, data_type }
    }
    /// Whether the group is as if it had never had a row.
    fn is_empty(&self, group: usize) -> bool;
    /// Forgets a group's rows.
    fn clear(&mut self, group: usize);
    /// Renumbers: group `groups[i]` becomes `i`, all others go. `groups` ascends.
    fn keep(&mut self, groups: &[usize]);
    /// Bytes held.
    fn size(&self) -> usize;
}

/// A miner as DataFusion's plans carry it.
#[derive(Debug)]
pub struct MiningFunction {
    miner: Arc<dyn Miner>,
    key: String,
    signature: Signature,
}

impl MiningFunction {
    /// The aggregate function of a miner.
    pub fn of(miner: Arc<dyn Miner>) -> Arc<AggregateUDF> {
        let key = format!("{}({})", miner.name(), miner.describe());
        let signature = Signature::variadic_any(Volatility::Immutable);
        Arc::new(AggregateUDF::from(MiningFunction { miner, key, signature }))
    }
}

/// The miner that an aggregate is, if it is one.
pub fn miner_of(function: &AggregateFunctionExpr) -> Option<&Arc<dyn Miner>> {
    let function = function.fun().inner().as_ref() as &dyn Any;
    function.downcast_ref::<MiningFunction>().map(|function| &function.miner)
}

impl PartialEq for MiningFunction {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.miner.result() == other.miner.result()
    }
}

impl Eq for MiningFunction {}

impl Hash for MiningFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl AggregateUDFImpl for MiningFunction {
    fn name(&self) -> &str {
        self.miner.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.miner.result())
    }

    fn accumulator(&self, _: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        Ok(Box::new(accumulator::OneGroup::new(&self.miner)?))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DataFusionResult<Vec<FieldRef>> {
        let name = format_state_name(args.name, "summary");
        Ok(vec![Arc::new(Field::new(name, DataType::Binary, true))])
    }
}

/// The bytes of groups as a column of partial results.
fn state_column(summaries: &dyn Summaries, groups: impl Iterator<Item = usize>) -> ArrayRef {
    let all: Vec<Vec<u8>> = groups
        .map(|group| {
            let mut bytes = Vec::new();
            summaries.write(group, &mut bytes);
            bytes
        })
        .collect();
    Arc::new(BinaryArray::from_iter_values(all))
}
