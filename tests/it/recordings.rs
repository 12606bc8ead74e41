//! Feeds recordings into an engine and compares answers with known ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir::client::demo::answer::Answer;
use weir::client::demo::recording::Recording;
use weir::engine::{Engine, EngineSettings};
use weir::time::SystemClock;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// An engine of its own, and what went wrong in it so far.
pub(crate) struct Lab {
    pub(crate) engine: Arc<Engine>,
    pub(crate) directory: tempfile::TempDir,
    failures: Vec<String>,
}

impl Lab {
    pub(crate) fn new() -> Lab {
        let directory = tempfile::tempdir().unwrap();
        let settings =
            EngineSettings { timers: false, ..EngineSettings::new(directory.path().join("data")) };
        let engine = Engine::open(settings, Arc::new(SystemClock)).unwrap();
        Lab { engine, directory, failures: vec![] }
    }

    /// Runs statements; the last one's answer. An error is noted, so that one run shows all of them.
    pub(crate) async fn run(&mut self, sql: &str) -> Answer {
        let execution = self.engine.execute(sql).await;
        if let Some(error) = &execution.error {
            self.failures.push(format!("{sql}\n{error}"));
            return Answer::default();
        }
        execution.results.last().map(Answer::of).unwrap_or_default()
    }

    /// Feeds a file into a stream; rows stored and rows refused.
    pub(crate) async fn feed(&mut self, stream: &str, file: &Path) -> (u64, u64) {
        let content = std::fs::read(file).unwrap();
        let name = file.to_str().unwrap();
        let mut recording = match Recording::open(&self.engine, stream, name, &content) {
            Ok(recording) => recording,
            Err(error) => {
                self.failures.push(format!("feed {stream}\n{error}"));
                return (0, 0);
            }
        };
        recording.send_all().await.unwrap();
        (recording.accepted, recording.rejected)
    }

    /// Asks, and notes where the answer is not the one of the Markdown table.
    pub(crate) async fn check(&mut self, question: &str, sql: &str, known: &str) {
        let before = self.failures.len();
        let answer = self.run(sql).await;
        let known = Answer::from_markdown(known);
        assert!(!known.rows.is_empty(), "{question}: no known answer");
        if self.failures.len() > before {
            self.failures[before].insert_str(0, &format!("{question}: "));
        } else if let Some(difference) = answer.difference(&known) {
            self.failures.push(format!("{question}: {difference}\n{answer}"));
        }
    }

    /// Fills one stream per bound with the times that `select` gives: `bound_0`, `bound_1` …
    pub(crate) async fn bounds(&mut self, time: &str, select: &str, bounds: &[&str]) {
        for (number, bound) in bounds.iter().enumerate() {
            self.run(&format!(
                "CREATE STREAM bound_{number} (t {time}, WATERMARK FOR t AS t{bound});
                 INSERT INTO bound_{number} {select}"
            ))
            .await;
        }
    }

    /// Ends the engine; fails if anything was noted.
    pub(crate) async fn end(self) {
        self.engine.shutdown().await;
        assert!(self.failures.is_empty(), "\n{}", self.failures.join("\n\n"));
    }
}

/// A recording that comes with the project.
pub(crate) fn shipped(file: &str) -> PathBuf {
    Path::new(ROOT).join("queries/data").join(file)
}

/// A recording that may not be shipped, where the collection lies beside the project.
pub(crate) fn beside(file: &str) -> Option<PathBuf> {
    let places = ["../shared/data", "../../shared/data"];
    let found = places.iter().map(|place| Path::new(ROOT).join(place).join(file));
    let found = found.into_iter().find(|path| path.is_file());
    if found.is_none() {
        println!("skipped: the recording {file} is not beside the project");
    }
    found
}
