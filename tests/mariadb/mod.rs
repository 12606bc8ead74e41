//! Gives tests a MariaDB or MySQL server: the one of `WEIR_TEST_MYSQL`, or a private MariaDB.
//!
//! The private server is shared by all tests of the process, listens on 127.0.0.1 only and keeps its
//! files in a temporary directory; a watchdog ends it with the test process (see `tests/pg`, which must
//! be included beside it).

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::pg::private::{self, Ids};

/// The variable that names a server to use.
const VARIABLE: &str = "WEIR_TEST_MYSQL";
/// The user of the private server and its password, for `mysql_native_password`.
const USER: &str = "weir";
const PASSWORD: &str = "secret w@ter";

/// A server for tests.
#[derive(Debug)]
pub struct TestMariaDb {
    /// `mysql://user:password@host:port`, without a database.
    pub url: String,
    /// The certificate of a server that can encrypt.
    #[allow(dead_code, reason = "of those who include this file only the sinks' tests encrypt")]
    pub certificate: Option<PathBuf>,
}

impl TestMariaDb {
    /// A database name that no other test of this process uses.
    pub fn fresh_database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        format!("weir_test_{}_{count}", std::process::id())
    }
}

/// The server, or the line to print instead of testing.
pub fn mariadb() -> Result<&'static TestMariaDb, &'static str> {
    static SERVER: OnceLock<Result<TestMariaDb, String>> = OnceLock::new();
    let server = SERVER.get_or_init(|| match std::env::var(VARIABLE) {
        Ok(url) => Ok(TestMariaDb { url: url.trim_end_matches('/').into(), certificate: None }),
        Err(_) => start(),
    });
    server.as_ref().map_err(String::as_str)
}

fn start() -> Result<TestMariaDb, String> {
    let skip =
        |why: String| format!("skipped: no MariaDB (set {VARIABLE} or install the server): {why}");
    let find = |name: &str, folders: &[&str]| -> Result<PathBuf, String> {
        let paths = folders.iter().map(|folder| Path::new(folder).join(name));
        paths.into_iter().find(|path| path.exists()).ok_or_else(|| skip(format!("no {name}")))
    };
    let server = find("mariadbd", &["/usr/sbin", "/usr/libexec", "/usr/local/sbin"])?;
    let install = find("mariadb-install-db", &["/usr/bin", "/usr/local/bin"])?;
    let user = private::server_user("mysql").map_err(skip)?;
    let directory = private::directory("mariadb", user).map_err(|error| skip(error.to_string()))?;
    private::certificate(&directory, user);
    let started = initialise(&install, user, &directory).and_then(|()| {
        // A free port may be taken by somebody else before the server has it.
        (0..5).find_map(|_| serve(&server, user, &directory)).ok_or("it does not start".into())
    });
    let certificate = Some(directory.join("certificate.pem")).filter(|path| path.exists());
    match started {
        Ok(url) => Ok(TestMariaDb { url, certificate }),
        Err(why) => {
            std::fs::remove_dir_all(&directory).ok();
            Err(skip(why))
        }
    }
}

fn initialise(install: &Path, user: Option<Ids>, directory: &Path) -> Result<(), String> {
    let output = private::command(install, user, directory)
        .args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"])
        .arg(format!("--datadir={}", directory.join("data").display()))
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let statements = format!(
        "CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}';\n\
         GRANT ALL ON *.* TO {USER}@'%' WITH GRANT OPTION;\n"
    );
    std::fs::write(directory.join("init.sql"), statements).map_err(|error| error.to_string())
}

/// Starts the server on a free port; the URL once it is ready.
fn serve(program: &Path, user: Option<Ids>, directory: &Path) -> Option<String> {
    let port = private::free_port()?;
    let at = |name: &str| directory.join(name).display().to_string();
    let mut encryption = Vec::new();
    if directory.join("certificate.pem").exists() {
        encryption.push(format!("--ssl-cert={}", at("certificate.pem")));
        encryption.push(format!("--ssl-key={}", at("key.pem")));
    }
    let mut server = private::command(program, user, directory)
        .arg("--no-defaults")
        .args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--max-connections=200"])
        .args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M"])
        .args(encryption)
        .arg(format!("--port={port}"))
        .arg(format!("--datadir={}", at("data")))
        .arg(format!("--socket={}", at("socket")))
        .arg(format!("--pid-file={}", at("pid")))
        .arg(format!("--init-file={}", at("init.sql")))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    private::await_line(&mut server, "ready for connections")?;
    private::watch(&server, "TERM", directory)?;
    let password = PASSWORD.replace(' ', "%20").replace('@', "%40");
    Some(format!("mysql://{USER}:{password}@127.0.0.1:{port}"))
}
