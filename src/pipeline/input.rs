//! One input of a query: its place in a log, and the frames that are read from there on.
//!
//! ```text
//!   the step        works on frames 1 to 8     works on 9 to 16
//!   a helper      reads and decodes 9 to 16  reads and decodes 17 to 24
//! ```
//! What lies in files is read ahead, so that reading and decoding cost a step nothing where a helper is free.
//! Each input that is behind holds two reads in memory so, of about two megabytes or one frame. Frames that readers may see do not change, and none leaves a log before its reader has passed it: it does not matter when they are read.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::crew::helpers::{Begun, Helpers};
use crate::error::Result;
use crate::log::frame::{Frame, Frames, Position};
use crate::pipeline::source::Source;

/// One input of a query with its place in the log.
#[derive(Debug)]
pub struct Input {
    /// What reads the log.
    pub source: Source,
    /// The next frame.
    pub position: Position,
    /// Frames that are read and not yet processed.
    ready: VecDeque<Arc<Frame>>,
    /// Those behind them, and where they begin.
    ahead: Option<(Position, Begun<Result<Frames>>)>,
    helpers: Arc<Helpers>,
}

impl Input {
    /// An input that goes on from a position.
    pub fn new(source: Source, position: Position, helpers: &Arc<Helpers>) -> Input {
        let helpers = Arc::clone(helpers);
        Input { source, position, ready: VecDeque::new(), ahead: None, helpers }
    }

    /// Whether there are frames that are not processed.
    pub fn has_more(&self) -> bool {
        self.source.log().visible().frame > self.position.frame
    }

    /// The sequence of the next frame, if it is there and below the target.
    pub(super) fn peek(&mut self, target: Option<u64>) -> Result<Option<u64>> {
        if target.is_some_and(|frame| self.position.frame >= frame) {
            return Ok(None);
        }
        if self.ready.is_empty() && self.has_more() {
            let frames = self.read()?;
            self.ready.extend(frames);
        }
        Ok(self.ready.front().map(|frame| frame.sequence))
    }

    /// The frame that [`peek`](Self::peek) saw.
    pub(super) fn take(&mut self) -> Arc<Frame> {
        self.ready.pop_front().expect("peek saw a frame")
    }

    fn read(&mut self) -> Result<Frames> {
        // A snapshot may have put the input elsewhere.
        let ahead = self.ahead.take().filter(|(place, _)| *place == self.position);
        // What went wrong some time ago is tried again.
        let frames = match ahead.map(|(_, begun)| begun.wait()) {
            Some(Ok(frames)) => frames,
            Some(Err(_)) | None => self.source.reader().read(self.position)?,
        };
        if let Some(last) = frames.last() {
            let place = Position { frame: last.index + 1, offset: last.next_offset() };
            if self.source.log().is_in_file(place) {
                let reader = self.source.reader();
                self.ahead = Some((place, self.helpers.begin(move || reader.read(place))));
            }
        }
        Ok(frames)
    }
}
