//! Answers EXPLAIN: the plan with its state bounds and edges, and with ANALYZE the live figures.

use std::sync::atomic::Ordering;

use datafusion::sql::sqlparser::ast::Query;

use crate::engine::StatementResult;
use crate::engine::execute::texts;
use crate::engine::query::QueryState;
use crate::engine::state::Engine;
use crate::error::{Error, Result, SqlState};
use crate::pipeline::figures::OperatorFigures;
use crate::planner::explain::explain;
use crate::planner::plan_continuous;
use crate::sql::statement::{EmitClause, ExplainTarget};

impl Engine {
    /// EXPLAIN [ANALYZE].
    pub(super) fn explain(&self, analyze: bool, target: &ExplainTarget) -> Result<StatementResult> {
        let lines = match target {
            ExplainTarget::Query(query, emit) => match self.explain_query(query, emit) {
                Err(error)
                    if error.code() == SqlState::NOT_SUPPORTED
                        && *emit == EmitClause::default() =>
                {
                    // What only SELECT does has no plan of operators.
                    self.bind_once(query)?;
                    once(&error)
                }
                explained => explained?,
            },
            ExplainTarget::Create(create) => self.explain_query(&create.query, &create.emit)?,
            ExplainTarget::Name(name) => {
                let query = self.query_state(name)?;
                let mut lines = explain(&query.shape().plan);
                if analyze {
                    lines.extend(live(&query));
                }
                lines
            }
        };
        Ok(texts("EXPLAIN", &["plan"], vec![lines]))
    }

    fn explain_query(&self, query: &Query, emit: &EmitClause) -> Result<Vec<String>> {
        let plan = self.planning(|lookup| plan_continuous(query, emit, false, lookup))?;
        Ok(explain(&plan))
    }
}

fn once(refused: &Error) -> Vec<String> {
    let mut lines = vec![
        "Select: answered once, from the rows that are there".to_owned(),
        "    state none: nothing is kept running".to_owned(),
        format!("    as a continuous query it is refused: {}", refused.message()),
    ];
    lines.extend(refused.hint().map(|hint| format!("    {hint}")));
    lines
}

fn live(query: &QueryState) -> Vec<String> {
    let figures = &query.figures;
    let mut lines = vec![format!(
        "steps {}, rows in {}, rows out {}, late {}, rejected {}, state {} bytes",
        figures.steps.load(Ordering::Relaxed),
        figures.rows_in.load(Ordering::Relaxed),
        figures.rows_out.load(Ordering::Relaxed),
        figures.late_rows.load(Ordering::Relaxed),
        figures.rejected_rows.load(Ordering::Relaxed),
        figures.state_bytes.load(Ordering::Relaxed),
    )];
    lines.extend(query.memory_line());
    for (node, operator) in query.operators.lock().iter().enumerate() {
        let OperatorFigures { name, state_bytes, shards, rows, .. } = operator;
        let shards = if *shards > 1 { format!(", {shards} shards") } else { String::new() };
        lines.push(format!(
            "{node} {name}: rows in {}, rows out {}, state {state_bytes} bytes{shards}",
            rows.rows_in, rows.rows_out
        ));
    }
    lines
}
