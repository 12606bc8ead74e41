//! Says which answers are not whole, because an error has stopped a query.
//!
//! What a query answered until it stopped is right for the rows that it had read, and silent about all that
//! came since. Whoever asks it, or a query above it, is told so instead of being given that. A query that is
//! paused stands still because somebody wished it to: it is read as it stands, and so is one that has failed
//! once it is paused.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::catalog::record::Kind;
use crate::engine::StatementResult;
use crate::engine::execute::texts;
use crate::engine::query::{QueryState, Status};
use crate::engine::registry::Registry;
use crate::engine::state::Engine;
use crate::error::{Error, Result, SqlState};
use crate::log::frame::FrameKind;
use crate::sql::print::quote_name;
use crate::views::entry_meta::EntryMeta;

/// A query that stands still, and whether an error has stopped it.
struct Still<'a> {
    query: &'a Arc<QueryState>,
    failed: bool,
}

impl Registry {
    /// The nearest query at or below a relation that stands still.
    fn still_below(&self, relation: &str) -> Option<Still<'_>> {
        let mut open = VecDeque::from([relation.to_string()]);
        let mut met = BTreeSet::new();
        while let Some(name) = open.pop_front() {
            let Some(query) = self.queries.get(&name).filter(|_| met.insert(name)) else {
                continue;
            };
            match &*query.status.lock() {
                Status::Failed { .. } => return Some(Still { query, failed: true }),
                Status::Paused => return Some(Still { query, failed: false }),
                _ => open.extend(query.sources().iter().map(ToString::to_string)),
            }
        }
        None
    }

    /// The query that one waits for, in words.
    pub(super) fn waits_for(&self, query: &QueryState) -> Option<String> {
        let sources = query.sources();
        let still = sources.iter().find_map(|source| self.still_below(source))?;
        query.is_running().then(|| format!("query {}", quote_name(still.query.name())))
    }

    /// That the answer of a query is not whole, in one line, if an error has stopped it or one below.
    pub(super) fn stopped_line(&self, query: &str) -> Option<String> {
        let still = self.still_below(query).filter(|still| still.failed)?;
        Some(format!("{}: {}", SqlState::OBJECT_STATE, not_whole(still.query.name(), query)))
    }

    /// Whether the answers of a query are whole up to what it has read.
    ///
    /// # Errors
    /// 55000 when an error has stopped it, or a query below.
    pub(super) fn check_whole(&self, query: &str) -> Result<()> {
        match self.still_below(query).filter(|still| still.failed) {
            Some(still) => Err(why_not_whole(still.query, query)),
            None => Ok(()),
        }
    }
}

impl Engine {
    /// The answer of FLUSH: a row for each query whose results do not hold all input, because it has failed.
    pub(super) fn flushed(&self) -> StatementResult {
        let registry = self.registry.read();
        let (mut names, mut codes, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
        for query in registry.queries.values() {
            if let Status::Failed { code, message } = &*query.status.lock() {
                names.push(query.name().to_string());
                codes.push(code.0.to_string());
                reasons.push(message.clone());
            }
        }
        for resting in registry.resting_of(Kind::Query) {
            names.push(resting.record.name.clone());
            codes.push(resting.error().code().0.to_string());
            reasons.push(resting.error().message());
        }
        if names.is_empty() {
            return StatementResult::command("FLUSH");
        }
        texts("FLUSH", &["query", "code", "reason"], vec![names, codes, reasons])
    }
}

fn not_whole(stopped: &str, asked: &str) -> String {
    if stopped == asked {
        format!("continuous query \"{stopped}\" has stopped")
    } else {
        format!("continuous query \"{asked}\" is fed by \"{stopped}\", which has stopped")
    }
}

fn why_not_whole(stopped: &QueryState, asked: &str) -> Error {
    let name = stopped.name();
    let (code, reason) = match &*stopped.status.lock() {
        Status::Failed { code, message } => (*code, message.clone()),
        _ => (SqlState::OBJECT_STATE, "it goes on by now".to_owned()),
    };
    let quoted = quote_name(name);
    let more = match code {
        SqlState::OUT_OF_MEMORY => {
            format!("ALTER CONTINUOUS QUERY {quoted} SET (memory_limit = …)")
        }
        _ => format!("RESUME {quoted}"),
    };
    Error::new(SqlState::OBJECT_STATE, not_whole(name, asked))
        .with_detail(format!("{code}: {}. {}", reason.trim_end_matches('.'), come_so_far(stopped)))
        .with_hint(format!(
            "{more} lets it go on; PAUSE {quoted} lets what it answered until then be read."
        ))
}

/// Up to where the rows of each input are in the answer.
fn come_so_far(query: &QueryState) -> String {
    let mut reached = query.processed.lock().clone();
    // A replay may have stopped before it came to the end of what is recorded.
    let log = query.changelog.log();
    let entries = |kind| matches!(kind, FrameKind::Rows | FrameKind::Progress);
    let newest = log.visible().frame.checked_sub(1);
    let newest = newest.and_then(|frame| log.summaries_from(frame, entries).ok());
    let recorded = newest.and_then(|frames| EntryMeta::decode(&frames.last()?.meta));
    for (place, recorded) in reached.iter_mut().zip(recorded.iter().flat_map(|m| &m.frontier)) {
        place.offset = place.offset.max(recorded.offset);
    }
    let sources = query.sources();
    let inputs: Vec<String> = sources
        .iter()
        .zip(&reached)
        .map(|(source, place)| format!("\"{source}\" below offset {}", place.offset))
        .collect();
    match inputs.is_empty() {
        true => "It had answered nothing.".into(),
        false => format!("Its answer holds {}.", inputs.join(" and ")),
    }
}
