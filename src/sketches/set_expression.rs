//! Says which values are meant, by the sets that they are in: unions, intersections and differences.

/// Sets that an expression names, at most.
pub const SETS_MAX: usize = 8;

/// An expression over numbered sets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SetExpression {
    /// The values of a set.
    Set(usize),
    /// All but these.
    Not(Box<SetExpression>),
    /// Those in both.
    And(Box<SetExpression>, Box<SetExpression>),
    /// Those in either.
    Or(Box<SetExpression>, Box<SetExpression>),
}

impl SetExpression {
    /// The values of a set.
    pub fn set(number: usize) -> SetExpression {
        assert!(number < SETS_MAX, "an expression names few sets");
        SetExpression::Set(number)
    }

    /// All but these.
    #[expect(clippy::should_implement_trait, reason = "named as the other two are")]
    pub fn not(self) -> SetExpression {
        SetExpression::Not(Box::new(self))
    }

    /// Those in both.
    pub fn and(self, other: SetExpression) -> SetExpression {
        SetExpression::And(Box::new(self), Box::new(other))
    }

    /// Those in either.
    pub fn or(self, other: SetExpression) -> SetExpression {
        SetExpression::Or(Box::new(self), Box::new(other))
    }

    /// Whether a value is meant that is in these sets, a bit each.
    pub fn holds(&self, members: u64) -> bool {
        match self {
            SetExpression::Set(number) => members >> number & 1 == 1,
            SetExpression::Not(inner) => !inner.holds(members),
            SetExpression::And(left, right) => left.holds(members) && right.holds(members),
            SetExpression::Or(left, right) => left.holds(members) || right.holds(members),
        }
    }

    /// The sets, of so many, that hold all values that are meant.
    pub fn supersets(&self, sets: usize) -> impl Iterator<Item = usize> {
        self.related(sets, |is_member, holds| is_member || !holds)
    }

    /// The sets, of so many, all of whose values are meant.
    pub fn subsets(&self, sets: usize) -> impl Iterator<Item = usize> {
        self.related(sets, |is_member, holds| holds || !is_member)
    }

    /// The sets of which something is true for every value.
    fn related(
        &self,
        sets: usize,
        fits: impl Fn(bool, bool) -> bool + Copy,
    ) -> impl Iterator<Item = usize> {
        assert!(sets <= SETS_MAX, "an expression names few sets");
        let table: Vec<bool> = (0..1 << sets).map(|members| self.holds(members)).collect();
        (0..sets).filter(move |set| {
            // A value in no set is nobody's.
            (1..table.len()).all(|members| fits(members >> set & 1 == 1, table[members]))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &SetExpression, supersets: &[usize], subsets: &[usize]) {
        assert_eq!(expression.supersets(3).collect::<Vec<_>>(), supersets);
        assert_eq!(expression.subsets(3).collect::<Vec<_>>(), subsets);
    }

    #[test]
    fn it_is_known_which_sets_hold_the_answer_and_which_it_holds() {
        let [a, b, c] = [0, 1, 2].map(SetExpression::set);
        check(&a, &[0], &[0]);
        check(&a.clone().and(b.clone().not()), &[0], &[]);
        check(&a.clone().or(b.clone()), &[], &[0, 1]);
        check(&a.clone().and(b.clone()).and(c.clone()), &[0, 1, 2], &[]);
        check(&a.clone().or(b.clone().and(c.clone())), &[], &[0]);
        check(&a.and(b.or(c).not()).not(), &[], &[1, 2]);
    }
}
