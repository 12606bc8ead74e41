//! Matches patterns the slow way, for tests: tries every word in the order of preference.

use proptest::prelude::*;

use super::pattern::Pattern;

/// Whether there is a next row on a way, given by the variables of its rows, and fits a variable.
pub(super) type Fits<'a> = &'a dyn Fn(&[usize], usize) -> bool;

/// The first word that fits, by the variables of its rows.
pub(super) fn first_word(pattern: &Pattern, fits: Fits<'_>) -> Option<Vec<usize>> {
    let mut found = None;
    backtrack(pattern, fits, vec![], &mut |way| {
        found = Some(way);
        true
    });
    found
}

/// Goes on behind each way through the pattern, until `then` says that it is done. A loop ends with an
/// iteration that takes nothing.
fn backtrack(
    pattern: &Pattern,
    fits: Fits<'_>,
    way: Vec<usize>,
    then: &mut dyn FnMut(Vec<usize>) -> bool,
) -> bool {
    match pattern {
        Pattern::Variable(variable) => {
            fits(&way, *variable) && then(way.into_iter().chain([*variable]).collect())
        }
        Pattern::Sequence(parts) => match parts.split_first() {
            None => then(way),
            Some((first, rest)) => {
                let rest = Pattern::Sequence(rest.to_vec());
                backtrack(first, fits, way, &mut |way| backtrack(&rest, fits, way, then))
            }
        },
        Pattern::Choice(parts) => parts.iter().any(|part| backtrack(part, fits, way.clone(), then)),
        Pattern::Repeat { inner, min, max, greedy } => {
            let rest = Pattern::Repeat {
                inner: inner.clone(),
                min: min.saturating_sub(1),
                max: max.map(|max| max.saturating_sub(1)),
                greedy: *greedy,
            };
            if *min > 0 {
                return backtrack(inner, fits, way, &mut |way| backtrack(&rest, fits, way, then));
            }
            let more = |then: &mut dyn FnMut(Vec<usize>) -> bool| {
                let rows = way.len();
                *max != Some(0)
                    && backtrack(inner, fits, way.clone(), &mut |way| match way.len() == rows {
                        true => then(way),
                        false => backtrack(&rest, fits, way, then),
                    })
            };
            match greedy {
                true => more(then) || then(way.clone()),
                false => then(way.clone()) || more(then),
            }
        }
    }
}

/// Patterns over three variables that match at least one row.
pub(super) fn patterns() -> impl Strategy<Value = Pattern> {
    let leaf = (0usize..3).prop_map(Pattern::Variable);
    let any = leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Pattern::Sequence),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Pattern::Choice),
            (inner, 0u32..3, prop::option::of(0u32..3), any::<bool>()).prop_map(
                |(inner, min, more, greedy)| Pattern::Repeat {
                    inner: Box::new(inner),
                    min,
                    max: more.map(|more| min + more),
                    greedy,
                }
            ),
        ]
    });
    any.prop_filter("it matches no row at all", |pattern| pattern.rows_min() > 0)
}
