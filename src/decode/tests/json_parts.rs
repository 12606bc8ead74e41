//! Parts of random documents and what they contain, beside a library that reads documents as trees.

use proptest::prelude::*;
use serde_json::Value;

use crate::decode::{Documents, Node, Step};

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]", Just("0".to_owned()), Just("é\"\\\n".to_owned()), Just(String::new())]
}

fn document() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..3).prop_map(Value::from),
        Just(Value::from(0.5)),
        name().prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn written(value: &Value, spread: bool) -> String {
    let text =
        if spread { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    text.expect("a tree has a text")
}

/// One step, as PostgreSQL takes it, in a tree.
fn stepped<'v>(value: &'v Value, step: &Step<'_>) -> Option<&'v Value> {
    match (value, step) {
        (Value::Object(members), Step::Member(name) | Step::Either(name)) => members.get(*name),
        (Value::Array(items), Step::Item(place)) => item(items, *place),
        (Value::Array(items), Step::Either(place)) => item(items, place.parse().ok()?),
        _ => None,
    }
}

fn item(items: &[Value], place: i64) -> Option<&Value> {
    let place = if place < 0 { place + items.len() as i64 } else { place };
    items.get(usize::try_from(place).ok()?)
}

fn contains(value: &Value, other: &Value, outermost: bool) -> bool {
    match (value, other) {
        (Value::Object(members), Value::Object(wanted)) => wanted.iter().all(|(name, wanted)| {
            members.get(name).is_some_and(|value| contains(value, wanted, false))
        }),
        (Value::Array(items), Value::Array(wanted)) => {
            wanted.iter().all(|wanted| items.iter().any(|item| contains(item, wanted, false)))
        }
        (Value::Array(items), scalar) if outermost && !scalar.is_object() => items.contains(scalar),
        _ => value == other,
    }
}

proptest! {
    #[test]
    fn a_part_is_that_of_the_tree(
        value in document(),
        spread in any::<bool>(),
        steps in prop::collection::vec((name(), -4_i64..4, 0..3), 0..4),
    ) {
        let steps: Vec<Step<'_>> = steps
            .iter()
            .map(|(name, place, kind)| match kind {
                0 => Step::Member(name),
                1 => Step::Item(*place),
                _ => Step::Either(name),
            })
            .collect();
        let text = written(&value, spread);
        let mut documents = Documents::default();
        let part = documents.part(&text, &steps).expect("the text is a document");
        let expected = steps.iter().try_fold(&value, stepped);
        let read = part.map(|part| serde_json::from_str::<Value>(part).expect("a part is a document"));
        prop_assert_eq!(read.as_ref(), expected);
        if let (Some(part), Some(expected)) = (part, expected) {
            let characters = match expected {
                Value::Null => None,
                Value::String(text) => Some(text.as_str()),
                _ => Some(part),
            };
            prop_assert_eq!(documents.text(part), Ok(characters));
        }
    }

    #[test]
    fn a_document_contains_what_its_tree_does(value in document(), other in document()) {
        let (text, other_text) = (written(&value, true), written(&other, false));
        let mut documents = Documents::default();
        let node = Node::read(&text, &mut documents).expect("the text is a document");
        let other_node = Node::read(&other_text, &mut documents).expect("so is the other");
        prop_assert_eq!(node.contains(&other_node), Some(contains(&value, &other, true)));
        prop_assert_eq!(node.contains(&node), Some(true));
    }
}
