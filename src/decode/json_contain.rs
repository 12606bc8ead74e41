//! Tells whether one JSON document contains another, and which names it has, as `@>` and `?` of PostgreSQL's
//! jsonb do.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::builders::Scratch;
use super::error::Fault;
use super::json_access::{Documents, JsonType, LEVELS};
use super::json_reader::Reader;

/// How many values of two documents are laid beside each other before it is given up: arrays of arrays
/// could make that the product of their lengths.
const COMPARISONS_MAX: usize = 10_000_000;

/// A value that can be compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node<'t> {
    Null,
    Boolean(bool),
    Number(Number<'t>),
    String(Cow<'t, str>),
    /// Its scalars, and beside them what is nested in it.
    Array(BTreeSet<Node<'t>>, Vec<Node<'t>>),
    Object(BTreeMap<Cow<'t, str>, Node<'t>>),
}

/// A number in the form that all of its spellings share: 1.0, 10e-1 and 1 are one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number<'t> {
    negative: bool,
    /// Without zeros at either end; empty for 0.
    digits: Cow<'t, str>,
    /// The power of ten by which the digits, as an integer, are multiplied.
    exponent: i64,
}

impl<'t> Number<'t> {
    fn read(text: &'t str) -> Number<'t> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let sign = if exponent.starts_with('-') { i64::MIN } else { i64::MAX };
        let exponent = exponent.parse().unwrap_or(sign);
        let all: Cow<'t, str> =
            if fraction.is_empty() { whole.into() } else { format!("{whole}{fraction}").into() };
        let significant = all.trim_end_matches('0');
        let zeros = all.len() - significant.len();
        let digits = significant.trim_start_matches('0');
        if digits.is_empty() {
            return Number { negative: false, digits: "".into(), exponent: 0 };
        }
        let exponent = exponent.saturating_add(zeros as i64).saturating_sub(fraction.len() as i64);
        let digits = match all {
            Cow::Borrowed(all) => all.trim_end_matches('0').trim_start_matches('0').into(),
            Cow::Owned(_) => digits.to_owned().into(),
        };
        Number { negative, digits, exponent }
    }
}

impl<'t> Node<'t> {
    /// Of a whole text.
    pub(crate) fn read(text: &'t str, documents: &mut Documents) -> Result<Node<'t>, Fault> {
        let value = documents.value(text)?;
        let mut scratch = Scratch::default();
        node(&mut Reader::new(value, 0, LEVELS), value, &mut scratch)
    }

    /// `self @> other`: every member and item of the other is in this one, at the same depth. An array
    /// contains a scalar, too, but not below another array or object. `None` where it takes too long to tell.
    pub(crate) fn contains(&self, other: &Node<'_>) -> Option<bool> {
        let mut comparisons = COMPARISONS_MAX;
        match (self, other) {
            (Node::Array(scalars, _), scalar) if scalar.is_scalar() => {
                Some(scalars.contains(scalar))
            }
            _ => self.contains_at_depth(other, &mut comparisons),
        }
    }

    /// `self ? name`: a member of an object, or a string of an array, or the string itself.
    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Node::Object(members) => members.contains_key(name),
            Node::Array(scalars, _) => scalars.contains(&Node::String(name.into())),
            Node::String(string) => string == name,
            _ => false,
        }
    }

    fn is_scalar(&self) -> bool {
        !matches!(self, Node::Array(..) | Node::Object(_))
    }

    fn contains_at_depth(&self, other: &Node<'_>, comparisons: &mut usize) -> Option<bool> {
        *comparisons = comparisons.checked_sub(1)?;
        match (self, other) {
            (Node::Object(members), Node::Object(wanted)) => {
                for (name, wanted) in wanted {
                    let Some(value) = members.get(name) else { return Some(false) };
                    if !value.contains_at_depth(wanted, comparisons)? {
                        return Some(false);
                    }
                }
                Some(true)
            }
            (Node::Array(scalars, nested), Node::Array(wanted, wanted_nested)) => {
                if !wanted.iter().all(|scalar| scalars.contains(scalar)) {
                    return Some(false);
                }
                for wanted in wanted_nested {
                    let mut found = false;
                    for value in nested {
                        found = value.contains_at_depth(wanted, comparisons)?;
                        if found {
                            break;
                        }
                    }
                    if !found {
                        return Some(false);
                    }
                }
                Some(true)
            }
            _ => Some(self == other),
        }
    }
}

/// Of the value at the cursor, which has been checked.
fn node<'t>(
    reader: &mut Reader<'t>,
    text: &'t str,
    scratch: &mut Scratch,
) -> Result<Node<'t>, Fault> {
    match reader.peek() {
        Some(b'{') => {
            let mut members = BTreeMap::new();
            reader.members(scratch, |reader, name, scratch| {
                let name = owned(reader.chars(&name, scratch));
                members.insert(name, node(reader, text, scratch)?);
                Ok(())
            })?;
            Ok(Node::Object(members))
        }
        Some(b'[') => {
            let (mut scalars, mut nested) = (BTreeSet::new(), Vec::new());
            reader.items(scratch, |reader, scratch| {
                let item = node(reader, text, scratch)?;
                if item.is_scalar() {
                    scalars.insert(item);
                } else {
                    nested.push(item);
                }
                Ok(())
            })?;
            Ok(Node::Array(scalars, nested))
        }
        Some(b'"') => {
            let string = reader.string(scratch)?;
            Ok(Node::String(owned(reader.chars(&string, scratch))))
        }
        _ => {
            let start = reader.at;
            reader.skip(scratch)?;
            let scalar = &text[start..reader.at];
            Ok(match JsonType::of(scalar) {
                JsonType::Null => Node::Null,
                JsonType::Boolean => Node::Boolean(scalar == "true"),
                _ => Node::Number(Number::read(scalar)),
            })
        }
    }
}

fn owned<'t>(text: &str) -> Cow<'t, str> {
    Cow::Owned(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(document: &str, other: &str) -> bool {
        let mut documents = Documents::default();
        let mut read = |text| Node::read(text, &mut documents);
        let (document, other) = (read(document), read(other));
        let other = other.expect("the text is a document");
        document.expect("the text is a document").contains(&other).expect("both are small")
    }

    /// The examples of PostgreSQL's documentation ("jsonb Containment and Existence"), and numbers.
    #[test]
    fn containment_is_that_of_jsonb() {
        for (document, other) in [
            (r#""foo""#, r#""foo""#),
            ("[1, 2, 3]", "[1, 3]"),
            ("[1, 2, 3]", "[3, 1]"),
            ("[1, 2, 3]", "[1, 2, 2]"),
            (r#"{"product": "PostgreSQL", "version": 9.4, "jsonb": true}"#, r#"{"version": 9.4}"#),
            (r#"{"foo": {"bar": "baz"}}"#, r#"{"foo": {}}"#),
            ("[1, 2, [1, 3]]", "[[1, 3]]"),
            (r#"["foo", "bar"]"#, r#""bar""#),
            ("[1.0, 10e-1, 100]", "[1, 1e2]"),
            (r#"{"a": [-0.50]}"#, r#"{"a": [-5E-1]}"#),
            ("[]", "[]"),
            (r#"{"a":1,"a":2}"#, r#"{"\u0061":2}"#),
            ("0.0", "-0e5"),
        ] {
            assert!(contains(document, other), "{document} @> {other}");
        }
        for (document, other) in [
            ("[1, 2, [1, 3]]", "[1, 3]"),
            (r#"{"foo": {"bar": "baz"}}"#, r#"{"bar": "baz"}"#),
            (r#""bar""#, r#"["bar"]"#),
            (r#"{"a": ["x"]}"#, r#"{"a": "x"}"#),
            (r#"[["x"]]"#, r#"["x"]"#),
            ("1", r#""1""#),
            ("1", "-1"),
            ("10", "1"),
            (r#"{"a":1,"a":2}"#, r#"{"a":1}"#),
            ("[]", "{}"),
            ("null", "false"),
        ] {
            assert!(!contains(document, other), "{document} @> {other}");
        }
    }

    #[test]
    fn names_are_those_of_members_and_strings_of_arrays() {
        let mut documents = Documents::default();
        let mut has = |text, name| Node::read(text, &mut documents).expect("it is one").has(name);
        assert!(has(r#"{"a": {"b": 1}}"#, "a"));
        assert!(!has(r#"{"a": {"b": 1}}"#, "b"));
        assert!(has(r#"["a", 1]"#, "a"));
        assert!(!has(r#"["a", 1]"#, "1"));
        assert!(has(r#""a""#, "a"));
        assert!(!has("1", "1"));
    }

    #[test]
    fn a_comparison_that_would_not_end_is_given_up() {
        let array = |items: &str| format!("[{}[1]]", format!("{items},").repeat(20_000));
        let (document, other) = (array("[0]"), array("[1]"));
        let mut documents = Documents::default();
        let document = Node::read(&document, &mut documents).expect("it is a document");
        let other = Node::read(&other, &mut documents).expect("it is a document");
        assert_eq!(document.contains(&other), None);
    }
}
