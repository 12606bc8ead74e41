//! Executes statements one after the other, up to the first error.

use std::sync::Arc;

use futures::future::BoxFuture;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema};

use crate::catalog::record::Kind;
use crate::crew::Lost;
use crate::engine::registry::{Registry, wrong_kind};
use crate::engine::select::without_null_type;
use crate::engine::state::Engine;
use crate::engine::{Execution, StatementResult};
use crate::error::{Error, Result, SqlState};
use crate::sql::locate::locate;
use crate::sql::parse::parse_prefix;
use crate::sql::statement::{ObjectKind, Statement};
use crate::views::subscription::{SubscribeRequest, Subscription};

impl Engine {
    /// Executes the statements of a text in order, up to the first error; what ran before it stays.
    pub fn execute<'a>(self: &'a Arc<Engine>, sql: &'a str) -> BoxFuture<'a, Execution> {
        // What all statements need together is too large to be a part of every caller.
        Box::pin(self.execute_all(sql))
    }

    async fn execute_all(self: &Arc<Engine>, sql: &str) -> Execution {
        let mut execution = Execution::default();
        let (statements, syntax_error) = parse_prefix(sql);
        let count = statements.len();
        for (number, parsed) in statements.into_iter().enumerate() {
            let located = |error: Error| match &sql[parsed.text.clone()] {
                text if error.position().is_none() => {
                    let before = sql[..parsed.text.start].chars().count();
                    match locate(text, error.code(), &error.message()) {
                        Some(position) => error.at(before + position),
                        None => error,
                    }
                }
                _ => error,
            };
            if let Statement::Subscribe { query, from, snapshot } = &parsed.statement {
                if number + 1 < count || syntax_error.is_some() {
                    execution.error = Some(syntax_error.map_or_else(not_last, Error::from));
                    return execution;
                }
                let request = SubscribeRequest {
                    from: *from,
                    snapshot: *snapshot,
                    ..SubscribeRequest::default()
                };
                match self.subscribe(query, request) {
                    Ok(subscription) => execution.subscription = Some(subscription),
                    Err(error) => execution.error = Some(located(error)),
                }
                return execution;
            }
            let data = sql.get(parsed.data).unwrap_or_default();
            // In a box, because whoever waits for a text of statements would hold it.
            match Box::pin(self.run(parsed.statement, data)).await {
                Ok(result) => execution.results.push(result),
                Err(error) => {
                    execution.error = Some(located(error));
                    return execution;
                }
            }
        }
        execution.error = syntax_error.map(Error::from);
        execution
    }

    /// Executes one statement; `data` are the rows behind a COPY.
    async fn run(self: &Arc<Engine>, statement: Statement, data: &str) -> Result<StatementResult> {
        match statement {
            Statement::Query(query) => self.select(&query).await.map(without_null_type),
            Statement::Show(kind) => Ok(self.show(kind)),
            Statement::Describe(name) => self.describe(&name),
            Statement::Explain { analyze, target } => self.explain(analyze, &target),
            Statement::Insert { target, columns, source, on_conflict: None } => {
                self.insert(&target, &columns, &source).await
            }
            Statement::Insert { target, columns, source, on_conflict: Some(on_conflict) } => {
                self.upsert(&target, &columns, &source, &on_conflict).await
            }
            Statement::Update { target, assignments, predicate } => {
                self.update(&target, &assignments, predicate.as_ref()).await
            }
            Statement::Delete { target, predicate } => {
                self.delete(&target, predicate.as_ref()).await
            }
            Statement::Punctuate { stream, predicate } => self.punctuate(&stream, &predicate).await,
            Statement::Flush { sink } => {
                self.flush().await?;
                let Some(sink) = sink else { return Ok(self.flushed()) };
                self.flush_sink(&sink).await?;
                Ok(StatementResult::command("FLUSH"))
            }
            Statement::Copy { target, options } => self.copy(&target, &options, data).await,
            Statement::Subscribe { .. } => unreachable!("execute answers it"),
            Statement::CreateStream(_)
            | Statement::CreateTable(_)
            | Statement::CreateQuery(_)
            | Statement::CreateSink(_)
            | Statement::Alter(_)
            | Statement::Drop { .. }
            | Statement::Pause(_)
            | Statement::Rebuild(_)
            | Statement::Resume(_) => self.change_catalog(statement).await,
        }
    }

    /// Statements that change the catalog come one after the other, off the server's own threads:
    /// they plan on a stack of their own and wait for the disk.
    async fn change_catalog(self: &Arc<Engine>, statement: Statement) -> Result<StatementResult> {
        let _one_at_a_time = self.ddl.lock().await;
        let engine = Arc::clone(self);
        let work = move || match statement {
            Statement::CreateStream(create) => engine.create_stream(&create),
            Statement::CreateTable(create) => engine.create_table(&create),
            Statement::CreateQuery(create) => engine.create_query(&create),
            Statement::CreateSink(create) => engine.create_sink(&create),
            Statement::Drop { kind, name, if_exists, cascade } => {
                engine.drop_object(kind, &name, if_exists, cascade)
            }
            Statement::Alter(alter) => engine.alter(&alter),
            Statement::Pause(name) => engine.pause(&name),
            Statement::Resume(name) => engine.resume(&name),
            Statement::Rebuild(name) => engine.rebuild(&name),
            _ => unreachable!("run sends no other statement here"),
        };
        match self.crew.apart(work).await {
            Ok(result) => result,
            Err(Lost::Broken) => {
                Err(Error::new(SqlState::INTERNAL, "statement broke while it was executed"))
            }
            Err(Lost::Stopped) => {
                Err(Error::new(SqlState::SHUTTING_DOWN, "server is shutting down"))
            }
        }
    }

    /// Begins a subscription to a query.
    ///
    /// # Errors
    /// 42P01 for an undefined query, WR004 for an offset beyond the head.
    pub fn subscribe(&self, query: &str, request: SubscribeRequest) -> Result<Subscription> {
        let state = self.query_state(query)?;
        let (view, bell) = (Arc::clone(&state.view), Arc::clone(&state.bell));
        Subscription::begin(query, view, state, bell, request)
    }

    fn show(&self, kind: ObjectKind) -> StatementResult {
        let registry = self.registry.read();
        let mut names: Vec<String> = match kind {
            ObjectKind::Stream => registry.streams.keys().cloned().collect(),
            ObjectKind::Table => registry.tables.keys().cloned().collect(),
            ObjectKind::Query => registry.queries.keys().cloned().collect(),
            ObjectKind::Sink => registry.sinks.keys().cloned().collect(),
        };
        let resting = registry.resting_of(Kind::from(kind));
        names.extend(resting.into_iter().map(|resting| resting.record.name.clone()));
        names.sort();
        texts("SHOW", &["name"], vec![names])
    }

    /// Columns of a relation; hidden ones are left out.
    fn describe(&self, name: &str) -> Result<StatementResult> {
        let registry = self.registry.read();
        let schema = if let Some(stream) = registry.streams.get(name) {
            Arc::clone(&stream.definition.schema)
        } else if let Some(table) = registry.tables.get(name) {
            Arc::clone(table.changelog.schema())
        } else if let Some(query) = registry.queries.get(name) {
            Arc::clone(query.changelog.schema())
        } else if let Some(schema) = super::system::schema_of(name) {
            schema
        } else {
            return Err(no_columns(&registry, name));
        };
        let fields = schema.fields();
        let column = |text: &dyn Fn(&Field) -> String| -> ArrayRef {
            Arc::new(StringViewArray::from_iter_values(fields.iter().map(|field| text(field))))
        };
        let described = Arc::new(Schema::new(vec![
            Field::new("column", DataType::Utf8View, false),
            Field::new("type", DataType::Utf8View, false),
            Field::new("nullable", DataType::Boolean, false),
        ]));
        let columns = vec![
            column(&|field| field.name().clone()),
            column(&crate::encode::type_name::sql_type_name),
            Arc::new(BooleanArray::from_iter(fields.iter().map(|f| Some(f.is_nullable())))),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&described), columns)
            .map_err(|e| Error::new(SqlState::INTERNAL, e.to_string()))?;
        Ok(StatementResult { tag: "DESCRIBE".into(), schema: described, batches: vec![batch] })
    }
}

/// Why there is nothing to describe.
fn no_columns(registry: &Registry, name: &str) -> Error {
    if registry.kind_of(name).is_some() {
        return wrong_kind(registry, name, Kind::Stream);
    }
    let message = format!("relation \"{name}\" does not exist");
    Error::new(SqlState::UNDEFINED_RELATION, message)
        .with_hint("SHOW STREAMS, SHOW TABLES and SHOW QUERIES list what exists.")
}

/// Nothing that stands behind a SUBSCRIBE could ever run.
fn not_last() -> Error {
    Error::new(SqlState::SYNTAX, "SUBSCRIBE must be the last statement")
        .with_detail("A subscription does not end, so what follows it would never run.")
        .with_hint("Send what follows SUBSCRIBE in a request of its own.")
}

/// An answer of text columns.
pub(super) fn texts(tag: &str, names: &[&str], columns: Vec<Vec<String>>) -> StatementResult {
    let fields: Vec<Field> =
        names.iter().map(|name| Field::new(*name, DataType::Utf8View, false)).collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns
        .into_iter()
        .map(|column| Arc::new(StringViewArray::from_iter_values(column)) as ArrayRef)
        .collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)
        .expect("as many columns as names, all of one length");
    StatementResult { tag: tag.into(), schema, batches: vec![batch] }
}
