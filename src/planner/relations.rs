//! Says what the planner needs to know of a relation, and where it looks it up.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::TableSource;

use crate::planner::physical::EventTimeColumn;

/// Kinds of relations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    /// A stream.
    Stream,
    /// A table.
    Table,
    /// The changelog of a continuous query.
    Query,
    /// A relation of the schema `weir`, which only SELECT can read.
    System,
}

impl RelationKind {
    /// As messages name it.
    pub fn noun(self) -> &'static str {
        match self {
            RelationKind::Stream => "stream",
            RelationKind::Table => "table",
            RelationKind::Query => "continuous query",
            RelationKind::System => "system relation",
        }
    }
}

/// A relation that a query can name.
#[derive(Debug, Clone)]
pub struct RelationInfo {
    /// Its name.
    pub name: Arc<str>,
    /// What it is.
    pub kind: RelationKind,
    /// Its columns; for streams the hidden ones follow the visible ones.
    pub schema: SchemaRef,
    /// Whether no row of it is ever retracted.
    pub append_only: bool,
    /// The columns that its watermark bounds.
    pub event_times: Vec<EventTimeColumn>,
    /// Whether the watermark is the ingest time (streams without WATERMARK).
    pub processing_time: bool,
    /// Sets of columns that identify a row of its current content, each on its own.
    pub unique_keys: Vec<Vec<usize>>,
}

/// Where the planner looks relations up.
pub trait RelationLookup: Send + Sync {
    /// The relation of that name, if there is one. System relations have the prefix `weir.`.
    fn relation(&self, name: &str) -> Option<RelationInfo>;
    /// All names, for hints.
    fn names(&self) -> Vec<String>;
    /// The source that DataFusion plans with: for one-off SELECTs one that can be scanned.
    fn source(&self, info: &RelationInfo) -> Arc<dyn TableSource> {
        Arc::new(RelationSource { info: info.clone() })
    }
}

/// A relation as DataFusion's planner sees it when nothing is going to be scanned.
#[derive(Debug)]
pub struct RelationSource {
    /// What is known of the relation.
    pub info: RelationInfo,
}

impl TableSource for RelationSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.info.schema)
    }
}
