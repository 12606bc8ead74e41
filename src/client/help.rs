//! Holds the texts of `\?` and `\h`.

/// What `\?` shows.
pub(super) const COMMANDS: &str = "\
\\?                        this list
\\h [STATEMENT]            how statements are written
\\d                        streams, tables, queries and sinks
\\d NAME, \\d+ NAME         columns; with + also the plan of a query
\\ds, \\dt, \\dq             streams, tables, queries
\\x [on|off]               one column a line
\\timing [on|off]          how long each statement took
\\watch [SECONDS]          run the last statement again and again; Ctrl-C stops
\\i FILE                   run the statements of a file
\\o [FILE]                 write answers to a file; without FILE to the screen again
\\e                        edit the last statement, then run it
\\pset format table|csv|json
\\feed STREAM FILE [speed=10x] [time=COLUMN]
                          send a file of NDJSON or CSV (also .gz), at the pace of its times
\\q                        leave
Statements end in a semicolon. Ctrl-C stops a running statement or subscription.
";

const STATEMENTS: &[(&str, &str)] = &[
    (
        "CREATE STREAM",
        "CREATE STREAM name (column TYPE [NOT NULL], …,\n    WATERMARK FOR at AS at - INTERVAL '5' SECOND) [WITH (option = value, …)]\n    [ON OVERLOAD BLOCK | DROP OLDEST | SHED RANDOM | SHED KEYS (column, …)];",
    ),
    ("CREATE TABLE", "CREATE TABLE name (column TYPE [PRIMARY KEY], …);"),
    (
        "CREATE CONTINUOUS QUERY",
        "CREATE [OR REPLACE] CONTINUOUS QUERY [IF NOT EXISTS] name [WITH (option = value, …)]\n    AS SELECT … [EMIT ON CLOSE | EMIT CHANGES | EMIT EVERY …] [ALLOWED LATENESS INTERVAL '…'];",
    ),
    (
        "CREATE SINK",
        "CREATE SINK name FROM query INTO POSTGRES | SQLITE | FILE WITH (option = value, …);",
    ),
    ("SELECT", "SELECT … FROM stream | table | query | TUMBLE(stream, at, INTERVAL '1 minute') …;"),
    ("SUBSCRIBE", "SUBSCRIBE query [FROM NOW | EARLIEST | OFFSET n] [WITH SNAPSHOT];"),
    (
        "INSERT",
        "INSERT INTO stream | table [(column, …)] VALUES (…), … [ON CONFLICT [(key, …)] DO NOTHING | DO UPDATE SET …];",
    ),
    ("UPDATE", "UPDATE table SET column = value [WHERE …];"),
    ("DELETE", "DELETE FROM table [WHERE …];"),
    ("PUNCTUATE", "PUNCTUATE stream WHERE column = value;"),
    ("EXPLAIN", "EXPLAIN [ANALYZE] query or name;"),
    ("SHOW", "SHOW STREAMS | TABLES | QUERIES | SINKS;"),
    ("DESCRIBE", "DESCRIBE name;"),
    (
        "ALTER",
        "ALTER STREAM | CONTINUOUS QUERY name SET (option = value, …);\nALTER STREAM | CONTINUOUS QUERY name RESET (option, …);",
    ),
    ("PAUSE", "PAUSE query;"),
    ("RESUME", "RESUME query;"),
    ("REBUILD", "REBUILD CONTINUOUS QUERY query;"),
    ("FLUSH", "FLUSH [SINK sink];"),
    ("DROP", "DROP STREAM | TABLE | CONTINUOUS QUERY | SINK [IF EXISTS] name [CASCADE];"),
];

/// What `\h` shows: the names of all statements, or the forms of those that begin with `name`.
pub(super) fn statement(name: &str) -> String {
    let wanted = name.trim().to_ascii_uppercase();
    if wanted.is_empty() {
        let names: Vec<&str> = STATEMENTS.iter().map(|(name, _)| *name).collect();
        return format!("{}\n", names.join("\n"));
    }
    let fits = STATEMENTS.iter().filter(|(name, _)| name.starts_with(&wanted));
    let forms: Vec<&str> = fits.map(|(_, form)| *form).collect();
    if forms.is_empty() {
        return format!("there is no statement \"{name}\"; \\h lists them\n");
    }
    format!("{}\n", forms.join("\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_finds_its_statements() {
        assert!(statement("create").contains("WATERMARK FOR"));
        assert_eq!(statement("flush"), "FLUSH [SINK sink];\n");
        assert!(statement("nothing").contains("no statement"));
        assert!(statement("").lines().count() > 10);
    }
}
