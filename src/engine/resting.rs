//! Sets aside what cannot be brought back when the server starts: it and its readers rest, the others go on.
//!
//! That is what is damaged, and a query whose text cannot be read or planned, because another version of the
//! program took it. A relation that is set aside keeps its name, its columns and its files. Whoever asks for it, directly or
//! through a query, is told why, and which file is damaged; DROP removes it. At the next start it is tried again, so a
//! file that is restored from a backup brings it back: what its readers need stays retained until then.
//!
//! # Not here
//!
//! Damage that shows later: a query that meets it stops, a SELECT fails. Damage of the catalog or of the
//! server's own reports: without them nobody knows what there is, and the server does not start.

use std::sync::Arc;

use crate::catalog::definition;
use crate::catalog::record::{Kind, Record};
use crate::data::schema::with_hidden;
use crate::engine::create::each_source;
use crate::engine::registry::Registry;
use crate::engine::sinks::SinkState;
use crate::engine::start::while_opening;
use crate::engine::state::Engine;
use crate::engine::stream::stream_info;
use crate::engine::table::table_info;
use crate::error::{Error, Result, SqlState};
use crate::log::frame::Position;
use crate::planner::relations::{RelationInfo, RelationKind};
use crate::sql::parse::parse_statement;
use crate::sql::print::quote_name;
use crate::sql::statement::{CreateQuery, Statement};

/// Sequences that are left out, for those that logs may hold which were not opened.
const SEQUENCES_SKIPPED: u64 = 1 << 40;

/// Names of relations, each with the place where it began to be read.
type Needs = Vec<(String, Position)>;

/// A relation that is set aside.
#[derive(Debug)]
pub(super) struct Resting {
    pub record: Record,
    /// Nothing where its text cannot be planned.
    pub info: Option<RelationInfo>,
    /// The relations that it needs, where its text can be planned.
    needs: Needs,
    code: SqlState,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl Resting {
    /// Why it rests.
    pub(super) fn error(&self) -> Error {
        let error = Error::new(self.code, self.message.clone());
        let error = match &self.detail {
            Some(detail) => error.with_detail(detail.clone()),
            None => error,
        };
        match &self.hint {
            Some(hint) => error.with_hint(hint.clone()),
            None => error,
        }
    }

    /// The same in one line, as the system relations show it.
    pub(super) fn line(&self) -> String {
        format!("{}: {}", self.code, self.message)
    }

    pub(super) fn name(&self) -> &str {
        &self.record.name
    }

    /// Whether it needs a relation. One whose text cannot be planned needs whatever has the name of a word in it.
    pub(super) fn needs(&self, relation: &str) -> bool {
        self.place_in(relation).is_some()
    }

    /// The place from which on it needs the rows of a relation, if it needs the relation.
    fn place_in(&self, relation: &str) -> Option<Position> {
        if self.record.kind == Kind::Query && self.info.is_none() {
            return has_word(&self.record.sql, relation).then(Position::default);
        }
        let places = self.needs.iter().filter(|(name, _)| name == relation);
        places.map(|(_, place)| *place).min()
    }
}

impl Registry {
    /// What is set aside of a kind.
    pub(super) fn resting_of(&self, kind: Kind) -> Vec<&Resting> {
        self.resting.values().filter(|resting| resting.record.kind == kind).collect()
    }

    /// A query that rests must not come to read another relation than the one that it names.
    pub(super) fn check_not_awaited(&self, name: &str) -> Result<()> {
        match self.resting.values().find(|resting| resting.needs(name)) {
            None => Ok(()),
            Some(resting) => {
                let reader = &resting.record.name;
                let message =
                    format!("continuous query \"{reader}\" names \"{name}\", which is gone");
                let hint = format!("DROP CONTINUOUS QUERY {} CASCADE first.", quote_name(reader));
                Err(Error::new(SqlState::DEPENDENT_OBJECTS, message).with_hint(hint))
            }
        }
    }

    /// The earliest place of a relation that a query needs which is set aside.
    pub(super) fn resting_need(&self, relation: &str) -> Option<Position> {
        self.resting.values().filter_map(|resting| resting.place_in(relation)).min()
    }
}

impl Engine {
    pub(super) fn set_aside(self: &Arc<Engine>, record: Record, error: &Error) -> Result<()> {
        let unreadable = || Error::new(SqlState::CORRUPT, "catalog holds no definition");
        let statement = match parse_statement(&record.sql) {
            Err(_) if record.kind == Kind::Query => None,
            parsed => Some(parsed?),
        };
        let (info, needs) = match statement {
            None => (None, vec![]),
            Some(Statement::CreateStream(create)) => {
                let definition = definition::stream(&create, &definition::NoRelations)?;
                let schema = Arc::new(with_hidden(&definition.schema));
                (Some(stream_info(&definition, &schema)), vec![])
            }
            Some(Statement::CreateTable(create)) => {
                (Some(table_info(&definition::table(&create)?)), vec![])
            }
            Some(Statement::CreateQuery(create)) => match self.query_info(&create, &record) {
                Ok((info, needs)) => (Some(info), needs),
                Err(_) => (None, vec![]),
            },
            Some(Statement::CreateSink(create)) => {
                let sink = SinkState::failed(record, &create, error);
                self.registry.write().sinks.insert(create.name.clone(), Arc::new(sink));
                return Ok(());
            }
            Some(_) => return Err(while_opening(unreadable(), record.kind, &record.name)),
        };
        let (kind, name) = (record.kind.noun(), record.name.clone());
        tracing::error!("{kind} \"{name}\" is set aside: {}", error.message());
        let (code, message, detail) = (error.code(), error.message(), error.detail());
        let hint = match (code, error.hint()) {
            (SqlState::CORRUPT, None) => {
                "Restore the file from a backup and start again, or drop what is damaged.".into()
            }
            (SqlState::CORRUPT, Some(hint)) => hint,
            _ => {
                let drop = format!("DROP {} {}", record.kind.words(), quote_name(&name));
                format!("{drop} CASCADE and create it again, or start the version that took it.")
            }
        };
        let resting = Resting { record, info, needs, code, message, detail, hint: Some(hint) };
        self.registry.write().resting.insert(name, resting);
        Ok(())
    }

    /// What the planner needs to know of a query that does not run, and what it needs.
    fn query_info(&self, create: &CreateQuery, record: &Record) -> Result<(RelationInfo, Needs)> {
        let (plan, named) = self.plan_of(create, &definition::query_options(create)?)?;
        let nothing_of = Position { frame: u64::MAX, offset: u64::MAX };
        let named = named.iter().map(ToString::to_string);
        let late = create.emit.late_rows_to.iter().cloned();
        let mut needs: Needs = named.chain(late).map(|name| (name, nothing_of)).collect();
        let mut starts = record.start.iter();
        each_source(&plan, &mut |source| {
            let &(frame, offset) = starts.next().unwrap_or(&(0, 0));
            needs.push((source.relation.to_string(), Position { frame, offset }));
        });
        let facts = plan.facts;
        let info = RelationInfo {
            name: record.name.as_str().into(),
            kind: RelationKind::Query,
            schema: plan.schema,
            // After a swap rows may have been retracted all the same.
            append_only: facts.append_only && record.swaps == 0,
            event_times: facts.event_times,
            processing_time: false,
            unique_keys: facts.unique_keys,
        };
        Ok((info, needs))
    }

    /// Keeps new sequences above all that a log may hold which nobody has read.
    pub(super) fn skip_sequences(&self) {
        if !self.registry.read().resting.is_empty() {
            self.sequencer.skip(SEQUENCES_SKIPPED);
        }
    }
}

/// Whether a statement names something, perhaps: the name stands in it as a word.
pub(super) fn has_word(sql: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    sql.match_indices(name)
        .any(|(at, _)| !sql[..at].ends_with(part) && !sql[at + name.len()..].starts_with(part))
}

/// Whether a query or sink that cannot go on for this reason stops alone: not where the disk fails under all of them.
pub(super) fn stops_alone(code: SqlState) -> bool {
    !matches!(code, SqlState::IO | SqlState::DISK_FULL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_statement_are_found_whole() {
        let sql = "CREATE CONTINUOUS QUERY q AS SELECT a.\"b c\", año FROM gone JOIN s_1 USING (n)";
        for word in ["q", "a", "b c", "año", "gone", "s_1", "n"] {
            assert!(has_word(sql, word), "{word}");
        }
        for word in ["s", "on", "go", "1", "o", "c\", a", "Gone"] {
            assert!(!has_word(sql, word), "{word}");
        }
    }
}
