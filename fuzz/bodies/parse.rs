//! Any text is statements or an error; what is printed reads back as the same statement.

use weir::error::Report;
use weir::sql::parse::{parse_prefix, parse_statement, split_complete};
use weir::sql::print::print;

/// Checks one input.
pub(crate) fn check(text: &str) {
    assert!(text.is_char_boundary(split_complete(text)));
    let (parsed, error) = parse_prefix(text);
    if let Some(position) = error.and_then(|error| error.position()) {
        assert!((1..=text.chars().count() + 1).contains(&position));
    }
    for one in parsed {
        assert!(text.get(one.text).is_some());
        let printed = print(&one.statement);
        match parse_statement(&printed) {
            Ok(again) => assert_eq!(again, one.statement, "{printed}"),
            Err(error) => panic!("{printed}: {error}"),
        }
    }
}
