//! Completes keywords, names and commands as the user types.

use rustyline::completion::{Completer, Pair};
use rustyline::{Context, Helper, Highlighter, Hinter, Validator};
use serde_json::Value;

use super::connection::Connection;

const KEYWORDS: &[&str] = &[
    "ACCUMULATING",
    "ALLOWED",
    "ALTER",
    "ANALYZE",
    "AND",
    "AS",
    "ASOF",
    "BETWEEN",
    "BIGINT",
    "BLOCK",
    "BOOLEAN",
    "BY",
    "CASCADE",
    "CASE",
    "CHANGES",
    "CLOSE",
    "CONTINUOUS",
    "COPY",
    "COUNT_WINDOW",
    "CREATE",
    "CUMULATE",
    "DATE",
    "DELETE",
    "DESCRIBE",
    "DISCARDING",
    "DISTINCT",
    "DOUBLE",
    "DROP",
    "EARLIEST",
    "EMIT",
    "END",
    "EVERY",
    "EXISTS",
    "EXPLAIN",
    "FILTER",
    "FLUSH",
    "FOR",
    "FREQUENT_ITEMSETS",
    "FROM",
    "GROUP",
    "HAVING",
    "HEAVY_HITTERS",
    "HOP",
    "INSERT",
    "INTERVAL",
    "INTO",
    "JOIN",
    "LANDMARK",
    "LATE",
    "LATENESS",
    "LEFT",
    "LIMIT",
    "MATERIALIZED",
    "NOT",
    "NOW",
    "NULL",
    "NUMERIC",
    "OFFSET",
    "ORDER",
    "OVER",
    "OVERLOAD",
    "PARTITION",
    "PAUSE",
    "PRIMARY KEY",
    "PUNCTUATE",
    "PUNCTUATION_WINDOW",
    "QUERIES",
    "QUERY",
    "REBUILD",
    "REPLACE",
    "RESET",
    "RESUME",
    "RETRACTING",
    "ROWS",
    "SELECT",
    "SESSION",
    "SET",
    "SHOW",
    "SINK",
    "SINKS",
    "SNAPSHOT",
    "STREAM",
    "STREAMS",
    "SUBSCRIBE",
    "TABLE",
    "TABLES",
    "TEXT",
    "TIMESTAMP",
    "TREND",
    "TUMBLE",
    "UNION",
    "UPDATE",
    "VALUES",
    "VIEW",
    "WATERMARK",
    "WHERE",
    "WITH",
    "window_end",
    "window_start",
];

const COMMANDS: &[&str] = &[
    "\\?", "\\d", "\\d+", "\\dq", "\\ds", "\\dt", "\\e", "\\feed", "\\h", "\\i", "\\o", "\\pset",
    "\\q", "\\timing", "\\watch", "\\x",
];

/// The line editor's view of what can be typed.
#[derive(Debug, Default, Helper, Hinter, Highlighter, Validator)]
pub(super) struct Completion {
    names: Vec<String>,
}

impl Completion {
    /// Asks the server for its names; without an answer the old ones stay.
    pub(super) fn refresh(&mut self, connection: &Connection) {
        let mut names = Vec::new();
        for path in ["/v1/streams", "/v1/tables", "/v1/queries", "/v1/sinks"] {
            let Ok(Value::Array(rows)) = connection.get(path) else { continue };
            names.extend(rows.iter().filter_map(|row| row["name"].as_str()).map(str::to_string));
        }
        names.sort();
        names.dedup();
        if !names.is_empty() {
            self.names = names;
        }
    }

    /// Where the word before `at` starts, and what it may become.
    fn candidates(&self, line: &str, at: usize) -> (usize, Vec<String>) {
        let before = &line[..at];
        let start = before
            .rfind(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '\\' | '+' | '?')))
            .map_or(0, |i| i + before[i..].chars().next().map_or(1, char::len_utf8));
        let word = &before[start..];
        if word.is_empty() {
            return (start, self.names.clone());
        }
        if word.starts_with('\\') {
            let fits = COMMANDS.iter().filter(|command| command.starts_with(word));
            return (start, fits.map(|command| command.to_string()).collect());
        }
        let is_start =
            |text: &str| text.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
        let names = self.names.iter().filter(|name| is_start(name)).cloned();
        // Keywords follow the case that the user began with.
        let in_lower_case = word.chars().any(char::is_lowercase);
        let keywords = KEYWORDS.iter().filter(|keyword| is_start(keyword)).map(|keyword| {
            if in_lower_case { keyword.to_lowercase() } else { keyword.to_string() }
        });
        (start, names.chain(keywords).collect())
    }
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, words) = self.candidates(line, pos);
        let pair = |word: String| Pair { display: word.clone(), replacement: word };
        Ok((start, words.into_iter().map(pair).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_before_keywords_in_the_case_that_was_begun() {
        let completion = Completion { names: vec!["selections".into(), "weir_x".into()] };
        let of = |line: &str| completion.candidates(line, line.len());
        assert_eq!(of("sel"), (0, vec!["selections".into(), "select".into()]));
        assert_eq!(of("SELECT * FROM WEIR"), (14, vec!["weir_x".into()]));
        assert_eq!(of("\\pse"), (0, vec!["\\pset".into()]));
        assert_eq!(of("SELECT 'ü"), (8, vec![]));
        assert_eq!(of("FROM ").1.len(), 2);
    }
}
