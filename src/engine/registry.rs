//! Knows what exists by name, and answers the planner's questions about it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::TableSource;

use crate::catalog::record::Kind;
use crate::engine::query::QueryState;
use crate::engine::resting::Resting;
use crate::engine::sinks::SinkState;
use crate::engine::state::Engine;
use crate::engine::stream::StreamState;
use crate::engine::table::TableState;
use crate::error::{Error, Result, SqlState};
use crate::planner::physical::EventTimeColumn;
use crate::planner::relations::{RelationInfo, RelationKind, RelationLookup, RelationSource};

/// Everything that has a name. Streams, tables, queries and sinks share one space of names.
#[derive(Default)]
pub(super) struct Registry {
    pub streams: BTreeMap<String, Arc<StreamState>>,
    pub tables: BTreeMap<String, Arc<TableState>>,
    pub queries: BTreeMap<String, Arc<QueryState>>,
    pub sinks: BTreeMap<String, Arc<SinkState>>,
    /// Streams, tables and queries that are set aside.
    pub resting: BTreeMap<String, Resting>,
}

impl Registry {
    /// The kind of the object of that name.
    pub(super) fn kind_of(&self, name: &str) -> Option<Kind> {
        if self.streams.contains_key(name) {
            Some(Kind::Stream)
        } else if self.tables.contains_key(name) {
            Some(Kind::Table)
        } else if self.queries.contains_key(name) {
            Some(Kind::Query)
        } else if self.sinks.contains_key(name) {
            Some(Kind::Sink)
        } else {
            self.resting.get(name).map(|resting| resting.record.kind)
        }
    }

    /// The number of the object of that kind and name in the catalog.
    pub(super) fn id_of(&self, kind: Kind, name: &str) -> Option<u64> {
        if let Some(resting) = self.resting.get(name) {
            return (resting.record.kind == kind).then_some(resting.record.id);
        }
        match kind {
            Kind::Stream => self.streams.get(name).map(|stream| stream.record.id),
            Kind::Table => self.tables.get(name).map(|table| table.record.id),
            Kind::Query => self.queries.get(name).map(|query| query.record.lock().id),
            Kind::Sink => self.sinks.get(name).map(|sink| sink.record.lock().id),
        }
    }

    /// What the planner needs to know of a relation.
    pub(super) fn info(&self, name: &str) -> Option<RelationInfo> {
        if let Some(stream) = self.streams.get(name) {
            return Some(stream.info());
        }
        if let Some(table) = self.tables.get(name) {
            return Some(table.info());
        }
        let query = self.queries.get(name).map(|query| query.info());
        query.or_else(|| self.resting.get(name)?.info.clone())
    }

    /// The sinks that read a query's changelog; those that can never go on read nothing.
    pub(super) fn sinks_of<'a>(
        &'a self,
        query: &'a str,
    ) -> impl Iterator<Item = &'a Arc<SinkState>> {
        self.sinks.values().filter(move |sink| sink.from == query && !sink.is_over())
    }

    /// Names of the queries whose texts name a relation, and of the sinks that a query feeds.
    pub(super) fn dependants(&self, name: &str) -> Vec<(Kind, String)> {
        let queries = self
            .queries
            .values()
            .filter(|query| {
                let late = query.late_rows_to();
                query.names(name) || late.is_some_and(|stream| &*stream.definition.name == name)
            })
            .map(|query| (Kind::Query, query.name().to_string()));
        let sinks = self
            .sinks
            .values()
            .filter(|sink| sink.from == name)
            .map(|sink| (Kind::Sink, sink.name.clone()));
        let resting = self.resting.values().filter(|resting| resting.needs(name));
        let resting = resting.map(|resting| (resting.record.kind, resting.record.name.clone()));
        queries.chain(resting).chain(sinks).collect()
    }

    /// Queries such that every query comes after those it reads.
    pub(super) fn queries_in_order(&self) -> Vec<Arc<QueryState>> {
        let mut waiting: Vec<(Arc<QueryState>, Vec<Arc<str>>)> =
            self.queries.values().map(|query| (Arc::clone(query), query.sources())).collect();
        waiting.sort_by_key(|(query, _)| query.record.lock().id);
        let mut names: BTreeSet<String> = self.queries.keys().cloned().collect();
        let mut ordered: Vec<Arc<QueryState>> = Vec::with_capacity(waiting.len());
        // A query that was replaced may read one that was made after it.
        while !waiting.is_empty() {
            let (ready, rest): (Vec<_>, Vec<_>) = waiting
                .into_iter()
                .partition(|(_, sources)| !sources.iter().any(|name| names.contains(&**name)));
            assert!(!ready.is_empty(), "no query reads itself, not even through others");
            for (query, _) in ready {
                names.remove(query.name());
                ordered.push(query);
            }
            waiting = rest;
        }
        ordered
    }

    /// The streams that a relation consists of, also through queries.
    pub(super) fn streams_below(&self, name: &str) -> BTreeSet<String> {
        let mut streams = BTreeSet::new();
        let mut open = vec![name.to_string()];
        while let Some(name) = open.pop() {
            if let Some(query) = self.queries.get(&name) {
                open.extend(query.sources().iter().map(ToString::to_string));
            } else if self.streams.contains_key(&name) {
                streams.insert(name);
            }
        }
        streams
    }

    /// Whether rows of a stream reach one of the relations, as late rows of queries or directly.
    pub(super) fn comes_back(&self, stream: &str, relations: &[String]) -> bool {
        let goals: BTreeSet<String> =
            relations.iter().flat_map(|name| self.streams_below(name)).collect();
        let mut reached = BTreeSet::new();
        let mut open = vec![stream.to_string()];
        while let Some(stream) = open.pop() {
            if goals.contains(&stream) {
                return true;
            }
            if !reached.insert(stream.clone()) {
                continue;
            }
            for query in self.queries.values() {
                let late = query.late_rows_to();
                if let Some(late) =
                    late.filter(|_| self.streams_below(query.name()).contains(&stream))
                {
                    open.push(late.definition.name.to_string());
                }
            }
        }
        false
    }
}

impl Engine {
    /// The stream of that name.
    ///
    /// # Errors
    /// 42P01 if there is none, 42809 if the name is another kind of object.
    pub(super) fn stream_state(&self, name: &str) -> Result<Arc<StreamState>> {
        let registry = self.registry.read();
        match registry.streams.get(name) {
            Some(stream) => Ok(Arc::clone(stream)),
            None => Err(wrong_kind(&registry, name, Kind::Stream)),
        }
    }

    /// The query of that name.
    pub(super) fn query_state(&self, name: &str) -> Result<Arc<QueryState>> {
        let registry = self.registry.read();
        match registry.queries.get(name) {
            Some(query) => Ok(Arc::clone(query)),
            None => Err(wrong_kind(&registry, name, Kind::Query)),
        }
    }
}

/// Why a name does not stand for an object of the wanted kind.
pub(super) fn wrong_kind(registry: &Registry, name: &str, wanted: Kind) -> Error {
    if let Some(resting) = registry.resting.get(name) {
        return resting.error();
    }
    match registry.kind_of(name) {
        Some(kind) => Error::new(
            SqlState::WRONG_OBJECT,
            format!("\"{name}\" is a {}, not a {}", kind.noun(), wanted.noun()),
        ),
        None => Error::new(
            SqlState::UNDEFINED_RELATION,
            format!("{} \"{name}\" does not exist", wanted.noun()),
        )
        .with_hint(format!("SHOW {} lists what exists.", plural(wanted))),
    }
}

fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Stream => "STREAMS",
        Kind::Table => "TABLES",
        Kind::Query => "QUERIES",
        Kind::Sink => "SINKS",
    }
}

/// The planner's view of the registry: nothing in it can be scanned.
pub(super) struct Planning<'a>(pub &'a Registry);

impl RelationLookup for Planning<'_> {
    fn relation(&self, name: &str) -> Option<RelationInfo> {
        self.0.info(name).or_else(|| system_info(name))
    }

    fn at_rest(&self, name: &str) -> Option<Error> {
        self.0.resting.get(name).map(|resting| resting.error())
    }

    fn names(&self) -> Vec<String> {
        let registry = self.0;
        let running = registry.streams.keys().chain(registry.tables.keys());
        running.chain(registry.queries.keys()).chain(registry.resting.keys()).cloned().collect()
    }
}

/// The planner's view for one-off SELECTs: every relation can be scanned as it stands now.
pub(super) struct Scanning<'a> {
    pub engine: &'a Engine,
    pub registry: &'a Registry,
    /// Why a relation cannot be scanned; DataFusion's interface has no place for it.
    pub failure: parking_lot::Mutex<Option<Error>>,
}

impl RelationLookup for Scanning<'_> {
    fn relation(&self, name: &str) -> Option<RelationInfo> {
        Planning(self.registry).relation(name)
    }

    fn at_rest(&self, name: &str) -> Option<Error> {
        Planning(self.registry).at_rest(name)
    }

    fn names(&self) -> Vec<String> {
        Planning(self.registry).names()
    }

    fn source(&self, info: &RelationInfo) -> Arc<dyn TableSource> {
        match self.engine.provider(self.registry, info) {
            Ok(provider) => provider_as_source(provider),
            Err(error) => {
                *self.failure.lock() = Some(error);
                Arc::new(RelationSource { info: info.clone() })
            }
        }
    }
}

fn system_info(name: &str) -> Option<RelationInfo> {
    let schema = super::system::schema_of(name)?;
    Some(RelationInfo {
        name: name.into(),
        kind: RelationKind::System,
        schema,
        append_only: false,
        event_times: Vec::<EventTimeColumn>::new(),
        processing_time: false,
        unique_keys: vec![],
    })
}
