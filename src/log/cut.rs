//! Gives up the end of a log: what a query answered to rows that the power took with it.

use std::sync::Arc;

use crate::log::error::LogError;
use crate::log::log::Log;
use crate::log::mark::Mark;
use crate::log::scan::Scanner;

impl Log {
    /// Cuts off the frames from `frame` on. The log is opened again afterwards; after a crash in between
    /// it may be as long as before.
    ///
    /// # Errors
    /// The storage's.
    pub fn cut(self, frame: u64) -> Result<(), LogError> {
        let Some(mut disk) = self.writer.into_inner().disk else { return Ok(()) };
        let segments = self.shared.into_inner().segments;
        let before = segments.partition_point(|segment| segment.number() <= frame);
        let Some(segment) = segments.get(before.saturating_sub(1)) else { return Ok(()) };
        let file = segment.file(&*self.storage)?.expect("nobody removes segments of a lone log");
        let start = segment.first_place();
        let mut scanner = Scanner::new(segment, Arc::clone(&file), start, segment.length());
        while scanner.place().at.frame < frame
            && let Some((header, _)) = scanner.peek_sound()?
        {
            scanner.skip(&header);
        }
        let place = scanner.place();
        // Before the bytes go: below the mark nothing may be missing.
        disk.mark.write(Mark {
            segment: segment.number(),
            position: place.byte,
            next: place.at,
        })?;
        let later = &segments[before.max(1)..];
        for segment in later.iter().rev() {
            let removed = self.storage.remove(&segment.path);
            removed.map_err(|error| LogError::io("remove", &segment.path, &error))?;
        }
        if !later.is_empty() {
            let synced = self.storage.sync_dir(&self.name);
            synced.map_err(|error| LogError::io("sync", &self.name, &error))?;
        }
        let cut = file.set_len(place.byte).and_then(|()| file.sync());
        cut.map_err(|error| LogError::io("cut", &segment.path, &error))
    }
}
