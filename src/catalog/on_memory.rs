//! Reads what a query does when its memory is short: `on_memory`.

use crate::catalog::definition::DefinitionError;

/// Whether it sheds rows.
pub(super) fn sheds(on_memory: &str, has_retention: bool) -> Result<bool, DefinitionError> {
    let refused =
        |what: String, hint: &str| Err(DefinitionError::NotSupported { what, hint: hint.into() });
    match on_memory {
        "approximate" => refused(
            "on_memory = 'approximate'".into(),
            "Leave it out: the query then stops at its limit and says so. Or use 'shed', which answers \
             about a sample.",
        ),
        "shed" if has_retention => refused(
            "retention with on_memory = 'shed'".into(),
            "Leave retention out: the changelog says where rows were shed, and is needed whole.",
        ),
        other => Ok(other == "shed"),
    }
}
