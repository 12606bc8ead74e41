//! Starts the real program over a directory and ends it within bounds of time.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tokio::time::Instant;

/// Nothing that a test waits for takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program.
pub(crate) fn weir() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    for name in ["WEIR_CONFIG", "WEIR_HOST", "WEIR_PORT", "WEIR_LOG"] {
        command.env_remove(name);
    }
    command
}

/// `weir serve` as a process of its own.
pub(crate) struct RealServer {
    child: Child,
    pub(crate) http: u16,
    pub(crate) tcp: u16,
}

impl RealServer {
    /// Starts a server and waits until it listens.
    pub(crate) fn start(directory: &Path) -> RealServer {
        RealServer::start_with(directory, &[])
    }

    /// Starts a server with more flags.
    pub(crate) fn start_with(directory: &Path, flags: &[&str]) -> RealServer {
        RealServer::try_start(directory, flags, &[]).expect("the server says where it listens")
    }

    /// Starts a server with more flags and variables; none when it ends before it listens. What it tells
    /// its operator goes to `server.log`, too.
    pub(crate) fn try_start(
        directory: &Path,
        flags: &[&str],
        variables: &[(&str, &str)],
    ) -> Option<RealServer> {
        let mut child = weir()
            .args(["serve", "--http", "127.0.0.1:0", "--tcp", "127.0.0.1:0", "--data-dir"])
            .arg(directory.join("data"))
            .args(flags)
            .envs(variables.iter().copied())
            .current_dir(directory)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, ports) = mpsc::channel();
        let mut kept = std::fs::OpenOptions::new();
        let mut kept = kept.create(true).append(true).open(directory.join("server.log")).unwrap();
        // Goes on reading to the end, or the server would block on a full pipe.
        let reader = std::thread::Builder::new().spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if line.contains(" listens on ") {
                    let port = line.rsplit(':').next().unwrap().trim().parse::<u16>();
                    // Nobody waits for a port any more once the test has given up.
                    sender.send(port.unwrap()).unwrap_or_default();
                }
                // The directory may be gone, too.
                writeln!(kept, "{line}").unwrap_or_default();
            }
        });
        drop(reader.unwrap());
        let port = || ports.recv_timeout(PATIENCE).ok();
        let found = port().zip(port());
        let Some((http, tcp)) = found else {
            drop(child.kill());
            child.wait().unwrap();
            return None;
        };
        Some(RealServer { child, http, tcp })
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Files and sockets that the process has open.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    /// Waits until the process ends by itself, and kills it after `patience`; whether it did.
    pub(crate) fn ends_within(mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if self.child.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        self.kill();
        false
    }

    /// Sends SIGTERM and gives how the server ended; it has `within` to do so.
    pub(crate) fn terminate(mut self, within: Duration) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let (sender, ended) = mpsc::channel();
        std::thread::scope(|scope| {
            let child = &mut self.child;
            scope.spawn(move || sender.send(child.wait().unwrap()));
            let status = ended.recv_timeout(within);
            if status.is_err() {
                // The scope waits for the process, so it has to end either way.
                drop(Command::new("kill").args(["-KILL", &pid]).status());
            }
            status.expect("the server ends in time")
        })
    }

    /// Ends the process at once, as kill -9 does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What a call over HTTP answers: status and body as JSON.
    pub(crate) fn post(&self, path: &str, kind: &str, body: &str) -> (u16, serde_json::Value) {
        let agent = ureq::Agent::new_with_config(
            ureq::Agent::config_builder()
                .http_status_as_error(false)
                .timeout_global(Some(PATIENCE))
                .build(),
        );
        let url = format!("http://127.0.0.1:{}{path}", self.http);
        let mut answer = agent.post(url).content_type(kind).send(body).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap())
    }

    /// What statements answer in a format.
    pub(crate) fn sql_as(&self, accept: &str, text: &str) -> Vec<u8> {
        let url = format!("http://127.0.0.1:{}/v1/sql", self.http);
        let call = ureq::post(url).header("Accept", accept).content_type("text/plain");
        call.send(text).unwrap().body_mut().read_to_vec().unwrap()
    }

    /// Runs statements that must succeed.
    pub(crate) fn sql(&self, text: &str) -> serde_json::Value {
        let (status, answer) = self.post("/v1/sql", "text/plain", text);
        assert_eq!(status, 200, "{text}\n{answer}");
        answer
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        // It may have ended already, which is no fault.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a program to its end, with this input.
pub(crate) fn finish(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that ends before it has read everything closes the pipe.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    let pid = child.id().to_string();
    let (sender, ended) = mpsc::channel();
    let waiter = std::thread::Builder::new().spawn(move || {
        drop(sender.send(child.wait_with_output()));
    });
    drop(waiter.unwrap());
    ended.recv_timeout(PATIENCE).map(Result::unwrap).unwrap_or_else(|_| {
        drop(Command::new("kill").args(["-KILL", &pid]).status());
        panic!("the program does not end");
    })
}
