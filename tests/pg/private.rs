//! What private servers for tests have in common: a user, a directory, and somebody who ends them.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A user and a group by number.
pub type Ids = (u32, u32);

/// The user and group to run as: database servers refuse root, anybody else runs as oneself.
pub fn server_user(preferred: &str) -> Result<Option<Ids>, String> {
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
    let found = ids(preferred).or_else(|| ids("nobody"));
    found.map(Some).ok_or_else(|| format!("root has no user {preferred} or nobody to run it as"))
}

/// A new directory of this process, owned by the user.
pub fn directory(name: &str, user: Option<Ids>) -> std::io::Result<PathBuf> {
    let directory = std::env::temp_dir().join(format!("weir-test-{name}-{}", std::process::id()));
    if directory.exists() {
        std::fs::remove_dir_all(&directory)?;
    }
    std::fs::create_dir(&directory)?;
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700))?;
    if let Some((uid, gid)) = user {
        chown(&directory, Some(uid), Some(gid))?;
    }
    Ok(directory)
}

/// A program run as the user, in the directory.
pub fn command(program: &Path, user: Option<Ids>, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).stdin(Stdio::null()).env("LC_ALL", "C");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// A port that nobody listens on, for the moment.
pub fn free_port() -> Option<u16> {
    Some(TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port())
}

/// Reads what a server logs until a line holds the text; `None` where it ends before. From then on its log is
/// taken and thrown away.
pub fn await_line(server: &mut Child, text: &str) -> Option<()> {
    let mut log = BufReader::new(server.stderr.take()?);
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        if log.read_line(&mut line).ok()? == 0 {
            server.wait().ok()?;
            return None;
        }
    }
    // Nobody reads what it logs from now on, but somebody must take it.
    let drain = move || drop(std::io::copy(&mut log, &mut std::io::sink()));
    std::thread::Builder::new().name("log of a server".into()).spawn(drain).ok()?;
    Some(())
}

/// Starts a watchdog: a shell that reads until this process, and with it the pipe, is gone; then it ends
/// the server with the signal and removes the directory.
pub fn watch(server: &Child, signal: &str, directory: &Path) -> Option<()> {
    let script = "cat >/dev/null; kill -\"$1\" \"$0\"; \
                  for i in $(seq 200); do kill -0 \"$0\" 2>/dev/null || break; \
                  [ \"$(cut -d' ' -f3 /proc/$0/stat 2>/dev/null)\" = Z ] && break; sleep 0.05; done; \
                  rm -rf \"$2\"";
    let watchdog = Command::new("sh")
        .args(["-c", script, &server.id().to_string(), signal])
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

/// A certificate for 127.0.0.1 that is its own authority, and its key, both in PEM; `None` where there is
/// no `openssl` to make them.
pub fn certificate(directory: &Path, user: Option<Ids>) -> Option<(PathBuf, PathBuf)> {
    let settings = "[req]\ndistinguished_name = name\nx509_extensions = extensions\nprompt = no\n\
                    [name]\nCN = weir test\n[extensions]\nbasicConstraints = critical,CA:FALSE\n\
                    subjectAltName = DNS:localhost,IP:127.0.0.1\n";
    std::fs::write(directory.join("openssl.cnf"), settings).ok()?;
    let made = command(Path::new("openssl"), user, directory)
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "30", "-config", "openssl.cnf"])
        .args(["-keyout", "key.pem", "-out", "certificate.pem"])
        .output();
    made.ok().filter(|output| output.status.success())?;
    Some((directory.join("certificate.pem"), directory.join("key.pem")))
}
