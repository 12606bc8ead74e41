//! The nouns that every layer shares: columns and their types, changes, punctuations.

pub mod byte_size;
pub mod bytes_text;
pub mod change;
pub mod floats;
pub mod interval_text;
pub mod punctuation;
pub mod schema;
pub mod sql_words;
