//! Drives `weir sql` against a real server: through a terminal, a pipe, `-c` and `-f`.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use expectrl::session::OsSession;
use expectrl::{Eof, Expect, Session};

use crate::real_server::{PATIENCE, RealServer, finish, weir};

const SETUP: &str = "CREATE STREAM clicks (url TEXT NOT NULL, n BIGINT, at TIMESTAMP,
      WATERMARK FOR at AS at - INTERVAL '5' SECOND);
    CREATE CONTINUOUS QUERY hits AS SELECT url, count(*) AS n FROM clicks GROUP BY url EMIT CHANGES;
    INSERT INTO clicks VALUES ('/a', 1, TIMESTAMP '2026-01-01 00:00:10'),
      ('/b', 2, TIMESTAMP '2026-01-01 00:00:20');
    FLUSH;";

/// A shell that a person could sit at.
struct Terminal(OsSession);

impl Terminal {
    fn open(server: &RealServer, directory: &Path) -> Terminal {
        let mut command = weir();
        command
            .args(["sql", "--port", &server.http.to_string()])
            .env("WEIR_HISTORY", directory.join("history"))
            .env("TERM", "xterm");
        let mut session = Session::spawn(command).unwrap();
        session.set_expect_timeout(Some(PATIENCE));
        let mut terminal = Terminal(session);
        terminal.sees("weir=> ");
        terminal
    }

    fn types(&mut self, line: &str) {
        self.0.send_line(line).unwrap();
    }

    fn sees(&mut self, text: &str) {
        if let Err(error) = self.0.expect(text) {
            panic!("{text:?} does not come: {error}");
        }
    }

    /// Types a line and sees texts in this order, then the prompt.
    fn tries(&mut self, line: &str, texts: &[&str]) {
        self.types(line);
        for text in texts {
            self.sees(text);
        }
        self.sees("weir=> ");
    }
}

#[test]
fn statements_span_lines_and_answers_look_as_in_psql() {
    let directory = tempfile::tempdir().unwrap();
    let server = RealServer::start(directory.path());
    let mut shell = Terminal::open(&server, directory.path());
    shell.types("CREATE STREAM clicks (url TEXT NOT NULL, n BIGINT, at TIMESTAMP,");
    shell.sees("weir-> ");
    shell.tries("  WATERMARK FOR at AS at - INTERVAL '5' SECOND);", &["CREATE STREAM\r\n"]);
    shell.tries(
        "INSERT INTO clicks VALUES ('/a', 7, TIMESTAMP '2026-01-01'), ('/b', 8, TIMESTAMP '2026-01-01');",
        &["INSERT 0 2\r\n"],
    );
    shell.tries(
        "SELECT url, n FROM clicks ORDER BY n;",
        &[" url | n \r\n", "-----+---\r\n", " /a  | 7 \r\n", " /b  | 8 \r\n", "(2 rows)\r\n"],
    );
    shell.tries(
        "SELECT nope FROM clicks;",
        &["ERROR 42703: column \"nope\" does not exist\r\n", "HINT: "],
    );
    shell.tries("SELECT url FROM clicks WHERE n = 7;", &["(1 row)\r\n"]);
    shell.types("\\q");
    shell.0.expect(Eof).unwrap();
    let history = std::fs::read_to_string(directory.path().join("history")).unwrap();
    assert!(history.contains("WATERMARK FOR"), "{history}");
}

#[test]
fn backslash_commands_list_describe_and_change_what_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let server = RealServer::start(directory.path());
    server.sql(SETUP);
    let mut shell = Terminal::open(&server, directory.path());
    shell.tries("\\d", &["Streams\r\n", "clicks", "Queries\r\n", "hits"]);
    shell.tries("\\d clicks", &["\"clicks\"\r\n", "TIMESTAMP", "(3 rows)\r\n"]);
    shell.tries("\\d+ hits", &["\"hits\"\r\n", "Plan\r\n", "Source: stream clicks"]);
    shell.tries("\\dq", &["hits", "(1 row)\r\n"]);
    shell.tries("\\x", &["Expanded display is on.\r\n"]);
    let row = "SELECT url, n FROM clicks WHERE n = 2;";
    shell.tries(row, &["-[ RECORD 1 ]-", "url | /b\r\n", "n   | 2\r\n"]);
    shell.tries("\\x off", &["Expanded display is off.\r\n"]);
    shell.tries("\\timing", &["Timing is on.\r\n"]);
    shell.tries(row, &["(1 row)\r\n", "Time: ", " ms\r\n"]);
    shell.tries("\\timing off", &["Timing is off.\r\n"]);
    shell.tries("\\pset format csv", &[]);
    shell.tries(row, &["url,n\r\n", "/b,2\r\n"]);
    shell.tries("\\pset format json", &[]);
    shell.tries(row, &["{\"url\":\"/b\",\"n\":2}\r\n"]);
    shell.tries("\\nothing", &["\\nothing is not a command; \\? lists them\r\n"]);
    shell.tries("\\?", &["\\feed STREAM FILE", "leave\r\n"]);
    shell.types("\\q");
    shell.0.expect(Eof).unwrap();
}

#[test]
fn ctrl_c_ends_a_subscription_and_a_half_written_statement_but_not_the_shell() {
    let directory = tempfile::tempdir().unwrap();
    let server = RealServer::start(directory.path());
    server.sql(SETUP);
    let mut shell = Terminal::open(&server, directory.path());
    shell.types("SUBSCRIBE hits FROM EARLIEST;");
    shell.sees(" + | /b ");
    server.sql("INSERT INTO clicks VALUES ('/b', 3, TIMESTAMP '2026-01-01 00:00:30'); FLUSH;");
    shell.sees(" - | /b ");
    shell.sees(" + | /b ");
    shell.0.send("\u{3}").unwrap();
    shell.sees("(4 changes)\r\n");
    shell.sees("weir=> ");
    shell.types("SELECT");
    shell.sees("weir-> ");
    shell.0.send("\u{3}").unwrap();
    shell.sees("weir=> ");
    shell.tries("SELECT 41 + 1 AS answer;", &["     42 \r\n", "(1 row)\r\n"]);
    shell.types("\\watch 0.01");
    shell.sees("(1 row)\r\n");
    shell.sees("(1 row)\r\n");
    shell.0.send("\u{3}").unwrap();
    shell.sees("weir=> ");
    // Ctrl-D on an empty line leaves, too.
    shell.0.send("\u{4}").unwrap();
    shell.0.expect(Eof).unwrap();
}

#[test]
fn what_is_typed_ahead_is_read_line_by_line() {
    let directory = tempfile::tempdir().unwrap();
    let server = RealServer::start(directory.path());
    let mut shell = Terminal::open(&server, directory.path());
    shell.types("\nSELECT 1 AS one;\nSELECT\n2 AS two;\nSELECT 3 AS three;");
    shell.sees(" one \r\n");
    shell.sees(" two \r\n");
    shell.tries("SELECT 4 AS four;", &[" three \r\n", " four \r\n", "(1 row)\r\n"]);
}

/// Runs `weir sql` without a terminal: exit code, standard output, standard error.
fn run(port: u16, arguments: &[&str], input: &str) -> (i32, String, String) {
    let output: Output =
        finish(weir().args(["sql", "--port", &port.to_string()]).args(arguments), input);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn scripts_run_up_to_the_first_error_and_exit_codes_say_how_it_went() {
    let directory = tempfile::tempdir().unwrap();
    let server = RealServer::start(directory.path());
    server.sql(SETUP);
    let port = server.http;
    let one = " a \n---\n 1 \n(1 row)\n\n";
    assert_eq!(run(port, &["-c", "SELECT 1 AS a"], ""), (0, one.into(), String::new()));
    assert_eq!(run(port, &[], "SELECT 1\nAS a;\n"), (0, one.into(), String::new()));

    let file = directory.path().join("statements.sql");
    std::fs::write(&file, "\\pset format csv\nSELECT 1 AS a;\nSELECT nope;\nSELECT 2;\n").unwrap();
    let (code, out, err) = run(port, &["-f", file.to_str().unwrap()], "");
    assert_eq!((code, out.as_str()), (1, "a\n1\n"));
    assert!(err.starts_with("ERROR 42703: column \"nope\" does not exist\n"), "{err}");
    let (code, _, err) = run(port, &["-c", "SELECT 1\nFROM clicks WHERE )"], "");
    assert_eq!(code, 1);
    assert!(err.starts_with("ERROR 42601: ") && err.contains("\nLINE 2: FROM"), "{err}");

    // Nothing listens at the port of another protocol's number 1.
    let (code, _, err) = run(1, &["-c", "SELECT 1"], "");
    assert_eq!(code, 2);
    assert!(err.starts_with("could not reach the server at http://127.0.0.1:1: "), "{err}");
    assert_eq!(run(port, &["--nothing"], "").0, 3);
    assert_eq!(
        run(port, &["-c", "\\q", "-c", "SELECT nope"], ""),
        (0, String::new(), String::new())
    );
}

#[test]
fn the_rows_behind_a_copy_go_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let server = RealServer::start(directory.path());
    server.sql("CREATE TABLE t (a BIGINT, b TEXT)");
    let copy = "COPY t FROM STDIN\n  (FORMAT csv);\n1,\"x;\n\"\n2,it's\n\\.\nSELECT count(*) AS n FROM t;\n";
    let (code, out, err) = run(server.http, &[], copy);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(out, "COPY 2\n n \n---\n 2 \n(1 row)\n\n");
    let file = directory.path().join("rows.sql");
    std::fs::write(&file, "COPY t FROM STDIN (FORMAT json);\n{\"a\": 3}\n{\"a\": 4}\n").unwrap();
    let (code, out, _) = run(server.http, &["-f", file.to_str().unwrap()], "");
    assert_eq!((code, out.as_str()), (0, "COPY 2\n"));
    let copy = "COPY t FROM STDIN (FORMAT csv)";
    let (code, out, _) = run(server.http, &["-c", copy], "5,five\n");
    assert_eq!((code, out.as_str()), (0, "COPY 1\n"));
    let stored = server.sql("SELECT a, b FROM t ORDER BY a");
    let rows = serde_json::json!([[1, "x;\n"], [2, "it's"], [3, null], [4, null], [5, "five"]]);
    assert_eq!(stored["results"][0]["rows"], rows);
}

#[test]
fn feed_sends_a_file_and_names_the_lines_that_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = RealServer::start(directory.path());
    server.sql(SETUP);
    let rows = directory.path().join("rows.ndjson");
    std::fs::write(
        &rows,
        "{\"url\":\"/c\",\"n\":3,\"at\":\"2026-01-01T00:00:30Z\"}\n\
         {\"url\":null,\"n\":4,\"at\":\"2026-01-01T00:00:31Z\"}\n\
         {\"url\":\"/c\",\"n\":5,\"at\":\"2026-01-01T00:00:32Z\"}\n",
    )
    .unwrap();
    let refused = "line 2: null value in column \"url\" violates not-null constraint\n";
    for options in ["", " speed=100x", " speed=100x time=at"] {
        let feed = format!("\\feed clicks '{}'{options}", rows.display());
        let expected = (0, "FEED 2 (1 rejected)\n".to_string(), refused.to_string());
        assert_eq!(run(server.http, &["-c", &feed], ""), expected, "{options}");
    }
    let csv = directory.path().join("rows.csv");
    std::fs::write(&csv, "url,n,at\n/d,6,2026-01-01 00:00:40\n/d,x,2026-01-01 00:00:41\n").unwrap();
    let feed = format!("\\feed clicks {} speed=100x", csv.display());
    let (code, out, err) = run(server.http, &["-c", &feed], "");
    assert_eq!((code, out.as_str()), (0, "FEED 1 (1 rejected)\n"));
    assert!(err.starts_with("line 3: invalid input syntax for type bigint: \"x\""), "{err}");
    let counted = server.sql("FLUSH; SELECT url, n FROM hits WHERE url >= '/c' ORDER BY url");
    assert_eq!(counted["results"][1]["rows"], serde_json::json!([["/c", 6], ["/d", 1]]));

    let (code, _, err) = run(server.http, &["-c", "\\feed clicks nothing.csv"], "");
    assert_eq!(code, 1);
    assert!(err.starts_with("could not open \"nothing.csv\": "), "{err}");
    let feed = format!("\\feed nothing {}", rows.display());
    let (code, out, err) = run(server.http, &["-c", &feed], "");
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.starts_with("ERROR 42P01: stream \"nothing\" does not exist\n"), "{err}");
}

#[test]
fn a_server_that_goes_away_ends_a_script_with_the_code_of_a_lost_connection() {
    let directory = tempfile::tempdir().unwrap();
    let server = RealServer::start(directory.path());
    let port = server.http;
    assert!(server.terminate(Duration::from_secs(5)).success());
    assert_eq!(run(port, &["-c", "SELECT 1"], "").0, 2);
}
