//! Says in SQL's words what libraries say in Arrow's: the names of types inside messages.

use arrow::datatypes::DataType;

/// Arrow's names of types without arguments, and SQL's.
const WORDS: [(&str, &str); 26] = [
    ("Utf8View", "TEXT"),
    ("LargeUtf8", "TEXT"),
    ("Utf8", "TEXT"),
    ("Boolean", "BOOLEAN"),
    ("Int8", "SMALLINT"),
    ("Int16", "SMALLINT"),
    ("Int32", "INT"),
    ("Int64", "BIGINT"),
    ("UInt8", "SMALLINT"),
    ("UInt16", "INT"),
    ("UInt32", "BIGINT"),
    ("UInt64", "NUMERIC(20,0)"),
    ("Float16", "REAL"),
    ("Float32", "REAL"),
    ("Float64", "DOUBLE"),
    ("Date32", "DATE"),
    ("Date64", "DATE"),
    ("Binary", "BYTEA"),
    ("LargeBinary", "BYTEA"),
    ("BinaryView", "BYTEA"),
    ("Decimal128", "NUMERIC"),
    ("Decimal256", "NUMERIC"),
    ("Timestamp", "TIMESTAMP"),
    ("Interval", "INTERVAL"),
    ("Duration", "INTERVAL"),
    ("Null", "NULL"),
];

/// What to say where DataFusion says that no function takes such arguments; `None` for another text.
pub fn undefined_function(text: &str) -> Option<String> {
    let between = |before: &str, after: &str| {
        let rest = &text[text.find(before)? + before.len()..];
        Some(&rest[..rest.find(after)?])
    };
    match between("argument types '", "'") {
        Some(call) => {
            Some(format!("function {} does not exist", in_sql_words(call).to_lowercase()))
        }
        None => {
            let name = between("Function '", "' failed to match any signature")?;
            Some(format!("function \"{name}\" does not take such arguments"))
        }
    }
}

/// What to say of a pattern that is no regular expression; `None` for another text.
pub fn invalid_regex(text: &str) -> Option<String> {
    if let Some((_, rest)) = text.split_once("regex parse error") {
        let reason = rest.lines().find_map(|line| line.trim().strip_prefix("error: "));
        return Some(match reason {
            Some(reason) => format!("invalid regular expression: {reason}"),
            None => "invalid regular expression".to_owned(),
        });
    }
    let start = text.find("invalid regular expression")?;
    Some(text[start..].lines().next().unwrap_or_default().to_owned())
}

/// Brings a foreign message under the message law: no prefix, lower case, one line, no full stop.
pub fn tidy_message(text: &str) -> String {
    let text = in_sql_words(text);
    let mut line = text.lines().next().unwrap_or_default().trim();
    for prefix in [
        "Error during planning: ",
        "Execution error: ",
        "Arrow error: ",
        "Optimizer rule ",
        "External error: ",
        "Schema error: ",
        "This feature is not implemented: ",
        "Internal error: ",
    ] {
        line = line.strip_prefix(prefix).unwrap_or(line);
    }
    lower_first(line.trim_end_matches('.'))
}

/// A message that starts in lower case, unless with a word in capitals.
pub fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(first), second) if !second.is_some_and(char::is_uppercase) => {
            first.to_lowercase().chain(text[first.len_utf8()..].chars()).collect()
        }
        _ => text.to_owned(),
    }
}

/// A type as SQL names it: `bigint`, `text[]`.
pub fn type_in_sql_words(data_type: &DataType) -> String {
    in_sql_words(&data_type.to_string()).to_lowercase()
}

/// The message with every name of a type in SQL's words. What stands in double quotes is a name of
/// the user's, and stays.
pub fn in_sql_words(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            let end = rest[1..].find('"').map_or(rest.len(), |end| end + 2);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        } else if first.is_alphanumeric() || first == '_' {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            rest = translate(word, behind, &mut out);
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// Writes a word in SQL's, with its arguments where it has some; what stands behind comes back.
fn translate<'a>(word: &str, behind: &'a str, out: &mut String) -> &'a str {
    let Some((_, sql)) = WORDS.iter().find(|(arrow, _)| *arrow == word) else {
        out.push_str(word);
        return behind;
    };
    let arguments = behind.strip_prefix('(').and_then(|rest| rest.split_once(')'));
    out.push_str(sql);
    match (word, arguments) {
        ("Timestamp", Some((arguments, rest))) => {
            let has_zone = arguments.contains('"') || arguments.contains("Some");
            out.push_str(if has_zone { "TZ" } else { "" });
            rest
        }
        ("Interval" | "Duration", Some((_, rest))) => rest,
        ("Decimal128" | "Decimal256", Some((arguments, rest))) => {
            out.push_str(&format!("({})", arguments.replace(", ", ",")));
            rest
        }
        _ => behind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, expected: &str) {
        assert_eq!(in_sql_words(message), expected);
    }

    #[test]
    fn types_have_the_names_that_a_user_writes() {
        check("value of Int32 type", "value of INT type");
        check("sum(Utf8View, Decimal128(10, 2))", "sum(TEXT, NUMERIC(10,2))");
        check("Timestamp(µs, \"UTC\") to Timestamp(ns)", "TIMESTAMPTZ to TIMESTAMP");
        check("Interval(MonthDayNano)", "INTERVAL");
    }

    #[test]
    fn a_function_that_does_not_exist_is_named_with_its_arguments() {
        let text = "No function matches the given name and argument types 'sum(Utf8View)'. You …";
        assert_eq!(undefined_function(text).as_deref(), Some("function sum(text) does not exist"));
        let text = "Internal error: Function 'sum' failed to match any signature, errors: …";
        let expected = "function \"sum\" does not take such arguments";
        assert_eq!(undefined_function(text).as_deref(), Some(expected));
        assert_eq!(undefined_function("divide by zero"), None);
    }

    #[test]
    fn names_of_users_stay() {
        check("column \"Int64\" of Int64x is Int64", "column \"Int64\" of Int64x is BIGINT");
        check("a \"quote that never ends Int64", "a \"quote that never ends Int64");
    }
}
