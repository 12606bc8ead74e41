//! Gathers lines until they make a statement, or a backslash command.

use crate::sql::parse::parse_statement;
use crate::sql::statement::Statement;

/// What has become complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// A statement without its semicolon.
    Statement(String),
    /// A backslash command, the whole line.
    Command(String),
}

/// Lines that are no whole statement yet.
#[derive(Debug, Default)]
pub(super) struct Input {
    text: String,
    /// A COPY whose rows are being read.
    copy: Option<String>,
}

impl Input {
    /// Takes a line and gives what it completed.
    pub(super) fn line(&mut self, line: &str) -> Vec<Piece> {
        if let Some(copy) = &mut self.copy {
            copy.push_str(line);
            copy.push('\n');
            let ended = line.trim_end() == "\\.";
            return self.copy.take_if(|_| ended).map(Piece::Statement).into_iter().collect();
        }
        let in_statement = !matches!(scan(&self.text).1, State::Plain);
        if !in_statement && line.trim_start().starts_with('\\') {
            return vec![Piece::Command(line.trim().to_string())];
        }
        self.text.push_str(line);
        self.text.push('\n');
        let (ends, _) = scan(&self.text);
        let mut pieces = Vec::new();
        let mut start = 0;
        for end in ends {
            let piece = statement(&self.text[start..end]);
            start = end + 1;
            match piece {
                // Its rows follow, on lines of their own.
                Some(Piece::Statement(text)) if takes_rows(&text) => {
                    self.copy = Some(format!("{text};\n"));
                    self.text.clear();
                    return pieces;
                }
                piece => pieces.extend(piece),
            }
        }
        self.text.drain(..start);
        if is_blank(&self.text) {
            self.text.clear();
        }
        pieces
    }

    /// What is left at the end of input; a last statement may lack its semicolon.
    pub(super) fn end(&mut self) -> Option<Piece> {
        let copy = self.copy.take().map(Piece::Statement);
        copy.or_else(|| statement(&std::mem::take(&mut self.text)))
    }

    /// Forgets an unfinished statement.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.copy = None;
    }

    /// Whether a statement has begun.
    pub(super) fn has_begun(&self) -> bool {
        !self.text.is_empty() || self.copy.is_some()
    }
}

fn statement(text: &str) -> Option<Piece> {
    (!is_blank(text)).then(|| Piece::Statement(text.trim().to_string()))
}

/// Whether a statement is COPY … FROM STDIN.
fn takes_rows(text: &str) -> bool {
    parse_statement(text).is_ok_and(|statement| matches!(statement, Statement::Copy { .. }))
}

/// Whether there are only blanks and comments.
fn is_blank(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            byte if byte.is_ascii_whitespace() => at += 1,
            b'-' if bytes[at..].starts_with(b"--") => at = line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => match comment_end(bytes, at) {
                Some(end) => at = end,
                None => return false,
            },
            _ => return false,
        }
    }
    true
}

/// Where a text ends.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Between words.
    Plain,
    /// Inside quotes or a comment.
    Inside,
}

/// The semicolons that end statements, and where the text ends.
fn scan(text: &str) -> (Vec<usize>, State) {
    let bytes = text.as_bytes();
    let mut ends = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b';' => {
                ends.push(at);
                Some(at + 1)
            }
            b'\'' => quote_end(bytes, at, has_escapes(bytes, at)),
            b'"' => quote_end(bytes, at, false),
            b'-' if bytes[at..].starts_with(b"--") => Some(line_end(bytes, at)),
            b'/' if bytes[at..].starts_with(b"/*") => comment_end(bytes, at),
            b'$' => dollar_end(text, at),
            _ => Some(at + 1),
        };
        match end {
            Some(end) => at = end,
            None => return (ends, State::Inside),
        }
    }
    (ends, State::Plain)
}

/// Whether a quote opens `E'…'`, in which a backslash takes the next character's meaning.
fn has_escapes(bytes: &[u8], at: usize) -> bool {
    let before = |n: usize| at.checked_sub(n).map(|i| bytes[i]);
    matches!(before(1), Some(b'e' | b'E'))
        && !before(2).is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80)
}

fn quote_end(bytes: &[u8], start: usize, has_escapes: bool) -> Option<usize> {
    let quote = bytes[start];
    let mut at = start + 1;
    loop {
        match *bytes.get(at)? {
            b'\\' if has_escapes => at += 2,
            byte if byte != quote => at += 1,
            _ if bytes.get(at + 1) == Some(&quote) => at += 2,
            _ => return Some(at + 1),
        }
    }
}

fn line_end(bytes: &[u8], start: usize) -> usize {
    memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |length| start + length + 1)
}

/// Comments nest, as in PostgreSQL.
fn comment_end(bytes: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut depth) = (start + 2, 1);
    while depth > 0 {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        if rest.starts_with(b"/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if rest.starts_with(b"*/") {
            (at, depth) = (at + 2, depth - 1);
        } else {
            at += 1;
        }
    }
    Some(at)
}

/// `$tag$ … $tag$`; a dollar that opens no such quote stands for itself.
fn dollar_end(text: &str, start: usize) -> Option<usize> {
    let rest = &text[start + 1..];
    let tag = rest.find('$').map(|end| &rest[..end]);
    let is_tag = |tag: &str| {
        tag.chars().all(|c| c.is_alphanumeric() || c == '_')
            && !tag.starts_with(|c: char| c.is_ascii_digit())
    };
    match tag.filter(|tag| is_tag(tag)) {
        None => Some(start + 1),
        Some(tag) => {
            let (body, mark) = (start + tag.len() + 2, format!("${tag}$"));
            text[body..].find(&mark).map(|length| body + length + mark.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], expected: expect_test::Expect) {
        let mut input = Input::default();
        let mut shown = Vec::new();
        for line in lines {
            shown.extend(input.line(line).into_iter().map(|piece| format!("{piece:?}")));
        }
        shown.extend(input.end().map(|piece| format!("end {piece:?}")));
        expected.assert_eq(&shown.join("\n"));
    }

    #[test]
    fn a_statement_ends_at_its_semicolon_on_any_line() {
        check(
            &["SELECT 1; SELECT", " 2 ; -- done", "\\d x", "SELECT 3"],
            expect_test::expect![[r#"
                Statement("SELECT 1")
                Statement("SELECT\n 2")
                Command("\\d x")
                end Statement("SELECT 3")"#]],
        );
    }

    #[test]
    fn the_rows_of_a_copy_belong_to_it() {
        check(
            &["SELECT 1; copy s from stdin (format csv);", "1;2", "'", "\\.", "SELECT 2;"],
            expect_test::expect![[r#"
                Statement("SELECT 1")
                Statement("copy s from stdin (format csv);\n1;2\n'\n\\.\n")
                Statement("SELECT 2")"#]],
        );
        check(
            &["COPY s FROM STDIN;", "1"],
            expect_test::expect![[r#"end Statement("COPY s FROM STDIN;\n1\n")"#]],
        );
    }

    #[test]
    fn quotes_and_comments_hide_semicolons() {
        check(
            &[
                "SELECT ';''', \";\", E'\\';', $$;$$, $a$;$$;$a$ /* ; /* ; */ ; */ -- ;",
                "'",
                "\\d';",
            ],
            expect_test::expect![[r#"
                Statement("SELECT ';''', \";\", E'\\';', $$;$$, $a$;$$;$a$ /* ; /* ; */ ; */ -- ;\n'\n\\d'")"#]],
        );
    }

    #[test]
    fn blanks_comments_and_lone_semicolons_are_nothing() {
        check(&["", " -- x", ";;", "/* y */;"], expect_test::expect![[""]]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken(lines in proptest::collection::vec(".{0,40}", 0..6)) {
            let mut input = Input::default();
            let pieces: usize = lines.iter().map(|line| input.line(line).len()).sum();
            input.end();
            proptest::prop_assert!(pieces <= lines.join("").len() + lines.len());
        }
    }
}
