//! Keeps the reports of the server short: of dead letters, late rows and shed rows the newest are kept.
//!
//! The figures of streams count what is gone, too. Before the oldest rows of a report go, a control record
//! behind them says how many of each stream's they are, since the stream began, and up to which frame it has
//! counted: so a crash between the two counts nothing twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::recounts::{Counted, each_batch};
use crate::engine::state::Engine;
use crate::error::{Error, Result, SqlState};
use crate::log::frame::{FrameKind, NewFrame};
use crate::log::log::Log;
use crate::log::retention::RetentionRequest;

/// What of a report is gone.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Gone {
    /// Rows of frames below this one are counted here.
    pub before: u64,
    /// Stream, the frame of the report at which it began, and its rows.
    pub rows: Vec<(String, u64, u64)>,
}

impl Gone {
    /// What the newest control record of a report says.
    pub(super) fn read(report: &Log) -> Result<Gone> {
        let records = report.summaries(|kind| kind == FrameKind::Progress)?;
        let Some(newest) = records.last() else { return Ok(Gone::default()) };
        serde_json::from_slice(&newest.meta).map_err(|error| {
            let message = format!("control record of report \"{}\" is damaged", report.name());
            Error::new(SqlState::CORRUPT, message).with_detail(error.to_string())
        })
    }

    /// Rows of a stream that began at a frame of the report.
    pub(super) fn of(&self, stream: &str, begin: u64) -> u64 {
        let own = self.rows.iter().filter(|(name, at, _)| name == stream && *at == begin);
        own.map(|(.., rows)| rows).sum()
    }
}

impl Engine {
    /// Removes the oldest rows of reports that have become too long; how many reports lost something.
    pub(super) fn trim_reports(&self) -> Result<usize> {
        let reports = &self.reports;
        let counted = [(&reports.dead_letters, Counted::Rejected), (&reports.shed, Counted::Shed)];
        let mut trimmed = 0;
        for (report, what) in counted {
            trimmed += usize::from(self.trim_report(report, what)?);
        }
        let removed = reports.late_rows.retain(self.too_much())?;
        Ok(trimmed + usize::from(removed.frames > 0))
    }

    fn too_much(&self) -> RetentionRequest {
        let max_bytes = Some(self.settings.report_bytes);
        RetentionRequest { max_bytes, ..RetentionRequest::default() }
    }

    fn trim_report(&self, report: &Arc<Log>, what: Counted) -> Result<bool> {
        let end = report.removable(self.too_much());
        if end.frame <= report.start().frame {
            return Ok(false);
        }
        let before = Gone::read(report)?;
        let begins: BTreeMap<String, u64> = {
            let registry = self.registry.read();
            let begin = |name: &String| (name.clone(), what.begin(&registry.streams[name].record));
            registry.streams.keys().map(begin).collect()
        };
        // Of a stream that is no more nobody asks; one that takes its name begins behind the end.
        let kept = |name: &String, begin: &u64| (*begin, before.of(name, *begin));
        let mut rows: BTreeMap<&String, (u64, u64)> =
            begins.iter().map(|(name, begin)| (name, kept(name, begin))).collect();
        each_batch(report, |frame, batch| {
            if (before.before..end.frame).contains(&frame) {
                what.each(batch, |stream, count| {
                    let stream = rows.iter_mut().find(|(name, _)| name.as_str() == stream);
                    if let Some((_, (_, sum))) = stream.filter(|(_, (begin, _))| *begin <= frame) {
                        *sum += count;
                    }
                });
            }
        })?;
        let rows = rows.into_iter().filter(|(_, (_, sum))| *sum > 0);
        let rows = rows.map(|(name, (begin, sum))| (name.clone(), begin, sum)).collect();
        let gone = Gone { before: end.frame, rows };
        let meta = serde_json::to_vec(&gone).expect("names and numbers are always JSON");
        report.append(vec![NewFrame::control(FrameKind::Progress, i64::MIN, meta)], true)?;
        let request = RetentionRequest { needed_from: Some(end), ..self.too_much() };
        Ok(report.retain(request)?.frames > 0)
    }
}
