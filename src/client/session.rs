//! Runs statements and shows what they answer.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use super::changes::{Changes, Seen};
use super::commands;
use super::connection::{Connection, Failure, Reply, SqlError};
use super::input::Piece;
use super::interrupt::Interrupt;
use super::table::{self, Format};
use crate::time::{Clock, SystemClock};

/// What `\pset`, `\x` and `\timing` set.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settings {
    pub(super) format: Format,
    pub(super) expanded: bool,
    pub(super) timing: bool,
}

/// Whether the shell goes on, and whether all was well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// It does.
    Go,
    /// The statement or command failed.
    Failed,
    /// The server cannot be reached.
    Unreachable,
    /// The user leaves.
    Quit,
}

/// A user's time with a server.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) interrupt: Interrupt,
    pub(super) settings: Settings,
    /// Where answers go with `\o`; else standard output.
    pub(super) output: Option<BufWriter<File>>,
    /// The last statement, for `\watch` and `\e`.
    pub(super) last: String,
    /// How deep `\i` files are nested.
    pub(super) depth: usize,
    /// Whether statements may have made or dropped names since completion looked.
    pub(super) names_changed: bool,
}

impl Session {
    pub(super) fn new(connection: Connection, interrupt: Interrupt) -> Session {
        Session {
            connection,
            interrupt,
            settings: Settings::default(),
            output: None,
            last: String::new(),
            depth: 0,
            names_changed: true,
        }
    }

    /// Runs one piece of input.
    pub(super) fn piece(&mut self, piece: Piece) -> Flow {
        self.interrupt.clear();
        match piece {
            Piece::Statement(text) => {
                self.last.clone_from(&text);
                self.statement(&text)
            }
            Piece::Command(line) => commands::run(self, &line),
        }
    }

    /// Runs one statement.
    pub(super) fn statement(&mut self, text: &str) -> Flow {
        let start = SystemClock.now();
        let (connection, sent) = (self.connection.clone(), text.to_string());
        let reply = self.interrupt.run(move || connection.sql(&sent));
        let flow = match reply {
            None => {
                self.complain("the statement was left behind; the server may still run it");
                Flow::Failed
            }
            Some(Ok(Reply::Answers(answers))) => {
                self.names_changed |= answers.iter().any(|a| a.columns.is_empty());
                let Settings { format, expanded, .. } = self.settings;
                self.show(|out| {
                    answers.iter().try_for_each(|a| table::write(out, a, format, expanded))
                })
            }
            Some(Ok(Reply::Frames(frames))) => self.follow(frames),
            Some(Err(failure)) => self.fail(&failure, text),
        };
        if self.settings.timing {
            let millis = (SystemClock.now() - start) as f64 / 1_000.0;
            self.show(|out| writeln!(out, "Time: {millis:.3} ms"));
        }
        flow
    }

    /// Shows a subscription until it ends or Ctrl-C comes.
    fn follow(&mut self, frames: super::connection::Frames) -> Flow {
        let mut changes = Changes::default();
        let mut flow = Flow::Go;
        let interrupt = self.interrupt.clone();
        let format = self.settings.format;
        let work = move |sender: std::sync::mpsc::SyncSender<String>| {
            for line in frames {
                if sender.send(line).is_err() {
                    // Dropping the body closes the connection, which ends the subscription.
                    return;
                }
            }
        };
        interrupt.follow(work, |line| {
            let shown = self.show_with(|out| changes.show(out, &line, format));
            match shown {
                Some(Seen::More) => {}
                Some(Seen::Failed(error)) => {
                    complain(&error_text(&error, ""));
                    flow = Flow::Failed;
                }
                // Nobody reads what is shown, so there is no use in going on.
                None => flow = Flow::Quit,
            }
        });
        if format == Format::Table {
            let plural = if changes.count == 1 { "" } else { "s" };
            self.show(|out| writeln!(out, "({} change{plural})", changes.count));
        }
        flow
    }

    /// Shows something; a reader that went away ends the shell.
    pub(super) fn show(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Flow {
        if self.show_with(write).is_some() { Flow::Go } else { Flow::Quit }
    }

    fn show_with<T>(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<T>) -> Option<T> {
        let outcome = match &mut self.output {
            Some(file) => write(file).and_then(|value| file.flush().map(|()| value)),
            None => {
                let mut out = BufWriter::new(io::stdout().lock());
                write(&mut out).and_then(|value| out.flush().map(|()| value))
            }
        };
        match outcome {
            Ok(value) => Some(value),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => None,
            Err(error) => {
                complain(&format!("could not write: {error}"));
                None
            }
        }
    }

    /// Says why a call came to nothing.
    pub(super) fn fail(&mut self, failure: &Failure, statement: &str) -> Flow {
        match failure {
            Failure::Sql(error) => {
                complain(&error_text(error, statement));
                Flow::Failed
            }
            Failure::Unreachable(why) => {
                complain(&format!(
                    "could not reach the server at {}: {why}",
                    self.connection.base()
                ));
                Flow::Unreachable
            }
        }
    }

    /// Says what is wrong with a command.
    pub(super) fn complain(&self, text: &str) -> Flow {
        complain(text);
        Flow::Failed
    }
}

/// Writes to standard error; when that is closed there is no one to tell.
pub(super) fn complain(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

/// `ERROR code: message`, the line that it is about, DETAIL and HINT.
fn error_text(error: &SqlError, statement: &str) -> String {
    let mut text = format!("ERROR {}: {}", error.code, table::visible(&error.message));
    if let Some(marked) = error.position.and_then(|position| mark(statement, position)) {
        text.push_str(&marked);
    }
    for (name, value) in [("DETAIL", &error.detail), ("HINT", &error.hint)] {
        if let Some(value) = value {
            text.push_str(&format!("\n{name}: {}", table::visible(value)));
        }
    }
    text
}

/// The line of a statement that holds its `position`th character, with a caret below it.
fn mark(statement: &str, position: usize) -> Option<String> {
    let before = position.checked_sub(1)?;
    let mut start = 0;
    for (number, line) in statement.split('\n').enumerate() {
        let length = line.chars().count();
        if before <= start + length {
            let head = format!("LINE {}: ", number + 1);
            let column = head.chars().count() + before - start;
            return Some(format!("\n{head}{line}\n{:>1$}", "^", column + 1));
        }
        start += length + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_points_at_its_place() {
        let error = SqlError {
            code: "42703".into(),
            message: "column \"b\" does not exist".into(),
            detail: None,
            hint: Some("Choose \"a\".".into()),
            position: Some(13),
        };
        expect_test::expect![[r#"
            ERROR 42703: column "b" does not exist
            LINE 2: bü + b
                         ^
            HINT: Choose "a"."#]]
        .assert_eq(&error_text(&error, "SELECT\nbü + b\nFROM t"));
        let beyond = SqlError { position: Some(99), hint: None, ..error };
        assert_eq!(error_text(&beyond, "SELECT"), "ERROR 42703: column \"b\" does not exist");
    }
}
