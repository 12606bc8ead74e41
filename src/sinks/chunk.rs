//! Is a piece of a changelog: rows with their weights and offsets, to be joined and cut.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::DataType;

use crate::error::{Error, Result, SqlState};

/// Rows of a changelog.
#[derive(Debug, Clone)]
pub struct ChangelogChunk {
    /// Offset of the first row.
    pub first_offset: u64,
    /// The rows; may be none.
    pub batch: RecordBatch,
    /// Per row +n or −n; `None`: every row is +1.
    pub weights: Option<Int64Array>,
    /// The offset to read next. Greater than the last row's plus one when the rows are a snapshot
    /// that stands for everything before it.
    pub next_offset: u64,
}

impl ChangelogChunk {
    /// Whether row `i` has the offset `first_offset + i`, up to the end.
    pub(crate) fn is_contiguous(&self) -> bool {
        self.first_offset + self.batch.num_rows() as u64 == self.next_offset
    }

    /// About how much memory the rows take, however many batches share their buffers.
    pub(crate) fn bytes(&self) -> u64 {
        self.batch.columns().iter().map(column_bytes).sum()
    }

    /// The rows below `end`, if rows have offsets of their own.
    pub(crate) fn until(self, end: u64) -> ChangelogChunk {
        if self.next_offset <= end || end <= self.first_offset || !self.is_contiguous() {
            return self;
        }
        let rows = usize::try_from(end - self.first_offset).expect("fewer than the rows there are");
        ChangelogChunk {
            batch: self.batch.slice(0, rows),
            weights: self.weights.map(|weights| weights.slice(0, rows)),
            next_offset: end,
            ..self
        }
    }
}

/// Slices and views count their own rows only.
fn column_bytes(column: &ArrayRef) -> u64 {
    let lengths = |views: &[u128]| views.iter().map(|view| u64::from(*view as u32)).sum::<u64>();
    let rows = column.len() as u64;
    match column.data_type() {
        DataType::Utf8View => 16 * rows + lengths(column.as_string_view().views()),
        DataType::BinaryView => 16 * rows + lengths(column.as_binary_view().views()),
        _ => {
            let sliced = column.to_data().get_slice_memory_size();
            sliced.unwrap_or_else(|_| column.get_array_memory_size()) as u64
        }
    }
}

/// One chunk of several that follow each other.
pub(crate) fn join(mut chunks: Vec<ChangelogChunk>) -> Result<ChangelogChunk> {
    if chunks.len() == 1 {
        return Ok(chunks.remove(0));
    }
    let (first, last) = (&chunks[0], &chunks[chunks.len() - 1]);
    let batch = concat_batches(&first.batch.schema(), chunks.iter().map(|chunk| &chunk.batch))
        .map_err(|error| {
            let message = "chunks of one changelog have different columns";
            Error::new(SqlState::INTERNAL, message).with_detail(error.to_string())
        })?;
    let weights = chunks.iter().any(|chunk| chunk.weights.is_some()).then(|| {
        let of_chunk = |chunk: &ChangelogChunk| match &chunk.weights {
            Some(weights) => weights.values().to_vec(),
            None => vec![1; chunk.batch.num_rows()],
        };
        Int64Array::from(chunks.iter().flat_map(of_chunk).collect::<Vec<i64>>())
    });
    let (first_offset, next_offset) = (first.first_offset, last.next_offset);
    Ok(ChangelogChunk { first_offset, batch, weights, next_offset })
}
