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

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, SetMonotonicity,
    Signature,
};

use crate::planner::once_extremes::{self, Extreme, MovingExtreme};
use crate::planner::once_moving::{self, Moving};

/// What a one-off SELECT has in place of an aggregate; `None` where DataFusion's own is right.
pub(super) fn replaced(theirs: &Arc<AggregateUDF>) -> Option<Arc<AggregateUDF>> {
    let theirs = Arc::clone(theirs);
    let ours = match theirs.name() {
        "min" => AggregateUDF::from(MinMax { theirs, max: false }),
        "max" => AggregateUDF::from(MinMax { theirs, max: true }),
        "avg" | "stddev" | "stddev_pop" | "var" | "var_pop" | "covar_samp" | "covar_pop"
        | "corr" => AggregateUDF::from(Refolded(theirs)),
        name if name.starts_with("regr_") => AggregateUDF::from(Refolded(theirs)),
        _ => return None,
    };
    Some(Arc::new(ours))
}

/// `min` or `max`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MinMax {
    theirs: Arc<AggregateUDF>,
    max: bool,
}

impl AggregateUDFImpl for MinMax {
    fn name(&self) -> &str {
        self.theirs.name()
    }

    fn signature(&self) -> &Signature {
        self.theirs.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.theirs.return_type(arguments)
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        self.theirs.return_field(arguments)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.theirs.coerce_types(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let data_type = args.return_field.data_type();
        match once_extremes::is_ours(data_type) {
            true => Ok(Box::new(Extreme::new(data_type, self.max)?)),
            false => self.theirs.accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let data_type = args.return_field.data_type();
        match once_extremes::is_ours(data_type) {
            true => Ok(Box::new(MovingExtreme::new(data_type, self.max)?)),
            false => self.theirs.create_sliding_accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.theirs.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !once_extremes::is_ours(args.return_field.data_type())
            && self.theirs.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        match once_extremes::of_floats(args.return_field.data_type(), self.max) {
            Some(ours) => Ok(ours),
            None => self.theirs.create_groups_accumulator(args),
        }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn set_monotonicity(&self, _: &DataType) -> SetMonotonicity {
        SetMonotonicity::NotMonotonic
    }
}

/// An aggregate whose floats are folded anew where a frame moves.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Refolded(Arc<AggregateUDF>);

impl AggregateUDFImpl for Refolded {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.0.return_type(arguments)
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        self.0.return_field(arguments)
    }

    fn is_nullable(&self) -> bool {
        self.0.is_nullable()
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.0.coerce_types(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.0.accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if !once_moving::is_about_floats(&args) {
            return self.0.create_sliding_accumulator(args);
        }
        Ok(Box::new(Moving::new(Arc::clone(self.0.inner()), &args)?))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.0.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.0.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        self.0.create_groups_accumulator(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.0.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.0.default_value(data_type)
    }
}
