//! Makes operators of a plan.

use std::sync::Arc;

use crate::operators::aggregate::Aggregate;
use crate::operators::count_window::{CountWindow, CountWindowSpec};
use crate::operators::delay::Delay;
use crate::operators::emit::{EmitMode, EmitSpec};
use crate::operators::filter_project::FilterProject;
use crate::operators::fork::Sharding;
use crate::operators::join::Join;
use crate::operators::join::asof::AsofJoin;
use crate::operators::match_recognize::MatchRecognize;
use crate::operators::operator::{EvalError, Operator};
use crate::operators::over::{Over, OverFunction, OverOrder, OverSpec};
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

/// What the inputs of a union have in common: a log that several read, and whether marks tell their order.
fn sharing(union: &PhysicalPlan) -> Sharing {
    if !union.facts.append_only {
        // What is taken back has no order that anything could depend on.
        return Sharing::Apart;
    }
    let shared = shared(union);
    if !shared.contains(&true) {
        Sharing::Apart
    } else if trails(union).is_some() {
        Sharing::Merged
    } else {
        Sharing::Interleaved
    }
}

/// Of each input whether another one reads one of its logs.
fn shared(plan: &PhysicalPlan) -> Vec<bool> {
    let read: Vec<Vec<&SourceSpec>> = plan.inputs.iter().map(sources_of).collect();
    let reads = |input: usize, relation: &str| {
        read[input].iter().any(|source| *source.relation == *relation)
    };
    let shares = |input: usize| {
        let others = || (0..read.len()).filter(move |other| *other != input);
        read[input].iter().any(|source| others().any(|other| reads(other, &source.relation)))
    };
    (0..read.len()).map(shares).collect()
}

/// How far each input of a node trails the log that it shares with others, where all say so; 0 for those
/// that share none.
fn trails(plan: &PhysicalPlan) -> Option<Vec<i64>> {
    let inputs = plan.inputs.iter().zip(shared(plan));
    inputs.map(|(input, shares)| if shares { trail(input) } else { Some(0) }).collect()
}

fn sources_of(plan: &PhysicalPlan) -> Vec<&SourceSpec> {
    match &plan.node {
        Node::Source(source) => vec![source],
        _ => plan.inputs.iter().flat_map(sources_of).collect(),
    }
}

/// How far a plan's watermark trails that of the logs below it, where each of its rows leads to its own
/// rows at once, or its mark says which watermark made it due.
fn trail(plan: &PhysicalPlan) -> Option<i64> {
    let closes = |emit: &EmitSpec| emit.mode == EmitMode::OnClose && emit.allowed_lateness == 0;
    let own = match &plan.node {
        Node::Source(_) | Node::FilterProject(_) | Node::Unnest(_) | Node::WindowAssign(_) => 0,
        Node::Delay(width) => *width,
        Node::WindowAggregate(spec) if closes(&spec.emit) => 0,
        Node::SessionAggregate(spec) if closes(&spec.emit) => 0,
        // Rows that wait for others come out when these come.
        Node::Over(spec) if matches!(spec.order, OverOrder::Time(_)) && !waits(spec) => 0,
        Node::Union if sharing(plan) != Sharing::Interleaved && trail_alike(plan) => 0,
        _ => return None,
    };
    let below = plan.inputs.iter().map(trail).collect::<Option<Vec<_>>>()?;
    below.into_iter().max().unwrap_or(0).checked_add(own)
}

fn trail_alike(plan: &PhysicalPlan) -> bool {
    let mut trails = plan.inputs.iter().map(trail);
    trails.next().is_none_or(|first| trails.all(|trail| trail == first))
}

fn waits(over: &OverSpec) -> bool {
    over.calls.iter().any(|call| matches!(call.function, OverFunction::Lead(_)))
}

fn add(
    plan: &PhysicalPlan,
    parent: Target,
    sharding: &Sharding,
    graph: &mut Graph,
    sources: &mut Vec<SourceSpec>,
) -> Result<(), EvalError> {
    if let Node::Source(source) = &plan.node {
        graph.add_source(parent);
        sources.push(source.clone());
        return Ok(());
    }
    let node = graph.add(operator(plan, sharding)?, parent);
    for (port, input) in plan.inputs.iter().enumerate() {
        add(input, Some((node, port)), sharding, graph, sources)?;
    }
    Ok(())
}

/// The operator of a node. Apart from [`add`], so that a deep plan does not hold one large frame per level.
#[inline(never)]
fn operator(plan: &PhysicalPlan, sharding: &Sharding) -> Result<Box<dyn Operator>, EvalError> {
    Ok(match &plan.node {
        Node::Source(_) => unreachable!("a source has no operator: its rows come from a log"),
        Node::FilterProject(spec) => Box::new(FilterProject::new(Arc::clone(spec))?),
        Node::Unnest(spec) => Box::new(Unnest::new(Arc::clone(spec))),
        Node::Union => {
            let inputs = plan.inputs.iter().map(|input| Arc::clone(&input.schema)).collect();
            let sharing = sharing(plan);
            let union = Union::new(inputs, Arc::clone(&plan.schema), sharing);
            Box::new(match trails(plan).filter(|_| sharing == Sharing::Merged) {
                Some(trails) => union.trailing(trails),
                None => union,
            })
        }
        Node::Join(spec) => {
            let join = Join::new(Arc::clone(spec))?;
            let trails = match plan.inputs.as_slice() {
                [left, right] if spec.shares_input => trail(left).zip(trail(right)),
                _ => None,
            };
            Box::new(match trails {
                Some((left, right)) => join.trailing([left, right]),
                None => join,
            })
        }
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
    })
}
