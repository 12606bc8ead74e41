//! Feeds bytes to the JSON decoders: no input may panic, and no byte of a row may go unreported.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use weir::data::schema::{JSON_MARK, TIMESTAMP};
use weir::decode::{DecodeSpec, Decoded, Format, Limits, decoder};

fn spec() -> Arc<DecodeSpec> {
    let json = Field::new("doc", DataType::Utf8View, true)
        .with_metadata([(JSON_MARK.to_string(), String::new())].into());
    let item = Arc::new(Field::new("item", DataType::Int64, true));
    let fields = Fields::from(vec![Field::new("b", DataType::Utf8View, true)]);
    Arc::new(DecodeSpec {
        schema: Arc::new(Schema::new(vec![
            Field::new("a", DataType::Utf8View, true),
            Field::new("n", DataType::Int64, true),
            Field::new("x", DataType::Float64, true),
            Field::new("d", DataType::Decimal128(10, 2), true),
            Field::new("at", TIMESTAMP, true),
            Field::new("l", DataType::List(item), true),
            Field::new("s", DataType::Struct(fields), true),
            json,
        ])),
        reject_unknown_fields: false,
        limits: Limits { row_bytes: 1 << 16, depth: 16 },
    })
}

fn outcome(decoded: &Decoded) -> (usize, usize, usize) {
    (decoded.batch.num_rows(), decoded.rejected.len(), decoded.punctuations.len())
}

/// Checks one input.
pub(crate) fn check(input: &[u8]) {
    decoder(Format::Json, spec()).decode(input, 1);
    let whole = outcome(&decoder(Format::NdJson, spec()).decode(input, 1));
    // A decoder that has learnt nothing takes the slow way for every line; both ways must agree.
    let mut sum = (0, 0, 0);
    for (line, piece) in (2..).zip(input.split_inclusive(|byte| *byte == b'\n')) {
        let one = outcome(&decoder(Format::NdJson, spec()).decode(piece, line));
        sum = (sum.0 + one.0, sum.1 + one.1, sum.2 + one.2);
    }
    // Only at the very start is a byte order mark no part of the row.
    if !input.windows(3).any(|three| three == b"\xef\xbb\xbf") {
        assert_eq!(whole, sum);
    }
}
