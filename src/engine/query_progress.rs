//! Tells subscribers how far a query has come, and why it goes no further.

use std::sync::atomic::Ordering;

use crate::engine::query::{QueryState, Status};
use crate::error::{Error, SqlState};
use crate::views::subscription::Progress;

impl Progress for QueryState {
    fn watermark(&self) -> i64 {
        self.figures.watermark.load(Ordering::Relaxed)
    }

    fn show_watermark(&self, watermark: i64) -> serde_json::Value {
        if watermark == i64::MIN {
            return serde_json::Value::Null;
        }
        if self.shape().logical_time {
            return watermark.into();
        }
        match chrono::DateTime::from_timestamp_micros(watermark) {
            Some(time) => time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true).into(),
            // The end of time: everything is closed.
            None => "infinity".into(),
        }
    }

    fn ended(&self) -> Option<Error> {
        match &*self.status.lock() {
            Status::Running | Status::Paused => None,
            Status::Failed { code, message } => Some(Error::new(*code, message.clone())),
            Status::Replaced => Some(
                Error::new(
                    SqlState::SNAPSHOT_MISMATCH,
                    format!(
                        "continuous query \"{}\" was replaced and has other columns",
                        self.name
                    ),
                )
                .with_hint("Subscribe again."),
            ),
            Status::Dropped => Some(Error::new(
                SqlState::UNDEFINED_RELATION,
                format!("continuous query \"{}\" was dropped", self.name),
            )),
        }
    }
}
