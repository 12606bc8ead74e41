//! Runs backslash commands.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::connection::Answer;
use super::input::{Input, Piece};
use super::session::{Flow, Session};
use super::table::{self, Format};
use super::{feed, help};

/// How deep files may call files; one that calls itself must end.
const DEPTH_MAX: usize = 16;

/// Runs one command line, backslash included.
pub(super) fn run(session: &mut Session, line: &str) -> Flow {
    let line = line.trim().trim_end_matches(';').trim_end();
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    match name {
        "\\q" | "\\quit" => Flow::Quit,
        "\\?" => session.show(|out| out.write_all(help::COMMANDS.as_bytes())),
        "\\h" | "\\help" => session.show(|out| out.write_all(help::statement(rest).as_bytes())),
        "\\d" if rest.is_empty() => list_all(session),
        "\\d" => describe(session, rest, false),
        "\\d+" if rest.is_empty() => list_all(session),
        "\\d+" => describe(session, rest, true),
        "\\dq" => list(session, "SHOW QUERIES"),
        "\\ds" => list(session, "SHOW STREAMS"),
        "\\dt" => list(session, "SHOW TABLES"),
        "\\x" => expanded(session, rest),
        "\\timing" => timing(session, rest),
        "\\watch" => watch(session, rest),
        "\\i" => include(session, rest),
        "\\o" => output(session, rest),
        "\\e" => edit(session),
        "\\pset" => pset(session, rest),
        "\\feed" => feed::run(session, rest),
        _ => session.complain(&format!("{name} is not a command; \\? lists them")),
    }
}

fn list(session: &mut Session, sql: &str) -> Flow {
    session.statement(sql)
}

/// Everything that has a name, kind by kind; kinds without members are left out.
fn list_all(session: &mut Session) -> Flow {
    let mut is_empty = true;
    for (title, sql) in [
        ("Streams", "SHOW STREAMS"),
        ("Tables", "SHOW TABLES"),
        ("Queries", "SHOW QUERIES"),
        ("Sinks", "SHOW SINKS"),
    ] {
        let answer = match session.connection.rows(sql) {
            Ok(answer) => answer,
            Err(failure) => return session.fail(&failure, sql),
        };
        if answer.rows.is_empty() {
            continue;
        }
        is_empty = false;
        let flow = show_titled(session, title, &answer);
        if flow != Flow::Go {
            return flow;
        }
    }
    if is_empty {
        session.complain("there are no streams, tables or queries yet")
    } else {
        Flow::Go
    }
}

fn show_titled(session: &mut Session, title: &str, answer: &Answer) -> Flow {
    let settings = session.settings;
    session.show(|out| {
        if settings.format == Format::Table {
            writeln!(out, "{title}")?;
        }
        table::write(out, answer, settings.format, settings.expanded)
    })
}

/// Columns of a relation; with `in_full` also how a query runs.
fn describe(session: &mut Session, name: &str, in_full: bool) -> Flow {
    let describe = format!("DESCRIBE {name}");
    let flow = match session.connection.rows(&describe) {
        Ok(answer) => show_titled(session, &format!("\"{name}\""), &answer),
        Err(failure) => return session.fail(&failure, &describe),
    };
    if !in_full || flow != Flow::Go {
        return flow;
    }
    // Only queries have a plan, so a refusal is no failure of the command.
    match session.connection.rows(&format!("EXPLAIN {name}")) {
        Ok(plan) => show_titled(session, "Plan", &plan),
        Err(_) => flow,
    }
}

/// `on`, `off`, or the other one.
fn toggle(session: &Session, now: bool, word: &str) -> Result<bool, Flow> {
    match word {
        "" => Ok(!now),
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(session.complain(&format!("\"{word}\" is neither on nor off"))),
    }
}

fn expanded(session: &mut Session, word: &str) -> Flow {
    match toggle(session, session.settings.expanded, word) {
        Ok(flag) => session.settings.expanded = flag,
        Err(flow) => return flow,
    }
    let state = if session.settings.expanded { "on" } else { "off" };
    session.show(|out| writeln!(out, "Expanded display is {state}."))
}

fn timing(session: &mut Session, word: &str) -> Flow {
    match toggle(session, session.settings.timing, word) {
        Ok(flag) => session.settings.timing = flag,
        Err(flow) => return flow,
    }
    let state = if session.settings.timing { "on" } else { "off" };
    session.show(|out| writeln!(out, "Timing is {state}."))
}

/// Runs the last statement again and again until Ctrl-C.
fn watch(session: &mut Session, seconds: &str) -> Flow {
    let seconds = if seconds.is_empty() { Ok(2.0) } else { seconds.parse::<f64>() };
    let period = seconds.ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    let Some(period) = period else {
        return session.complain("\\watch takes a number of seconds");
    };
    if session.last.is_empty() {
        return session.complain("there is no statement to watch yet");
    }
    let text = session.last.clone();
    loop {
        let flow = session.statement(&text);
        if session.interrupt.is_set() || session.interrupt.wait(period) {
            return Flow::Go;
        }
        if flow != Flow::Go {
            return flow;
        }
    }
}

/// Runs the statements of a file.
pub(super) fn include(session: &mut Session, path: &str) -> Flow {
    if path.is_empty() {
        return session.complain("\\i takes a file");
    }
    if session.depth >= DEPTH_MAX {
        return session.complain(&format!("files are nested deeper than {DEPTH_MAX}"));
    }
    match File::open(path) {
        Ok(file) => {
            session.depth += 1;
            let flow = read(session, BufReader::new(file));
            session.depth -= 1;
            if flow == Flow::Quit && session.depth > 0 { Flow::Go } else { flow }
        }
        Err(error) => session.complain(&format!("could not open \"{path}\": {error}")),
    }
}

/// Runs lines up to the first failure.
pub(super) fn read(session: &mut Session, lines: impl BufRead) -> Flow {
    let mut input = Input::default();
    for line in lines.lines() {
        let line = match line {
            Ok(line) => line,
            Err(error) => return session.complain(&format!("could not read: {error}")),
        };
        for piece in input.line(&line) {
            let flow = session.piece(piece);
            if flow != Flow::Go {
                return flow;
            }
        }
    }
    input.end().map_or(Flow::Go, |piece| session.piece(piece))
}

fn output(session: &mut Session, path: &str) -> Flow {
    if path.is_empty() {
        session.output = None;
        return Flow::Go;
    }
    match File::create(path) {
        Ok(file) => {
            session.output = Some(BufWriter::new(file));
            Flow::Go
        }
        Err(error) => session.complain(&format!("could not create \"{path}\": {error}")),
    }
}

/// Opens the last statement in an editor and runs what comes back.
fn edit(session: &mut Session) -> Flow {
    let path: PathBuf = std::env::temp_dir().join(format!("weir-{}.sql", std::process::id()));
    let editor = std::env::var("VISUAL").or_else(|_| std::env::var("EDITOR"));
    let editor = editor.unwrap_or_else(|_| "vi".into());
    let edited = std::fs::write(&path, format!("{};\n", session.last)).and_then(|()| {
        // An editor may be a command with arguments, as in `code --wait`.
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(&path).status()?;
        std::fs::read_to_string(&path)
    });
    drop(std::fs::remove_file(&path));
    let text = match edited {
        Ok(text) => text,
        Err(error) => return session.complain(&format!("could not edit: {error}")),
    };
    let mut input = Input::default();
    let mut pieces: Vec<Piece> = text.lines().flat_map(|line| input.line(line)).collect();
    pieces.extend(input.end());
    for piece in pieces {
        let flow = session.piece(piece);
        if flow != Flow::Go {
            return flow;
        }
    }
    Flow::Go
}

fn pset(session: &mut Session, rest: &str) -> Flow {
    let format = match rest.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["format", "table" | "aligned"] => Format::Table,
        ["format", "csv"] => Format::Csv,
        ["format", "json"] => Format::Json,
        _ => return session.complain("write \\pset format table, csv or json"),
    };
    session.settings.format = format;
    Flow::Go
}
