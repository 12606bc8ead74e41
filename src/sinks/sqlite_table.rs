//! Prepares a SQLite table for a sink: creates or checks it, and claims the sink's mark.

use rusqlite::{Connection, params};

use crate::sinks::ddl::{self, Flavour};
use crate::sinks::progress::{self, Marked, PROGRESS};
use crate::sinks::sink::{SinkError, SinkPlan};
use crate::sinks::sqlite::lost;

/// Creates the table, or checks that the one there has the columns.
pub(crate) fn create_or_check(connection: &Connection, plan: &SinkPlan) -> Result<(), SinkError> {
    let lost = |error| lost(&plan.name, &error);
    let mut found: Vec<String> = Vec::new();
    let mut unfillable: Vec<String> = Vec::new();
    let wanted = ddl::column_names(plan);
    let mut columns = connection
        .prepare(
            // An INTEGER PRIMARY KEY numbers itself.
            "SELECT name, \"notnull\" AND dflt_value IS NULL AND NOT (pk = 1 AND upper(type) = 'INTEGER') \
             FROM pragma_table_info(?1, 'main')",
        )
        .map_err(lost)?;
    let mut rows = columns.query(params![plan.table.name]).map_err(lost)?;
    while let Some(row) = rows.next().map_err(lost)? {
        let name: String = row.get(0).map_err(lost)?;
        let required: bool = row.get(1).map_err(lost)?;
        if required && !wanted.iter().any(|column| column.eq_ignore_ascii_case(&name)) {
            unfillable.push(name.clone());
        }
        found.push(name);
    }
    if found.is_empty() {
        let create = ddl::create_table(Flavour::Sqlite, plan, &plan.table.sql(), "PRIMARY KEY");
        return connection.execute_batch(&create).map_err(lost);
    }
    let lacks = |name: &String| !found.iter().any(|column| column.eq_ignore_ascii_case(name));
    let lacking: Vec<String> = wanted.into_iter().filter(lacks).collect();
    let (added, missing) = progress::added_columns(plan, lacking);
    progress::check_names(plan, &missing, &unfillable)?;
    for field in added {
        let (name, kind) = (ddl::quote(field.name()), ddl::column_type(Flavour::Sqlite, &field));
        let alter = format!("ALTER TABLE {} ADD COLUMN {name} {kind}", plan.table.sql());
        connection.execute_batch(&alter).map_err(lost)?;
    }
    Ok(())
}

/// Claims the plan's mark, after other sinks' marks on the table are judged.
pub(crate) fn claim_mark(connection: &Connection, plan: &SinkPlan) -> Result<Marked, SinkError> {
    let lost = |error| lost(&plan.name, &error);
    connection.execute_batch(&progress::create_progress(PROGRESS)).map_err(lost)?;
    let target = plan.table.name.to_ascii_lowercase();
    let mut others = connection
        .prepare(
            "SELECT sink, changelog, \"offset\" FROM weir_progress \
             WHERE target = ?1 AND sink <> ?2 ORDER BY sink",
        )
        .map_err(lost)?;
    let others: Vec<(String, String, i64)> = others
        .query_map(params![target, plan.id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .and_then(Iterator::collect)
        .map_err(lost)?;
    let (start, counted) = progress::adopted(plan, &others)?;
    if !others.is_empty() {
        let drop = "DELETE FROM weir_progress WHERE target = ?1 AND sink <> ?2";
        connection.execute(drop, params![target, plan.id]).map_err(lost)?;
    }
    connection
        .query_row(
            &progress::claim_progress(PROGRESS),
            params![plan.id, target, start, counted],
            |row| Ok(Marked { offset: row.get(0)?, fence: row.get(1)?, counted: row.get(2)? }),
        )
        .map_err(lost)?
        .judge(plan)
}

/// Takes the plan's mark out.
pub(crate) fn forget_mark(connection: &Connection, plan: &SinkPlan) -> Result<(), SinkError> {
    let lost = |error| lost(&plan.name, &error);
    connection.execute_batch(&progress::create_progress(PROGRESS)).map_err(lost)?;
    connection.execute(&progress::forget_progress(PROGRESS), params![plan.id]).map_err(lost)?;
    Ok(())
}
