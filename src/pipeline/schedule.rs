//! Runs tasks that have work by a few workers, each task by one worker at a time.
//!
//! A task is woken when one of its inputs has moved. It runs step after step until it has nothing to
//! do; between two steps others get their turn. A task that panics is told so and waits until it is woken
//! again, which is its owner's choice: the others go on.
//!
//! Tasks whose turns take long wait in a queue of their own, and one thread more takes none of them:
//! so however many tasks are behind and busy, a turn of a quick one begins at once.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Condvar, Mutex};

use crate::crew::{Crew, Hired, Turn, Worker};
use crate::time::Clock;

/// What a task wants after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another turn.
    Again,
    /// To be woken.
    Wait,
}

/// Something that runs in turns.
pub trait Work: Send + Sync {
    /// Takes one turn.
    fn turn(&self) -> Next;
    /// Learns that a turn panicked.
    fn panicked(&self, reason: String);
}

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const RUNNING_AND_WOKEN: u8 = 3;
const DEAD: u8 = 4;

/// A task whose turns take longer (microseconds, on average over the last few) is slow.
const QUICK: i64 = 20_000;
/// Turns that the average looks back at: one that a busy machine held up does not make a task slow.
const MEMORY: i64 = 8;

/// A task: its work, and whether it is queued. Who owns the work may own the task, too.
pub struct Task {
    work: Weak<dyn Work>,
    state: AtomicU8,
    /// What a turn takes, microseconds; `i64::MAX`: nobody knows yet.
    cost: AtomicI64,
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    queue: Mutex<Queue>,
    /// There is a task.
    ready: Condvar,
    /// There is a quick one: for the thread that takes no others.
    quick_ready: Condvar,
}

#[derive(Default)]
struct Queue {
    quick: VecDeque<Arc<Task>>,
    slow: VecDeque<Arc<Task>>,
    /// Which kind goes first when there are both: they take turns.
    slow_first: bool,
    stopping: bool,
}

impl Queue {
    fn pop(&mut self, quick_only: bool) -> Option<Arc<Task>> {
        if quick_only {
            return self.quick.pop_front();
        }
        self.slow_first = !self.slow_first;
        let (first, second) = match self.slow_first {
            true => (&mut self.slow, &mut self.quick),
            false => (&mut self.quick, &mut self.slow),
        };
        first.pop_front().or_else(|| second.pop_front())
    }
}

/// The workers.
pub struct Scheduler {
    shared: Arc<Shared>,
    runners: Mutex<Vec<Hired>>,
}

/// Runs tasks, one a turn.
struct Runner {
    shared: Arc<Shared>,
    /// It takes no slow ones.
    quick_only: bool,
}

impl Scheduler {
    /// Takes on `runners` workers and, unless that is one, another for quick tasks only. The clock says how
    /// long turns take.
    pub fn start(crew: &Crew, runners: usize, clock: Arc<dyn Clock>) -> Scheduler {
        let shared = Arc::new(Shared {
            clock,
            queue: Mutex::default(),
            ready: Condvar::new(),
            quick_ready: Condvar::new(),
        });
        let hire = |number: usize| {
            let runner = Runner { shared: Arc::clone(&shared), quick_only: number == runners };
            crew.start(&format!("query-{number}"), Box::new(runner))
                .expect("the system gives us a thread")
        };
        let all = if runners > 1 { runners + 1 } else { runners };
        let runners = (0..all).map(hire).collect();
        Scheduler { shared, runners: Mutex::new(runners) }
    }

    /// Makes a task; it runs when it is woken, as long as its work is there.
    pub fn task(&self, work: &Arc<dyn Work>) -> Arc<Task> {
        let work = Arc::downgrade(work);
        let (state, cost) = (AtomicU8::new(IDLE), AtomicI64::new(i64::MAX));
        Arc::new(Task { work, state, cost, shared: Arc::clone(&self.shared) })
    }

    /// Ends the workers after the turns they are in.
    pub fn stop(&self) {
        self.shared.queue.lock().stopping = true;
        self.shared.ready.notify_all();
        self.shared.quick_ready.notify_all();
        let runners = std::mem::take(&mut *self.runners.lock());
        runners.into_iter().for_each(Hired::join);
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Task {
    /// Lets the task run soon. Cheap when it is queued already.
    pub fn wake(self: &Arc<Task>) {
        loop {
            let state = self.state.load(Ordering::Acquire);
            let next = match state {
                IDLE => QUEUED,
                RUNNING => RUNNING_AND_WOKEN,
                _ => return,
            };
            if self.state.compare_exchange(state, next, Ordering::AcqRel, Ordering::Acquire).is_ok()
            {
                if next == QUEUED {
                    self.enqueue();
                }
                return;
            }
        }
    }

    /// Keeps the task from ever running again.
    pub fn retire(&self) {
        self.state.store(DEAD, Ordering::Release);
    }

    fn enqueue(self: &Arc<Task>) {
        let slow = self.cost.load(Ordering::Relaxed) > QUICK;
        {
            let mut queue = self.shared.queue.lock();
            let tasks = if slow { &mut queue.slow } else { &mut queue.quick };
            tasks.push_back(Arc::clone(self));
        }
        self.shared.ready.notify_one();
        if !slow {
            self.shared.quick_ready.notify_one();
        }
    }

    fn turn(self: &Arc<Task>) {
        if self
            .state
            .compare_exchange(QUEUED, RUNNING, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            return;
        }
        let Some(work) = self.work.upgrade() else { return };
        let began = self.shared.clock.now();
        let next = catch_unwind(AssertUnwindSafe(|| work.turn()));
        let took = self.shared.clock.now().saturating_sub(began);
        let cost = match self.cost.load(Ordering::Relaxed) {
            i64::MAX => took,
            before => before + (took - before) / MEMORY,
        };
        self.cost.store(cost, Ordering::Relaxed);
        let next = match next {
            Ok(next) => next,
            Err(panic) => {
                work.panicked(panic_text(panic.as_ref()));
                Next::Wait
            }
        };
        let idle = next == Next::Wait
            && self
                .state
                .compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire)
                .is_ok();
        if !idle && self.state.load(Ordering::Acquire) != DEAD {
            self.state.store(QUEUED, Ordering::Release);
            self.enqueue();
        }
    }
}

impl Worker for Runner {
    fn turn(&mut self, may_sleep: bool) -> Turn {
        let shared = &self.shared;
        let ready = if self.quick_only { &shared.quick_ready } else { &shared.ready };
        let task = {
            let mut queue = shared.queue.lock();
            loop {
                if queue.stopping {
                    return Turn::Ended;
                }
                if let Some(task) = queue.pop(self.quick_only) {
                    break task;
                }
                if !may_sleep {
                    return Turn::Idle;
                }
                ready.wait(&mut queue);
            }
        };
        task.turn();
        Turn::Done
    }
}

/// The message of a panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a message".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::VirtualClock;
    use std::sync::atomic::AtomicUsize;

    struct Countdown {
        left: AtomicUsize,
        failure: Mutex<Option<String>>,
        done: Condvar,
        lock: Mutex<bool>,
    }

    impl Work for Countdown {
        fn turn(&self) -> Next {
            let left = self.left.fetch_sub(1, Ordering::SeqCst);
            if left == 3 {
                *self.lock.lock() = true;
                self.done.notify_all();
                return Next::Wait;
            }
            assert!(left != 1, "the last one breaks");
            Next::Again
        }
        fn panicked(&self, reason: String) {
            *self.failure.lock() = Some(reason);
            *self.lock.lock() = true;
            self.done.notify_all();
        }
    }

    #[test]
    fn a_task_runs_until_it_waits_and_a_panic_ends_only_that_task() {
        let scheduler = Scheduler::start(&Crew::Threads, 2, Arc::new(VirtualClock::new(0)));
        let work = Arc::new(Countdown {
            left: AtomicUsize::new(10),
            failure: Mutex::new(None),
            done: Condvar::new(),
            lock: Mutex::new(false),
        });
        let wait = || {
            let mut done = work.lock.lock();
            while !*done {
                work.done.wait(&mut done);
            }
            *done = false;
        };
        let task = scheduler.task(&(Arc::clone(&work) as Arc<dyn Work>));
        task.wake();
        wait();
        assert_eq!(work.left.load(Ordering::SeqCst), 2);
        // The task may still be on its way to rest; waking it again must not be lost.
        task.wake();
        wait();
        assert_eq!(work.failure.lock().as_deref(), Some("the last one breaks"));
    }

    /// Takes its time over each turn until it is let go.
    struct Slow {
        clock: Arc<VirtualClock>,
        turns: AtomicUsize,
        gate: Mutex<(usize, bool)>,
        moved: Condvar,
    }

    impl Work for Slow {
        fn turn(&self) -> Next {
            self.clock.advance(QUICK + 1);
            let mut gate = self.gate.lock();
            gate.0 += 1;
            self.moved.notify_all();
            // The first turn shows that it is slow; in the second it stays.
            if self.turns.fetch_add(1, Ordering::SeqCst) > 0 {
                self.moved.wait_while(&mut gate, |gate| !gate.1);
            }
            Next::Again
        }
        fn panicked(&self, _: String) {}
    }

    #[test]
    fn a_quick_task_runs_while_slow_ones_hold_every_other_thread() {
        let clock = Arc::new(VirtualClock::new(0));
        let scheduler = Scheduler::start(&Crew::Threads, 2, Arc::clone(&clock) as _);
        let slow: Vec<Arc<Slow>> = (0..3)
            .map(|_| {
                Arc::new(Slow {
                    clock: Arc::clone(&clock),
                    turns: AtomicUsize::new(0),
                    gate: Mutex::new((0, false)),
                    moved: Condvar::new(),
                })
            })
            .collect();
        let quick = Arc::new(Countdown {
            left: AtomicUsize::new(4),
            failure: Mutex::new(None),
            done: Condvar::new(),
            lock: Mutex::new(false),
        });
        let task = scheduler.task(&(Arc::clone(&quick) as Arc<dyn Work>));
        task.wake();
        // Its first turn: from then on it is known to be quick.
        while quick.left.load(Ordering::SeqCst) > 3 {
            std::thread::yield_now();
        }
        let tasks: Vec<_> =
            slow.iter().map(|work| scheduler.task(&(Arc::clone(work) as Arc<dyn Work>))).collect();
        tasks.iter().for_each(Task::wake);
        while slow.iter().filter(|work| work.gate.lock().0 > 1).count() < 2 {
            std::thread::yield_now();
        }
        task.wake();
        let mut done = quick.lock.lock();
        quick.done.wait_while(&mut done, |done| !*done);
        drop(done);
        for work in &slow {
            work.gate.lock().1 = true;
            work.moved.notify_all();
        }
        tasks.iter().for_each(|task| task.retire());
    }
}
