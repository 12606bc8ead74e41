//! Reads the first line of a TCP ingest connection.

use crate::decode::Format;
use crate::error::{Error, Result, SqlState};

/// What the first line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// The stream.
    pub(crate) stream: String,
    /// How rows come.
    pub(crate) format: Format,
    /// The ack level as written.
    pub(crate) ack: Option<String>,
    /// The producer's id and its first sequence.
    pub(crate) producer: Option<(String, u64)>,
}

/// `INGEST clicks FORMAT ndjson|csv|text [HEADER] [ACK …] [PRODUCER id SEQUENCE n] [TOKEN t]`,
/// words in any case, options in any order.
pub(crate) fn parse(line: &str) -> Result<Header> {
    let words = words(line)?;
    let mut words = words.iter();
    let keyword = words.next().map(|word| word.to_ascii_uppercase());
    if keyword.as_deref() != Some("INGEST") {
        return Err(wrong("the first line does not start with INGEST".to_string()));
    }
    let stream = words.next().ok_or_else(|| wrong("the stream's name is missing".to_string()))?;
    let (mut format, mut header) = (None, false);
    let (mut ack, mut producer, mut sequence, mut token) = (None, None, None, None);
    while let Some(word) = words.next() {
        let word = word.to_ascii_uppercase();
        let mut value = |place: &mut Option<String>| {
            let value = words.next().ok_or_else(|| wrong(format!("{word} lacks its value")))?;
            if place.replace(value.clone()).is_some() {
                return Err(wrong(format!("{word} is there twice")));
            }
            Ok(())
        };
        match word.as_str() {
            "HEADER" => header = true,
            "FORMAT" => value(&mut format)?,
            "ACK" => value(&mut ack)?,
            "PRODUCER" => value(&mut producer)?,
            "SEQUENCE" => value(&mut sequence)?,
            "TOKEN" => value(&mut token)?,
            _ => return Err(wrong(format!("\"{word}\" is not an option"))),
        }
    }
    let producer = match (producer, sequence) {
        (None, None) => None,
        (Some(id), Some(sequence)) => Some((id, super::ingest::parse_sequence(&sequence)?)),
        _ => return Err(wrong("PRODUCER and SEQUENCE go together".to_string())),
    };
    let format = format_named(format.as_deref(), header)?;
    if token.is_some() {
        // To take a token without looking at it would promise a check that nobody makes.
        return Err(Error::new(SqlState::NOT_SUPPORTED, "TOKEN is not supported yet")
            .with_hint("Leave out TOKEN: the server has no credentials to check it against."));
    }
    Ok(Header { stream: stream.clone(), format, ack, producer })
}

fn format_named(name: Option<&str>, header: bool) -> Result<Format> {
    match (name.map(str::to_ascii_lowercase).as_deref(), header) {
        (Some("csv"), header) => Ok(Format::Csv { header }),
        (_, true) => Err(wrong("HEADER goes with FORMAT csv only".to_string())),
        (Some("ndjson"), false) => Ok(Format::NdJson),
        (Some("text"), false) => Ok(Format::Text),
        (Some(other), false) => Err(wrong(format!("\"{other}\" is not a format"))),
        (None, false) => Err(wrong("FORMAT is missing".to_string())),
    }
}

/// Words between blanks; a name in double quotes may hold blanks, and `""` for a quote.
fn words(line: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(&c) = chars.peek() {
        if c.is_whitespace() {
            chars.next();
            continue;
        }
        let mut word = String::new();
        if c == '"' {
            chars.next();
            loop {
                match chars.next() {
                    Some('"') if chars.peek() == Some(&'"') => {
                        chars.next();
                        word.push('"');
                    }
                    Some('"') => break,
                    Some(c) => word.push(c),
                    None => return Err(wrong("a quoted name does not end".to_string())),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                word.push(c);
            }
        }
        words.push(word);
    }
    Ok(words)
}

/// An error of the first line, with its form as the hint.
pub(crate) fn wrong(message: String) -> Error {
    Error::new(SqlState::PROTOCOL, message).with_hint(
        "Begin with INGEST stream FORMAT ndjson|csv|text [HEADER] [ACK durable|written|processed] \
         [PRODUCER id SEQUENCE n].",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: expect_test::Expect) {
        let text = match parse(line) {
            Ok(header) => format!("{header:?}"),
            Err(error) => error.message(),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn words_come_in_any_case_and_options_in_any_order() {
        check(
            "ingest \"my \"\"s\" ack written FORMAT CSV header Producer p SEQUENCE 7\r",
            expect_test::expect![[
                r#"Header { stream: "my \"s", format: Csv { header: true }, ack: Some("written"), producer: Some(("p", 7)) }"#
            ]],
        );
    }

    #[test]
    fn each_mistake_is_named() {
        check("GET / HTTP/1.1", expect_test::expect!["the first line does not start with INGEST"]);
        check("INGEST", expect_test::expect!["the stream's name is missing"]);
        check("INGEST s", expect_test::expect!["FORMAT is missing"]);
        check("INGEST s FORMAT", expect_test::expect!["FORMAT lacks its value"]);
        check("INGEST s FORMAT xml", expect_test::expect![[r#""xml" is not a format"#]]);
        check(
            "INGEST s FORMAT text HEADER",
            expect_test::expect!["HEADER goes with FORMAT csv only"],
        );
        check("INGEST s FORMAT csv FORMAT csv", expect_test::expect!["FORMAT is there twice"]);
        check(
            "INGEST s FORMAT csv PRODUCER p",
            expect_test::expect!["PRODUCER and SEQUENCE go together"],
        );
        check("INGEST \"s", expect_test::expect!["a quoted name does not end"]);
        check("INGEST s FORMAT csv TOKEN t", expect_test::expect!["TOKEN is not supported yet"]);
        check("INGEST s FORMAT csv LOUD", expect_test::expect![[r#""LOUD" is not an option"#]]);
    }
}
