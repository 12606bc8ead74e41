//! Is what a snapshot says of itself: the place in every log that it belongs to, and the plan.

use crate::log::frame::Position;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, misfit};
use crate::views::changelog::Frontier;

/// What a snapshot says of itself, before the state of the operators.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// The plan that the state belongs to, in words.
    pub plan: String,
    /// How far each input had been read.
    pub frontier: Frontier,
    /// The end of the changelog.
    pub changelog: Position,
    /// The watermark as last written to the changelog.
    pub written_watermark: i64,
    /// Rows taken, rows that were too late, rows refused: since the query was created.
    pub counts: (u64, u64, u64),
    /// Late rows that were numbered for LATE ROWS TO.
    pub late_rows: u64,
    /// Whether an entry of the changelog up to there has signs.
    pub signed: bool,
    /// How many rows the query keeps of those that come next.
    pub level: u8,
    /// For each input the first offset that it shed and the number of rows; none where it has kept all.
    pub shed: Vec<(u64, u64)>,
    /// What the operators share, see [`Graph::save_begin`](crate::pipeline::graph::Graph::save_begin).
    pub graph: Vec<u8>,
}

impl Head {
    pub(super) fn encode(&self) -> Result<Vec<u8>, EvalError> {
        let mut body = StateWriter::default();
        body.put(&self.plan)?;
        let frontier: Vec<(u64, u64)> = self.frontier.iter().map(|p| (p.frame, p.offset)).collect();
        body.put(&frontier)?;
        body.put(&(self.changelog.frame, self.changelog.offset))?;
        body.put(&self.written_watermark)?;
        body.put(&self.counts)?;
        body.put(&self.late_rows)?;
        body.put(&self.signed)?;
        body.raw(&self.graph);
        if self.level > 0 || self.shed.iter().any(|(_, rows)| *rows > 0) {
            body.put(&(u64::from(self.level), self.shed.clone()))?;
        }
        Ok(body.finish())
    }

    pub(super) fn decode(body: &[u8]) -> Result<Head, EvalError> {
        let mut from = StateReader::new(body);
        let plan = from.get()?;
        let position = |(frame, offset)| Position { frame, offset };
        let frontier = from.get::<Vec<(u64, u64)>>()?.into_iter().map(position).collect();
        let changelog = position(from.get()?);
        let written_watermark = from.get()?;
        let (counts, late_rows, signed) = from.get()?;
        let graph = from.raw()?.to_vec();
        let (level, shed): (u64, _) = if from.is_at_end() { (0, vec![]) } else { from.get()? };
        let level = u8::try_from(level).map_err(|_| misfit("its level is none"))?;
        from.end()?;
        Ok(Head {
            plan,
            frontier,
            changelog,
            written_watermark,
            counts,
            late_rows,
            signed,
            level,
            shed,
            graph,
        })
    }
}
