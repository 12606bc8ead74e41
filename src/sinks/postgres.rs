//! Writes a changelog into a PostgreSQL table.
//!
//! # Method
//! One transaction: move the mark (which locks it against every other writer), COPY the rows, in
//! upsert mode into a temporary stage and from there DELETE … USING and MERGE, COMMIT. If a row is refused,
//! or another writer was in the way, the transaction runs again with INSERT … ON CONFLICT, halved under savepoints until the
//! refused rows are alone: k of n cost about 2·k·log n statements, none costs nothing extra.
//! Rows become text a few thousand at a time, while the server reads those before them.
//!
//! # A lost reply
//! When the connection breaks, the next [`SinkTarget::commit`] with the same range connects anew. Its
//! UPDATE of the mark waits until the old transaction has ended either way, then meets the mark at
//! `from` (it did not count: write) or at `to` with the own fence (it counted: done).
//!
//! # Not here
//! Text of values: copy.rs. Tables: postgres_table.rs.

use std::path::PathBuf;

use futures::SinkExt;
use tokio::runtime::Runtime;

use crate::sinks::copy::{self, Lines};
use crate::sinks::failure::Failure;
use crate::sinks::net_effect::{Item, Operation, net_effect};
use crate::sinks::postgres_session::{Session, connect, judge};
use crate::sinks::postgres_table::{self, Statements};
use crate::sinks::progress;
use crate::sinks::sink::{Refuse, Refused, SinkBatch, SinkError, SinkMode, SinkPlan, SinkTarget};
use crate::sinks::values::{self, Column};

/// Bytes of one message of COPY data, at the most.
const COPY_CHUNK: usize = 1 << 18;
/// Items that become text before they are sent.
const COPY_ITEMS: usize = 2_048;

/// A table in a PostgreSQL database. Blocks: use it on a thread of its own, not on an async one.
pub struct PostgresTarget {
    url: String,
    tls_ca: Option<PathBuf>,
    runtime: Option<Runtime>,
    session: Option<Session>,
    claim: Option<Claim>,
}

/// What [`SinkTarget::prepare`] found and claimed.
struct Claim {
    plan: SinkPlan,
    fence: i64,
    statements: Statements,
}

impl PostgresTarget {
    /// A target that connects at [`SinkTarget::prepare`].
    pub fn new(url: String, tls_ca: Option<PathBuf>) -> PostgresTarget {
        PostgresTarget { url, tls_ca, runtime: None, session: None, claim: None }
    }

    /// The runtime that drives the connection, taken out so that futures may borrow the rest.
    fn take_runtime(&mut self, sink: &str) -> Result<Runtime, SinkError> {
        match self.runtime.take() {
            Some(runtime) => Ok(runtime),
            None => tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(
                |error| SinkError::Unavailable { sink: sink.into(), cause: error.to_string() },
            ),
        }
    }

    async fn prepare_async(&mut self, plan: &SinkPlan) -> Result<u64, Failure> {
        let failed = |error| judge(&plan.name, &error);
        let client = connect(&self.url, self.tls_ca.as_deref(), &plan.name).await?;
        client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await.map_err(failed)?;
        let claimed = match postgres_table::prepare(&client, plan).await {
            Ok(claimed) => claimed,
            Err(failure) => {
                // Frees the locks at once; what the first error says is what matters.
                client.batch_execute("ROLLBACK").await.ok();
                return Err(failure);
            }
        };
        let session = Session::open(client, plan, &claimed.statements).await?;
        session.client.batch_execute("COMMIT").await.map_err(failed)?;
        let (offset, fence) = (claimed.mark.offset(), claimed.mark.fence);
        let statements = claimed.statements;
        self.claim = Some(Claim { plan: plan.clone(), fence, statements });
        self.session = Some(session);
        Ok(offset)
    }

    async fn forget_async(&mut self, plan: &SinkPlan) -> Result<(), Failure> {
        let client = connect(&self.url, self.tls_ca.as_deref(), &plan.name).await?;
        postgres_table::forget(&client, plan).await
    }

    async fn commit_async(
        &mut self,
        batch: &SinkBatch,
        (from, to): (u64, u64),
        refuse: Refuse<'_>,
    ) -> Result<u64, Failure> {
        let claim = self.claim.as_ref().expect("prepare comes before commit");
        // It goes back only when no transaction can be open on it any more.
        let session = match self.session.take() {
            Some(session) if !session.client.is_closed() => session,
            _ => {
                let client = connect(&self.url, self.tls_ca.as_deref(), &claim.plan.name).await?;
                Session::open(client, &claim.plan, &claim.statements).await?
            }
        };
        let job = Job::new(claim, &session, batch)?;
        let mut result = job.transact(false, (from, to), &mut *refuse).await;
        if let Err(Failure::Row(..)) = result {
            job.run("ROLLBACK").await?;
            result = job.transact(true, (from, to), refuse).await;
        }
        if result.is_ok() || session.client.batch_execute("ROLLBACK").await.is_ok() {
            self.session = Some(session);
        }
        result
    }
}

impl Drop for PostgresTarget {
    fn drop(&mut self) {
        self.session = None;
        // A plain drop would panic on a thread that itself drives async code.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl SinkTarget for PostgresTarget {
    fn forget(&mut self, plan: &SinkPlan) -> Result<(), SinkError> {
        let runtime = self.take_runtime(&plan.name)?;
        let result = runtime.block_on(Box::pin(self.forget_async(plan)));
        self.runtime = Some(runtime);
        result.map_err(|failure| failure.into_error(&plan.name))
    }

    fn prepare(&mut self, plan: &SinkPlan) -> Result<u64, SinkError> {
        let runtime = self.take_runtime(&plan.name)?;
        let result = runtime.block_on(Box::pin(self.prepare_async(plan)));
        self.runtime = Some(runtime);
        result.map_err(|failure| failure.into_error(&plan.name))
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
        let runtime = self.take_runtime(&sink)?;
        let commit = self.commit_async(batch, (from, to), refuse);
        let result = runtime.block_on(Box::pin(commit));
        self.runtime = Some(runtime);
        result.map_err(|failure| failure.into_error(&sink))
    }
}

/// How rows are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Other writers of the same keys can make it fail.
    Fast,
    /// Only a row that is at fault makes it fail.
    Careful,
}

/// One transaction's work.
struct Job<'a> {
    claim: &'a Claim,
    session: &'a Session,
    batch: SinkBatch,
    columns: Vec<Column>,
    items: Vec<Item>,
}

/// What COPY data that was sent says of itself.
#[derive(Debug, Default)]
struct Sent {
    /// Rows that PostgreSQL cannot hold.
    unfit: Vec<usize>,
    deletes: bool,
    null_keys: bool,
}

impl<'a> Job<'a> {
    fn new(
        claim: &'a Claim,
        session: &'a Session,
        batch: &SinkBatch,
    ) -> Result<Job<'a>, SinkError> {
        let sink = claim.plan.name.clone();
        let canonical = values::canonical_batch(&batch.batch)
            .map_err(|error| SinkError::Conversion { sink, cause: error.to_string() })?;
        let batch = SinkBatch { batch: canonical, ..batch.clone() };
        let items = net_effect(&claim.plan, &batch)?;
        let columns = Column::of_batch(&batch.batch);
        Ok(Job { claim, session, batch, columns, items })
    }

    fn failed(&self, error: &tokio_postgres::Error) -> Failure {
        judge(&self.claim.plan.name, error)
    }

    async fn run(&self, sql: &str) -> Result<(), Failure> {
        self.session.client.batch_execute(sql).await.map_err(|error| self.failed(&error))
    }

    /// The whole transaction; answers the number of rows written.
    async fn transact(
        &self,
        bisect: bool,
        range: (u64, u64),
        refuse: Refuse<'_>,
    ) -> Result<u64, Failure> {
        // Deferred constraints would refuse at COMMIT, where no row can be told from another.
        self.run("BEGIN ISOLATION LEVEL READ COMMITTED; SET CONSTRAINTS ALL IMMEDIATE").await?;
        if !self.advance(range).await? {
            self.run("ROLLBACK").await?;
            return Ok(self.items.len() as u64);
        }
        let refused = match bisect {
            true => self.bisect().await?,
            false => self.unfit(self.apply(&self.items, Pace::Fast).await?),
        };
        if !refused.is_empty() {
            refuse(&refused).map_err(SinkError::Record)?;
        }
        // Nothing is left that could refuse a row, so an error of COMMIT is the target's.
        let commit = self.run("COMMIT").await;
        commit.map_err(|failure| Failure::Sink(failure.into_error(&self.claim.plan.name)))?;
        Ok((self.items.len() - refused.len()) as u64)
    }

    /// Moves the mark; `false`: this very transaction counted already.
    async fn advance(&self, (from, to): (u64, u64)) -> Result<bool, Failure> {
        let (id, fence) = (&self.claim.plan.id, &self.claim.fence);
        let client = &self.session.client;
        let counted = self.claim.plan.counted(to);
        let (from, to) = (progress::signed(from), progress::signed(to));
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&to, &counted, id, &from, fence];
        let moved = client.execute(&self.session.advance, &values).await;
        if moved.map_err(|error| self.failed(&error))? == 1 {
            return Ok(true);
        }
        let found = client.query_opt(&self.claim.statements.read_mark, &[id]).await;
        let found = found.map_err(|error| self.failed(&error))?.map(|row| (row.get(0), row.get(1)));
        match found {
            Some((offset, of)) if offset == to && of == *fence => Ok(false),
            _ => Err(progress::fenced(&self.claim.plan, (from, *fence), found).into()),
        }
    }

    /// Applies some items; answers the rows that PostgreSQL cannot hold.
    async fn apply(&self, items: &[Item], pace: Pace) -> Result<Vec<usize>, Failure> {
        let sent = self.send(items).await?;
        let Some(upsert) = &self.claim.statements.upsert else { return Ok(sent.unfit) };
        if sent.deletes {
            self.run(&upsert.delete).await?;
        }
        if sent.null_keys {
            self.run(&upsert.delete_null_keys).await?;
        }
        match &upsert.merge {
            Some(merge) if pace == Pace::Fast => self.run(merge).await?,
            _ => self.run(&upsert.insert).await?,
        }
        Ok(sent.unfit)
    }

    async fn send(&self, items: &[Item]) -> Result<Sent, Failure> {
        let copy = self.session.client.copy_in(&self.claim.statements.copy).await;
        let mut stream = Box::pin(copy.map_err(|error| self.failed(&error))?);
        let mut sent = Sent::default();
        for items in items.chunks(COPY_ITEMS) {
            let lines = copy::encode(&self.claim.plan, &self.batch, &self.columns, items);
            let Lines { mut data, unfit, deletes, null_keys } = lines;
            sent.unfit.extend(unfit);
            sent.deletes |= deletes;
            sent.null_keys |= null_keys;
            while !data.is_empty() {
                let chunk = data.split_to(data.len().min(COPY_CHUNK));
                stream.send(chunk).await.map_err(|error| self.failed(&error))?;
            }
        }
        stream.as_mut().finish().await.map_err(|error| self.failed(&error))?;
        Ok(sent)
    }

    /// Applies all items but those that are refused, which it finds by halving.
    async fn bisect(&self) -> Result<Vec<Refused>, Failure> {
        let (mut refused, mut waiting) = (Vec::new(), Vec::from([&self.items[..]]));
        while let Some(items) = waiting.pop() {
            let (code, reason) = match self.attempt(items).await? {
                Ok(unfit) => {
                    refused.extend(self.unfit(unfit));
                    continue;
                }
                Err(refusal) => refusal,
            };
            if let [item] = *items {
                let reason = self.remove_previous(item, reason).await?;
                refused.push(self.refused(item.row, &code, reason));
                continue;
            }
            let (first, second) = items.split_at(items.len() / 2);
            waiting.extend([second, first]);
        }
        Ok(refused)
    }

    /// Applies items under a savepoint: the rows that PostgreSQL cannot hold, or the refusal of one of
    /// the others.
    async fn attempt(
        &self,
        items: &[Item],
    ) -> Result<Result<Vec<usize>, (String, String)>, Failure> {
        if items.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        self.run("SAVEPOINT weir_bisect").await?;
        match self.apply(items, Pace::Careful).await {
            Ok(unfit) => {
                if let Some(upsert) = &self.claim.statements.upsert {
                    self.run(&upsert.clear_stage).await?;
                }
                self.run("RELEASE SAVEPOINT weir_bisect").await?;
                Ok(Ok(unfit))
            }
            Err(Failure::Row(code, reason)) => {
                let back = "ROLLBACK TO SAVEPOINT weir_bisect; RELEASE SAVEPOINT weir_bisect";
                self.run(back).await?;
                Ok(Err((code, reason)))
            }
            Err(other) => Err(other),
        }
    }

    /// Removes the previous row of a refused row's key. Answers the reason of the refusal, longer
    /// by why the previous row stays, if it does.
    async fn remove_previous(&self, item: Item, reason: String) -> Result<String, Failure> {
        if self.claim.plan.mode != SinkMode::Upsert || item.operation != Operation::Put {
            return Ok(reason);
        }
        let delete = Item { operation: Operation::Delete, ..item };
        Ok(match self.attempt(&[delete]).await? {
            Ok(_) => reason,
            Err((_, why)) => format!("{reason}; its key's previous row stays: {why}"),
        })
    }

    /// The refusals of rows that PostgreSQL cannot hold.
    fn unfit(&self, rows: Vec<usize>) -> Vec<Refused> {
        let refused = |row| self.refused(row, copy::NUL_CODE, copy::NUL_REASON.into());
        rows.into_iter().map(refused).collect()
    }

    fn refused(&self, row: usize, code: &str, reason: String) -> Refused {
        Refused {
            offset: self.batch.offset(row),
            code: code.into(),
            reason,
            row: values::row_as_json(&self.batch.batch, &self.columns, row),
        }
    }
}
