//! Shows how far the recordings have come, and the answers as they stand.

use std::io::Write;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::client::demo::recording::Recording;
use crate::error::Result;

/// Where no terminal can be redrawn, the answers are written again after so many looks.
const LOOKS_PER_PRINT: u32 = 20;

/// What is drawn.
pub(super) struct Screen {
    all: MultiProgress,
    tables: ProgressBar,
    bars: Vec<ProgressBar>,
    looks: u32,
}

impl Screen {
    /// A bar for each recording, below the answers.
    pub(super) fn new(recordings: &[Recording]) -> Screen {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let style = |template| {
            ProgressStyle::with_template(template)
                .expect("the template is a constant that is right")
        };
        let tables = all.add(ProgressBar::new_spinner());
        tables.set_style(style("{msg}"));
        let bars = recordings
            .iter()
            .map(|recording| {
                let bar = all.add(ProgressBar::new(recording.bytes() as u64));
                bar.set_style(style("{prefix:>15} {bar:40} {msg:>8} rows"));
                bar.set_prefix(recording.stream.name().to_string());
                bar
            })
            .collect();
        Screen { all, tables, bars, looks: 0 }
    }

    /// Draws the bars.
    pub(super) fn progress(&self, recordings: &[Recording]) {
        for (bar, recording) in self.bars.iter().zip(recordings) {
            bar.set_position(recording.sent() as u64);
            bar.set_message(recording.accepted.to_string());
        }
    }

    /// Draws the answers; without a terminal, writes them now and then.
    pub(super) fn answers(&mut self, text: String, out: &mut (dyn Write + Send)) -> Result<()> {
        self.looks += 1;
        if !self.all.is_hidden() {
            self.tables.set_message(text);
        } else if self.looks.is_multiple_of(LOOKS_PER_PRINT) {
            super::say(out, &text)?;
        }
        Ok(())
    }

    /// Takes the bars away.
    pub(super) fn end(&self) {
        for bar in &self.bars {
            bar.finish_and_clear();
        }
        self.tables.finish_and_clear();
    }
}
