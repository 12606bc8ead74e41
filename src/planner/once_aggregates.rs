//! Says which aggregates of a one-off SELECT are ours, and how DataFusion asks for them.
//!
//! *The least and greatest of groups*: DataFusion starts from the largest finite number and passes NaN over, and
//! takes null items of lists and structs for the least. Ours have the one order of a continuous query: NaN is above
//! all other numbers, null items are above all other items.
//!
//! *A running minimum or maximum is in no order that is known*: it begins with null where nulls come first.
//! DataFusion takes it to be sorted with its nulls last, and leaves a sort away.
//!
//! *Floats of a moving frame are not taken back* ([`super::once_moving`]).
//!
//! *Several aggregates of one SELECT may each have an ORDER BY.* DataFusion sorts the rows for one of them; `string_agg`
//! can sort what it takes itself, as `array_agg` does, but does not say so.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, SetMonotonicity,
};

use crate::planner::aggregate_within::as_theirs;
use crate::planner::once_extremes::{self, Extreme, MovingExtreme};
use crate::planner::once_moving::{self, Moving, Recipe};

/// What a one-off SELECT has in place of an aggregate; `None` where DataFusion's own is right.
pub(super) fn replaced(theirs: &Arc<AggregateUDF>) -> Option<Arc<AggregateUDF>> {
    let change = match theirs.name() {
        "min" => Change::Extreme { max: false },
        "max" => Change::Extreme { max: true },
        "avg" | "stddev" | "stddev_pop" | "var" | "var_pop" | "covar_samp" | "covar_pop"
        | "corr" => Change::Refolds,
        name if name.starts_with("regr_") => Change::Refolds,
        "string_agg" => Change::Sorts,
        _ => return None,
    };
    let changed = Changed { theirs: Arc::clone(theirs), change };
    Some(Arc::new(AggregateUDF::from(changed)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Change {
    /// `min` or `max` in our order.
    Extreme { max: bool },
    /// Its floats are folded anew where a frame moves.
    Refolds,
    /// Rows may come in any order.
    Sorts,
}

/// An aggregate as we mean it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Changed {
    theirs: Arc<AggregateUDF>,
    change: Change,
}

impl Changed {
    /// Whether the least or greatest is wanted, of a type that DataFusion orders otherwise.
    fn extreme(&self, args: &AccumulatorArgs) -> Option<bool> {
        match self.change {
            Change::Extreme { max } if once_extremes::is_ours(args.return_field.data_type()) => {
                Some(max)
            }
            _ => None,
        }
    }
}

impl AggregateUDFImpl for Changed {
    as_theirs!();

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match self.extreme(&args) {
            Some(max) => Ok(Box::new(Extreme::new(args.return_field.data_type(), max)?)),
            None => self.theirs.accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if let Some(max) = self.extreme(&args) {
            return Ok(Box::new(MovingExtreme::new(args.return_field.data_type(), max)?));
        }
        if self.change == Change::Refolds && once_moving::is_about_floats(&args) {
            return Ok(Box::new(Moving::new(Recipe::new(Arc::clone(self.theirs.inner()), &args))?));
        }
        self.theirs.create_sliding_accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.extreme(&args).is_none() && self.theirs.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let ours = match self.change {
            Change::Extreme { max } => once_extremes::of_floats(args.return_field.data_type(), max),
            Change::Refolds | Change::Sorts => None,
        };
        ours.map_or_else(|| self.theirs.create_groups_accumulator(args), Ok)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        match self.change {
            Change::Sorts => AggregateOrderSensitivity::SoftRequirement,
            Change::Extreme { .. } | Change::Refolds => self.theirs.order_sensitivity(),
        }
    }

    fn with_beneficial_ordering(
        self: Arc<Self>,
        _: bool,
    ) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        Ok(if self.change == Change::Sorts { Some(self) } else { None })
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.change {
            Change::Sorts => ReversedUDAF::NotSupported,
            Change::Extreme { .. } | Change::Refolds => ReversedUDAF::Identical,
        }
    }

    fn set_monotonicity(&self, _: &DataType) -> SetMonotonicity {
        SetMonotonicity::NotMonotonic
    }
}
