//! Is a miner's accumulator inside DataFusion's own plans: one group, a batch at a time.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Accumulator;

use super::{Miner, Summaries, state_column};
use crate::operators::aggregates::accumulator::Rows;
use crate::operators::operator::EvalError;

/// The summary of one group.
pub(super) struct OneGroup {
    summaries: Box<dyn Summaries>,
}

impl OneGroup {
    pub(super) fn new(miner: &Arc<dyn Miner>) -> Result<OneGroup> {
        let mut summaries = miner.summaries().map_err(foreign)?;
        summaries.resize(1);
        Ok(OneGroup { summaries })
    }
}

impl std::fmt::Debug for OneGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OneGroup")
    }
}

fn foreign(error: EvalError) -> DataFusionError {
    match error {
        EvalError::DataFusion(error) => error,
        EvalError::Arrow(error) => error.into(),
        EvalError::Overflow { .. } => DataFusionError::ArrowError(
            Box::new(ArrowError::ArithmeticOverflow(error.to_string())),
            None,
        ),
        EvalError::TooLarge(text) => DataFusionError::ResourcesExhausted(text),
        other => DataFusionError::External(Box::new(other)),
    }
}

impl Accumulator for OneGroup {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let groups = vec![0; values.first().map_or(0, |column| column.len())];
        self.summaries.update(values, &Rows::all(&groups, 1)).map_err(foreign)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let (answers, failed) = self.summaries.answers(&[0]).map_err(foreign)?;
        if failed.is_empty() {
            return ScalarValue::try_from_array(&answers, 0);
        }
        Err(foreign(self.summaries.failure()))
    }

    fn size(&self) -> usize {
        self.summaries.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let column = state_column(self.summaries.as_ref(), 0..1);
        Ok(vec![ScalarValue::try_from_array(&column, 0)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for bytes in states[0].as_binary::<i32>().iter().flatten() {
            self.summaries.merge(0, bytes).map_err(foreign)?;
        }
        Ok(())
    }
}
