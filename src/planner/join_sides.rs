//! Knows what the joins of a FROM give, relation by relation, where USING and NATURAL merge columns.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Expr, Ident, ObjectName, SelectItem, SelectItemQualifiedWildcardKind,
    WildcardAdditionalOptions,
};

use crate::error::SqlState;
use crate::planner::error::PlanError;
use crate::planner::merged_names::{column, quoted};
use crate::planner::relation_columns::{Columns, excluded};

/// What a part of FROM gives, in the order of `*`.
#[derive(Debug, Default)]
pub(super) struct Side(pub(super) Vec<Output>);

#[derive(Debug)]
pub(super) enum Output {
    /// A merged column.
    Column { name: String, expr: Box<Expr> },
    /// The columns of a relation, without those that are merged.
    Relation { name: Option<ObjectName>, columns: Option<Columns>, without: Vec<String> },
}

impl Output {
    /// Whether there is a column of that name, if that is known.
    fn has(&self, wanted: &str) -> Option<bool> {
        match self {
            Output::Column { name, .. } => Some(name == wanted),
            Output::Relation { without, .. } if without.iter().any(|name| name == wanted) => {
                Some(false)
            }
            Output::Relation { columns, .. } => Some(columns.as_ref()?.contains(wanted)),
        }
    }
}

impl Side {
    /// The columns that NATURAL joins by.
    pub(super) fn common(&self, right: &Side) -> Result<Vec<String>, PlanError> {
        let shown = |side: &Side| -> Option<Vec<String>> {
            let mut names: Vec<String> = Vec::new();
            for output in &side.0 {
                match output {
                    Output::Column { name, .. } => names.push(name.clone()),
                    Output::Relation { columns, without, .. } => {
                        let shown = &columns.as_ref()?.shown;
                        names.extend(shown.iter().filter(|name| !without.contains(name)).cloned());
                    }
                }
            }
            Some(names)
        };
        let (Some(own), Some(other)) = (shown(self), shown(right)) else {
            return Err(unknown("NATURAL"));
        };
        let mut names: Vec<String> = Vec::new();
        for name in own {
            if !name.is_empty() && other.contains(&name) && !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Takes out the column that is merged: what it stands for.
    pub(super) fn take(&mut self, wanted: &str, side: &str) -> Result<Expr, PlanError> {
        let places = |has: Option<bool>| {
            let outputs = self.0.iter().enumerate();
            outputs.filter(|(_, output)| output.has(wanted) == has).map(|(at, _)| at).collect()
        };
        let (known, possible): (Vec<usize>, Vec<usize>) = (places(Some(true)), places(None));
        let at = match (known.as_slice(), possible.as_slice()) {
            ([at], _) | ([], [at]) => *at,
            ([], []) => {
                return Err(PlanError::Refused {
                    code: SqlState::UNDEFINED_COLUMN,
                    message: format!(
                        "column \"{wanted}\" of USING does not exist in the {side} table"
                    ),
                    hint: Some(
                        "Name columns that both sides have, or write the condition with ON.".into(),
                    ),
                });
            }
            ([], _) => return Err(unknown("USING")),
            _ => {
                return Err(PlanError::Refused {
                    code: SqlState::AMBIGUOUS_COLUMN,
                    message: format!(
                        "column \"{wanted}\" of USING is more than once in the {side} table"
                    ),
                    hint: Some(
                        "Write the condition with ON, and name the relation of the column.".into(),
                    ),
                });
            }
        };
        match &mut self.0[at] {
            Output::Relation { name, without, .. } => {
                let Some(name) = name else { return Err(unknown("USING")) };
                let mut parts: Vec<Ident> =
                    name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
                parts.push(quoted(wanted));
                without.push(wanted.to_owned());
                Ok(Expr::CompoundIdentifier(parts))
            }
            Output::Column { .. } => match self.0.remove(at) {
                Output::Column { expr, .. } => Ok(*expr),
                Output::Relation { .. } => unreachable!("it was a column a line ago"),
            },
        }
    }

    /// The merged columns that may be named alone.
    pub(super) fn merged(&self) -> BTreeMap<String, Expr> {
        let columns = self.0.iter().filter_map(|output| match output {
            Output::Column { name, expr } => Some((name.clone(), expr.as_ref().clone())),
            Output::Relation { .. } => None,
        });
        let once =
            |name: &str| self.0.iter().filter(|output| output.has(name) == Some(true)).count() == 1;
        columns.filter(|(name, _)| once(name)).collect()
    }

    /// Spells `*` out in relations and merged columns.
    pub(super) fn spell_stars(&self, projection: &mut Vec<SelectItem>) -> Result<(), PlanError> {
        if !self.0.iter().any(|output| matches!(output, Output::Column { .. })) {
            return Ok(());
        }
        for item in std::mem::take(projection) {
            match item {
                SelectItem::Wildcard(options) => projection.extend(self.star(&options)?),
                other => projection.push(other),
            }
        }
        Ok(())
    }

    fn star(&self, options: &WildcardAdditionalOptions) -> Result<Vec<SelectItem>, PlanError> {
        if options.opt_replace.is_some()
            || options.opt_rename.is_some()
            || options.opt_ilike.is_some()
        {
            return Err(PlanError::refused(
                "REPLACE, RENAME or ILIKE behind * over USING or NATURAL",
                "Write the columns out.",
            ));
        }
        let mut excluded = excluded(options);
        let mut items = Vec::new();
        for output in &self.0 {
            match output {
                Output::Column { name, expr } => {
                    match excluded.iter().position(|own| own == name) {
                        Some(at) => drop(excluded.remove(at)),
                        None => items.push(column(expr, name)),
                    }
                }
                Output::Relation { name, columns, without } => {
                    let Some(name) = name.clone() else { return Err(unknown("* over USING")) };
                    let mut without = without.clone();
                    match columns {
                        Some(columns) => {
                            let here = excluded.extract_if(.., |own| columns.contains(own));
                            without.extend(here);
                            if columns.shown.iter().all(|own| without.contains(own)) {
                                continue;
                            }
                        }
                        // It may have them, and says so if it has not.
                        None => without.append(&mut excluded),
                    }
                    items.push(relation_star(name, &without));
                }
            }
        }
        match excluded.first() {
            None => Ok(items),
            Some(name) => Err(PlanError::Refused {
                code: SqlState::UNDEFINED_COLUMN,
                message: format!("column \"{name}\" of EXCLUDE does not exist"),
                hint: None,
            }),
        }
    }
}

fn relation_star(name: ObjectName, without: &[String]) -> SelectItem {
    let names: Vec<ObjectName> =
        without.iter().map(|name| ObjectName::from(vec![quoted(name)])).collect();
    let opt_exclude = (!names.is_empty()).then_some(ExcludeSelectItem::Multiple(names));
    let kind = SelectItemQualifiedWildcardKind::ObjectName(name);
    let options = WildcardAdditionalOptions { opt_exclude, ..WildcardAdditionalOptions::default() };
    SelectItem::QualifiedWildcard(kind, options)
}

fn unknown(what: &str) -> PlanError {
    PlanError::refused(
        &format!("{what} with a relation whose columns are not written out"),
        "Give it an alias with a list of columns, or write the condition with ON.",
    )
}
