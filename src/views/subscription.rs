//! Hands a changelog to one subscriber: a snapshot if asked, then every change from an offset on.
//!
//! A subscriber holds nothing but a position, so a slow one costs its neighbours nothing: it lags in
//! the log. What happens then is its own choice ([`OnSlow`]).
//!
//! Where the power has taken entries that somebody may have seen, a void frame stands in the log. It is told
//! as a gap from its own beginning on, also to a subscriber that stands inside: what that one has seen
//! from there on is void.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tokio::sync::Notify;

use crate::error::{Error, Result, SqlState};
use crate::log::frame::{FrameKind, Position};
use crate::sql::statement::SubscribeFrom;
use crate::views::changelog::{Changelog, Entry};
use crate::views::entry_meta::{in_words, new_level};
use crate::views::net_effect::{net_effect, signs};
use crate::views::result_view::ResultView;

/// Rows sent in one frame at most.
const FRAME_ROWS: usize = 8_192;
/// Rows behind the head from which `drop` and `conflate` act, or about so many bytes of the changelog.
const SLOW_ROWS: u64 = 65_536;
const SLOW_BYTES: u64 = 64 << 20;
/// Changes that are conflated into one frame, about: they are all held meanwhile.
const CONFLATED_ROWS: u64 = 1 << 20;
/// A progress frame comes at least this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// What happens to a subscriber that falls behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnSlow {
    /// It lags, alone, and sees everything.
    #[default]
    Block,
    /// It skips to the head, and is told so by a gap.
    Drop,
    /// It gets the net effect of what it missed; of rows that are never taken back it sees all.
    Conflate,
}

/// What a subscriber asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct SubscribeRequest {
    /// Where to begin; with `snapshot`, right after the snapshot.
    pub from: SubscribeFrom,
    /// Whether the current result comes first.
    pub snapshot: bool,
    /// What happens when it falls behind.
    pub on_slow: OnSlow,
}

/// What a subscriber is told first.
#[derive(Debug, Clone)]
pub struct Hello {
    /// The query.
    pub query: String,
    /// Columns of the rows to come.
    pub schema: SchemaRef,
    /// Whether no row is ever retracted.
    pub append_only: bool,
    /// The next offset to come.
    pub offset: u64,
}

/// What a subscriber is told then.
#[derive(Debug)]
pub enum SubscriptionFrame {
    /// The result at `offset`.
    Snapshot {
        /// Its rows.
        batches: Vec<RecordBatch>,
        /// The next offset to come.
        offset: u64,
    },
    /// Changes.
    Data {
        /// Offset of the first row.
        offset: u64,
        /// The rows.
        batch: RecordBatch,
        /// Per row +1 or −1; `None`: insertions only.
        ops: Option<Vec<i8>>,
    },
    /// How far the query has come.
    Progress {
        /// Its watermark as it is shown: a time, a number, or null while there is none.
        watermark: serde_json::Value,
        /// The next offset to come.
        offset: u64,
    },
    /// Offsets that this subscriber does not see.
    Gap {
        /// The first one.
        from: u64,
        /// The one after the last.
        to: u64,
        /// Why.
        reason: String,
    },
    /// The subscription has ended.
    Error(Error),
}

/// What a subscription asks the query that it hangs on.
pub trait Progress: Send + Sync {
    /// The watermark of the answers, `i64::MIN` while there is none.
    fn watermark(&self) -> i64;
    /// A watermark as clients see it: RFC 3339 for a time, a number for logical time, null for none.
    fn show_watermark(&self, watermark: i64) -> serde_json::Value;
    /// Why the query has stopped for good, if it has.
    fn ended(&self) -> Option<Error>;
}

/// One subscriber's way through a changelog.
pub struct Subscription {
    hello: Hello,
    view: Arc<ResultView>,
    changelog: Arc<Changelog>,
    query: Arc<dyn Progress>,
    bell: Arc<Notify>,
    on_slow: OnSlow,
    /// The next offset to send, and a frame at or before it.
    next: u64,
    frame: u64,
    pending: std::collections::VecDeque<SubscriptionFrame>,
    told_watermark: i64,
    /// There was nothing to tell when it looked last.
    waits: bool,
    /// What came while it waited ends here: in that it is not behind, however much it is.
    came_at_once: u64,
    ended: bool,
    _counted: Arc<()>,
}

impl Subscription {
    /// Begins a subscription. `bell` rings whenever the changelog or the watermark has moved.
    ///
    /// # Errors
    /// WR004 for an offset that lies beyond the head.
    pub fn begin(
        query: &str,
        view: Arc<ResultView>,
        progress: Arc<dyn Progress>,
        bell: Arc<Notify>,
        request: SubscribeRequest,
    ) -> Result<Subscription> {
        let changelog = Arc::clone(view.changelog());
        let log = changelog.log();
        let (earliest, head) = (log.start(), log.visible());
        let mut pending = std::collections::VecDeque::new();
        let mut next = match request.from {
            SubscribeFrom::Now => head.offset,
            SubscribeFrom::Earliest => earliest.offset,
            SubscribeFrom::Offset(offset) => offset,
        };
        if request.snapshot {
            let (batches, position) = view.snapshot()?;
            next = position.offset;
            pending.push_back(SubscriptionFrame::Snapshot { batches, offset: next });
        } else if next > head.offset {
            return Err(Error::new(
                SqlState::OFFSET_NOT_RETAINED,
                format!("offset {next} of continuous query \"{query}\" does not exist yet"),
            )
            .with_detail(format!("The next offset is {}.", head.offset)));
        } else if next < earliest.offset {
            let to = earliest.offset;
            let reason = "retention".to_string();
            pending.push_back(SubscriptionFrame::Gap { from: next, to, reason });
            next = to;
        }
        let hello = Hello {
            query: query.to_string(),
            schema: Arc::clone(changelog.schema()),
            append_only: changelog.append_only(),
            offset: next,
        };
        let mut frame = log.position_of_offset(next)?.frame;
        if next >= head.offset {
            frame = frame.max(head.frame);
            let level = Some(changelog.level()).filter(|level| *level > 0);
            pending.extend(level.map(|level| sampled(next, level)));
        }
        Ok(Subscription {
            hello,
            _counted: view.follow(),
            view,
            changelog,
            query: progress,
            bell,
            on_slow: request.on_slow,
            next,
            frame,
            pending,
            told_watermark: i64::MIN,
            waits: false,
            came_at_once: 0,
            ended: false,
        })
    }

    /// What to tell first.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// The next frame, waiting for it; `None` after an error frame. Cancel-safe.
    pub async fn next(&mut self) -> Option<SubscriptionFrame> {
        loop {
            let bell = Arc::clone(&self.bell);
            let rung = bell.notified();
            tokio::pin!(rung);
            // Armed before looking, so that nothing that happens in between is missed.
            rung.as_mut().enable();
            if let Some(frame) = self.poll() {
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            if tokio::time::timeout(PROGRESS_EVERY, rung).await.is_err() {
                return Some(self.progress());
            }
        }
    }

    /// The next frame if there is one now.
    pub fn poll(&mut self) -> Option<SubscriptionFrame> {
        if let Some(frame) = self.pending.pop_front() {
            return Some(frame);
        }
        if self.ended {
            return None;
        }
        match self.read() {
            Ok(Some(frame)) => return Some(frame),
            Ok(None) => self.waits = true,
            Err(error) => {
                self.ended = true;
                return Some(SubscriptionFrame::Error(error));
            }
        }
        if self.query.watermark() != self.told_watermark {
            return Some(self.progress());
        }
        let error = self.query.ended()?;
        self.ended = true;
        Some(SubscriptionFrame::Error(error))
    }

    fn progress(&mut self) -> SubscriptionFrame {
        self.told_watermark = self.query.watermark();
        let watermark = self.query.show_watermark(self.told_watermark);
        SubscriptionFrame::Progress { watermark, offset: self.next }
    }

    /// Reads on in the changelog, and queues the frames that come of it.
    fn read(&mut self) -> Result<Option<SubscriptionFrame>> {
        let head = self.changelog.log().visible();
        if head.offset <= self.next && !self.changelog.adapts() {
            self.frame = self.frame.max(head.frame);
            return Ok(None);
        }
        if head.offset > self.next && std::mem::take(&mut self.waits) {
            self.came_at_once = head.offset;
        }
        let earliest = self.changelog.log().start();
        if self.next < earliest.offset {
            let gap = self.gap(earliest, "retention");
            return Ok(Some(gap));
        }
        // Until there is something to tell: control records tell nothing.
        while self.frame < head.frame {
            let frames = self.changelog.read(self.position(), FRAME_ROWS)?;
            if let Some(void) = frames.first().filter(|frame| frame.kind == FrameKind::Void) {
                let (from, to) = (void.first_offset, void.next_offset());
                self.frame = void.index + 1;
                self.next = self.next.max(to);
                let reason = "power loss".into();
                return Ok(Some(SubscriptionFrame::Gap { from, to, reason }));
            }
            let void = frames.iter().find(|frame| frame.kind == FrameKind::Void);
            let rows = void.map_or(head.offset, |void| void.first_offset).saturating_sub(self.next);
            match self.on_slow {
                OnSlow::Drop if self.is_behind(rows) => {
                    let gap = self.gap(head, "slow");
                    self.tell_level();
                    return Ok(Some(gap));
                }
                // Nothing cancels out where nothing is taken back.
                OnSlow::Conflate if !self.changelog.append_only() && self.is_behind(rows) => {
                    return self.conflate(head);
                }
                OnSlow::Block | OnSlow::Drop | OnSlow::Conflate => {}
            }
            for frame in frames.iter().take_while(|frame| frame.kind != FrameKind::Void) {
                self.frame = frame.index + 1;
                let entry = self.changelog.entry(frame).and_then(|e| e.from_offset(self.next));
                if let Some(entry) = entry {
                    self.next = entry.first_offset + entry.batch.num_rows() as u64;
                    self.queue(&entry);
                }
                let level = new_level(&frame.meta).filter(|_| frame.next_offset() >= self.next);
                self.pending.extend(level.map(|level| sampled(frame.next_offset(), level)));
            }
            if let Some(first) = self.pending.pop_front() {
                return Ok(Some(first));
            }
        }
        Ok(None)
    }

    /// Whether so many rows are too many to be behind.
    fn is_behind(&self, rows: u64) -> bool {
        let log = self.changelog.log();
        let all = log.visible().offset.saturating_sub(log.start().offset).max(1);
        let bytes = u128::from(log.bytes()) * u128::from(rows) / u128::from(all);
        self.next >= self.came_at_once && (rows > SLOW_ROWS || bytes > u128::from(SLOW_BYTES))
    }

    fn position(&self) -> Position {
        Position { frame: self.frame, offset: self.next }
    }

    /// Cuts an entry into frames that a client can take in one piece.
    fn queue(&mut self, entry: &Entry) {
        let rows = entry.batch.num_rows();
        for start in (0..rows).step_by(FRAME_ROWS) {
            let length = FRAME_ROWS.min(rows - start);
            let ops = entry.weights.as_ref().map(|weights| signs(&weights.slice(start, length)));
            self.pending.push_back(SubscriptionFrame::Data {
                offset: entry.first_offset + start as u64,
                batch: entry.batch.slice(start, length),
                ops,
            });
        }
    }

    /// What was passed over may have said it.
    fn tell_level(&mut self) {
        if self.changelog.adapts() {
            self.pending.push_back(sampled(self.next, self.changelog.level()));
        }
    }

    fn gap(&mut self, to: Position, reason: &str) -> SubscriptionFrame {
        let from = self.next;
        (self.next, self.frame) = (to.offset, to.frame);
        SubscriptionFrame::Gap { from, to: to.offset, reason: reason.into() }
    }

    /// The net effect of what comes next, at most up to the head, as one frame: a part of it would be no
    /// result that ever was. A gap in which nothing is missing says so before it.
    fn conflate(&mut self, head: Position) -> Result<Option<SubscriptionFrame>> {
        let mut entries = Vec::new();
        let mut position = self.position();
        while position.frame < head.frame && position.offset - self.next < CONFLATED_ROWS {
            let mut frames = self.changelog.read(position, FRAME_ROWS)?;
            if let Some(void) = frames.iter().position(|frame| frame.kind == FrameKind::Void) {
                frames.truncate(void);
            }
            let Some(last) = frames.last() else { break };
            position = Position { frame: last.index + 1, offset: last.next_offset() };
            let rows = frames.iter().filter_map(|frame| self.changelog.entry(frame));
            entries.extend(rows.filter_map(|entry| entry.from_offset(self.next)));
        }
        let from = std::mem::replace(&mut self.next, position.offset);
        self.frame = position.frame;
        let (batch, weights) = net_effect(self.view.changelog().schema(), &entries)?;
        // The net effect has no more rows than there were changes. It ends at the head, so that a
        // client that counts its rows goes on there and sees nothing twice.
        let offset = self.next - batch.num_rows() as u64;
        let reason =
            format!("conflate: what comes next is the net effect up to offset {}", self.next);
        self.pending.push_back(SubscriptionFrame::Gap { from, to: from, reason });
        if batch.num_rows() > 0 {
            let ops = (!self.hello.append_only).then(|| signs(&weights));
            self.pending.push_back(SubscriptionFrame::Data { offset, batch, ops });
        }
        self.tell_level();
        let progress = self.progress();
        self.pending.push_back(progress);
        Ok(self.pending.pop_front())
    }
}

/// From `offset` on the answer is that of a sample, or again that of all rows: a gap in which nothing is
/// missing says so.
fn sampled(offset: u64, level: u8) -> SubscriptionFrame {
    let reason = format!("memory: from here on {}", in_words(level));
    SubscriptionFrame::Gap { from: offset, to: offset, reason }
}
