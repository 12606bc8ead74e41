//! Decodes plain lines: each is the value of the first text column, an empty one the empty text.

use super::builders::Slot;
use super::error::{RowError, ValueError};
use super::kind::Kind;
use super::punctuation;
use super::rows::{Rows, line_at, without_first_bom};
use super::{DecodeSpecRef, Decoded, Decoder};

/// Takes each line as one value; where no column is text, the first column is read from it.
pub(crate) struct TextDecoder {
    rows: Rows,
    column: usize,
    started: bool,
}

impl TextDecoder {
    pub(crate) fn new(spec: DecodeSpecRef) -> TextDecoder {
        let rows = Rows::new(spec);
        let column = rows.columns.iter().position(|c| matches!(c.kind, Kind::Text)).unwrap_or(0);
        TextDecoder { rows, column, started: false }
    }

    fn line(&mut self, raw: &[u8], number: u64) -> Result<(), RowError> {
        let text = std::str::from_utf8(raw).map_err(|_| RowError::NotUtf8)?;
        if let Some(object) = punctuation::line_object(text) {
            let punctuation = punctuation::parse(&mut self.rows, object)?;
            self.rows.punctuate(punctuation);
            return Ok(());
        }
        self.rows.clear_row();
        let Some(column) = self.rows.columns.get(self.column) else {
            return Err(RowError::FieldCount { found: 1, expected: 0 });
        };
        let slot = match &column.kind {
            Kind::Text if text.contains('\0') => Err(ValueError::Nul),
            Kind::Text => Ok(Slot::Line(0, text.len() as u32)),
            kind => kind.slot_of_text(text, &mut self.rows.scratch),
        };
        self.rows.slots[self.column] = slot.map_err(|error| column.error(error, text))?;
        self.rows.check_nulls()?;
        self.rows.commit(number, text);
        Ok(())
    }
}

impl Decoder for TextDecoder {
    fn decode(&mut self, input: &[u8], first_line: u64) -> Decoded {
        // A decoder may serve one request after the other: line 1 starts afresh.
        self.started &= first_line != 1;
        let input = without_first_bom(input, &mut self.started);
        self.rows.begin(input.len());
        let bytes_max = self.rows.row_bytes_max();
        let (mut at, mut number) = (0, first_line);
        while at < input.len() {
            let line = line_at(input, at);
            let raw = &input[line.start..line.end];
            if raw.len() > bytes_max {
                self.rows.reject_oversize(number, raw);
            } else if let Err(error) = self.line(raw, number) {
                self.rows.reject(number, raw, &error);
            }
            at = line.next;
            number += 1;
        }
        self.rows.finish(first_line, input.len())
    }
}
