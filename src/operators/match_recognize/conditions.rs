//! Decides which rows fit which variables: column by column where a condition looks at its row and the
//! rows before it alone, row by row where it looks back at the match.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::scalar::ScalarValue;

use super::MatchSpec;
use super::attempt;
use super::cells::{Cell, Layout, Memory, Place};
use super::partition::Partition;
use crate::error::{Report, SqlState};
use crate::operators::expr::{
    checked, columns_of, evaluate_in_pieces, evaluate_mask, over_columns, row_error,
};
use crate::operators::operator::EvalError;
use crate::operators::origin_buffer::OriginBuffer;

/// An expression over some columns of the frame.
#[derive(Debug, Clone)]
pub(super) struct Framed {
    pub expr: Arc<dyn PhysicalExpr>,
    /// The cells that its columns are.
    pub cells: Vec<usize>,
    pub schema: SchemaRef,
}

impl Framed {
    /// Takes out of the frame what the expressions read. They are moved alike.
    pub(super) fn of(
        exprs: &[Arc<dyn PhysicalExpr>],
        frame: &SchemaRef,
    ) -> Result<Vec<Framed>, EvalError> {
        let cells: BTreeSet<usize> = exprs.iter().flat_map(columns_of).collect();
        let cells: Vec<usize> = cells.into_iter().collect();
        let schema = Arc::new(frame.project(&cells)?);
        let framed = |expr: &Arc<dyn PhysicalExpr>| {
            let expr = over_columns(&checked(expr, frame)?, &cells)?;
            Ok(Framed { expr, cells: cells.clone(), schema: Arc::clone(&schema) })
        };
        exprs.iter().map(framed).collect()
    }
}

/// A batch of a frame's columns.
pub(super) fn frame_batch(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, EvalError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let fields = schema.fields().iter().zip(&columns);
    let fields: Vec<Field> = fields
        .map(|(field, column)| {
            field.as_ref().clone().with_data_type(column.data_type().clone()).with_nullable(true)
        })
        .collect();
    let schema = Arc::new(Schema::new(fields));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// The conditions of all variables.
#[derive(Debug)]
pub(super) struct Definitions {
    /// By variable, what looks at a row and those before it.
    alone: Vec<Option<Framed>>,
    /// By variable, what looks back at the match.
    looking_back: Vec<Option<Framed>>,
    /// What the latter read.
    pub layout: Layout,
    /// How many rows before a row the former look at.
    pub reach: usize,
    cells: Vec<Cell>,
    names: Vec<Arc<str>>,
    /// Bit by variable: a match may begin with it.
    pub first: u64,
}

/// A condition that cannot be decided.
#[derive(Debug)]
pub(super) enum Undecided {
    /// Because of the row.
    Row(SqlState, String),
    /// For reasons that end the query.
    Broken(EvalError),
}

impl From<EvalError> for Undecided {
    fn from(error: EvalError) -> Undecided {
        match error.is_of_one_group() {
            true => Undecided::Row(error.code(), error.to_string()),
            false => Undecided::Broken(error),
        }
    }
}

impl Definitions {
    pub(super) fn new(spec: &MatchSpec) -> Result<Definitions, EvalError> {
        let framed = |expr: &Option<Arc<dyn PhysicalExpr>>| -> Result<Option<Framed>, EvalError> {
            match expr {
                Some(expr) => Ok(Framed::of(std::slice::from_ref(expr), &spec.frame)?.pop()),
                None => Ok(None),
            }
        };
        let (mut alone, mut looking_back) = (Vec::new(), Vec::new());
        for condition in &spec.conditions {
            alone.push(framed(&condition.alone)?);
            looking_back.push(framed(&condition.looking_back)?);
        }
        let read = looking_back.iter().flatten().flat_map(|framed: &Framed| &framed.cells);
        let layout = Layout::of(read.map(|cell| &spec.cells[*cell]));
        let back = |cell: &usize| match &spec.cells[*cell] {
            Cell::At(place, _) => place.back,
            Cell::Aggregate(_) | Cell::Classifier | Cell::MatchNumber => 0,
        };
        let reach =
            alone.iter().flatten().flat_map(|framed: &Framed| &framed.cells).map(back).max();
        let begins = |variable: usize| spec.pattern.rows_before(variable) == Some(0);
        let first = (0..spec.variables.len()).filter(|v| begins(*v)).map(|v| 1 << v).sum();
        Ok(Definitions {
            layout,
            alone,
            looking_back,
            reach: reach.unwrap_or(0),
            cells: spec.cells.clone(),
            names: spec.variables.clone(),
            first,
        })
    }

    /// Per row the variables that it fits alone, and those for which that cannot be decided. `before`
    /// has per row the numbers of the `reach` rows before it, nearest first.
    pub(super) fn judge(
        &self,
        batch: &RecordBatch,
        before: &[Option<u64>],
        rows: &OriginBuffer,
    ) -> Result<Vec<(u64, u64)>, EvalError> {
        let mut judged = vec![(0, 0); batch.num_rows()];
        for (variable, framed) in self.alone.iter().enumerate() {
            let bit = 1_u64 << variable;
            let Some(framed) = framed else {
                judged.iter_mut().for_each(|(fits, _)| *fits |= bit);
                continue;
            };
            let columns = framed.cells.iter().map(|cell| self.column(*cell, batch, before, rows));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            let frame = frame_batch(&framed.schema, columns, batch.num_rows())?;
            let (pieces, failures) =
                evaluate_in_pieces(&frame, |part| evaluate_mask(&framed.expr, part));
            for piece in pieces {
                for row in piece.value.values().set_indices() {
                    judged[piece.start + row].0 |= bit;
                }
            }
            failures.iter().for_each(|failure| judged[failure.row].1 |= bit);
        }
        Ok(judged)
    }

    /// The column of a cell that is of the row itself or of one before it.
    fn column(
        &self,
        cell: usize,
        batch: &RecordBatch,
        before: &[Option<u64>],
        rows: &OriginBuffer,
    ) -> Result<ArrayRef, EvalError> {
        match &self.cells[cell] {
            Cell::At(Place { back: 0, .. }, column) => Ok(Arc::clone(batch.column(*column))),
            Cell::At(Place { back, .. }, column) => {
                let numbers: Vec<Option<u64>> =
                    before.chunks_exact(self.reach).map(|before| before[back - 1]).collect();
                rows.gather_column(*column, &numbers)
            }
            Cell::Aggregate(_) | Cell::Classifier | Cell::MatchNumber => {
                Err(EvalError::Broken("a condition on a row alone reads the match".into()))
            }
        }
    }
}

/// A look at a partition's rows while it is searched.
pub(super) struct Look<'a> {
    pub definitions: &'a Definitions,
    pub partition: &'a Partition,
    pub rows: &'a OriginBuffer,
}

impl Look<'_> {
    /// Why the condition on a row alone cannot be decided.
    fn failure(&self, variable: usize, row: u32) -> Undecided {
        let Some(framed) = &self.definitions.alone[variable] else {
            return Undecided::Broken(EvalError::Broken("no condition failed".into()));
        };
        let value = |cell: &usize| match &self.definitions.cells[*cell] {
            Cell::At(place, column) => {
                self.value(*column, self.partition.number_at(row, place.back))
            }
            Cell::Aggregate(_) | Cell::Classifier | Cell::MatchNumber => Ok(ScalarValue::Null),
        };
        match self.evaluate(framed, value) {
            Err(undecided) => undecided,
            Ok(_) => {
                Undecided::Row(SqlState::INVALID_PARAMETER, "condition cannot be decided".into())
            }
        }
    }

    fn value(&self, column: usize, number: Option<u64>) -> Result<ScalarValue, EvalError> {
        match number {
            Some(number) => self.rows.value(column, number),
            None => {
                let nothing = self.rows.gather_column(column, &[None])?;
                Ok(ScalarValue::try_from_array(&nothing, 0)?)
            }
        }
    }

    /// Whether a condition holds of one row of the frame.
    fn evaluate(
        &self,
        framed: &Framed,
        value: impl Fn(&usize) -> Result<ScalarValue, EvalError>,
    ) -> Result<bool, Undecided> {
        let mut columns = Vec::with_capacity(framed.cells.len());
        for cell in &framed.cells {
            columns.push(value(cell)?.to_array().map_err(EvalError::from)?);
        }
        let frame = frame_batch(&framed.schema, columns, 1)?;
        match evaluate_mask(&framed.expr, &frame) {
            Ok(mask) => Ok(mask.value(0)),
            Err(error) => {
                let (code, reason) = row_error(&error);
                Err(Undecided::Row(code, reason))
            }
        }
    }

    /// The value of a cell on a way whose last row is `row`.
    fn cell(
        &self,
        cell: usize,
        memory: &Memory,
        variable: usize,
    ) -> Result<ScalarValue, EvalError> {
        let layout = &self.definitions.layout;
        match &self.definitions.cells[cell] {
            Cell::At(place, column) => {
                let row = layout.row(memory, place);
                let number = row.and_then(|row| self.partition.number_at(row, place.back));
                self.value(*column, number)
            }
            Cell::Aggregate(aggregation) => {
                let found = layout.aggregations().iter().position(|other| other == aggregation);
                let kept = found.map(|index| &memory.aggregates[index]);
                let kept =
                    kept.ok_or_else(|| EvalError::Broken("an aggregate is missing".into()))?;
                kept.value(aggregation.function, &aggregation.data_type)
            }
            Cell::Classifier => {
                Ok(ScalarValue::Utf8View(Some(self.definitions.names[variable].to_string())))
            }
            Cell::MatchNumber => Ok(ScalarValue::Int64(Some(self.partition.matches + 1))),
        }
    }

    /// What is remembered with one row more.
    fn with_row(&self, memory: &Memory, variable: usize, row: u32) -> Result<Memory, EvalError> {
        let layout = &self.definitions.layout;
        let mut memory = memory.clone();
        layout.note(&mut memory, variable, row);
        for (aggregation, running) in layout.aggregations().iter().zip(&mut memory.aggregates) {
            if aggregation.of.is_none_or(|of| of == variable) {
                let number = self.partition.number_at(row, 0);
                let value = match (aggregation.column, number) {
                    (Some(column), Some(number)) => Some(self.rows.value(column, number)?),
                    _ => None,
                };
                running.fold(aggregation.function, value);
            }
        }
        Ok(memory)
    }
}

impl attempt::Conditions for Look<'_> {
    type Memory = Memory;
    type Error = Undecided;

    fn nothing(&self) -> Memory {
        self.definitions.layout.nothing()
    }

    fn remembers(&self) -> bool {
        !self.definitions.layout.is_empty()
    }

    fn take(
        &mut self,
        memory: &Memory,
        variable: usize,
        row: u32,
    ) -> Result<Option<Memory>, Undecided> {
        let held = self.partition.rows[self.partition.start + row as usize];
        let bit = 1_u64 << variable;
        if held.fails & bit != 0 {
            return Err(self.failure(variable, row));
        }
        if held.fits & bit == 0 {
            return Ok(None);
        }
        let memory = match self.remembers() {
            true => self.with_row(memory, variable, row)?,
            false => memory.clone(),
        };
        let Some(framed) = &self.definitions.looking_back[variable] else {
            return Ok(Some(memory));
        };
        let holds = self.evaluate(framed, |cell| self.cell(*cell, &memory, variable));
        Ok(holds?.then_some(memory))
    }
}
