//! Writes a changelog into a MySQL or MariaDB table.
//!
//! # Method
//! One transaction: move the mark (which locks it against every other writer), DELETE and INSERT in
//! statements of many rows, in upsert mode with ON DUPLICATE KEY UPDATE, COMMIT. InnoDB undoes a
//! statement that fails and keeps the transaction, so a refused row is found by halving its statement.
//!
//! ON DUPLICATE KEY UPDATE looks at every unique key of the table, so that a row could replace another
//! key's. Where there is a unique key beside the sink's, each row is UPDATEd by its key, and INSERTed if
//! that found none: slower, and right.
//!
//! # A lost reply
//! As in PostgreSQL: the next commit with the same range waits for the mark's lock, then finds the mark at
//! `from` (the transaction did not count) or at `to` with the own fence (it counted).

use std::ops::Range;
use std::path::PathBuf;

use crate::sinks::failure::Failure;
use crate::sinks::mysql_rows::{self, Statements, Tuples};
use crate::sinks::mysql_session::Session;
use crate::sinks::mysql_table::{self, Claimed};
use crate::sinks::mysql_text::literal;
use crate::sinks::mysql_url::MysqlUrl;
use crate::sinks::net_effect::{Item, Operation, net_effect};
use crate::sinks::progress;
use crate::sinks::sink::{Refuse, Refused, SinkBatch, SinkError, SinkMode, SinkPlan, SinkTarget};
use crate::sinks::values::{self, Column};

/// A table in a MySQL or MariaDB database.
pub struct MysqlTarget {
    url: MysqlUrl,
    tls_ca: Option<PathBuf>,
    session: Option<Session>,
    claim: Option<Claim>,
}

/// What [`SinkTarget::prepare`] found and claimed.
#[derive(Clone)]
struct Claim {
    plan: SinkPlan,
    claimed: Claimed,
    statements: Statements,
}

impl MysqlTarget {
    /// A target that connects at [`SinkTarget::prepare`].
    pub fn new(url: MysqlUrl, tls_ca: Option<PathBuf>) -> MysqlTarget {
        MysqlTarget { url, tls_ca, session: None, claim: None }
    }

    fn connect(&self, sink: &str) -> Result<Session, Failure> {
        Session::open(&self.url, self.tls_ca.as_deref(), sink)
    }

    fn claim(&mut self, plan: &SinkPlan) -> Result<u64, Failure> {
        let mut session = self.connect(&plan.name)?;
        let claimed = mysql_table::prepare(&mut session, plan)?;
        let offset = claimed.mark.offset();
        let statements = Statements::new(plan, &claimed.table);
        self.claim = Some(Claim { plan: plan.clone(), claimed, statements });
        self.session = Some(session);
        Ok(offset)
    }

    fn write(
        &mut self,
        batch: &SinkBatch,
        range: (u64, u64),
        refuse: Refuse<'_>,
    ) -> Result<u64, Failure> {
        let claim = self.claim.clone().expect("prepare comes before commit");
        // It goes back only when no transaction can be open on it.
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.connect(&claim.plan.name)?,
        };
        let canonical = values::canonical_batch(&batch.batch).map_err(|error| {
            SinkError::Conversion { sink: claim.plan.name.clone(), cause: error.to_string() }
        })?;
        let batch = SinkBatch { batch: canonical, ..batch.clone() };
        let items = net_effect(&claim.plan, &batch)?;
        let columns = Column::of_batch(&batch.batch);
        let mut job =
            Job { claim: &claim, session: &mut session, batch, columns, refused: Vec::new() };
        let result = job.transact(&items, range, refuse);
        if result.is_ok() || session.run("ROLLBACK").is_ok() {
            self.session = Some(session);
        }
        result
    }
}

impl SinkTarget for MysqlTarget {
    fn prepare(&mut self, plan: &SinkPlan) -> Result<u64, SinkError> {
        self.claim(plan).map_err(|failure| failure.into_error(&plan.name))
    }

    fn commit(
        &mut self,
        batch: &SinkBatch,
        from: u64,
        to: u64,
        refuse: Refuse<'_>,
    ) -> Result<u64, SinkError> {
        assert!(from < to, "a transaction moves the mark forward: {from} to {to}");
        let sink = self.claim.as_ref().expect("prepare comes before commit").plan.name.clone();
        self.write(batch, (from, to), refuse).map_err(|failure| failure.into_error(&sink))
    }

    fn forget(&mut self, plan: &SinkPlan) -> Result<(), SinkError> {
        let forget = || mysql_table::forget(&mut self.connect(&plan.name)?, plan);
        forget().map_err(|failure| failure.into_error(&plan.name))
    }
}

/// One transaction's work.
struct Job<'a> {
    claim: &'a Claim,
    session: &'a mut Session,
    batch: SinkBatch,
    columns: Vec<Column>,
    refused: Vec<Refused>,
}

impl Job<'_> {
    /// The whole transaction; answers the number of rows written.
    fn transact(
        &mut self,
        items: &[Item],
        range: (u64, u64),
        refuse: Refuse<'_>,
    ) -> Result<u64, Failure> {
        self.session.run("START TRANSACTION")?;
        if !self.advance(range)? {
            self.session.run("ROLLBACK")?;
            return Ok(items.len() as u64);
        }
        if self.claim.plan.mode == SinkMode::Upsert {
            self.upsert(items)?;
        } else {
            let rows = self.encode_rows(items)?;
            let statements = &self.claim.statements;
            self.apply(&rows, &|range| statements.insert_range(&rows, range))?;
        }
        if !self.refused.is_empty() {
            self.refused.sort_by_key(|refused| refused.offset);
            refuse(&self.refused).map_err(SinkError::Record)?;
        }
        // Nothing is left that could refuse a row, so an error of COMMIT is the target's.
        let commit = self.session.run("COMMIT");
        commit.map_err(|failure| Failure::Sink(failure.into_error(&self.claim.plan.name)))?;
        Ok((items.len() - self.refused.len()) as u64)
    }

    /// Moves the mark; `false`: this very transaction counted already.
    fn advance(&mut self, (from, to): (u64, u64)) -> Result<bool, Failure> {
        let Claim { plan, claimed, .. } = self.claim;
        let counted = literal(&plan.counted(to));
        let (from, to) = (progress::signed(from), progress::signed(to));
        let (id, fence) = (literal(&plan.id), claimed.mark.fence);
        let moved = self.session.run(format!(
            "UPDATE {} SET `offset` = {to}, changelog = {counted} \
             WHERE sink = {id} AND `offset` = {from} AND fence = {fence}",
            claimed.marks
        ))?;
        if moved == 1 {
            return Ok(true);
        }
        match mysql_table::read_mark(self.session, &claimed.marks, &plan.id)? {
            Some(found) if found.offset == to && found.fence == fence => Ok(false),
            found => {
                let found = found.map(|mark| (mark.offset, mark.fence));
                Err(progress::fenced(plan, (from, fence), found).into())
            }
        }
    }

    /// Deletes first, so that secondary unique keys are free before they are taken.
    fn upsert(&mut self, items: &[Item]) -> Result<(), Failure> {
        let puts = items.iter().position(|item| item.operation == Operation::Put);
        let (deletes, puts) = items.split_at(puts.unwrap_or(items.len()));
        let statements = &self.claim.statements;
        let keys = self.encode_keys(deletes);
        self.apply(&keys, &|range| statements.delete(&keys, range))?;
        let rows = self.encode_rows(puts)?;
        if self.claim.claimed.other_unique_keys {
            return self.put_one_by_one(&rows);
        }
        // A unique key takes nulls for distinct, so ON DUPLICATE KEY would not meet them.
        let is_null = |item: &&Item| {
            let null =
                |&key: &usize| matches!(self.columns[key].value(item.row), values::Value::Null);
            self.claim.plan.key.iter().any(null)
        };
        let null_keys: Vec<Item> = rows.items.iter().filter(is_null).copied().collect();
        let keys = self.encode_keys(&null_keys);
        self.apply(&keys, &|range| statements.delete(&keys, range))?;
        self.apply(&rows, &|range| statements.put(&rows, range))
    }

    /// Keys of rows; one that has no form in MySQL has no row there either.
    fn encode_keys(&self, items: &[Item]) -> Tuples {
        let key = &self.claim.plan.key;
        mysql_rows::encode(items, |item, out| {
            mysql_rows::push_key(&self.claim.plan, &self.columns, key, (item.row, out))
        })
        .0
    }

    /// Rows as tuples. Those that have no form in MySQL are refused.
    fn encode_rows(&mut self, items: &[Item]) -> Result<Tuples, Failure> {
        let (batch, columns) = (&self.batch, &self.columns);
        let (tuples, mut unfit) =
            mysql_rows::encode(items, |item, out| mysql_rows::push_row(batch, columns, item, out));
        let most = self.session.statement_bytes_max;
        let most = most - self.claim.statements.bytes().min(most / 2);
        let tuples = tuples.without(|length| length > most, &mut unfit);
        for (item, reason) in unfit {
            self.refuse(item, (reason.0, reason.1))?;
        }
        Ok(tuples)
    }

    /// Runs the statement of all tuples, in pieces, and of ever fewer where a row is refused.
    fn apply(
        &mut self,
        tuples: &Tuples,
        statement: &dyn Fn(Range<usize>) -> Vec<u8>,
    ) -> Result<(), Failure> {
        let mut waiting = tuples.pieces(self.session.statement_bytes_max / 2);
        waiting.reverse();
        while let Some(range) = waiting.pop() {
            let (code, reason) = match self.session.run(statement(range.clone())) {
                Ok(_) => continue,
                Err(Failure::Row(code, reason)) => (code, reason),
                Err(other) => return Err(other),
            };
            if range.len() > 1 {
                let middle = range.start + range.len() / 2;
                waiting.push(middle..range.end);
                waiting.push(range.start..middle);
                continue;
            }
            self.refuse(tuples.items[range.start], (&code, reason))?;
        }
        Ok(())
    }

    fn put_one_by_one(&mut self, rows: &Tuples) -> Result<(), Failure> {
        for position in 0..rows.items.len() {
            let item = rows.items[position];
            let update = mysql_rows::update(
                &self.claim.plan,
                &self.claim.claimed.table,
                &self.columns,
                item.row,
            );
            let mut done = self.session.run(update);
            if let Ok(0) = done {
                let range = position..position + 1;
                done = self.session.run(self.claim.statements.insert_range(rows, range));
            }
            match done {
                Ok(_) => {}
                Err(Failure::Row(code, reason)) => self.refuse(item, (&code, reason))?,
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    /// Notes a refused row, and removes the previous row of its key.
    fn refuse(&mut self, item: Item, (code, mut reason): (&str, String)) -> Result<(), Failure> {
        if self.claim.plan.mode == SinkMode::Upsert && item.operation == Operation::Put {
            let keys = self.encode_keys(&[item]);
            if !keys.items.is_empty() {
                match self.session.run(self.claim.statements.delete(&keys, 0..1)) {
                    Ok(_) => {}
                    Err(Failure::Row(_, why)) => {
                        reason = format!("{reason}; its key's previous row stays: {why}");
                    }
                    Err(other) => return Err(other),
                }
            }
        }
        self.refused.push(Refused {
            offset: self.batch.offset(item.row),
            code: code.into(),
            reason,
            row: values::row_as_json(&self.batch.batch, &self.columns, item.row),
        });
        Ok(())
    }
}
