//! Prepares a MySQL table for a sink: finds, creates or checks it, and claims the sink's mark.
//!
//! In MySQL, CREATE and ALTER commit by themselves: so what can be refused is judged before anything is
//! made, and everything that is made is found again by the next attempt.

use arrow::datatypes::{DataType, Field};

use crate::data::schema::is_json;
use crate::error::SqlState;
use crate::sinks::ddl::{self, CHANGE_OFFSET, CHANGE_OPERATION};
use crate::sinks::failure::Failure;
use crate::sinks::mysql_session::Session;
use crate::sinks::mysql_text::{literal, quote};
use crate::sinks::progress::{self, Marked, PROGRESS};
use crate::sinks::sink::{SinkError, SinkMode, SinkPlan};
use crate::sinks::values::canonical_type;

/// Seconds to wait until another sink has prepared its table.
const PREPARE_WAIT: u32 = 30;
/// Characters that fit into an index of 3,072 bytes.
const KEY_CHARACTERS: usize = 768;

/// A table that is prepared and a mark that is claimed.
#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    /// The mark.
    pub(crate) mark: Marked,
    /// The table's name as SQL.
    pub(crate) table: String,
    /// The name of the table of marks as SQL.
    pub(crate) marks: String,
    /// Whether a unique key other than the sink's could be met by a row.
    pub(crate) other_unique_keys: bool,
}

/// Creates or checks the table and claims the mark.
pub(crate) fn prepare(session: &mut Session, plan: &SinkPlan) -> Result<Claimed, Failure> {
    let database = database(session, plan)?;
    let table = format!("{}.{}", quote(&database), quote(&plan.table.name));
    let marks = format!("{}.{}", quote(&database), quote(PROGRESS));
    let lock = literal(&format!("weir {:08x}", crc32c::crc32c(database.as_bytes())));
    if session.value(&format!("SELECT GET_LOCK({lock}, {PREPARE_WAIT})"))?.as_deref() != Some("1") {
        let cause = "another sink prepares its table".into();
        return Err(SinkError::Unavailable { sink: plan.name.clone(), cause }.into());
    }
    let found = Found::read(session, plan, &database)?;
    let missing = found.as_ref().map(|found| found.check(plan)).transpose()?.unwrap_or_default();
    let mark = claim(session, plan, &marks, &database)?;
    match &found {
        None => drop(session.run(create_table(plan, &table, session.collation()))?),
        Some(_) if missing.is_empty() => {}
        Some(_) => {
            let added: Vec<String> = missing
                .iter()
                .map(|field| format!("ADD COLUMN {}", column(plan, field, session.collation())))
                .collect();
            session.run(format!("ALTER TABLE {table} {}", added.join(", ")))?;
        }
    }
    session.rows(&format!("SELECT RELEASE_LOCK({lock})"))?;
    let other_unique_keys = found.is_some_and(|found| found.has_other_unique_keys(plan));
    Ok(Claimed { mark, table, marks, other_unique_keys })
}

/// Takes the plan's mark out, where there are marks.
pub(crate) fn forget(session: &mut Session, plan: &SinkPlan) -> Result<(), Failure> {
    let database = database(session, plan)?;
    let find = format!(
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = {} AND table_name = {}",
        literal(&database),
        literal(PROGRESS)
    );
    if session.value(&find)?.as_deref() != Some("0") {
        let marks = format!("{}.{}", quote(&database), quote(PROGRESS));
        session.run(format!("DELETE FROM {marks} WHERE sink = {}", literal(&plan.id)))?;
    }
    Ok(())
}

fn database(session: &mut Session, plan: &SinkPlan) -> Result<String, Failure> {
    match &plan.table.schema {
        Some(schema) => Ok(schema.clone()),
        None => Ok(session.value("SELECT DATABASE()")?.unwrap_or_default()),
    }
}

/// Judges other sinks' marks on the table, and claims the plan's.
fn claim(
    session: &mut Session,
    plan: &SinkPlan,
    marks: &str,
    database: &str,
) -> Result<Marked, Failure> {
    let name = |length| format!("VARCHAR({length}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
    session.run(format!(
        "CREATE TABLE IF NOT EXISTS {marks} (sink {} NOT NULL PRIMARY KEY, target {} NOT NULL, \
         `offset` BIGINT NOT NULL, fence BIGINT NOT NULL, changelog {} NOT NULL) ENGINE = InnoDB",
        name(255),
        name(300),
        name(255)
    ))?;
    let id = literal(&plan.id);
    let target = literal(&format!("{database}.{}", plan.table.name));
    let others = format!("FROM {marks} WHERE target = {target} AND sink <> {id}");
    session.run("START TRANSACTION")?;
    let rows = session
        .rows(&format!("SELECT sink, changelog, `offset` {others} ORDER BY sink FOR UPDATE"))?;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let found: Vec<(String, String, i64)> = rows
        .iter()
        .map(|row| (text(&row[0]), text(&row[1]), text(&row[2]).parse().unwrap_or(0)))
        .collect();
    let (start, counted) = match progress::adopted(plan, &found) {
        Ok(start) => start,
        Err(error) => {
            session.run("ROLLBACK")?;
            return Err(error.into());
        }
    };
    if !found.is_empty() {
        session.run(format!("DELETE {others}"))?;
    }
    session.run(format!(
        "INSERT INTO {marks} (sink, target, `offset`, fence, changelog) \
         VALUES ({id}, {target}, {start}, 1, {}) ON DUPLICATE KEY UPDATE fence = fence + 1",
        literal(&counted)
    ))?;
    let mark = read_mark(session, marks, &plan.id)?;
    let judged = mark.ok_or_else(|| progress::fenced(plan, (start, 1), None));
    let judged = judged.and_then(|mark| mark.judge(plan));
    session.run(if judged.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    Ok(judged?)
}

/// A sink's mark.
pub(crate) fn read_mark(
    session: &mut Session,
    marks: &str,
    id: &str,
) -> Result<Option<Marked>, Failure> {
    let sql =
        format!("SELECT `offset`, fence, changelog FROM {marks} WHERE sink = {}", literal(id));
    let number = |value: &Option<String>| value.as_ref().and_then(|text| text.parse().ok());
    let rows = session.rows(&sql)?;
    Ok(rows.first().and_then(|row| {
        let counted = row.get(2)?.clone().unwrap_or_default();
        Some(Marked { offset: number(row.first()?)?, fence: number(row.get(1)?)?, counted })
    }))
}

/// An existing table.
struct Found {
    engine: String,
    /// Name, type, its category, and whether a row must name a value.
    columns: Vec<(String, String, Category, bool)>,
    /// The columns of each unique index, in lower case; those with prefixes are `None`.
    unique: Vec<Option<Vec<String>>>,
}

/// What kind of values a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Category {
    Number,
    Text,
    Time,
    Bytes,
}

impl Found {
    fn read(
        session: &mut Session,
        plan: &SinkPlan,
        database: &str,
    ) -> Result<Option<Found>, Failure> {
        let at = format!(
            "WHERE table_schema = {} AND table_name = {}",
            literal(database),
            literal(&plan.table.name)
        );
        let tables = session
            .rows(&format!("SELECT engine, table_type FROM information_schema.tables {at}"))?;
        let Some(table) = tables.first() else { return Ok(None) };
        let engine = table[0].clone().unwrap_or_default();
        let columns = session.rows(&format!(
            "SELECT column_name, column_type, data_type, \
             is_nullable = 'NO' AND column_default IS NULL AND extra = '' \
             FROM information_schema.columns {at} ORDER BY ordinal_position"
        ))?;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let columns = columns
            .iter()
            .map(|c| (text(&c[0]), text(&c[1]), category_of(&text(&c[2])), text(&c[3]) == "1"))
            .collect();
        let parts = session.rows(&format!(
            "SELECT index_name, lower(column_name), sub_part IS NULL \
             FROM information_schema.statistics {at} AND non_unique = 0 \
             ORDER BY index_name, seq_in_index"
        ))?;
        let unique = parts
            .chunk_by(|a, b| a[0] == b[0])
            .map(|index| {
                let whole = index.iter().all(|part| part[2].as_deref() == Some("1"));
                whole.then(|| index.iter().map(|part| text(&part[1])).collect())
            })
            .collect();
        Ok(Some(Found { engine, columns, unique }))
    }

    /// Judges the table. Answers the fields that are to be added to it.
    fn check(&self, plan: &SinkPlan) -> Result<Vec<Field>, Failure> {
        let mismatch = |code, detail: String, hint: String| -> Failure {
            let message = format!("table \"{}\" does not fit sink \"{}\"", plan.table, plan.name);
            SinkError::Mismatch { code, message, detail, hint }.into()
        };
        let change = "Change the table, or name one that does not exist: it is created.";
        if !self.engine.eq_ignore_ascii_case("InnoDB") {
            let detail = match self.engine.as_str() {
                "" => "It is no table that stores rows itself.".into(),
                engine => format!("Its engine {engine} has no transactions."),
            };
            return Err(mismatch(SqlState::NOT_SUPPORTED, detail, "Use ENGINE = InnoDB.".into()));
        }
        let wanted = ddl::column_names(plan);
        let find = |name: &str| self.columns.iter().find(|c| c.0.eq_ignore_ascii_case(name));
        let lacking: Vec<String> =
            wanted.iter().filter(|name| find(name).is_none()).cloned().collect();
        let (added, missing) = progress::added_columns(plan, lacking);
        let unfillable: Vec<String> = self
            .columns
            .iter()
            .filter(|c| c.3 && !wanted.iter().any(|name| name.eq_ignore_ascii_case(&c.0)))
            .map(|c| c.0.clone())
            .collect();
        progress::check_names(plan, &missing, &unfillable)?;
        for field in plan.schema.fields() {
            let Some((_, written, actual, _)) = find(field.name()) else { continue };
            let expected = category(field);
            if !(*actual == expected || *actual == Category::Text || expected == Category::Text) {
                let detail = format!(
                    "Its column \"{}\" has the type {written} and should be {}.",
                    field.name(),
                    column_type(field, None)
                );
                return Err(mismatch(SqlState::TYPE_MISMATCH, detail, change.into()));
            }
        }
        if plan.mode == SinkMode::Upsert && !self.unique.iter().any(|u| is_key(plan, u)) {
            let keys = key_names(plan).join(", ");
            let hint = format!("ALTER TABLE {} ADD UNIQUE ({keys}).", quote(&plan.table.name));
            let detail = format!("It has no unique key on ({keys}).");
            return Err(mismatch(SqlState::INVALID_PARAMETER, detail, hint));
        }
        Ok(added)
    }

    fn has_other_unique_keys(&self, plan: &SinkPlan) -> bool {
        plan.mode == SinkMode::Upsert && !self.unique.iter().all(|unique| is_key(plan, unique))
    }
}

/// Whether a unique index is on exactly the key's columns.
fn is_key(plan: &SinkPlan, unique: &Option<Vec<String>>) -> bool {
    let Some(unique) = unique else { return false };
    let keys: Vec<String> =
        plan.key.iter().map(|&key| plan.schema.field(key).name().to_lowercase()).collect();
    unique.len() == keys.len() && unique.iter().all(|column| keys.contains(column))
}

/// Quoted names of the key's columns.
pub(crate) fn key_names(plan: &SinkPlan) -> Vec<String> {
    plan.key.iter().map(|&key| quote(plan.schema.field(key).name())).collect()
}

fn category_of(data_type: &str) -> Category {
    match data_type.to_ascii_lowercase().as_str() {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "float"
        | "double" | "bit" | "year" => Category::Number,
        "date" | "datetime" | "timestamp" | "time" => Category::Time,
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Category::Bytes,
        _ => Category::Text,
    }
}

fn category(field: &Field) -> Category {
    match canonical_type(field.data_type()) {
        Some(
            DataType::Boolean
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Decimal128(..),
        ) => Category::Number,
        Some(DataType::Date32 | DataType::Timestamp(..) | DataType::Time64(_)) => Category::Time,
        Some(DataType::Binary) => Category::Bytes,
        _ => Category::Text,
    }
}

/// A column's type; in a key with so many columns of text or bytes it must fit into an index.
fn column_type(field: &Field, key_columns: Option<usize>) -> String {
    let length = key_columns.map(|columns| (KEY_CHARACTERS / columns.max(1)).min(255));
    let fixed = match canonical_type(field.data_type()).unwrap_or(DataType::Utf8View) {
        DataType::Boolean => "BOOLEAN",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INT",
        DataType::Int64 => "BIGINT",
        DataType::Float32 | DataType::Float64 => "DOUBLE",
        DataType::Decimal128(precision, scale) if scale >= 0 => {
            return format!("DECIMAL({precision},{scale})");
        }
        DataType::Decimal128(precision, scale) => {
            return format!("DECIMAL({},0)", i32::from(precision) - i32::from(scale));
        }
        DataType::Date32 => "DATE",
        DataType::Timestamp(..) => "DATETIME(6)",
        DataType::Time64(_) => "TIME(6)",
        DataType::Interval(_) => "VARCHAR(64)",
        DataType::Binary => match length {
            Some(length) => return format!("VARBINARY({length})"),
            None => "LONGBLOB",
        },
        DataType::List(_) | DataType::Struct(_) => "JSON",
        _ if is_json(field) => "JSON",
        _ => match length {
            Some(length) => return format!("VARCHAR({length})"),
            None => "LONGTEXT",
        },
    };
    fixed.into()
}

/// A column with its type and, where it is text, its collation.
fn column(plan: &SinkPlan, field: &Field, collation: &str) -> String {
    let in_key = plan.key.iter().any(|&key| plan.schema.field(key).name() == field.name());
    let wide = |key: &&usize| {
        matches!(category(plan.schema.field(**key)), Category::Text | Category::Bytes)
    };
    let kind = column_type(field, in_key.then(|| plan.key.iter().filter(wide).count()));
    let text = kind.starts_with("VARCHAR") || kind == "LONGTEXT";
    let collate = match text {
        true => format!(" CHARACTER SET utf8mb4 COLLATE {collation}"),
        false => String::new(),
    };
    format!("{} {kind}{collate}", quote(field.name()))
}

fn create_table(plan: &SinkPlan, table: &str, collation: &str) -> String {
    let mut parts: Vec<String> =
        plan.schema.fields().iter().map(|field| column(plan, field, collation)).collect();
    if plan.mode == SinkMode::Changelog {
        parts.push(format!("{} BIGINT NOT NULL", quote(CHANGE_OFFSET)));
        parts.push(format!("{} SMALLINT NOT NULL", quote(CHANGE_OPERATION)));
    }
    if plan.mode == SinkMode::Upsert {
        // A null in the key is a value like others to the query, and none to a PRIMARY KEY.
        let nullable = plan.key.iter().any(|&key| plan.schema.field(key).is_nullable());
        let clause = if nullable { "UNIQUE KEY" } else { "PRIMARY KEY" };
        parts.push(format!("{clause} ({})", key_names(plan).join(", ")));
    }
    format!("CREATE TABLE {table} ({}) ENGINE = InnoDB", parts.join(", "))
}
