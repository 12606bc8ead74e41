//! Does what runs beside the callers: on threads, or by hand, one turn at a time, in a simulation.
//!
//! ```text
//!   Worker: the writer of a log, a runner of queries, the writer of snapshots
//!     threads   one each; a worker that has nothing to do sleeps in its turn
//!     by hand   nobody sleeps: a seed decides who takes the next turn
//! ```
//! By hand everything happens on the thread that asks for it, so that equal seeds give equal runs.
//! Where a caller would wait for a worker, by hand it lets others take turns instead.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use futures::future::BoxFuture;
use parking_lot::{Condvar, Mutex, MutexGuard};

pub mod helpers;

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// A piece of work is done.
    Done,
    /// There was nothing to do.
    Idle,
    /// The worker's time is over.
    Ended,
}

/// Something that works beside the callers, in turns.
pub trait Worker: Send {
    /// Does the next piece of work. Where there is none it sleeps until there is, if it may.
    fn turn(&mut self, may_sleep: bool) -> Turn;
}

/// Why work that was given away has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It panicked.
    Broken,
    /// The runtime is shutting down.
    Stopped,
}

/// Who does the work.
#[derive(Debug, Clone)]
pub enum Crew {
    /// A thread for each worker.
    Threads,
    /// Whoever takes turns by hand.
    ByHand(Arc<Hands>),
}

/// A worker that was taken on.
#[derive(Debug)]
pub struct Hired(Kind);

#[derive(Debug)]
enum Kind {
    Thread(JoinHandle<()>),
    Post(Arc<Post>),
}

impl Crew {
    /// Workers that take turns by hand, in an order that the seed decides.
    pub fn by_hand(seed: u64) -> (Crew, Arc<Hands>) {
        let hands = Arc::new(Hands { posts: Mutex::default(), state: Mutex::new((seed, 0)) });
        (Crew::ByHand(Arc::clone(&hands)), hands)
    }

    /// Takes a worker on.
    pub fn start(&self, name: &str, mut worker: Box<dyn Worker>) -> io::Result<Hired> {
        match self {
            Crew::Threads => {
                let thread = std::thread::Builder::new().name(name.to_owned());
                let work = move || while worker.turn(true) != Turn::Ended {};
                Ok(Hired(Kind::Thread(thread.spawn(work)?)))
            }
            Crew::ByHand(hands) => {
                let post = Arc::new(Post { worker: Mutex::new(Some(worker)) });
                hands.posts.lock().push(Arc::clone(&post));
                Ok(Hired(Kind::Post(post)))
            }
        }
    }

    /// Runs work that may take long or wait for the disk, off the threads of the runtime.
    pub fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Lost>> {
        match self {
            Crew::Threads => {
                let begun = tokio::task::spawn_blocking(work);
                Box::pin(async { begun.await.map_err(lost) })
            }
            Crew::ByHand(_) => Box::pin(async { Ok(work()) }),
        }
    }

    /// Runs a future to its end, also when the caller gives up waiting for it.
    pub fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Lost>> {
        match self {
            Crew::Threads => {
                let begun = tokio::spawn(work);
                Box::pin(async { begun.await.map_err(lost) })
            }
            Crew::ByHand(_) => Box::pin(async { Ok(work.await) }),
        }
    }

    /// Runs work once, on a thread with a stack of its own; by hand returns only when it is done.
    pub fn once(
        &self,
        name: &str,
        stack_bytes: usize,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(stack_bytes);
        let thread = thread.spawn(work)?;
        if let Crew::ByHand(_) = self {
            // Its panic is seen by whoever waits for its result.
            drop(thread.join());
        }
        Ok(())
    }

    /// Waits for a worker's message; `None` once nobody can send one.
    pub fn receive<T>(&self, messages: &Receiver<T>) -> Option<T> {
        let hands = match self {
            Crew::Threads => return messages.recv().ok(),
            Crew::ByHand(hands) => hands,
        };
        loop {
            match messages.try_recv() {
                Ok(message) => return Some(message),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => hands.must_turn(),
            }
        }
    }

    /// Waits for a condition that a worker changes.
    pub fn wait<T>(&self, condition: &Condvar, guard: &mut MutexGuard<'_, T>) {
        match self {
            Crew::Threads => condition.wait(guard),
            Crew::ByHand(hands) => MutexGuard::unlocked(guard, || hands.must_turn()),
        }
    }

    /// Runs a future to its end on a thread of no runtime.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        let hands = match self {
            Crew::Threads => return futures::executor::block_on(work),
            Crew::ByHand(hands) => hands,
        };
        let mut work = std::pin::pin!(work);
        loop {
            match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => return result,
                Poll::Pending => hands.must_turn(),
            }
        }
    }
}

fn lost(error: tokio::task::JoinError) -> Lost {
    if error.is_panic() { Lost::Broken } else { Lost::Stopped }
}

impl Hired {
    /// Waits until a worker that was told to end has done so. Called by the worker itself, it
    /// returns at once.
    pub fn join(self) {
        match self.0 {
            Kind::Thread(thread) if thread.thread().id() == std::thread::current().id() => {}
            // A panic on that thread has been reported by the panic itself.
            Kind::Thread(thread) => drop(thread.join()),
            Kind::Post(post) => while post.turn() == Turn::Done {},
        }
    }
}

/// The workers of a simulation.
pub struct Hands {
    posts: Mutex<Vec<Arc<Post>>>,
    /// The state of the generator, and the number of turns taken.
    state: Mutex<(u64, u64)>,
}

impl fmt::Debug for Hands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hands").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Hands {
    /// Lets one worker take a turn; false when none has anything to do.
    pub fn turn(&self) -> bool {
        let posts = self.posts.lock().clone();
        let first = self.choose(posts.len());
        for index in 0..posts.len() {
            let post = &posts[(first + index) % posts.len()];
            match post.turn() {
                Turn::Done => {
                    self.state.lock().1 += 1;
                    return true;
                }
                Turn::Idle => {}
                Turn::Ended => self.posts.lock().retain(|other| !Arc::ptr_eq(other, post)),
            }
        }
        false
    }

    /// Lets all workers go, whatever they were about.
    pub fn dismiss(&self) {
        let posts = std::mem::take(&mut *self.posts.lock());
        posts.iter().for_each(|post| drop(post.worker.lock().take()));
    }

    /// How many turns have been taken.
    pub fn turns(&self) -> u64 {
        self.state.lock().1
    }

    fn must_turn(&self) {
        assert!(self.turn(), "somebody waits, and nobody has anything to do");
    }

    /// A number below `sides` (splitmix64).
    fn choose(&self, sides: usize) -> usize {
        let mut state = self.state.lock();
        state.0 = state.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides.max(1) as u64) as usize
    }
}

/// A worker that waits for its turn; gone once it has ended.
struct Post {
    worker: Mutex<Option<Box<dyn Worker>>>,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post").finish_non_exhaustive()
    }
}

impl Post {
    fn turn(&self) -> Turn {
        // A worker that waits for another inside its own turn is busy.
        let Some(mut worker) = self.worker.try_lock() else { return Turn::Idle };
        let turn = worker.as_mut().map_or(Turn::Ended, |worker| worker.turn(false));
        let ended = if turn == Turn::Ended { worker.take() } else { None };
        drop(worker);
        drop(ended);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    struct Countdown {
        name: u8,
        left: u8,
        said: Sender<(u8, u8)>,
    }

    impl Worker for Countdown {
        fn turn(&mut self, _may_sleep: bool) -> Turn {
            if self.left == 0 {
                return Turn::Ended;
            }
            self.left -= 1;
            self.said.send((self.name, self.left)).unwrap();
            Turn::Done
        }
    }

    fn run(crew: &Crew) -> (Receiver<(u8, u8)>, Vec<Hired>) {
        let (said, heard) = channel();
        let hire = |name| {
            let worker = Countdown { name, left: 3, said: said.clone() };
            crew.start("countdown", Box::new(worker)).unwrap()
        };
        let hired = (0..3).map(hire).collect();
        (heard, hired)
    }

    fn order(seed: u64) -> Vec<(u8, u8)> {
        let (crew, hands) = Crew::by_hand(seed);
        let (heard, _hired) = run(&crew);
        while hands.turn() {}
        heard.try_iter().collect()
    }

    #[test]
    fn a_seed_decides_the_order_of_turns_and_equal_seeds_give_equal_ones() {
        let orders: std::collections::BTreeSet<_> = (0..20).map(order).collect();
        assert!(orders.len() > 10);
        assert!(orders.iter().all(|order| order.len() == 9));
        assert_eq!(order(7), order(7));
    }

    #[test]
    fn whoever_waits_lets_the_others_take_turns() {
        for crew in [Crew::Threads, Crew::by_hand(1).0] {
            let (heard, hired) = run(&crew);
            let first = crew.receive(&heard);
            assert!(first.is_some());
            hired.into_iter().for_each(Hired::join);
            let mut rest: Vec<_> = std::iter::from_fn(|| crew.receive(&heard)).collect();
            rest.extend(first);
            rest.sort_unstable();
            assert_eq!(rest.len(), 9);
        }
    }

    #[test]
    fn a_future_that_waits_for_a_worker_gets_its_turns() {
        for crew in [Crew::Threads, Crew::by_hand(1).0] {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            struct Answer(Option<tokio::sync::oneshot::Sender<u8>>);
            impl Worker for Answer {
                fn turn(&mut self, _may_sleep: bool) -> Turn {
                    let Some(sender) = self.0.take() else { return Turn::Ended };
                    sender.send(42).unwrap();
                    Turn::Done
                }
            }
            crew.start("answer", Box::new(Answer(Some(sender)))).unwrap();
            assert_eq!(crew.block_on(receiver), Ok(42));
        }
    }
}
