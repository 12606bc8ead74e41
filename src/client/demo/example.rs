//! Reads the files of `queries/`: a question, the statements that answer it, and the known answer.
//!
//! ```text
//! -- How many requests came in each hour?         comment lines at the top: the question
//! CREATE STREAM …; CREATE CONTINUOUS QUERY …;     statements
//! \feed weblog queries/data/weblog.ndjson.gz      a recording goes into a stream
//! FLUSH; SELECT hour, hits FROM …;                the last statement gives the answer
//! -- Answer:
//! -- | hour | hits |                              and this is what it must be
//! ```

use crate::client::demo::answer::Answer;
use crate::error::{Error, Result, SqlState};

const ANSWER: &str = "-- Answer:";

/// A file of `queries/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The file's name without its end.
    pub name: String,
    /// The first paragraph of its comment, in one line.
    pub question: String,
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// What the last statement must answer.
    pub answer: Answer,
}

/// A part of an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Statements.
    Sql(String),
    /// Rows of a file into a stream.
    Feed {
        /// The stream.
        stream: String,
        /// The file, from the root of the project.
        file: String,
    },
}

impl Example {
    /// Reads a file's text.
    ///
    /// # Errors
    /// 42601 when it lacks a question, a statement or an answer.
    pub fn parse(name: &str, text: &str) -> Result<Example> {
        let (body, answer) = text.split_once(ANSWER).ok_or_else(|| lacks(name, ANSWER))?;
        let answer = Answer::from_markdown(answer);
        let comments = text.lines().map_while(|line| line.strip_prefix("--")).map(str::trim);
        let question: Vec<&str> = comments.take_while(|line| !line.is_empty()).collect();
        let mut steps = Vec::new();
        let mut sql = String::new();
        for line in body.lines() {
            let Some(command) = line.strip_prefix("\\feed ") else {
                sql.push_str(line);
                sql.push('\n');
                continue;
            };
            let mut words = command.split_whitespace();
            let (Some(stream), Some(file)) = (words.next(), words.next()) else {
                return Err(lacks(name, "a stream and a file behind \\feed"));
            };
            if !sql.trim().is_empty() {
                steps.push(Step::Sql(std::mem::take(&mut sql)));
            }
            sql.clear();
            steps.push(Step::Feed { stream: stream.to_string(), file: file.to_string() });
        }
        let is_code = |line: &str| !line.trim().is_empty() && !line.starts_with("--");
        if !sql.lines().any(is_code) {
            return Err(lacks(name, "a statement that answers the question"));
        }
        steps.push(Step::Sql(sql));
        if question.is_empty() || answer.columns.is_empty() {
            return Err(lacks(name, "a question and an answer"));
        }
        Ok(Example { name: name.to_string(), question: question.join(" "), steps, answer })
    }

    /// The statements before the first recording, and what comes after the last one.
    pub fn around_the_feed(&self) -> (Vec<&str>, Vec<&str>) {
        let is_feed = |step: &Step| matches!(step, Step::Feed { .. });
        let first = self.steps.iter().position(is_feed).unwrap_or(self.steps.len());
        let last = self.steps.iter().rposition(is_feed).unwrap_or(self.steps.len());
        (statements(&self.steps[..first]), statements(&self.steps[last..]))
    }
}

fn statements(steps: &[Step]) -> Vec<&str> {
    let texts = steps.iter().filter_map(|step| match step {
        Step::Sql(sql) => Some(sql.as_str()),
        Step::Feed { .. } => None,
    });
    texts.collect()
}

fn lacks(name: &str, what: &str) -> Error {
    Error::new(SqlState::SYNTAX, format!("example \"{name}\" lacks {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_its_question_its_steps_and_its_answer() {
        let text = "-- What\n-- is it?\n--\n-- More.\nCREATE STREAM s (a INT);\n\\feed s x.csv\n\
                    FLUSH;\nSELECT 1;\n\n-- Answer:\n-- | a |\n-- | 1 |\n";
        let example = Example::parse("x", text).unwrap();
        assert_eq!(example.question, "What is it?");
        let (before, after) = example.around_the_feed();
        assert_eq!((before.len(), after), (1, vec!["FLUSH;\nSELECT 1;\n\n"]));
        assert_eq!(example.steps[1], Step::Feed { stream: "s".into(), file: "x.csv".into() });
        assert_eq!(example.answer.rows, vec![vec!["1".to_string()]]);
    }

    #[test]
    fn a_file_without_an_answer_is_refused() {
        assert!(Example::parse("x", "-- What?\nSELECT 1;").is_err());
        assert!(Example::parse("x", "-- What?\n-- Answer:\n-- | a |").is_err());
    }
}
