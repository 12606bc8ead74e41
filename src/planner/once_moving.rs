//! Answers aggregates of a moving frame of a SELECT, and takes no value back.
//!
//! *Floats*: what is subtracted leaves its rounding behind, and an infinity stays for ever. As in a continuous
//! query, there are two stacks ([`Moving`]): what entered since the last turn is folded as it comes, the older part
//! of the frame holds its folds from each row to the turn. When the older part is used up, the newer one turns. So a
//! value is folded at most twice.
//!
//! *What can neither take rows back nor be put together of parts in any order* (`string_agg`, summaries) keeps the
//! frame's rows and folds them for each answer ([`Afresh`]).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::{Result, ScalarValue, internal_err};
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
pub(super) struct Recipe {
    function: Arc<dyn AggregateUDFImpl>,
    return_field: FieldRef,
    schema: Schema,
    name: String,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    expr_fields: Vec<FieldRef>,
    ignore_nulls: bool,
    is_distinct: bool,
    is_reversed: bool,
}

impl Recipe {
    /// What the arguments say; calls with OVER have no ORDER BY of their own.
    pub(super) fn new(function: Arc<dyn AggregateUDFImpl>, args: &AccumulatorArgs) -> Recipe {
        Recipe {
            function,
            return_field: Arc::clone(&args.return_field),
            schema: args.schema.clone(),
            name: args.name.to_string(),
            exprs: args.exprs.to_vec(),
            expr_fields: args.expr_fields.to_vec(),
            ignore_nulls: args.ignore_nulls,
            is_distinct: args.is_distinct,
            is_reversed: args.is_reversed,
        }
    }

    pub(super) fn make(&self) -> Result<Box<dyn Accumulator>> {
        self.function.accumulator(AccumulatorArgs {
            return_field: Arc::clone(&self.return_field),
            schema: &self.schema,
            ignore_nulls: self.ignore_nulls,
            order_bys: &[],
            is_reversed: self.is_reversed,
            name: &self.name,
            is_distinct: self.is_distinct,
            exprs: &self.exprs,
            expr_fields: &self.expr_fields,
        })
    }
}

/// An aggregate over a moving frame, of which results of parts may be put together in any order.
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
    pub(super) fn new(recipe: Recipe) -> Result<Moving> {
        let newer = recipe.make()?;
        Ok(Moving { recipe, older: vec![], newer, newer_rows: vec![] })
    }

    /// The fold of the older rows and the newer ones.
    fn whole(&mut self) -> Result<Box<dyn Accumulator>> {
        let mut all = self.recipe.make()?;
        if let Some(state) = self.older.last() {
            merge(all.as_mut(), state)?;
        }
        if !self.newer_rows.is_empty() {
            merge(all.as_mut(), &self.newer.state()?)?;
        }
        Ok(all)
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
        self.whole()?.evaluate()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        if self.older.is_empty() {
            return self.newer.state();
        }
        self.whole()?.state()
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

/// An aggregate that is folded for each answer from the rows of its frame.
#[derive(Debug)]
pub(super) struct Afresh {
    recipe: Recipe,
    /// The arguments of the rows in the frame.
    rows: Vec<ArrayRef>,
}

impl Afresh {
    pub(super) fn new(recipe: Recipe) -> Result<Afresh> {
        // What cannot be made at all says so here.
        recipe.make()?;
        Ok(Afresh { recipe, rows: vec![] })
    }

    fn whole(&self) -> Result<Box<dyn Accumulator>> {
        let mut all = self.recipe.make()?;
        if self.rows.first().is_some_and(|column| !column.is_empty()) {
            all.update_batch(&self.rows)?;
        }
        Ok(all)
    }
}

impl Accumulator for Afresh {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        if self.rows.is_empty() {
            self.rows = arguments.to_vec();
            return Ok(());
        }
        for (held, new) in self.rows.iter_mut().zip(arguments) {
            *held = compute::concat(&[held.as_ref(), new.as_ref()])?;
        }
        Ok(())
    }

    fn retract_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        let left = arguments[0].len();
        for held in &mut self.rows {
            *held = held.slice(left, held.len() - left);
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.whole()?.evaluate()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.whole()?.state()
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        internal_err!("frames are not put together of parts")
    }

    fn size(&self) -> usize {
        let rows = self.rows.iter().map(|column| column.get_array_memory_size()).sum::<usize>();
        size_of_val(self) + rows
    }
}
