//! Refuses statements that are too long or too deep, before anything recursive sees them.
//!
//! Parsing, printing and visiting a tree of sqlparser's grow the stack as they need; cloning,
//! comparing and dropping it do not, and take up to 40 kB of stack per subquery and 5 kB per
//! operator where nothing is optimised. So the depth of the tree is bounded here from the tokens
//! alone: an upper bound, in units of one operator.
//!
//! # Method
//! One pass with a stack of open brackets. Within a bracket the depth of an expression is the sum
//! of the operators that chain at each precedence (`a = 1 OR b = 2 OR c = 3` is two levels of OR
//! and one of `=`); commas and clauses begin anew. A closed bracket hands its depth to the one
//! around it.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::error::ParseError;

/// Bytes of one statement.
pub const STATEMENT_BYTES_MAX: usize = 1 << 20;
/// Tokens of one statement, white space and comments not counted.
pub const TOKENS_MAX: usize = 100_000;
/// Statements in one text.
pub const STATEMENTS_MAX: usize = 10_000;
/// Depth of the tree, in units of one operator.
pub const DEPTH_MAX: usize = 300;
/// What sqlparser may recurse; more than [`DEPTH_MAX`] allows, so a second line of defence.
pub(super) const RECURSION_MAX: usize = 1_000;

/// Depth of parentheses, brackets, function calls, joins and set operations.
const BRACKET: usize = 4;
const SUBQUERY: usize = 10;
/// Types nest by `<` or by `TABLE (`, and sqlparser reads them without growing the stack.
const NESTED_TYPE: usize = 16;
const CASE: usize = 2;

/// Refuses a statement whose tokens are too many or nest too deeply.
pub(super) fn check(tokens: &[TokenWithSpan]) -> Result<(), ParseError> {
    if tokens.len() > TOKENS_MAX {
        return Err(ParseError::TooManyTokens { tokens: tokens.len() });
    }
    if depth(tokens) > DEPTH_MAX {
        return Err(ParseError::TooDeep);
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Round,
    Angle,
    Case,
}

struct Level {
    bracket: Bracket,
    cost: usize,
    or: usize,
    and: usize,
    comparison: usize,
    arithmetic: usize,
    chain_max: usize,
    child_max: usize,
    /// Set operations, and the most joins of one SELECT.
    sets: usize,
    joins: usize,
    joins_max: usize,
    in_from: bool,
}

impl Level {
    fn new(bracket: Bracket, cost: usize) -> Level {
        Level {
            bracket,
            cost,
            or: 0,
            and: 0,
            comparison: 0,
            arithmetic: 0,
            chain_max: 0,
            child_max: 0,
            sets: 0,
            joins: 0,
            joins_max: 0,
            in_from: false,
        }
    }
    fn restart(&mut self) {
        (self.or, self.and, self.comparison, self.arithmetic) = (0, 0, 0, 0);
    }
    fn operator(&mut self, class: Class) {
        match class {
            Class::Or => {
                self.or += 1;
                (self.and, self.comparison, self.arithmetic) = (0, 0, 0);
            }
            Class::And => {
                self.and += 1;
                (self.comparison, self.arithmetic) = (0, 0);
            }
            Class::Comparison => {
                self.comparison += 1;
                self.arithmetic = 0;
            }
            Class::Arithmetic => self.arithmetic += 1,
        }
        let chain = self.or + self.and + self.comparison + self.arithmetic;
        self.chain_max = self.chain_max.max(chain);
    }
    fn join(&mut self) {
        self.joins += 1;
        self.joins_max = self.joins_max.max(self.joins);
    }
    fn depth(&self) -> usize {
        self.cost + self.chain_max + self.child_max + BRACKET * (self.sets + self.joins_max)
    }
}

#[derive(Clone, Copy)]
enum Class {
    Or,
    And,
    Comparison,
    Arithmetic,
}

struct Depth {
    levels: Vec<Level>,
}

/// An upper bound of the depth of the tree that these tokens can make.
fn depth(tokens: &[TokenWithSpan]) -> usize {
    let mut state = Depth { levels: vec![Level::new(Bracket::Round, 0)] };
    for (index, token) in tokens.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| &tokens[before].token);
        let after = tokens.get(index + 1).map(|after| &after.token);
        state.token(before, &token.token, after);
    }
    while state.levels.len() > 1 {
        state.close();
    }
    state.top().depth()
}

impl Depth {
    fn top(&mut self) -> &mut Level {
        self.levels.last_mut().expect("the outermost level is never closed")
    }

    fn close(&mut self) {
        if self.levels.len() > 1 {
            let depth = self.levels.pop().map_or(0, |level| level.depth());
            let top = self.top();
            top.child_max = top.child_max.max(depth);
        }
    }

    fn token(&mut self, before: Option<&Token>, token: &Token, after: Option<&Token>) {
        match token {
            Token::Word(word) if word.quote_style.is_none() => self.word(before, word),
            Token::LParen => {
                let cost = match (before.map(keyword), after.map(keyword)) {
                    (Some(Keyword::TABLE), _) => NESTED_TYPE,
                    (_, Some(Keyword::SELECT | Keyword::WITH | Keyword::VALUES)) => SUBQUERY,
                    _ => BRACKET,
                };
                self.levels.push(Level::new(Bracket::Round, cost));
            }
            Token::LBracket | Token::LBrace => {
                self.top().operator(Class::Arithmetic);
                self.levels.push(Level::new(Bracket::Round, BRACKET));
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                while self.levels.len() > 1 && self.top().bracket != Bracket::Round {
                    self.close();
                }
                self.close();
            }
            Token::Comma => {
                let top = self.top();
                top.restart();
                if top.in_from {
                    top.join();
                }
            }
            Token::Lt if before.is_some_and(takes_type_arguments) => {
                self.levels.push(Level::new(Bracket::Angle, NESTED_TYPE));
            }
            Token::Gt if self.top().bracket == Bracket::Angle => self.close(),
            Token::ShiftRight if self.top().bracket == Bracket::Angle => {
                self.close();
                if self.top().bracket == Bracket::Angle {
                    self.close();
                }
            }
            token => {
                if let Some(class) = operator_class(token) {
                    self.top().operator(class);
                }
            }
        }
    }

    fn word(&mut self, before: Option<&Token>, word: &Word) {
        // Behind an operator or a period even a keyword is a name, and must not begin anew.
        if before.is_some_and(|before| operator_class(before).is_some()) {
            match word.keyword {
                Keyword::CASE if before != Some(&Token::Period) => {
                    self.levels.push(Level::new(Bracket::Case, CASE));
                }
                Keyword::NOT => self.top().operator(Class::Comparison),
                _ => {}
            }
            return;
        }
        let before = before.map(keyword);
        let top = self.top();
        match word.keyword {
            Keyword::OR | Keyword::XOR => top.operator(Class::Or),
            Keyword::AND => top.operator(Class::And),
            Keyword::NOT | Keyword::IS | Keyword::IN | Keyword::LIKE | Keyword::ILIKE
            | Keyword::SIMILAR | Keyword::RLIKE | Keyword::REGEXP | Keyword::BETWEEN
            | Keyword::OVERLAPS | Keyword::NOTNULL | Keyword::MEMBER => {
                top.operator(Class::Comparison);
            }
            Keyword::COLLATE | Keyword::AT | Keyword::DIV | Keyword::OPERATOR
            | Keyword::INTERVAL => top.operator(Class::Arithmetic),
            Keyword::CASE => self.levels.push(Level::new(Bracket::Case, CASE)),
            Keyword::END if top.bracket == Bracket::Case => self.close(),
            Keyword::WHEN | Keyword::THEN | Keyword::ELSE if top.bracket == Bracket::Case => {
                top.restart();
            }
            Keyword::SELECT => {
                top.restart();
                (top.joins, top.in_from) = (0, false);
            }
            Keyword::FROM if before != Some(Keyword::DISTINCT) => {
                top.restart();
                top.in_from = true;
            }
            Keyword::JOIN => {
                top.restart();
                top.join();
            }
            Keyword::ON => top.restart(),
            Keyword::GROUP if before == Some(Keyword::WITHIN) => {}
            Keyword::WHERE | Keyword::GROUP | Keyword::HAVING | Keyword::ORDER => {
                top.restart();
                top.in_from = false;
            }
            Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS => {
                top.restart();
                top.sets += 1;
                top.in_from = false;
            }
            _ => {}
        }
    }
}

fn keyword(token: &Token) -> Keyword {
    match token {
        Token::Word(Word { quote_style: None, keyword, .. }) => *keyword,
        _ => Keyword::NoKeyword,
    }
}

fn takes_type_arguments(token: &Token) -> bool {
    matches!(keyword(token), Keyword::STRUCT | Keyword::ARRAY | Keyword::MAP)
}

/// `None`: no operator. Whatever is neither word nor literal nor punctuation counts as one.
fn operator_class(token: &Token) -> Option<Class> {
    match token {
        Token::Word(_) | Token::Number(..) | Token::SingleQuotedString(_) => None,
        Token::HexStringLiteral(_) | Token::Placeholder(_) | Token::EOF => None,
        Token::Comma | Token::SemiColon | Token::RArrow | Token::Whitespace(_) => None,
        Token::LParen | Token::RParen | Token::LBracket | Token::RBracket => None,
        Token::LBrace | Token::RBrace => None,
        Token::Eq | Token::DoubleEq | Token::Neq | Token::Lt | Token::Gt | Token::LtEq
        | Token::GtEq | Token::Spaceship => Some(Class::Comparison),
        _ => Some(Class::Arithmetic),
    }
}
