//! Reads a query's changelog as a subscriber sees it, and compares two of them.

use std::collections::BTreeMap;

use weir::encode::json::write_ndjson;
use weir::engine::{Engine, OnSlow, SubscribeRequest, SubscriptionFrame};
use weir::sql::statement::SubscribeFrom;

/// A query's changelog from its begin.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Changelog {
    /// Whether the query promises to take nothing back: then the order says nothing of cuts.
    pub(super) append_only: bool,
    /// +1 or -1, and the row.
    pub(super) changes: Vec<(i8, String)>,
}

impl Changelog {
    /// All that is there; an error where offsets have holes or a frame tells of something else.
    pub(super) fn read(engine: &Engine, query: &str) -> Result<Changelog, String> {
        let request = SubscribeRequest {
            from: SubscribeFrom::Earliest,
            snapshot: false,
            on_slow: OnSlow::Block,
        };
        let mut subscription =
            engine.subscribe(query, request).map_err(|error| error.to_string())?;
        let append_only = subscription.hello().append_only;
        let mut changes = Vec::new();
        while let Some(frame) = subscription.poll() {
            match frame {
                SubscriptionFrame::Data { offset, batch, ops } => {
                    if offset != changes.len() as u64 {
                        return Err(format!("{query} goes on at {offset}, not {}", changes.len()));
                    }
                    let mut text = Vec::new();
                    write_ndjson(&batch, &mut text);
                    let text = String::from_utf8(text).unwrap();
                    for (row, line) in text.lines().enumerate() {
                        changes.push((ops.as_ref().map_or(1, |ops| ops[row]), line.to_string()));
                    }
                }
                SubscriptionFrame::Progress { .. } => {}
                other => return Err(format!("{query} is told {other:?}")),
            }
        }
        Ok(Changelog { append_only, changes })
    }

    /// What the changes come to: rows with their number.
    pub(super) fn net(&self) -> BTreeMap<&str, i64> {
        let mut net = BTreeMap::new();
        for (weight, row) in &self.changes {
            *net.entry(row.as_str()).or_insert(0) += i64::from(*weight);
        }
        net.retain(|_, weight| *weight != 0);
        net
    }
}
