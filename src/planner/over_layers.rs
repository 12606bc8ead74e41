//! Finds the windows of one SELECT.
//!
//! DataFusion puts windows with different PARTITION BY on top of each other, with projections between
//! them that drop columns. As long as none of them reads another's answer they are one layer: one
//! operator then holds the rows once.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::expr::WindowFunctionParams;
use datafusion::logical_expr::{Expr, LogicalPlan, Window, WindowFunctionDefinition};

use crate::planner::error::PlanError;

/// A function of an OVER clause as DataFusion has it.
pub(super) struct WindowCall {
    pub function: WindowFunctionDefinition,
    pub params: WindowFunctionParams,
    /// The column of its answers.
    pub field: FieldRef,
}

/// Where a column of the topmost window comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum LayerColumn {
    /// A column of what lies below all windows.
    Base(usize),
    /// The answers of a call.
    Call(usize),
}

/// Windows that are one layer.
pub(super) struct Layers<'a> {
    /// What lies below them.
    pub base: &'a LogicalPlan,
    pub calls: Vec<WindowCall>,
    /// The columns of the topmost window.
    pub outputs: Vec<LayerColumn>,
}

/// The layer that ends with a window.
pub(super) fn layers_of(window: &Window) -> Result<Layers<'_>, PlanError> {
    let alone = || Layers {
        base: window.input.as_ref(),
        calls: vec![],
        outputs: (0..window.input.schema().fields().len()).map(LayerColumn::Base).collect(),
    };
    let below = match window.input.as_ref() {
        LogicalPlan::Window(below) => Some(layers_of(below)?),
        LogicalPlan::Projection(projection) => match projection.input.as_ref() {
            LogicalPlan::Window(below) => passed_on(&projection.expr, below)?,
            _ => None,
        },
        _ => None,
    };
    let input = window.input.schema();
    let exprs = below.and_then(|layers| {
        let exprs: Option<Vec<Expr>> =
            window.window_expr.iter().map(|expr| over_base(expr, input, &layers)).collect();
        Some((layers, exprs?))
    });
    let (mut layers, exprs) = exprs.unwrap_or_else(|| (alone(), window.window_expr.clone()));
    let width = input.fields().len();
    for (expr, field) in exprs.iter().zip(&window.schema.fields()[width..]) {
        layers.outputs.push(LayerColumn::Call(layers.calls.len()));
        layers.calls.push(window_call(expr, field)?);
    }
    Ok(layers)
}

/// The layer below a projection, if that only passes columns on.
fn passed_on<'a>(exprs: &[Expr], below: &'a Window) -> Result<Option<Layers<'a>>, PlanError> {
    let sources: Option<Vec<usize>> =
        exprs.iter().map(|expr| below.schema.maybe_index_of_column(plain(expr)?)).collect();
    let Some(sources) = sources else { return Ok(None) };
    let layers = layers_of(below)?;
    let outputs = sources.into_iter().map(|source| layers.outputs[source]).collect();
    Ok(Some(Layers { outputs, ..layers }))
}

fn plain(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Alias(alias) => plain(&alias.expr),
        Expr::Column(column) => Some(column),
        _ => None,
    }
}

/// An expression in columns of the base; `None` where it reads an answer of the layer.
fn over_base(expr: &Expr, input: &DFSchema, layers: &Layers<'_>) -> Option<Expr> {
    let base = layers.base.schema();
    let mut reads_answer = false;
    let moved = expr.clone().transform(|node| {
        let Expr::Column(column) = &node else { return Ok(Transformed::no(node)) };
        let place = input.index_of_column(column)?;
        match layers.outputs[place] {
            LayerColumn::Base(place) => {
                let column = Column::from(base.qualified_field(place));
                Ok(Transformed::yes(Expr::Column(column)))
            }
            LayerColumn::Call(_) => {
                reads_answer = true;
                Ok(Transformed::no(node))
            }
        }
    });
    moved.ok().map(|moved| moved.data).filter(|_| !reads_answer)
}

fn window_call(expr: &Expr, field: &FieldRef) -> Result<WindowCall, PlanError> {
    match expr {
        Expr::Alias(alias) => window_call(&alias.expr, field),
        Expr::WindowFunction(call) => Ok(WindowCall {
            function: call.fun.clone(),
            params: call.params.clone(),
            field: Arc::clone(field),
        }),
        other => Err(PlanError::unsupported(format!("OVER of {other}"), "Ask it with SELECT.")),
    }
}
