//! Gathers the requests of many clients into groups, so that one sync acknowledges all of them.
//!
//! ```text
//!   submit ──┐                      ┌───────────── one writer per stream ─────────────┐
//!   submit ──┼─▶ bounded queue ───▶ │ take all ─▶ prepare each ─▶ append, sync ─▶ reply │
//!   submit ──┘   (rows, bytes)      └────────────────────────────────────────────────┘
//! ```
//! While a group is being synced the next one gathers in the queue, so the group's size follows the
//! load: one request at a time when idle, hundreds under load, without a timer. Rows are encoded by
//! the threads that submit them; the one thread only places, writes and syncs.

use std::fmt;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, oneshot};

use crate::crew::{Crew, Hired, Turn, Worker};
use crate::log::error::LogError;
use crate::log::frame::NewFrame;
use crate::log::group::{EncodedFrame, as_one_request, shares};
use crate::log::log::{Appended, Durability, Log};
pub use crate::log::queue::QueueLimits;
use crate::log::queue::{Queue, Request};

/// Bytes that are written at once, at most one request more.
const GROUP_BYTES: usize = 8 << 20;

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is appended.
    Append,
    /// It is left out (a repeated request, a batch whose rows were all refused).
    Skip,
}

/// Runs on the appending thread for every frame in log order, just before it gets its place: sets
/// the watermark before the frame, and may replace rows, meta, or leave the frame out.
pub type Prepare = Box<dyn FnMut(&mut NewFrame) -> Admission + Send>;

/// Called with the place of a request's frames once they are as durable as the log, or the request
/// itself, asks for.
pub type Reply = Box<dyn FnOnce(Result<Appended, LogError>) + Send>;

/// The queue is full: the request comes back.
pub struct WouldBlock<R> {
    /// The frames.
    pub frames: Vec<NewFrame>,
    /// The reply, not called.
    pub reply: R,
}

impl<R> fmt::Debug for WouldBlock<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WouldBlock").field("frames", &self.frames.len()).finish_non_exhaustive()
    }
}

/// The door to a log for everybody who appends to it.
#[derive(Debug)]
pub struct Appender {
    shared: Arc<Shared>,
    writer: Mutex<Option<Hired>>,
}

struct Shared {
    log: Arc<Log>,
    crew: Crew,
    queue: Mutex<Queue>,
    /// There is work, or the end has come.
    work: Condvar,
    /// There is room, for threads and for tasks.
    room: Condvar,
    room_for_tasks: Notify,
    /// Tasks wait for room one after the other, so that requests keep their order.
    turn: tokio::sync::Mutex<()>,
}

impl Appender {
    /// Takes on the worker that appends to `log`; `name` is the worker's.
    pub fn start(
        crew: &Crew,
        log: Arc<Log>,
        name: &str,
        limits: QueueLimits,
        prepare: Prepare,
    ) -> std::io::Result<Appender> {
        let shared = Arc::new(Shared {
            log,
            crew: crew.clone(),
            queue: Mutex::new(Queue::new(limits)),
            work: Condvar::new(),
            room: Condvar::new(),
            room_for_tasks: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
        });
        let writer = Writer { closing: Closing(Arc::clone(&shared)), prepare };
        let writer = crew.start(name, Box::new(writer))?;
        Ok(Appender { shared, writer: Mutex::new(Some(writer)) })
    }

    /// The log.
    pub fn log(&self) -> &Arc<Log> {
        &self.shared.log
    }

    /// Rows and bytes that wait to be appended.
    pub fn queued(&self) -> (u64, usize) {
        self.shared.queue.lock().waiting()
    }

    /// Appends the frames as one request, waiting while the queue is full. The reply runs on the
    /// appending thread and must be short; it may run before this returns.
    pub fn submit(
        &self,
        frames: Vec<NewFrame>,
        reply: impl FnOnce(Result<Appended, LogError>) + Send + 'static,
    ) {
        let Some(request) = self.shared.request(frames, Box::new(reply)) else { return };
        let mut queue = self.shared.queue.lock();
        while queue.is_full() {
            self.shared.crew.wait(&self.shared.room, &mut queue);
        }
        self.shared.push(queue, request);
    }

    /// As [`Appender::submit`], but gives the request back where that would wait.
    pub fn try_submit<R: FnOnce(Result<Appended, LogError>) + Send + 'static>(
        &self,
        frames: Vec<NewFrame>,
        reply: R,
    ) -> Result<(), WouldBlock<R>> {
        if self.is_full() {
            return Err(WouldBlock { frames, reply });
        }
        // Between the look and the push others may come: the queue may go beyond its limits by as
        // many requests as there are threads that submit.
        if let Some(request) = self.shared.request(frames, Box::new(reply)) {
            self.shared.push(self.shared.queue.lock(), request);
        }
        Ok(())
    }

    /// As [`Appender::submit`], for tasks: returns when the frames are appended. A task that gives
    /// up while it waits for room has appended nothing; later its frames are appended all the same.
    ///
    /// With `early` it returns when the frames are written, before the sync that makes them durable
    /// and visible.
    pub async fn submit_async(
        &self,
        frames: Vec<NewFrame>,
        early: bool,
    ) -> Result<Appended, LogError> {
        let (sender, receiver) = oneshot::channel();
        // Nobody may wait any more; the frames are appended all the same.
        let reply = move |result| drop(sender.send(result));
        if let Some(mut request) = self.shared.request(frames, Box::new(reply)) {
            request.early = early;
            self.shared.push_when_room(request).await;
        }
        let closed = || LogError::Closed { log: self.shared.log.name().to_owned() };
        receiver.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Whether the next request would have to wait for room.
    pub fn is_full(&self) -> bool {
        self.shared.queue.lock().is_full()
    }

    /// Whether it takes nothing more.
    pub fn is_closed(&self) -> bool {
        self.shared.queue.lock().closed
    }

    /// While the queue is full, takes the requests that have waited longest out of it; each is
    /// answered with [`LogError::Shed`], after `count` was told of their rows. Those that hold more than
    /// rows stay.
    pub fn drop_oldest(&self, count: impl FnOnce(u64)) {
        let shed = self.shared.queue.lock().shed_oldest();
        if !shed.is_empty() {
            count(shed.iter().map(Request::rows).sum());
        }
        let log = self.shared.log.name();
        for request in shed {
            (request.reply)(Err(LogError::Shed { log: log.to_owned() }));
        }
        self.shared.room.notify_all();
        self.shared.room_for_tasks.notify_waiters();
    }

    /// Appends what is queued, refuses what comes later, and ends the writer.
    pub fn shut_down(&self) {
        self.shared.close();
        let writer = self.writer.lock().take();
        // However it ended, every request has its reply.
        writer.into_iter().for_each(Hired::join);
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender").field("log", &self.log).finish_non_exhaustive()
    }
}

/// Appends what others submit.
struct Writer {
    closing: Closing,
    prepare: Prepare,
}

impl Worker for Writer {
    fn turn(&mut self, may_sleep: bool) -> Turn {
        let shared = &self.closing.0;
        match shared.next_group(may_sleep) {
            Ok(group) => {
                shared.append_group(group, &mut self.prepare);
                Turn::Done
            }
            Err(turn) => turn,
        }
    }
}

/// Refuses what is left when the writer ends, in whatever way.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
        let left = self.0.queue.lock().take(usize::MAX);
        for request in left {
            (request.reply)(Err(self.0.closed()));
        }
    }
}

impl Shared {
    /// Encodes a request; a bad one is answered at once.
    fn request(&self, frames: Vec<NewFrame>, reply: Reply) -> Option<Request> {
        let encoded: Result<Vec<_>, _> =
            frames.into_iter().map(|frame| self.log.encode(frame)).collect();
        match encoded {
            Err(error) => {
                reply(Err(error));
                None
            }
            Ok(frames) => Some(Request::new(frames, reply)),
        }
    }

    fn push(&self, mut queue: parking_lot::MutexGuard<'_, Queue>, request: Request) {
        if queue.closed {
            drop(queue);
            (request.reply)(Err(self.closed()));
            return;
        }
        queue.push(request);
        drop(queue);
        self.work.notify_one();
    }

    async fn push_when_room(&self, request: Request) {
        let _turn = self.turn.lock().await;
        loop {
            let room = self.room_for_tasks.notified();
            tokio::pin!(room);
            // Registered before the look, so that room made in between is not missed.
            room.as_mut().enable();
            {
                let queue = self.queue.lock();
                if !queue.is_full() {
                    self.push(queue, request);
                    return;
                }
            }
            room.await;
        }
    }

    fn close(&self) {
        self.queue.lock().closed = true;
        self.work.notify_all();
        self.room.notify_all();
        self.room_for_tasks.notify_waiters();
    }

    fn closed(&self) -> LogError {
        LogError::Closed { log: self.log.name().to_owned() }
    }

    /// The next requests; without any, how the writer's turn ends.
    fn next_group(&self, may_sleep: bool) -> Result<Vec<Request>, Turn> {
        let mut queue = self.queue.lock();
        while queue.is_empty() {
            match (queue.closed, may_sleep) {
                (true, _) => return Err(Turn::Ended),
                (false, true) => self.work.wait(&mut queue),
                (false, false) => return Err(Turn::Idle),
            }
        }
        let group = queue.take(GROUP_BYTES);
        drop(queue);
        self.room.notify_all();
        self.room_for_tasks.notify_waiters();
        Ok(group)
    }

    fn append_group(&self, group: Vec<Request>, prepare: &mut Prepare) {
        let mut frames = Vec::new();
        let mut replies = Vec::new();
        let mut counts = Vec::new();
        for request in group {
            match self.prepare(request.frames, prepare) {
                Ok(prepared) => {
                    replies.push((request.early, request.reply));
                    counts.push(prepared.len());
                    frames.extend(prepared);
                }
                Err(error) => (request.reply)(Err(error)),
            }
        }
        let durable = self.log.durability() == Durability::Durable;
        let two_steps = durable && replies.iter().any(|(early, _)| *early);
        let appended = match self.log.append_encoded(frames, durable && !two_steps) {
            Ok(appended) => shares(&appended, &counts),
            Err(error) => {
                replies.into_iter().for_each(|(_, reply)| reply(Err(error.clone())));
                return;
            }
        };
        let (early, late): (Vec<_>, Vec<_>) =
            replies.into_iter().zip(appended).partition(|((early, _), _)| *early);
        early.into_iter().for_each(|((_, reply), own)| reply(Ok(own)));
        let synced = if two_steps { self.log.sync() } else { Ok(()) };
        for ((_, reply), own) in late {
            reply(synced.clone().map(|()| own));
        }
    }

    /// Lets the owner see each frame; rows that it replaced are encoded again.
    fn prepare(
        &self,
        frames: Vec<EncodedFrame>,
        prepare: &mut Prepare,
    ) -> Result<Vec<EncodedFrame>, LogError> {
        let mut prepared = Vec::with_capacity(frames.len());
        for mut encoded in frames {
            let before = encoded.frame.batch.clone();
            if prepare(&mut encoded.frame) == Admission::Skip {
                continue;
            }
            let same = match (&before, &encoded.frame.batch) {
                (Some(before), Some(now)) => {
                    before.num_rows() == now.num_rows()
                        && before.num_columns() == now.num_columns()
                        && before
                            .columns()
                            .iter()
                            .zip(now.columns())
                            .all(|(a, b)| Arc::ptr_eq(a, b))
                }
                (None, None) => true,
                (None, Some(_)) | (Some(_), None) => false,
            };
            if !same {
                encoded = self.log.encode(encoded.frame)?;
            }
            self.log.check_size(&encoded)?;
            prepared.push(encoded);
        }
        as_one_request(&mut prepared);
        Ok(prepared)
    }
}
