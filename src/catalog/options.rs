//! Reads `WITH (name = value, …)`: each option once, with the right form, and none unknown.

use crate::data::byte_size::parse_bytes;
use crate::error::{Report, SqlState};
use crate::sql::statement::{OptionItem, OptionValue};
use crate::time::parse_duration;

/// What is wrong with an option.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    /// No such option.
    #[error("option \"{name}\" is not known")]
    Unknown {
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The option is given twice.
    #[error("option \"{0}\" is given twice")]
    Twice(String),
    /// The value has the wrong form.
    #[error("value of option \"{name}\" must be {wanted}")]
    Value {
        /// The option.
        name: String,
        /// What would do.
        wanted: String,
    },
}

impl Report for OptionError {
    fn code(&self) -> SqlState {
        SqlState::INVALID_PARAMETER
    }
    fn hint(&self) -> Option<String> {
        match self {
            OptionError::Unknown { known, .. } if known.is_empty() => {
                Some("There are no options here: leave WITH out.".into())
            }
            OptionError::Unknown { known, .. } => Some(format!("Options are: {known}.")),
            OptionError::Twice(_) | OptionError::Value { .. } => None,
        }
    }
}

/// The options of one statement, taken out one by one.
pub struct Options<'a> {
    items: &'a [OptionItem],
    known: &'static [&'static str],
}

impl<'a> Options<'a> {
    /// Checks that every option is known and given once.
    pub fn new(
        items: &'a [OptionItem],
        known: &'static [&'static str],
    ) -> Result<Options<'a>, OptionError> {
        for (index, item) in items.iter().enumerate() {
            if !known.contains(&item.name.as_str()) {
                let name = item.name.clone();
                return Err(OptionError::Unknown { name, known: known.join(", ") });
            }
            if items[..index].iter().any(|other| other.name == item.name) {
                return Err(OptionError::Twice(item.name.clone()));
            }
        }
        Ok(Options { items, known })
    }

    fn get(&self, name: &str) -> Option<&'a OptionValue> {
        debug_assert!(self.known.contains(&name));
        self.items.iter().find(|item| item.name == name).map(|item| &item.value)
    }

    /// One of a few words; the first is the default.
    pub fn choice(
        &self,
        name: &str,
        choices: &[&'static str],
    ) -> Result<&'static str, OptionError> {
        let Some(value) = self.get(name) else { return Ok(choices[0]) };
        let OptionValue::Text(text) = value else { return Err(bad(name, &choices.join(" or "))) };
        let found = choices.iter().find(|choice| choice.eq_ignore_ascii_case(text));
        found.copied().ok_or_else(|| bad(name, &choices.join(" or ")))
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<Option<String>, OptionError> {
        match self.get(name) {
            None => Ok(None),
            Some(OptionValue::Text(text)) => Ok(Some(text.clone())),
            Some(OptionValue::Number(number)) => Ok(Some(number.clone())),
            Some(OptionValue::Boolean(_)) => Err(bad(name, "a text")),
        }
    }

    /// true or false.
    pub fn flag(&self, name: &str) -> Result<bool, OptionError> {
        match self.get(name) {
            None => Ok(false),
            Some(OptionValue::Boolean(flag)) => Ok(*flag),
            Some(OptionValue::Text(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(OptionValue::Text(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(bad(name, "true or false")),
        }
    }

    /// A duration such as `'7 days'` in microseconds.
    pub fn duration(&self, name: &str) -> Result<Option<i64>, OptionError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match parse_duration(&text) {
            Some(micros) if micros > 0 => Ok(Some(micros)),
            _ => Err(bad(name, "a duration such as '30 s' or '7 days'")),
        }
    }

    /// A size such as `'10 GB'` in bytes.
    pub fn bytes(&self, name: &str) -> Result<Option<u64>, OptionError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        parse_bytes(&text).map(Some).ok_or_else(|| bad(name, "a size such as '256 MB' or '10 GB'"))
    }
}

fn bad(name: &str, wanted: &str) -> OptionError {
    OptionError::Value { name: name.into(), wanted: wanted.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_option_is_named() {
        let item = OptionItem { name: "retenton".into(), value: OptionValue::Text("1 day".into()) };
        let error = Options::new(std::slice::from_ref(&item), &["retention"]).err().unwrap();
        assert_eq!(error.to_string(), "option \"retenton\" is not known");
        assert_eq!(error.code(), SqlState::INVALID_PARAMETER);
    }
}
