//! Says what of a window's rows is put out, and which pairs of a row and a window count.
//!
//! A condition or an expression may read a row and the window that holds it together, as
//! `at < window_start + INTERVAL '1' MINUTE` does. Such a pair is evaluated when the window is put
//! out; a row on which that fails is refused alone, once, and is in none of the windows it failed
//! with.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;

use crate::data::punctuation::Punctuation;
use crate::operators::aggregates::spec::AggregateSpec;
use crate::operators::emit::EmitMode;
use crate::operators::expr::{RowFailure, checked, evaluate, evaluate_in_pieces, evaluate_mask};
use crate::operators::operator::EvalError;
use crate::operators::partitions::renamed;

/// What is put out of the rows of windows.
#[derive(Debug, Clone)]
pub struct WindowAnswer {
    /// Rows or groups.
    pub content: Content,
    /// Boolean column of the input: only rows where it is true count in the output (WHERE beside a
    /// window); the others still shape the windows.
    pub row_filter: Option<usize>,
    /// What reads rows and windows together.
    pub pairs: Option<Arc<Pairs>>,
}

/// One row per group of a window, or every row of it.
#[derive(Debug, Clone)]
pub enum Content {
    /// One row per window and key: window columns, keys, aggregates.
    Groups {
        /// Columns by which a window is subdivided: the input's, then those that pairs compute.
        keys: Vec<usize>,
        /// Aggregates over the same columns.
        aggregates: Vec<AggregateSpec>,
    },
    /// The window's rows in log order: the input's columns, then the window columns.
    Rows,
}

impl WindowAnswer {
    /// Groups of all rows.
    pub fn groups(keys: Vec<usize>, aggregates: Vec<AggregateSpec>) -> WindowAnswer {
        let content = Content::Groups { keys, aggregates };
        WindowAnswer { content, row_filter: None, pairs: None }
    }

    /// The columns by which windows are subdivided.
    pub fn keys(&self) -> &[usize] {
        match &self.content {
            Content::Groups { keys, .. } => keys,
            Content::Rows => &[],
        }
    }

    /// The aggregates.
    pub fn aggregates(&self) -> &[AggregateSpec] {
        match &self.content {
            Content::Groups { aggregates, .. } => aggregates,
            Content::Rows => &[],
        }
    }

    /// The keys whose rows EMIT EVERY n ROWS counts apart within a window: columns of the input that do
    /// not belong to the partition.
    pub fn keys_apart(&self, mode: EmitMode, partition: &[usize], input: &SchemaRef) -> Vec<usize> {
        if !matches!(mode, EmitMode::EveryRows { .. }) {
            return Vec::new();
        }
        let within = |key: &&usize| **key < input.fields().len() && !partition.contains(*key);
        self.keys().iter().filter(within).copied().collect()
    }

    /// What a punctuation of the input promises of the output, where keys stand at `keys_at`.
    pub fn passed_on(
        &self,
        punctuation: &Punctuation,
        (input, output): (&SchemaRef, &SchemaRef),
        keys_at: usize,
    ) -> Option<Arc<Punctuation>> {
        renamed(punctuation, input, output, &self.passed_columns(keys_at, input))
    }

    /// Pairs of column of the input and of the output.
    fn passed_columns(&self, keys_at: usize, input: &SchemaRef) -> Vec<(usize, usize)> {
        let width = input.fields().len();
        match &self.content {
            Content::Groups { keys, .. } => {
                let placed = keys.iter().enumerate().filter(|(_, key)| **key < width);
                placed.map(|(place, &key)| (key, place + keys_at)).collect()
            }
            Content::Rows => (0..width).map(|column| (column, column)).collect(),
        }
    }
}

/// Expressions over a row and the window that holds it.
#[derive(Debug)]
pub struct Pairs {
    /// Columns that stand behind the input's where groups are formed.
    pub computed: Vec<Arc<dyn PhysicalExpr>>,
    /// Which pairs count.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// What both read: the input's columns, then the window's in the operator's order.
    pub schema: SchemaRef,
    /// The input's columns, then the computed ones.
    pub output: SchemaRef,
}

impl Pairs {
    /// The same expressions, with integer overflow as an error.
    pub fn checked(&self) -> Result<Pairs, EvalError> {
        let all = |expr: &Arc<dyn PhysicalExpr>| checked(expr, &self.schema);
        Ok(Pairs {
            computed: self.computed.iter().map(all).collect::<Result<_, _>>()?,
            filter: self.filter.as_ref().map(all).transpose()?,
            schema: Arc::clone(&self.schema),
            output: Arc::clone(&self.output),
        })
    }

    /// Which pairs count, and those on which an expression fails.
    pub fn judge(&self, pairs: &RecordBatch) -> (Vec<bool>, Vec<RowFailure>) {
        let (pieces, failures) = evaluate_in_pieces(pairs, |piece| self.judge_piece(piece));
        let mut counts = vec![false; pairs.num_rows()];
        for piece in pieces {
            for (row, kept) in piece.value.values().iter().enumerate() {
                counts[piece.start + row] = kept;
            }
        }
        (counts, failures)
    }

    fn judge_piece(&self, piece: &RecordBatch) -> Result<BooleanArray, DataFusionError> {
        let counts = match &self.filter {
            Some(filter) => evaluate_mask(filter, piece)?,
            None => BooleanArray::from(vec![true; piece.num_rows()]),
        };
        if !self.computed.is_empty() {
            // Only to see whether they fail; where the condition does not hold they may.
            let kept = compute::filter_record_batch(piece, &counts)?;
            self.computed.iter().try_for_each(|expr| evaluate(expr, &kept).map(drop))?;
        }
        Ok(counts)
    }

    /// The rows of pairs that count with what is computed of them.
    pub fn widen(&self, pairs: &RecordBatch) -> Result<RecordBatch, EvalError> {
        let width = self.output.fields().len() - self.computed.len();
        let mut columns = pairs.columns()[..width].to_vec();
        for expr in &self.computed {
            columns.push(evaluate(expr, pairs)?);
        }
        let options =
            arrow::array::RecordBatchOptions::new().with_row_count(Some(pairs.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.output), columns, &options)?)
    }
}
