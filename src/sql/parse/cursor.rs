//! Walks over the tokens of one statement, and says where and what went wrong.

use datafusion::sql::sqlparser::ast::{Expr, Query, SetExpr};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Word};

use super::super::canonical::canonicalize;
use super::super::dialect::WeirDialect;
use super::super::error::ParseError;
use super::super::limits::RECURSION_MAX;
use super::super::statement::{OptionItem, OptionValue};
use super::super::tokens::{byte_of, is_word, position};
use super::{fold, shortened};

const NEAR_CHARACTERS: usize = 60;
/// Names go into file names and messages.
const NAME_BYTES_MAX: usize = 128;

/// The place in a statement.
pub(super) struct Cursor<'a> {
    pub(super) parser: Parser<'a>,
    dialect: &'a WeirDialect,
    text: &'a str,
    spans: Vec<Span>,
}

/// Lends a cursor over the tokens of a statement.
pub(super) fn with_cursor<T>(
    text: &str,
    mut tokens: Vec<TokenWithSpan>,
    parse: impl FnOnce(&mut Cursor) -> Result<T, ParseError>,
) -> Result<T, ParseError> {
    name_left_asof(&mut tokens);
    let versions = tokens.iter().any(|token| is_word(&token.token, "SYSTEM_TIME"));
    let dialect = WeirDialect::new(tokens.len(), versions);
    let spans = tokens.iter().map(|token| token.span).collect();
    let parser = Parser::new(&dialect)
        .with_recursion_limit(RECURSION_MAX)
        .with_tokens_with_locations(tokens);
    parse(&mut Cursor { parser, dialect: &dialect, text, spans })
}

/// `ASOF LEFT JOIN` as the grammar below can hold it: it knows ASOF JOIN only, and of every join
/// whether it is GLOBAL, which nothing else here is.
fn name_left_asof(tokens: &mut [TokenWithSpan]) {
    let words: Vec<usize> =
        (0..tokens.len()).filter(|&at| !matches!(tokens[at].token, Token::Whitespace(_))).collect();
    for three in words.windows(3) {
        let wanted = ["ASOF", "LEFT", "JOIN"];
        if three.iter().zip(wanted).all(|(&at, word)| is_word(&tokens[at].token, word)) {
            tokens[three[0]].token = Token::make_keyword("GLOBAL");
            tokens[three[1]].token = Token::make_keyword("ASOF");
        }
    }
}

impl Cursor<'_> {
    /// The n-th token from here, upper case, if it is a word without quotes.
    pub(super) fn word(&self, n: usize) -> Option<String> {
        match &self.parser.peek_nth_token_ref(n).token {
            Token::Word(Word { quote_style: None, value, .. }) => Some(value.to_ascii_uppercase()),
            _ => None,
        }
    }

    pub(super) fn is_word(&self, n: usize, word: &str) -> bool {
        is_word(&self.parser.peek_nth_token_ref(n).token, word)
    }

    /// Whether the n-th token from here is a word, quoted or not: it may be a name.
    pub(super) fn is_name(&self, n: usize) -> bool {
        matches!(self.parser.peek_nth_token_ref(n).token, Token::Word(_))
    }

    pub(super) fn is_last(&self, n: usize) -> bool {
        matches!(self.parser.peek_nth_token_ref(n).token, Token::EOF)
    }

    pub(super) fn is_open_parenthesis(&self) -> bool {
        self.parser.peek_token_ref().token == Token::LParen
    }

    /// Goes over these words if all of them stand here.
    pub(super) fn accept(&mut self, words: &[&str]) -> bool {
        let all = words.iter().enumerate().all(|(n, word)| self.is_word(n, word));
        if all {
            words.iter().for_each(|_| self.parser.advance_token());
        }
        all
    }

    pub(super) fn expect(&mut self, words: &[&str]) -> Result<(), ParseError> {
        for word in words {
            if !self.accept(&[word]) {
                return Err(self.unexpected(word));
            }
        }
        Ok(())
    }

    pub(super) fn accept_token(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    pub(super) fn expect_token(&mut self, token: &Token) -> Result<(), ParseError> {
        if self.accept_token(token) {
            return Ok(());
        }
        Err(self.unexpected(&format!("\"{token}\"")))
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), ParseError> {
        if self.is_last(0) {
            return Ok(());
        }
        let error = self.unexpected("the end of the statement");
        let hints_at_emit = ["EMIT", "ALLOWED", "CHANGES", "EVERY", "CLOSE", "LATE"];
        if hints_at_emit.iter().any(|word| self.is_word(0, word)) {
            return Err(error.with_hint(
                "EMIT ON CLOSE, EMIT CHANGES, EMIT EVERY … and ALLOWED LATENESS … stand at the \
                 end of CREATE CONTINUOUS QUERY.",
            ));
        }
        Err(error)
    }

    /// The character position of the next token. Counts through the text: for errors only.
    pub(super) fn position(&self) -> usize {
        self.position_at(self.location())
    }

    /// Where the next token stands.
    pub(super) fn location(&self) -> Location {
        self.parser.peek_token_ref().span.start
    }

    /// The character position of a location.
    pub(super) fn position_at(&self, location: Location) -> usize {
        self.place(location).1
    }

    /// The next token is not what the grammar takes.
    pub(super) fn unexpected(&self, expected: &str) -> ParseError {
        let detail = Some(format!("Expected {expected}."));
        let token = self.parser.peek_token_ref();
        if token.token == Token::EOF {
            return self.unexpected_end(detail);
        }
        self.unexpected_at(token.span.start, detail)
    }

    /// The name of an object: an identifier in lower case unless quoted, without a period.
    pub(super) fn name(&mut self) -> Result<String, ParseError> {
        let at = self.location();
        let name = self.column_name()?;
        if name.contains('.') {
            let reason = "A name holds no period.";
            let name = shortened(&name, NEAR_CHARACTERS);
            return Err(ParseError::BadName { name, reason, position: self.position_at(at) });
        }
        Ok(name)
    }

    /// The name of a column. It may hold a period, because keys of JSON do.
    pub(super) fn column_name(&mut self) -> Result<String, ParseError> {
        let at = self.location();
        if !self.is_name(0) {
            return Err(self.unexpected("a name"));
        }
        let ident = self.parser.parse_identifier();
        let name = fold(&self.lift(ident)?);
        let reason = if name.is_empty() {
            "A name has at least one character."
        } else if name.len() > NAME_BYTES_MAX {
            "A name has at most 128 bytes."
        } else if name.chars().any(char::is_control) {
            "A name holds no control characters."
        } else {
            return self.without_schema(name, at);
        };
        let position = self.position_at(at);
        Err(ParseError::BadName { name: shortened(&name, NEAR_CHARACTERS), reason, position })
    }

    fn without_schema(&self, name: String, at: Location) -> Result<String, ParseError> {
        if self.parser.peek_token_ref().token != Token::Period {
            return Ok(name);
        }
        Err(ParseError::NotSupported {
            what: "a name with a schema is".to_owned(),
            hint: Some("Write the name alone; system relations are read with SELECT.".to_owned()),
            position: Some(self.position_at(at)),
        })
    }

    /// `(column, …)`.
    pub(super) fn names(&mut self) -> Result<Vec<String>, ParseError> {
        self.expect_token(&Token::LParen)?;
        let mut names = vec![self.column_name()?];
        while self.accept_token(&Token::Comma) {
            names.push(self.column_name()?);
        }
        self.expect_token(&Token::RParen)?;
        Ok(names)
    }

    pub(super) fn expression(&mut self) -> Result<Expr, ParseError> {
        let expr = self.parser.parse_expr();
        let mut expr = self.lift(expr)?;
        canonicalize(&mut expr);
        Ok(expr)
    }

    /// SELECT, VALUES, WITH …, which reads only.
    pub(super) fn query(&mut self) -> Result<Box<Query>, ParseError> {
        let at = self.position();
        let query = self.parser.parse_query();
        let mut query = self.lift(query)?;
        if writes(&query.body) {
            return Err(ParseError::NotSupported {
                what: "a query that writes is".to_owned(),
                hint: Some("Write INSERT INTO name SELECT ….".to_owned()),
                position: Some(at),
            });
        }
        canonicalize(&mut *query);
        Ok(query)
    }

    pub(super) fn unsigned(&mut self, what: &str) -> Result<u64, ParseError> {
        let at = self.position();
        let digits = match &self.parser.peek_token_ref().token {
            Token::Number(digits, _) => digits.clone(),
            _ => return Err(self.unexpected(what)),
        };
        self.parser.advance_token();
        digits.parse().map_err(|_| ParseError::OutOfRange {
            what: format!(
                "{what} must be a whole number below 2^64, not {}",
                shortened(&digits, NEAR_CHARACTERS)
            ),
            position: Some(at),
        })
    }

    /// WITH (…), if it stands here.
    pub(super) fn with_options(&mut self) -> Result<Vec<OptionItem>, ParseError> {
        if !self.accept(&["WITH"]) {
            return Ok(vec![]);
        }
        self.options(|cursor| cursor.accept_token(&Token::Eq))
    }

    /// `(name value, …)`; the caller says whether a value follows a name.
    pub(super) fn options(
        &mut self,
        has_value: impl Fn(&mut Self) -> bool,
    ) -> Result<Vec<OptionItem>, ParseError> {
        let mut options: Vec<OptionItem> = Vec::new();
        self.expect_token(&Token::LParen)?;
        loop {
            let position = self.position();
            let name = self.name()?;
            if options.iter().any(|option| option.name == name) {
                return Err(ParseError::DuplicateOption { name, position });
            }
            let value = match has_value(self) {
                true => self.option_value()?,
                false => OptionValue::Boolean(true),
            };
            options.push(OptionItem { name, value });
            if !self.accept_token(&Token::Comma) {
                break;
            }
        }
        self.expect_token(&Token::RParen)?;
        Ok(options)
    }

    fn option_value(&mut self) -> Result<OptionValue, ParseError> {
        let negative = self.accept_token(&Token::Minus);
        let value = match &self.parser.peek_token_ref().token {
            Token::Number(digits, _) if negative => OptionValue::Number(format!("-{digits}")),
            Token::Number(digits, _) => OptionValue::Number(digits.clone()),
            _ if negative => return Err(self.unexpected("a number")),
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => {
                OptionValue::Text(text.clone())
            }
            Token::Word(Word { value, quote_style: None, .. }) => {
                match value.to_ascii_lowercase().as_str() {
                    "true" => OptionValue::Boolean(true),
                    "false" => OptionValue::Boolean(false),
                    word => OptionValue::Text(word.to_owned()),
                }
            }
            _ => return Err(self.unexpected("a text in quotes, a number, true or false")),
        };
        self.parser.advance_token();
        Ok(value)
    }

    /// Turns an error of sqlparser into ours.
    pub(super) fn lift<T>(&self, result: Result<T, ParserError>) -> Result<T, ParseError> {
        result.map_err(|error| match error {
            ParserError::RecursionLimitExceeded if self.dialect.is_exhausted() => {
                ParseError::TooComplex
            }
            ParserError::RecursionLimitExceeded => ParseError::TooDeep,
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
                self.located(&message)
            }
        })
    }

    /// `Expected: x, found: y at Line: 1, Column: 2`; no place means the end.
    fn located(&self, message: &str) -> ParseError {
        let (message, location) = match message.rsplit_once(" at Line: ") {
            Some((message, place)) => (message, read_location(place)),
            None => (message, None),
        };
        let detail = match message.strip_prefix("Expected: ") {
            Some(rest) => rest.split(", found: ").next().unwrap_or(rest).to_owned(),
            None => String::new(),
        };
        let detail = match detail.as_str() {
            "" => format!("{}.", shortened(message, 200)),
            expected => format!("Expected {expected}."),
        };
        match location {
            Some(location) => self.unexpected_at(location, Some(detail)),
            None if message.ends_with("found: EOF") => self.unexpected_end(Some(detail)),
            None => match self.parser.peek_token_ref() {
                TokenWithSpan { token: Token::EOF, .. } => self.unexpected_end(Some(detail)),
                token => self.unexpected_at(token.span.start, Some(detail)),
            },
        }
    }

    fn unexpected_end(&self, detail: Option<String>) -> ParseError {
        let end = self.spans.last().map_or(0, |span| byte_of(self.text, span.end));
        ParseError::UnexpectedEnd { detail, hint: None, position: position(self.text, end) }
    }

    fn unexpected_at(&self, location: Location, detail: Option<String>) -> ParseError {
        let (start, position) = self.place(location);
        let end = self.spans.iter().find(|span| span.start == location);
        let end = end.map_or(start, |span| byte_of(self.text, span.end));
        let near = shortened(&self.text[start..end.max(start)], NEAR_CHARACTERS);
        ParseError::UnexpectedToken { near, detail, hint: None, position }
    }

    fn place(&self, location: Location) -> (usize, usize) {
        let byte = byte_of(self.text, location);
        (byte, position(self.text, byte))
    }
}

fn read_location(place: &str) -> Option<Location> {
    let (line, column) = place.split_once(", Column: ")?;
    Some(Location { line: line.parse().ok()?, column: column.parse().ok()? })
}

fn writes(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(select) => select.into.is_some(),
        SetExpr::Query(_) | SetExpr::SetOperation { .. } | SetExpr::Values(_) => false,
        SetExpr::Table(_) => false,
        _ => true,
    }
}
