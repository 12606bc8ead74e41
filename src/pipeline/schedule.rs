//! Runs tasks that have work by a few workers, each task by one worker at a time.
//!
//! A task is woken when one of its inputs has moved. It runs step after step until it has nothing to
//! do; between two steps others get their turn. A task that panics is told so and waits until it is woken
//! again, which is its owner's choice: the others go on.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Condvar, Mutex};

use crate::crew::{Crew, Hired, Turn, Worker};

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

/// A task: its work, and whether it is queued. Who owns the work may own the task, too.
pub struct Task {
    work: Weak<dyn Work>,
    state: AtomicU8,
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
}

struct Queue {
    tasks: VecDeque<Arc<Task>>,
    stopping: bool,
}

/// The workers.
pub struct Scheduler {
    shared: Arc<Shared>,
    runners: Mutex<Vec<Hired>>,
}

/// Runs tasks, one a turn.
struct Runner(Arc<Shared>);

impl Scheduler {
    /// Takes on `runners` workers.
    pub fn start(crew: &Crew, runners: usize) -> Scheduler {
        let queue = Queue { tasks: VecDeque::new(), stopping: false };
        let shared = Arc::new(Shared { queue: Mutex::new(queue), ready: Condvar::new() });
        let hire = |number: usize| {
            let runner = Runner(Arc::clone(&shared));
            crew.start(&format!("query-{number}"), Box::new(runner))
                .expect("the system gives us a thread")
        };
        let runners = (0..runners).map(hire).collect();
        Scheduler { shared, runners: Mutex::new(runners) }
    }

    /// Makes a task; it runs when it is woken, as long as its work is there.
    pub fn task(&self, work: &Arc<dyn Work>) -> Arc<Task> {
        let work = Arc::downgrade(work);
        Arc::new(Task { work, state: AtomicU8::new(IDLE), shared: Arc::clone(&self.shared) })
    }

    /// Ends the workers after the turns they are in.
    pub fn stop(&self) {
        self.shared.queue.lock().stopping = true;
        self.shared.ready.notify_all();
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
        self.shared.queue.lock().tasks.push_back(Arc::clone(self));
        self.shared.ready.notify_one();
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
        let next = catch_unwind(AssertUnwindSafe(|| work.turn()));
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
        let task = {
            let mut queue = self.0.queue.lock();
            loop {
                if queue.stopping {
                    return Turn::Ended;
                }
                if let Some(task) = queue.tasks.pop_front() {
                    break task;
                }
                if !may_sleep {
                    return Turn::Idle;
                }
                self.0.ready.wait(&mut queue);
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
        let scheduler = Scheduler::start(&Crew::Threads, 2);
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
}
