//! The `weir` program: `serve`, `sql`, `demo` and `test`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use weir::client;
use weir::config::{Config, Flags};
use weir::engine::{Engine, EngineSettings};
use weir::error::{Error, Result, SqlState};
use weir::script;
use weir::server::{Addresses, Server, Service, Signals};
use weir::time::SystemClock;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Continuous SQL queries over streams, in one program.
#[derive(Debug, Parser)]
#[command(name = "weir", version)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server.
    Serve(Flags),
    /// Opens a shell on a running server, or runs statements and ends.
    #[command(disable_help_flag = true)]
    Sql(client::SqlArgs),
    /// Runs the main job on recorded data.
    Demo(client::demo::DemoArgs),
    /// Runs streaming test scripts with virtual time.
    Test {
        /// The scripts.
        #[arg(required = true, value_name = "FILE.slt")]
        files: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let program = match Program::try_parse() {
        Ok(program) => program,
        Err(error) => {
            // Help and version are no errors.
            let usage = if error.use_stderr() { client::EXIT_USAGE } else { 0 };
            return if error.print().is_ok() { usage.into() } else { client::EXIT_USAGE.into() };
        }
    };
    match program.command {
        Command::Serve(flags) => report(serve(&flags)),
        Command::Sql(args) => client::run(&args).into(),
        Command::Demo(args) => report(client::demo::run(&args)),
        Command::Test { files } => report(script::run(&files)),
    }
}

fn report(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            let told = writeln!(std::io::stderr(), "{error}");
            if told.is_ok() { ExitCode::FAILURE } else { ExitCode::from(1) }
        }
    }
}

/// Runs the server until SIGTERM or SIGINT.
fn serve(flags: &Flags) -> Result<()> {
    let config = Config::gather(flags, |name| std::env::var(name).ok())?;
    let filter = tracing_subscriber::EnvFilter::try_from_env("WEIR_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("weir-io")
        .build()
        .map_err(|error| {
            Error::new(SqlState::IO, "could not start the threads").with_detail(error.to_string())
        })?;
    let outcome = runtime.block_on(async {
        let settings = EngineSettings {
            snapshot_interval: config.snapshot_interval,
            shards: config.shards,
            ..EngineSettings::new(&config.data_dir)
        };
        let engine: Arc<Engine> = Engine::open(settings, Arc::new(SystemClock))?;
        let addresses = Addresses { http: config.http.clone(), tcp: config.tcp.clone() };
        let signals = Signals::hear()?;
        let server = Server::start(Arc::new(engine) as Arc<dyn Service>, &addresses).await?;
        let signal = signals.first().await;
        tracing::info!("{signal}: shutting down");
        server.stop().await;
        tracing::info!("the server has stopped");
        Ok(())
    });
    // Tasks that did not end in time are abandoned: the log holds all that was acknowledged.
    runtime.shutdown_background();
    outcome
}
