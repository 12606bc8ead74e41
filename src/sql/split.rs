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

/// The statement that begins at `from` without its `;`, which the last one may lack, and the place
/// behind that. It may be blank; `None` at the end of the text.
pub(super) fn piece(text: &str, from: usize) -> Option<(Range<usize>, usize)> {
    if from >= text.len() {
        return None;
    }
    Some(match statement_end(text.as_bytes(), from) {
        Some(end) => (from..end - 1, end),
        None => (from..text.len(), text.len()),
    })
}

/// The rows behind a COPY whose `;` ends before `from`: whole lines up to `\\.` or the end of the text.
/// Gives them and the place behind them.
pub fn copy_data(text: &str, from: usize) -> (Range<usize>, usize) {
    let bytes = text.as_bytes();
    let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r');
    let mut start = from + bytes[from..].iter().take_while(blank).count();
    start += usize::from(bytes.get(start) == Some(&b'\n'));
    let mut line = start;
    while line < text.len() {
        let end = memchr::memchr(b'\n', &bytes[line..]).map_or(text.len(), |at| line + at + 1);
        if text[line..end].trim_end() == "\\." {
            return (start..line, end);
        }
        line = end;
    }
    (start..text.len(), text.len())
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
        let mut from = 0;
        let found: Vec<&str> = std::iter::from_fn(|| {
            let (range, next) = piece(text, from)?;
            from = next;
            Some(&text[range])
        })
        .collect();
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
    fn rows_behind_a_copy_end_at_a_backslash_and_full_stop_or_with_the_text() {
        let data = |text: &str| {
            let (range, next) = copy_data(text, 1);
            (text[range].to_string(), text[next..].to_string())
        };
        assert_eq!(data(";\n1;2\n'\n\\.\nb"), ("1;2\n'\n".into(), "b".into()));
        assert_eq!(data("; \r\n1\r\n\\.\r\nb"), ("1\r\n".into(), "b".into()));
        assert_eq!(data(";\n1\n2"), ("1\n2".into(), String::new()));
        assert_eq!(data(";\n\\."), (String::new(), String::new()));
        assert_eq!(data(";"), (String::new(), String::new()));
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
