//! Compiles a row pattern to a program of a few instructions, and says what holds of its words.
//!
//! A pattern is a regular expression whose letters are variables; a word of it is the sequence of
//! variables to which the rows of a match are mapped. The program is Thompson's: a [`Instruction::Split`]
//! names the way that is preferred first, so that greedy and reluctant quantifiers and the order of
//! alternatives are in the program and nowhere else.
//!
//! An iteration that takes no row ends its loop: `(A?)*` is not an endless way of matching nothing.

/// Instructions that a program may have: quantifiers with counts repeat their operand.
pub const PROGRAM_MAX: usize = 4_096;

/// A row pattern over variables by number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// One row, mapped to this variable.
    Variable(usize),
    /// One behind the other.
    Sequence(Vec<Pattern>),
    /// One of them, earlier ones preferred.
    Choice(Vec<Pattern>),
    /// Several times.
    Repeat {
        /// What is repeated.
        inner: Box<Pattern>,
        /// At least so often.
        min: u32,
        /// At most so often; without bound where there is none.
        max: Option<u32>,
        /// Whether more iterations are preferred to fewer.
        greedy: bool,
    },
}

/// One instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instruction {
    /// Takes a row that fits the variable, and goes on behind.
    Row(usize),
    /// Goes on at the first place; what goes on at the second one is less preferred.
    Split(usize, usize),
    /// Goes on elsewhere.
    Jump(usize),
    /// Everything is matched.
    Done,
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Begins at 0.
    pub instructions: Vec<Instruction>,
}

impl Program {
    /// Compiles a pattern; `None` if the program would be too large.
    pub fn compile(pattern: &Pattern) -> Option<Program> {
        if pattern.size() >= PROGRAM_MAX as u64 {
            return None;
        }
        let mut program = Program { instructions: Vec::new() };
        program.add(pattern);
        program.instructions.push(Instruction::Done);
        Some(program)
    }

    fn add(&mut self, pattern: &Pattern) {
        match pattern {
            Pattern::Variable(variable) => self.instructions.push(Instruction::Row(*variable)),
            Pattern::Sequence(parts) => parts.iter().for_each(|part| self.add(part)),
            Pattern::Choice(parts) => self.choice(parts),
            Pattern::Repeat { inner, min, max, greedy } => {
                for _ in 0..*min {
                    self.add(inner);
                }
                match max {
                    None => self.unbounded(inner, *greedy),
                    Some(max) => self.optional(inner, max.saturating_sub(*min), *greedy),
                }
            }
        }
    }

    fn choice(&mut self, parts: &[Pattern]) {
        let mut ends = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let is_last = index + 1 == parts.len();
            let split = self.instructions.len();
            if !is_last {
                self.instructions.push(Instruction::Split(split + 1, 0));
            }
            self.add(part);
            if !is_last {
                ends.push(self.instructions.len());
                self.instructions.push(Instruction::Jump(0));
                self.instructions[split] = Instruction::Split(split + 1, self.instructions.len());
            }
        }
        let end = self.instructions.len();
        ends.into_iter().for_each(|jump| self.instructions[jump] = Instruction::Jump(end));
    }

    /// `x*` is `(x+)?`: so a first iteration that takes no row does not hide the way past the loop.
    fn unbounded(&mut self, inner: &Pattern, greedy: bool) {
        let skip = self.instructions.len();
        self.instructions.push(Instruction::Done);
        self.add(inner);
        let again = self.instructions.len();
        let end = again + 1;
        self.instructions.push(split(skip + 1, end, greedy));
        self.instructions[skip] = split(skip + 1, end, greedy);
    }

    fn optional(&mut self, inner: &Pattern, times: u32, greedy: bool) {
        let mut skips = Vec::new();
        for _ in 0..times {
            skips.push(self.instructions.len());
            self.instructions.push(Instruction::Done);
            self.add(inner);
        }
        let end = self.instructions.len();
        skips.into_iter().for_each(|at| self.instructions[at] = split(at + 1, end, greedy));
    }
}

fn split(inside: usize, past: usize, greedy: bool) -> Instruction {
    if greedy { Instruction::Split(inside, past) } else { Instruction::Split(past, inside) }
}

impl Pattern {
    /// Instructions of its program, without the last one.
    fn size(&self) -> u64 {
        match self {
            Pattern::Variable(_) => 1,
            Pattern::Sequence(parts) => {
                parts.iter().map(Pattern::size).fold(0, u64::saturating_add)
            }
            Pattern::Choice(parts) => {
                parts.iter().map(|part| part.size().saturating_add(2)).fold(0, u64::saturating_add)
            }
            Pattern::Repeat { inner, min, max, .. } => {
                let once = inner.size();
                let optional = match max {
                    None => once.saturating_add(2),
                    Some(max) => {
                        u64::from(max.saturating_sub(*min)).saturating_mul(once.saturating_add(1))
                    }
                };
                once.saturating_mul(u64::from(*min)).saturating_add(optional)
            }
        }
    }

    /// Rows of its shortest word.
    pub fn rows_min(&self) -> u64 {
        match self {
            Pattern::Variable(_) => 1,
            Pattern::Sequence(parts) => parts.iter().map(Pattern::rows_min).sum(),
            Pattern::Choice(parts) => parts.iter().map(Pattern::rows_min).min().unwrap_or(0),
            Pattern::Repeat { inner, min, .. } => inner.rows_min() * u64::from(*min),
        }
    }

    /// Rows of its longest word, if there is one.
    pub fn rows_max(&self) -> Option<u64> {
        match self {
            Pattern::Variable(_) => Some(1),
            Pattern::Sequence(parts) => parts.iter().map(Pattern::rows_max).sum(),
            Pattern::Choice(parts) => {
                let all: Option<Vec<u64>> = parts.iter().map(Pattern::rows_max).collect();
                Some(all?.into_iter().max().unwrap_or(0))
            }
            Pattern::Repeat { inner, max, .. } => match (inner.rows_max(), max) {
                (Some(0), _) => Some(0),
                (rows, max) => Some(rows? * u64::from((*max)?)),
            },
        }
    }

    /// Whether every word has a row of the variable.
    pub fn always_has(&self, variable: usize) -> bool {
        match self {
            Pattern::Variable(other) => *other == variable,
            Pattern::Sequence(parts) => parts.iter().any(|part| part.always_has(variable)),
            Pattern::Choice(parts) => parts.iter().all(|part| part.always_has(variable)),
            Pattern::Repeat { inner, min, .. } => *min > 0 && inner.always_has(variable),
        }
    }

    /// The least number of rows before a row of the variable; `None` if no word has one.
    pub fn rows_before(&self, variable: usize) -> Option<u64> {
        match self {
            Pattern::Variable(other) => (*other == variable).then_some(0),
            Pattern::Sequence(parts) => {
                let mut before = 0;
                let mut found = Vec::new();
                for part in parts {
                    found.extend(part.rows_before(variable).map(|rows| before + rows));
                    before += part.rows_min();
                }
                found.into_iter().min()
            }
            Pattern::Choice(parts) => {
                parts.iter().filter_map(|part| part.rows_before(variable)).min()
            }
            Pattern::Repeat { max: Some(0), .. } => None,
            Pattern::Repeat { inner, .. } => inner.rows_before(variable),
        }
    }

    /// Whether some word begins with another variable.
    pub fn may_begin_without(&self, variable: usize) -> bool {
        match self {
            Pattern::Variable(other) => *other != variable,
            Pattern::Sequence(parts) => {
                for part in parts {
                    if part.may_begin_without(variable) {
                        return true;
                    }
                    if part.rows_min() > 0 {
                        return false;
                    }
                }
                false
            }
            Pattern::Choice(parts) => parts.iter().any(|part| part.may_begin_without(variable)),
            Pattern::Repeat { max: Some(0), .. } => false,
            Pattern::Repeat { inner, .. } => inner.may_begin_without(variable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeat(inner: Pattern, min: u32, max: Option<u32>) -> Pattern {
        Pattern::Repeat { inner: Box::new(inner), min, max, greedy: true }
    }

    /// Shortest and longest word, rows before variable 1, whether 1 is always there, and whether a
    /// word may begin without 0.
    fn check(pattern: &Pattern) -> (u64, Option<u64>, Option<u64>, bool, bool) {
        let facts = (pattern.rows_min(), pattern.rows_max(), pattern.rows_before(1));
        (facts.0, facts.1, facts.2, pattern.always_has(1), pattern.may_begin_without(0))
    }

    #[test]
    fn facts_of_patterns() {
        use Pattern::{Choice, Sequence, Variable};
        let (a, b) = (Variable(0), Variable(1));
        let both = Sequence(vec![a.clone(), b.clone()]);
        assert_eq!(check(&both), (2, Some(2), Some(1), true, false));
        let many = Sequence(vec![repeat(a.clone(), 2, None), repeat(b.clone(), 0, Some(3))]);
        assert_eq!(check(&many), (2, None, Some(2), false, false));
        let optional = Sequence(vec![repeat(a.clone(), 0, Some(1)), b.clone()]);
        assert_eq!(check(&optional), (1, Some(2), Some(0), true, true));
        let either = Choice(vec![both, a.clone()]);
        assert_eq!(check(&either), (1, Some(2), Some(1), false, false));
        assert_eq!(check(&repeat(a, 0, Some(0))), (0, Some(0), None, false, false));
    }

    #[test]
    fn a_pattern_that_would_be_too_large_is_not_compiled() {
        let many = |inner, times| repeat(inner, times, Some(times));
        assert!(Program::compile(&many(Pattern::Variable(0), 4_000)).is_some());
        assert!(Program::compile(&many(many(Pattern::Variable(0), 100), 100)).is_none());
        let huge = many(many(many(Pattern::Variable(0), u32::MAX), u32::MAX), u32::MAX);
        assert!(Program::compile(&huge).is_none());
    }
}
