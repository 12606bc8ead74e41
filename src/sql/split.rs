//! Finds where statements end in a text, without reading them: the `;` outside of quotes,
//! dollar quotes and comments.
//!
//! It walks bytes and keeps no stack, so it takes any input. What a quote is follows PostgreSQL:
//! `''` and `""` stand for themselves, a backslash escapes in `E'…'` only, comments nest.

use std::ops::Range;

/// How many bytes of the text are complete statements, each ended by its `;`.
pub fn split_complete(text: &str) -> usize {
    let mut complete = 0;
    while let Some(end) = statement_end(text.as_bytes(), complete) {
        complete = end;
    }
    complete
}

/// The statements of a text without their `;`; the last one may lack it. May be blank.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut from = 0;
    std::iter::from_fn(move || {
        if from >= text.len() {
            return None;
        }
        let start = from;
        match statement_end(text.as_bytes(), start) {
            Some(end) => {
                from = end;
                Some(start..end - 1)
            }
            None => {
                from = text.len();
                Some(start..text.len())
            }
        }
    })
}

/// The place behind the first `;` that ends a statement.
fn statement_end(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(&byte) = text.get(at) {
        at = match byte {
            b';' => return Some(at + 1),
            b'\'' => behind_quote(text, at, from)?,
            b'"' => behind(text, at + 1, b"\"")?,
            b'-' if text.get(at + 1) == Some(&b'-') => {
                let line = text.get(at..)?;
                at + line.iter().position(|byte| matches!(byte, b'\n' | b'\r'))?
            }
            b'/' if text.get(at + 1) == Some(&b'*') => behind_comment(text, at + 2)?,
            b'$' if at == from || !is_word(text[at - 1]) => match dollar_tag(text, at) {
                Some(tag) => behind(text, tag.end, &text[tag])?,
                None => at + 1,
            },
            _ => at + 1,
        };
    }
    None
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

/// The place behind the next `end`.
fn behind(text: &[u8], from: usize, end: &[u8]) -> Option<usize> {
    memchr::memmem::find(text.get(from..)?, end).map(|found| from + found + end.len())
}

/// The place behind the text literal that begins at `start`.
fn behind_quote(text: &[u8], start: usize, from: usize) -> Option<usize> {
    let escapes = start > from
        && matches!(text[start - 1], b'e' | b'E')
        && (start - 1 == from || !is_word(text[start - 2]));
    let mut at = start + 1;
    loop {
        match *text.get(at)? {
            b'\\' if escapes => at += 2,
            // A doubled quote must not leave the mode in which backslashes escape.
            b'\'' if text.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

fn behind_comment(text: &[u8], from: usize) -> Option<usize> {
    let (mut at, mut depth) = (from, 1usize);
    while depth > 0 {
        match text.get(at..at + 2)? {
            b"*/" => {
                depth -= 1;
                at += 2;
            }
            b"/*" => {
                depth += 1;
                at += 2;
            }
            _ => at += 1,
        }
    }
    Some(at)
}

/// `$tag$` at `start`, if there is one.
fn dollar_tag(text: &[u8], start: usize) -> Option<Range<usize>> {
    let mut at = start + 1;
    while let Some(&byte) = text.get(at) {
        if byte == b'$' {
            return Some(start..at + 1);
        }
        if !is_word(byte) || (at == start + 1 && byte.is_ascii_digit()) {
            return None;
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found: Vec<&str> = pieces(text).map(|range| &text[range]).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_semicolon_in_quotes_and_comments_ends_nothing() {
        check("a;b", &["a", "b"]);
        check("a 'x;''y;' ; b", &["a 'x;''y;' ", " b"]);
        check("E'x\\';' ; b", &["E'x\\';' ", " b"]);
        check("E'a'';\\';'; b", &["E'a'';\\';'", " b"]);
        check("e 'x\\'; b", &["e 'x\\'", " b"]);
        check("nice'x\\'; b", &["nice'x\\'", " b"]);
        check("\"a;\"\";\"; b", &["\"a;\"\";\"", " b"]);
        check("a -- ;\n; b", &["a -- ;\n", " b"]);
        check("/* ; /* ; */ ; */ a; b", &["/* ; /* ; */ ; */ a", " b"]);
        check("$$ ; $x$ ; $$; b", &["$$ ; $x$ ; $$", " b"]);
        check("$x$ ; $$ ; $x$; b", &["$x$ ; $$ ; $x$", " b"]);
        check("$1; a$b; c$", &["$1", " a$b", " c$"]);
    }

    #[test]
    fn the_rest_that_is_not_complete_is_not_counted() {
        assert_eq!(split_complete("SELECT 1; SELECT '"), 9);
        assert_eq!(split_complete("SELECT 1; SELECT 2;\n"), 19);
        for open in ["", "a", "'", "\"", "$$", "$a$ ;", "/* ;", "-- ;", "E'\\", "$", "/"] {
            assert_eq!(split_complete(open), 0, "{open}");
        }
    }
}
