//! Tests what CREATE SINK's options mean and which are refused.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use expect_test::{Expect, expect};

use super::*;
use crate::error::{Error, Report};
use crate::sql::statement::OptionValue;

fn schema() -> Schema {
    Schema::new(vec![
        Field::new("window_start", DataType::Int64, false),
        Field::new("Url", DataType::Utf8View, true),
        Field::new("n", DataType::Int64, true),
    ])
}

fn options(written: &[(&str, &str)]) -> Vec<OptionItem> {
    let item = |(name, value): &(&str, &str)| OptionItem {
        name: (*name).into(),
        value: OptionValue::Text((*value).into()),
    };
    written.iter().map(item).collect()
}

/// SQLITE with path and table, and what the test adds.
fn sqlite(
    more: &[(&str, &str)],
    unique: Option<&[usize]>,
    append_only: bool,
) -> Result<SinkOptions, OptionError> {
    let mut written = options(&[("path", "x.db"), ("table", "hits")]);
    written.extend(options(more));
    let unique: Vec<Vec<usize>> = unique.map(<[usize]>::to_vec).into_iter().collect();
    parse("SQLITE", &written, &schema(), &unique, append_only)
}

fn check(result: Result<SinkOptions, OptionError>, expected: Expect) {
    let text = match result {
        Ok(o) => {
            format!("{:?} {:?} {} key {:?} adopt {}", o.target, o.mode, o.table, o.key, o.adopt)
        }
        Err(error) => Error::from(error).to_string(),
    };
    expected.assert_eq(&text);
}

#[test]
fn the_mode_follows_the_query_and_the_key_follows_the_mode() {
    check(sqlite(&[], None, true), expect!["Sqlite(x.db) Append hits key [] adopt false"]);
    check(
        sqlite(&[], Some(&[0, 1]), false),
        expect!["Sqlite(x.db) Upsert hits key [0, 1] adopt false"],
    );
    check(
        sqlite(&[("key", "\"Url\", window_start")], Some(&[0, 1]), true),
        expect!["Sqlite(x.db) Upsert hits key [1, 0] adopt false"],
    );
    check(
        sqlite(&[("mode", "CHANGELOG"), ("adopt", "true")], None, false),
        expect!["Sqlite(x.db) Changelog hits key [] adopt true"],
    );
}

#[test]
fn a_query_of_one_row_is_identified_by_all_its_columns() {
    check(
        sqlite(&[], Some(&[]), false),
        expect!["Sqlite(x.db) Upsert hits key [0, 1, 2] adopt false"],
    );
}

#[test]
fn a_key_that_does_not_identify_rows_is_refused() {
    check(
        sqlite(&[("key", "n")], Some(&[0, 1]), false),
        expect![[r#"
            ERROR 22023: sink key "n" is not a unique key of the query
            DETAIL: The query's rows are identified by (window_start, Url).
            HINT: Leave out the option key, or name at least the columns of the query's key."#]],
    );
    check(
        sqlite(&[("mode", "upsert")], None, true),
        expect![[r#"
            ERROR 22023: sink mode "upsert" needs a unique key of the query
            DETAIL: The query may put out several equal rows, so no columns identify one of them.
            HINT: Use mode = 'changelog', or group the query by a key."#]],
    );
    check(
        sqlite(&[("key", "m")], Some(&[0]), false),
        expect![[r#"ERROR 42703: column "m" of the sink's key does not exist"#]],
    );
}

#[test]
fn append_needs_an_append_only_query() {
    check(
        sqlite(&[("mode", "append")], Some(&[0]), false),
        expect![[r#"
            ERROR WR003: sink mode "append" needs an append-only query
            DETAIL: The query retracts rows that it has put out before.
            HINT: Use mode = 'upsert' or mode = 'changelog', or EMIT ON CLOSE in the query."#]],
    );
}

#[test]
fn targets_that_are_not_there_are_refused() {
    let error = parse("kafka", &[], &schema(), &[], true).unwrap_err();
    assert_eq!(error, OptionError::Kind("KAFKA".into()));
    assert_eq!(error.code(), SqlState::NOT_SUPPORTED);
    assert_eq!(error.hint().unwrap(), "Use INTO POSTGRES, SQLITE, MYSQL, FILE or WEBHOOK.");
}

fn any(
    kind: &str,
    written: &[(&str, &str)],
    append_only: bool,
) -> Result<SinkOptions, OptionError> {
    parse(kind, &options(written), &schema(), &[vec![0]], append_only)
}

#[test]
fn files_and_webhooks_append_or_log_and_never_replace() {
    let path = ("path", "out");
    check(
        any("FILE", &[path], true),
        expect!["File(out Ndjson 1000000 67108864 60s) Append out key [] adopt false"],
    );
    let rolled = [
        path,
        ("format", "PARQUET"),
        ("roll_rows", "10"),
        ("roll_bytes", "1 kB"),
        ("roll_time", "2 s"),
    ];
    check(
        any("file", &rolled, false),
        expect!["File(out Parquet 10 1024 2s) Changelog out key [] adopt false"],
    );
    let url = ("url", "https://h/x");
    check(any("WEBHOOK", &[url], true), expect!["Webhook(… 500) Append  key [] adopt false"]);
    check(
        any("WEBHOOK", &[url, ("mode", "upsert")], true),
        expect![[r#"
            ERROR 0A000: sink mode "upsert" needs a table
            DETAIL: What is in a file or was sent cannot be replaced.
            HINT: Use mode = 'changelog': weir_op says what is inserted and what retracted."#]],
    );
    let refused = |kind: &str, written: &[(&str, &str)]| {
        let error = any(kind, written, true).unwrap_err();
        assert_eq!(error.code(), SqlState::INVALID_PARAMETER, "{written:?}");
        error.to_string()
    };
    for (name, value) in [
        ("format", "orc"),
        ("roll_rows", "0"),
        ("roll_bytes", "many"),
        ("roll_time", "-1 s"),
        ("mode", "x"),
    ] {
        assert_eq!(
            refused("FILE", &[path, (name, value)]),
            format!("sink option \"{name}\" has a bad value")
        );
    }
    assert_eq!(refused("FILE", &[path, ("key", "n")]), "unknown sink option \"key\"");
    assert_eq!(refused("FILE", &[]), "sink option \"path\" is missing");
    for bad in ["", "ftp://h/x", "h/x", "https://", "/x"] {
        assert_eq!(refused("WEBHOOK", &[("url", bad)]), "sink option \"url\" has a bad value");
    }
    let authorization = [url, ("authorization", "Bearer\r\nX: y")];
    assert_eq!(refused("WEBHOOK", &authorization), "sink option \"authorization\" has a bad value");
}

#[test]
fn parquet_refuses_what_it_cannot_hold() {
    let interval = DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano);
    let list = DataType::List(Arc::new(Field::new("item", interval.clone(), true)));
    let parsed = |data_type: DataType| {
        let schema = Schema::new(vec![Field::new("x", data_type, true)]);
        let written = options(&[("path", "out"), ("format", "parquet")]);
        parse("FILE", &written, &schema, &[], true)
    };
    assert!(parsed(interval).is_ok());
    assert_eq!(parsed(list).unwrap_err().code(), SqlState::NOT_SUPPORTED);
}

#[test]
fn mysql_has_a_url_and_its_own_lengths_of_names() {
    let given = |url: &str, table: &str| any("MYSQL", &[("url", url), ("table", table)], false);
    check(given("mysql://u:secret@h/d", "T"), expect!["Mysql(…) Upsert t key [0] adopt false"]);
    let error = given("mysql://u:secret@h", "t").unwrap_err();
    assert_eq!(error.code(), SqlState::INVALID_PARAMETER);
    assert!(!Error::from(error).to_string().contains("secret"));
    assert!(given("mysql://h/d", &"t".repeat(64)).is_ok());
    assert_eq!(
        given("mysql://h/d", &"t".repeat(65)).unwrap_err().code(),
        SqlState::INVALID_PARAMETER
    );
    let column = |name: &str| {
        let schema = Schema::new(vec![Field::new(name, DataType::Int64, true)]);
        let written = options(&[("url", "mysql://h/d"), ("table", "t")]);
        parse("MYSQL", &written, &schema, &[], true).map(|_| ()).map_err(|error| error.code())
    };
    assert_eq!(column("price in €"), Ok(()));
    assert_eq!(column("\u{1F4A7}"), Err(SqlState::NOT_SUPPORTED));
    assert_eq!(column("blank "), Err(SqlState::NOT_SUPPORTED));
}

#[test]
fn unknown_repeated_missing_and_mistyped_options_are_refused() {
    let code = |error: OptionError| (error.code(), error.to_string());
    let refused = |written: &[(&str, &str)]| {
        code(parse("postgres", &options(written), &schema(), &[], true).unwrap_err())
    };
    let url = ("url", "postgres://u:secret@h/d");
    let parameter = |message: &str| (SqlState::INVALID_PARAMETER, message.to_owned());
    assert_eq!(refused(&[url, ("path", "x")]), parameter("unknown sink option \"path\""));
    assert_eq!(refused(&[url, url]), parameter("sink option \"url\" is given more than once"));
    assert_eq!(refused(&[url]), parameter("sink option \"table\" is missing"));
    assert_eq!(refused(&[("table", "t")]), parameter("sink option \"url\" is missing"));
    let bad = [
        ("url", "http://x"),
        ("table", ""),
        ("table", "a.b.c"),
        ("table", "a\"b\".c"),
        ("table", "weir_progress"),
        ("table", "a\0"),
        ("mode", "merge"),
        ("adopt", "perhaps"),
        ("key", "a"),
    ];
    for (name, value) in bad {
        let mut written = vec![url, ("table", "t"), ("mode", "append")];
        written.retain(|(other, _)| *other != name);
        written.push((name, value));
        let expected = parameter(&format!("sink option \"{name}\" has a bad value"));
        match (name, value) {
            ("table", "a\"b\".c") => {
                assert!(parse("postgres", &options(&written), &schema(), &[], true).is_ok());
            }
            _ => assert_eq!(refused(&written), expected, "{value}"),
        }
    }
    let memory = options(&[("path", ":memory:"), ("table", "t")]);
    assert!(parse("sqlite", &memory, &schema(), &[], true).is_err());
    let number = [OptionItem { name: "path".into(), value: OptionValue::Number("1".into()) }];
    assert!(parse("sqlite", &number, &schema(), &[], true).is_err());
}

#[test]
fn a_password_is_not_shown() {
    let written = options(&[("url", "postgres://u:secret@h/d"), ("table", "t")]);
    let parsed = parse("POSTGRES", &written, &schema(), &[], true).unwrap();
    assert!(!format!("{parsed:?}").contains("secret"));
    let written = options(&[("url", "postgres://u:secret@h:port/d"), ("table", "t")]);
    let error = Error::from(parse("POSTGRES", &written, &schema(), &[], true).unwrap_err());
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn table_names_follow_the_lexical_rules() {
    let named = |name: &str| {
        let written = options(&[("url", "postgres://h/d"), ("table", name)]);
        parse("POSTGRES", &written, &schema(), &[], true).unwrap().table.sql()
    };
    assert_eq!(named("Hits"), "\"hits\"");
    assert_eq!(named("\"Hits\""), "\"Hits\"");
    assert_eq!(named("a.\"b.c\""), "\"a\".\"b.c\"");
    assert_eq!(named("x; DROP TABLE y"), "\"x; DROP TABLE y\"");
}

#[test]
fn columns_that_no_table_can_have_are_refused() {
    let refused = |fields: Vec<Field>, more: &[(&str, &str)]| {
        let mut written = options(&[("url", "postgres://h/d"), ("table", "t")]);
        written.extend(options(more));
        parse("POSTGRES", &written, &Schema::new(fields), &[], true).unwrap_err().code()
    };
    let field = |name: &str| Field::new(name, DataType::Int64, true);
    assert_eq!(refused(vec![field(&"x".repeat(64))], &[]), SqlState::PROGRAM_LIMIT);
    assert_eq!(refused(vec![field("")], &[]), SqlState::INVALID_PARAMETER);
    assert_eq!(refused(vec![], &[]), SqlState::INVALID_PARAMETER);
    let twice = vec![field("weir_op")];
    assert_eq!(refused(twice, &[("mode", "changelog")]), SqlState::DUPLICATE_COLUMN);
    let wide = vec![Field::new("d", DataType::Decimal256(50, 2), true)];
    assert_eq!(refused(wide, &[]), SqlState::NOT_SUPPORTED);
    let schema = Schema::new(vec![field("a"), field("A")]);
    let written = options(&[("path", "x"), ("table", "t")]);
    let error = parse("SQLITE", &written, &schema, &[], true).unwrap_err();
    assert_eq!(error.code(), SqlState::DUPLICATE_COLUMN);
}

#[test]
fn a_plan_carries_what_the_options_say() {
    let parsed = sqlite(&[], Some(&[0]), false).unwrap();
    let plan = parsed.plan("id7", "s", "q1", Arc::new(schema()));
    assert_eq!((plan.id.as_str(), plan.mode, plan.key), ("id7", SinkMode::Upsert, vec![0]));
}
