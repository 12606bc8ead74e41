//! Lends threads to whoever has work in several pieces and waits for all of them, or work that is wanted later.
//!
//! ```text
//! run(a, b, c)   the caller takes a ┐
//!                a helper takes b   ├─▶ all are done: the caller goes on
//!                whoever is free: c ┘
//! begin(a)       a helper takes a, or whoever waits for it
//! ```
//! The caller takes pieces itself until none is left, so it never waits for a helper that is busy
//! elsewhere: with none it does everything alone. By hand there are no helpers, and a seed says which piece
//! comes next, and whether what was begun is done at once or when it is waited for: a simulation shows whether that matters.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use parking_lot::{Condvar, Mutex};

use super::{Crew, Hired, Turn, Worker};

/// A piece of work.
pub type Piece = Box<dyn FnOnce() + Send>;

/// Threads that help.
pub struct Helpers {
    crew: Crew,
    shared: Arc<Shared>,
    hired: Mutex<Vec<Hired>>,
}

#[derive(Default)]
struct Shared {
    calls: Mutex<Calls>,
    ready: Condvar,
}

#[derive(Default)]
struct Calls {
    /// One for each helper that is asked for; those of a call go with it.
    waiting: VecDeque<Arc<Pile>>,
    stopping: bool,
}

/// The pieces of one call.
struct Pile {
    pieces: Mutex<Pieces>,
    done: Condvar,
}

struct Pieces {
    left: VecDeque<Piece>,
    /// Those that are not done.
    open: usize,
    /// Why the first of those that broke did.
    panic: Option<Box<dyn Any + Send>>,
}

struct Helper(Arc<Shared>);

impl Helpers {
    /// Takes on so many helpers.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(crew: &Crew, count: usize) -> io::Result<Helpers> {
        let shared = Arc::new(Shared::default());
        let count = if let Crew::Threads = crew { count } else { 0 };
        let hire =
            |number| crew.start(&format!("helper-{number}"), Box::new(Helper(Arc::clone(&shared))));
        let hired = (0..count).map(hire).collect::<io::Result<_>>()?;
        Ok(Helpers { crew: crew.clone(), shared, hired: Mutex::new(hired) })
    }

    /// Does all pieces and returns when they are done; a panic of one is a panic of the caller, once all
    /// have ended.
    pub fn run(&self, mut pieces: Vec<Piece>) {
        if let Crew::ByHand(hands) = &self.crew {
            while !pieces.is_empty() {
                pieces.swap_remove(hands.choose(pieces.len()))();
            }
            return;
        }
        let helpers = pieces.len().saturating_sub(1);
        let pile = Pile::new(pieces);
        self.shared.call(&pile, helpers);
        self.shared.finish(&pile);
    }

    /// Gives work away whose result is wanted later.
    pub fn begin<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Begun<T> {
        let (send, result) = channel();
        // Nobody may want the result any more.
        let pile = Pile::new(vec![Box::new(move || drop(send.send(work())))]);
        match &self.crew {
            Crew::Threads => self.shared.call(&pile, 1),
            Crew::ByHand(hands) if hands.choose(2) == 0 => pile.work(),
            Crew::ByHand(_) => {}
        }
        Begun { shared: Arc::clone(&self.shared), pile, result }
    }
}

impl Shared {
    /// Asks helpers to work on a pile.
    fn call(&self, pile: &Arc<Pile>, helpers: usize) {
        self.calls.lock().waiting.extend((0..helpers).map(|_| Arc::clone(pile)));
        for _ in 0..helpers {
            self.ready.notify_one();
        }
    }

    /// Helpers that were busy all the time need not come any more.
    fn call_off(&self, pile: &Arc<Pile>) {
        self.calls.lock().waiting.retain(|other| !Arc::ptr_eq(other, pile));
    }

    /// Works on a pile and returns when it is done.
    fn finish(&self, pile: &Arc<Pile>) {
        pile.work();
        self.call_off(pile);
        let mut pieces = pile.pieces.lock();
        pile.done.wait_while(&mut pieces, |pieces| pieces.open > 0);
        if let Some(panic) = pieces.panic.take() {
            drop(pieces);
            resume_unwind(panic);
        }
    }
}

/// Work that was given away. Dropped, it is not begun any more.
pub struct Begun<T> {
    shared: Arc<Shared>,
    pile: Arc<Pile>,
    result: Receiver<T>,
}

impl<T> Begun<T> {
    /// The result; where no helper has begun, the caller does the work. A panic of it is one of the caller.
    pub fn wait(self) -> T {
        self.shared.finish(&self.pile);
        self.result.recv().expect("the work is done")
    }
}

impl<T> Drop for Begun<T> {
    fn drop(&mut self) {
        self.pile.pieces.lock().left.clear();
        self.shared.call_off(&self.pile);
    }
}

impl<T> fmt::Debug for Begun<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun").finish_non_exhaustive()
    }
}

impl Pile {
    fn new(pieces: Vec<Piece>) -> Arc<Pile> {
        let open = pieces.len();
        let pieces = Pieces { left: pieces.into(), open, panic: None };
        Arc::new(Pile { pieces: Mutex::new(pieces), done: Condvar::new() })
    }

    /// Does pieces until none is left.
    fn work(&self) {
        loop {
            let Some(piece) = self.pieces.lock().left.pop_front() else { return };
            let panic = catch_unwind(AssertUnwindSafe(piece)).err();
            let mut pieces = self.pieces.lock();
            pieces.open -= 1;
            if let Some(panic) = panic {
                pieces.panic.get_or_insert(panic);
            }
            if pieces.open == 0 {
                self.done.notify_all();
            }
        }
    }
}

impl Worker for Helper {
    fn turn(&mut self, may_sleep: bool) -> Turn {
        let mut calls = self.0.calls.lock();
        let pile = loop {
            if calls.stopping {
                return Turn::Ended;
            }
            if let Some(pile) = calls.waiting.pop_front() {
                break pile;
            }
            if !may_sleep {
                return Turn::Idle;
            }
            self.0.ready.wait(&mut calls);
        };
        drop(calls);
        pile.work();
        Turn::Done
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.shared.calls.lock().stopping = true;
        self.shared.ready.notify_all();
        self.hired.lock().drain(..).for_each(Hired::join);
    }
}

impl fmt::Debug for Helpers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helpers").field("count", &self.hired.lock().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn pieces(count: usize, done: &Arc<AtomicUsize>) -> Vec<Piece> {
        let piece = |_| {
            let done = Arc::clone(done);
            Box::new(move || {
                done.fetch_add(1, Ordering::SeqCst);
            }) as Piece
        };
        (0..count).map(piece).collect()
    }

    #[test]
    fn all_pieces_are_done_however_many_help() {
        for helpers in [0, 1, 3] {
            for crew in [Crew::Threads, Crew::by_hand(1).0] {
                let helpers = Helpers::start(&crew, helpers).unwrap();
                for count in 0..20 {
                    let done = Arc::default();
                    helpers.run(pieces(count, &done));
                    assert_eq!(done.load(Ordering::SeqCst), count);
                }
            }
        }
    }

    #[test]
    fn pieces_run_beside_each_other() {
        let helpers = Helpers::start(&Crew::Threads, 1).unwrap();
        let both = Arc::new(std::sync::Barrier::new(2));
        let piece = |_| {
            let both = Arc::clone(&both);
            Box::new(move || {
                both.wait();
            }) as Piece
        };
        helpers.run((0..2).map(piece).collect());
    }

    #[test]
    fn callers_that_share_helpers_do_not_wait_for_each_other() {
        let helpers = Arc::new(Helpers::start(&Crew::Threads, 1).unwrap());
        let gate = Arc::new(std::sync::Barrier::new(3));
        let block = |_| {
            let gate = Arc::clone(&gate);
            Box::new(move || {
                gate.wait();
            }) as Piece
        };
        let blocked: Vec<Piece> = (0..2).map(block).collect();
        std::thread::scope(|scope| {
            let busy = Arc::clone(&helpers);
            scope.spawn(move || busy.run(blocked));
            let done = Arc::default();
            // The only helper may be held up: whoever asks does the work alone.
            helpers.run(pieces(8, &done));
            assert_eq!(done.load(Ordering::SeqCst), 8);
            gate.wait();
        });
    }

    #[test]
    fn a_panic_is_the_callers_and_the_helpers_go_on() {
        let helpers = Helpers::start(&Crew::Threads, 2).unwrap();
        let done = Arc::default();
        for _ in 0..5 {
            let mut all = pieces(3, &done);
            all.push(Box::new(|| panic!("a piece broke")));
            let panic = catch_unwind(AssertUnwindSafe(|| helpers.run(all))).unwrap_err();
            assert_eq!(panic.downcast_ref::<&str>(), Some(&"a piece broke"));
        }
        assert_eq!(done.load(Ordering::SeqCst), 15, "the others are done first");
    }

    #[test]
    fn work_that_was_given_away_is_done_by_whoever_comes_first() {
        for crew in [Crew::Threads, Crew::by_hand(1).0] {
            let helpers = Helpers::start(&crew, 1).unwrap();
            let begun: Vec<_> = (0..20).map(|number| helpers.begin(move || number * 2)).collect();
            let results: Vec<i32> = begun.into_iter().map(Begun::wait).collect();
            assert_eq!(results, (0..20).map(|number| number * 2).collect::<Vec<_>>());
            let broken = helpers.begin(|| panic!("it broke"));
            let panic = catch_unwind(AssertUnwindSafe(|| broken.wait())).unwrap_err();
            assert_eq!(panic.downcast_ref::<&str>(), Some(&"it broke"));
        }
        // Whoever waits needs no helper.
        let helpers = Helpers::start(&Crew::Threads, 0).unwrap();
        let begun = helpers.begin(|| 7);
        drop(helpers);
        assert_eq!(begun.wait(), 7);
    }

    #[test]
    fn work_that_nobody_wants_is_not_begun() {
        let helpers = Helpers::start(&Crew::Threads, 1).unwrap();
        let gate = Arc::new(std::sync::Barrier::new(2));
        let held = Arc::clone(&gate);
        let first = helpers.begin(move || held.wait());
        let done = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&done);
        let unwanted = helpers.begin(move || counted.fetch_add(1, Ordering::SeqCst));
        // The only helper is at the gate, or comes to it first.
        drop(unwanted);
        gate.wait();
        first.wait();
        assert_eq!(helpers.begin(|| 3).wait(), 3);
        assert_eq!(done.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn by_hand_the_seed_says_which_piece_comes_first() {
        let order = |seed| {
            let helpers = Helpers::start(&Crew::by_hand(seed).0, 2).unwrap();
            let said = Arc::new(Mutex::new(Vec::new()));
            let piece = |index| {
                let said = Arc::clone(&said);
                Box::new(move || said.lock().push(index)) as Piece
            };
            helpers.run((0..4).map(piece).collect());
            said.lock().clone()
        };
        let orders: std::collections::BTreeSet<Vec<usize>> = (0..30).map(order).collect();
        assert!(orders.len() > 5, "{orders:?}");
        assert_eq!(order(7), order(7));
    }
}
