//! Runs a case through an engine, cut at random, flushed and restarted at random.

use serde_json::Value as Json;
use weir::decode::{Format, decoder};
use weir::engine::IngestOrigin;

use super::case::{Case, Dropped, name};
use super::changelog::Changelog;
use super::engine_run::EngineRun;
use super::naive::Answer;
use super::rng::Rng;

/// What a run shows from outside.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Per query, the result before and after everything is closed.
    pub(super) open: Vec<Vec<Answer>>,
    pub(super) closed: Vec<Vec<Answer>>,
    pub(super) changelogs: Vec<Changelog>,
    /// Offsets of the first query's late rows, per stream.
    pub(super) late: Dropped,
    /// What a SELECT answers for each query over the rows that count.
    pub(super) reference: Vec<Vec<Answer>>,
}

pub(super) struct Run<'a, 'e> {
    pub(super) case: &'a Case,
    pub(super) engine: &'a mut EngineRun<'e>,
    /// What is cut, flushed and restarted.
    pub(super) rng: Rng,
}

impl Run<'_, '_> {
    /// Runs the case. `dropped`: the rows that a reference answer leaves out, where one is wanted.
    pub(super) async fn outcome(&mut self, dropped: Option<&Dropped>) -> Result<Outcome, String> {
        let case = self.case;
        self.engine.open()?;
        for stream in 0..case.streams() {
            self.execute(&case.create_stream(stream)).await?;
        }
        let late_start = self.rng.one_in(4);
        if !late_start {
            self.create_queries().await?;
        }
        self.feed().await?;
        if late_start {
            self.create_queries().await?;
        }
        let mut outcome = Outcome::default();
        self.execute("FLUSH").await?;
        outcome.open = self.results().await?;
        for stream in 0..case.streams() {
            let end = if case.time.logical { "100000000" } else { "TIMESTAMP '2100-01-01'" };
            self.execute(&format!("PUNCTUATE {} WHERE at < {end}", name(stream))).await?;
        }
        self.execute("FLUSH").await?;
        self.check_running().await?;
        outcome.closed = self.results().await?;
        outcome.changelogs = self.changelogs()?;
        outcome.late = self.late().await?;
        if self.rng.one_in(2) {
            self.engine.restart().await?;
            self.execute("FLUSH").await?;
            self.check_running().await?;
            same("results after a restart", &outcome.closed, &self.results().await?)?;
            same("changelogs after a restart", &outcome.changelogs, &self.changelogs()?)?;
            same("late rows after a restart", &outcome.late, &self.late().await?)?;
        }
        if dropped.is_some() {
            let none = dropped.is_some_and(|d| d.iter().all(Vec::is_empty));
            let first = case.select(if none { None } else { dropped });
            outcome.reference.push(self.rows(&first).await?);
            if let Some(outer) = case.outer_select("q0") {
                outcome.reference.push(self.rows(&outer).await?);
            }
        }
        self.engine.engine().shutdown().await;
        Ok(outcome)
    }

    async fn create_queries(&self) -> Result<(), String> {
        self.execute(&self.case.create_query()).await?;
        match self.case.create_outer() {
            Some(outer) => self.execute(&outer).await.map(drop),
            None => Ok(()),
        }
    }

    /// Sends the rows in pieces.
    async fn feed(&mut self) -> Result<(), String> {
        let rows = &self.case.rows;
        let longest = self.rng.pick(&[1, 3, 10, 200]);
        let mut start = 0;
        while start < rows.len() {
            let stream = rows[start].stream;
            let same = rows[start..].iter().take_while(|row| row.stream == stream).count();
            let length = (1 + self.rng.index(longest)).min(same);
            let handle = self.engine.engine().stream(name(stream)).map_err(|e| e.to_string())?;
            let text = self.case.ndjson(&rows[start..start + length]);
            let decoded = decoder(Format::NdJson, handle.decode_spec()).decode(&text, 1);
            let receipt = handle.ingest(decoded, None, IngestOrigin::default()).await;
            drop(handle);
            let receipt = receipt.map_err(|error| format!("ingest: {error}"))?;
            if receipt.rejected > 0 {
                return Err(format!("rows are refused: {:?}", receipt.errors));
            }
            start += length;
            self.engine.clock.advance(self.rng.between(0, 2_000_000));
            if self.rng.one_in(4) {
                self.execute("FLUSH").await?;
            }
            if self.rng.one_in(12) {
                self.engine.restart().await?;
            }
        }
        Ok(())
    }

    fn queries(&self) -> usize {
        1 + usize::from(self.case.query.outer.is_some())
    }

    async fn results(&self) -> Result<Vec<Vec<Answer>>, String> {
        let mut results = Vec::new();
        for query in 0..self.queries() {
            results.push(self.rows(&format!("SELECT * FROM q{query}")).await?);
        }
        Ok(results)
    }

    async fn execute(&self, sql: &str) -> Result<String, String> {
        self.engine.text(sql).await.map_err(|error| format!("{sql}\n{error}"))
    }

    async fn rows(&self, sql: &str) -> Result<Vec<Answer>, String> {
        let text = self.execute(sql).await?;
        text.lines()
            .map(|line| serde_json::from_str(line).map_err(|error| format!("{line}: {error}")))
            .collect()
    }

    async fn check_running(&self) -> Result<(), String> {
        let sql = "SELECT name, status, error FROM weir.queries WHERE status <> 'running'
                   UNION ALL SELECT relation, code, reason FROM weir.dead_letters";
        match self.execute(sql).await?.as_str() {
            "" => Ok(()),
            text => Err(format!("not all is well: {text}")),
        }
    }

    fn changelogs(&self) -> Result<Vec<Changelog>, String> {
        (0..self.queries())
            .map(|query| Changelog::read(self.engine.engine(), &format!("q{query}")))
            .collect()
    }

    async fn late(&self) -> Result<Dropped, String> {
        let mut late: Dropped = [vec![], vec![]];
        let sql = "SELECT stream, \"offset\" FROM weir.late_rows WHERE query = 'q0'";
        for row in self.rows(sql).await? {
            let stream = usize::from(row["stream"] == "t");
            late[stream].push(row["offset"].as_u64().unwrap());
        }
        late.iter_mut().for_each(|offsets| offsets.sort_unstable());
        Ok(late)
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, left: &T, right: &T) -> Result<(), String> {
    if left == right { Ok(()) } else { Err(format!("{what} differ:\n{left:?}\n{right:?}")) }
}

/// Whether two values are the same, floats to nine digits.
fn close(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Number(l), Json::Number(r)) if l.is_f64() || r.is_f64() => {
            let (l, r) = (l.as_f64().unwrap(), r.as_f64().unwrap());
            (l - r).abs() <= 1e-9 * l.abs().max(r.abs()).max(1.0)
        }
        (Json::Array(l), Json::Array(r)) => {
            l.len() == r.len() && l.iter().zip(r).all(|(l, r)| close(l, r))
        }
        _ => left == right,
    }
}

/// Compares two answers as multisets, over the columns that the second one has.
pub(super) fn compare(what: &str, found: &[Answer], expected: &[Answer]) -> Result<(), String> {
    let matches = |found: &Answer, expected: &Answer| {
        expected.iter().all(|(name, value)| found.get(name).is_some_and(|f| close(f, value)))
    };
    let mut left: Vec<&Answer> = found.iter().collect();
    let mut missing = Vec::new();
    for row in expected {
        match left.iter().position(|candidate| matches(candidate, row)) {
            Some(index) => drop(left.swap_remove(index)),
            None => missing.push(row),
        }
    }
    if left.is_empty() && missing.is_empty() {
        return Ok(());
    }
    let lines = |rows: &[&Answer]| -> String {
        rows.iter().map(|row| format!("  {}\n", Json::Object((*row).clone()))).collect()
    };
    Err(format!("{what}: unexpected\n{}{what}: missing\n{}", lines(&left), lines(&missing)))
}
