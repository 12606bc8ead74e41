//! Compares what a query of a script answered with what the script says.
//!
//! How changes coalesce under EMIT CHANGES is no part of the contract where feeds are cut otherwise than
//! written. The session marks such emissions by a first row [`NET`]; of those the net change counts.

use std::collections::BTreeMap;

use sqllogictest::runner::{Normalizer, default_validator};

/// First row of emissions of which only the net change is compared.
pub(super) const NET: &str = "net";

/// The runner's validator.
pub(super) fn validate(
    normalizer: Normalizer,
    actual: &[Vec<String>],
    expected: &[String],
) -> bool {
    match actual.split_first() {
        Some((first, rest)) if first.as_slice() == [NET] => {
            let actual = rest.iter().map(|row| normalizer(&row.join(" ")));
            net(actual) == net(expected.iter().map(normalizer))
        }
        _ => default_validator(normalizer, actual, expected),
    }
}

/// Rows with the number of their insertions less that of their retractions, where it is not zero.
fn net(rows: impl Iterator<Item = String>) -> BTreeMap<String, i64> {
    let mut sum = BTreeMap::new();
    for row in rows {
        let (weight, row) = match row.strip_prefix('-') {
            Some(row) => (-1, row.trim_start().to_string()),
            None => (1, row.trim_start_matches('+').trim_start().to_string()),
        };
        *sum.entry(row).or_insert(0) += weight;
    }
    sum.retain(|_, weight| *weight != 0);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqllogictest::runner::default_normalizer;

    fn check(actual: &[&[&str]], expected: &[&str]) -> bool {
        let actual: Vec<Vec<String>> =
            actual.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect();
        let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        validate(default_normalizer, &actual, &expected)
    }

    #[test]
    fn net_changes_may_come_in_other_portions() {
        let marked: &[&[&str]] = &[&["net"], &["+", "a", "1"], &["-", "a", "1"], &["+", "a", "2"]];
        assert!(check(marked, &["+  a  2"]));
        assert!(!check(marked, &["+  a  1"]));
        assert!(!check(&marked[1..], &["+  a  2"]));
    }
}
