//! Holds WITH (…) of CREATE SINK as it was written, each option at most once, and reads its values.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::data::byte_size::parse_bytes;
use crate::sinks::option_error::OptionError;
use crate::sql::statement::{OptionItem, OptionValue};
use crate::time::parse_duration;

/// The options as they were written.
pub(crate) struct Given<'a>(BTreeMap<&'a str, &'a OptionValue>);

impl<'a> Given<'a> {
    /// Refuses options that are not known, or given twice.
    pub(crate) fn new(
        options: &'a [OptionItem],
        known: &[&'static str],
    ) -> Result<Given<'a>, OptionError> {
        let mut given = BTreeMap::new();
        for OptionItem { name, value } in options {
            if !known.contains(&name.as_str()) {
                let known = known.join(", ");
                return Err(OptionError::Unknown { name: name.clone(), known });
            }
            if given.insert(name.as_str(), value).is_some() {
                return Err(OptionError::Repeated(name.clone()));
            }
        }
        Ok(Given(given))
    }

    /// A text that is not empty.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<String>, OptionError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(OptionValue::Text(text)) if text.contains('\0') => {
                Err(bad(name, "It holds a NUL character."))
            }
            Some(OptionValue::Text(text)) if !text.trim().is_empty() => Ok(Some(text.clone())),
            Some(OptionValue::Text(_)) => Err(bad(name, "It is empty.")),
            Some(OptionValue::Number(_) | OptionValue::Boolean(_)) => {
                Err(bad(name, "It must be a text in quotes."))
            }
        }
    }

    /// A text that must be there.
    pub(crate) fn required(&self, name: &'static str) -> Result<String, OptionError> {
        self.text(name)?.ok_or(OptionError::Missing(name))
    }

    /// true or false; false if it is not given.
    pub(crate) fn boolean(&self, name: &'static str) -> Result<bool, OptionError> {
        match self.0.get(name) {
            None => Ok(false),
            Some(OptionValue::Boolean(value)) => Ok(*value),
            Some(OptionValue::Text(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(OptionValue::Text(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(OptionValue::Text(_) | OptionValue::Number(_)) => {
                Err(bad(name, "It is true or false."))
            }
        }
    }

    /// A number of things from 1 to `most`.
    pub(crate) fn count(
        &self,
        name: &'static str,
        default: usize,
        most: usize,
    ) -> Result<usize, OptionError> {
        let written = match self.0.get(name) {
            None => return Ok(default),
            Some(OptionValue::Text(text) | OptionValue::Number(text)) => text,
            Some(OptionValue::Boolean(_)) => "",
        };
        let number = written.trim().parse().ok().filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| bad(name, &format!("It is a whole number from 1 to {most}.")))
    }

    /// A size such as `'64 MB'`, in bytes.
    pub(crate) fn bytes(&self, name: &'static str, default: u64) -> Result<u64, OptionError> {
        let bytes = match self.0.get(name) {
            None => return Ok(default),
            Some(OptionValue::Text(text) | OptionValue::Number(text)) => parse_bytes(text),
            Some(OptionValue::Boolean(_)) => None,
        };
        bytes.ok_or_else(|| bad(name, "It is a size such as '64 MB'."))
    }

    /// A duration such as `'1 minute'`.
    pub(crate) fn duration(
        &self,
        name: &'static str,
        default: Duration,
    ) -> Result<Duration, OptionError> {
        if !self.0.contains_key(name) {
            return Ok(default);
        }
        let micros = self.text(name)?.and_then(|text| parse_duration(&text));
        let micros = micros.and_then(|micros| u64::try_from(micros).ok()).filter(|&m| m > 0);
        micros
            .map(Duration::from_micros)
            .ok_or_else(|| bad(name, "It is a duration such as '30 s' or '1 minute'."))
    }
}

/// The error of a value that an option cannot take.
pub(crate) fn bad(name: &'static str, detail: &str) -> OptionError {
    OptionError::Value { name, detail: detail.into() }
}
