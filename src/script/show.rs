//! Writes answers as scripts show them: times of the script's day short, null as NULL.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field};

use crate::encode::text::TextColumn;
use crate::script::feed::DAY;

/// The rows of a batch, each with its values as texts.
pub(super) fn rows(batch: &RecordBatch) -> Vec<Vec<String>> {
    let schema = batch.schema();
    let columns: Vec<(TextColumn, &Field)> = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| (TextColumn::new(column, field), field.as_ref()))
        .collect();
    (0..batch.num_rows())
        .map(|row| columns.iter().map(|(column, field)| text(column.value(row), field)).collect())
        .collect()
}

fn text(value: Option<String>, field: &Field) -> String {
    match value {
        None => "NULL".into(),
        Some(text) if text.is_empty() => "(empty)".into(),
        Some(text) if matches!(field.data_type(), DataType::Timestamp(..)) => short_time(text),
        Some(text) => text,
    }
}

/// A time of the script's day without the day, and without the hour in the first one.
fn short_time(text: String) -> String {
    match text.strip_prefix(DAY).map(str::trim_start) {
        Some(time) => time.strip_prefix("00:").unwrap_or(time).to_string(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_scripts_day_are_short() {
        assert_eq!(short_time("2026-01-01 00:01:02".into()), "01:02");
        assert_eq!(short_time("2026-01-01 13:01:02.5".into()), "13:01:02.5");
        assert_eq!(short_time("2026-03-01 00:01:02".into()), "2026-03-01 00:01:02");
    }
}
