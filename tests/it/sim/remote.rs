//! Is the database that sinks write to: it outlives engines, is away at times, and loses replies.
//!
//! It keeps the contract of `src/sinks/sink.rs`: rows and the mark change together, an older writer is
//! fenced off, a transaction that is sent again after its reply was lost counts once. Some rows it refuses,
//! always the same ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use weir::encode::json::write_row_object;
use weir::sinks::net_effect::{Operation, net_effect};
use weir::sinks::sink::{
    OpenTarget, Refuse, Refused, SinkBatch, SinkError, SinkMode, SinkPlan, SinkTarget,
};

use crate::oracle::rng::Rng;

/// The code with which rows are refused.
pub(crate) const REFUSAL: &str = "23505";

/// Whether the database takes no such row: about one in twelve.
pub(crate) fn is_refused(row: &str) -> bool {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    row.bytes().fold(0x811c_9dc5, step) % 12 == 0
}

/// What one sink has left there.
#[derive(Debug, Default, Clone)]
pub(crate) struct Table {
    /// The fence, and the offset up to which everything is committed.
    mark: Option<(u64, u64)>,
    /// What the mark says of the past that it counts in.
    counted: String,
    /// Of upserts: the row of each key.
    keyed: BTreeMap<String, String>,
    /// Of the other modes: offset, sign and row of each change.
    pub changes: Vec<(u64, i64, String)>,
    /// Offsets of rows that were refused in transactions that are committed.
    pub refused: BTreeSet<u64>,
    mode: Option<SinkMode>,
}

impl Table {
    /// The rows that stand there, each as often as it does.
    pub(crate) fn rows(&self) -> BTreeMap<String, i64> {
        let mut rows: BTreeMap<String, i64> = BTreeMap::new();
        let changes = self.changes.iter().map(|(_, sign, row)| (row, *sign));
        for (row, sign) in changes.chain(self.keyed.values().map(|row| (row, 1))) {
            *rows.entry(row.clone()).or_default() += sign;
        }
        rows.retain(|_, count| *count != 0);
        rows
    }
}

#[derive(Debug)]
struct Database {
    rng: Dice,
    tables: BTreeMap<String, Table>,
    /// Calls that find nobody there.
    away: u64,
    /// Nothing goes wrong any more.
    calm: bool,
}

struct Dice(Rng);

impl std::fmt::Debug for Dice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dice")
    }
}

/// The database; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Remote(Arc<Mutex<Database>>);

impl Remote {
    pub(crate) fn new(seed: u64) -> Remote {
        let (rng, tables) = (Dice(Rng::new(seed)), BTreeMap::new());
        Remote(Arc::new(Mutex::new(Database { rng, tables, away: 0, calm: false })))
    }

    /// Lets nothing go wrong, or things again.
    pub(crate) fn calm(&self, calm: bool) {
        self.0.lock().calm = calm;
    }

    /// What a sink has left.
    pub(crate) fn table(&self, sink: &str) -> Table {
        self.0.lock().tables.get(sink).cloned().unwrap_or_default()
    }
}

impl OpenTarget for Remote {
    fn open(&self, plan: &SinkPlan) -> Box<dyn SinkTarget> {
        let (remote, plan) = (self.clone(), plan.clone());
        Box::new(Writer { remote, plan, fence: 0 })
    }
}

/// A connection of one sink.
struct Writer {
    remote: Remote,
    plan: SinkPlan,
    fence: u64,
}

impl Writer {
    fn away(&self) -> SinkError {
        SinkError::Unavailable { sink: self.plan.name.clone(), cause: "nobody is there".into() }
    }
}

impl Database {
    fn is_away(&mut self) -> bool {
        if self.calm {
            return false;
        }
        if self.away == 0 && self.rng.0.one_in(40) {
            self.away = 1 + self.rng.0.next() % 4;
        }
        let away = self.away > 0;
        self.away = self.away.saturating_sub(1);
        away
    }

    fn loses_reply(&mut self) -> bool {
        !self.calm && self.rng.0.one_in(8)
    }
}

fn row_text(batch: &SinkBatch, row: usize) -> String {
    let mut text = Vec::new();
    write_row_object(&batch.batch, row, &mut text);
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    value.to_string()
}

impl SinkTarget for Writer {
    fn prepare(&mut self, plan: &SinkPlan) -> Result<u64, SinkError> {
        let mut database = self.remote.0.lock();
        if database.is_away() {
            drop(database);
            return Err(self.away());
        }
        let table = database.tables.entry(plan.name.clone()).or_default();
        let (fence, offset) = table.mark.unwrap_or_default();
        // Whatever was lost, an engine knows its own marks.
        plan.judge(offset, &table.counted).unwrap();
        table.mark = Some((fence + 1, offset));
        table.mode = Some(plan.mode);
        self.fence = fence + 1;
        Ok(offset)
    }

    fn commit(
        &mut self,
        batch: &SinkBatch,
        from: u64,
        to: u64,
        refuse: Refuse<'_>,
    ) -> Result<u64, SinkError> {
        let remote = self.remote.clone();
        let mut database = remote.0.lock();
        if database.is_away() {
            return Err(self.away());
        }
        let lost = database.loses_reply();
        let plan = &self.plan;
        let mut table = database.tables[&plan.name].clone();
        let (fence, offset) = table.mark.expect("prepare comes before commit");
        if fence != self.fence {
            let found = format!("fence {fence}");
            return Err(SinkError::Fenced { sink: plan.name.clone(), found });
        }
        if offset == to && from != to {
            return Ok(0);
        }
        assert_eq!(offset, from, "{} commits what does not follow", plan.name);
        let items = net_effect(plan, batch)?;
        let key = |row: usize| -> String {
            let columns = batch.batch.project(&plan.key).unwrap();
            let mut text = Vec::new();
            write_row_object(&columns, row, &mut text);
            String::from_utf8(text).unwrap()
        };
        let mut refused = Vec::new();
        for item in &items {
            let text = row_text(batch, item.row);
            if item.operation != Operation::Delete && is_refused(&text) {
                let (offset, code) = (batch.offset(item.row), REFUSAL.to_string());
                let (reason, row) = ("it is not liked".to_string(), text);
                refused.push(Refused { offset, code, reason, row });
                if plan.mode == SinkMode::Upsert {
                    table.keyed.remove(&key(item.row));
                }
                continue;
            }
            match item.operation {
                Operation::Delete => drop(table.keyed.remove(&key(item.row))),
                Operation::Put if plan.mode == SinkMode::Upsert => {
                    table.keyed.insert(key(item.row), text);
                }
                Operation::Put => table.changes.push((batch.offset(item.row), 1, text)),
                Operation::Log(sign) => {
                    table.changes.push((batch.offset(item.row), i64::from(sign), text));
                }
            }
        }
        if !refused.is_empty() {
            refuse(&refused).map_err(SinkError::Record)?;
            table.refused.extend(refused.iter().map(|row| row.offset));
        }
        table.mark = Some((fence, to));
        table.counted = plan.counted(to);
        database.tables.insert(plan.name.clone(), table);
        if lost { Err(self.away()) } else { Ok(items.len() as u64) }
    }

    fn forget(&mut self, _plan: &SinkPlan) -> Result<(), SinkError> {
        Ok(())
    }
}
