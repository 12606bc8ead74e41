//! Brings back what the catalog holds when an engine opens: each object, or its place beside those that rest.

use std::sync::Arc;

use crate::catalog::definition;
use crate::catalog::record::{Kind, Record};
use crate::engine::open::{stream_directory, table_directory};
use crate::engine::resting::{has_word, stops_alone};
use crate::engine::start::while_opening;
use crate::engine::state::Engine;
use crate::error::{Error, Result, SqlState};
use crate::fault;
use crate::log::log::Durability;
use crate::log::recover::must_exist;
use crate::sql::parse::parse_statement;
use crate::sql::statement::Statement;

impl Engine {
    /// Brings back every object of the catalog, logs first: the sequence must be known to all of
    /// them before a query writes.
    pub(super) fn recover(self: &Arc<Engine>) -> Result<()> {
        let records = self.store.load();
        let (queries, logs): (Vec<Record>, Vec<Record>) =
            records.into_iter().partition(|record| matches!(record.kind, Kind::Query | Kind::Sink));
        for record in logs {
            self.recover_or_set_aside(record)?;
        }
        let (sinks, queries): (Vec<Record>, Vec<Record>) =
            queries.into_iter().partition(|record| record.kind == Kind::Sink);
        self.recover_queries(queries)?;
        self.skip_sequences();
        self.begin_epochs()?;
        self.start_queries()?;
        for query in self.registry.read().queries_in_order() {
            query.wake();
        }
        sinks.into_iter().try_for_each(|record| self.recover_or_set_aside(record))
    }

    /// Brings queries back; one that was replaced may read one that was made after it.
    fn recover_queries(self: &Arc<Engine>, mut queries: Vec<Record>) -> Result<()> {
        while !queries.is_empty() {
            let count = queries.len();
            let mut waiting = Vec::new();
            for record in queries {
                match self.recover_one(record.clone()) {
                    Err(error) if error.code() == SqlState::UNDEFINED_RELATION => {
                        waiting.push((record, error));
                    }
                    Err(error) if error.code() == SqlState::CORRUPT => {
                        self.set_aside(record, &error)?;
                    }
                    done => done?,
                }
            }
            if waiting.len() == count {
                // What one of them names is gone, and is none of the others. Those above it are told so.
                let names_another = |(record, _): &(Record, Error)| {
                    let mut others = waiting.iter().filter(|(other, _)| other.name != record.name);
                    others.any(|(other, _)| has_word(&record.sql, &other.name))
                };
                let lowest = waiting.iter().position(|one| !names_another(one)).unwrap_or(0);
                let (record, error) = waiting.remove(lowest);
                self.set_aside(record, &error)?;
            }
            queries = waiting.into_iter().map(|(record, _)| record).collect();
        }
        Ok(())
    }

    /// Brings an object back, or sets it aside if that cannot be.
    fn recover_or_set_aside(self: &Arc<Engine>, record: Record) -> Result<()> {
        match self.recover_one(record.clone()) {
            Err(error)
                if error.code() == SqlState::CORRUPT
                    || record.kind == Kind::Sink && stops_alone(error.code()) =>
            {
                self.set_aside(record, &error)
            }
            done => done,
        }
    }

    /// Brings an object back. A query whose text cannot be planned is set aside, but for one that names what is not
    /// there (yet).
    fn recover_one(self: &Arc<Engine>, record: Record) -> Result<()> {
        fault::at("open.object", &record.name);
        let named = |error: Error| while_opening(error, record.kind, &record.name);
        let statement = match parse_statement(&record.sql).map_err(Error::from).map_err(named) {
            Err(error) if record.kind == Kind::Query => return self.set_aside(record, &error),
            parsed => parsed?,
        };
        match statement {
            Statement::CreateStream(create) => {
                let definition = definition::stream(&create, &definition::NoRelations)?;
                if definition.durability != Durability::Memory {
                    let there = must_exist(&*self.storage, &stream_directory(record.id));
                    there.map_err(Error::from).map_err(named)?;
                }
                let stream = self.open_stream(record.clone(), definition).map_err(named)?;
                self.add_stream(stream);
            }
            Statement::CreateTable(create) => {
                let there = must_exist(&*self.storage, &table_directory(record.id));
                there.map_err(Error::from).map_err(named)?;
                let table =
                    self.open_table(record.clone(), definition::table(&create)?).map_err(named)?;
                self.registry.write().tables.insert(record.name.clone(), table);
            }
            Statement::CreateQuery(create) => {
                let shape = match self.shape_of(&create, &record).map_err(named) {
                    Err(error) if error.code() != SqlState::UNDEFINED_RELATION => {
                        return self.set_aside(record, &error);
                    }
                    shape => shape?,
                };
                let query = self.open_query(record.clone(), shape, None).map_err(named)?;
                self.add_query(query);
            }
            Statement::CreateSink(create) => {
                self.open_sink(record.clone(), &create).map_err(named)?
            }
            _ => {
                return Err(named(Error::new(SqlState::CORRUPT, "catalog holds no definition")));
            }
        }
        Ok(())
    }
}
