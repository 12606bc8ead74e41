//! Refuses queries that grow beyond measure when their CTEs are put in place of their names.
//!
//! A CTE is planned once for each time it is named, so a chain of n CTEs that each name the one
//! before twice makes 2^n relations. The number is counted here, before anything is planned.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, ObjectName, Query, Visit, Visitor};

use crate::error::SqlState;
use crate::planner::error::PlanError;

/// Relations and subqueries of a query whose CTEs are put in place.
const RELATIONS_MAX: u64 = 2_000;

/// Checks how large the query becomes.
///
/// # Errors
/// 54000 when it is too large.
pub(super) fn check(query: &Query) -> Result<(), PlanError> {
    let mut counter = Counter { open: vec![Open::default()] };
    let walked: ControlFlow<()> = Visit::visit(query, &mut counter);
    debug_assert!(walked.is_continue(), "the counter never breaks off");
    let relations = counter.open.first().map_or(0, |open| open.relations);
    if relations <= RELATIONS_MAX {
        return Ok(());
    }
    Err(PlanError::Window {
        code: SqlState::PROGRAM_LIMIT,
        message: format!(
            "query has more than {RELATIONS_MAX} relations when its CTEs are put in place"
        ),
        hint: Some("Make the common part a continuous query, and name that.".into()),
    })
}

/// A query that is being visited.
#[derive(Default)]
struct Open {
    /// So far, in its body.
    relations: u64,
    /// Sizes of the CTEs that are visible in it, by folded name.
    sizes: BTreeMap<String, u64>,
    /// Addresses of its CTEs' queries: they count where they are named, not where they stand.
    ctes: Vec<(*const Query, String)>,
}

struct Counter {
    /// The queries around the current place, outermost first.
    open: Vec<Open>,
}

impl Counter {
    fn size_of(&self, name: &str) -> Option<u64> {
        self.open.iter().rev().find_map(|open| open.sizes.get(name)).copied()
    }

    fn add(&mut self, relations: u64) {
        let open = self.open.last_mut().expect("the outermost is never closed");
        open.relations = open.relations.saturating_add(relations);
    }
}

impl Visitor for Counter {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        let ctes = ctes
            .map(|cte| (std::ptr::from_ref(&*cte.query), cte.alias.name.value.to_lowercase()))
            .collect();
        self.open.push(Open { relations: 1, ctes, ..Open::default() });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let Some(closed) = self.open.pop() else { return ControlFlow::Continue(()) };
        let outer = self.open.last_mut().expect("the outermost is never closed");
        let address = std::ptr::from_ref(query);
        match outer.ctes.iter().find(|(cte, _)| *cte == address) {
            Some((_, name)) => drop(outer.sizes.insert(name.clone(), closed.relations)),
            None => self.add(closed.relations),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        let size = match name.0.as_slice() {
            [part] => part.as_ident().and_then(|id| self.size_of(&id.value.to_lowercase())),
            _ => None,
        };
        self.add(size.unwrap_or(1));
        ControlFlow::Continue(())
    }

    /// The relation of a window function looks like a column.
    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Identifier(name) = expr
            && let Some(size) = self.size_of(&name.value.to_lowercase())
        {
            self.add(size);
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::error::Report;
    use crate::sql::parse::parse_statement;
    use crate::sql::statement::Statement;

    fn refused(sql: &str) -> bool {
        let Ok(Statement::Query(query)) = parse_statement(sql) else { panic!("{sql}") };
        check(&query).is_err_and(|error| error.code().0 == "54000")
    }

    fn chain(links: usize, link: &str) -> String {
        let mut ctes = vec!["c0 AS (SELECT 1 AS x)".to_string()];
        ctes.extend(
            (1..=links).map(|n| format!("c{n} AS ({})", link.replace("$", &format!("c{}", n - 1)))),
        );
        format!("WITH {} SELECT * FROM c{links}", ctes.join(", "))
    }

    #[test]
    fn a_chain_of_ctes_that_doubles_is_refused_and_one_that_does_not_is_taken() {
        assert!(refused(&chain(30, "SELECT a.x FROM $ AS a, $ AS b")));
        assert!(refused(&chain(64, "SELECT x FROM $ UNION ALL SELECT x FROM $")));
        assert!(refused(&chain(30, "SELECT x FROM $ WHERE x IN (SELECT x FROM $)")));
        assert!(refused(&chain(30, "SELECT x FROM TUMBLE($, x, 1) UNION ALL SELECT x FROM $")));
        assert!(!refused(&chain(30, "SELECT x FROM $")));
        assert!(!refused(&chain(5, "SELECT a.x FROM $ AS a, $ AS b")));
    }
}
