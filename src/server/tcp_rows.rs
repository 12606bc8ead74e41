//! Cuts the bytes of a connection into whole rows, and never holds more than one row too many.

use bytes::{Buf, BytesMut};

use crate::decode::{Format, split};

/// The bytes that came and were not taken yet.
#[derive(Debug)]
pub(super) struct Rows {
    buffer: BytesMut,
    format: Format,
    row_bytes_max: usize,
    /// The first so many bytes of `buffer` hold no row's end that is not known.
    scanned: usize,
    /// The first so many bytes of `buffer` are whole rows.
    whole: usize,
    /// Line of the first byte of `buffer`.
    line: u64,
    /// The rest of a row that was too long is passed over up to its line end.
    skipping: bool,
    /// Whether a byte order mark can no longer come.
    past_mark: bool,
    ended: bool,
}

impl Default for Rows {
    fn default() -> Rows {
        Rows {
            buffer: BytesMut::new(),
            format: Format::Text,
            row_bytes_max: usize::MAX,
            scanned: 0,
            whole: 0,
            line: 1,
            skipping: false,
            past_mark: false,
            ended: false,
        }
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Rows {
    /// From here on the bytes are rows.
    pub(super) fn begin(&mut self, format: Format, row_bytes_max: usize) {
        (self.format, self.row_bytes_max) = (format, row_bytes_max);
    }

    /// Nothing more will come: the last row may lack its line end.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Bytes that are held.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The longest row.
    pub(super) fn row_bytes_max(&self) -> usize {
        self.row_bytes_max
    }

    /// The buffer with room for `bytes` more.
    pub(super) fn room(&mut self, bytes: usize) -> &mut BytesMut {
        self.buffer.reserve(bytes);
        &mut self.buffer
    }

    /// The first line, which is no row.
    pub(super) fn take_line(&mut self) -> Option<Vec<u8>> {
        let end = memchr::memchr(b'\n', &self.buffer)?;
        let line = self.buffer.split_to(end + 1);
        Some(line[..end].strip_suffix(b"\r").unwrap_or(&line[..end]).to_vec())
    }

    /// Whole rows of together at least `bytes_min` bytes, with the line of the first.
    pub(super) fn take(&mut self, bytes_min: usize) -> Option<(BytesMut, u64)> {
        self.skip_mark();
        self.skip();
        self.scan();
        let length = if self.ended {
            self.buffer.len()
        } else if self.whole == 0 && self.buffer.len() > self.row_bytes_max {
            // The decoder reports the row without keeping it; its rest is not even looked at.
            self.skipping = true;
            self.buffer.len()
        } else if self.whole >= bytes_min.max(1) {
            self.whole
        } else {
            return None;
        };
        if length == 0 {
            return None;
        }
        let rows = self.buffer.split_to(length);
        (self.whole, self.scanned) = (0, 0);
        let first_line = self.line;
        self.line += memchr::memchr_iter(b'\n', &rows).count() as u64;
        Some((rows, first_line))
    }

    /// Looks for row ends only where bytes are new: a row that comes byte by byte costs no more.
    fn scan(&mut self) {
        let new = &self.buffer[self.scanned..];
        if memchr::memchr(b'\n', new).is_some() {
            let rest = &self.buffer[self.whole..];
            self.whole += split::complete_prefix(self.format, rest);
        }
        self.scanned = self.buffer.len();
    }

    /// A byte order mark before the first row would hide the quote behind it.
    fn skip_mark(&mut self) {
        if self.past_mark {
            return;
        }
        let begin = &self.buffer[..self.buffer.len().min(BYTE_ORDER_MARK.len())];
        self.past_mark = self.ended || !BYTE_ORDER_MARK.starts_with(begin);
        if begin == BYTE_ORDER_MARK {
            self.buffer.advance(BYTE_ORDER_MARK.len());
            // It may have come in pieces, which were looked at before.
            (self.past_mark, self.scanned) = (true, 0);
        }
    }

    fn skip(&mut self) {
        if !self.skipping {
            return;
        }
        match memchr::memchr(b'\n', &self.buffer) {
            Some(end) => {
                self.buffer.advance(end + 1);
                self.line += 1;
                self.skipping = false;
            }
            None => self.buffer.clear(),
        }
    }
}

/// The rows of a connection whose bytes come in these pieces, in groups with their first lines; for
/// fuzzing.
///
/// # Errors
/// 08P01 when the first line is missing or wrong.
#[doc(hidden)]
pub fn rows_of_connection(
    pieces: &[&[u8]],
    row_bytes_max: usize,
) -> crate::error::Result<Vec<(Vec<u8>, u64)>> {
    let (mut rows, mut header, mut groups) = (Rows::default(), None, Vec::new());
    for piece in pieces {
        rows.room(piece.len()).extend_from_slice(piece);
        if header.is_none() {
            let Some(line) = rows.take_line() else { continue };
            let line = String::from_utf8_lossy(&line);
            let parsed = super::tcp_header::parse(&line)?;
            rows.begin(parsed.format, row_bytes_max);
            header = Some(parsed);
        }
        while let Some((bytes, line)) = rows.take(0) {
            groups.push((bytes.to_vec(), line));
        }
    }
    if header.is_none() {
        return Err(super::tcp_header::wrong("the first line is missing".to_string()));
    }
    rows.end();
    while let Some((bytes, line)) = rows.take(0) {
        groups.push((bytes.to_vec(), line));
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `pieces` one by one and shows what is taken after each, `|` between groups.
    fn check(format: Format, pieces: &[&str], expected: expect_test::Expect) {
        let mut rows = Rows::default();
        rows.begin(format, 8);
        let mut taken = Vec::new();
        for piece in pieces {
            rows.room(1).extend_from_slice(piece.as_bytes());
            while let Some((bytes, line)) = rows.take(0) {
                taken.push(format!("{line}:{}", String::from_utf8_lossy(&bytes)));
            }
        }
        rows.end();
        while let Some((bytes, line)) = rows.take(0) {
            taken.push(format!("{line}:{}", String::from_utf8_lossy(&bytes)));
        }
        expected.assert_eq(&format!("{taken:?}"));
    }

    #[test]
    fn only_whole_rows_are_taken_and_lines_are_counted() {
        check(
            Format::NdJson,
            &["a", "b\nc", "\nd\n\ne"],
            expect_test::expect![[r#"["1:ab\n", "2:c\nd\n\n", "5:e"]"#]],
        );
    }

    #[test]
    fn a_line_end_inside_quotes_is_no_rows_end() {
        check(
            Format::Csv { header: false },
            &["1,\"x\n", "y\"\n2,z\n"],
            expect_test::expect![[r#"["1:1,\"x\ny\"\n2,z\n"]"#]],
        );
    }

    #[test]
    fn a_byte_order_mark_before_the_first_row_hides_no_quote() {
        let format = Format::Csv { header: false };
        let expected = expect_test::expect![[r#"["1:\"a\nb\"\n"]"#]];
        check(format, &["\u{feff}\"a\n", "b\"\n"], expected);
        let mut rows = Rows::default();
        rows.begin(format, 8);
        for byte in "\u{feff}a\n".bytes() {
            assert!(rows.take(0).is_none());
            rows.room(1).extend_from_slice(&[byte]);
        }
        assert_eq!(
            rows.take(0).map(|(bytes, line)| (bytes.to_vec(), line)),
            Some((b"a\n".to_vec(), 1))
        );
    }

    #[test]
    fn a_row_beyond_the_limit_is_handed_out_once_and_its_rest_passed_over() {
        check(
            Format::NdJson,
            &["a\n0123456", "789", "0123456789", "0123\nb\n"],
            expect_test::expect![[r#"["1:a\n", "2:0123456789", "3:b\n"]"#]],
        );
    }

    #[test]
    fn small_groups_wait_when_asked_to() {
        let mut rows = Rows::default();
        rows.begin(Format::NdJson, 100);
        rows.room(1).extend_from_slice(b"a\nb\nc");
        assert!(rows.take(5).is_none());
        rows.room(1).extend_from_slice(b"\n");
        assert_eq!(rows.take(5).map(|(bytes, line)| (bytes.len(), line)), Some((6, 1)));
    }
}
