//! Holds the examples and recordings that the demo plays, inside the program.

use crate::client::demo::example::Example;
use crate::error::{Error, Result, SqlState};

macro_rules! examples {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../queries/", $name, ".sql")))),*]
    };
}

macro_rules! recordings {
    ($($name:literal),* $(,)?) => {
        &[$((
            concat!("queries/data/", $name),
            include_bytes!(concat!("../../../queries/data/", $name)),
        )),*]
    };
}

/// What the demo plays, in the order in which it shows the answers.
const EXAMPLES: &[(&str, &str)] = examples![
    "01_top_paths",
    "02_hourly_hits",
    "03_into_sqlite",
    "05_animals_of_a_week",
    "06_edit_sessions",
    "09_search_terms",
    "14_births_per_year",
    "17_earthquakes_per_day",
];

const RECORDINGS: &[(&str, &[u8])] = recordings![
    "weblog.ndjson.gz",
    "city_311.csv.gz",
    "wiki_edits.ndjson.gz",
    "search_queries.csv.gz",
    "baby_names.csv.gz",
    "earthquakes.ndjson.gz",
];

/// The examples that the demo plays.
pub(super) fn examples() -> Result<Vec<Example>> {
    EXAMPLES.iter().map(|(name, text)| Example::parse(name, text)).collect()
}

/// The content of a file of `queries/data`.
pub(super) fn recording(file: &str) -> Result<&'static [u8]> {
    let found = RECORDINGS.iter().find(|(name, _)| *name == file);
    found.map(|(_, content)| *content).ok_or_else(|| {
        Error::new(SqlState::INTERNAL, format!("recording \"{file}\" is not in the program"))
    })
}
