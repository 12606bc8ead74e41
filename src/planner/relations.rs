//! Says what the planner needs to know of a relation, and where it looks it up.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{LogicalPlan, TableSource};
use datafusion::sql::sqlparser::ast::{Query, Visit, Visitor};
use parking_lot::Mutex;

use crate::error::Error;
use crate::planner::hidden::fold;
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

/// A lookup that notes which relations a text names. The plan may do without some of them, where a condition
/// never holds or nobody reads a WITH; the text cannot be planned without them.
pub struct Noting<'a> {
    lookup: &'a dyn RelationLookup,
    /// Names that WITH gives: the planner asks for a relation of such a name, too, and then does not take it.
    given: BTreeSet<String>,
    named: Mutex<BTreeSet<Arc<str>>>,
}

impl Noting<'_> {
    /// What is named will be that of `query`.
    pub fn over<'a>(lookup: &'a dyn RelationLookup, query: &Query) -> Noting<'a> {
        let mut given = Given(BTreeSet::new());
        let walked = Visit::visit(query, &mut given);
        debug_assert!(walked.is_continue(), "the visitor never breaks off");
        Noting { lookup, given: given.0, named: Mutex::default() }
    }

    /// The relations that the text was bound to.
    pub fn named(self) -> BTreeSet<Arc<str>> {
        self.named.into_inner()
    }
}

impl RelationLookup for Noting<'_> {
    fn relation(&self, name: &str) -> Option<RelationInfo> {
        self.lookup.relation(name)
    }

    fn at_rest(&self, name: &str) -> Option<Error> {
        self.lookup.at_rest(name)
    }

    fn names(&self) -> Vec<String> {
        self.lookup.names()
    }

    fn bound(&self, plan: &LogicalPlan) {
        self.named.lock().extend(scanned(plan));
    }

    fn source(&self, info: &RelationInfo) -> Arc<dyn TableSource> {
        if !self.given.contains(&*info.name) {
            self.named.lock().insert(Arc::clone(&info.name));
        }
        self.lookup.source(info)
    }
}

/// The names that WITH gives, anywhere in a query.
struct Given(BTreeSet<String>);

impl Visitor for Given {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        self.0.extend(tables.map(|table| fold(&table.alias.name)));
        ControlFlow::Continue(())
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
