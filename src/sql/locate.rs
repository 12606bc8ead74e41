//! Finds the place in a statement that an error of the planner means.
//!
//! The planner knows names, not places. A name that does not exist is written somewhere, though, and
//! what stands around it tells a relation from a column, an alias and a function.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::tokens::{byte_of, position, tokenize};
use crate::error::SqlState;

/// The position, in characters from 1, of the name that the message quotes; `None` for errors of
/// other kinds.
pub fn locate(statement: &str, code: SqlState, message: &str) -> Option<usize> {
    let looks_right: fn(&Around<'_>) -> bool = match code {
        SqlState::UNDEFINED_RELATION => |place| place.is_relation(),
        SqlState::UNDEFINED_COLUMN | SqlState::AMBIGUOUS_COLUMN => |place| place.is_column(),
        SqlState::UNDEFINED_FUNCTION => |place| place.is_function(),
        _ => return None,
    };
    let quote = message.find(['"', '\''])?;
    let rest = &message[quote + 1..];
    let name = &rest[..rest.find(['"', '\''])?];
    let tokens = tokenize(statement).ok()?;
    let parts: Vec<&str> = name.split('.').collect();
    let found: Vec<Around<'_>> = (0..tokens.len())
        .filter(|&at| is_name(&tokens, at, &parts) || is_name(&tokens, at, &[name]))
        .map(|at| Around { tokens: &tokens, at, width: parts.len() * 2 - 1 })
        .collect();
    let best = found.iter().find(|place| looks_right(place)).or(found.first())?;
    let start = tokens[best.start()].span.start;
    Some(position(statement, byte_of(statement, start)))
}

/// Whether a name of these parts begins at a token.
fn is_name(tokens: &[TokenWithSpan], at: usize, parts: &[&str]) -> bool {
    parts.iter().enumerate().all(|(i, part)| {
        let word = tokens.get(at + 2 * i).is_some_and(|token| match &token.token {
            Token::Word(word) if word.quote_style.is_some() => word.value == *part,
            Token::Word(word) => word.value.eq_ignore_ascii_case(part),
            _ => false,
        });
        let joined =
            i == 0 || tokens.get(at + 2 * i - 1).is_some_and(|token| token.token == Token::Period);
        word && joined
    })
}

/// A name and its neighbours.
struct Around<'a> {
    tokens: &'a [TokenWithSpan],
    at: usize,
    width: usize,
}

impl Around<'_> {
    fn before(&self) -> &Token {
        self.at.checked_sub(1).map_or(&Token::EOF, |at| &self.tokens[at].token)
    }

    fn after(&self) -> &Token {
        self.tokens.get(self.at + self.width).map_or(&Token::EOF, |token| &token.token)
    }

    fn is_relation(&self) -> bool {
        !matches!(self.after(), Token::Period)
            && match self.before() {
                Token::Word(word) => !matches!(
                    word.keyword,
                    Keyword::SELECT
                        | Keyword::AS
                        | Keyword::WHERE
                        | Keyword::AND
                        | Keyword::OR
                        | Keyword::BY
                ),
                Token::Comma | Token::LParen | Token::EOF => true,
                _ => false,
            }
    }

    fn is_column(&self) -> bool {
        let renames = matches!(self.before(), Token::Word(word) if word.keyword == Keyword::AS || word.keyword == Keyword::FROM);
        !renames && !matches!(self.after(), Token::LParen | Token::Period | Token::RArrow)
    }

    fn is_function(&self) -> bool {
        *self.after() == Token::LParen
    }

    /// The first token of the name with its qualifiers.
    fn start(&self) -> usize {
        let mut start = self.at;
        while start >= 2 && self.tokens[start - 1].token == Token::Period {
            start -= 2;
        }
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(statement: &str, code: SqlState, message: &str, expected: &str) {
        let found = locate(statement, code, message)
            .map(|at| statement.chars().skip(at - 1).collect::<String>());
        assert_eq!(found.as_deref(), Some(expected), "{statement}");
    }

    #[test]
    fn a_name_is_found_where_it_is_meant() {
        let column = SqlState::UNDEFINED_COLUMN;
        let message = "column \"nope\" does not exist";
        check("SELECT a AS nope, s.nope FROM s", column, message, "s.nope FROM s");
        check("SELECT 'nope', é, NOPE FROM nope", column, message, "NOPE FROM nope");
        check("SELECT nope(1), \"nope\"", column, message, "\"nope\"");
        let relation = SqlState::UNDEFINED_RELATION;
        let message = "relation \"nope\" does not exist";
        check("SELECT nope.a\nFROM nope", relation, message, "nope");
        check("SELECT 1 FROM TUMBLE(nope, at, 1)", relation, message, "nope, at, 1)");
        let message = "relation \"weir.nope\" does not exist";
        check("SELECT * FROM weir.nope", relation, message, "weir.nope");
        let function = SqlState::UNDEFINED_FUNCTION;
        let message = "function \"nope\" does not exist";
        check("SELECT nope, nope(1)", function, message, "nope(1)");
        assert_eq!(locate("SELECT nope", SqlState::SYNTAX, "\"nope\""), None);
    }
}
