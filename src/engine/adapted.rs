//! Tells what queries have shed for want of memory, and where they began to.
//!
//! Numbers are those of the runs: a snapshot holds them, and a replay counts again. The switches stand in the
//! changelogs and are read back from there, so that none is forgotten.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::DataType;

use crate::catalog::definition::QueryOptions;
use crate::catalog::record::Kind;
use crate::engine::query::QueryState;
use crate::engine::registry::Registry;
use crate::engine::system::{self, broken};
use crate::error::{Error, Result, SqlState};
use crate::log::frame::FrameKind;
use crate::pipeline::drive::QueryRun;
use crate::pipeline::shedding::Shed;
use crate::planner::physical::PhysicalPlan;
use crate::views::entry_meta::{EntryMeta, in_words};

/// What a query keeps of its rows, and what it has shed.
#[derive(Debug, Default)]
pub(super) struct Sampled {
    /// The level of the rows to come.
    pub level: u8,
    /// What was shed of which relation.
    pub shed: Vec<(Arc<str>, Shed)>,
}

/// Refuses to shed rows of what may take rows back.
pub(super) fn check_shedding(
    registry: &Registry,
    options: &QueryOptions,
    plan: &PhysicalPlan,
) -> Result<()> {
    let mut other = None;
    if options.sheds {
        crate::engine::create::each_source(plan, &mut |source| {
            // One that is set aside is one, too.
            if registry.kind_of(&source.relation) != Some(Kind::Stream) {
                other.get_or_insert_with(|| Arc::clone(&source.relation));
            }
        });
    }
    let Some(name) = other else { return Ok(()) };
    let kind = registry.kind_of(&name).map_or("relation", |kind| kind.noun());
    let message = format!("on_memory = 'shed' over {kind} \"{name}\" is not supported");
    Err(Error::new(SqlState::NOT_SUPPORTED, message)
        .with_detail("Its rows may be taken back, and a row must not be shed without the other.")
        .with_hint("Read streams, or leave on_memory out: the query then stops at its limit."))
}

impl QueryState {
    /// Shows what was shed for want of memory, also where a snapshot or a replay tells of it.
    pub(super) fn note_shed(&self, run: &QueryRun) {
        let (shedding, mut shown) = (&run.shedding, self.shed.lock());
        if shedding.is_active() || shown.level > 0 || !shown.shed.is_empty() {
            let shed = shedding.by_relation(&self.sources());
            *shown = Sampled { level: shedding.level, shed };
        }
    }

    /// Rows shed for want of memory.
    pub(super) fn rows_shed(&self) -> u64 {
        self.shed.lock().shed.iter().map(|(_, shed)| shed.rows).sum()
    }

    /// What EXPLAIN ANALYZE says of memory, where rows may be shed.
    pub(super) fn memory_line(&self) -> Option<String> {
        let level = self.shed.lock().level;
        let (limit, sheds) = {
            let shape = self.shape();
            (shape.options.memory_limit, shape.options.sheds)
        };
        if !sheds && level == 0 {
            return None;
        }
        Some(format!("memory limit {limit} bytes: {}", in_words(level)))
    }
}

/// `weir.shed`: what streams have written down, and what queries have shed.
pub(super) fn shed(registry: &Registry, written: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let schema = system::schema_of(system::SHED).ok_or_else(|| broken("no such relation"))?;
    let mut batches = Vec::with_capacity(written.len() + 1);
    for batch in written {
        let mut columns = batch.columns().to_vec();
        columns.push(new_null_array(&DataType::Utf8View, batch.num_rows()));
        batches.push(RecordBatch::try_new(Arc::clone(&schema), columns).map_err(broken)?);
    }
    let rows: Vec<(String, Arc<str>, Shed)> = registry
        .queries
        .values()
        .flat_map(|query| {
            let shed = query.shed.lock().shed.clone();
            shed.into_iter().map(|(stream, shed)| (query.name.clone(), stream, shed))
        })
        .collect();
    let count = rows.len();
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(rows.iter().map(|(_, stream, _)| stream))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(.., shed)| number(shed.first)))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(.., shed)| number(shed.rows)))),
        Arc::new(StringViewArray::from_iter_values(std::iter::repeat_n("memory", count))),
        Arc::new(TimestampMicrosecondArray::new_null(count)),
        Arc::new(StringViewArray::from_iter_values(rows.iter().map(|(query, ..)| query))),
    ];
    batches.push(RecordBatch::try_new(schema, columns).map_err(broken)?);
    Ok(batches)
}

/// `weir.adaptations`: where queries began to keep more or fewer rows.
pub(super) fn adaptations(registry: &Registry) -> Result<Vec<RecordBatch>> {
    let schema =
        system::schema_of(system::ADAPTATIONS).ok_or_else(|| broken("no such relation"))?;
    let (mut names, mut decisions, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for query in registry.queries.values().filter(|query| query.changelog.adapts()) {
        let wanted = |kind| matches!(kind, FrameKind::Rows | FrameKind::Progress);
        for entry in query.changelog.log().summaries(wanted)? {
            let Some(meta) = EntryMeta::decode(&entry.meta) else { continue };
            let Some(level) = meta.level else { continue };
            names.push(query.name.clone());
            decisions.push(decision(query, level, &meta));
            times.push(entry.ingest_time);
        }
    }
    let operators = std::iter::repeat_n("Source", names.len());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(&names)),
        Arc::new(StringViewArray::from_iter_values(operators)),
        Arc::new(StringViewArray::from_iter_values(&decisions)),
        Arc::new(TimestampMicrosecondArray::from(times)),
    ];
    Ok(vec![RecordBatch::try_new(schema, columns).map_err(broken)?])
}

fn decision(query: &QueryState, level: u8, meta: &EntryMeta) -> String {
    let mut places: Vec<String> = query
        .sources()
        .iter()
        .zip(&meta.frontier)
        .map(|(stream, place)| format!("offset {} of \"{stream}\"", place.offset))
        .collect();
    places.dedup();
    format!("{} from {} on", in_words(level), places.join(" and "))
}
