//! Is `weir sql`: a prompt for people, and a runner of statements for pipes and scripts.

use std::io::{self, BufReader, IsTerminal, Read};
use std::path::PathBuf;

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};

use super::commands;
use super::completion::Completion;
use super::connection::{Connection, Failure};
use super::input::Input;
use super::interrupt::Interrupt;
use super::session::{Flow, Session, complain};

/// Exit code: a statement failed in `-c`, `-f` or a pipe.
const EXIT_SQL: u8 = 1;
/// Exit code: the server cannot be reached.
const EXIT_CONNECT: u8 = 2;
/// Exit code: wrong arguments.
pub const EXIT_USAGE: u8 = 3;

/// The arguments of `weir sql`.
#[derive(Debug, Clone, clap::Args)]
pub struct SqlArgs {
    /// The server's host
    #[arg(short = 'h', long, default_value = "127.0.0.1", env = "WEIR_HOST")]
    pub host: String,
    /// The server's HTTP port
    #[arg(short, long, default_value_t = 4880, env = "WEIR_PORT")]
    pub port: u16,
    /// Run these statements, then end; may be given several times
    #[arg(short, long, value_name = "SQL")]
    pub command: Vec<String>,
    /// Run the statements of this file, then end; may be given several times
    #[arg(short, long, value_name = "FILE")]
    pub file: Vec<PathBuf>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
}

/// Runs the shell and gives its exit code.
pub fn run(args: &SqlArgs) -> u8 {
    let interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(error) => {
            complain(&format!("could not listen for Ctrl-C: {error}"));
            return EXIT_USAGE;
        }
    };
    let mut session = Session::new(Connection::new(&args.host, args.port), interrupt);
    if let Err(failure @ Failure::Unreachable(_)) = session.connection.get("/healthz") {
        session.fail(&failure, "");
        return EXIT_CONNECT;
    }
    if !args.command.is_empty() || !args.file.is_empty() {
        return arguments(&mut session, args);
    }
    if io::stdin().is_terminal() {
        return match prompt(&mut session) {
            Ok(()) => 0,
            Err(error) => {
                complain(&format!("could not read the terminal: {error}"));
                EXIT_USAGE
            }
        };
    }
    exit_code(commands::read(&mut session, BufReader::new(io::stdin())))
}

/// `-c` texts, then `-f` files, up to the first failure.
fn arguments(session: &mut Session, args: &SqlArgs) -> u8 {
    for text in &args.command {
        let flow = match copy_of_input(text) {
            Some(copy) => {
                let rows = BufReader::new(io::stdin());
                commands::read(session, copy.as_bytes().chain(rows))
            }
            None => commands::read(session, text.as_bytes()),
        };
        if flow != Flow::Go {
            return exit_code(flow);
        }
    }
    for file in &args.file {
        let flow = commands::include(session, &file.to_string_lossy());
        if flow != Flow::Go {
            return exit_code(flow);
        }
    }
    0
}

/// The statement, if the text is a COPY whose rows come by standard input.
fn copy_of_input(text: &str) -> Option<String> {
    let statement = text.trim().trim_end_matches(';').trim_end();
    let words: Vec<String> = statement.split_whitespace().map(str::to_ascii_lowercase).collect();
    let copies = words.first().is_some_and(|word| word == "copy")
        && words.windows(2).any(|pair| pair[0] == "from" && pair[1].starts_with("stdin"));
    (copies && !statement.contains([';', '\n'])).then(|| format!("{statement};\n"))
}

fn exit_code(flow: Flow) -> u8 {
    match flow {
        Flow::Go | Flow::Quit => 0,
        Flow::Failed => EXIT_SQL,
        Flow::Unreachable => EXIT_CONNECT,
    }
}

/// Reads lines from a person until `\q` or the end of input.
fn prompt(session: &mut Session) -> rustyline::Result<()> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .auto_add_history(false)
        .max_history_size(10_000)?
        .build();
    let mut editor: Editor<Completion, FileHistory> = Editor::with_config(config)?;
    editor.set_helper(Some(Completion::default()));
    let history = history_file();
    if let Some(path) = &history {
        // The first time there is none.
        drop(editor.load_history(path));
    }
    session.show(|out| writeln!(out, "weir {}; \\? helps, \\q leaves", env!("CARGO_PKG_VERSION")));
    let mut input = Input::default();
    let mut entry = String::new();
    loop {
        if std::mem::take(&mut session.names_changed)
            && let Some(completion) = editor.helper_mut()
        {
            completion.refresh(&session.connection);
        }
        let sign = if input.has_begun() { "weir-> " } else { "weir=> " };
        let line = match editor.readline(sign) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                input.clear();
                entry.clear();
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error),
        };
        entry.push_str(&line);
        let pieces = input.line(&line);
        if input.has_begun() {
            entry.push('\n');
        } else if !entry.trim().is_empty() {
            editor.add_history_entry(std::mem::take(&mut entry))?;
        }
        if pieces.into_iter().any(|piece| session.piece(piece) == Flow::Quit) {
            break;
        }
    }
    if let Some(path) = &history
        && let Err(error) = editor.save_history(path)
    {
        complain(&format!("could not write the history to \"{}\": {error}", path.display()));
    }
    Ok(())
}

/// `WEIR_HISTORY`, or a file in the home directory.
fn history_file() -> Option<PathBuf> {
    let named = std::env::var_os("WEIR_HISTORY").map(PathBuf::from);
    named.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".weir_history")))
}
