//! Cuts a body that is one JSON object or an array of them into its elements.
//!
//! Elements end where their brackets and quotes balance, so one that is wrong inside does not hide
//! those behind it. Where they do not balance nobody can tell what was meant: a body that was cut
//! short would lose its rows in silence. Then none of it is taken.

use super::json::ObjectReader;
use super::rows::{as_text, without_bom};
use super::{DecodeSpecRef, Decoded, Decoder};

/// Why a body has not the form of a JSON document.
type Malformed = String;

/// Decodes a body that is one object or an array of objects; a row's line is its place in the array.
pub(crate) struct JsonDecoder {
    objects: ObjectReader,
}

impl JsonDecoder {
    pub(crate) fn new(spec: DecodeSpecRef) -> JsonDecoder {
        JsonDecoder { objects: ObjectReader::new(spec) }
    }

    fn body(&mut self, body: &str, first_line: u64) -> Result<(), Malformed> {
        let bytes = body.as_bytes();
        let start = skip_blanks(bytes, 0);
        let end = match bytes.get(start) {
            None => return Ok(()),
            Some(b'[') => self.elements(body, start + 1, first_line)?,
            Some(_) => {
                let end = value_end(bytes, start).ok_or_else(|| cut_short(bytes))?;
                self.element(&body[start..end], first_line);
                end
            }
        };
        let behind = skip_blanks(bytes, end);
        if behind < bytes.len() { Err(expected("its end", behind)) } else { Ok(()) }
    }

    /// Reads the elements of an array from `at` on; the place behind its bracket.
    fn elements(&mut self, body: &str, at: usize, first_line: u64) -> Result<usize, Malformed> {
        let bytes = body.as_bytes();
        let (mut at, mut number) = (skip_blanks(bytes, at), first_line);
        if bytes.get(at) == Some(&b']') {
            return Ok(at + 1);
        }
        loop {
            let end = value_end(bytes, at).ok_or_else(|| cut_short(bytes))?;
            if end == at {
                return Err(expected("a JSON object", at));
            }
            self.element(&body[at..end], number);
            number += 1;
            at = skip_blanks(bytes, end);
            match bytes.get(at) {
                Some(b',') => at = skip_blanks(bytes, at + 1),
                Some(b']') => return Ok(at + 1),
                _ => return Err(expected("a comma or a closing bracket", at)),
            }
        }
    }

    fn element(&mut self, text: &str, number: u64) {
        if text.len() > self.objects.rows.row_bytes_max() {
            self.objects.rows.reject_oversize(number, text.as_bytes());
        } else {
            self.objects.object(text, number);
        }
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, input: &[u8], first_line: u64) -> Decoded {
        let input = without_bom(input);
        self.objects.rows.begin(input.len());
        let read = match as_text(input) {
            Some(body) => self.body(body, first_line),
            None => Err("it is not valid UTF-8".into()),
        };
        let decoded = self.objects.rows.finish(first_line, input.len());
        match read {
            Ok(()) => decoded,
            Err(malformed) => decoded.without_rows(malformed),
        }
    }
}

fn skip_blanks(bytes: &[u8], at: usize) -> usize {
    let blank = |b: &&u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r');
    at + bytes[at..].iter().take_while(blank).count()
}

fn expected(what: &str, at: usize) -> Malformed {
    format!("{what} is expected at byte {}", at + 1)
}

fn cut_short(bytes: &[u8]) -> Malformed {
    format!("it ends at byte {} inside a value", bytes.len())
}

/// Where the value at `at` ends by its brackets and quotes alone, without recursion: an element that
/// is wrong inside must not hide the ones behind it. `None`: it does not end.
fn value_end(bytes: &[u8], at: usize) -> Option<usize> {
    let (mut depth, mut i) = (0usize, at);
    while i < bytes.len() {
        match bytes[i] {
            b'"' => i = string_end(bytes, i)?,
            b'{' | b'[' => depth += 1,
            b'}' | b']' | b',' if depth == 0 => return Some(i),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return Some(i),
            _ => {}
        }
        i += 1;
    }
    (depth == 0).then_some(bytes.len())
}

/// The place of the closing quote of the string that opens at `at`.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut i = at + 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', bytes.get(i..)?) {
        if bytes[i + found] == b'"' {
            return Some(i + found);
        }
        i += found + 2;
    }
    None
}
