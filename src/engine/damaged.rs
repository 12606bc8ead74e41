//! Sets aside what is damaged when the server starts: the relation and its readers rest, the others go on.
//!
//! A relation that is set aside keeps its name, its columns and its files. Whoever asks for it, directly or
//! through a query, is told which file is damaged; DROP removes it. At the next start it is tried again, so a
//! file that is restored from a backup brings it back: what its readers need stays retained until then.
//!
//! # Not here
//!
//! Damage that shows later: a query that meets it stops, a SELECT fails. Damage of the catalog or of the
//! server's own reports: without them nobody knows what there is, and the server does not start.

use std::sync::Arc;

use crate::catalog::definition;
use crate::catalog::persist::{Kind, Record};
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
use crate::planner::plan_continuous;
use crate::planner::relations::{RelationInfo, RelationKind};
use crate::sql::parse::parse_statement;
use crate::sql::statement::{CreateQuery, Statement};

/// Sequences that are left out, for those that the damaged logs may hold.
const SEQUENCES_SKIPPED: u64 = 1 << 40;

/// A relation that is set aside.
#[derive(Debug)]
pub(super) struct Damaged {
    pub record: Record,
    pub info: RelationInfo,
    /// The relations that it needs, with the places where it began to read them.
    needs: Vec<(String, Position)>,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl Damaged {
    /// Why it rests.
    pub(super) fn error(&self) -> Error {
        let error = Error::new(SqlState::CORRUPT, self.message.clone());
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
        format!("{}: {}", SqlState::CORRUPT, self.message)
    }

    pub(super) fn reads(&self, relation: &str) -> bool {
        self.needs.iter().any(|(name, _)| name == relation)
    }
}

impl Registry {
    /// What is set aside of a kind.
    pub(super) fn damaged_of(&self, kind: Kind) -> Vec<&Damaged> {
        self.damaged.values().filter(|damaged| damaged.record.kind == kind).collect()
    }

    /// The earliest place of a relation that a query needs which is set aside.
    pub(super) fn damaged_need(&self, relation: &str) -> Option<Position> {
        let needs = self.damaged.values().flat_map(|damaged| &damaged.needs);
        needs.filter(|(name, _)| name == relation).map(|(_, place)| *place).min()
    }
}

impl Engine {
    /// Brings an object back, or sets it aside if it is damaged.
    pub(super) fn recover_or_set_aside(self: &Arc<Engine>, record: Record) -> Result<()> {
        match self.recover_one(record.clone()) {
            Err(error) if error.code() == SqlState::CORRUPT => self.set_aside(record, &error),
            done => done,
        }
    }

    fn set_aside(self: &Arc<Engine>, record: Record, error: &Error) -> Result<()> {
        let unreadable = || Error::new(SqlState::CORRUPT, "catalog holds no definition");
        let (info, needs) = match parse_statement(&record.sql)? {
            Statement::CreateStream(create) => {
                let definition = definition::stream(&create, &definition::NoRelations)?;
                let schema = Arc::new(with_hidden(&definition.schema));
                (stream_info(&definition, &schema), vec![])
            }
            Statement::CreateTable(create) => (table_info(&definition::table(&create)?), vec![]),
            Statement::CreateQuery(create) => self.query_info(&create, &record)?,
            Statement::CreateSink(create) => {
                let sink = SinkState::failed(record, &create, error);
                self.registry.write().sinks.insert(create.name.clone(), Arc::new(sink));
                return Ok(());
            }
            _ => return Err(while_opening(unreadable(), record.kind, &record.name)),
        };
        let (kind, name) = (record.kind.noun(), record.name.clone());
        tracing::error!("{kind} \"{name}\" is damaged and set aside: {}", error.message());
        let (message, detail) = (error.message(), error.detail());
        let hint = error.hint().unwrap_or_else(|| {
            "Restore the file from a backup and start again, or drop what is damaged.".into()
        });
        let damaged = Damaged { record, info, needs, message, detail, hint: Some(hint) };
        self.registry.write().damaged.insert(name, damaged);
        Ok(())
    }

    /// What the planner needs to know of a query that does not run, and what it reads.
    fn query_info(
        &self,
        create: &CreateQuery,
        record: &Record,
    ) -> Result<(RelationInfo, Vec<(String, Position)>)> {
        let options = definition::query_options(create)?;
        let plan = self.planning(|lookup| {
            plan_continuous(&create.query, &create.emit, options.require_bounded_state, lookup)
        })?;
        let mut needs: Vec<(String, Position)> = Vec::new();
        each_source(&plan, &mut |source| {
            let &(frame, offset) = record.start.get(needs.len()).unwrap_or(&(0, 0));
            needs.push((source.relation.to_string(), Position { frame, offset }));
        });
        let late = create.emit.late_rows_to.iter().cloned();
        needs.extend(late.map(|name| (name, Position { frame: u64::MAX, offset: u64::MAX })));
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

    /// Keeps new sequences above all that a log may hold which nobody could read.
    pub(super) fn skip_sequences(&self) {
        if !self.registry.read().damaged.is_empty() {
            self.sequencer.skip(SEQUENCES_SKIPPED);
        }
    }
}
