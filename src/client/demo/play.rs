//! Starts a server, sets up the examples, replays their recordings and shows what comes out.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::answer::Answer;
use super::example::{Example, Step};
use super::place::Place;
use super::recording::Recording;
use super::screen::Screen;
use super::{DemoArgs, bundle, cannot, database, say};
use crate::engine::{Engine, EngineSettings};
use crate::error::{Error, Result, SqlState};
use crate::server::{Addresses, Server};
use crate::time::{Clock, SECOND, SystemClock};

/// A replay at a readable pace: so many pieces of each recording, one a tick.
const PIECES: usize = 600;
const TICK: Duration = Duration::from_millis(100);
/// The answers are asked for again after so many ticks.
const TICKS_PER_LOOK: usize = 5;
/// Rows of an answer that are printed.
const ROWS_SHOWN: usize = 12;
/// The database that the sink of the examples writes.
const DATABASE: &str = "hourly_hits.sqlite";

/// Width of the left one of two answers.
const LEFT_WIDTH: usize = 42;

/// What is shown while the recordings run.
const LIVE: [(&str, &str); 4] = [
    (
        "paths asked for most, now",
        "SELECT path, hits FROM top_paths ORDER BY hits DESC, path LIMIT 4",
    ),
    (
        "the latest hours that closed",
        "SELECT hour, hits, clients FROM hourly_hits ORDER BY hour DESC LIMIT 4",
    ),
    (
        "longest editing sessions",
        "SELECT \"user\", edits FROM edit_sessions ORDER BY edits DESC LIMIT 4",
    ),
    (
        "children per year",
        "SELECT year, names, births FROM births_per_year ORDER BY year DESC LIMIT 3",
    ),
];

/// Plays the demo; ends by itself with `--fast`, else with Ctrl-C.
///
/// # Errors
/// The engine's, and XX000 when an answer is not the known one.
pub async fn play(args: &DemoArgs, out: &mut (dyn Write + Send)) -> Result<()> {
    let place = Place::find(args)?;
    let settings = EngineSettings::new(place.path().join("data"));
    let engine = Engine::open(settings, Arc::new(SystemClock))?;
    let server = start(&engine, args.fast).await?;
    let show = Show { engine: &engine, server: &server, place: place.path(), clock: SystemClock };
    let outcome = tokio::select! {
        outcome = Box::pin(show.run(args.fast, out)) => outcome,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(|error| cannot("wait for Ctrl-C", &error))
        }
    };
    server.stop().await;
    outcome
}

/// The usual addresses where they are free: a second server must not keep the demo from running.
async fn start(engine: &Arc<Engine>, fast: bool) -> Result<Server> {
    let addresses = |http: u16, tcp: u16| Addresses {
        http: format!("127.0.0.1:{http}"),
        tcp: format!("127.0.0.1:{tcp}"),
    };
    if !fast
        && let Ok(server) =
            Server::start(Arc::new(Arc::clone(engine)), &addresses(4880, 4881)).await
    {
        return Ok(server);
    }
    Server::start(Arc::new(Arc::clone(engine)), &addresses(0, 0)).await
}

/// What one showing needs.
struct Show<'a> {
    engine: &'a Arc<Engine>,
    server: &'a Server,
    place: &'a Path,
    clock: SystemClock,
}

impl Show<'_> {
    async fn run(&self, fast: bool, out: &mut (dyn Write + Send)) -> Result<()> {
        let examples = bundle::examples()?;
        for example in &examples {
            for sql in example.around_the_feed().0 {
                self.execute(sql).await?;
            }
        }
        let mut recordings = self.recordings(&examples)?;
        let begin = self.clock.now();
        if fast {
            for recording in &mut recordings {
                recording.send_all().await?;
            }
            self.engine.flush().await?;
        } else {
            say(out, &self.addresses())?;
            self.replay(&mut recordings, out).await?;
        }
        let micros = self.clock.now() - begin;
        let wrong = self.final_answers(&examples, out).await?;
        let rows: u64 = recordings.iter().map(|recording| recording.accepted).sum();
        let seconds = micros.max(1) as f64 / SECOND as f64;
        let rate = rows as f64 / seconds;
        let queries = examples.len();
        say(
            out,
            &format!(
                "{rows} rows in {seconds:.2} s, {rate:.0} rows/s, durable and in every result."
            ),
        )?;
        if wrong > 0 {
            let message = format!("{wrong} of {queries} answers are not the known ones");
            return Err(Error::new(SqlState::INTERNAL, message));
        }
        say(out, &format!("All {queries} answers are right."))?;
        if !fast {
            say(out, &self.addresses())?;
            say(out, "The server runs on; Ctrl-C ends it.")?;
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    /// Every recording that the examples name, once for each stream.
    fn recordings(&self, examples: &[Example]) -> Result<Vec<Recording>> {
        let mut recordings: Vec<Recording> = Vec::new();
        for step in examples.iter().flat_map(|example| &example.steps) {
            if let Step::Feed { stream, file } = step
                && recordings.iter().all(|known| known.stream.name() != stream)
            {
                let content = bundle::recording(file)?;
                recordings.push(Recording::open(self.engine, stream, file, content)?);
            }
        }
        Ok(recordings)
    }

    /// Sends every recording in equal pieces over about a minute, and shows what happens.
    async fn replay(
        &self,
        recordings: &mut [Recording],
        out: &mut (dyn Write + Send),
    ) -> Result<()> {
        let mut ticks = tokio::time::interval(TICK);
        let mut screen = Screen::new(recordings);
        for piece in 1..=PIECES {
            ticks.tick().await;
            for recording in recordings.iter_mut() {
                let end = recording.bytes() * piece / PIECES;
                if end > recording.sent() {
                    recording.send_to(end).await?;
                }
            }
            screen.progress(recordings);
            if piece % TICKS_PER_LOOK == 0 {
                screen.answers(self.live().await?, out)?;
            }
        }
        screen.end();
        Ok(())
    }

    /// The answers as they stand.
    async fn live(&self) -> Result<String> {
        let mut text = String::new();
        // Two beside each other, so that a small terminal holds them all.
        for pair in LIVE.chunks(2) {
            let mut columns = [vec![], vec![]];
            for (column, (title, sql)) in columns.iter_mut().zip(pair) {
                column.push(format!(" {title}"));
                column.extend(self.execute(sql).await?.lines());
            }
            let [left, right] = columns;
            for line in 0..left.len().max(right.len()) {
                let cell = |column: &[String]| column.get(line).cloned().unwrap_or_default();
                text.push_str(&format!("{:<LEFT_WIDTH$}{}\n", cell(&left), cell(&right)));
            }
            text.push('\n');
        }
        Ok(text)
    }

    /// Prints each answer and whether it is the known one; gives the number of those that are not.
    async fn final_answers(
        &self,
        examples: &[Example],
        out: &mut (dyn Write + Send),
    ) -> Result<usize> {
        let mut wrong = 0;
        for example in examples {
            let mut answer = Answer::default();
            for sql in example.around_the_feed().1 {
                answer = self.execute(sql).await?;
            }
            let difference = answer.difference(&example.answer);
            let hidden = answer.rows.len().saturating_sub(ROWS_SHOWN);
            say(
                out,
                &format!("\n{}: {}\n{}", example.name, example.question, answer.top(ROWS_SHOWN)),
            )?;
            if hidden > 0 {
                say(out, &format!("and {hidden} more rows"))?;
            }
            match difference {
                None => say(out, "the known answer: the same")?,
                Some(difference) => {
                    wrong += 1;
                    let known = example.answer.clone();
                    say(out, &format!("the known answer: NOT the same, {difference}\n{known}"))?;
                }
            }
        }
        let path = self.place.join(DATABASE);
        let question = "SELECT hour, hits, clients FROM hourly_hits ORDER BY hour";
        let (kept, wanted) = (database::ask(&path, question)?, self.execute(question).await?);
        match kept.difference(&wanted) {
            None => say(out, &format!("\nSQLite holds the same {} hours.", kept.rows.len()))?,
            Some(difference) => {
                wrong += 1;
                say(out, &format!("\nSQLite does NOT hold what the query answers: {difference}"))?;
            }
        }
        Ok(wrong)
    }

    /// Runs statements; the last one's answer. The sink's database lies beside the data.
    async fn execute(&self, sql: &str) -> Result<Answer> {
        let path = self.place.join(DATABASE).display().to_string().replace('\'', "''");
        let sql = sql.replace(&format!("'{DATABASE}'"), &format!("'{path}'"));
        let execution = Box::pin(self.engine.execute(&sql)).await;
        match execution.error {
            Some(error) => Err(error),
            None => Ok(execution.results.last().map(Answer::of).unwrap_or_default()),
        }
    }

    fn addresses(&self) -> String {
        let (http, tcp) = (self.server.http(), self.server.tcp());
        let (port, database) = (http.port(), self.place.join(DATABASE));
        format!(
            "\nWhile it runs, try in another terminal:\n\
             \x20 weir sql -p {port}\n\
             \x20 curl http://{http}/v1/sql --data-binary 'SELECT * FROM top_paths ORDER BY hits DESC LIMIT 5'\n\
             \x20 curl -N -H 'Accept: text/event-stream' 'http://{http}/v1/queries/hourly_hits/subscribe?from=earliest'\n\
             \x20 WebSocket: ws://{http}/v1/queries/top_paths/subscribe?snapshot=true\n\
             \x20 sqlite3 {} 'SELECT * FROM hourly_hits'\n\
             Rows by TCP go to {tcp}.\n",
            database.display()
        )
    }
}
