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
/// Deeper trees are parsed on a stack of their own: where nothing is optimised sqlparser takes
/// more stack between two looks at its rest than it keeps in reserve.
pub(super) const DEPTH_INLINE_MAX: usize = 32;
/// Enough for the deepest tree, at 120 kB for each bracket.
pub(super) const DEEP_STACK_BYTES: usize = 64 << 20;
/// What sqlparser may recurse; more than [`DEPTH_MAX`] allows, so a second line of defence.
pub(super) const RECURSION_MAX: usize = 1_000;

/// Depth of parentheses, brackets, function calls, joins and set operations.
const BRACKET: usize = 4;
const SUBQUERY: usize = 10;
/// Types nest by `<` or by `TABLE (`, and sqlparser reads them without growing the stack.
const NESTED_TYPE: usize = 16;
const CASE: usize = 2;
/// `FROM ((`: sqlparser reads it as a subquery, then as a join. Nested, that doubles each time.
const TWICE_READ: usize = 40;

/// Refuses a statement whose tokens are too many or nest too deeply.
///
/// Says how deep the tree can be.
pub(super) fn check(tokens: &[TokenWithSpan]) -> Result<usize, ParseError> {
    if tokens.len() > TOKENS_MAX {
        return Err(ParseError::TooManyTokens { tokens: tokens.len() });
    }
    match depth(tokens) {
        depth if depth > DEPTH_MAX => Err(ParseError::TooDeep),
        depth => Ok(depth),
    }
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

/// What the last token makes of the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A bracket or AS: a query may begin.
    Start,
    /// SELECT, a comma or a period: a name or `*` follows, whatever word it is.
    Item,
    /// An operator or the begin of a clause: a name follows, whatever word it is.
    Operator,
    /// The same behind a prefix operator.
    Prefix,
    /// An operand is complete: an operator or the next clause follows.
    Operand,
}

struct Depth {
    levels: Vec<Level>,
    role: Role,
}

/// An upper bound of the depth of the tree that these tokens can make.
fn depth(tokens: &[TokenWithSpan]) -> usize {
    let mut state = Depth { levels: vec![Level::new(Bracket::Round, 0)], role: Role::Start };
    for (index, token) in tokens.iter().enumerate() {
        let before = index.checked_sub(1).map_or(&Token::EOF, |before| &tokens[before].token);
        let after = tokens.get(index + 1).map_or(&Token::EOF, |after| &after.token);
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

    fn open(&mut self, bracket: Bracket, cost: usize, role: Role) {
        self.levels.push(Level::new(bracket, cost));
        self.role = role;
    }

    fn close(&mut self) {
        if self.levels.len() > 1 {
            let depth = self.levels.pop().map_or(0, |level| level.depth());
            let top = self.top();
            top.child_max = top.child_max.max(depth);
        }
        self.role = Role::Operand;
    }

    fn operator(&mut self, class: Class) {
        // `- - 1` is written back as `-(-1)`.
        if self.role == Role::Prefix {
            self.top().arithmetic += BRACKET;
        }
        self.top().operator(class);
        self.role = match self.role {
            Role::Operand => Role::Operator,
            _ => Role::Prefix,
        };
    }

    fn token(&mut self, before: &Token, token: &Token, after: &Token) {
        match token {
            Token::Word(word) if word.quote_style.is_none() => self.word(before, word),
            Token::LParen => {
                let in_from = matches!(keyword(before), Keyword::FROM | Keyword::JOIN)
                    || (*before == Token::Comma && self.top().in_from);
                let cost = match (keyword(before), keyword(after)) {
                    _ if in_from && *after == Token::LParen => TWICE_READ,
                    (Keyword::TABLE, _) => NESTED_TYPE,
                    (_, Keyword::SELECT | Keyword::WITH | Keyword::VALUES) => SUBQUERY,
                    _ => BRACKET,
                };
                self.open(Bracket::Round, cost, Role::Start);
            }
            Token::LBracket | Token::LBrace => {
                self.top().operator(Class::Arithmetic);
                self.open(Bracket::Round, BRACKET, Role::Start);
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
                self.role = Role::Item;
            }
            Token::RArrow => self.role = Role::Item,
            Token::Lt if takes_type_arguments(before) => {
                self.open(Bracket::Angle, NESTED_TYPE, Role::Start);
            }
            Token::Gt if self.top().bracket == Bracket::Angle => self.close(),
            // The `*` of `SELECT *`, `t.*` and `count(*)`.
            Token::Mul if matches!(self.role, Role::Start | Role::Item) => {
                self.role = Role::Operand;
            }
            Token::Period => {
                self.operator(Class::Arithmetic);
                self.role = Role::Item;
            }
            token => match operator_class(token) {
                Some(class) => self.operator(class),
                None => self.role = Role::Operand,
            },
        }
    }

    fn word(&mut self, before: &Token, word: &Word) {
        match (self.role, word.keyword) {
            (_, Keyword::CASE) if before != &Token::Period => {
                self.open(Bracket::Case, CASE, Role::Operand);
            }
            (_, Keyword::NOT) if before != &Token::Period => {
                self.operator(Class::Comparison);
                self.role = Role::Operator;
            }
            (Role::Start, Keyword::SELECT) | (Role::Operand, _) => self.clause(before, word),
            (Role::Item, Keyword::DISTINCT | Keyword::ALL) => {}
            // Here even a keyword is a name: it must not let the count begin anew.
            _ => self.role = Role::Operand,
        }
    }

    /// A word where an operand is complete.
    fn clause(&mut self, before: &Token, word: &Word) {
        let top = self.top();
        let mut role = Role::Operator;
        match word.keyword {
            Keyword::OR | Keyword::XOR => top.operator(Class::Or),
            Keyword::AND => top.operator(Class::And),
            keyword if COMPARISONS.contains(&keyword) => top.operator(Class::Comparison),
            Keyword::COLLATE | Keyword::AT | Keyword::DIV | Keyword::OPERATOR => {
                top.operator(Class::Arithmetic);
            }
            Keyword::END if top.bracket == Bracket::Case => return self.close(),
            Keyword::WHEN | Keyword::THEN | Keyword::ELSE if top.bracket == Bracket::Case => {
                top.restart();
            }
            Keyword::SELECT => {
                top.restart();
                (top.joins, top.in_from) = (0, false);
                role = Role::Item;
            }
            // IS DISTINCT FROM is an operator, WITHIN GROUP belongs to its function.
            Keyword::FROM if keyword(before) == Keyword::DISTINCT => {}
            Keyword::GROUP if keyword(before) == Keyword::WITHIN => role = Role::Operand,
            Keyword::FROM => {
                top.restart();
                top.in_from = true;
            }
            Keyword::JOIN => {
                top.restart();
                top.join();
            }
            Keyword::ON => top.restart(),
            Keyword::WHERE | Keyword::GROUP | Keyword::HAVING | Keyword::ORDER => {
                top.restart();
                top.in_from = false;
            }
            Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS => {
                top.restart();
                top.sets += 1;
                top.in_from = false;
                role = Role::Operand;
            }
            Keyword::AS => role = Role::Start,
            _ => role = Role::Operand,
        }
        self.role = role;
    }
}

/// Words that compare what is left of them, and chain.
const COMPARISONS: [Keyword; 11] = [
    Keyword::IS,
    Keyword::IN,
    Keyword::LIKE,
    Keyword::ILIKE,
    Keyword::SIMILAR,
    Keyword::RLIKE,
    Keyword::REGEXP,
    Keyword::BETWEEN,
    Keyword::OVERLAPS,
    Keyword::MEMBER,
    Keyword::NOTNULL,
];

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
        Token::EscapedStringLiteral(_) | Token::HexStringLiteral(_) => None,
        Token::Placeholder(mark) if mark == "?" => Some(Class::Arithmetic),
        Token::Placeholder(_) | Token::EOF => None,
        Token::Comma | Token::SemiColon | Token::RArrow | Token::Whitespace(_) => None,
        Token::LParen | Token::RParen | Token::LBracket | Token::RBracket => None,
        Token::LBrace | Token::RBrace => None,
        Token::Eq
        | Token::DoubleEq
        | Token::Neq
        | Token::Lt
        | Token::Gt
        | Token::LtEq
        | Token::GtEq
        | Token::Spaceship => Some(Class::Comparison),
        _ => Some(Class::Arithmetic),
    }
}
