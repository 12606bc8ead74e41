//! Folds floats over a moving frame of a one-off SELECT, and takes none back.
//!
//! What is subtracted leaves its rounding behind, and an infinity stays for ever. As in a continuous query, there
//! are two stacks: what entered since the last turn is folded as it comes, the older part of the frame holds its
//! folds from each row to the turn. When the older part is used up, the newer one turns. So a value is
//! folded at most twice.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl};
use datafusion::physical_expr::PhysicalExpr;

/// Whether the aggregate folds floats, of which each counts.
pub(super) fn is_about_floats(args: &AccumulatorArgs) -> bool {
    let is_float = |field: &FieldRef| {
        matches!(field.data_type(), DataType::Float16 | DataType::Float32 | DataType::Float64)
    };
    !args.is_distinct && args.expr_fields.iter().any(is_float)
}

/// What an accumulator is made from, kept.
#[derive(Debug)]
struct Recipe {
    function: Arc<dyn AggregateUDFImpl>,
    return_field: FieldRef,
    schema: Schema,
    name: String,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    expr_fields: Vec<FieldRef>,
}

impl Recipe {
    fn make(&self) -> Result<Box<dyn Accumulator>> {
        self.function.accumulator(AccumulatorArgs {
            return_field: Arc::clone(&self.return_field),
            schema: &self.schema,
            ignore_nulls: false,
            order_bys: &[],
            is_reversed: false,
            name: &self.name,
            is_distinct: false,
            exprs: &self.exprs,
            expr_fields: &self.expr_fields,
        })
    }
}

/// An aggregate over a moving frame.
#[derive(Debug)]
pub(super) struct Moving {
    recipe: Recipe,
    /// Of each older row, the oldest last: the state of it and those after it, up to the turn.
    older: Vec<Vec<ScalarValue>>,
    /// What entered since the turn.
    newer: Box<dyn Accumulator>,
    newer_rows: Vec<Vec<ArrayRef>>,
}

impl Moving {
    pub(super) fn new(
        function: Arc<dyn AggregateUDFImpl>,
        args: &AccumulatorArgs,
    ) -> Result<Moving> {
        let recipe = Recipe {
            function,
            return_field: Arc::clone(&args.return_field),
            schema: args.schema.clone(),
            name: args.name.to_string(),
            exprs: args.exprs.to_vec(),
            expr_fields: args.expr_fields.to_vec(),
        };
        let newer = recipe.make()?;
        Ok(Moving { recipe, older: vec![], newer, newer_rows: vec![] })
    }

    /// Makes the newer rows the older ones.
    fn turn(&mut self) -> Result<()> {
        let mut fold = self.recipe.make()?;
        for rows in std::mem::take(&mut self.newer_rows).into_iter().rev() {
            for row in (0..rows[0].len()).rev() {
                let one: Vec<ArrayRef> = rows.iter().map(|column| column.slice(row, 1)).collect();
                fold.update_batch(&one)?;
                self.older.push(fold.state()?);
            }
        }
        self.newer = self.recipe.make()?;
        Ok(())
    }
}

fn merge(into: &mut dyn Accumulator, state: &[ScalarValue]) -> Result<()> {
    let columns = state.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>>>()?;
    into.merge_batch(&columns)
}

impl Accumulator for Moving {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        if !arguments[0].is_empty() {
            self.newer.update_batch(arguments)?;
            self.newer_rows.push(arguments.to_vec());
        }
        Ok(())
    }

    fn retract_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        for _ in 0..arguments[0].len() {
            if self.older.is_empty() {
                self.turn()?;
            }
            self.older.pop();
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.older.is_empty() {
            return self.newer.evaluate();
        }
        let mut all = self.recipe.make()?;
        if let Some(state) = self.older.last() {
            merge(all.as_mut(), state)?;
        }
        if !self.newer_rows.is_empty() {
            merge(all.as_mut(), &self.newer.state()?)?;
        }
        all.evaluate()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut all = self.recipe.make()?;
        if let Some(state) = self.older.last() {
            merge(all.as_mut(), state)?;
        }
        merge(all.as_mut(), &self.newer.state()?)?;
        all.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.newer.merge_batch(states)
    }

    fn size(&self) -> usize {
        let states = self.older.iter().flatten().map(ScalarValue::size).sum::<usize>();
        let columns = self.newer_rows.iter().flatten();
        let rows = columns.map(|column| column.len() * size_of::<f64>()).sum::<usize>();
        size_of_val(self) + states + rows + self.newer.size()
    }
}
