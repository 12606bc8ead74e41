//! Holds the input of an aggregate while its operator is chosen: what is grouped, by what, and the
//! columns of the output.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::Aggregate;

use crate::error::SqlState;
use crate::operators::aggregates::spec::AggregateSpec;
use crate::operators::window_answer::Pairs;
use crate::planner::error::PlanError;
use crate::planner::physical::{Facts, Node, PhysicalPlan, StateBound, WindowRole};
use crate::planner::translate::{Built, Slot};
use crate::planner::window_node::{WINDOW_END, WINDOW_START, WindowColumn, WindowKind};
use crate::planner::window_rows::window_field;

/// Keys from here on are computed of rows and their windows.
pub(super) const COMPUTED: usize = usize::MAX / 2;

/// The GROUP BY of an aggregate, sorted out.
pub(super) struct Grouping {
    /// Per group expression: a window column, or the index into `keys`.
    pub parts: Vec<Part>,
    /// Physical columns of the keys.
    pub keys: Vec<usize>,
}

pub(super) enum Part {
    Window(WindowColumn),
    Key(usize),
}

/// An aggregate's input with its GROUP BY sorted out.
pub(super) struct Input {
    pub built: Built,
    pub grouping: Grouping,
    pub aggregates: Vec<AggregateSpec>,
    pub outermost: bool,
    /// What keys and aggregates read: the plan's columns, then those computed of pairs.
    pub wide: SchemaRef,
    pub pairs: Option<Arc<Pairs>>,
}

impl Input {
    pub(super) fn window_parts(&self) -> Vec<WindowColumn> {
        self.grouping
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::Window(column) => Some(*column),
                Part::Key(_) => None,
            })
            .collect()
    }

    /// The columns of a window that an earlier node made, when the GROUP BY tells the window by them.
    pub(super) fn assigned_window(&self) -> Result<Option<(usize, usize)>, PlanError> {
        let roles = &self.built.plan.facts.windows;
        let start = roles.iter().position(|role| role.is_some_and(WindowRole::is_start));
        let end = roles.iter().position(|role| role.is_some_and(|role| !role.is_start()));
        let (Some(start), Some(end)) = (start, end) else { return Ok(None) };
        let keys = &self.grouping.keys;
        let tells = |column: usize| {
            keys.contains(&column) && roles[column].is_some_and(WindowRole::tells_window)
        };
        let has_both = keys.contains(&start) && keys.contains(&end);
        if has_both || tells(start) || tells(end) {
            return Ok(Some((start, end)));
        }
        let missing = match (keys.contains(&start), keys.contains(&end)) {
            (true, _) => WINDOW_END,
            (_, true) => WINDOW_START,
            (false, false) => return Ok(None),
        };
        Err(PlanError::Window {
            code: SqlState::GROUPING,
            message: format!("column \"{missing}\" must appear in the GROUP BY clause"),
            hint: Some(format!(
                "Several windows share the other bound: add {missing} to GROUP BY."
            )),
        })
    }

    /// Removes the window's columns from the keys and renumbers the rest.
    pub(super) fn drop_window_keys(&mut self, start: usize, end: usize) {
        let old = std::mem::take(&mut self.grouping.keys);
        let mut renumbered = vec![0; old.len()];
        for (index, column) in old.iter().enumerate() {
            if *column != start && *column != end {
                renumbered[index] = self.grouping.keys.len();
                self.grouping.keys.push(*column);
            }
        }
        for part in &mut self.grouping.parts {
            if let Part::Key(key) = part {
                *key = renumbered[*key];
            }
        }
    }

    /// Window columns, keys, aggregates.
    pub(super) fn output_schema(
        &self,
        columns: &[WindowColumn],
        kind: &WindowKind,
        time_type: &DataType,
    ) -> SchemaRef {
        let bounds = columns.iter().map(|column| window_field(*column, kind, time_type));
        self.schema_behind(bounds.collect())
    }

    /// The bounds that an earlier node made, keys, aggregates.
    pub(super) fn stacked_schema(
        &self,
        bounds: [Option<WindowRole>; 2],
        time_type: &DataType,
    ) -> SchemaRef {
        let names = [WINDOW_START, WINDOW_END];
        let fields = names.into_iter().zip(bounds).map(|(name, role)| {
            let field = Field::new(name, time_type.clone(), true);
            role.map_or(field.clone(), |role| role.mark(field))
        });
        self.schema_behind(fields.collect())
    }

    /// Keys, aggregates.
    pub(super) fn unwindowed_schema(&self) -> SchemaRef {
        self.schema_behind(Vec::new())
    }

    fn schema_behind(&self, mut fields: Vec<Field>) -> SchemaRef {
        for key in &self.grouping.keys {
            fields.push(self.wide.field(*key).clone());
        }
        fields.extend(self.aggregates.iter().map(|aggregate| Field::clone(&aggregate.output)));
        Arc::new(Schema::new(fields))
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of the node that it makes")]
    pub(super) fn finish(
        self,
        node: Node,
        schema: SchemaRef,
        facts: Facts,
        state: StateBound,
        columns: &[WindowColumn],
        aggregate: &Aggregate,
    ) -> Built {
        let keys_from = columns.len();
        let aggregates_from = keys_from + self.grouping.keys.len();
        let mut slots: Vec<Slot> = self
            .grouping
            .parts
            .iter()
            .map(|part| {
                Slot::Column(match part {
                    Part::Key(key) => keys_from + key,
                    Part::Window(window) => {
                        columns.iter().position(|c| c == window).unwrap_or_default()
                    }
                })
            })
            .collect();
        slots.extend((0..self.aggregates.len()).map(|i| Slot::Column(aggregates_from + i)));
        let plan = PhysicalPlan { node, schema, facts, state, inputs: vec![self.built.plan] };
        Built { plan, schema: Arc::clone(&aggregate.schema), slots, pending: None }
    }
}
