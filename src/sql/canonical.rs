//! Brings the parts of a statement that sqlparser parsed into the one form that survives printing.

use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    DataType, Expr, FunctionArg, FunctionArguments, Ident, ObjectName, ObjectNamePart, TableAlias,
    TableFactor, TableFunctionArgs, UnaryOperator, VisitMut, VisitorMut,
};

/// Rewrites in place. Visiting grows the stack as it needs.
pub(super) fn canonicalize(node: &mut impl VisitMut) {
    let ControlFlow::Continue(()) = node.visit(&mut Canonical);
}

struct Canonical;

impl VisitorMut for Canonical {
    type Break = Infallible;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        // `- - 1` would print as a comment, `- ~ 1` as another operator.
        if let Expr::UnaryOp { op, expr: operand } = expr
            && *op != UnaryOperator::Not
            && matches!(**operand, Expr::UnaryOp { .. })
        {
            let inner = std::mem::replace(&mut **operand, Expr::Identifier(Ident::new("")));
            **operand = Expr::Nested(Box::new(inner));
        }
        // sqlparser forgets the quotes of what stands behind a type that it does not know. No such
        // type exists, so its name alone is refused in the same way.
        if let Expr::Cast { data_type: DataType::Custom(_, arguments), .. } = expr {
            arguments.clear();
        }
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Infallible> {
        match factor {
            TableFactor::TableFunction { expr: Expr::Function(function), alias } => {
                if let FunctionArguments::List(list) = &mut function.args
                    && list.clauses.is_empty()
                {
                    *factor = table_function(
                        std::mem::take(&mut function.name.0),
                        std::mem::take(&mut list.args),
                        alias.take(),
                    );
                }
            }
            // The alias of a versioned table is moved by its AS.
            TableFactor::Table { version: Some(_), alias: Some(alias), .. } => {
                alias.explicit = true;
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// `FROM TABLE(f(…)) AS a` as `FROM f(…) AS a`.
fn table_function(
    name: Vec<ObjectNamePart>,
    args: Vec<FunctionArg>,
    alias: Option<TableAlias>,
) -> TableFactor {
    TableFactor::Table {
        name: ObjectName(name),
        alias,
        args: Some(TableFunctionArgs { args, settings: None }),
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    }
}
