//! Makes operators of a plan.

use std::sync::Arc;

use crate::operators::aggregate::Aggregate;
use crate::operators::count_window::{CountWindow, CountWindowSpec};
use crate::operators::delay::Delay;
use crate::operators::filter_project::FilterProject;
use crate::operators::fork::Sharding;
use crate::operators::join::Join;
use crate::operators::join::asof::AsofJoin;
use crate::operators::match_recognize::MatchRecognize;
use crate::operators::operator::{EvalError, Operator};
use crate::operators::over::Over;
use crate::operators::over_changes::OverChanges;
use crate::operators::punctuation_window::{PunctuationWindow, PunctuationWindowSpec};
use crate::operators::ranking::Ranking;
use crate::operators::session_aggregate::{SessionAggregate, SessionAggregateSpec};
use crate::operators::union::{Sharing, Union};
use crate::operators::unnest::Unnest;
use crate::operators::window_aggregate::Shards;
use crate::operators::window_assign::WindowAssign;
use crate::pipeline::graph::{Graph, Target};
use crate::planner::physical::{Node, PhysicalPlan, SourceSpec};

/// The operators of a plan, and its sources in the order of the graph's.
pub fn build(
    plan: &PhysicalPlan,
    sharding: &Sharding,
) -> Result<(Graph, Vec<SourceSpec>), EvalError> {
    let mut graph = Graph::new();
    let mut sources = Vec::new();
    add(plan, None, sharding, &mut graph, &mut sources)?;
    // Rows of a relation that is read more than once are pushed one by one, each with its watermark.
    let relations: Vec<_> = sources.iter().map(|source| Arc::clone(&source.relation)).collect();
    for source in &mut sources {
        let same = relations.iter().filter(|relation| **relation == source.relation);
        source.row_marks |= same.count() > 1;
    }
    Ok((graph, sources))
}

/// Whether the rows of answers, though not their sum, depend on where steps end: a join gives a row for
/// each change of its inputs, and groups that emit changes do so at the end of a step.
pub fn steps_show(plan: &PhysicalPlan) -> bool {
    let joins = matches!(plan.node, Node::Join(_));
    (joins && plan.inputs.iter().any(coalesces)) || plan.inputs.iter().any(steps_show)
}

fn coalesces(plan: &PhysicalPlan) -> bool {
    let groups = match plan.node {
        // Also where no row is taken back: a new group comes out at the end of a step, and behind rows that
        // came after its own.
        Node::Aggregate(_) | Node::OverChanges(_) | Node::Ranking(_) => true,
        // A window that closes does so at its row.
        Node::WindowAggregate(_)
        | Node::SessionAggregate(_)
        | Node::CountWindow(_)
        | Node::PunctuationWindow(_) => !plan.facts.append_only,
        Node::Source(_)
        | Node::Over(_)
        | Node::MatchRecognize(_)
        | Node::FilterProject(_)
        | Node::Unnest(_)
        | Node::Union
        | Node::Join(_)
        | Node::AsofJoin(_)
        | Node::Delay(_)
        | Node::WindowAssign(_) => false,
    };
    groups || plan.inputs.iter().any(coalesces)
}

/// What the inputs of a union have in common: a log that several read, and whether they pass its rows on.
fn sharing(union: &PhysicalPlan) -> Sharing {
    let read: Vec<Vec<&SourceSpec>> = union.inputs.iter().map(sources_of).collect();
    let reads = |input: usize, relation: &str| {
        read[input].iter().any(|source| *source.relation == *relation)
    };
    let shares = |input: usize| {
        let others = || (0..read.len()).filter(move |other| *other != input);
        read[input].iter().any(|source| others().any(|other| reads(other, &source.relation)))
    };
    if !union.facts.append_only {
        // What is taken back has no order that anything could depend on.
        return Sharing::Apart;
    }
    let sharing: Vec<usize> = (0..read.len()).filter(|input| shares(*input)).collect();
    if sharing.is_empty() {
        Sharing::Apart
    } else if sharing.iter().all(|input| passes_rows_on(&union.inputs[*input])) {
        Sharing::Merged
    } else {
        Sharing::Interleaved
    }
}

fn sources_of(plan: &PhysicalPlan) -> Vec<&SourceSpec> {
    match &plan.node {
        Node::Source(source) => vec![source],
        _ => plan.inputs.iter().flat_map(sources_of).collect(),
    }
}

/// Whether each row leads to its own rows at once, and the watermark stays what it is.
fn passes_rows_on(plan: &PhysicalPlan) -> bool {
    let own = match plan.node {
        Node::Source(_) | Node::FilterProject(_) | Node::Unnest(_) | Node::WindowAssign(_) => true,
        Node::Union => sharing(plan) != Sharing::Interleaved,
        _ => false,
    };
    own && plan.inputs.iter().all(passes_rows_on)
}

fn add(
    plan: &PhysicalPlan,
    parent: Target,
    sharding: &Sharding,
    graph: &mut Graph,
    sources: &mut Vec<SourceSpec>,
) -> Result<(), EvalError> {
    let operator: Box<dyn Operator> = match &plan.node {
        Node::Source(source) => {
            graph.add_source(parent);
            sources.push(source.clone());
            return Ok(());
        }
        Node::FilterProject(spec) => Box::new(FilterProject::new(Arc::clone(spec))?),
        Node::Unnest(spec) => Box::new(Unnest::new(Arc::clone(spec))),
        Node::Union => {
            let inputs = plan.inputs.iter().map(|input| Arc::clone(&input.schema)).collect();
            Box::new(Union::new(inputs, Arc::clone(&plan.schema), sharing(plan)))
        }
        Node::Join(spec) => Box::new(Join::new(Arc::clone(spec))?),
        Node::AsofJoin(spec) => Box::new(AsofJoin::new(Arc::clone(spec))?),
        Node::Delay(delay) => Box::new(Delay::new(*delay)),
        Node::WindowAssign(spec) => Box::new(WindowAssign::new(Arc::clone(spec))),
        Node::WindowAggregate(spec) => Box::new(Shards::new(Arc::clone(spec), sharding.clone())?),
        Node::SessionAggregate(spec) => {
            Box::new(SessionAggregate::new(SessionAggregateSpec::clone(spec))?)
        }
        Node::CountWindow(spec) => Box::new(CountWindow::new(CountWindowSpec::clone(spec))?),
        Node::PunctuationWindow(spec) => {
            Box::new(PunctuationWindow::new(PunctuationWindowSpec::clone(spec))?)
        }
        Node::Aggregate(spec) => Box::new(Aggregate::new(Arc::clone(spec))?),
        Node::Ranking(spec) => Box::new(Ranking::new(Arc::clone(spec))?),
        Node::OverChanges(spec) => Box::new(OverChanges::new(Arc::clone(spec))?),
        Node::Over(spec) => Box::new(Over::new(Arc::clone(spec))?),
        Node::MatchRecognize(spec) => Box::new(MatchRecognize::new(Arc::clone(spec))?),
    };
    let node = graph.add(operator, parent);
    for (port, input) in plan.inputs.iter().enumerate() {
        add(input, Some((node, port)), sharding, graph, sources)?;
    }
    Ok(())
}
