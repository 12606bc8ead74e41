//! Checks ON OVERLOAD: what happens to rows for which there is no room.

use arrow::datatypes::FieldRef;

use crate::catalog::definition::DefinitionError;
use crate::sql::statement::Overload;

/// What happens to rows when the queue or the disk budget of a stream is full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnOverload {
    /// Their senders wait.
    Block,
    /// The requests that have waited longest are shed.
    DropOldest,
    /// Rows are shed at random.
    ShedRandom,
    /// All rows of some keys are shed.
    ShedKeys(Vec<usize>),
}

pub(super) fn overload(
    clause: Option<&Overload>,
    fields: &[FieldRef],
) -> Result<OnOverload, DefinitionError> {
    let names = match clause {
        None | Some(Overload::Block) => return Ok(OnOverload::Block),
        Some(Overload::DropOldest) => return Ok(OnOverload::DropOldest),
        Some(Overload::ShedRandom) => return Ok(OnOverload::ShedRandom),
        Some(Overload::ShedKeys(names)) => names,
    };
    let column = |name: &String| {
        let found = fields.iter().position(|field| field.name() == name);
        found.ok_or_else(|| DefinitionError::UndefinedColumn {
            column: name.clone(),
            clause: "SHED KEYS",
        })
    };
    names.iter().map(column).collect::<Result<Vec<_>, _>>().map(OnOverload::ShedKeys)
}
