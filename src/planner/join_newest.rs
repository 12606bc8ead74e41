//! Gives ASOF JOIN its operator: each row with the newest row of the other side that is not after it.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::common::NullEquality;
use datafusion::logical_expr::Expr;

use crate::operators::join::asof::AsofSpec;
use crate::operators::join::spec::JoinKind;
use crate::planner::error::PlanError;
use crate::planner::join::Parts;
use crate::planner::join_time::{are_times, check_lateness_unit};
use crate::planner::physical::{
    EventTimeColumn, Facts, Node, PhysicalPlan, StateBound, WindowRole,
};
use crate::planner::translate::{Built, Translator};

impl Translator {
    /// A join whose condition is keys and `first >= second`, or `>` where `strict`.
    pub(super) fn newest_join(
        &self,
        parts: Parts<'_>,
        rest: Vec<Expr>,
        (first, second, strict): (&Expr, &Expr, bool),
    ) -> Result<Built, PlanError> {
        let keeps_left = parts.kind == JoinKind::Left;
        let inner_or_left = matches!(parts.kind, JoinKind::Inner | JoinKind::Left);
        if parts.swapped || !inner_or_left || !rest.is_empty() {
            return Err(PlanError::unsupported(
                "an ASOF JOIN with more than equal columns in ON",
                "Compare columns for equality in ON, and filter in a subquery.",
            ));
        }
        let times = match (parts.sides[0].plain_column(first), parts.sides[1].plain_column(second))
        {
            (Some(left), Some(right)) => [left, right],
            _ => {
                return Err(PlanError::unsupported(
                    "an ASOF JOIN with a row that comes after",
                    "Write MATCH_CONDITION (l.at >= r.at), with the column of the left side first.",
                ));
            }
        };
        self.check_newest(&parts, times)?;
        let slots = parts.slots();
        let Parts { sides, keys, join, .. } = parts;
        let [left, right] = sides.map(|side| side.plan);
        let delay = |plan: &PhysicalPlan, column: usize| {
            plan.facts.delay_of(column).expect("looked at just above")
        };
        let delays = [delay(&left, times[0]), delay(&right, times[1])];
        let lateness = self.emit.allowed_lateness;
        let fields = left.schema.fields().iter().map(|field| WindowRole::unmark(field));
        let others = right.schema.fields().iter();
        let others =
            others.map(|f| WindowRole::unmark(f).with_nullable(keeps_left || f.is_nullable()));
        let schema = Arc::new(Schema::new(fields.chain(others).collect::<Vec<Field>>()));
        let width = schema.fields().len();
        let facts = Facts {
            append_only: true,
            event_times: vec![EventTimeColumn {
                column: times[0],
                delay: delays[0].max(delays[1]).saturating_add(lateness),
            }],
            unique_keys: left.facts.unique_keys.clone(),
            windows: vec![None; width],
        };
        let state = match keys.is_empty() {
            true => StateBound::Bounded(
                "rows that wait for the watermark, and the newest row that it has passed".into(),
            ),
            false => StateBound::Unbounded("the newest row of every key is kept".into()),
        };
        let spec = AsofSpec {
            keys,
            times,
            strict,
            keeps_left,
            delays,
            allowed_lateness: lateness,
            inputs: [Arc::clone(&left.schema), Arc::clone(&right.schema)],
            schema: Arc::clone(&schema),
        };
        let plan = PhysicalPlan {
            node: Node::AsofJoin(Arc::new(spec)),
            schema,
            facts,
            state,
            inputs: vec![left, right],
        };
        Ok(Built { plan, schema: Arc::clone(&join.schema), slots, pending: None })
    }

    /// Both sides bring rows only, with event times of one kind.
    fn check_newest(&self, parts: &Parts<'_>, times: [usize; 2]) -> Result<(), PlanError> {
        let Parts { sides, join, .. } = parts;
        if join.null_equality == NullEquality::NullEqualsNull {
            return Err(PlanError::unsupported(
                "an ASOF JOIN ON … IS NOT DISTINCT FROM …",
                "Compare with =.",
            ));
        }
        for side in sides {
            if !side.plan.facts.append_only {
                return Err(PlanError::AppendOnlyRequired {
                    what: "ASOF JOIN".into(),
                    detail: "Rows of one of its inputs can be retracted.".into(),
                });
            }
        }
        for (side, &time) in sides.iter().zip(&times) {
            if side.plan.facts.delay_of(time).is_none() {
                return Err(PlanError::WatermarkRequired {
                    relation: "an ASOF JOIN".into(),
                    column: side.plan.schema.field(time).name().clone(),
                });
            }
        }
        if !are_times(sides, (times[0], times[1])) {
            return Err(PlanError::unsupported(
                "an ASOF JOIN of two kinds of time",
                "Cast both columns to TIMESTAMP in their streams.",
            ));
        }
        check_lateness_unit(sides, times[0], &self.emit)
    }
}
