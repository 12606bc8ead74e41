//! Shows the frames of a subscription as they come.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::connection::{Answer, Column, SqlError};
use super::table::{self, Format};

/// What a frame meant for the subscription.
#[derive(Debug)]
pub(super) enum Seen {
    /// It goes on.
    More,
    /// The server ended it.
    Failed(SqlError),
}

/// The rows of a frame, with values as the server wrote them.
#[derive(Debug, Default, Deserialize)]
struct Rows {
    #[serde(default)]
    rows: Vec<BTreeMap<String, Box<RawValue>>>,
}

/// Shows frames; remembers the columns and how wide they were so far.
#[derive(Debug, Default)]
pub(super) struct Changes {
    columns: Vec<Column>,
    widths: Vec<usize>,
    append_only: bool,
    /// Changes shown.
    pub(super) count: u64,
}

impl Changes {
    /// Shows one line of the subscription.
    pub(super) fn show(
        &mut self,
        out: &mut dyn Write,
        line: &str,
        format: Format,
    ) -> io::Result<Seen> {
        let Ok(frame) = serde_json::from_str::<Value>(line) else { return Ok(Seen::More) };
        let kind = frame["type"].as_str().unwrap_or_default();
        if kind == "error" {
            return Ok(Seen::Failed(serde_json::from_value(frame).unwrap_or_default()));
        }
        if format == Format::Json {
            out.write_all(line.as_bytes())?;
            self.count += frame["rows"].as_array().map_or(0, |rows| rows.len() as u64);
            return out.flush().map(|()| Seen::More);
        }
        match kind {
            "result" => {
                if let Ok(answer) = serde_json::from_str::<Answer>(line) {
                    table::write(out, &answer, format, false)?;
                }
            }
            "hello" => self.hello(out, &frame, format)?,
            "snapshot" | "data" => self.rows(out, &frame, line, format)?,
            "gap" => writeln!(
                out,
                "-- changes {} to {} are missing: {}",
                frame["from"],
                frame["to"],
                frame["reason"].as_str().unwrap_or_default()
            )?,
            _ => {}
        }
        out.flush().map(|()| Seen::More)
    }

    fn hello(&mut self, out: &mut dyn Write, frame: &Value, format: Format) -> io::Result<()> {
        self.columns = serde_json::from_value(frame["columns"].clone()).unwrap_or_default();
        self.append_only = frame["append_only"].as_bool().unwrap_or(false);
        let names: Vec<String> =
            self.columns.iter().map(|column| table::visible(&column.name)).collect();
        self.widths = names.iter().map(|name| name.chars().count().max(8)).collect();
        if format == Format::Csv {
            return writeln!(out, "op,{}", names.join(","));
        }
        self.line(out, " ", &names)?;
        let rule: Vec<String> = self.widths.iter().map(|width| "-".repeat(width + 2)).collect();
        writeln!(out, "---+{}", rule.join("+"))
    }

    fn rows(
        &mut self,
        out: &mut dyn Write,
        frame: &Value,
        line: &str,
        format: Format,
    ) -> io::Result<()> {
        let rows: Rows = serde_json::from_str(line).unwrap_or_default();
        let ops = frame["ops"].as_str().unwrap_or_default().as_bytes();
        let columns = self.columns.clone();
        for (number, row) in rows.rows.iter().enumerate() {
            let op = if ops.get(number) == Some(&b'-') { "-" } else { "+" };
            let values: Vec<String> = columns
                .iter()
                .map(|column| match row.get(&column.name) {
                    Some(value) => table::display(value, column),
                    None => String::new(),
                })
                .collect();
            if format == Format::Csv {
                let quoted = values.iter().map(|value| {
                    let plain = !value.contains([',', '"', '\n', '\r']);
                    if plain {
                        value.clone()
                    } else {
                        format!("\"{}\"", value.replace('"', "\"\""))
                    }
                });
                writeln!(out, "{op},{}", quoted.collect::<Vec<_>>().join(","))?;
            } else {
                self.line(out, op, &values)?;
            }
            self.count += 1;
        }
        Ok(())
    }

    /// One aligned line; a column grows with its longest value so far.
    fn line(&mut self, out: &mut dyn Write, op: &str, values: &[String]) -> io::Result<()> {
        write!(out, " {op} ")?;
        for ((value, width), column) in values.iter().zip(&mut self.widths).zip(&self.columns) {
            *width = (*width).max(value.chars().count());
            if table::is_number(column) {
                write!(out, "| {value:>width$} ")?;
            } else {
                write!(out, "| {value:<width$} ")?;
            }
        }
        writeln!(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_lines_with_their_sign() {
        let mut changes = Changes::default();
        let mut out = Vec::new();
        for line in [
            r#"{"type":"hello","query":"hits","columns":[{"name":"url","type":"TEXT"},{"name":"n","type":"BIGINT"}],"append_only":false,"offset":0}"#,
            r#"{"type":"snapshot","rows":[{"url":"/a","n":1}],"offset":1}"#,
            r#"{"type":"data","offset":1,"rows":[{"url":"/a","n":1},{"url":"/a","n":2}],"ops":"-+"}"#,
            r#"{"type":"progress","watermark":null,"offset":3}"#,
            r#"{"type":"gap","from":3,"to":5,"reason":"retention"}"#,
        ] {
            let seen = changes.show(&mut out, line, Format::Table).unwrap();
            assert!(matches!(seen, Seen::More));
        }
        let failed = r#"{"type":"error","code":"57P01","message":"the server is shutting down"}"#;
        let seen = changes.show(&mut out, failed, Format::Table).unwrap();
        assert!(matches!(seen, Seen::Failed(error) if error.code == "57P01"));
        assert_eq!(changes.count, 3);
        expect_test::expect![[r#"
               | url      |        n 
            ---+----------+----------
             + | /a       |        1 
             - | /a       |        1 
             + | /a       |        2 
            -- changes 3 to 5 are missing: retention
        "#]]
        .assert_eq(&String::from_utf8(out).unwrap());
    }
}
