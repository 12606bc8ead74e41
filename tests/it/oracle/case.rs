//! Describes one case: streams, their rows in the order of arrival, and a query over them.

use std::fmt::Write as _;

/// Event times are whole units: seconds from here for timestamps, plain integers for logical time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeLine {
    pub(super) logical: bool,
    /// Seconds since 1970 of unit 0 of a timestamp.
    pub(super) base: i64,
}

impl TimeLine {
    pub(super) fn sql_type(self) -> &'static str {
        if self.logical { "BIGINT" } else { "TIMESTAMP" }
    }
    /// A width as an argument of a window function.
    pub(super) fn width(self, units: i64) -> String {
        if self.logical { units.to_string() } else { format!("INTERVAL '{units}' SECOND") }
    }
    /// A point as the wire shows it.
    pub(super) fn json(self, at: i64) -> serde_json::Value {
        if self.logical { at.into() } else { timestamp(self.base + at).into() }
    }
}

/// A whole second as RFC 3339.
pub(super) fn timestamp(seconds: i64) -> String {
    let time = chrono::DateTime::from_timestamp(seconds, 0).unwrap();
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Small,
    Int,
    Big,
    Real,
    Double,
    Numeric,
    Text,
    Bool,
    Time,
}

impl Kind {
    pub(super) fn sql_type(self) -> &'static str {
        match self {
            Kind::Small => "SMALLINT",
            Kind::Int => "INT",
            Kind::Big => "BIGINT",
            Kind::Real => "REAL",
            Kind::Double => "DOUBLE",
            Kind::Numeric => "NUMERIC(10,2)",
            Kind::Text => "TEXT",
            Kind::Bool => "BOOLEAN",
            Kind::Time => "TIMESTAMP",
        }
    }
    pub(super) fn is_integer(self) -> bool {
        matches!(self, Kind::Small | Kind::Int | Kind::Big)
    }
    pub(super) fn is_float(self) -> bool {
        matches!(self, Kind::Real | Kind::Double)
    }
    pub(super) fn is_number(self) -> bool {
        self.is_integer() || self.is_float() || self == Kind::Numeric
    }
}

#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) nullable: bool,
}

#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub(super) enum Value {
    Null,
    Int(i64),
    Float(f64),
    /// Hundredths.
    Numeric(i64),
    Text(String),
    Bool(bool),
    /// Seconds since 1970.
    Time(i64),
}

impl Value {
    pub(super) fn json(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Int(n) => (*n).into(),
            Value::Float(x) => (*x).into(),
            Value::Numeric(cents) => numeric(i128::from(*cents)).into(),
            Value::Text(text) => text.as_str().into(),
            Value::Bool(flag) => (*flag).into(),
            Value::Time(seconds) => timestamp(*seconds).into(),
        }
    }
}

/// Hundredths as a decimal number.
pub(super) fn numeric(cents: i128) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    let cents = cents.unsigned_abs();
    format!("{sign}{}.{:02}", cents / 100, cents % 100)
}

#[derive(Debug, Clone)]
pub(super) struct Row {
    /// 0 is stream `s`, 1 is stream `t`.
    pub(super) stream: usize,
    pub(super) at: i64,
    pub(super) values: Vec<Value>,
}

#[derive(Debug, Clone)]
pub(super) enum Predicate {
    NotNull(usize),
    Greater(usize, i64),
    IsTrue(usize),
    Is(usize, String),
}

impl Predicate {
    pub(super) fn sql(&self, columns: &[Column]) -> String {
        match self {
            Predicate::NotNull(c) => format!("{} IS NOT NULL", columns[*c].name),
            Predicate::Greater(c, n) => format!("{} > {n}", columns[*c].name),
            Predicate::IsTrue(c) => columns[*c].name.clone(),
            Predicate::Is(c, text) => format!("{} = '{text}'", columns[*c].name),
        }
    }
    pub(super) fn holds(&self, row: &Row) -> bool {
        match self {
            Predicate::NotNull(c) => row.values[*c] != Value::Null,
            Predicate::Greater(c, n) => matches!(row.values[*c], Value::Int(m) if m > *n),
            Predicate::IsTrue(c) => row.values[*c] == Value::Bool(true),
            Predicate::Is(c, text) => matches!(&row.values[*c], Value::Text(t) if t == text),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    CountRows,
    Count,
    CountDistinct,
    Sum,
    Avg,
    Min,
    Max,
    ArrayAgg,
    Stddev,
    Median,
}

#[derive(Debug, Clone)]
pub(super) struct Aggregate {
    pub(super) function: Function,
    pub(super) column: usize,
    pub(super) filter: Option<Predicate>,
}

impl Aggregate {
    fn sql(&self, columns: &[Column]) -> String {
        let name = &columns[self.column].name;
        let call = match self.function {
            Function::CountRows => "count(*)".to_string(),
            Function::Count => format!("count({name})"),
            Function::CountDistinct => format!("count(DISTINCT {name})"),
            Function::Sum => format!("sum({name})"),
            Function::Avg => format!("avg({name})"),
            Function::Min => format!("min({name})"),
            Function::Max => format!("max({name})"),
            Function::ArrayAgg => format!("array_agg({name})"),
            Function::Stddev => format!("stddev({name})"),
            Function::Median => format!("median({name})"),
        };
        match &self.filter {
            None => call,
            Some(filter) => format!("{call} FILTER (WHERE {})", filter.sql(columns)),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Window {
    /// Filter and project only.
    Stateless,
    /// GROUP BY without a window.
    None,
    Tumble {
        size: i64,
        offset: i64,
    },
    Hop {
        slide: i64,
        size: i64,
        offset: i64,
    },
    /// Windows of several sizes.
    Horizons {
        slide: i64,
        sizes: Vec<i64>,
        offset: i64,
    },
    Cumulate {
        step: i64,
        size: i64,
    },
    Session {
        gap: i64,
        partitioned: bool,
    },
    Count {
        size: i64,
        slide: i64,
        partitioned: bool,
        ordered: bool,
    },
    /// Ends behind a row whose first column is above a number.
    Punctuation {
        above: i64,
        partitioned: bool,
    },
}

impl Window {
    pub(super) fn is_time(&self) -> bool {
        matches!(
            self,
            Window::Tumble { .. }
                | Window::Hop { .. }
                | Window::Horizons { .. }
                | Window::Cumulate { .. }
        )
    }
    pub(super) fn is_aggregated(&self) -> bool {
        *self != Window::Stateless
    }
    /// Rows that are late are dropped whole, whatever window they are for.
    pub(super) fn drops_rows(&self) -> bool {
        matches!(self, Window::Session { .. } | Window::Count { ordered: true, .. })
    }
    /// What tells its windows apart.
    pub(super) fn columns(&self) -> &'static [&'static str] {
        match self {
            Window::Stateless | Window::None => &[],
            Window::Count { .. } | Window::Punctuation { .. } => &["window_id"],
            _ => &["window_start", "window_end"],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Emit {
    Default,
    Changes,
    EveryRows(i64, &'static str),
}

/// A second query over the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outer {
    /// Groups for ever.
    Group,
    Filter,
    /// A window of this size over `window_end`.
    Stacked(i64),
    /// The same, both in one query.
    Inline(i64),
    /// By the windows of the first.
    SameWindow,
    /// Sessions with this gap over `window_end`.
    Sessions(i64),
}

#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) union: bool,
    pub(super) prefilter: Option<Predicate>,
    pub(super) window: Window,
    pub(super) keys: Vec<usize>,
    pub(super) aggregates: Vec<Aggregate>,
    pub(super) predicate: Option<Predicate>,
    /// Only rows this long behind the start of their window, or less.
    pub(super) near_start: Option<i64>,
    /// The rows of the windows instead of groups.
    pub(super) rows: bool,
    pub(super) having: Option<i64>,
    pub(super) emit: Emit,
    pub(super) lateness: i64,
    pub(super) outer: Option<Outer>,
    /// Over the union of the stream with itself.
    pub(super) twice: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) seed: u64,
    pub(super) time: TimeLine,
    pub(super) columns: Vec<Column>,
    /// The watermark's bound.
    pub(super) bound: i64,
    pub(super) rows: Vec<Row>,
    pub(super) query: Query,
}

/// Offsets of each stream to leave out.
pub(super) type Dropped = [Vec<u64>; 2];

impl Case {
    pub(super) fn streams(&self) -> usize {
        if self.query.union { 2 } else { 1 }
    }

    pub(super) fn create_stream(&self, stream: usize) -> String {
        let mut sql = format!("CREATE STREAM {} (at {}", name(stream), self.time.sql_type());
        for column in &self.columns {
            let null = if column.nullable { "" } else { " NOT NULL" };
            write!(sql, ", {} {}{null}", column.name, column.kind.sql_type()).unwrap();
        }
        let bound = self.time.width(self.bound);
        write!(sql, ", WATERMARK FOR at AS at - {bound}) WITH (durability = 'written')").unwrap();
        sql
    }

    fn source(&self, dropped: Option<&Dropped>) -> String {
        let query = &self.query;
        if !query.union && !query.twice && query.prefilter.is_none() && dropped.is_none() {
            return "s".into();
        }
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let part = |stream: usize| {
            let mut conditions = vec![];
            if let Some(filter) = &query.prefilter {
                conditions.push(filter.sql(&self.columns));
            }
            if let Some(offsets) = dropped.map(|d| &d[stream]).filter(|o| !o.is_empty()) {
                let list: Vec<String> = offsets.iter().map(u64::to_string).collect();
                conditions.push(format!("_offset NOT IN ({})", list.join(", ")));
            }
            let filter = match conditions.as_slice() {
                [] => String::new(),
                some => format!(" WHERE {}", some.join(" AND ")),
            };
            format!("SELECT at, {} FROM {}{filter}", names.join(", "), name(stream))
        };
        let mut parts: Vec<String> = (0..self.streams()).map(part).collect();
        if query.twice {
            parts.push(part(0));
        }
        format!("({})", parts.join(" UNION ALL "))
    }

    fn relation(&self, source: String) -> String {
        let width = |units| self.time.width(units);
        let shift = |offset| match offset {
            0 => String::new(),
            units => format!(", OFFSET => {}", width(units)),
        };
        let keys = self.key_names().join(", ");
        let partition = |partitioned| match partitioned {
            true => format!(", PARTITION => ({keys})"),
            false => String::new(),
        };
        match &self.query.window {
            Window::Stateless | Window::None if source.starts_with('(') => format!("{source} AS u"),
            Window::Stateless | Window::None => source,
            &Window::Tumble { size, offset } => {
                format!("TUMBLE({source}, at, {}{})", width(size), shift(offset))
            }
            &Window::Hop { slide, size, offset } => {
                format!("HOP({source}, at, {}, {}{})", width(slide), width(size), shift(offset))
            }
            Window::Horizons { slide, sizes, offset } => {
                let sizes: Vec<String> = sizes.iter().map(|size| width(*size)).collect();
                let (slide, shift) = (width(*slide), shift(*offset));
                format!("HOP({source}, at, {slide}, {}{shift})", sizes.join(", "))
            }
            &Window::Cumulate { step, size } => {
                format!("CUMULATE({source}, at, {}, {})", width(step), width(size))
            }
            &Window::Session { gap, partitioned } => {
                format!("SESSION({source}, at, {}{})", width(gap), partition(partitioned))
            }
            &Window::Count { size, slide, partitioned, ordered } => {
                let order = if ordered { ", ORDER => at" } else { "" };
                let partition = partition(partitioned);
                format!("COUNT_WINDOW({source}, {size}, SLIDE => {slide}{partition}{order})")
            }
            &Window::Punctuation { above, partitioned } => {
                let partition = partition(partitioned);
                let end = &self.columns[0].name;
                format!("PUNCTUATION_WINDOW({source}, END => {end} > {above}{partition})")
            }
        }
    }

    pub(super) fn key_names(&self) -> Vec<String> {
        self.query.keys.iter().map(|key| self.columns[*key].name.clone()).collect()
    }

    /// The first query's SQL without EMIT; with `dropped`, over the rows that are left.
    pub(super) fn select(&self, dropped: Option<&Dropped>) -> String {
        let query = &self.query;
        let relation = self.relation(self.source(dropped));
        let mut conditions: Vec<String> =
            query.predicate.iter().map(|filter| filter.sql(&self.columns)).collect();
        if let Some(width) = query.near_start {
            conditions.push(format!("at <= window_start + {}", self.time.width(width)));
        }
        let filter = match conditions.as_slice() {
            [] => String::new(),
            some => format!(" WHERE {}", some.join(" AND ")),
        };
        if query.rows {
            let columns: Vec<&str> = self.columns.iter().map(|c| c.name.as_str()).collect();
            let window = match query.window {
                Window::Count { .. } | Window::Punctuation { .. } => ", window_id",
                _ => "",
            };
            let columns = columns.join(", ");
            return format!(
                "SELECT at, {columns}, window_start, window_end{window} FROM {relation}{filter}"
            );
        }
        if query.window == Window::Stateless {
            let items: Vec<String> = self
                .columns
                .iter()
                .map(|column| match column.kind {
                    kind if kind.is_integer() => format!("{0}, {0} * 2 AS {0}_twice", column.name),
                    _ => column.name.clone(),
                })
                .collect();
            return format!("SELECT at, {} FROM {relation}{filter}", items.join(", "));
        }
        let mut groups: Vec<String> =
            query.window.columns().iter().map(|name| (*name).to_string()).collect();
        groups.extend(self.key_names());
        let mut items = groups.clone();
        for (index, aggregate) in query.aggregates.iter().enumerate() {
            items.push(format!("{} AS a{index}", aggregate.sql(&self.columns)));
        }
        let group = match groups.as_slice() {
            [] => String::new(),
            some => format!(" GROUP BY {}", some.join(", ")),
        };
        let having = match query.having {
            None => String::new(),
            Some(n) => format!(" HAVING count(*) > {n}"),
        };
        format!("SELECT {} FROM {relation}{filter}{group}{having}", items.join(", "))
    }

    fn emit(&self) -> String {
        let mut emit = match self.query.emit {
            Emit::Default => String::new(),
            Emit::Changes => " EMIT CHANGES".into(),
            Emit::EveryRows(n, refinement) => {
                let close = if self.query.window == Window::None { "" } else { " ON CLOSE" };
                format!(" EMIT EVERY {n} ROWS{close} {refinement}")
            }
        };
        if self.query.lateness > 0 {
            let width = self.time.width(self.query.lateness);
            write!(emit, " ALLOWED LATENESS {width}").unwrap();
        }
        emit
    }

    pub(super) fn create_query(&self) -> String {
        format!("CREATE CONTINUOUS QUERY q0 AS {}{}", self.select(None), self.emit())
    }

    /// The second query over `inner`.
    pub(super) fn outer_select(&self, inner: &str) -> Option<String> {
        let stacked = |size: i64| {
            format!(
                "SELECT window_start, window_end, count(*) AS n, sum(a0) AS total, \
                 count(a0) FILTER (WHERE a0 > 1) AS large, min(a0) AS low, max(a0) AS high, \
                 count(DISTINCT a0) AS different, median(a0) AS middle \
                 FROM TUMBLE((SELECT window_end AS until, a0 FROM {inner}), until, {}) \
                 GROUP BY window_start, window_end",
                self.time.width(size)
            )
        };
        Some(match self.query.outer? {
            Outer::Group => {
                let keys = self.key_names().join(", ");
                let (items, group) = match keys.as_str() {
                    "" => (String::new(), String::new()),
                    keys => (format!("{keys}, "), format!(" GROUP BY {keys}")),
                };
                format!(
                    "SELECT {items}count(*) AS n, sum(a0) AS total, min(a0) AS low, max(a0) AS high \
                     FROM {inner}{group}"
                )
            }
            Outer::Filter => format!("SELECT a0, a0 + 1 AS more FROM {inner} WHERE a0 > 1"),
            Outer::Stacked(size) | Outer::Inline(size) => stacked(size),
            Outer::SameWindow => format!(
                "SELECT window_start, window_end, count(*) AS n, sum(a0) AS total, \
                 min(a0) AS low, max(a0) AS high, count(DISTINCT a0) AS different \
                 FROM {inner} GROUP BY window_start, window_end"
            ),
            Outer::Sessions(gap) => format!(
                "SELECT window_start, window_end, count(*) AS n, sum(a0) AS total, \
                 min(a0) AS low, count(DISTINCT a0) AS different \
                 FROM SESSION((SELECT window_end AS until, a0 FROM {inner}), until, {}) \
                 GROUP BY window_start, window_end",
                self.time.width(gap)
            ),
        })
    }

    pub(super) fn create_outer(&self) -> Option<String> {
        let inner = match self.query.outer? {
            Outer::Inline(_) => format!("({})", self.select(None)),
            _ => "q0".into(),
        };
        let emit = match self.query.outer? {
            Outer::Inline(_) => self.emit(),
            _ => String::new(),
        };
        Some(format!("CREATE CONTINUOUS QUERY q1 AS {}{emit}", self.outer_select(&inner)?))
    }

    pub(super) fn ndjson(&self, rows: &[Row]) -> Vec<u8> {
        let mut text = String::new();
        for row in rows {
            let mut object = serde_json::Map::new();
            object.insert("at".into(), self.time.json(row.at));
            for (column, value) in self.columns.iter().zip(&row.values) {
                object.insert(column.name.clone(), value.json());
            }
            writeln!(text, "{}", serde_json::Value::Object(object)).unwrap();
        }
        text.into_bytes()
    }

    /// Everything needed to repeat the case by hand.
    pub(super) fn script(&self) -> String {
        let mut text = String::new();
        for stream in 0..self.streams() {
            writeln!(text, "{};", self.create_stream(stream)).unwrap();
        }
        writeln!(text, "{};", self.create_query()).unwrap();
        if let Some(outer) = self.create_outer() {
            writeln!(text, "{outer};").unwrap();
        }
        for row in &self.rows {
            let line = String::from_utf8(self.ndjson(std::slice::from_ref(row))).unwrap();
            write!(text, "{} <- {line}", name(row.stream)).unwrap();
        }
        text
    }
}

pub(super) fn name(stream: usize) -> &'static str {
    ["s", "t"][stream]
}
