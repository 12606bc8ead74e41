//! Answers what exists: streams, queries, tables and sinks as JSON, and a plain page that lists them.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::error_response::{HttpResult, bytes_response, json_response};
use super::extract::Name;
use super::listen::App;
use crate::encode::json::write_ndjson;
use crate::error::{Error, Result, SqlState};

/// A row of an answer by column names.
pub(crate) type Row = Map<String, Value>;

/// The rows of the last result of `sql`.
pub(crate) async fn rows(app: &App, sql: &str) -> Result<Vec<Row>> {
    let outcome = app.service.execute(sql).await;
    if let Some(error) = outcome.error {
        return Err(error);
    }
    let mut lines = Vec::new();
    for batch in outcome.results.last().map_or([].as_slice(), |result| &result.batches) {
        write_ndjson(batch, &mut lines);
    }
    let parse = serde_json::Deserializer::from_slice(&lines).into_iter::<Row>();
    parse.collect::<std::result::Result<_, _>>().map_err(|error| {
        Error::new(SqlState::INTERNAL, "the catalog could not be written as JSON")
            .with_detail(error.to_string())
    })
}

async fn list(app: &App, sql: &str) -> HttpResult {
    let rows = rows(app, sql).await?.into_iter().map(Value::Object).collect();
    Ok(json_response(StatusCode::OK, &Value::Array(rows)))
}

/// `GET /v1/streams`.
pub(crate) async fn streams(State(app): State<Arc<App>>) -> HttpResult {
    list(&app, "SELECT * FROM weir.streams").await
}

/// `GET /v1/queries`.
pub(crate) async fn queries(State(app): State<Arc<App>>) -> HttpResult {
    list(&app, "SELECT * FROM weir.queries").await
}

/// `GET /v1/sinks`.
pub(crate) async fn sinks(State(app): State<Arc<App>>) -> HttpResult {
    list(&app, "SELECT * FROM weir.sinks").await
}

/// `GET /v1/tables`.
pub(crate) async fn tables(State(app): State<Arc<App>>) -> HttpResult {
    list(&app, "SELECT * FROM weir.tables").await
}

/// `GET /v1/streams/{stream}`.
pub(crate) async fn stream(State(app): State<Arc<App>>, Name(name): Name) -> HttpResult {
    one(&app, "weir.streams", "stream", &name).await
}

/// `GET /v1/tables/{table}`.
pub(crate) async fn table_of(State(app): State<Arc<App>>, Name(name): Name) -> HttpResult {
    one(&app, "weir.tables", "table", &name).await
}

/// `GET /v1/sinks/{sink}`.
pub(crate) async fn sink(State(app): State<Arc<App>>, Name(name): Name) -> HttpResult {
    one(&app, "weir.sinks", "sink", &name).await
}

/// `GET /v1/queries/{query}`.
pub(crate) async fn query(State(app): State<Arc<App>>, Name(name): Name) -> HttpResult {
    one(&app, "weir.queries", "query", &name).await
}

/// The row of one object; of one with columns, with what DESCRIBE says in `columns`.
async fn one(app: &App, relation: &str, kind: &str, name: &str) -> HttpResult {
    let sql = format!("SELECT * FROM {relation} WHERE name = {}", literal(name));
    let Some(mut row) = rows(app, &sql).await?.into_iter().next() else {
        let message = format!("{kind} \"{name}\" does not exist");
        return Err(Error::new(SqlState::UNDEFINED_RELATION, message).into());
    };
    if kind != "sink" {
        let columns = rows(app, &format!("DESCRIBE {}", identifier(name))).await?;
        row.insert("columns".into(), columns.into_iter().map(Value::Object).collect());
    }
    Ok(json_response(StatusCode::OK, &Value::Object(row)))
}

/// A text as a literal of SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as a quoted identifier of SQL.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `GET /`: what listens where, and what exists.
pub(crate) async fn page(State(app): State<Arc<App>>) -> HttpResult {
    let mut html = String::from(
        "<!doctype html><meta charset=utf-8><title>Weir</title>\
         <style>body{font:16px/1.5 sans-serif;margin:2em}td,th{padding:0 1em 0 0;text-align:left}\
         </style><h1>Weir</h1><ul>",
    );
    push(
        &mut html,
        format_args!("<li>HTTP: http://{}</li><li>TCP ingest: {}</li>", app.http, app.tcp),
    );
    html.push_str(
        "<li><a href=/v1/streams>streams</a>, <a href=/v1/queries>queries</a>, \
         <a href=/v1/sinks>sinks</a>, <a href=/metrics>metrics</a>, \
         <a href=/openapi.json>the calls</a></li></ul>",
    );
    for (title, sql) in [
        ("Streams", "SELECT * FROM weir.streams"),
        ("Queries", "SELECT * FROM weir.queries"),
        ("Sinks", "SELECT * FROM weir.sinks"),
    ] {
        push(&mut html, format_args!("<h2>{title}</h2>"));
        match rows(&app, sql).await {
            Ok(rows) => table(&mut html, &rows),
            Err(error) => push(&mut html, format_args!("<p>{}", escape(&error.message()))),
        }
    }
    Ok(bytes_response(StatusCode::OK, "text/html; charset=utf-8", html.into_bytes()))
}

fn table(html: &mut String, rows: &[Row]) {
    let Some(first) = rows.first() else {
        html.push_str("<p>none");
        return;
    };
    html.push_str("<table><tr>");
    first.keys().for_each(|name| push(html, format_args!("<th>{}</th>", escape(name))));
    for row in rows {
        html.push_str("</tr><tr>");
        for value in row.values() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            push(html, format_args!("<td>{}</td>", escape(&text)));
        }
    }
    html.push_str("</tr></table>");
}

fn push(html: &mut String, text: std::fmt::Arguments<'_>) {
    html.write_fmt(text).expect("writing into a String cannot fail");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_out_of_its_quotes() {
        assert_eq!(literal("a' OR '1'='1"), "'a'' OR ''1''=''1'");
        assert_eq!(identifier("a\"; DROP"), "\"a\"\"; DROP\"");
        assert_eq!(escape("<b>&\""), "&lt;b&gt;&amp;&quot;");
    }
}
