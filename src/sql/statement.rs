//! Names every statement of the dialect as data; [`crate::sql::parse`] makes them from text and
//! [`crate::sql::print`] writes them back, so that `print(parse(x))` is a fixpoint.
//!
//! Queries, expressions, column types and literals are sqlparser's own nodes (DataFusion's
//! re-export), so that the planner hands them to DataFusion unchanged.

use datafusion::sql::sqlparser::ast::{DataType, Expr, Query};

/// ON CONFLICT [(columns)] DO NOTHING | DO UPDATE SET column = expr, … [WHERE predicate].
#[derive(Debug, Clone, PartialEq)]
pub struct OnConflict {
    /// The columns of the primary key; empty: they are not named.
    pub columns: Vec<String>,
    /// What DO UPDATE does; `None`: DO NOTHING.
    pub update: Option<ConflictUpdate>,
}

/// What becomes of the row that has the key. Expressions may name its columns, and those of the new row as `excluded`'s.
#[derive(Debug, Clone, PartialEq)]
pub struct ConflictUpdate {
    /// Assignments.
    pub assignments: Vec<(String, Expr)>,
    /// Which rows; others stay as they are.
    pub predicate: Option<Expr>,
}

/// A statement.
#[expect(
    clippy::large_enum_variant,
    reason = "one statement at a time; boxes would only make matching harder"
)]
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// CREATE STREAM.
    CreateStream(CreateStream),
    /// CREATE TABLE.
    CreateTable(CreateTable),
    /// CREATE CONTINUOUS QUERY, CREATE MATERIALIZED VIEW.
    CreateQuery(Box<CreateQuery>),
    /// CREATE SINK.
    CreateSink(CreateSink),
    /// DROP STREAM | TABLE | CONTINUOUS QUERY | MATERIALIZED VIEW | SINK.
    Drop {
        /// What kind of object.
        kind: ObjectKind,
        /// Its name.
        name: String,
        /// Whether a missing object is no error.
        if_exists: bool,
        /// Whether what depends on it goes too.
        cascade: bool,
    },
    /// ALTER STREAM | CONTINUOUS QUERY name SET (…) | RESET (…).
    Alter(AlterOptions),
    /// SHOW STREAMS | TABLES | QUERIES | SINKS.
    Show(ObjectKind),
    /// DESCRIBE name.
    Describe(String),
    /// PAUSE [CONTINUOUS QUERY] name.
    Pause(String),
    /// RESUME [CONTINUOUS QUERY] name.
    Resume(String),
    /// REBUILD CONTINUOUS QUERY name.
    Rebuild(String),
    /// PUNCTUATE stream WHERE predicate.
    Punctuate {
        /// The stream.
        stream: String,
        /// Conjunction of column patterns.
        predicate: Expr,
    },
    /// INSERT INTO name [(columns)] query [ON CONFLICT …].
    Insert {
        /// Stream or table.
        target: String,
        /// Columns in the order of the source; empty: all, in declared order.
        columns: Vec<String>,
        /// VALUES or SELECT.
        source: Box<Query>,
        /// What becomes of rows whose key is there already; `None`: an error.
        on_conflict: Option<OnConflict>,
    },
    /// UPDATE table SET column = expr, … [WHERE predicate].
    Update {
        /// The table.
        target: String,
        /// Assignments.
        assignments: Vec<(String, Expr)>,
        /// Which rows.
        predicate: Option<Expr>,
    },
    /// DELETE FROM table [WHERE predicate].
    Delete {
        /// The table.
        target: String,
        /// Which rows.
        predicate: Option<Expr>,
    },
    /// COPY name FROM STDIN (FORMAT csv | json [, HEADER]).
    Copy {
        /// Stream or table.
        target: String,
        /// Options in the parentheses.
        options: Vec<OptionItem>,
    },
    /// SELECT, VALUES, WITH …: answered once.
    Query(Box<Query>),
    /// SUBSCRIBE query.
    Subscribe {
        /// The continuous query.
        query: String,
        /// Where to begin.
        from: SubscribeFrom,
        /// Whether the current result comes first.
        snapshot: bool,
    },
    /// EXPLAIN [ANALYZE] query or name.
    Explain {
        /// With live figures.
        analyze: bool,
        /// What.
        target: ExplainTarget,
    },
    /// FLUSH, FLUSH SINK name.
    Flush {
        /// The sink to wait for as well.
        sink: Option<String>,
    },
}

/// Kinds of objects that have names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// A stream.
    Stream,
    /// A table.
    Table,
    /// A continuous query.
    Query,
    /// A sink.
    Sink,
}

/// `name = value` in WITH (…) or COPY options. A name without value has `Value::Boolean(true)`.
#[derive(Debug, Clone, PartialEq)]
pub struct OptionItem {
    /// Lower case unless quoted.
    pub name: String,
    /// The value.
    pub value: OptionValue,
}

/// ALTER … SET (…), ALTER … RESET (…); one of the lists is empty.
#[derive(Debug, Clone, PartialEq)]
pub struct AlterOptions {
    /// What kind of object.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// Options with new values.
    pub set: Vec<OptionItem>,
    /// Options that get their defaults.
    pub reset: Vec<String>,
}

/// The value of an option.
#[derive(Debug, Clone, PartialEq)]
pub enum OptionValue {
    /// 'text'.
    Text(String),
    /// A number as written.
    Number(String),
    /// true or false.
    Boolean(bool),
}

/// A column of a stream or table.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDefinition {
    /// Name.
    pub name: String,
    /// SQL type.
    pub data_type: DataType,
    /// NOT NULL, or part of the primary key.
    pub not_null: bool,
}

/// WATERMARK FOR column AS expression.
#[derive(Debug, Clone, PartialEq)]
pub struct WatermarkClause {
    /// The event-time column.
    pub column: String,
    /// The column, or the column less an interval or integer.
    pub expression: Expr,
}

/// CREATE STREAM.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateStream {
    /// Name.
    pub name: String,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Columns in order.
    pub columns: Vec<ColumnDefinition>,
    /// WATERMARK FOR … AS ….
    pub watermark: Option<WatermarkClause>,
    /// WITH (…).
    pub options: Vec<OptionItem>,
    /// ON OVERLOAD ….
    pub overload: Option<Overload>,
}

/// ON OVERLOAD ….
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overload {
    /// BLOCK.
    Block,
    /// DROP OLDEST.
    DropOldest,
    /// SHED RANDOM.
    ShedRandom,
    /// SHED KEYS (columns).
    ShedKeys(Vec<String>),
}

/// CREATE TABLE.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTable {
    /// Name.
    pub name: String,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Columns in order.
    pub columns: Vec<ColumnDefinition>,
    /// Columns of the primary key; empty: none.
    pub primary_key: Vec<String>,
    /// WITH (…).
    pub options: Vec<OptionItem>,
}

/// CREATE CONTINUOUS QUERY.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateQuery {
    /// Name.
    pub name: String,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// OR REPLACE.
    pub or_replace: bool,
    /// WITH (…).
    pub options: Vec<OptionItem>,
    /// AS ….
    pub query: Box<Query>,
    /// EMIT … and ALLOWED LATENESS ….
    pub emit: EmitClause,
}

/// EMIT … [ALLOWED LATENESS …] [LATE ROWS TO …].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EmitClause {
    /// `None`: the default, ON CLOSE for windowed queries and CHANGES otherwise.
    pub mode: Option<EmitModeClause>,
    /// ALLOWED LATENESS: an interval or integer expression.
    pub allowed_lateness: Option<Expr>,
    /// LATE ROWS TO stream.
    pub late_rows_to: Option<String>,
}

/// The mode of EMIT.
#[expect(clippy::large_enum_variant, reason = "one per query")]
#[derive(Debug, Clone, PartialEq)]
pub enum EmitModeClause {
    /// EMIT ON CLOSE.
    OnClose,
    /// EMIT CHANGES.
    Changes,
    /// EMIT EVERY … [ON CLOSE] [LATE EVERY ROW] [RETRACTING | …].
    Every {
        /// INTERVAL '…' or n ROWS.
        every: EmitEvery,
        /// ON CLOSE was written.
        on_close: bool,
        /// LATE EVERY ROW was written.
        late_every_row: bool,
        /// How refinements relate, if written.
        refinement: Option<RefinementClause>,
    },
}

/// The period of EMIT EVERY.
#[expect(clippy::large_enum_variant, reason = "one per query")]
#[derive(Debug, Clone, PartialEq)]
pub enum EmitEvery {
    /// An interval expression.
    Interval(Expr),
    /// So many rows.
    Rows(u64),
}

/// RETRACTING | ACCUMULATING | DISCARDING.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefinementClause {
    /// RETRACTING.
    Retracting,
    /// ACCUMULATING.
    Accumulating,
    /// DISCARDING.
    Discarding,
}

/// CREATE SINK.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateSink {
    /// Name.
    pub name: String,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// The continuous query.
    pub from: String,
    /// POSTGRES, SQLITE, MYSQL, FILE, WEBHOOK; upper case.
    pub into: String,
    /// WITH (…).
    pub options: Vec<OptionItem>,
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SubscribeFrom {
    /// With the next change.
    #[default]
    Now,
    /// With the oldest retained change.
    Earliest,
    /// With the change at this offset.
    Offset(u64),
}

/// What EXPLAIN explains.
#[expect(clippy::large_enum_variant, reason = "one per statement")]
#[derive(Debug, Clone, PartialEq)]
pub enum ExplainTarget {
    /// A SELECT with an optional EMIT clause, as CREATE CONTINUOUS QUERY would plan it.
    Query(Box<Query>, EmitClause),
    /// CREATE CONTINUOUS QUERY …, not executed.
    Create(Box<CreateQuery>),
    /// An existing continuous query.
    Name(String),
}
