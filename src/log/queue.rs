//! Holds the requests that wait to be appended, within limits.

use std::collections::VecDeque;

use crate::log::append::Reply;
use crate::log::frame::FrameKind;
use crate::log::group::EncodedFrame;

/// How much may wait to be appended. A request is taken while the queue is below both limits, so
/// one request may go beyond them, and none is too large to be taken.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Rows.
    pub rows: u64,
    /// Bytes of rows in memory.
    pub bytes: usize,
}

/// The frames of one call, and who waits for them.
pub(crate) struct Request {
    pub(crate) frames: Vec<EncodedFrame>,
    rows: u64,
    bytes: usize,
    pub(crate) reply: Reply,
    /// The reply waits for the write, not for the sync.
    pub(crate) early: bool,
}

impl Request {
    pub(crate) fn new(frames: Vec<EncodedFrame>, reply: Reply) -> Request {
        let batches = || frames.iter().filter_map(|frame| frame.frame.batch.as_ref());
        let rows = batches().map(|batch| batch.num_rows() as u64).sum();
        let bytes = batches().map(|batch| batch.get_array_memory_size()).sum();
        Request { frames, rows, bytes, reply, early: false }
    }

    /// Rows of all frames.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }
}

/// Requests in the order in which they came.
pub(crate) struct Queue {
    limits: QueueLimits,
    requests: VecDeque<Request>,
    rows: u64,
    bytes: usize,
    pub(crate) closed: bool,
}

impl Queue {
    pub(crate) fn new(limits: QueueLimits) -> Queue {
        Queue { limits, requests: VecDeque::new(), rows: 0, bytes: 0, closed: false }
    }

    /// Rows and bytes that wait.
    pub(crate) fn waiting(&self) -> (u64, usize) {
        (self.rows, self.bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether the next request has to wait.
    pub(crate) fn is_full(&self) -> bool {
        let full = self.rows >= self.limits.rows || self.bytes >= self.limits.bytes;
        !self.closed && !self.requests.is_empty() && full
    }

    pub(crate) fn push(&mut self, request: Request) {
        self.rows += request.rows;
        self.bytes += request.bytes;
        self.requests.push_back(request);
    }

    /// The oldest requests, of together about so many bytes.
    pub(crate) fn take(&mut self, bytes_max: usize) -> Vec<Request> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max
            && let Some(request) = self.requests.pop_front()
        {
            bytes += request.bytes;
            self.bytes -= request.bytes;
            self.rows -= request.rows;
            taken.push(request);
        }
        taken
    }

    /// The oldest requests of nothing but rows, until the queue is no longer full.
    pub(crate) fn shed_oldest(&mut self) -> Vec<Request> {
        let mut shed = Vec::new();
        let mut at = 0;
        while self.is_full() && at < self.requests.len() {
            let rows_only =
                self.requests[at].frames.iter().all(|frame| frame.frame.kind == FrameKind::Rows);
            if !rows_only {
                at += 1;
                continue;
            }
            if let Some(request) = self.requests.remove(at) {
                self.bytes -= request.bytes;
                self.rows -= request.rows;
                shed.push(request);
            }
        }
        shed
    }
}
