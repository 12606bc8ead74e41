//! Reads PATTERN and AFTER MATCH SKIP of MATCH_RECOGNIZE, and refuses patterns that mean nothing.

use datafusion::common::Result as PlannerResult;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::ast::{
    AfterMatchSkip, Ident, MatchRecognizePattern, MatchRecognizeSymbol, RepetitionQuantifier,
};

use crate::error::SqlState;
use crate::operators::match_recognize::pattern::{PROGRAM_MAX, Pattern, Program};
use crate::operators::match_recognize::{Skip, VARIABLES_MAX};
use crate::planner::error::PlanError;
use crate::planner::hidden::fold;
use crate::planner::match_cells::{misuse, refused};

/// Reads the pattern; variables are numbered as they come.
pub(super) fn pattern_of(
    pattern: &MatchRecognizePattern,
    variables: &mut Vec<String>,
) -> PlannerResult<Pattern> {
    let all = |parts: &[MatchRecognizePattern], variables: &mut Vec<String>| {
        parts.iter().map(|part| pattern_of(part, variables)).collect::<PlannerResult<Vec<_>>>()
    };
    Ok(match pattern {
        MatchRecognizePattern::Symbol(MatchRecognizeSymbol::Named(name)) => {
            Pattern::Variable(variable_of(name, variables))
        }
        MatchRecognizePattern::Symbol(anchor) => {
            let hint = "A stream has no last row; bound matches by conditions in DEFINE.";
            return Err(refused(format!("the anchor {anchor} in PATTERN"), hint));
        }
        MatchRecognizePattern::Exclude(_) => {
            let hint = "It says which rows ALL ROWS PER MATCH leaves out; leave it out.";
            return Err(refused("an exclusion {- -} in PATTERN", hint));
        }
        MatchRecognizePattern::Permute(_) => {
            let hint = "Write its orders as alternatives: (a b | b a).";
            return Err(refused("PERMUTE in PATTERN", hint));
        }
        MatchRecognizePattern::Concat(parts) => Pattern::Sequence(all(parts, variables)?),
        MatchRecognizePattern::Alternation(parts) => Pattern::Choice(all(parts, variables)?),
        MatchRecognizePattern::Group(inner) => pattern_of(inner, variables)?,
        MatchRecognizePattern::Repetition(inner, quantifier) => {
            let (inner, quantifier, greedy) = match &**inner {
                // `a+?` is `a+` with a question mark: reluctant.
                MatchRecognizePattern::Repetition(most, counts)
                    if *quantifier == RepetitionQuantifier::AtMostOne =>
                {
                    (&**most, counts, false)
                }
                MatchRecognizePattern::Repetition(..) => {
                    return Err(misuse("a quantifier in PATTERN follows another"));
                }
                other => (other, quantifier, true),
            };
            if matches!(inner, MatchRecognizePattern::Repetition(..)) {
                return Err(misuse("a quantifier in PATTERN follows another"));
            }
            let (min, max) = counts_of(quantifier)?;
            Pattern::Repeat { inner: Box::new(pattern_of(inner, variables)?), min, max, greedy }
        }
    })
}

fn variable_of(name: &Ident, variables: &mut Vec<String>) -> usize {
    let name = fold(name);
    variables.iter().position(|variable| *variable == name).unwrap_or_else(|| {
        variables.push(name);
        variables.len() - 1
    })
}

fn counts_of(quantifier: &RepetitionQuantifier) -> PlannerResult<(u32, Option<u32>)> {
    Ok(match quantifier {
        RepetitionQuantifier::ZeroOrMore => (0, None),
        RepetitionQuantifier::OneOrMore => (1, None),
        RepetitionQuantifier::AtMostOne => (0, Some(1)),
        RepetitionQuantifier::Exactly(n) => (*n, Some(*n)),
        RepetitionQuantifier::AtLeast(n) => (*n, None),
        RepetitionQuantifier::AtMost(n) => (0, Some(*n)),
        RepetitionQuantifier::Range(n, m) if n > m => {
            return Err(misuse(format!(
                "quantifier {quantifier} in PATTERN has its bounds swapped"
            )));
        }
        RepetitionQuantifier::Range(n, m) => (*n, Some(*m)),
    })
}

pub(super) fn check_pattern(pattern: &Pattern, variables: &[String]) -> PlannerResult<()> {
    let too_large = |message: String| {
        let hint = Some("Use fewer variables, and smaller counts.".into());
        DataFusionError::from(PlanError::Window { code: SqlState::PROGRAM_LIMIT, message, hint })
    };
    if variables.len() > VARIABLES_MAX {
        return Err(too_large(format!("PATTERN has more than {VARIABLES_MAX} variables")));
    }
    if Program::compile(pattern).is_none() {
        return Err(too_large(format!(
            "PATTERN has more than {PROGRAM_MAX} parts when its counts are written out"
        )));
    }
    if pattern.rows_min() == 0 {
        let hint = "Let one variable be there in every match: write + for *.";
        return Err(refused("a PATTERN that can match no row at all", hint));
    }
    let never = |variable: &usize| pattern.rows_before(*variable).is_none();
    if let Some(variable) = (0..variables.len()).find(never) {
        let name = &variables[variable];
        return Err(misuse(format!("variable \"{name}\" of PATTERN can never have a row")));
    }
    Ok(())
}

pub(super) fn skip_of(
    skip: Option<AfterMatchSkip>,
    pattern: &Pattern,
    variables: &[String],
) -> PlannerResult<Skip> {
    let variable = |name: &Ident| {
        let folded = fold(name);
        variables.iter().position(|variable| *variable == folded).ok_or_else(|| {
            misuse(format!("variable \"{folded}\" of AFTER MATCH SKIP is not in PATTERN"))
        })
    };
    Ok(match skip {
        None | Some(AfterMatchSkip::PastLastRow) => Skip::PastLastRow,
        Some(AfterMatchSkip::ToNextRow) => Skip::ToNextRow,
        Some(AfterMatchSkip::ToLast(name)) => Skip::ToLast(variable(&name)?),
        Some(AfterMatchSkip::ToFirst(name)) => {
            let first = variable(&name)?;
            if !pattern.may_begin_without(first) {
                return Err(PlanError::Window {
                    code: SqlState::WINDOWING,
                    message: format!(
                        "AFTER MATCH SKIP TO FIRST \"{}\" would find the same match again",
                        variables[first]
                    ),
                    hint: Some("Every match begins with it: write SKIP TO NEXT ROW.".into()),
                }
                .into());
            }
            Skip::ToFirst(first)
        }
    })
}
