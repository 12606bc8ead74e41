//! States how an operator has work done in several pieces at once, though it has no thread of its own.
//!
//! An operator gets a [`Fork`] when it is built; what runs the pieces, and where, is not its business: the
//! helpers of a server ([`crate::pipeline`]), or one piece after the other. A piece owns what it works on and
//! gives it back with its result, so nothing is shared and nothing is locked.

use std::sync::Arc;
use std::sync::mpsc::channel;

use crate::operators::row_clock;

/// A piece of work.
pub type Job = Box<dyn FnOnce() + Send>;

/// Does pieces of work.
pub trait Fork: Send + Sync {
    /// Does all of them, in any order, and returns when all are done. A panic of one is a panic of the
    /// caller.
    fn run(&self, jobs: Vec<Job>);
}

/// One piece after the other, by whoever asks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inline;

impl Fork for Inline {
    fn run(&self, jobs: Vec<Job>) {
        jobs.into_iter().for_each(|job| job());
    }
}

/// Does `work` with each item; the results come in the order of the items.
pub fn map<T, R>(
    fork: &dyn Fork,
    items: Vec<T>,
    work: impl Fn(T) -> R + Send + Sync + 'static,
) -> Vec<R>
where
    T: Send + 'static,
    R: Send + 'static,
{
    let (count, now) = (items.len(), row_clock::get());
    let (work, (send, results)) = (Arc::new(work), channel());
    let job = |(index, item)| {
        let (work, send) = (Arc::clone(&work), send.clone());
        Box::new(move || {
            row_clock::set(now);
            // Whoever waits takes all of them.
            drop(send.send((index, work(item))));
        }) as Job
    };
    let jobs = items.into_iter().enumerate().map(job).collect();
    drop(send);
    fork.run(jobs);
    let mut done: Vec<(usize, R)> = results.into_iter().collect();
    assert_eq!(done.len(), count, "a piece of work has no result");
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Into how many shards an operator may split its keys, and when.
#[derive(Clone)]
pub struct Sharding {
    /// Shards; 1: the keys are never split.
    pub shards: usize,
    /// Keys from which on they are split; 0: from the beginning.
    pub keys: usize,
    /// Rows from which on a batch is worth the way to other threads.
    pub rows: usize,
    /// Who does the shards' work.
    pub fork: Arc<dyn Fork>,
}

impl Sharding {
    /// One shard, for ever.
    pub fn off() -> Sharding {
        Sharding { shards: 1, keys: 0, rows: usize::MAX, fork: Arc::new(Inline) }
    }
}

impl std::fmt::Debug for Sharding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sharding { shards, keys, rows, .. } = self;
        write!(f, "Sharding {{ shards: {shards}, keys: {keys}, rows: {rows} }}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last piece first.
    struct Backwards;

    impl Fork for Backwards {
        fn run(&self, jobs: Vec<Job>) {
            jobs.into_iter().rev().for_each(|job| job());
        }
    }

    #[test]
    fn results_come_in_the_order_of_the_items_whoever_is_done_first() {
        for fork in [&Inline as &dyn Fork, &Backwards] {
            assert_eq!(map(fork, vec![3, 1, 2], |item| item * 10), [30, 10, 20]);
        }
    }

    #[test]
    fn the_pieces_know_what_time_it_is_for_the_rows() {
        struct Elsewhere;
        impl Fork for Elsewhere {
            fn run(&self, jobs: Vec<Job>) {
                std::thread::scope(|scope| {
                    jobs.into_iter().for_each(|job| drop(scope.spawn(job)));
                });
            }
        }
        row_clock::set(42);
        assert_eq!(map(&Elsewhere, vec![(), ()], |()| row_clock::get()), [42, 42]);
    }
}
