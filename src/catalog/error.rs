//! Lists the situations in which the catalog says no.

use crate::catalog::persist::{DIRECTORY, FORMAT};
use crate::error::{Report, SqlState};
use crate::log::error::LogError;

/// Why the catalog cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Its log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A change is damaged or of another version.
    #[error("catalog record {id} is damaged")]
    Damaged {
        /// The frame.
        id: u64,
        /// What does not fit.
        detail: String,
    },
    /// The catalog is gone, and what it named is not.
    #[error("catalog is missing")]
    Missing,
    /// The catalog is of another version of the program.
    #[error("catalog \"{DIRECTORY}\" has format {found}, and this program reads format {FORMAT}")]
    Format {
        /// The format found.
        found: u64,
    },
}

impl Report for CatalogError {
    fn code(&self) -> SqlState {
        match self {
            CatalogError::Log(error) => error.code(),
            CatalogError::Damaged { .. } | CatalogError::Missing => SqlState::CORRUPT,
            CatalogError::Format { .. } => SqlState::NOT_SUPPORTED,
        }
    }
    fn detail(&self) -> Option<String> {
        match self {
            CatalogError::Log(error) => error.detail(),
            CatalogError::Damaged { detail, .. } => Some(detail.clone()),
            CatalogError::Missing => {
                Some("The directory holds logs whose streams and queries nothing names.".into())
            }
            CatalogError::Format { .. } => Some("Nothing was changed.".into()),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            CatalogError::Log(error) => error.hint(),
            CatalogError::Format { .. } => {
                Some("Start the version of the program that wrote it, or a newer one.".into())
            }
            CatalogError::Damaged { .. } | CatalogError::Missing => None,
        }
    }
}
