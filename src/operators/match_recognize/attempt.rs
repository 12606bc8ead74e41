//! Looks for the preferred match that begins at one row, taking the rows behind it one by one.
//!
//! Ways to match are threads in the order of preference, as in a Pike machine. A row moves each thread
//! to where it goes on, or ends it. A thread that has matched everything is the answer unless one before
//! it comes to more: so the threads behind it end. Of two threads at one instruction that remember the
//! same, the future is the same, so the less preferred one ends. What is found is therefore what a
//! backtracking search would find first, in one pass.
//!
//! What a thread remembers ([`Conditions::Memory`]) is what conditions on later rows look back at:
//! nothing where they only look at their own row and its neighbours.
//!
//! # State
//! At most one thread per instruction and memory; the ways that they came, which share their beginnings.

use hashbrown::{HashMap, HashSet};

use std::hash::Hash;

use super::pattern::{Instruction, Program};

/// Threads of one attempt; where conditions remember much, their number may double with each row.
const THREADS_MAX: usize = 10_000;

/// Steps that are not worth tidying up.
const STEPS_MIN: usize = 1_024;

/// The beginning of a way.
const NOWHERE: u32 = u32::MAX;

/// Decides which rows fit which variables.
pub(super) trait Conditions {
    /// What conditions on later rows look back at.
    type Memory: Clone + Eq + Hash;
    /// Why a condition cannot be decided.
    type Error;

    /// What is remembered before the first row.
    fn nothing(&self) -> Self::Memory;
    /// Whether anything is ever remembered.
    fn remembers(&self) -> bool;
    /// Whether the row fits the variable, and what is remembered with it.
    fn take(
        &mut self,
        memory: &Self::Memory,
        variable: usize,
        row: u32,
    ) -> Result<Option<Self::Memory>, Self::Error>;
}

/// Why a row was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stopped<E> {
    /// A condition cannot be decided.
    Condition(E),
    /// There are too many ways to match.
    TooManyThreads,
}

/// One way to match so far.
#[derive(Debug, Clone)]
struct Thread<M> {
    /// The [`Instruction::Row`] at which it waits.
    at: usize,
    /// Its last step.
    way: u32,
    memory: M,
}

/// A row mapped to a variable, and the step before.
#[derive(Debug, Clone, Copy)]
struct Step {
    before: u32,
    row: u32,
    variable: u32,
}

/// The search from one row on.
#[derive(Debug)]
pub(super) struct Attempt<M> {
    /// In the order of preference.
    threads: Vec<Thread<M>>,
    steps: Vec<Step>,
    /// The last step of the best match so far.
    best: Option<u32>,
    /// Steps after the last tidying.
    kept: usize,
}

impl<M: Clone + Eq + Hash> Attempt<M> {
    /// A search that is over.
    pub(super) fn none() -> Attempt<M> {
        Attempt { threads: Vec::new(), steps: Vec::new(), best: None, kept: 0 }
    }

    /// Begins a search. The pattern must not match nothing.
    pub(super) fn begin<C: Conditions<Memory = M>>(
        &mut self,
        program: &Program,
        conditions: &C,
        next: &mut Next<M>,
    ) {
        (self.best, self.kept) = (None, 0);
        self.steps.clear();
        next.clear(program, conditions.remembers());
        let done = next.add(program, 0, NOWHERE, &conditions.nothing());
        debug_assert!(!done, "the planner refuses patterns that match nothing");
        std::mem::swap(&mut self.threads, &mut next.threads);
    }

    /// Whether no further row can change the answer.
    pub(super) fn is_over(&self) -> bool {
        self.threads.is_empty()
    }

    /// Takes the next row. Where it fails, nothing has changed.
    pub(super) fn take<C: Conditions<Memory = M>>(
        &mut self,
        program: &Program,
        row: u32,
        conditions: &mut C,
        next: &mut Next<M>,
    ) -> Result<(), Stopped<C::Error>> {
        next.clear(program, conditions.remembers());
        let steps = self.steps.len();
        let mut best = self.best;
        for thread in &self.threads {
            let Instruction::Row(variable) = program.instructions[thread.at] else {
                unreachable!("threads wait at rows");
            };
            let taken = match conditions.take(&thread.memory, variable, row) {
                Ok(taken) => taken,
                Err(error) => {
                    self.steps.truncate(steps);
                    return Err(Stopped::Condition(error));
                }
            };
            let Some(memory) = taken else { continue };
            let way = u32::try_from(self.steps.len()).ok().filter(|way| *way != NOWHERE);
            let Some(way) = way else { return Err(Stopped::TooManyThreads) };
            let variable = variable as u32;
            self.steps.push(Step { before: thread.way, row, variable });
            if next.add(program, thread.at + 1, way, &memory) {
                best = Some(way);
                break;
            }
            if next.threads.len() > THREADS_MAX {
                self.steps.truncate(steps);
                return Err(Stopped::TooManyThreads);
            }
        }
        std::mem::swap(&mut self.threads, &mut next.threads);
        self.best = best;
        self.tidy();
        Ok(())
    }

    /// The rows of the best match with their variables.
    pub(super) fn best(&self) -> Option<Vec<(u32, usize)>> {
        let mut at = self.best?;
        let mut found = Vec::new();
        while at != NOWHERE {
            let step = self.steps[at as usize];
            found.push((step.row, step.variable as usize));
            at = step.before;
        }
        found.reverse();
        Some(found)
    }

    /// Ends the search.
    pub(super) fn end(&mut self) {
        self.threads.clear();
        self.steps.clear();
        self.best = None;
    }

    /// Bytes held, where a memory holds so many beyond itself.
    pub(super) fn bytes(&self, memory: usize) -> usize {
        self.threads.capacity() * (size_of::<Thread<M>>() + memory)
            + self.steps.capacity() * size_of::<Step>()
    }

    /// Forgets the steps of ways that have ended, once they may be most.
    fn tidy(&mut self) {
        if self.steps.len() < STEPS_MIN.max(4 * self.kept) {
            return;
        }
        let mut wanted = vec![false; self.steps.len()];
        let ends = self.threads.iter().map(|thread| thread.way).chain(self.best);
        ends.filter(|way| *way != NOWHERE).for_each(|way| wanted[way as usize] = true);
        for at in (0..self.steps.len()).rev() {
            let before = self.steps[at].before;
            if wanted[at] && before != NOWHERE {
                wanted[before as usize] = true;
            }
        }
        let mut places = vec![NOWHERE; self.steps.len()];
        let mut kept = Vec::new();
        for (at, step) in self.steps.iter().enumerate().filter(|(at, _)| wanted[*at]) {
            places[at] = kept.len() as u32;
            let before =
                if step.before == NOWHERE { NOWHERE } else { places[step.before as usize] };
            kept.push(Step { before, ..*step });
        }
        let moved = |way: u32| if way == NOWHERE { NOWHERE } else { places[way as usize] };
        self.threads.iter_mut().for_each(|thread| thread.way = moved(thread.way));
        self.best = self.best.map(moved);
        self.kept = kept.len();
        self.steps = kept;
    }
}

/// The threads behind a row; kept from row to row for its room.
#[derive(Debug)]
pub(super) struct Next<M> {
    threads: Vec<Thread<M>>,
    /// The round in which a thread was last at an instruction; for threads that remember nothing.
    seen: Vec<u64>,
    round: u64,
    /// For those that do: the numbers of what they remember, and where threads with these were.
    memories: HashMap<M, usize>,
    seen_with: HashSet<(usize, usize)>,
    remembers: bool,
    waiting: Vec<usize>,
}

impl<M: Clone + Eq + Hash> Next<M> {
    /// Nothing yet.
    pub(super) fn new() -> Next<M> {
        Next {
            threads: Vec::new(),
            seen: Vec::new(),
            round: 0,
            memories: HashMap::new(),
            seen_with: HashSet::new(),
            remembers: false,
            waiting: Vec::new(),
        }
    }

    fn clear(&mut self, program: &Program, remembers: bool) {
        self.threads.clear();
        self.remembers = remembers;
        self.round += 1;
        match remembers {
            true => {
                self.memories.clear();
                self.seen_with.clear();
            }
            false => self.seen.resize(program.instructions.len(), 0),
        }
    }

    fn is_new(&mut self, at: usize, number: usize) -> bool {
        match self.remembers {
            true => self.seen_with.insert((at, number)),
            false => std::mem::replace(&mut self.seen[at], self.round) != self.round,
        }
    }

    /// Adds the threads to which one leads that goes on at an instruction; whether it has matched
    /// everything, so that nothing less preferred counts.
    fn add(&mut self, program: &Program, at: usize, way: u32, memory: &M) -> bool {
        let number = match self.remembers {
            true => {
                let next = self.memories.len();
                *self.memories.entry(memory.clone()).or_insert(next)
            }
            false => 0,
        };
        self.waiting.clear();
        self.waiting.push(at);
        while let Some(at) = self.waiting.pop() {
            if !self.is_new(at, number) {
                continue;
            }
            match program.instructions[at] {
                Instruction::Row(_) => {
                    self.threads.push(Thread { at, way, memory: memory.clone() });
                }
                Instruction::Split(first, second) => self.waiting.extend([second, first]),
                Instruction::Jump(to) => self.waiting.push(to),
                Instruction::Done => return true,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::operators::match_recognize::backtracking::{first_word, patterns};
    use crate::operators::match_recognize::pattern::Pattern;

    /// Per row the variables that it fits, and a number; `rising`: variable 1 asks for more than the
    /// last row of variable 0.
    struct Rows {
        rows: Vec<([bool; 3], i64)>,
        rising: bool,
    }

    impl Conditions for Rows {
        type Memory = Option<i64>;
        type Error = Infallible;

        fn nothing(&self) -> Option<i64> {
            None
        }
        fn remembers(&self) -> bool {
            self.rising
        }
        fn take(
            &mut self,
            memory: &Option<i64>,
            variable: usize,
            row: u32,
        ) -> Result<Option<Option<i64>>, Infallible> {
            let (fits, value) = self.rows[row as usize];
            let rises = variable != 1 || !self.rising || memory.is_none_or(|last| value > last);
            let memory = if variable == 0 && self.rising { Some(value) } else { *memory };
            Ok((fits[variable] && rises).then_some(memory))
        }
    }

    fn search(pattern: &Pattern, rows: &mut Rows) -> Option<Vec<(u32, usize)>> {
        let program = Program::compile(pattern)?;
        let (mut attempt, mut next) = (Attempt::none(), Next::new());
        attempt.begin(&program, rows, &mut next);
        for row in 0..rows.rows.len() as u32 {
            if attempt.is_over() {
                break;
            }
            attempt.take(&program, row, rows, &mut next).unwrap();
        }
        attempt.best()
    }

    fn check(pattern: Pattern, rows: &[&str]) -> Option<String> {
        let fits = |row: &&str| ["A", "B", "C"].map(|name| row.contains(name));
        let rows = rows.iter().map(|row| (fits(row), 0)).collect();
        let found = search(&pattern, &mut Rows { rows, rising: false })?;
        Some(found.iter().map(|(_, variable)| ["A", "B", "C"][*variable]).collect())
    }

    fn repeat(inner: Pattern, min: u32, max: Option<u32>, greedy: bool) -> Pattern {
        Pattern::Repeat { inner: Box::new(inner), min, max, greedy }
    }

    #[test]
    fn the_first_way_in_the_order_of_preference_is_found() {
        use Pattern::{Choice, Sequence, Variable};
        let [a, b, c] = [0, 1, 2].map(Variable);
        let greedy = Sequence(vec![a.clone(), repeat(b.clone(), 0, None, true), c.clone()]);
        assert_eq!(check(greedy, &["A", "BC", "BC", "C", "A"]).as_deref(), Some("ABBC"));
        let reluctant = Sequence(vec![a.clone(), repeat(b.clone(), 0, None, false), c.clone()]);
        assert_eq!(check(reluctant, &["A", "BC", "BC", "C", "A"]).as_deref(), Some("AC"));
        let ordered = Choice(vec![a.clone(), Sequence(vec![a.clone(), b.clone()])]);
        assert_eq!(check(ordered, &["A", "B"]).as_deref(), Some("A"));
        let counted = Sequence(vec![repeat(a, 2, Some(3), true), b]);
        assert_eq!(check(counted.clone(), &["A", "AB", "AB", "AB"]).as_deref(), Some("AAAB"));
        assert_eq!(check(counted, &["A", "B"]), None);
        assert_eq!(check(c, &[]), None);
    }

    #[test]
    fn ways_that_ended_are_forgotten() {
        let any = Pattern::Choice(vec![Pattern::Variable(0), Pattern::Variable(1)]);
        let pattern = Pattern::Sequence(vec![repeat(any, 0, None, true), Pattern::Variable(2)]);
        let program = Program::compile(&pattern).unwrap();
        let mut rows = Rows { rows: vec![([true, true, false], 0); 100_000], rising: false };
        let (mut attempt, mut next) = (Attempt::none(), Next::new());
        attempt.begin(&program, &rows, &mut next);
        (0..100_000).for_each(|row| attempt.take(&program, row, &mut rows, &mut next).unwrap());
        assert!(attempt.steps.len() < 500_000);
        rows.rows.push(([false, false, true], 0));
        attempt.take(&program, 100_000, &mut rows, &mut next).unwrap();
        assert_eq!(attempt.best().map(|rows| rows.len()), Some(100_001));
    }

    #[test]
    fn too_many_ways_are_an_error() {
        struct Everything;
        impl Conditions for Everything {
            type Memory = Vec<usize>;
            type Error = Infallible;
            fn nothing(&self) -> Vec<usize> {
                vec![]
            }
            fn remembers(&self) -> bool {
                true
            }
            fn take(
                &mut self,
                memory: &Vec<usize>,
                variable: usize,
                _: u32,
            ) -> Result<Option<Vec<usize>>, Infallible> {
                let longer = || memory.iter().copied().chain([variable]).collect();
                Ok((variable < 2).then(longer))
            }
        }
        let any = Pattern::Choice(vec![Pattern::Variable(0), Pattern::Variable(1)]);
        let pattern = Pattern::Sequence(vec![repeat(any, 1, None, true), Pattern::Variable(2)]);
        let program = Program::compile(&pattern).unwrap();
        let (mut attempt, mut next) = (Attempt::none(), Next::new());
        attempt.begin(&program, &Everything, &mut next);
        let mut results =
            (0..20).map(|row| attempt.take(&program, row, &mut Everything, &mut next));
        assert!(results.any(|result| result == Err(Stopped::TooManyThreads)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn what_is_found_is_what_backtracking_finds_first(
            pattern in patterns(),
            rows in prop::collection::vec((any::<[bool; 3]>(), 0i64..4), 0..7),
            rising in any::<bool>(),
        ) {
            let expected = first_word(&pattern, &|way, variable| {
                let Some((fits, value)) = rows.get(way.len()) else { return false };
                let last = way.iter().rposition(|variable| *variable == 0).map(|row| rows[row].1);
                let rises = variable != 1 || !rising || last.is_none_or(|last| *value > last);
                fits[variable] && rises
            });
            let found = search(&pattern, &mut Rows { rows, rising });
            let found = found.map(|found| found.into_iter().map(|(_, variable)| variable).collect());
            prop_assert_eq!(found, expected);
        }
    }
}
