//! Tests group commit: order, limits, refusals, and the end.

use std::sync::mpsc;

use super::*;
use crate::crew::Crew;
use crate::log::append::{Admission, Appender, Prepare, QueueLimits};

const LIMITS: QueueLimits = QueueLimits { rows: 1_000, bytes: 1 << 20 };

fn appender(log: Log, limits: QueueLimits, prepare: Prepare) -> Appender {
    Appender::start(&Crew::Threads, Arc::new(log), "append s", limits, prepare).unwrap()
}

fn admit() -> Prepare {
    Box::new(|_| Admission::Append)
}

/// A prepare that says when it has a frame, and then waits for a word, so that the queue fills.
fn gated() -> (mpsc::Sender<()>, mpsc::Receiver<()>, Prepare) {
    let (go, gate) = mpsc::channel::<()>();
    let (entered, at_gate) = mpsc::channel::<()>();
    let prepare = Box::new(move |_: &mut NewFrame| {
        entered.send(()).ok();
        gate.recv().map_or(Admission::Skip, |()| Admission::Append)
    });
    (go, at_gate, prepare)
}

#[test]
fn each_submitter_gets_its_own_place_in_the_order_of_the_log() {
    let storage = MemoryStorage::new();
    let appender = appender(open(&storage, small()).unwrap(), LIMITS, admit());
    let (sender, replies) = mpsc::channel();
    std::thread::scope(|scope| {
        for client in 0..4_i64 {
            let (appender, sender) = (&appender, sender.clone());
            scope.spawn(move || {
                for n in 0..50 {
                    let first = client * 1_000 + n * 2;
                    let sender = sender.clone();
                    appender.submit(vec![numbers(first, 2), tick()], move |reply| {
                        sender.send((first, reply.unwrap())).unwrap();
                    });
                }
            });
        }
    });
    drop(sender);
    appender.shut_down();
    let replies: Vec<_> = replies.iter().collect();
    assert_eq!(replies.len(), 200);
    let mut next = Position::default();
    for (first, appended) in &replies {
        assert_eq!(appended.first, next, "acknowledged in log order, without holes");
        assert_eq!(values(&appended.frames[0]), [*first, *first + 1]);
        next = appended.next;
    }
    for client in 0..4 {
        let own: Vec<_> =
            replies.iter().map(|(first, _)| *first).filter(|f| f / 1_000 == client).collect();
        assert!(own.is_sorted(), "a submitter's requests keep their order");
    }
    // Every acknowledged row survives power loss.
    for seed in 0..20 {
        let log = open(&storage.crash(seed), small()).unwrap();
        assert_eq!(log.visible(), next);
    }
}

#[test]
fn what_gathers_during_a_sync_becomes_one_group() {
    let storage = MemoryStorage::new();
    let (go, at_gate, prepare) = gated();
    let appender = appender(open(&storage, small()).unwrap(), LIMITS, prepare);
    let heard = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = Arc::clone(&heard);
    appender.log().listen(Arc::new(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }));
    let (sender, replies) = mpsc::channel();
    for n in 0..10 {
        let sender = sender.clone();
        appender.submit(vec![numbers(n, 1)], move |reply| sender.send(reply).unwrap());
        if n == 0 {
            at_gate.recv().unwrap();
        }
    }
    (0..10).for_each(|_| go.send(()).unwrap());
    let places: Vec<u64> = (0..10).map(|_| replies.recv().unwrap().unwrap().first.offset).collect();
    assert_eq!(places, (0..10).collect::<Vec<_>>());
    appender.shut_down();
    assert_eq!(heard.load(std::sync::atomic::Ordering::SeqCst), 2, "the first alone, then nine");
    assert_eq!(read_all(appender.log()).unwrap().len(), 10, "requests stay frames of their own");
}

#[test]
fn prepare_sees_frames_in_log_order_and_may_change_or_skip_them() {
    let mut watermark = i64::MIN;
    let prepare: Prepare = Box::new(move |frame| {
        frame.watermark = watermark;
        let first = frame.batch.as_ref().unwrap().column(0).slice(0, 1);
        let first = first.as_any().downcast_ref::<Int64Array>().unwrap().value(0);
        watermark = watermark.max(first);
        frame.meta = b"seen".to_vec();
        match first {
            20 => Admission::Skip,
            30 => {
                *frame = NewFrame { batch: numbers(31, 1).batch, ..frame.clone() };
                Admission::Append
            }
            _ => Admission::Append,
        }
    });
    let storage = MemoryStorage::new();
    let log = open(&storage, LogOptions { tail_bytes: 0, ..small() }).unwrap();
    let appender = appender(log, LIMITS, prepare);
    let (sender, replies) = mpsc::channel();
    for first in [10, 20, 30, 5] {
        let sender = sender.clone();
        appender.submit(vec![numbers(first, 2)], move |reply| sender.send(reply.unwrap()).unwrap());
    }
    appender.shut_down();
    drop(sender);
    let lengths: Vec<u64> = replies.iter().map(|a| a.next.offset - a.first.offset).collect();
    assert_eq!(lengths, [2, 0, 1, 2]);
    let frames = read_all(appender.log()).unwrap();
    let seen: Vec<_> = frames.iter().map(|frame| (values(frame), frame.watermark)).collect();
    assert_eq!(
        seen,
        [(vec![10, 11], i64::MIN), (vec![31], 20), (vec![5, 6], 30)],
        "what was skipped had moved the watermark all the same"
    );
    assert!(frames.iter().all(|frame| frame.meta == b"seen"));
}

#[test]
fn a_full_queue_gives_the_request_back() {
    let (go, _at_gate, prepare) = gated();
    let limits = QueueLimits { rows: 3, bytes: 1 << 20 };
    let appender = appender(open(&MemoryStorage::new(), small()).unwrap(), limits, prepare);
    let (sender, replies) = mpsc::channel();
    let reply = |sender: &mpsc::Sender<_>| {
        let sender = sender.clone();
        move |reply: Result<crate::log::Appended, LogError>| {
            sender.send(reply.unwrap().first.offset).unwrap();
        }
    };
    // The thread may have taken none, some or all of these; then the queue fills for good.
    let mut taken = 0;
    while appender.try_submit(vec![numbers(taken, 1)], reply(&sender)).is_ok() {
        taken += 1;
        assert!(taken < 2_000);
    }
    let back = appender.try_submit(vec![numbers(taken, 1), tick()], reply(&sender)).unwrap_err();
    assert_eq!(back.frames.len(), 2);
    assert!(appender.queued().0 >= 3);
    std::thread::scope(|scope| {
        scope.spawn(|| appender.submit(vec![numbers(taken, 1)], reply(&sender)));
        (0..=taken).for_each(|_| go.send(()).unwrap());
        let offsets: Vec<u64> = (0..=taken).map(|_| replies.recv().unwrap()).collect();
        assert!(offsets.is_sorted());
    });
    assert_eq!(appender.queued(), (0, 0));
}

#[test]
fn tasks_wait_for_room_and_for_their_acknowledgement() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let limits = QueueLimits { rows: 1, bytes: 1 << 20 };
    let log = open(&MemoryStorage::new(), small()).unwrap();
    let appender = Arc::new(appender(log, limits, admit()));
    let offsets = runtime.block_on(async {
        let waiting: Vec<_> = (0..30)
            .map(|n| {
                let appender = Arc::clone(&appender);
                tokio::spawn(async move { appender.submit_async(vec![numbers(n, 1)], false).await })
            })
            .collect();
        let mut offsets = Vec::new();
        for task in waiting {
            offsets.push(task.await.unwrap().unwrap().first.offset);
        }
        offsets.sort_unstable();
        offsets
    });
    assert_eq!(offsets, (0..30).collect::<Vec<_>>());
}

#[test]
fn a_failure_reaches_every_request_of_the_group_and_all_later_ones() {
    let storage = MemoryStorage::new();
    let log = open(&storage, small()).unwrap();
    storage.fail_sync(1);
    let appender = appender(log, LIMITS, admit());
    let (sender, replies) = mpsc::channel();
    for n in 0..5 {
        let sender = sender.clone();
        appender.submit(vec![numbers(n, 1)], move |reply| sender.send(reply.is_err()).unwrap());
    }
    drop(sender);
    appender.shut_down();
    assert_eq!(replies.iter().collect::<Vec<_>>(), [true; 5]);
    assert_eq!(appender.log().visible(), Position::default());
}

#[test]
fn what_comes_after_the_end_or_a_panic_is_refused_and_nobody_waits_for_ever() {
    let closed = |reply: Result<crate::log::Appended, LogError>| {
        assert!(matches!(reply, Err(LogError::Closed { .. })));
    };
    let ended = appender(open(&MemoryStorage::new(), small()).unwrap(), LIMITS, admit());
    ended.shut_down();
    ended.submit(vec![numbers(0, 1)], closed);
    ended.try_submit(vec![numbers(0, 1)], closed).unwrap();

    let log = open(&MemoryStorage::new(), small()).unwrap();
    let broken = appender(log, LIMITS, Box::new(|_| panic!("a fault of the owner")));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let reply = runtime.block_on(broken.submit_async(vec![numbers(0, 1)], false));
    assert!(matches!(reply, Err(LogError::Closed { .. })));
    broken.shut_down();
    broken.submit(vec![numbers(0, 1)], closed);
}

#[test]
fn a_request_that_asks_for_the_write_alone_is_answered_before_the_sync() {
    let storage = MemoryStorage::new();
    let appender = Arc::new(appender(open(&storage, small()).unwrap(), LIMITS, admit()));
    let log = Arc::clone(appender.log());
    let (sender, seen) = mpsc::channel();
    let listener = sender.clone();
    log.listen(Arc::new(move || listener.send("visible").unwrap()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let appended = appender.submit_async(vec![numbers(0, 1)], true).await.unwrap();
        assert_eq!(appended.next.offset, 1);
        sender.send("asked").unwrap();
        assert_eq!(log.appended(), 1);
        let appended = appender.submit_async(vec![numbers(1, 1)], false).await.unwrap();
        assert_eq!(appended.next.offset, 2);
    });
    // What was written becomes durable without another request.
    appender.shut_down();
    assert_eq!(log.visible().offset, 2);
    assert_eq!(seen.try_iter().filter(|news| *news == "visible").count(), 2);
    assert_eq!(open(&storage.crash(7), small()).unwrap().visible().offset, 2);
}
