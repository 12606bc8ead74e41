//! Cuts a statement into tokens, and writes each in the one form that the parser and the printer
//! know: text as `'…'` however it was quoted (`E'…'` where sqlparser cannot), numbers without underscores, relations and columns
//! without `TABLE` and `DESCRIPTOR(…)`.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};

use super::dialect::WeirDialect;
use super::error::ParseError;

/// The tokens of a statement, without white space and comments.
pub(super) fn tokenize(text: &str) -> Result<Vec<TokenWithSpan>, ParseError> {
    let dialect = WeirDialect::lexical();
    let mut tokens = Tokenizer::new(&dialect, text).tokenize_with_location().map_err(|error| {
        let message = error.message.to_lowercase();
        let at = byte_of(text, error.location);
        ParseError::BadToken { what: message, position: position(text, at) }
    })?;
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    for token in &mut tokens {
        let at = token.span.start;
        canonical_literal(&mut token.token)
            .map_err(|error| error.at(position(text, byte_of(text, at))))?;
    }
    refuse_numbered_fields(text, &tokens)?;
    let tokens = with_aliases_behind_versions(with_types_closed(tokens));
    Ok(without_flink_words(with_variable_defined(with_within_defined(tokens))))
}

/// `x . 1` would be written back as `x.1`, which reads as `x` and `.1`; `1 . x` as `1.x`, which reads as `1.` and `x`.
fn refuse_numbered_fields(text: &str, tokens: &[TokenWithSpan]) -> Result<(), ParseError> {
    for pair in tokens.windows(2) {
        let (near, expected) = match (&pair[0].token, &pair[1].token) {
            (Token::Period, Token::Number(digits, _)) => {
                (digits.chars().take(40).collect(), "Expected a name.")
            }
            (Token::Number(..), Token::Period) => (".".to_owned(), "A number has no fields."),
            _ => continue,
        };
        return Err(ParseError::UnexpectedToken {
            near,
            detail: Some(expected.to_owned()),
            hint: None,
            position: position(text, byte_of(text, pair[1].span.start)),
        });
    }
    Ok(())
}

/// The byte at which a line and column lie; the end of the text for any place behind it.
pub(super) fn byte_of(text: &str, location: Location) -> usize {
    let mut start = 0;
    for _ in 1..location.line {
        match text[start..].find('\n') {
            Some(end) => start += end + 1,
            None => return text.len(),
        }
    }
    let column = usize::try_from(location.column.saturating_sub(1)).unwrap_or(usize::MAX);
    text[start..].char_indices().nth(column).map_or(text.len(), |(at, _)| start + at)
}

/// The number, from 1, of the character at a byte.
pub(super) fn position(text: &str, byte: usize) -> usize {
    text[..byte].chars().count() + 1
}

fn canonical_literal(token: &mut Token) -> Result<(), ParseError> {
    match token {
        Token::SingleQuotedString(text)
        | Token::EscapedStringLiteral(text)
        | Token::UnicodeStringLiteral(text)
        | Token::NationalStringLiteral(text) => *token = text_token(std::mem::take(text)),
        Token::DollarQuotedString(text) => *token = text_token(std::mem::take(&mut text.value)),
        Token::Word(Word { value, quote_style: Some(_), .. })
            if value.contains("\"\"") || value.contains("\\\"") =>
        {
            return Err(ParseError::NotSupported {
                what: "a quote behind a quote or backslash in a name is".to_owned(),
                hint: Some("Choose another name.".to_owned()),
                position: None,
            });
        }
        Token::Number(digits, _) if digits.contains('_') => digits.retain(|digit| digit != '_'),
        Token::HexStringLiteral(digits)
            if digits.len() % 2 != 0 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            return Err(ParseError::NotSupported {
                what: "a hexadecimal literal other than pairs of hexadecimal digits is".to_owned(),
                hint: Some("Write X'00FF'.".to_owned()),
                position: None,
            });
        }
        Token::SingleQuotedByteStringLiteral(_) | Token::DoubleQuotedByteStringLiteral(_) => {
            return Err(ParseError::NotSupported {
                what: "a bit string literal is".to_owned(),
                hint: Some("Write bytes as X'00FF'.".to_owned()),
                position: None,
            });
        }
        _ => {}
    }
    Ok(())
}

/// sqlparser writes a quote behind a quote or backslash as if it were escaped already, which
/// changes the text. `E'…'` it writes as it is.
fn text_token(text: String) -> Token {
    match text.contains("''") || text.contains("\\'") {
        true => Token::EscapedStringLiteral(text),
        false => Token::SingleQuotedString(text),
    }
}

/// The `>>` and `>>>` that close nested types, as so many `>`.
fn with_types_closed(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut split: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut open = 0usize;
    for token in tokens {
        let takes_types = split
            .last()
            .is_some_and(|last| is_word(&last.token, "STRUCT") || is_word(&last.token, "ARRAY"));
        let closing = match &token.token {
            Token::Gt => 1,
            Token::ShiftRight => 2,
            Token::CustomBinaryOperator(text) if text.bytes().all(|byte| byte == b'>') => {
                text.len()
            }
            _ => 0,
        };
        if token.token == Token::Lt && takes_types {
            open += 1;
        }
        if open == 0 || closing < 2 {
            split.push(token);
        } else {
            let mut span = token.span;
            for _ in 0..closing {
                span.end = Location { line: span.start.line, column: span.start.column + 1 };
                split.push(TokenWithSpan { token: Token::Gt, span });
                span.start = span.end;
            }
        }
        open = open.saturating_sub(closing);
    }
    split
}

/// Whether the token is this word, unquoted.
pub(super) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(Word { quote_style: None, value, .. })
        if value.eq_ignore_ascii_case(word))
}

/// `TABLE s` as first or named argument becomes `s`, and `DESCRIPTOR(at)` becomes `at`.
fn without_flink_words(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut kept: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let token = |at: usize| tokens.get(at).map_or(&Token::EOF, |token| &token.token);
    let mut at = 0;
    while at < tokens.len() {
        let begins_argument = kept.last().is_some_and(|last| match last.token {
            Token::RArrow | Token::Comma => true,
            Token::LParen => {
                let before = kept.len().checked_sub(2).map(|before| &kept[before].token);
                matches!(before, Some(Token::Word(word)) if word.keyword == Keyword::NoKeyword
                    || word.keyword == Keyword::SESSION)
            }
            _ => false,
        });
        if begins_argument && is_word(token(at), "TABLE") {
            let closes = matches!(token(at + 2), Token::Comma | Token::RParen | Token::Period);
            if matches!(token(at + 1), Token::Word(_)) && closes {
                at += 1;
            }
        } else if begins_argument
            && is_word(token(at), "DESCRIPTOR")
            && matches!(token(at + 1), Token::LParen)
            && matches!(token(at + 2), Token::Word(_))
            && matches!(token(at + 3), Token::RParen)
        {
            kept.push(tokens[at + 2].clone());
            at += 4;
            continue;
        }
        kept.push(tokens[at].clone());
        at += 1;
    }
    kept
}

/// `PATTERN (…) WITHIN x DEFINE …` becomes `PATTERN (…) DEFINE WITHIN AS x, …`: sqlparser reads the
/// latter, and both mean the same here.
fn with_within_defined(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut at = 2;
    while at < tokens.len() {
        if is_word(&tokens[at].token, "WITHIN")
            && tokens[at - 1].token == Token::RParen
            && opens_pattern(&tokens[..at])
        {
            let define = define_behind(&tokens, at);
            if let Some(define) = define {
                let end = tokens[define].span;
                tokens[define] = TokenWithSpan { token: Token::Comma, span: end };
            }
            let start = tokens[at].span;
            tokens.insert(at, TokenWithSpan { token: Token::make_keyword("DEFINE"), span: start });
            tokens.insert(at + 2, TokenWithSpan { token: Token::make_keyword("AS"), span: start });
        }
        at += 1;
    }
    tokens
}

/// `MATCH_RECOGNIZE (… PATTERN (a …))` becomes `MATCH_RECOGNIZE (… PATTERN (a …) DEFINE a AS TRUE)`: a
/// variable without a definition is satisfied by every row, but sqlparser asks for one.
fn with_variable_defined(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    enum Of {
        Match,
        Pattern,
        Other,
    }
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut open: Vec<(Of, usize)> = vec![];
    let mut variable = None;
    for token in tokens {
        let behind_pattern = variable.take();
        match &token.token {
            Token::LParen => {
                let before = out.last();
                let is = |word| before.is_some_and(|before| is_word(&before.token, word));
                let of = match open.last() {
                    _ if is("MATCH_RECOGNIZE") => Of::Match,
                    Some((Of::Match, _)) if is("PATTERN") => Of::Pattern,
                    _ => Of::Other,
                };
                open.push((of, out.len()));
            }
            Token::RParen => {
                if let Some(variable) = behind_pattern {
                    let [define, is] = ["DEFINE", "AS"].map(Token::make_keyword);
                    let words = [define, variable, is, Token::make_keyword("TRUE")];
                    let span = token.span;
                    out.extend(words.map(|token| TokenWithSpan { token, span }));
                }
                if let Some((Of::Pattern, start)) = open.pop() {
                    variable = first_variable(&out[start..]);
                }
            }
            _ => {}
        }
        out.push(token);
    }
    out
}

/// The first word of a pattern that is not PERMUTE.
fn first_variable(pattern: &[TokenWithSpan]) -> Option<Token> {
    let mut tokens = pattern.iter().map(|token| &token.token).peekable();
    while let Some(token) = tokens.next() {
        if matches!(token, Token::Word(_)) && tokens.peek() != Some(&&Token::LParen) {
            return Some(token.clone());
        }
    }
    None
}

/// Whether the parenthesis that closes at the end is that of PATTERN.
fn opens_pattern(tokens: &[TokenWithSpan]) -> bool {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().rev() {
        match token.token {
            Token::RParen => depth += 1,
            Token::LParen if depth == 1 => {
                return at.checked_sub(1).is_some_and(|at| is_word(&tokens[at].token, "PATTERN"));
            }
            Token::LParen => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// The DEFINE behind an expression.
fn define_behind(tokens: &[TokenWithSpan], from: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(from + 1) {
        match &token.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth = depth.checked_sub(1)?,
            token if depth == 0 && is_word(token, "DEFINE") => return Some(at),
            _ => {}
        }
    }
    None
}

/// Words that end the expression of FOR SYSTEM_TIME AS OF.
const BEHIND_VERSION: [&str; 25] = [
    "ON",
    "USING",
    "WHERE",
    "JOIN",
    "LEFT",
    "RIGHT",
    "FULL",
    "INNER",
    "CROSS",
    "NATURAL",
    "ASOF",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "FETCH",
    "UNION",
    "EXCEPT",
    "INTERSECT",
    "WINDOW",
    "QUALIFY",
    "EMIT",
    "ALLOWED",
    "AS",
];

/// `t AS a FOR SYSTEM_TIME AS OF x` becomes `t FOR SYSTEM_TIME AS OF x AS a`, and so does `t a FOR …`: sqlparser
/// writes the former and reads the latter.
fn with_aliases_behind_versions(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut at = 2;
    while at + 4 < tokens.len() {
        let is_version = ["FOR", "SYSTEM_TIME", "AS", "OF"]
            .iter()
            .enumerate()
            .all(|(offset, word)| is_word(&tokens[at + offset].token, word));
        if is_version && matches!(tokens[at - 1].token, Token::Word(_)) {
            let before = &tokens[at - 2];
            let opens = ["AS", "FROM", "JOIN", "LATERAL", "ONLY"];
            if matches!(before.token, Token::Word(_))
                && opens.iter().all(|word| !is_word(&before.token, word))
            {
                let span = before.span;
                tokens.insert(at - 1, TokenWithSpan { token: Token::make_keyword("AS"), span });
                at += 1;
            }
            if is_word(&tokens[at - 2].token, "AS") {
                let end = version_end(&tokens, at + 4);
                tokens[at - 2..end].rotate_left(2);
                at = end;
            }
        }
        at += 1;
    }
    tokens
}

fn version_end(tokens: &[TokenWithSpan], from: usize) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match &token.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket if depth > 0 => depth -= 1,
            Token::RParen | Token::RBracket => return at,
            Token::Comma if depth == 0 => return at,
            token if depth == 0 && BEHIND_VERSION.iter().any(|word| is_word(token, word)) => {
                return at;
            }
            _ => {}
        }
    }
    tokens.len()
}
