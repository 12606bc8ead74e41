//! Cuts a body that is one JSON object or an array of them into its elements.
//!
//! Elements end where their brackets and quotes balance, so one that is wrong inside does not hide
//! those behind it.

use super::error::RowError;
use super::json::ObjectReader;
use super::rows::{as_text, without_bom};
use super::{DecodeSpecRef, Decoded, Decoder};

/// Decodes a body that is one object or an array of objects; a row's line is its place in the array.
pub(crate) struct JsonDecoder {
    objects: ObjectReader,
}

impl JsonDecoder {
    pub(crate) fn new(spec: DecodeSpecRef) -> JsonDecoder {
        JsonDecoder { objects: ObjectReader::new(spec) }
    }

    fn body(&mut self, body: &str, first_line: u64) {
        let bytes = body.as_bytes();
        let start = skip_blanks(bytes, 0);
        let (end, number) = match bytes.get(start) {
            None => return,
            Some(b'[') => match self.elements(body, start + 1, first_line) {
                Some(done) => done,
                None => return,
            },
            Some(_) => {
                let end = value_end(bytes, start);
                self.element(&body[start..end], first_line);
                (end, first_line + 1)
            }
        };
        let behind = skip_blanks(bytes, end);
        if behind < bytes.len() {
            self.reject_rest(body, behind, number, "the end of the body");
        }
    }

    /// Reads the elements of an array from `at` on. The place behind its bracket and the number of
    /// the next row, or `None` where the array broke off.
    fn elements(&mut self, body: &str, at: usize, first_line: u64) -> Option<(usize, u64)> {
        let bytes = body.as_bytes();
        let (mut at, mut number) = (skip_blanks(bytes, at), first_line);
        if bytes.get(at) == Some(&b']') {
            return Some((at + 1, number));
        }
        loop {
            let end = value_end(bytes, at);
            if end == at {
                self.reject_rest(body, at, number, "a JSON object");
                return None;
            }
            let good = self.element(&body[at..end], number);
            number += 1;
            at = skip_blanks(bytes, end);
            match bytes.get(at) {
                Some(b',') => at = skip_blanks(bytes, at + 1),
                Some(b']') => return Some((at + 1, number)),
                // A body cut inside an element is one bad row, not two.
                None if !good => return None,
                _ => {
                    self.reject_rest(body, at, number, "a comma or a closing bracket");
                    return None;
                }
            }
        }
    }

    /// Notes that nothing from `at` on can be told apart into rows.
    fn reject_rest(&mut self, body: &str, at: usize, number: u64, expected: &'static str) {
        let rows = &mut self.objects.rows;
        let kept = body.len().min(at + rows.row_bytes_max());
        let error = RowError::Json { expected, at: at + 1 };
        rows.reject(number, &body.as_bytes()[at..kept], &error);
    }

    /// Takes one element in; whether it was good.
    fn element(&mut self, text: &str, number: u64) -> bool {
        let before = self.objects.rows.rejected_count();
        if text.len() > self.objects.rows.row_bytes_max() {
            self.objects.rows.reject_oversize(number, text.as_bytes());
        } else {
            self.objects.object(text, number);
        }
        self.objects.rows.rejected_count() == before
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, input: &[u8], first_line: u64) -> Decoded {
        let input = without_bom(input);
        self.objects.rows.begin(input.len());
        match as_text(input) {
            Some(body) => self.body(body, first_line),
            None => {
                let kept = input.len().min(self.objects.rows.row_bytes_max());
                self.objects.rows.reject(first_line, &input[..kept], &RowError::NotUtf8);
            }
        }
        self.objects.rows.finish(first_line, input.len())
    }
}

fn skip_blanks(bytes: &[u8], at: usize) -> usize {
    let blank = |b: &&u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r');
    at + bytes[at..].iter().take_while(blank).count()
}

/// Where the value at `at` ends by its brackets and quotes alone, without recursion: an element that
/// is wrong inside must not hide the ones behind it.
fn value_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut i) = (0usize, at);
    while i < bytes.len() {
        match bytes[i] {
            b'"' => i = string_end(bytes, i),
            b'{' | b'[' => depth += 1,
            b'}' | b']' | b',' if depth == 0 => return i,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return i + 1;
                }
            }
            b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return i,
            _ => {}
        }
        i += 1;
    }
    bytes.len()
}

/// The place of the closing quote of the string that opens at `at`, or the last byte.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut i = at + 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[i.min(bytes.len())..]) {
        if bytes[i + found] == b'"' {
            return i + found;
        }
        i += found + 2;
    }
    bytes.len() - 1
}
