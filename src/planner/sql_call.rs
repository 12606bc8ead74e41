//! Writes calls of functions and operators, and queries around queries, into the text's tree, before it is planned.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, Ident, ObjectName, Query, SelectItem, SetExpr,
    TableAlias, TableAliasColumnDef, TableFactor, TableWithJoins,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// `name(arguments, …)`.
pub(super) fn sql_call(name: &str, arguments: Vec<Expr>) -> Expr {
    let argument = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(argument).collect(),
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

/// `left op right`.
pub(super) fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// `CAST(expr AS BIGINT)`.
pub(super) fn as_bigint(expr: Expr) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(expr),
        data_type: DataType::BigInt(None),
        array: false,
        format: None,
    }
}

/// `name`, or `name (columns, …)`.
pub(super) fn table_alias(name: &str, columns: Vec<Ident>) -> TableAlias {
    let column = |name| TableAliasColumnDef { name, data_type: None };
    let columns = columns.into_iter().map(column).collect();
    TableAlias { explicit: true, name: Ident::new(name), columns, at: None }
}

/// `SELECT items FROM (rows) AS alias WHERE selection`.
pub(super) fn select_from(
    rows: Query,
    alias: TableAlias,
    items: Vec<SelectItem>,
    selection: Option<Expr>,
) -> Query {
    let (subquery, alias) = (Box::new(rows), Some(alias));
    let relation = TableFactor::Derived { lateral: false, subquery, alias, sample: None };
    let mut query = template();
    if let SetExpr::Select(select) = &mut *query.body {
        select.projection = items;
        select.from = vec![TableWithJoins { relation, joins: vec![] }];
        select.selection = selection;
    }
    query
}

fn template() -> Query {
    let parser = Parser::new(&PostgreSqlDialect {}).try_with_sql("SELECT 1");
    let query = parser.and_then(|mut parser| parser.parse_query());
    *query.expect("SELECT 1 is a query")
}
