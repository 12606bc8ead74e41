//! Sums a changelog up: the rows that a query's answer consists of at this moment.
//!
//! An append-only changelog is its own sum. Any other is summed row by row: equal rows add their
//! weights, and a row whose weight is zero is gone. The sum is made when it is first asked for and
//! kept up from then on, so a query that nobody selects from costs nothing. Where the query itself knows
//! its result (a GROUP BY keeps what each group shows), it is asked instead.

use std::sync::{Arc, OnceLock, Weak};

use arrow::array::{Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, SortField};
use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::error::{Error, Result, SqlState};
use crate::log::frame::Position;
use crate::views::changelog::{Changelog, Entry};

/// Rows read from the changelog at a time.
const READ_ROWS: usize = 65_536;

/// Whoever knows the current result without summing up the changelog.
pub trait Standing: Send + Sync {
    /// The rows, and the position in the changelog that they are the sum of; `None` when it does not
    /// know, or they are so few that summing up is as good.
    ///
    /// # Errors
    /// A broken invariant.
    fn standing(&self) -> Result<Option<(Vec<RecordBatch>, Position)>>;
}

/// The current result of a query or table.
pub struct ResultView {
    changelog: Arc<Changelog>,
    standing: OnceLock<Weak<dyn Standing>>,
    sum: Mutex<Sum>,
    /// Held once by each subscription, and here.
    followers: Arc<()>,
}

struct Sum {
    /// How far the changelog is summed up.
    position: Position,
    converter: Option<RowConverter>,
    /// Row to its place in `rows`.
    places: HashMap<Box<[u8]>, usize>,
    /// Rows in the order of their first appearance, with their weights; holes have weight 0.
    rows: Vec<(OwnedRow, i64)>,
    holes: usize,
}

impl std::fmt::Debug for ResultView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResultView").field("sum", &self.sum).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sum").field("position", &self.position).finish_non_exhaustive()
    }
}

impl ResultView {
    /// A view over a changelog; nothing is read yet.
    pub fn new(changelog: Arc<Changelog>) -> ResultView {
        let sum = Sum {
            position: Position::default(),
            converter: None,
            places: HashMap::new(),
            rows: Vec::new(),
            holes: 0,
        };
        let (standing, followers) = (OnceLock::new(), Arc::new(()));
        ResultView { changelog, standing, sum: Mutex::new(sum), followers }
    }

    /// Says who may know the result; whoever is named first is asked.
    pub fn ask(&self, standing: Weak<dyn Standing>) {
        self.standing.get_or_init(|| standing);
    }

    /// Counts a subscription for as long as it holds the answer, which it clones for nobody.
    pub(super) fn follow(&self) -> Arc<()> {
        Arc::clone(&self.followers)
    }

    /// How many subscriptions there are.
    pub fn subscribers(&self) -> usize {
        Arc::strong_count(&self.followers) - 1
    }

    /// The changelog.
    pub fn changelog(&self) -> &Arc<Changelog> {
        &self.changelog
    }

    /// The rows at this moment, and the position in the changelog that they are the sum of.
    pub fn snapshot(&self) -> Result<(Vec<RecordBatch>, Position)> {
        if self.changelog.append_only() {
            return self.everything();
        }
        if let Some(standing) = self.standing.get().and_then(Weak::upgrade)
            && let Some(known) = standing.standing()?
        {
            return Ok(known);
        }
        let mut sum = self.sum.lock();
        self.catch_up(&mut sum)?;
        let batch = sum.batch(self.changelog.schema())?;
        Ok((vec![batch], sum.position))
    }

    fn everything(&self) -> Result<(Vec<RecordBatch>, Position)> {
        let end = self.changelog.log().visible();
        let kept = self.changelog.kept();
        let mut position = kept.as_ref().map_or(self.changelog.log().start(), |kept| kept.at);
        let mut batches = kept.map_or_else(|| Ok(vec![]), |kept| kept.batches())?;
        while position.frame < end.frame {
            let frames = self.changelog.read(position, READ_ROWS)?;
            let Some(last) = frames.last() else { break };
            position = Position { frame: last.index + 1, offset: last.next_offset() };
            let entries = frames.iter().filter(|frame| frame.index < end.frame);
            batches.extend(entries.filter_map(|f| self.changelog.entry(f)).map(|e| e.batch));
        }
        Ok((batches, end))
    }

    fn catch_up(&self, sum: &mut Sum) -> Result<()> {
        let end = self.changelog.log().visible();
        match self.changelog.kept().filter(|kept| sum.position.frame < kept.at.frame) {
            None => sum.position = sum.position.max(self.changelog.log().start()),
            // What it stands for is no longer there to be summed up.
            Some(kept) => {
                sum.clear();
                for batch in kept.batches()? {
                    sum.add(&Entry { first_offset: 0, batch, weights: None, arrivals: None })?;
                }
                sum.position = kept.at;
            }
        }
        while sum.position.frame < end.frame {
            let frames = self.changelog.read(sum.position, READ_ROWS)?;
            let Some(last) = frames.last() else { break };
            for frame in &frames {
                if let Some(entry) = self.changelog.entry(frame) {
                    sum.add(&entry)?;
                }
            }
            sum.position = Position { frame: last.index + 1, offset: last.next_offset() };
        }
        sum.compact();
        Ok(())
    }
}

impl Sum {
    fn clear(&mut self) {
        self.places.clear();
        self.rows.clear();
        self.holes = 0;
    }

    fn add(&mut self, entry: &Entry) -> Result<()> {
        let converter = match &mut self.converter {
            Some(converter) => converter,
            None => self.converter.insert(converter(entry.batch.schema_ref())?),
        };
        let rows = converter.convert_columns(entry.batch.columns()).map_err(broken)?;
        for (index, row) in rows.iter().enumerate() {
            let weight = entry.weights.as_ref().map_or(1, |weights| weights.value(index));
            let place = match self.places.get(row.as_ref()) {
                Some(place) => *place,
                None => {
                    self.places.insert(row.as_ref().into(), self.rows.len());
                    self.rows.push((row.owned(), 0));
                    self.holes += 1;
                    self.rows.len() - 1
                }
            };
            let old = self.rows[place].1;
            self.rows[place].1 = old + weight;
            match (old == 0, old + weight == 0) {
                (true, false) => self.holes -= 1,
                (false, true) => self.holes += 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// Drops rows of weight zero once they are the larger part.
    fn compact(&mut self) {
        if self.holes * 2 <= self.rows.len() {
            return;
        }
        self.rows.retain(|(_, weight)| *weight != 0);
        self.places.clear();
        for (place, (row, _)) in self.rows.iter().enumerate() {
            self.places.insert(row.as_ref().into(), place);
        }
        self.holes = 0;
    }

    fn batch(&self, schema: &SchemaRef) -> Result<RecordBatch> {
        let Some(converter) = &self.converter else {
            return Ok(RecordBatch::new_empty(nullable(schema)));
        };
        let mut rows = Vec::with_capacity(self.rows.len());
        for (row, weight) in &self.rows {
            for _ in 0..(*weight).max(0) {
                rows.push(row.row());
            }
        }
        let count = rows.len();
        let columns = converter.convert_rows(rows).map_err(broken)?;
        let columns = columns
            .into_iter()
            .zip(schema.fields())
            .map(|(column, field)| {
                if column.data_type() == field.data_type() {
                    Ok(column)
                } else {
                    arrow::compute::cast(&column, field.data_type())
                }
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(broken)?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(nullable(schema), columns, &options).map_err(broken)
    }
}

fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<_> =
        schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

fn converter(schema: &SchemaRef) -> Result<RowConverter> {
    let fields =
        schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    RowConverter::new(fields).map_err(broken)
}

fn broken(error: arrow::error::ArrowError) -> Error {
    Error::new(SqlState::INTERNAL, format!("result cannot be summed up: {error}"))
}
