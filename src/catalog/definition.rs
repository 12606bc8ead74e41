//! Checks what CREATE STREAM, CREATE TABLE and the options of CREATE CONTINUOUS QUERY say.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::sql::planner::PlannerContext;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr as SqlExpr};

use crate::catalog::on_memory::sheds;
use crate::catalog::options::{OptionError, Options};
pub use crate::catalog::overload::OnOverload;
use crate::catalog::overload::overload;
use crate::data::schema::{as_json, is_hidden};
use crate::error::{Report, SqlState};
use crate::log::log::Durability;
use crate::planner::bind;
use crate::planner::constants;
use crate::planner::error::PlanError;
use crate::planner::relations::{RelationInfo, RelationLookup};
use crate::planner::window_call::EVENT_TIME_MARK;
use crate::sql::print::quote_name;
use crate::sql::statement::{
    ColumnDefinition, CreateQuery, CreateStream, CreateTable, OptionValue, WatermarkClause,
};
use crate::sql::types::arrow_type;

/// The options of CREATE STREAM.
pub const STREAM_OPTIONS: [&str; 7] = [
    "retention",
    "retention_bytes",
    "durability",
    "idle_timeout",
    "max_future_skew",
    "on_error",
    "unknown_fields",
];

/// The options of CREATE CONTINUOUS QUERY.
pub const QUERY_OPTIONS: [&str; 5] =
    ["start", "memory_limit", "on_memory", "retention", "require_bounded_state"];

/// Columns of a stream or table, as many as PostgreSQL allows.
const COLUMNS_MAX: usize = 1_600;

/// What is wrong with a definition.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// Two columns of one name.
    #[error("column \"{0}\" specified more than once")]
    DuplicateColumn(String),
    /// A name that Weir keeps for itself.
    #[error("column name \"{0}\" is reserved")]
    ReservedColumn(String),
    /// A relation has too many columns.
    #[error("{0} cannot have more than {COLUMNS_MAX} columns")]
    TooManyColumns(&'static str),
    /// A relation needs a column.
    #[error("{0} needs at least one column")]
    NoColumns(&'static str),
    /// A clause names a column that is not there.
    #[error("column \"{column}\" named in {clause} does not exist")]
    UndefinedColumn {
        /// The column.
        column: String,
        /// The clause.
        clause: &'static str,
    },
    /// WATERMARK needs another type of column.
    #[error("column \"{0}\" cannot carry a watermark")]
    WatermarkType(String),
    /// WATERMARK needs another form of expression.
    #[error("watermark of column \"{0}\" has an unsupported form")]
    WatermarkForm(String),
    /// Something that is not built yet.
    #[error("{what} is not supported yet")]
    NotSupported {
        /// What.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// An option.
    #[error("{0}")]
    Option(#[from] OptionError),
    /// A type.
    #[error("{0}")]
    Type(#[from] crate::sql::error::ParseError),
    /// The bound of a watermark.
    #[error("{0}")]
    Plan(#[from] PlanError),
}

impl Report for DefinitionError {
    fn code(&self) -> SqlState {
        match self {
            DefinitionError::DuplicateColumn(_) => SqlState::DUPLICATE_COLUMN,
            DefinitionError::ReservedColumn(_) | DefinitionError::NoColumns(_) => SqlState::SYNTAX,
            DefinitionError::TooManyColumns(_) => SqlState::PROGRAM_LIMIT,
            DefinitionError::UndefinedColumn { .. } => SqlState::UNDEFINED_COLUMN,
            DefinitionError::WatermarkType(_) => SqlState::TYPE_MISMATCH,
            DefinitionError::WatermarkForm(_) | DefinitionError::NotSupported { .. } => {
                SqlState::NOT_SUPPORTED
            }
            DefinitionError::Option(error) => error.code(),
            DefinitionError::Type(error) => error.code(),
            DefinitionError::Plan(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            DefinitionError::ReservedColumn(_) => {
                Some("_offset, _ingest_time and _late are columns of every stream.".into())
            }
            DefinitionError::WatermarkType(_) => {
                Some("The column must be a TIMESTAMP, TIMESTAMPTZ, DATE or integer.".into())
            }
            DefinitionError::WatermarkForm(column) => {
                let column = quote_name(column);
                Some(format!(
                    "Write WATERMARK FOR {column} AS {column}, or AS {column} - INTERVAL '5' SECOND."
                ))
            }
            DefinitionError::NotSupported { hint, .. } => Some(hint.clone()),
            DefinitionError::Option(error) => error.hint(),
            DefinitionError::Type(error) => error.hint(),
            DefinitionError::Plan(error) => error.hint(),
            DefinitionError::DuplicateColumn(_)
            | DefinitionError::NoColumns(_)
            | DefinitionError::TooManyColumns(_)
            | DefinitionError::UndefinedColumn { .. } => None,
        }
    }
}

/// WATERMARK FOR column AS column - bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermark {
    /// Index of the column.
    pub column: usize,
    /// The bound, in microseconds or units of logical time.
    pub bound: i64,
}

/// What a stream is.
#[derive(Debug, Clone)]
pub struct StreamDefinition {
    /// Its name.
    pub name: Arc<str>,
    /// Its visible columns.
    pub schema: SchemaRef,
    /// Its watermark.
    pub watermark: Option<Watermark>,
    /// When its rows count as kept.
    pub durability: Durability,
    /// What happens to rows for which there is no room.
    pub overload: OnOverload,
    /// How long rows are kept, microseconds of processing time.
    pub retention: i64,
    /// How many bytes are kept.
    pub retention_bytes: Option<u64>,
    /// After how long without rows the watermark follows the clock, microseconds.
    pub idle_timeout: Option<i64>,
    /// How far event time may run ahead of the clock, microseconds.
    pub max_future_skew: i64,
    /// Whether one bad row refuses its whole request.
    pub reject_requests: bool,
    /// Whether unknown fields make a row bad.
    pub reject_unknown_fields: bool,
}

/// What a table is.
#[derive(Debug, Clone)]
pub struct TableDefinition {
    /// Its name.
    pub name: Arc<str>,
    /// Its columns.
    pub schema: SchemaRef,
    /// Columns of the primary key; empty if it has none.
    pub primary_key: Vec<usize>,
}

/// Where a query begins to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryStart {
    /// The oldest retained row.
    Earliest,
    /// The next row to come.
    Latest,
    /// The row at this offset.
    Offset(u64),
    /// The first row appended at or after this processing time, microseconds.
    Time(i64),
}

/// The options of a continuous query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryOptions {
    /// Where to begin.
    pub start: QueryStart,
    /// Bytes of state at which the query stops, or sheds.
    pub memory_limit: u64,
    /// Whether it sheds rows before it comes to its limit.
    pub sheds: bool,
    /// Whether unbounded state is refused.
    pub require_bounded_state: bool,
    /// How long the changelog's history is kept, microseconds of processing time; `None`: for ever.
    pub retention: Option<i64>,
}

/// Checks CREATE STREAM.
pub fn stream(
    create: &CreateStream,
    lookup: &dyn RelationLookup,
) -> Result<StreamDefinition, DefinitionError> {
    let options = Options::new(&create.options, &STREAM_OPTIONS)?;
    let mut fields = columns(&create.columns, "stream")?;
    let watermark = match &create.watermark {
        None => None,
        Some(clause) => Some(watermark(clause, &mut fields, lookup)?),
    };
    let overload = overload(create.overload.as_ref(), &fields)?;
    let durability = match options.choice("durability", &["durable", "written", "memory"])? {
        "written" => Durability::Written,
        "memory" => Durability::Memory,
        _ => Durability::Durable,
    };
    const DAY: i64 = 86_400_000_000;
    Ok(StreamDefinition {
        name: create.name.as_str().into(),
        schema: Arc::new(Schema::new(fields)),
        watermark,
        durability,
        overload,
        retention: options.duration("retention")?.unwrap_or(7 * DAY),
        retention_bytes: options.bytes("retention_bytes")?,
        idle_timeout: options.duration("idle_timeout")?,
        max_future_skew: options.duration("max_future_skew")?.unwrap_or(DAY),
        reject_requests: options.choice("on_error", &["dead_letter", "reject"])? == "reject",
        reject_unknown_fields: options.choice("unknown_fields", &["ignore", "reject"])? == "reject",
    })
}

/// Checks CREATE TABLE.
pub fn table(create: &CreateTable) -> Result<TableDefinition, DefinitionError> {
    Options::new(&create.options, &[])?;
    let mut fields = columns(&create.columns, "table")?;
    let mut primary_key = Vec::new();
    for name in &create.primary_key {
        let column = fields.iter().position(|field| field.name() == name).ok_or_else(|| {
            DefinitionError::UndefinedColumn { column: name.clone(), clause: "PRIMARY KEY" }
        })?;
        if primary_key.contains(&column) {
            return Err(DefinitionError::DuplicateColumn(name.clone()));
        }
        fields[column] = Arc::new(Field::clone(&fields[column]).with_nullable(false));
        primary_key.push(column);
    }
    let schema = Arc::new(Schema::new(fields));
    Ok(TableDefinition { name: create.name.as_str().into(), schema, primary_key })
}

/// Checks the options of CREATE CONTINUOUS QUERY.
pub fn query_options(create: &CreateQuery) -> Result<QueryOptions, DefinitionError> {
    let options = Options::new(&create.options, &QUERY_OPTIONS)?;
    let on_memory = options.choice("on_memory", &["fail", "approximate", "shed"])?;
    let retention = options.duration("retention")?;
    let sheds = sheds(on_memory, retention.is_some())?;
    let start = match create.options.iter().find(|item| item.name == "start").map(|i| &i.value) {
        None => QueryStart::Earliest,
        Some(OptionValue::Text(text)) if text.eq_ignore_ascii_case("earliest") => {
            QueryStart::Earliest
        }
        Some(OptionValue::Text(text)) if text.eq_ignore_ascii_case("latest") => QueryStart::Latest,
        Some(OptionValue::Text(text) | OptionValue::Number(text)) => start_at(text)?,
        Some(OptionValue::Boolean(_)) => return Err(bad_start().into()),
    };
    const MEMORY_LIMIT: u64 = 256 << 20;
    Ok(QueryOptions {
        start,
        memory_limit: options.bytes("memory_limit")?.unwrap_or(MEMORY_LIMIT),
        sheds,
        require_bounded_state: options.flag("require_bounded_state")?,
        retention,
    })
}

fn start_at(text: &str) -> Result<QueryStart, OptionError> {
    if let Ok(offset) = text.parse() {
        return Ok(QueryStart::Offset(offset));
    }
    let value = datafusion::scalar::ScalarValue::from(text);
    constants::instant(&value).map(QueryStart::Time).ok_or_else(bad_start)
}

fn bad_start() -> OptionError {
    OptionError::Value {
        name: "start".into(),
        wanted: "'earliest', 'latest', an offset or a timestamp".into(),
    }
}

fn columns(
    definitions: &[ColumnDefinition],
    kind: &'static str,
) -> Result<Vec<FieldRef>, DefinitionError> {
    if definitions.is_empty() {
        return Err(DefinitionError::NoColumns(kind));
    }
    if definitions.len() > COLUMNS_MAX {
        return Err(DefinitionError::TooManyColumns(kind));
    }
    let mut fields: Vec<FieldRef> = Vec::with_capacity(definitions.len());
    for definition in definitions {
        if is_hidden(&definition.name) || definition.name.starts_with("__") {
            return Err(DefinitionError::ReservedColumn(definition.name.clone()));
        }
        if fields.iter().any(|field| *field.name() == definition.name) {
            return Err(DefinitionError::DuplicateColumn(definition.name.clone()));
        }
        let (data_type, json) = arrow_type(&definition.data_type)?;
        let mut field = Field::new(&definition.name, data_type, !definition.not_null);
        if json {
            field = as_json(field);
        }
        fields.push(Arc::new(field));
    }
    Ok(fields)
}

/// Reads `column` or `column - constant`, and marks the column as event time.
fn watermark(
    clause: &WatermarkClause,
    fields: &mut [FieldRef],
    lookup: &dyn RelationLookup,
) -> Result<Watermark, DefinitionError> {
    let column =
        fields.iter().position(|field| *field.name() == clause.column).ok_or_else(|| {
            DefinitionError::UndefinedColumn { column: clause.column.clone(), clause: "WATERMARK" }
        })?;
    let data_type = fields[column].data_type().clone();
    let logical = data_type.is_integer();
    let timed =
        matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Date32);
    if !logical && !timed {
        return Err(DefinitionError::WatermarkType(clause.column.clone()));
    }
    let form = || DefinitionError::WatermarkForm(clause.column.clone());
    let names_column = |expr: &SqlExpr| match expr {
        SqlExpr::Identifier(ident) => {
            let name = if ident.quote_style.is_some() {
                ident.value.clone()
            } else {
                ident.value.to_lowercase()
            };
            name == clause.column
        }
        _ => false,
    };
    let mut expression = &clause.expression;
    while let SqlExpr::Nested(inner) = expression {
        expression = inner;
    }
    let bound = match expression {
        column if names_column(column) => 0,
        SqlExpr::BinaryOp { left, op: BinaryOperator::Minus, right } if names_column(left) => {
            let expr =
                bind::expression(right, &DFSchema::empty(), lookup, &mut PlannerContext::new())?;
            let value = constants::fold(expr).map_err(crate::planner::error::from_datafusion)?;
            let value = value.ok_or_else(form)?;
            if value.data_type().is_integer() != logical {
                return Err(form());
            }
            constants::signed_width(&value).filter(|bound| *bound >= 0).ok_or_else(form)?
        }
        _ => return Err(form()),
    };
    let mut metadata = fields[column].metadata().clone();
    metadata.insert(EVENT_TIME_MARK.into(), "true".into());
    fields[column] = Arc::new(Field::clone(&fields[column]).with_metadata(metadata));
    Ok(Watermark { column, bound })
}

/// A lookup that knows nothing: for definitions that name no relation.
#[derive(Debug)]
pub struct NoRelations;

impl RelationLookup for NoRelations {
    fn relation(&self, _: &str) -> Option<RelationInfo> {
        None
    }
    fn names(&self) -> Vec<String> {
        vec![]
    }
}
