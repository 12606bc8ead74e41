//! Judges whether those who follow a changelog can take another plan below it.

use std::sync::Arc;

use crate::catalog::definition::query_options;
use crate::data::change::Change;
use crate::engine::query::{QueryState, Shape};
use crate::engine::registry::Registry;
use crate::engine::resting::Resting;
use crate::engine::state::Engine;
use crate::error::{Error, Result, SqlState};
use crate::planner::physical::{Node, PhysicalPlan};
use crate::sql::statement::CreateQuery;

impl Engine {
    /// A query must not come to read itself.
    pub(super) fn check_no_circle(&self, query: &QueryState, create: &CreateQuery) -> Result<()> {
        let options = query_options(create)?;
        let (plan, named) = self.plan_of(create, &options)?;
        let registry = self.registry.read();
        // Also through relations that are only named: the texts could not be planned one after the other.
        let mut open: Vec<Arc<str>> = named.into_iter().collect();
        while let Some(name) = open.pop() {
            if &*name == query.name() {
                return Err(Error::new(
                    SqlState::WRONG_OBJECT,
                    format!("continuous query \"{name}\" cannot read itself"),
                ));
            }
            if let Some(below) = registry.queries.get(&*name) {
                open.extend(below.shape().named.iter().cloned());
            }
        }
        // Nor must late rows of a query above come back to it.
        let streams = registry.streams_below(query.name());
        for above in
            registry.queries.values().filter(|above| registry.is_above(above, query.name()))
        {
            let Some(late) = above.late_rows_to() else { continue };
            let target = &*late.definition.name;
            if !streams.contains(target) && registry.comes_back(target, &sources(&plan)) {
                return Err(Error::new(
                    SqlState::INVALID_PARAMETER,
                    format!("late rows of continuous query \"{}\" would go round", above.name()),
                ));
            }
        }
        Ok(())
    }

    /// What others were told of the query must still hold of the new plan.
    pub(super) fn check_readers(&self, query: &QueryState, shape: &Shape) -> Result<()> {
        let registry = self.registry.read();
        let readers = registry.readers(query.name());
        let (old, new) = (query.info(), &shape.plan.facts);
        let kept = old.event_times == new.event_times
            && (old.unique_keys.is_empty() || old.unique_keys == new.unique_keys)
            && (new.append_only || !old.append_only);
        if !kept && !readers.is_empty() {
            return Err(depended_on(query.name(), &readers.join(", ")));
        }
        for sink in registry.sinks_of(query.name()) {
            sink.check_replaced(&shape.plan)?;
        }
        Ok(())
    }
}

impl Registry {
    /// The queries whose texts name a relation, also those that are set aside.
    pub(super) fn readers(&self, name: &str) -> Vec<&str> {
        let running = self.queries.values().filter(|query| query.names(name));
        let resting = self.resting.values().filter(|resting| resting.needs(name));
        running.map(|query| query.name()).chain(resting.map(Resting::name)).collect()
    }

    /// A query that is set aside and reads this one would come back to a changelog that it does not know.
    ///
    /// # Errors
    /// 2BP01 when there is one.
    pub(super) fn check_no_reader_rests(&self, name: &str) -> Result<()> {
        let resting = self.resting.values().filter(|resting| resting.needs(name));
        let readers: Vec<&str> = resting.map(Resting::name).collect();
        if readers.is_empty() { Ok(()) } else { Err(depended_on(name, &readers.join(", "))) }
    }

    /// Whether all who follow the changelog can take the entry of a swap.
    pub(super) fn check_swap(
        &self,
        query: &QueryState,
        shape: &Shape,
        change: Option<&Change>,
        behind: bool,
    ) -> Result<()> {
        let name = query.name();
        let retracts = change
            .and_then(|change| change.weights.as_ref())
            .is_some_and(|weights| weights.values().iter().any(|weight| *weight < 0));
        if retracts && query.changelog.append_only() {
            let queries = self.queries.values().filter(|other| other.reads(name));
            let mut readers: Vec<String> =
                queries.map(|other| format!("continuous query \"{}\"", other.name())).collect();
            let sinks = self.sinks_of(name).filter(|sink| sink.appends());
            readers.extend(sinks.map(|sink| format!("sink \"{}\"", sink.name)));
            match query.view.subscribers() {
                0 => {}
                1 => readers.push("1 subscriber".into()),
                several => readers.push(format!("{several} subscribers")),
            }
            if !readers.is_empty() {
                let message = format!(
                    "continuous query \"{name}\" cannot retract rows: append-only readers follow it"
                );
                return Err(Error::new(SqlState::APPEND_ONLY_REQUIRED, message)
                    .with_detail(format!("Readers are: {}.", readers.join(", ")))
                    .with_hint("End the readers first, or make a query of another name."));
            }
        }
        let timed = !shape.plan.facts.event_times.is_empty();
        if timed && (change.is_some() || behind) && self.time_matters_above(name) {
            let message = format!(
                "continuous query \"{name}\" cannot change rows of the past: windows above it are closed"
            );
            return Err(Error::new(SqlState::NOT_SUPPORTED, message)
                .with_hint("Drop the queries that read it, and create them again afterwards."));
        }
        Ok(())
    }

    /// Whether a query reads another, directly or through others.
    fn is_above(&self, query: &QueryState, name: &str) -> bool {
        let mut open: Vec<String> = query.sources().iter().map(ToString::to_string).collect();
        while let Some(source) = open.pop() {
            if source == name {
                return true;
            }
            if let Some(below) = self.queries.get(&source) {
                open.extend(below.sources().iter().map(ToString::to_string));
            }
        }
        false
    }

    /// Whether a query above, directly or through others, does more than filter and group.
    fn time_matters_above(&self, name: &str) -> bool {
        let mut open = vec![name.to_string()];
        while let Some(name) = open.pop() {
            for other in self.queries.values().filter(|other| other.reads(&name)) {
                if time_matters(&other.shape().plan) {
                    return true;
                }
                open.push(other.name().to_string());
            }
        }
        false
    }
}

fn time_matters(plan: &PhysicalPlan) -> bool {
    let timeless = matches!(
        plan.node,
        Node::Source(_)
            | Node::FilterProject(_)
            | Node::Unnest(_)
            | Node::Union
            | Node::Delay(_)
            | Node::Aggregate(_)
    ) || matches!(&plan.node, Node::Ranking(spec) if spec.close.is_none())
        || matches!(&plan.node, Node::Join(spec) if spec.within.is_none())
        || matches!(&plan.node, Node::OverChanges(spec) if spec.close.is_none());
    !timeless || plan.inputs.iter().any(time_matters)
}

fn sources(plan: &PhysicalPlan) -> Vec<String> {
    let mut names: Vec<String> = plan.inputs.iter().flat_map(sources).collect();
    if let Node::Source(source) = &plan.node {
        names.push(source.relation.to_string());
    }
    names
}

pub(super) fn depended_on(name: &str, readers: &str) -> Error {
    let message = format!("continuous query \"{name}\" cannot be replaced: others depend on it");
    Error::new(SqlState::DEPENDENT_OBJECTS, message)
        .with_detail(format!("What they know of its columns would change: {readers}."))
        .with_hint("Drop them first, and create them again afterwards.")
}
