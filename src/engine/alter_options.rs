//! Changes the options of a stream or a continuous query that runs: ALTER … SET and RESET.
//!
//! The statement that the catalog holds gets the new options and is checked as CREATE would check it; then
//! what runs takes them over. Rows that are in the log stay as they are, and no state is touched.

use std::sync::Arc;

use crate::catalog::definition;
use crate::engine::StatementResult;
use crate::engine::create::query_text;
use crate::engine::open::{log_options, stream_log_options};
use crate::engine::query::Status;
use crate::engine::state::Engine;
use crate::engine::stream::StreamOptions;
use crate::error::{Error, Result, SqlState};
use crate::sql::parse::parse_statement;
use crate::sql::print::print;
use crate::sql::statement::{AlterOptions, ObjectKind, OptionItem, Statement};

impl Engine {
    /// ALTER … SET, ALTER … RESET.
    pub(super) fn alter(self: &Arc<Engine>, alter: &AlterOptions) -> Result<StatementResult> {
        match alter.kind {
            ObjectKind::Stream => self.alter_stream(alter),
            ObjectKind::Query => self.alter_query(alter),
            ObjectKind::Table => Err(fixed("a table", "A table has no options.")),
            ObjectKind::Sink => Err(fixed("a sink", "DROP the sink and create it again.")),
        }
    }

    fn alter_stream(&self, alter: &AlterOptions) -> Result<StatementResult> {
        let stream = self.stream_state(&alter.name)?;
        refuse(alter, "durability", "a stream", "Create another stream, and INSERT into it.")?;
        let mut options = stream.options.write();
        let Statement::CreateStream(mut create) = parse_statement(&options.sql)? else {
            return Err(Error::new(SqlState::CORRUPT, "catalog holds no definition"));
        };
        apply(&mut create.options, alter)?;
        let definition = self.planning(|lookup| definition::stream(&create, lookup))?;
        let mut record = stream.record.clone();
        record.sql = print(&Statement::CreateStream(create));
        self.store.put(&record)?;
        let log = stream_log_options(&definition, log_options(&self.settings));
        stream.log.seal_at(log.segment_bytes, log.segment_micros);
        *options = StreamOptions::of(&definition, record.sql);
        drop(options);
        self.room.notify_waiters();
        Ok(StatementResult::command("ALTER STREAM"))
    }

    fn alter_query(self: &Arc<Engine>, alter: &AlterOptions) -> Result<StatementResult> {
        let query = self.query_state(&alter.name)?;
        let hint = "Use CREATE OR REPLACE, which computes the answer from there.";
        refuse(alter, "start", "a continuous query", hint)?;
        let mut record = query.record.lock().clone();
        let Statement::CreateQuery(mut create) = parse_statement(&record.sql)? else {
            return Err(Error::new(SqlState::CORRUPT, "catalog holds no definition"));
        };
        apply(&mut create.options, alter)?;
        record.sql = query_text(&create);
        let shape = self.shape_of(&create, &record)?;
        self.store.put(&record)?;
        *query.record.lock() = record;
        if let Some(run) = &mut *query.run.lock() {
            run.memory_limit = shape.options.memory_limit;
            run.shedding.allowed = shape.options.sheds;
        }
        query.set_shape(shape);
        let starved = matches!(&*query.status.lock(),
            Status::Failed { code, .. } if *code == SqlState::OUT_OF_MEMORY);
        if starved {
            // It stopped at its limit, which may be another one now.
            self.resume(&alter.name)?;
        }
        Ok(StatementResult::command("ALTER CONTINUOUS QUERY"))
    }
}

/// The options as they will be.
fn apply(options: &mut Vec<OptionItem>, alter: &AlterOptions) -> Result<()> {
    for name in &alter.reset {
        let known: &[&str] = match alter.kind {
            ObjectKind::Stream => &definition::STREAM_OPTIONS,
            _ => &definition::QUERY_OPTIONS,
        };
        if !known.contains(&name.as_str()) {
            let message = format!("option \"{name}\" is not known");
            return Err(Error::new(SqlState::INVALID_PARAMETER, message)
                .with_hint(format!("Options are: {}.", known.join(", "))));
        }
        options.retain(|option| option.name != *name);
    }
    for item in &alter.set {
        match options.iter_mut().find(|option| option.name == item.name) {
            Some(option) => option.value = item.value.clone(),
            None => options.push(item.clone()),
        }
    }
    Ok(())
}

/// Refuses what is part of what was made when the object was.
fn refuse(alter: &AlterOptions, option: &str, what: &str, hint: &str) -> Result<()> {
    let names = alter.set.iter().map(|item| &item.name).chain(&alter.reset);
    if names.into_iter().any(|name| name == option) {
        return Err(fixed(&format!("option \"{option}\" of {what}"), hint));
    }
    Ok(())
}

fn fixed(what: &str, hint: &str) -> Error {
    Error::new(SqlState::NOT_SUPPORTED, format!("{what} cannot be altered")).with_hint(hint)
}
