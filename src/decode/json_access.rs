//! Takes parts out of JSON documents: members of objects, items of arrays, their texts.
//!
//! A part is a slice of its document, as it stands there; of members with one name the last counts, as in
//! PostgreSQL. What is stepped over is checked on the way, so a text that is no document is noticed
//! whatever is asked of it.

use std::ops::Range;

use super::builders::Scratch;
use super::error::Fault;
use super::json_reader::{Reader, Str};

/// How deep a document may nest.
pub(crate) const LEVELS: usize = 64;

/// One step from a value to a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'s> {
    /// The member of an object.
    Member(&'s str),
    /// The item of an array, from 0; from −1 backwards from its end.
    Item(i64),
    /// A member or an item, whichever the value has: an element of a path.
    Either(&'s str),
}

/// What kind of value a document is; named as `json_typeof` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonType {
    Object,
    Array,
    String,
    Number,
    Boolean,
    Null,
}

impl JsonType {
    /// Of a document that is known to be one.
    pub(crate) fn of(document: &str) -> JsonType {
        match document.trim_ascii_start().as_bytes().first() {
            Some(b'{') => JsonType::Object,
            Some(b'[') => JsonType::Array,
            Some(b'"') => JsonType::String,
            Some(b't' | b'f') => JsonType::Boolean,
            Some(b'n') => JsonType::Null,
            _ => JsonType::Number,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            JsonType::Object => "object",
            JsonType::Array => "array",
            JsonType::String => "string",
            JsonType::Number => "number",
            JsonType::Boolean => "boolean",
            JsonType::Null => "null",
        }
    }
}

/// Reads documents one after the other, and keeps what it needs for that.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    scratch: Scratch,
}

impl Documents {
    /// Checks a whole text; what is between its blanks is the value.
    pub(crate) fn value<'t>(&mut self, text: &'t str) -> Result<&'t str, Fault> {
        let range = self.whole(text, |reader, scratch| reader.skip(scratch))?;
        Ok(&text[range])
    }

    /// The part of a document behind all steps; `None` where there is none.
    pub(crate) fn part<'t>(
        &mut self,
        text: &'t str,
        steps: &[Step<'_>],
    ) -> Result<Option<&'t str>, Fault> {
        let [first, rest @ ..] = steps else { return self.value(text).map(Some) };
        let mut found = self.step(text, *first)?;
        for step in rest {
            let Some(value) = found else { return Ok(None) };
            found = self.step(value, *step)?;
        }
        Ok(found)
    }

    /// A part as text: the characters of a string, anything else as it stands; `None` of null.
    pub(crate) fn text<'t>(&'t mut self, part: &'t str) -> Result<Option<&'t str>, Fault> {
        match JsonType::of(part) {
            JsonType::Null => Ok(None),
            JsonType::String => {
                self.scratch.clear();
                let mut reader = Reader::new(part, 0, LEVELS);
                let string = reader.string(&mut self.scratch)?;
                Ok(Some(reader.chars(&string, &self.scratch)))
            }
            _ => Ok(Some(part)),
        }
    }

    /// Visits the items of an array; whether the document is one.
    pub(crate) fn items<'t>(
        &mut self,
        text: &'t str,
        mut visit: impl FnMut(&'t str),
    ) -> Result<bool, Fault> {
        let mut is_array = false;
        self.whole(text, |reader, scratch| {
            if reader.peek() != Some(b'[') {
                return reader.skip(scratch);
            }
            is_array = true;
            reader.items(scratch, |reader, scratch| {
                let start = reader.at;
                reader.skip(scratch)?;
                visit(&text[start..reader.at]);
                Ok(())
            })
        })?;
        Ok(is_array)
    }

    /// Visits the names and values of an object's members; whether the document is one.
    pub(crate) fn members<'t>(
        &mut self,
        text: &'t str,
        mut visit: impl FnMut(&str, &'t str),
    ) -> Result<bool, Fault> {
        let mut is_object = false;
        self.whole(text, |reader, scratch| {
            if reader.peek() != Some(b'{') {
                return reader.skip(scratch);
            }
            is_object = true;
            reader.members(scratch, |reader, name, scratch| {
                let start = reader.at;
                reader.skip(scratch)?;
                visit(reader.chars(&name, scratch), &text[start..reader.at]);
                forget(&name, scratch);
                Ok(())
            })
        })?;
        Ok(is_object)
    }

    fn step<'t>(&mut self, text: &'t str, step: Step<'_>) -> Result<Option<&'t str>, Fault> {
        let of_object = |name: &str, documents: &mut Documents| {
            let mut found = None;
            let is_object = documents.members(text, |other, value| {
                if other == name {
                    found = Some(value);
                }
            });
            is_object.map(|is_object| (is_object, found))
        };
        match step {
            Step::Member(name) => of_object(name, self).map(|(_, found)| found),
            Step::Item(index) => self.item(text, index),
            Step::Either(name) => {
                let (is_object, found) = of_object(name, self)?;
                match name.trim().parse() {
                    Ok(index) if !is_object => self.item(text, index),
                    _ => Ok(found),
                }
            }
        }
    }

    fn item<'t>(&mut self, text: &'t str, index: i64) -> Result<Option<&'t str>, Fault> {
        let index = match u64::try_from(index) {
            Ok(index) => Some(index),
            Err(_) => {
                let mut count: u64 = 0;
                self.items(text, |_| count += 1)?;
                count.checked_sub(index.unsigned_abs())
            }
        };
        let (mut at, mut found) = (0, None);
        self.items(text, |item| {
            if Some(at) == index {
                found = Some(item);
            }
            at += 1;
        })?;
        Ok(found)
    }

    /// Where the value of a text is, which `read` steps over: there is one, and nothing beside it.
    fn whole(
        &mut self,
        text: &str,
        read: impl FnOnce(&mut Reader<'_>, &mut Scratch) -> Result<(), Fault>,
    ) -> Result<Range<usize>, Fault> {
        self.scratch.clear();
        let mut reader = Reader::new(text, 0, LEVELS);
        reader.skip_blanks();
        let start = reader.at;
        read(&mut reader, &mut self.scratch)?;
        let end = reader.at;
        reader.skip_blanks();
        if reader.is_at_end() {
            Ok(start..end)
        } else {
            Err(reader.fault("the end of the document"))
        }
    }
}

/// Gives up the characters of an unescaped string; nothing came behind them.
fn forget(string: &Str, scratch: &mut Scratch) {
    if let Str::Unescaped(start, _) = string {
        scratch.text.truncate(*start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part<'t>(text: &'t str, steps: &[Step<'_>]) -> Option<&'t str> {
        Documents::default().part(text, steps).expect("the text is a document")
    }

    #[test]
    fn a_part_is_a_slice_of_its_document() {
        use Step::{Either, Item, Member};
        let text = r#" {"a" : {"b":[1, 2.50 ,"x\ny"]}, "\u0061b": null, "n":{}} "#;
        assert_eq!(part(text, &[]), Some(text.trim()));
        assert_eq!(part(text, &[Member("a")]), Some(r#"{"b":[1, 2.50 ,"x\ny"]}"#));
        assert_eq!(part(text, &[Member("a"), Member("b"), Item(1)]), Some("2.50"));
        assert_eq!(part(text, &[Either("a"), Either("b"), Either("-1")]), Some(r#""x\ny""#));
        assert_eq!(part(text, &[Member("ab")]), Some("null"));
        assert_eq!(part(text, &[Member("missing"), Member("b")]), None);
        assert_eq!(part(text, &[Item(0)]), None);
        assert_eq!(part("[1,2]", &[Member("0")]), None);
        assert_eq!(part("[1,2]", &[Item(-2)]), Some("1"));
        assert_eq!(part("[1,2]", &[Item(-3)]), None);
        assert_eq!(part("[1,2]", &[Item(i64::MIN)]), None);
        assert_eq!(part("[]", &[Item(0)]), None);
        assert_eq!(part("7", &[Either("0")]), None);
    }

    #[test]
    fn the_last_member_of_a_name_counts() {
        assert_eq!(part(r#"{"a":1,"a":{"a":2}}"#, &[Step::Member("a")]), Some(r#"{"a":2}"#));
    }

    #[test]
    fn texts_are_unescaped_and_null_is_none() {
        let mut documents = Documents::default();
        assert_eq!(documents.text(r#""a\"\u00e9\n""#), Ok(Some("a\"é\n")));
        assert_eq!(documents.text("1.50"), Ok(Some("1.50")));
        assert_eq!(documents.text("null"), Ok(None));
        assert_eq!(documents.text("[null]"), Ok(Some("[null]")));
    }

    #[test]
    fn what_is_no_document_is_an_error_wherever_it_ends() {
        let mut documents = Documents::default();
        let deep = "[".repeat(LEVELS + 1) + &"]".repeat(LEVELS + 1);
        for text in ["", " ", "{", r#"{"a"}"#, "1 2", "[1,]", "nul", "'a'", "{a:1}", deep.as_str()]
        {
            assert!(documents.value(text).is_err(), "{text}");
            assert!(documents.part(text, &[Step::Member("a")]).is_err(), "{text}");
            assert!(documents.part(text, &[Step::Item(0)]).is_err(), "{text}");
        }
        let deepest = "[".repeat(LEVELS) + &"]".repeat(LEVELS);
        assert_eq!(documents.value(&deepest), Ok(deepest.as_str()));
    }
}
