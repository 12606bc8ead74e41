//! Knows what clients sent and were told, and what therefore may and must be on the disk.

use std::collections::{BTreeMap, BTreeSet};

use weir::engine::{AckLevel, IngestReceipt};
use weir::error::Result;

use super::world::Seen;

pub(crate) const SECOND: i64 = 1_000_000;
/// Where the clock begins: 2026-01-01.
pub(crate) const BEGIN: i64 = 1_767_225_600_000_000;

/// A row of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub id: i64,
    pub k: i64,
    pub v: i64,
    /// Null is refused where there is a watermark.
    pub at: Option<i64>,
}

pub(crate) fn time_text(at: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(at).unwrap();
    time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

impl Row {
    pub(crate) fn json(&self) -> String {
        let at = self.at.map_or("null".to_string(), |at| format!("\"{}\"", time_text(at)));
        format!("{{\"id\":{},\"k\":{},\"v\":{},\"at\":{at}}}", self.id, self.k, self.v)
    }
}

/// One request of rows.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub stream: &'static str,
    pub rows: Vec<Row>,
    pub ack: Option<AckLevel>,
    /// Id and sequence, for requests that are sent again until they are answered.
    pub producer: Option<(&'static str, u64)>,
    /// Where its good rows stand, once it was acknowledged.
    pub acked: Option<(u64, Vec<i64>)>,
    /// Rows whose lot was closed before it was sent: they break a promise.
    pub closed: Vec<i64>,
    /// Rows that were refused, once it was acknowledged.
    pub refused: Vec<i64>,
    /// Where it was acknowledged that rows were shed: the first offset, and how many were stored and shed.
    pub shed: Option<(u64, u64, u64)>,
}

impl Request {
    pub(crate) fn new(stream: &'static str, rows: Vec<Row>) -> Request {
        Request {
            stream,
            rows,
            ack: None,
            producer: None,
            acked: None,
            closed: vec![],
            refused: vec![],
            shed: None,
        }
    }

    pub(crate) fn text(&self) -> String {
        self.rows.iter().map(Row::json).collect::<Vec<_>>().join("\n")
    }
}

/// What is asked of the engine beside rows.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// The request with this number.
    Rows(usize),
    Insert(i64, i64),
    Update(i64, i64),
    Delete(i64),
    /// CREATE OR REPLACE of a query with the definition of this number.
    Replace(&'static str, usize),
    Drop(&'static str),
    Pause(&'static str),
    Resume(&'static str),
    /// The promise that a lot is closed.
    Promise(i64),
    /// Nothing that anybody must remember.
    Other,
}

/// All that clients know.
#[derive(Default)]
pub(crate) struct Model {
    pub requests: Vec<Request>,
    /// What the table may hold.
    pub tables: BTreeSet<BTreeMap<i64, i64>>,
    /// Statements of which nobody knows whether they took place.
    pub floating: Vec<Ask>,
    /// Which definition a query may have; `None`: it may not be there.
    pub queries: BTreeMap<&'static str, BTreeSet<Option<usize>>>,
    /// Whether a query may be paused.
    pub paused: BTreeMap<&'static str, BTreeSet<bool>>,
    /// What a subscriber saw of each query, from offset 0 on.
    pub seen: BTreeMap<String, Seen>,
    /// Lots that may be closed, and whether that is certain.
    pub promised: BTreeMap<i64, bool>,
    /// What each stream held, once it was looked at.
    pub stored: BTreeMap<&'static str, Vec<Row>>,
    /// What the streams ever held whose old rows go, by offset, as far as anybody knows.
    pub trimmed: BTreeMap<&'static str, BTreeMap<u64, Row>>,
    /// Counts, for the report.
    pub acks: u64,
    pub unanswered: u64,
}

impl Model {
    pub(crate) fn new() -> Model {
        Model { tables: [BTreeMap::new()].into(), ..Model::default() }
    }

    /// Notes an answer, or that none came.
    pub(crate) fn answered(&mut self, ask: &Ask, answer: Option<Result<Option<IngestReceipt>>>) {
        match &answer {
            Some(Ok(_)) => self.acks += 1,
            Some(Err(_)) | None => self.unanswered += 1,
        }
        let done = matches!(answer, Some(Ok(_)));
        if !done && !matches!(ask, Ask::Rows(_) | Ask::Promise(_) | Ask::Other) {
            self.floating.push(ask.clone());
        }
        match ask {
            Ask::Rows(number) => {
                if let Some(Ok(Some(receipt))) = answer {
                    self.requests[*number].acknowledge(&receipt);
                }
            }
            Ask::Insert(..) | Ask::Update(..) | Ask::Delete(_) => {
                self.change_table(done, ask);
            }
            Ask::Replace(name, number) => {
                let written = |number: &usize| super::plan::CHANGING[*number].written;
                let before = self.queries.get(name).into_iter().flatten().flatten();
                if before.into_iter().any(|before| written(before) != written(number)) {
                    // A changelog that is to be more or less durable begins anew.
                    self.seen.remove(*name);
                }
                self.change_query(name, done, Some(*number));
            }
            Ask::Drop(name) => {
                self.seen.remove(*name);
                self.change_query(name, done, None);
            }
            Ask::Pause(name) => change(self.pausing(name), done, true),
            Ask::Resume(name) => change(self.pausing(name), done, false),
            Ask::Promise(lot) => *self.promised.entry(*lot).or_default() |= done,
            Ask::Other => {}
        }
    }

    fn pausing(&mut self, name: &'static str) -> &mut BTreeSet<bool> {
        self.paused.entry(name).or_insert_with(|| [false].into())
    }

    fn change_query(&mut self, name: &'static str, done: bool, to: Option<usize>) {
        change(self.queries.entry(name).or_insert_with(|| [None].into()), done, to);
    }

    fn change_table(&mut self, done: bool, ask: &Ask) {
        let before = std::mem::take(&mut self.tables);
        for mut table in before {
            if !done {
                self.tables.insert(table.clone());
            }
            match ask {
                Ask::Insert(id, c) => drop(table.insert(*id, *c)),
                Ask::Update(id, c) => drop(table.get_mut(id).map(|old| *old = *c)),
                Ask::Delete(id) => drop(table.remove(id)),
                _ => unreachable!("the others change no table"),
            }
            self.tables.insert(table);
        }
    }

    /// What was answered by an error may have found its way to the disk all the same, and then takes
    /// effect with the next start only.
    pub(crate) fn let_float(&mut self) {
        for ask in std::mem::take(&mut self.floating) {
            match ask {
                Ask::Insert(..) | Ask::Update(..) | Ask::Delete(_) => {
                    self.change_table(false, &ask);
                }
                Ask::Replace(name, number) => self.change_query(name, false, Some(number)),
                Ask::Drop(name) => self.change_query(name, false, None),
                Ask::Pause(name) => change(self.pausing(name), false, true),
                Ask::Resume(name) => change(self.pausing(name), false, false),
                Ask::Rows(_) | Ask::Promise(_) | Ask::Other => {}
            }
        }
    }

    pub(crate) fn row(&self, id: i64) -> Option<&Row> {
        self.requests.iter().flat_map(|request| &request.rows).find(|row| row.id == id)
    }

    /// Requests of producers that nobody has answered, in order.
    pub(crate) fn unanswered_of(&self, producer: &str) -> Option<usize> {
        self.requests.iter().position(|request| {
            request.acked.is_none() && request.producer.is_some_and(|(id, _)| id == producer)
        })
    }
}

fn change<T: Ord>(candidates: &mut BTreeSet<T>, done: bool, to: T) {
    if done {
        candidates.clear();
    }
    candidates.insert(to);
}

impl Request {
    fn acknowledge(&mut self, receipt: &IngestReceipt) {
        let refused: BTreeSet<u64> = receipt.errors.iter().map(|(line, ..)| *line).collect();
        let at = |line: &u64| self.rows[*line as usize - 1].id;
        self.refused = refused.iter().map(at).collect();
        let missed: Vec<_> = self.closed.iter().filter(|id| !self.refused.contains(id)).collect();
        assert!(missed.is_empty(), "{missed:?} were taken behind a promise: {self:?}");
        if receipt.shed > 0 {
            let all = receipt.accepted + receipt.rejected + receipt.shed;
            assert_eq!(all, self.rows.len() as u64, "{receipt:?} for {self:?}");
            assert_eq!(receipt.next_offset - receipt.first_offset, receipt.accepted);
            self.shed = Some((receipt.first_offset, receipt.accepted, receipt.shed));
            return;
        }
        let good = |(index, row): (usize, &Row)| {
            (!refused.contains(&(index as u64 + 1))).then_some(row.id)
        };
        let ids: Vec<i64> = self.rows.iter().enumerate().filter_map(good).collect();
        assert_eq!(receipt.accepted, ids.len() as u64, "{receipt:?} for {self:?}");
        if !ids.is_empty() {
            assert_eq!(receipt.next_offset - receipt.first_offset, receipt.accepted);
        }
        let answer = (receipt.first_offset, ids);
        if let Some(before) = &self.acked {
            assert_eq!(*before, answer, "a request that is repeated gets the same answer");
        }
        self.acked = Some(answer);
    }
}
