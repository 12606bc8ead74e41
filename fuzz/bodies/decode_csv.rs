//! Feeds bytes to the CSV decoder and its splitter: no input may panic, and where the bytes are cut
//! between whole rows must not matter.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use weir::data::schema::TIMESTAMP;
use weir::decode::split::complete_prefix;
use weir::decode::{DecodeSpec, Format, Limits, decoder};

/// Checks one input.
pub(crate) fn check(input: &[u8]) {
    // Whoever splits drops a byte order mark first.
    let mut input = input;
    while let Some(rest) = input.strip_prefix(b"\xef\xbb\xbf") {
        input = rest;
    }
    let spec = Arc::new(DecodeSpec {
        schema: Arc::new(Schema::new(vec![
            Field::new("a", DataType::Utf8View, true),
            Field::new("n", DataType::Int32, true),
            Field::new("at", TIMESTAMP, true),
        ])),
        reject_unknown_fields: false,
        limits: Limits::default(),
    });
    let format = Format::Csv { header: false };
    let whole = decoder(format, Arc::clone(&spec)).decode(input, 1);
    let cut = complete_prefix(format, input);
    let mut pieces = decoder(format, spec);
    let first = pieces.decode(&input[..cut], 1);
    let lines = input[..cut].iter().filter(|byte| **byte == b'\n').count() as u64;
    let second = pieces.decode(&input[cut..], 1 + lines);
    assert_eq!(whole.batch.num_rows(), first.batch.num_rows() + second.batch.num_rows());
    let rejected: Vec<_> = first.rejected.into_iter().chain(second.rejected).collect();
    assert_eq!(whole.rejected, rejected);
}
