//! Gives tests a PostgreSQL server: the one of `WEIR_TEST_POSTGRES`, or a private one.
//!
//! The private server is shared by all tests of the process, listens on 127.0.0.1 only and keeps its
//! files in a temporary directory. A watchdog (a shell that reads a pipe of ours) stops it by its own
//! process id and removes the directory when the test process ends, however it ends.
//!
//! Included by path from the unit tests of `src/sinks/` and by integration tests (`mod pg;`).

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The variable that names a server to use.
const VARIABLE: &str = "WEIR_TEST_POSTGRES";

/// A server for tests.
#[derive(Debug)]
pub struct TestPostgres {
    /// `postgres://user@host:port/database`, without parameters.
    pub url: String,
}

impl TestPostgres {
    /// A schema name that no other test of this process uses.
    pub fn fresh_schema(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        format!("weir_test_{}_{count}", std::process::id())
    }

    /// The URL of a session that looks for tables in `schema`.
    pub fn url_in(&self, schema: &str) -> String {
        let separator = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{separator}options=-csearch_path%3D{schema}", self.url)
    }
}

/// The server, or the line to print instead of testing.
pub fn postgres() -> Result<&'static TestPostgres, &'static str> {
    static SERVER: OnceLock<Result<TestPostgres, String>> = OnceLock::new();
    let server = SERVER.get_or_init(|| match std::env::var(VARIABLE) {
        Ok(url) => Ok(TestPostgres { url }),
        Err(_) => start(),
    });
    server.as_ref().map_err(String::as_str)
}

fn start() -> Result<TestPostgres, String> {
    let skip = |why: String| {
        format!("skipped: no PostgreSQL (set {VARIABLE} or install the server): {why}")
    };
    let programs = programs().ok_or_else(|| skip("no /usr/lib/postgresql/*/bin".into()))?;
    let user = server_user().map_err(skip)?;
    let directory = std::env::temp_dir().join(format!("weir-test-postgres-{}", std::process::id()));
    let io = |error: std::io::Error| skip(error.to_string());
    if directory.exists() {
        std::fs::remove_dir_all(&directory).map_err(io)?;
    }
    std::fs::create_dir(&directory).map_err(io)?;
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700)).map_err(io)?;
    if let Some((uid, gid)) = user {
        chown(&directory, Some(uid), Some(gid)).map_err(io)?;
    }
    let started = initialise(&programs, user, &directory).and_then(|()| {
        // A free port may be taken by somebody else before the server has it.
        (0..5).find_map(|_| serve(&programs, user, &directory)).ok_or("it does not start".into())
    });
    match started {
        Ok(url) => Ok(TestPostgres { url }),
        Err(why) => {
            std::fs::remove_dir_all(&directory).ok();
            Err(skip(why))
        }
    }
}

/// The folder of the newest installed server's programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut folders: Vec<(u32, PathBuf)> = versions
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().parse().unwrap_or(0), entry.path()))
        .map(|(version, path)| (version, path.join("bin")))
        .filter(|(_, path)| path.join("postgres").exists() && path.join("initdb").exists())
        .collect();
    folders.sort();
    folders.pop().map(|(_, path)| path)
}

/// The user and group to run as: PostgreSQL refuses root, anybody else runs as oneself.
fn server_user() -> Result<Option<(u32, u32)>, String> {
    let myself = std::fs::metadata("/proc/self").map_err(|error| error.to_string())?.uid();
    if myself != 0 {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let found = ids("postgres").or_else(|| ids("nobody"));
    found.map(Some).ok_or_else(|| "root has no user postgres or nobody to run it as".into())
}

fn command(program: &Path, user: Option<(u32, u32)>, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).stdin(Stdio::null()).env("LC_ALL", "C");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

fn initialise(programs: &Path, user: Option<(u32, u32)>, directory: &Path) -> Result<(), String> {
    let output = command(&programs.join("initdb"), user, directory)
        .args(["--no-sync", "--auth=trust", "--username=weir", "--encoding=UTF8", "-D"])
        .arg(directory.join("data"))
        .output()
        .map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// Starts the server on a free port; the URL once it is ready.
fn serve(programs: &Path, user: Option<(u32, u32)>, directory: &Path) -> Option<String> {
    let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
    let mut server = command(&programs.join("postgres"), user, directory)
        .arg("-D")
        .arg(directory.join("data"))
        .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""])
        .args(["-c", "fsync=off", "-c", "max_connections=200", "-c", "shared_buffers=32MB"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let mut log = BufReader::new(server.stderr.take()?);
    let mut line = String::new();
    loop {
        line.clear();
        if log.read_line(&mut line).ok()? == 0 {
            server.wait().ok()?;
            return None;
        }
        if line.contains("ready to accept connections") {
            break;
        }
    }
    watch(&server, directory)?;
    // Nobody reads what it logs from now on, but somebody must take it.
    let drain = move || drop(std::io::copy(&mut log, &mut std::io::sink()));
    std::thread::Builder::new().name("postgres log".into()).spawn(drain).ok()?;
    Some(format!("postgres://weir@127.0.0.1:{port}/postgres"))
}

/// Starts the watchdog; it reads until this process, and with it the pipe, is gone.
fn watch(server: &Child, directory: &Path) -> Option<()> {
    let script = "cat >/dev/null; kill -INT \"$0\"; \
                  while kill -0 \"$0\" 2>/dev/null && [ -e \"$1/data/postmaster.pid\" ]; \
                  do sleep 0.05; done; rm -rf \"$1\"";
    let watchdog = Command::new("sh")
        .args(["-c", script, &server.id().to_string()])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C must reach the tests only, so that the watchdog outlives them.
        .process_group(0)
        .spawn()
        .ok()?;
    // The pipe stays open for as long as this process lives.
    std::mem::forget(watchdog.stdin);
    Some(())
}
