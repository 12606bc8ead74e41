//! Shows answers as psql does: aligned, one column a line, as CSV or as JSON lines.

use std::io::{self, Write};

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, TableComponent, presets};
use serde_json::value::RawValue;

use super::connection::{Answer, Column, text_of};

/// How answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// CSV with a header.
    Csv,
    /// One JSON object a line.
    Json,
}

/// Writes one answer. Tags and footers are for people, so only the table has them.
pub(super) fn write(
    out: &mut dyn Write,
    answer: &Answer,
    format: Format,
    expanded: bool,
) -> io::Result<()> {
    match format {
        Format::Table if answer.columns.is_empty() => writeln!(out, "{}", answer.tag),
        Format::Table if expanded => write_expanded(out, answer),
        Format::Table => write_aligned(out, answer),
        Format::Csv if answer.columns.is_empty() => Ok(()),
        Format::Csv => write_csv(out, answer),
        Format::Json => write_json(out, answer),
    }
}

fn write_aligned(out: &mut dyn Write, answer: &Answer) -> io::Result<()> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
        .set_style(TableComponent::VerticalLines, '|')
        .set_style(TableComponent::HeaderLines, '-')
        .set_style(TableComponent::MiddleHeaderIntersections, '+');
    let header = answer
        .columns
        .iter()
        .map(|column| Cell::new(visible(&column.name)).set_alignment(CellAlignment::Center));
    table.set_header(header);
    for row in &answer.rows {
        table.add_row(answer.columns.iter().zip(row).map(|(column, value)| {
            let side = if is_number(column) { CellAlignment::Right } else { CellAlignment::Left };
            Cell::new(display(value, column)).set_alignment(side)
        }));
    }
    writeln!(out, "{table}")?;
    writeln!(out, "{}", footer(answer.rows.len()))
}

/// `(n rows)` and a blank line, as psql ends a table.
fn footer(rows: usize) -> String {
    format!("({rows} row{})\n", if rows == 1 { "" } else { "s" })
}

fn write_expanded(out: &mut dyn Write, answer: &Answer) -> io::Result<()> {
    if answer.rows.is_empty() {
        return writeln!(out, "{}", footer(0));
    }
    let names: Vec<String> = answer.columns.iter().map(|column| visible(&column.name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for (number, row) in answer.rows.iter().enumerate() {
        let title = format!("-[ RECORD {} ]", number + 1);
        writeln!(out, "{title:-<0$}", width + 20)?;
        for ((name, column), value) in names.iter().zip(&answer.columns).zip(row) {
            writeln!(out, "{name:<width$} | {}", display(value, column))?;
        }
    }
    writeln!(out)
}

fn write_csv(out: &mut dyn Write, answer: &Answer) -> io::Result<()> {
    let names = answer.columns.iter().map(|column| csv_field(&column.name, true));
    writeln!(out, "{}", names.collect::<Vec<_>>().join(","))?;
    for row in &answer.rows {
        let fields =
            answer.columns.iter().zip(row).map(|(column, value)| match text(value, column) {
                Some(text) => csv_field(&text, true),
                None if value.get() == "null" => String::new(),
                None => csv_field(value.get(), false),
            });
        writeln!(out, "{}", fields.collect::<Vec<_>>().join(","))?;
    }
    Ok(())
}

/// Quoted where needed; the empty text is quoted because an empty field is null.
fn csv_field(text: &str, quote_empty: bool) -> String {
    if (text.is_empty() && quote_empty) || text.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_string()
}

fn write_json(out: &mut dyn Write, answer: &Answer) -> io::Result<()> {
    for row in &answer.rows {
        let members = answer.columns.iter().zip(row).map(|(column, value)| {
            format!("{}:{}", serde_json::Value::from(column.name.as_str()), value.get())
        });
        writeln!(out, "{{{}}}", members.collect::<Vec<_>>().join(","))?;
    }
    Ok(())
}

/// Whether the column is shown on the right.
pub(super) fn is_number(column: &Column) -> bool {
    let name = column.type_name.to_ascii_uppercase();
    ["SMALLINT", "INT", "BIGINT", "REAL", "DOUBLE", "NUMERIC"]
        .iter()
        .any(|number| name == *number || name.starts_with(&format!("{number}(")))
        || (name.starts_with("UINT") && !name.ends_with("[]"))
}

/// The characters of a text; a JSON document that is one stays a document.
fn text(value: &RawValue, column: &Column) -> Option<String> {
    if column.type_name == "JSON" { None } else { text_of(value) }
}

/// A value for people: null is nothing, times are as psql shows them.
pub(super) fn display(value: &RawValue, column: &Column) -> String {
    if let Some(text) = text(value, column) {
        return match column.type_name.as_str() {
            "TIMESTAMP" => time(&text).unwrap_or_else(|| visible(&text)),
            "TIMESTAMPTZ" => time(&text).map_or_else(|| visible(&text), |time| time + "+00"),
            _ => visible(&text),
        };
    }
    match value.get() {
        "null" => String::new(),
        "true" if column.type_name == "BOOLEAN" => "t".to_string(),
        "false" if column.type_name == "BOOLEAN" => "f".to_string(),
        raw => visible(raw),
    }
}

/// `2026-01-01T00:00:00Z` is `2026-01-01 00:00:00`.
fn time(text: &str) -> Option<String> {
    let (date, rest) = text.strip_suffix('Z')?.split_once('T')?;
    Some(format!("{date} {rest}"))
}

/// Data must not steer the terminal: control characters are shown, line ends and tabs kept.
pub(super) fn visible(text: &str) -> String {
    let is_control = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(is_control) {
        return text.to_string();
    }
    let show = |c: char| if is_control(c) { c.escape_default().to_string() } else { c.into() };
    text.chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer() -> Answer {
        let answer = json!({
            "tag": "SELECT 3",
            "columns": [
                {"name": "url", "type": "TEXT"},
                {"name": "n", "type": "BIGINT"},
                {"name": "at", "type": "TIMESTAMP"}
            ],
            "rows": [
                ["/a", 1, "2026-01-01T00:00:00Z"],
                ["", 1234, null],
                ["say \"hi\", \u{1b}[31m", -5, "1969-12-31T23:59:59.5Z"]
            ]
        });
        serde_json::from_str(&answer.to_string()).unwrap()
    }

    fn check(format: Format, expanded: bool, expected: expect_test::Expect) {
        let mut out = Vec::new();
        write(&mut out, &answer(), format, expanded).unwrap();
        let lines = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = lines.lines().map(str::trim_end).collect();
        expected.assert_eq(&(lines.join("\n") + "\n"));
    }

    #[test]
    fn a_table_looks_as_in_psql() {
        check(
            Format::Table,
            false,
            expect_test::expect![[r#"
                      url         |   n  |           at
            ----------------------+------+-----------------------
             /a                   |    1 | 2026-01-01 00:00:00
                                  | 1234 |
             say "hi", \u{1b}[31m |   -5 | 1969-12-31 23:59:59.5
            (3 rows)

        "#]],
        );
    }

    #[test]
    fn expanded_rows_have_a_line_for_each_column() {
        check(
            Format::Table,
            true,
            expect_test::expect![[r#"
            -[ RECORD 1 ]----------
            url | /a
            n   | 1
            at  | 2026-01-01 00:00:00
            -[ RECORD 2 ]----------
            url |
            n   | 1234
            at  |
            -[ RECORD 3 ]----------
            url | say "hi", \u{1b}[31m
            n   | -5
            at  | 1969-12-31 23:59:59.5

        "#]],
        );
    }

    #[test]
    fn csv_tells_null_from_the_empty_text() {
        check(
            Format::Csv,
            false,
            expect_test::expect![[r#"
            url,n,at
            /a,1,2026-01-01T00:00:00Z
            "",1234,
            "say ""hi"", [31m",-5,1969-12-31T23:59:59.5Z
        "#]],
        );
    }

    #[test]
    fn json_keeps_the_order_of_columns() {
        check(
            Format::Json,
            false,
            expect_test::expect![[r#"
            {"url":"/a","n":1,"at":"2026-01-01T00:00:00Z"}
            {"url":"","n":1234,"at":null}
            {"url":"say \"hi\", \u001b[31m","n":-5,"at":"1969-12-31T23:59:59.5Z"}
        "#]],
        );
    }

    #[test]
    fn a_command_shows_its_tag_to_people_only() {
        let answer: Answer = serde_json::from_str(r#"{"tag": "CREATE STREAM"}"#).unwrap();
        let mut out = Vec::new();
        write(&mut out, &answer, Format::Csv, false).unwrap();
        assert_eq!(out, b"");
        write(&mut out, &answer, Format::Table, false).unwrap();
        assert_eq!(out, b"CREATE STREAM\n");
    }

    #[test]
    fn documents_are_shown_as_the_server_sent_them() {
        let answer: Answer = serde_json::from_str(
            r#"{"tag": "SELECT 1", "columns": [{"name": "j", "type": "JSON"}, {"name": "d", "type": "DOUBLE"}],
                "rows": [[{"b":1.00,"a":12345678901234567890123,"a":2},1e300],["x",0.1]]}"#,
        )
        .unwrap();
        let shown = |format| {
            let mut out = Vec::new();
            write(&mut out, &answer, format, false).unwrap();
            String::from_utf8(out).unwrap()
        };
        let document = r#"{"b":1.00,"a":12345678901234567890123,"a":2}"#;
        assert!(shown(Format::Table).contains(document));
        assert_eq!(
            shown(Format::Json),
            format!("{{\"j\":{document},\"d\":1e300}}\n{{\"j\":\"x\",\"d\":0.1}}\n")
        );
        assert!(shown(Format::Csv).contains("\n\"\"\"x\"\"\",0.1\n"));
    }
}
