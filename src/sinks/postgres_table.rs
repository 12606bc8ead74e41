//! Prepares a PostgreSQL table for a sink: finds, creates or checks it, and writes its statements.

use arrow::datatypes::{DataType, Field};
use tokio_postgres::Client;

use crate::data::schema::is_json;
use crate::error::SqlState;
use crate::sinks::ddl::{self, Flavour, TableName, quote};
use crate::sinks::failure::Failure;
use crate::sinks::postgres_session::judge;
use crate::sinks::progress::{self, Marked};
use crate::sinks::sink::{SinkError, SinkMode, SinkPlan};
use crate::sinks::values::canonical_type;

/// The staging table of a connection.
const STAGE: &str = "pg_temp.weir_stage";
/// PostgreSQL 15 has UNIQUE NULLS NOT DISTINCT.
const NULLS_NOT_DISTINCT_SINCE: i32 = 150_000;
/// PostgreSQL 15 has MERGE, too.
const MERGE_SINCE: i32 = 150_000;
/// Percent of a page that new rows fill: in the rest each row finds room for its next version beside it, even
/// where one transaction replaces them all, so that no index needs to know.
const FILL: u32 = 45;
/// Of `pg_advisory_xact_lock`: one sink at a time creates tables. The bytes of "weir".
const PREPARE_LOCK: i64 = 0x7765_6972;

/// The statements of a sink.
#[derive(Debug, Clone)]
pub(crate) struct Statements {
    /// Moves the mark.
    pub(crate) advance: String,
    /// Reads the mark.
    pub(crate) read_mark: String,
    /// COPY … FROM STDIN, into the stage in upsert mode.
    pub(crate) copy: String,
    /// What upsert does with the stage.
    pub(crate) upsert: Option<UpsertStatements>,
}

/// The statements of upsert mode.
#[derive(Debug, Clone)]
pub(crate) struct UpsertStatements {
    /// Makes the stage, with the types that the table's columns have.
    pub(crate) create_stage: String,
    /// Deletes the keys that are to go.
    pub(crate) delete: String,
    /// Deletes rows with nulls in their key: ON CONFLICT would not meet them in a UNIQUE that takes
    /// nulls for distinct.
    pub(crate) delete_null_keys: String,
    /// Puts the rows, whatever other writers do at the same time.
    pub(crate) insert: String,
    /// Puts the rows in half the time, where the server and the table allow it: not where rows could meet
    /// another unique key, in an order that the server chooses. A writer that puts the same key at the same
    /// time makes it fail; then `insert` is taken.
    pub(crate) merge: Option<String>,
    /// Empties the stage inside a transaction.
    pub(crate) clear_stage: String,
}

/// A mark that is claimed, and the statements that go with it.
#[derive(Debug)]
pub(crate) struct Claimed {
    /// The mark.
    pub(crate) mark: Marked,
    /// The statements.
    pub(crate) statements: Statements,
}

/// Creates or checks the table and claims the mark; runs inside a transaction.
pub(crate) async fn prepare(client: &Client, plan: &SinkPlan) -> Result<Claimed, Failure> {
    let failed = |error| judge(&plan.name, &error);
    client.execute("SELECT pg_advisory_xact_lock($1)", &[&PREPARE_LOCK]).await.map_err(failed)?;
    let version = client.query_one("SELECT current_setting('server_version_num')::int", &[]).await;
    let version: i32 = version.map_err(failed)?.get(0);
    let (schema, exists) = resolve(client, plan).await?;
    let name = TableName { schema: Some(schema.0.clone()), name: schema.1 };
    let table = name.sql();
    if exists {
        check(client, plan, &table).await?;
    } else {
        let create = create_table(plan, &table, version);
        client.batch_execute(&create).await.map_err(failed)?;
    }
    let marks = format!("{}.{}", quote(&schema.0), quote(progress::PROGRESS));
    let mark = claim(client, plan, &marks, &table).await?;
    let merges = merges(client, plan, &table, version).await?;
    let statements = Statements::new(plan, (&table, &marks), merges);
    Ok(Claimed { mark, statements })
}

/// Takes the plan's mark out, where there are marks.
pub(crate) async fn forget(client: &Client, plan: &SinkPlan) -> Result<(), Failure> {
    let failed = |error| judge(&plan.name, &error);
    let (schema, _) = resolve(client, plan).await?;
    let marks = format!("{}.{}", quote(&schema.0), quote(progress::PROGRESS));
    let find = "SELECT to_regclass($1) IS NOT NULL";
    if client.query_one(find, &[&marks]).await.map_err(failed)?.get(0) {
        let forget = progress::forget_progress(&marks);
        client.execute(&forget, &[&plan.id]).await.map_err(failed)?;
    }
    Ok(())
}

/// The schema and name of the table, and whether it is there.
async fn resolve(client: &Client, plan: &SinkPlan) -> Result<((String, String), bool), Failure> {
    let failed = |error| judge(&plan.name, &error);
    let find = "SELECT n.nspname::text, c.relname::text FROM pg_class c \
                JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)";
    if let Some(row) = client.query_opt(find, &[&plan.table.sql()]).await.map_err(failed)? {
        return Ok(((row.get(0), row.get(1)), true));
    }
    let schema = match &plan.table.schema {
        Some(schema) => Some(schema.clone()),
        None => {
            let row = client.query_one("SELECT current_schema()::text", &[]).await;
            row.map_err(failed)?.get(0)
        }
    };
    let schema = schema.ok_or_else(|| {
        Failure::Sink(SinkError::Mismatch {
            code: SqlState::UNDEFINED_RELATION,
            message: format!("no schema has been selected for table \"{}\"", plan.table),
            detail: "The search path of the user names no schema that exists.".into(),
            hint: "Name the table with its schema.".into(),
        })
    })?;
    Ok(((schema, plan.table.name.clone()), false))
}

fn create_table(plan: &SinkPlan, table: &str, version: i32) -> String {
    let nullable = plan.key.iter().any(|&key| plan.schema.field(key).is_nullable());
    // A null in the key is a value like others to the query, and none to a PRIMARY KEY.
    let clause = match nullable && version >= NULLS_NOT_DISTINCT_SINCE {
        true => "UNIQUE NULLS NOT DISTINCT",
        false => "PRIMARY KEY",
    };
    let create = ddl::create_table(Flavour::Postgres, plan, table, clause);
    match plan.mode {
        SinkMode::Upsert => format!("{create} WITH (fillfactor = {FILL})"),
        SinkMode::Append | SinkMode::Changelog => create,
    }
}

/// Whether MERGE does what INSERT … ON CONFLICT does: into a table, without rules, with one unique key.
async fn merges(
    client: &Client,
    plan: &SinkPlan,
    table: &str,
    version: i32,
) -> Result<bool, Failure> {
    let judged = "SELECT relkind IN ('r', 'p') AND NOT relhasrules AND 1 = (SELECT count(*) \
                  FROM pg_index WHERE indrelid = oid AND (indisunique OR indisexclusion)) \
                  FROM pg_class WHERE oid = to_regclass($1)";
    let row = client.query_one(judged, &[&table]).await.map_err(|e| judge(&plan.name, &e))?;
    Ok(version >= MERGE_SINCE && row.get(0))
}

/// Checks that an existing table has the columns, of kinds that can hold the values.
async fn check(client: &Client, plan: &SinkPlan, table: &str) -> Result<(), Failure> {
    let list = "SELECT a.attname::text, t.typcategory::text, format_type(a.atttypid, a.atttypmod), \
                a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' \
                FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
                WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped";
    let rows = client.query(list, &[&table]).await.map_err(|e| judge(&plan.name, &e))?;
    let found: Vec<(String, String, String, bool)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    let wanted = ddl::column_names(plan);
    let lacking: Vec<String> =
        wanted.iter().filter(|name| !found.iter().any(|f| f.0 == **name)).cloned().collect();
    let (added, missing) = progress::added_columns(plan, lacking);
    let unfillable: Vec<String> = found
        .iter()
        .filter(|(name, _, _, required)| *required && !wanted.contains(name))
        .map(|found| found.0.clone())
        .collect();
    progress::check_names(plan, &missing, &unfillable).map_err(Failure::Sink)?;
    for field in plan.schema.fields() {
        let expected = category(field);
        let column = found.iter().find(|found| found.0 == *field.name());
        let Some((_, actual, type_name, _)) = column else { continue };
        if !(*actual == expected || actual == "S" || expected == "S") {
            return Err(Failure::Sink(SinkError::Mismatch {
                code: SqlState::TYPE_MISMATCH,
                message: format!("table \"{}\" does not fit sink \"{}\"", plan.table, plan.name),
                detail: format!(
                    "Its column \"{}\" has the type {type_name} and should be {}.",
                    field.name(),
                    ddl::column_type(Flavour::Postgres, field)
                ),
                hint: "Change the table, or name one that does not exist: it is created.".into(),
            }));
        }
    }
    for field in added {
        let (name, kind) = (quote(field.name()), ddl::column_type(Flavour::Postgres, &field));
        let alter = format!("ALTER TABLE {table} ADD COLUMN {name} {kind}");
        client.batch_execute(&alter).await.map_err(|e| judge(&plan.name, &e))?;
    }
    Ok(())
}

/// PostgreSQL's category of the type that a column would get.
fn category(field: &Field) -> &'static str {
    match canonical_type(field.data_type()) {
        Some(DataType::Boolean) => "B",
        Some(
            DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Decimal128(..),
        ) => "N",
        Some(DataType::Date32 | DataType::Timestamp(..) | DataType::Time64(_)) => "D",
        Some(DataType::Interval(_)) => "T",
        Some(DataType::List(item)) if ddl::is_array_item(item.data_type()) => "A",
        Some(DataType::List(_) | DataType::Struct(_) | DataType::Binary) => "U",
        _ if is_json(field) => "U",
        _ => "S",
    }
}

/// Judges other sinks' marks on the table, and claims the plan's.
async fn claim(
    client: &Client,
    plan: &SinkPlan,
    marks: &str,
    table: &str,
) -> Result<Marked, Failure> {
    let failed = |error| judge(&plan.name, &error);
    // Asked first, because CREATE … IF NOT EXISTS needs the right to create even if it is there.
    let there = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&marks]).await;
    if !there.map_err(failed)?.get::<_, bool>(0) {
        client.batch_execute(&progress::create_progress(marks)).await.map_err(failed)?;
    }
    let list = format!(
        "SELECT sink, changelog, \"offset\" FROM {marks} WHERE target = $1 AND sink <> $2 \
         ORDER BY sink FOR UPDATE"
    );
    let rows = client.query(&list, &[&table, &plan.id]).await.map_err(failed)?;
    let others: Vec<(String, String, i64)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let (start, counted) = progress::adopted(plan, &others).map_err(Failure::Sink)?;
    if !others.is_empty() {
        let drop = format!("DELETE FROM {marks} WHERE target = $1 AND sink <> $2");
        client.execute(&drop, &[&table, &plan.id]).await.map_err(failed)?;
    }
    let claim = progress::claim_progress(marks);
    let row =
        client.query_one(&claim, &[&plan.id, &table, &start, &counted]).await.map_err(failed)?;
    Ok(Marked { offset: row.get(0), fence: row.get(1), counted: row.get(2) }.judge(plan)?)
}

impl Statements {
    fn new(plan: &SinkPlan, (table, marks): (&str, &str), merges: bool) -> Statements {
        let columns: Vec<String> = ddl::column_names(plan).iter().map(|c| quote(c)).collect();
        let list = columns.join(", ");
        let upsert = (plan.mode == SinkMode::Upsert)
            .then(|| UpsertStatements::new(plan, (table, &columns), merges));
        Statements {
            advance: progress::advance_progress(marks),
            read_mark: format!("SELECT \"offset\", fence FROM {marks} WHERE sink = $1"),
            copy: match &upsert {
                // The stage has exactly the operation and the columns, in this order.
                Some(_) => format!("COPY {STAGE} FROM STDIN"),
                None => format!("COPY {table} ({list}) FROM STDIN"),
            },
            upsert,
        }
    }
}

impl UpsertStatements {
    fn new(plan: &SinkPlan, (table, columns): (&str, &[String]), merges: bool) -> UpsertStatements {
        let list = columns.join(", ");
        let mut operation = String::from("operation");
        while plan.schema.fields().iter().any(|field| *field.name() == operation) {
            operation.push('_');
        }
        let keys = ddl::names(&plan.schema, &plan.key);
        let on_keys = |term: &dyn Fn(&String) -> String, between: &str| {
            keys.iter().map(term).collect::<Vec<_>>().join(between)
        };
        let sets = |from: &str| {
            let columns = columns.iter().filter(|column| !keys.contains(column));
            let sets: Vec<String> = columns.map(|c| format!("{c} = {from}.{c}")).collect();
            match sets.is_empty() {
                true => "DO NOTHING".into(),
                false => format!("UPDATE SET {}", sets.join(", ")),
            }
        };
        let on_conflict = match sets("excluded") {
            nothing if nothing.starts_with("DO ") => nothing,
            update => format!("DO {update}"),
        };
        let values: Vec<String> = columns.iter().map(|column| format!("s.{column}")).collect();
        let merge = merges.then(|| {
            format!(
                "MERGE INTO {table} AS t USING (SELECT {list} FROM {STAGE} WHERE {operation} = 1) AS s \
                 ON {} WHEN MATCHED THEN {} WHEN NOT MATCHED THEN INSERT ({list}) VALUES ({})",
                on_keys(&|key| format!("t.{key} = s.{key}"), " AND "),
                sets("s"),
                values.join(", ")
            )
        });
        UpsertStatements {
            create_stage: format!(
                "CREATE TEMP TABLE weir_stage ON COMMIT DELETE ROWS AS \
                 SELECT 0::smallint AS {operation}, {list} FROM {table} WITH NO DATA"
            ),
            delete: format!(
                "DELETE FROM {table} AS t USING {STAGE} AS s WHERE s.{operation} = -1 AND {}",
                on_keys(&|key| format!("t.{key} = s.{key}"), " AND ")
            ),
            delete_null_keys: format!(
                "DELETE FROM {table} AS t USING {STAGE} AS s WHERE ({}) AND {}",
                on_keys(&|key| format!("s.{key} IS NULL"), " OR "),
                on_keys(&|key| format!("t.{key} IS NOT DISTINCT FROM s.{key}"), " AND ")
            ),
            insert: format!(
                "INSERT INTO {table} ({list}) SELECT {list} FROM {STAGE} WHERE {operation} = 1 \
                 ON CONFLICT ({}) {on_conflict}",
                keys.join(", ")
            ),
            merge,
            clear_stage: format!("DELETE FROM {STAGE}"),
        }
    }

    /// Makes the stage of this connection, and lets PostgreSQL plan each statement once, so that a
    /// key without a unique constraint and missing rights show before the first row.
    pub(crate) async fn open(&self, client: &Client, plan: &SinkPlan) -> Result<(), Failure> {
        let failed = |error| judge(&plan.name, &error);
        client.batch_execute(&self.create_stage).await.map_err(failed)?;
        for statement in [&self.delete, &self.delete_null_keys, &self.insert] {
            let planned = client.batch_execute(&format!("EXPLAIN {statement}")).await;
            match planned {
                Ok(()) => {}
                Err(error) if error.code().is_some_and(|code| code.code() == "42P10") => {
                    let keys = ddl::names(&plan.schema, &plan.key).join(", ");
                    let table = plan.table.sql();
                    return Err(Failure::Sink(SinkError::Mismatch {
                        code: SqlState::INVALID_PARAMETER,
                        message: format!(
                            "table \"{}\" does not fit sink \"{}\"",
                            plan.table, plan.name
                        ),
                        detail: format!("It has no unique constraint on ({keys})."),
                        hint: format!("ALTER TABLE {table} ADD UNIQUE ({keys})."),
                    }));
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }
}
