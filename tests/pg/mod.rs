//! Gives tests a PostgreSQL server: the one of `WEIR_TEST_POSTGRES`, or a private one.
//!
//! The private server is shared by all tests of the process, listens on 127.0.0.1 only and keeps its
//! files in a temporary directory. A watchdog (a shell that reads a pipe of ours) stops it by its own
//! process id and removes the directory when the test process ends, however it ends.
//!
//! Included by path from the unit tests of `src/sinks/` and by integration tests (`mod pg;`).

pub mod private;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use private::Ids;

/// The variable that names a server to use.
const VARIABLE: &str = "WEIR_TEST_POSTGRES";

/// A server for tests.
#[derive(Debug)]
pub struct TestPostgres {
    /// `postgres://user@host:port/database`, without parameters.
    pub url: String,
    /// The certificate of a server that can encrypt.
    #[allow(dead_code, reason = "of those who include this file only the sinks' tests encrypt")]
    pub certificate: Option<PathBuf>,
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
    server(&["fsync=off", "shared_buffers=32MB"])
}

#[allow(dead_code, reason = "of those who include this file only benches measure")]
/// A server as one would run it, for measurements: what is committed is on the disk.
pub fn measured() -> Result<&'static TestPostgres, &'static str> {
    server(&["shared_buffers=512MB", "max_wal_size=4GB"])
}

fn server(settings: &[&str]) -> Result<&'static TestPostgres, &'static str> {
    static SERVER: OnceLock<Result<TestPostgres, String>> = OnceLock::new();
    let server = SERVER.get_or_init(|| match std::env::var(VARIABLE) {
        Ok(url) => Ok(TestPostgres { url, certificate: None }),
        Err(_) => start(settings),
    });
    server.as_ref().map_err(String::as_str)
}

fn start(settings: &[&str]) -> Result<TestPostgres, String> {
    let skip = |why: String| {
        format!("skipped: no PostgreSQL (set {VARIABLE} or install the server): {why}")
    };
    let programs = programs().ok_or_else(|| skip("no /usr/lib/postgresql/*/bin".into()))?;
    let user = private::server_user("postgres").map_err(skip)?;
    let directory =
        private::directory("postgres", user).map_err(|error| skip(error.to_string()))?;
    let encryption = private::certificate(&directory, user);
    let started = initialise(&programs, user, &directory).and_then(|()| {
        // A free port may be taken by somebody else before the server has it.
        (0..5)
            .find_map(|_| serve(&programs, user, (&directory, settings, encryption.is_some())))
            .ok_or("it does not start".into())
    });
    let certificate = Some(directory.join("certificate.pem")).filter(|path| path.exists());
    match started {
        Ok(url) => Ok(TestPostgres { url, certificate }),
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

fn initialise(programs: &Path, user: Option<Ids>, directory: &Path) -> Result<(), String> {
    let output = private::command(&programs.join("initdb"), user, directory)
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
fn serve(
    programs: &Path,
    user: Option<Ids>,
    (directory, settings, encrypts): (&Path, &[&str], bool),
) -> Option<String> {
    let port = private::free_port()?;
    let encryption: &[&str] = match encrypts {
        true => &["ssl=on", "ssl_cert_file=../certificate.pem", "ssl_key_file=../key.pem"],
        false => &[],
    };
    let mut server = private::command(&programs.join("postgres"), user, directory)
        .arg("-D")
        .arg(directory.join("data"))
        .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""])
        .args(["-c", "max_connections=200"])
        .args(settings.iter().chain(encryption).flat_map(|setting| ["-c", setting]))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    private::await_line(&mut server, "ready to accept connections")?;
    private::watch(&server, "INT", directory)?;
    Some(format!("postgres://weir@127.0.0.1:{port}/postgres"))
}
