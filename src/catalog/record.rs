//! Is what the catalog knows of one object: the statement that made it, and what has become of it since.

use serde::{Deserialize, Serialize};

use crate::sql::statement::ObjectKind;

/// One object of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Never used twice; names the object's directory.
    #[serde(skip)]
    pub id: u64,
    /// Kind of object.
    pub kind: Kind,
    /// Name.
    pub name: String,
    /// The statement that made it, in canonical form.
    pub sql: String,
    /// Whether the query or sink is paused.
    #[serde(default)]
    pub paused: bool,
    /// Minted at CREATE SINK: the key of its progress mark in the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink_id: Option<String>,
    /// Where the query began to read each input when it was created: frame, offset. Of a stream, where
    /// `weir.dead_letters` and `weir.shed` ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start: Vec<(u64, u64)>,
    /// Up to where the query's changelog is given, and not regenerated on recovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// How often the query's plan was swapped.
    #[serde(default)]
    pub swaps: u64,
    /// Where the result stands that stands for the removed part of the changelog: the frame and the
    /// offset behind that part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<(u64, u64)>,
    /// Whether the changelog has weights and arrivals; `None`: as the plan says, but no arrivals of what
    /// windows make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<(bool, bool)>,
    /// Why a sink stays stopped, code and message, until it is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<(String, String)>,
}

/// A frame of a changelog up to which everything is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Index of the last frame that is given.
    pub frame: u64,
    /// How far the inputs had been read then: frame and offset of each.
    pub frontier: Vec<(u64, u64)>,
}

impl Record {
    /// A new object.
    pub fn new(id: u64, kind: Kind, name: &str, sql: String) -> Record {
        Record {
            id,
            kind,
            name: name.into(),
            sql,
            paused: false,
            sink_id: None,
            start: vec![],
            base: None,
            swaps: 0,
            kept: None,
            layout: None,
            failure: None,
        }
    }
}

/// Kinds of objects, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A stream.
    Stream,
    /// A table.
    Table,
    /// A continuous query.
    Query,
    /// A sink.
    Sink,
}

impl From<ObjectKind> for Kind {
    fn from(kind: ObjectKind) -> Kind {
        match kind {
            ObjectKind::Stream => Kind::Stream,
            ObjectKind::Table => Kind::Table,
            ObjectKind::Query => Kind::Query,
            ObjectKind::Sink => Kind::Sink,
        }
    }
}

impl Kind {
    /// As messages name it.
    pub fn noun(self) -> &'static str {
        match self {
            Kind::Stream => "stream",
            Kind::Table => "table",
            Kind::Query => "continuous query",
            Kind::Sink => "sink",
        }
    }

    /// As statements name it.
    pub fn words(self) -> &'static str {
        match self {
            Kind::Stream => "STREAM",
            Kind::Table => "TABLE",
            Kind::Query => "CONTINUOUS QUERY",
            Kind::Sink => "SINK",
        }
    }
}
