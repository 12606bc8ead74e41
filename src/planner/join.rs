//! Gives joins their operator, and works out what is known of their output.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, JoinType, NullEquality};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, lit};
use datafusion::physical_expr::PhysicalExpr;

use crate::operators::emit::EmitMode;
use crate::operators::expr::is_sortable;
use crate::operators::join::spec::{JoinKind, JoinSpec};
use crate::planner::error::{PlanError, from_datafusion};
use crate::planner::functions;
use crate::planner::join_as_of::{AsOf, take_marker};
use crate::planner::join_facts::{facts, facts_as_of_now, state};
use crate::planner::join_time::{Bounds, find_bounds};
use crate::planner::physical::{Facts, Node, PhysicalPlan, WindowRole};
use crate::planner::translate::{Built, Slot, Translator, type_of};

/// A join and what was found out of it.
pub(super) struct Parts<'a> {
    /// The left side and the right one; swapped where the join was a RIGHT one.
    pub sides: [Built; 2],
    pub kind: JoinKind,
    pub swapped: bool,
    pub keys: Vec<(usize, usize)>,
    pub join: &'a Join,
}

/// What must hold beside the keys.
struct Condition {
    filter: Option<Arc<dyn PhysicalExpr>>,
    bounds: Bounds,
    nulls_match: bool,
    as_of_now: bool,
}

impl Translator {
    /// A join; RIGHT is LEFT with the sides swapped.
    pub(super) fn join(&self, join: &Join, outermost: bool) -> Result<Built, PlanError> {
        let (kind, swapped) = kind_of(join)?;
        let early = matches!(
            self.emit.mode,
            Some(EmitMode::EveryInterval { .. } | EmitMode::EveryRows { .. })
        );
        let outermost = outermost && !early;
        let (first, second) =
            if swapped { (&join.right, &join.left) } else { (&join.left, &join.right) };
        let mut sides = [self.join_input(first, outermost)?, self.join_input(second, outermost)?];
        let mut keys = Vec::with_capacity(join.on.len());
        for (left, right) in &join.on {
            let (left, right) = if swapped { (right, left) } else { (left, right) };
            let pair = (self.key(&mut sides[0], left)?, self.key(&mut sides[1], right)?);
            check_key(&sides, pair)?;
            keys.push(pair);
        }
        let rest = join.filter.iter().flat_map(datafusion::logical_expr::utils::split_conjunction);
        // EXISTS that depends on no row is a join on truth.
        let mut rest: Vec<Expr> = rest.filter(|part| **part != lit(true)).cloned().collect();
        let marker = take_marker(&mut rest);
        self.markers.set(self.markers.get() + usize::from(marker.is_some()));
        let as_of_now = match marker {
            None => false,
            Some((AsOf::Now, time, _)) => {
                check_as_of_now(&sides, kind, swapped, &time)?;
                true
            }
            Some((marker, first, second)) => {
                let pair = (&first, &second, marker == AsOf::Above);
                let parts = Parts { sides, kind, swapped, keys, join };
                return self.newest_join(parts, rest, pair);
            }
        };
        let bounds = match as_of_now {
            true => Bounds::none(rest),
            false => find_bounds(&sides, &keys, rest, &self.emit)?,
        };
        let filter = match bounds.rest.iter().cloned().reduce(|a, b| a.and(b)) {
            Some(filter) => Some(self.lower(&filter, &joined_names(&sides)?)?),
            None => None,
        };
        if filter.is_some() && !sides.iter().all(|side| side.plan.facts.append_only) {
            refuse_row_clock(&bounds.rest)?;
        }
        let nulls_match = join.null_equality == NullEquality::NullEqualsNull;
        let condition = Condition { filter, bounds, nulls_match, as_of_now };
        self.joined(Parts { sides, kind, swapped, keys, join }, condition)
    }

    fn join_input(&self, input: &LogicalPlan, outermost: bool) -> Result<Built, PlanError> {
        let built = self.build(input, outermost)?;
        let built = self.materialize(built)?;
        let plan = self.arrange(built)?;
        let slots = (0..plan.schema.fields().len()).map(Slot::Column).collect();
        Ok(Built { plan, schema: Arc::clone(input.schema()), slots, pending: None })
    }

    /// The column of a key; a computed one is put behind the others.
    fn key(&self, side: &mut Built, expr: &Expr) -> Result<usize, PlanError> {
        if let Some(column) = side.plain_column(expr) {
            return Ok(column);
        }
        let lowered = self.lower(expr, &side.physical_names()?)?;
        let column = side.plan.schema.fields().len();
        let added = vec![(lowered, format!("__key_{column}"))];
        side.plan = self.append_columns(side.plan.clone(), added, None)?;
        Ok(column)
    }

    fn joined(&self, parts: Parts<'_>, condition: Condition) -> Result<Built, PlanError> {
        let slots = parts.slots();
        let Parts { sides, kind, keys, join, .. } = parts;
        let Condition { filter, bounds, nulls_match, as_of_now } = condition;
        let [left, right] = sides.map(|side| side.plan);
        let joined = schema(&left, &right, [true; 2], |_| false);
        let nullable = [kind == JoinKind::Full, matches!(kind, JoinKind::Left | JoinKind::Full)];
        let facts = match as_of_now {
            true => facts_as_of_now(&left, &right, &keys),
            false => facts(&left, &right, kind, &keys, &bounds),
        };
        let tells = |column: usize| facts.windows[column].is_some();
        let output = match kind.shows_pairs() {
            true => schema(&left, &right, nullable, tells),
            false => {
                let fields = left.schema.fields().iter().enumerate();
                let fields = fields.map(|(i, field)| unmarked(field, tells(i)));
                let mark = (kind == JoinKind::Mark).then(mark_field);
                Arc::new(Schema::new(fields.chain(mark).collect::<Vec<Field>>()))
            }
        };
        let mut spec = JoinSpec {
            kind,
            keys,
            nulls_match,
            filter,
            as_of_now,
            within: bounds.within,
            inputs: [Arc::clone(&left.schema), Arc::clone(&right.schema)],
            append_only: [left.facts.append_only, right.facts.append_only],
            shares_input: false,
            joined,
            schema: Arc::clone(&output),
        };
        check_retractions(&spec)?;
        let shared = !relations(&left).is_disjoint(&relations(&right));
        spec.shares_input = shared && spec.is_append_only();
        let facts = Facts { append_only: spec.is_append_only(), ..facts };
        let state = state(&spec, &left, &right);
        let plan = PhysicalPlan {
            node: Node::Join(Arc::new(spec)),
            schema: output,
            facts,
            state,
            inputs: vec![left, right],
        };
        Ok(Built { plan, schema: Arc::clone(&join.schema), slots, pending: None })
    }
}

/// Whether a join shows rows that match nothing: where time proves it, they come out amid a batch.
pub(super) fn shows_rows_without_match(logical: &LogicalPlan) -> Result<bool, PlanError> {
    let shows = |node: &LogicalPlan| match node {
        LogicalPlan::Join(join) => {
            Ok(!matches!(join.join_type, JoinType::Inner | JoinType::LeftSemi))
        }
        _ => Ok(false),
    };
    logical.exists(shows).map_err(from_datafusion)
}

impl Parts<'_> {
    /// Where the columns of the logical join stand.
    pub(super) fn slots(&self) -> Vec<Slot> {
        let width = self.sides[0].plan.schema.fields().len();
        let place = |side: usize, column: usize| Slot::Column(side * width + column);
        let [own, other] = if self.swapped { [1, 0] } else { [0, 1] };
        let inputs = [&self.join.left, &self.join.right];
        let columns = inputs.map(|input| input.schema().fields().len());
        match self.kind.shows_pairs() {
            true => {
                let own = (0..columns[0]).map(|column| place(own, column));
                own.chain((0..columns[1]).map(|column| place(other, column))).collect()
            }
            false => {
                let mark = (self.kind == JoinKind::Mark).then_some(Slot::Column(width));
                (0..columns[own]).map(Slot::Column).chain(mark).collect()
            }
        }
    }
}

/// Rows of the left side come and stay: a retraction would meet another right side.
fn check_as_of_now(
    sides: &[Built; 2],
    kind: JoinKind,
    swapped: bool,
    time: &Expr,
) -> Result<(), PlanError> {
    if swapped || !matches!(kind, JoinKind::Inner | JoinKind::Left) {
        return Err(PlanError::unsupported(
            "FOR SYSTEM_TIME AS OF in a join that is neither inner nor left",
            "Write JOIN or LEFT JOIN, with the table on the right.",
        ));
    }
    if sides[0].plain_column(time).is_none() {
        return Err(PlanError::unsupported(
            "FOR SYSTEM_TIME AS OF something other than a column of the left side",
            "Write t FOR SYSTEM_TIME AS OF s.at, with the time column of the stream.",
        ));
    }
    if !sides[0].plan.facts.append_only {
        return Err(PlanError::AppendOnlyRequired {
            what: "FOR SYSTEM_TIME AS OF".into(),
            detail: "Rows of the left side can be retracted.".into(),
        });
    }
    Ok(())
}

fn kind_of(join: &Join) -> Result<(JoinKind, bool), PlanError> {
    if join.null_aware {
        return Err(PlanError::unsupported(
            "NOT IN over values that may be null",
            "Write NOT EXISTS (SELECT … WHERE …), or declare the columns NOT NULL.",
        ));
    }
    Ok(match join.join_type {
        JoinType::Inner => (JoinKind::Inner, false),
        JoinType::Left => (JoinKind::Left, false),
        JoinType::Right => (JoinKind::Left, true),
        JoinType::Full => (JoinKind::Full, false),
        JoinType::LeftSemi => (JoinKind::Semi, false),
        JoinType::RightSemi => (JoinKind::Semi, true),
        JoinType::LeftAnti => (JoinKind::Anti, false),
        JoinType::RightAnti => (JoinKind::Anti, true),
        JoinType::LeftMark => (JoinKind::Mark, false),
        JoinType::RightMark => (JoinKind::Mark, true),
    })
}

/// A pair is taken back at another moment than the one at which it came.
fn refuse_row_clock(conditions: &[Expr]) -> Result<(), PlanError> {
    let reads = |node: &Expr| {
        Ok(matches!(node, Expr::ScalarFunction(call) if functions::is_row_clock(&call.func)))
    };
    for condition in conditions {
        if condition.exists(reads).map_err(from_datafusion)? {
            return Err(PlanError::unsupported(
                "now() in the condition of a join whose rows are retracted",
                "Compare with a column that holds the time.",
            ));
        }
    }
    Ok(())
}

fn check_key(sides: &[Built; 2], (left, right): (usize, usize)) -> Result<(), PlanError> {
    let (left, right) = (type_of(&sides[0].plan, left), type_of(&sides[1].plan, right));
    if left == right && is_sortable(left) {
        return Ok(());
    }
    Err(PlanError::unsupported(
        format!("a join of {left} with {right}"),
        "Cast both sides of the condition to one type that can be ordered.",
    ))
}

/// A retracted row is found by its columns, so they must be ones that can be compared.
fn check_retractions(spec: &JoinSpec) -> Result<(), PlanError> {
    for (schema, append_only) in spec.inputs.iter().zip(spec.append_only) {
        let odd = schema.fields().iter().find(|field| !is_sortable(field.data_type()));
        if let Some(field) = odd.filter(|_| !append_only) {
            return Err(PlanError::unsupported(
                format!("a join of rows that are retracted with column \"{}\"", field.name()),
                "Leave the column out in a subquery.",
            ));
        }
    }
    Ok(())
}

/// The columns of both sides under their logical names.
fn joined_names(sides: &[Built; 2]) -> Result<DFSchema, PlanError> {
    let mut fields = Vec::new();
    for (side, built) in sides.iter().enumerate() {
        let logical = built.schema.fields().len();
        for (column, (qualifier, field)) in built.physical_names()?.iter().enumerate() {
            // A computed key has no name that a condition could use.
            let field = match column < logical {
                true => Arc::clone(field),
                false => Arc::new(field.as_ref().clone().with_name(format!("__{side}_{column}"))),
            };
            fields.push((qualifier.cloned(), field));
        }
    }
    DFSchema::new_with_metadata(fields, Default::default()).map_err(from_datafusion)
}

/// What a mark join says of a row.
fn mark_field() -> Field {
    Field::new("mark", DataType::Boolean, false)
}

fn unmarked(field: &Field, tells_window: bool) -> Field {
    if tells_window { field.clone() } else { WindowRole::unmark(field) }
}

fn schema(
    left: &PhysicalPlan,
    right: &PhysicalPlan,
    nullable: [bool; 2],
    tells_window: impl Fn(usize) -> bool,
) -> SchemaRef {
    let sides = [left, right].into_iter().zip(nullable);
    let fields = sides.flat_map(|(side, nullable)| {
        let fields = side.schema.fields().iter();
        fields
            .map(move |field| field.as_ref().clone().with_nullable(nullable || field.is_nullable()))
    });
    let fields = fields.enumerate().map(|(column, field)| unmarked(&field, tells_window(column)));
    Arc::new(Schema::new(fields.collect::<Vec<Field>>()))
}

/// The names of the relations at the bottom of a plan.
fn relations(plan: &PhysicalPlan) -> BTreeSet<Arc<str>> {
    match &plan.node {
        Node::Source(source) => BTreeSet::from([Arc::clone(&source.relation)]),
        _ => plan.inputs.iter().flat_map(relations).collect(),
    }
}
