//! Reads the arguments of FREQUENT_ITEMSETS and ASSOCIATION_RULES.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};

use crate::data::sql_words::type_in_sql_words;
use crate::error::SqlState;
use crate::operators::aggregates::mining::heavy_hitters::HeavyHitters;
use crate::operators::aggregates::mining::itemsets::ItemsetMiner;
use crate::planner::constants;
use crate::planner::error::PlanError;
use crate::planner::heavy_hitters_call::{checked_fractions, fraction};
use crate::planner::mining_call::{Mining, comparable, expression, expressions, mine, overlapping};
use crate::planner::relation_call::{Call, Parameters};
use crate::sketches::fraction::Fraction;
use crate::sketches::itemsets::SIZE_LIMIT;

/// Arguments of FREQUENT_ITEMSETS.
pub(super) const SETS: Parameters =
    (&["relation", "items"], &["by", "support", "error", "max_size"]);

/// Arguments of ASSOCIATION_RULES.
pub(super) const RULES: Parameters =
    (&["relation", "items"], &["by", "support", "error", "max_size", "confidence"]);

/// Items in a set where nothing else is said.
const SIZE_DEFAULT: u32 = 3;

/// Plans a call in FROM.
pub(super) fn plan(call: &Call, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let input = context.plan(call.relation()?)?;
    let schema = Arc::clone(input.schema());
    let items = expression(call.required("items")?.clone(), &schema, context)?;
    let list = items.expr.get_type(&schema)?;
    let item = ItemsetMiner::item_of(&list).ok_or_else(|| {
        let text = type_in_sql_words(&list);
        PlanError::Window {
            code: SqlState::TYPE_MISMATCH,
            message: format!("items of {} must be an array of values with an order, not {text}", call.function),
            hint: Some("Gather the items of a transaction with array_agg, or split a text with string_to_array.".into()),
        }
    })?;
    let by = expressions(call, "by", &schema, context)?;
    comparable(call, &by, &schema, HeavyHitters::takes)?;
    let support = fraction(call, "support", context)?.ok_or_else(|| call.missing("support"))?;
    let error = fraction(call, "error", context)?;
    let (support, error) = checked_fractions(&call.function, support, error)?;
    let confidence = match call.function.as_str() {
        "ASSOCIATION_RULES" => Some(confidence(call, context)?),
        _ => None,
    };
    let size_max = size_max(call, context)?;
    let (slices, time) = overlapping(&input, &schema)?.unzip();
    let miner = ItemsetMiner { support, error, size_max, confidence, item, slices };
    let columns = miner.columns();
    let arguments: Vec<Expr> = [items.expr].into_iter().chain(time).collect();
    mine(input, Mining { miner: Arc::new(miner), arguments, by, columns })
}

fn confidence(call: &Call, context: &mut dyn RelationPlannerContext) -> Result<Fraction> {
    let confidence =
        fraction(call, "confidence", context)?.ok_or_else(|| call.missing("confidence"))?;
    match confidence.exceeds(Fraction::ONE) {
        true => Err(call.bad("confidence", "between 0 and 1").into()),
        false => Ok(confidence),
    }
}

fn size_max(call: &Call, context: &mut dyn RelationPlannerContext) -> Result<u32> {
    let Some(value) = call.literal("max_size", context)? else { return Ok(SIZE_DEFAULT) };
    let size = constants::integer(&value).and_then(|size| u32::try_from(size).ok());
    let size = size.filter(|size| (1..=SIZE_LIMIT).contains(size));
    Ok(size.ok_or_else(|| call.bad("max_size", &format!("an integer from 1 to {SIZE_LIMIT}")))?)
}
