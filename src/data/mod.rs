//! The nouns that every layer shares: columns and their types, changes, punctuations.

pub mod byte_size;
pub mod change;
pub mod punctuation;
pub mod schema;
pub mod sql_words;
