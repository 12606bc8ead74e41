//! Is an answer as text, and says where two answers differ.

use std::fmt;

use arrow::datatypes::Field;
use comfy_table::{CellAlignment, Table, presets};

use crate::encode::text::TextColumn;
use crate::engine::StatementResult;

/// A table of texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Values as psql shows them; null is empty.
    pub rows: Vec<Vec<String>>,
}

impl Answer {
    /// The rows of a statement's answer.
    pub fn of(result: &StatementResult) -> Answer {
        let fields = result.schema.fields();
        let columns = fields.iter().map(|field| field.name().clone()).collect();
        let mut rows = Vec::with_capacity(result.rows());
        for batch in &result.batches {
            let text = |(array, field): (_, &std::sync::Arc<Field>)| TextColumn::new(array, field);
            let texts: Vec<TextColumn> = batch.columns().iter().zip(fields).map(text).collect();
            for row in 0..batch.num_rows() {
                rows.push(texts.iter().map(|text| text.value(row).unwrap_or_default()).collect());
            }
        }
        Answer { columns, rows }
    }

    /// The first table of a Markdown text, whose lines may be comments of SQL.
    pub fn from_markdown(text: &str) -> Answer {
        let mut lines = text
            .lines()
            .map(|line| line.trim().trim_start_matches("--").trim())
            .skip_while(|line| !line.starts_with('|'))
            .take_while(|line| line.starts_with('|'))
            .map(|line| {
                let cells = line.trim_matches('|').split('|');
                cells.map(|cell| cell.trim().to_string()).collect::<Vec<_>>()
            });
        let columns = lines.next().unwrap_or_default();
        let is_rule = |row: &Vec<String>| row.iter().all(|cell| cell == "---");
        Answer { columns, rows: lines.filter(|row| !is_rule(row)).collect() }
    }

    /// The first place where this answer is not the expected one.
    pub fn difference(&self, expected: &Answer) -> Option<String> {
        for (number, (found, wanted)) in self.rows.iter().zip(&expected.rows).enumerate() {
            let same = found.len() == wanted.len();
            if !same || !found.iter().zip(wanted).all(|(found, wanted)| agree(found, wanted)) {
                let (found, wanted) = (found.join(" | "), wanted.join(" | "));
                return Some(format!("row {}: {found}\nexpected: {wanted}", number + 1));
            }
        }
        let (found, wanted) = (self.rows.len(), expected.rows.len());
        (found != wanted).then(|| format!("{found} rows, expected {wanted}"))
    }

    /// The first `count` rows.
    pub fn top(mut self, count: usize) -> Answer {
        self.rows.truncate(count);
        self
    }
}

impl Answer {
    /// The lines of the table without borders.
    pub(super) fn lines(&self) -> Vec<String> {
        self.table(presets::NOTHING).lines().map(|line| line.trim_end().to_string()).collect()
    }

    fn table(&self, preset: &str) -> Table {
        let mut table = Table::new();
        table.load_preset(preset).set_header(&self.columns);
        for row in &self.rows {
            // What a stranger put into a recording must not steer the terminal.
            let visible = |cell: &String| -> String {
                cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
            };
            table.add_row(row.iter().map(visible));
        }
        for (number, column) in table.column_iter_mut().enumerate() {
            let is_number = |row: &Vec<String>| row[number].parse::<f64>().is_ok();
            if self.rows.iter().all(is_number) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.table(presets::UTF8_BORDERS_ONLY))
    }
}

/// Whether two values are the same: numbers by value, because 6 and 6.0 are one, times without the
/// zeros behind them.
fn agree(found: &str, wanted: &str) -> bool {
    if found == wanted || moment(found) == moment(wanted) {
        return true;
    }
    match (found.parse::<f64>(), wanted.parse::<f64>()) {
        (Ok(found), Ok(wanted)) => (found - wanted).abs() <= wanted.abs() * 1e-9,
        _ => false,
    }
}

/// A timestamp without what adds nothing to it.
fn moment(text: &str) -> &str {
    match text.rsplit_once('.') {
        Some((seconds, fraction))
            if seconds.len() == 19
                && seconds.as_bytes()[10] == b' '
                && fraction.bytes().all(|byte| byte == b'0') =>
        {
            seconds
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(cell: &str) -> Answer {
        Answer { columns: vec!["a".into()], rows: vec![vec![cell.into()]] }
    }

    #[test]
    fn numbers_are_compared_by_value_and_texts_by_letter() {
        for (found, wanted, same) in [
            ("6", "6.0", true),
            ("0.30000000000000004", "0.3", true),
            ("0.0014151949", "0.0014151959", false),
            ("2015-05-18 00:00:00.000000", "2015-05-18 00:00:00", true),
            ("2015-05-18 00:00:00.5", "2015-05-18 00:00:00", false),
            ("A", "a", false),
            ("", "0", false),
        ] {
            let difference = one(found).difference(&one(wanted));
            assert_eq!(difference.is_none(), same, "{found} {wanted}");
        }
        assert!(one("1").difference(&Answer::default()).is_some());
        assert!(Answer::default().difference(&one("1")).is_some());
    }

    #[test]
    fn a_table_is_read_with_and_without_comment_signs() {
        let expected = Answer {
            columns: vec!["a".into(), "b c".into()],
            rows: vec![vec!["1".into(), String::new()]],
        };
        assert_eq!(
            Answer::from_markdown("text\n| a | b c |\n|---|---|\n| 1 |  |\n\n| x |"),
            expected
        );
        assert_eq!(Answer::from_markdown("\n-- | a | b c |\n-- | 1 |  |"), expected);
    }
}
