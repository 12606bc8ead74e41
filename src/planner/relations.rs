//! Says what the planner needs to know of a relation, and where it looks it up.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{LogicalPlan, TableSource};
use parking_lot::Mutex;

use crate::error::Error;
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
    /// Why nothing is known of a relation, if it exists all the same.
    fn at_rest(&self, _name: &str) -> Option<Error> {
        None
    }
    /// Is told what a text was bound to, before anything is rewritten.
    fn bound(&self, _plan: &LogicalPlan) {}
    /// All names, for hints.
    fn names(&self) -> Vec<String>;
    /// The source that DataFusion plans with: for one-off SELECTs one that can be scanned.
    fn source(&self, info: &RelationInfo) -> Arc<dyn TableSource> {
        Arc::new(RelationSource { info: info.clone() })
    }
}

/// A lookup that notes what is asked of it: the relations that a text names. The plan may do without some
/// of them, where the optimiser finds that a condition never holds; the text cannot be planned without them.
pub struct Noting<'a> {
    lookup: &'a dyn RelationLookup,
    named: Mutex<BTreeSet<Arc<str>>>,
}

impl Noting<'_> {
    /// Nothing is noted yet.
    pub fn over(lookup: &dyn RelationLookup) -> Noting<'_> {
        Noting { lookup, named: Mutex::default() }
    }

    /// What the text was bound to; where that failed, what was asked for until then, there or not.
    pub fn named(self) -> BTreeSet<Arc<str>> {
        self.named.into_inner()
    }
}

impl RelationLookup for Noting<'_> {
    fn relation(&self, name: &str) -> Option<RelationInfo> {
        self.lookup.relation(name)
    }

    fn at_rest(&self, name: &str) -> Option<Error> {
        self.named.lock().insert(name.into());
        self.lookup.at_rest(name)
    }

    fn names(&self) -> Vec<String> {
        self.lookup.names()
    }

    // The planner also asks for names that turn out to be those of a WITH.
    fn bound(&self, plan: &LogicalPlan) {
        *self.named.lock() = scanned(plan);
    }

    fn source(&self, info: &RelationInfo) -> Arc<dyn TableSource> {
        self.named.lock().insert(Arc::clone(&info.name));
        self.lookup.source(info)
    }
}

fn scanned(plan: &LogicalPlan) -> BTreeSet<Arc<str>> {
    let mut named = BTreeSet::new();
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(source) = scan.source.downcast_ref::<RelationSource>()
        {
            named.insert(Arc::clone(&source.info.name));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.expect("nothing that is done to a node fails");
    named
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
