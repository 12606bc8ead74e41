//! Tells sqlparser how Weir's SQL differs from PostgreSQL's.
//!
//! Lexical rules and precedences are PostgreSQL's own, but for operators of its extensions that hold a sign. Three things are ours: the trailing words
//! EMIT and ALLOWED are no bare aliases, a question mark is an operator, and the work of the parser is bounded. sqlparser tries
//! several readings of a parenthesis or a word like `ceil(`; nested, the tries double at each level
//! of a text that fits none of them. So every reading of an operand takes fuel.

use std::any::TypeId;
use std::cell::Cell;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr};
use datafusion::sql::sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, Word};

/// PostgreSQL's rules, to delegate to.
const POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};

/// Fuel for each token: an operand is read once or twice in a text that makes sense.
const FUEL_PER_TOKEN: usize = 8;
const FUEL_MIN: usize = 1_000;

/// The dialect of one statement.
#[derive(Debug)]
pub(super) struct WeirDialect {
    fuel: Cell<usize>,
    /// FOR SYSTEM_TIME occurs. Elsewhere the switch would take `at` behind a table for a version.
    versions: bool,
}

impl WeirDialect {
    /// For the lexer, which takes no fuel.
    pub(super) fn lexical() -> WeirDialect {
        WeirDialect { fuel: Cell::new(0), versions: false }
    }

    /// For a statement of so many tokens.
    pub(super) fn new(tokens: usize, versions: bool) -> WeirDialect {
        WeirDialect { fuel: Cell::new(tokens * FUEL_PER_TOKEN + FUEL_MIN), versions }
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.fuel.get() == 0
    }
}

/// Whether the parser stands behind one of our trailing words, unquoted.
fn is_trailing_word(parser: &Parser) -> bool {
    match &parser.get_current_token().token {
        Token::Word(Word { value, quote_style: None, .. }) => {
            value.eq_ignore_ascii_case("EMIT") || value.eq_ignore_ascii_case("ALLOWED")
        }
        _ => false,
    }
}

/// Words with a syntax of their own where `(` follows, and plain names elsewhere.
fn is_special_function(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::CAST
            | Keyword::TRY_CAST
            | Keyword::SAFE_CAST
            | Keyword::CONVERT
            | Keyword::EXTRACT
            | Keyword::CEIL
            | Keyword::FLOOR
            | Keyword::POSITION
            | Keyword::SUBSTR
            | Keyword::SUBSTRING
            | Keyword::OVERLAY
            | Keyword::TRIM
            | Keyword::EXISTS
            | Keyword::STRUCT
            | Keyword::ARRAY
    )
}

/// Whether the word is a plain name here, though sqlparser would read more into it.
fn is_plain_name(keyword: Keyword, next: &Token) -> bool {
    if keyword == Keyword::INTERVAL {
        // Reading INTERVAL before anything but a literal recurses without a bound.
        return !matches!(
            next,
            Token::SingleQuotedString(_) | Token::EscapedStringLiteral(_) | Token::Number(..)
        );
    }
    is_special_function(keyword) && !matches!(next, Token::LParen | Token::LBracket | Token::Lt)
}

/// Words that PostgreSQL reserves and that begin what comes behind an expression: `SELECT 1 + FROM x`
/// lacks an operand, it does not add a column of that name.
fn ends_an_operand(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::FROM
            | Keyword::WHERE
            | Keyword::GROUP
            | Keyword::HAVING
            | Keyword::ORDER
            | Keyword::LIMIT
            | Keyword::UNION
            | Keyword::EXCEPT
            | Keyword::INTERSECT
            | Keyword::AS
            | Keyword::ON
            | Keyword::USING
            | Keyword::WHEN
            | Keyword::THEN
            | Keyword::ELSE
            | Keyword::INTO
            | Keyword::AND
            | Keyword::OR
            | Keyword::IN
            | Keyword::FETCH
    )
}

/// Whether the token begins one of JSON's operators `?`, `?|` and `?&`, where an operator may stand.
fn is_question(token: &Token) -> bool {
    matches!(token, Token::Placeholder(mark) if mark == "?")
}

/// Takes it, with the character that stands right behind it.
fn question_operator(parser: &mut Parser) -> BinaryOperator {
    let end = parser.next_token().span.end;
    let next = parser.peek_token_ref();
    let op = match next.token {
        Token::Pipe if next.span.start == end => BinaryOperator::QuestionPipe,
        Token::Ampersand if next.span.start == end => BinaryOperator::QuestionAnd,
        _ => return BinaryOperator::Question,
    };
    parser.advance_token();
    op
}

impl Dialect for WeirDialect {
    fn dialect(&self) -> TypeId {
        // Keeps sqlparser's own branches for PostgreSQL, such as `^` for powers.
        TypeId::of::<PostgreSqlDialect>()
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        match self.fuel.get().checked_sub(1) {
            Some(rest) if rest > 0 => self.fuel.set(rest),
            _ => {
                self.fuel.set(0);
                return Some(Err(ParserError::RecursionLimitExceeded));
            }
        }
        match &parser.peek_token_ref().token {
            Token::Word(Word { quote_style: None, keyword, .. }) if ends_an_operand(*keyword) => {
                Some(parser.expected_ref("an expression", parser.peek_token_ref()))
            }
            Token::Word(Word { quote_style: None, keyword, .. })
                if is_plain_name(*keyword, &parser.peek_nth_token_ref(1).token) =>
            {
                Some(parser.parse_identifier().map(Expr::Identifier))
            }
            _ => None,
        }
    }

    /// The parser takes all that follows for the right side of `a IS DISTINCT FROM b AND c`, and a question mark for
    /// a parameter.
    fn parse_infix(
        &self,
        parser: &mut Parser,
        left: &Expr,
        precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        if is_question(&parser.peek_token_ref().token) {
            let (op, left) = (question_operator(parser), Box::new(left.clone()));
            let right = parser.parse_subexpr(precedence).map(Box::new);
            return Some(right.map(|right| Expr::BinaryOp { left, op, right }));
        }
        let distinct = [Keyword::IS, Keyword::DISTINCT, Keyword::FROM];
        let same = [Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM];
        let of = match (parser.parse_keywords(&distinct), parser.parse_keywords(&same)) {
            (true, _) => Expr::IsDistinctFrom,
            (_, true) => Expr::IsNotDistinctFrom,
            _ => return None,
        };
        let left = Box::new(left.clone());
        Some(parser.parse_subexpr(precedence).map(|right| of(left, Box::new(right))))
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        is_special_function(keyword)
            || matches!(keyword, Keyword::CASE | Keyword::NOT | Keyword::INTERVAL)
    }

    fn is_select_item_alias(&self, explicit: bool, keyword: &Keyword, parser: &mut Parser) -> bool {
        // PostgreSQL reserves ON, and INSERT INTO t SELECT 1 ON CONFLICT … needs that it is.
        let is_reserved = *keyword == Keyword::ON || is_trailing_word(parser);
        explicit || (!is_reserved && self.is_column_alias(keyword, parser))
    }

    fn is_table_factor_alias(
        &self,
        explicit: bool,
        keyword: &Keyword,
        parser: &mut Parser,
    ) -> bool {
        explicit || (!is_trailing_word(parser) && self.is_table_alias(keyword, parser))
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        POSTGRES.identifier_quote_style(identifier)
    }
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_delimited_identifier_start(ch)
    }
    fn is_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_identifier_start(ch)
    }
    fn is_identifier_part(&self, ch: char) -> bool {
        POSTGRES.is_identifier_part(ch)
    }
    /// A sign ends an operator: `v>-1` is `v > -1`. Those with a sign that we know, such as `->`, the lexer knows, too.
    fn is_custom_operator_part(&self, ch: char) -> bool {
        !matches!(ch, '+' | '-') && POSTGRES.is_custom_operator_part(ch)
    }
    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        match is_question(&parser.peek_token_ref().token) {
            true => Some(Ok(POSTGRES.prec_value(Precedence::PgOther))),
            false => POSTGRES.get_next_precedence(parser),
        }
    }
    fn prec_value(&self, prec: Precedence) -> u8 {
        POSTGRES.prec_value(prec)
    }
    fn supports_unicode_string_literal(&self) -> bool {
        true
    }
    fn supports_string_escape_constant(&self) -> bool {
        true
    }
    fn supports_numeric_literal_underscores(&self) -> bool {
        true
    }
    fn supports_nested_comments(&self) -> bool {
        true
    }
    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }
    fn supports_group_by_expr(&self) -> bool {
        true
    }
    fn supports_match_recognize(&self) -> bool {
        true
    }
    fn supports_table_versioning(&self) -> bool {
        self.versions
    }
    fn supports_struct_literal(&self) -> bool {
        true
    }
    fn supports_array_typedef_with_brackets(&self) -> bool {
        true
    }
    fn supports_interval_options(&self) -> bool {
        true
    }
    fn supports_bitwise_shift_operators(&self) -> bool {
        true
    }
    fn allow_extract_custom(&self) -> bool {
        true
    }
    fn allow_extract_single_quotes(&self) -> bool {
        true
    }
    fn supports_comma_separated_trim(&self) -> bool {
        true
    }
    fn supports_select_wildcard_exclude(&self) -> bool {
        true
    }
    /// Arguments are named by identifiers only: with expressions as names each argument would be
    /// read twice, and nested calls 2^depth times.
    fn supports_named_fn_args_with_expr_name(&self) -> bool {
        false
    }
}
