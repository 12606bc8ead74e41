//! Answers `GET /metrics` in Prometheus' text form, from the system relations and own counters.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use super::catalog::{self, Row};
use super::error_response::bytes_response;
use super::listen::App;

/// `GET /metrics`.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut text = String::new();
    own(&app, &mut text);
    for (kind, sql) in [
        ("stream", "SELECT * FROM weir.streams"),
        ("query", "SELECT * FROM weir.queries"),
        ("sink", "SELECT * FROM weir.sinks"),
    ] {
        match catalog::rows(&app, sql).await {
            Ok(rows) => relation(kind, &rows, &mut text),
            // The other figures are still worth having.
            Err(error) => tracing::debug!("no metrics of {kind}: {}", error.message()),
        }
    }
    bytes_response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into_bytes())
}

fn own(app: &App, out: &mut String) {
    line(out, format_args!("# TYPE weir_up gauge\nweir_up 1"));
    line(out, format_args!("# TYPE weir_http_answers_total counter"));
    for (class, count) in app.counters.answers.iter().enumerate().skip(1) {
        let count = count.load(Ordering::Relaxed);
        line(out, format_args!("weir_http_answers_total{{status=\"{class}xx\"}} {count}"));
    }
    for (name, counter) in [
        ("weir_tcp_connections", &app.counters.tcp_connections),
        ("weir_subscriptions", &app.counters.subscriptions),
    ] {
        let count = counter.load(Ordering::Relaxed);
        line(out, format_args!("# TYPE {name} gauge\n{name} {count}"));
    }
}

/// Each numeric column becomes a gauge `weir_<kind>_<column>`, each row a sample of it.
fn relation(kind: &str, rows: &[Row], out: &mut String) {
    let Some(first) = rows.first() else { return };
    for column in first.keys() {
        let samples: Vec<(String, String)> = rows
            .iter()
            .filter_map(|row| {
                let name = row.get("name").and_then(Value::as_str)?;
                Some((label(name), number(row.get(column)?)?))
            })
            .collect();
        if samples.is_empty() {
            continue;
        }
        let metric = format!("weir_{kind}_{}", metric_name(column));
        line(out, format_args!("# TYPE {metric} gauge"));
        for (name, value) in samples {
            line(out, format_args!("{metric}{{{kind}=\"{name}\"}} {value}"));
        }
    }
}

fn number(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(u8::from(*flag).to_string()),
        Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn metric_name(column: &str) -> String {
    column.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing into a String cannot fail");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numeric_columns_become_gauges_and_names_are_escaped() {
        let row = json!({"name": "a\"b\n", "rows in": 3, "state": "running", "late": true});
        let Value::Object(row) = row else { unreachable!() };
        let mut text = String::new();
        relation("query", &[row], &mut text);
        expect_test::expect![[r#"
            # TYPE weir_query_late gauge
            weir_query_late{query="a\"b\n"} 1
            # TYPE weir_query_rows_in gauge
            weir_query_rows_in{query="a\"b\n"} 3
        "#]]
        .assert_eq(&text);
    }
}
