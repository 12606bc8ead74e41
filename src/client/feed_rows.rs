//! Reads files of NDJSON or CSV, also compressed, as chunks of whole rows with their event times.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use serde_json::Value;

use crate::decode::parse_timestamp;

/// A chunk ends with the row that reaches this size.
const CHUNK_BYTES: usize = 1 << 20;
/// A longer row is a file of something else.
const ROW_BYTES_MAX: u64 = 32 << 20;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One JSON object a line.
    NdJson,
    /// CSV whose first line names the columns.
    Csv,
}

impl Kind {
    /// The content type of a request with such rows.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Kind::NdJson => "application/x-ndjson",
            Kind::Csv => "text/csv",
        }
    }
}

/// The column that holds event times, and how much event time one chunk may span.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    pub(super) column: String,
    /// In microseconds.
    pub(super) span: i64,
}

/// Some whole rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    /// What is sent; of CSV the header comes first again.
    pub(super) bytes: Vec<u8>,
    /// The line of the file that the first line of `bytes` after a header came from.
    pub(super) first_line: u64,
    /// Lines of `bytes` that are a repeated header.
    pub(super) header_lines: u64,
    /// The greatest event time up to the first row, in microseconds; `None` without a pace.
    pub(super) time: Option<i64>,
}

impl Chunk {
    /// The line of the file that is the `line`th of the request.
    pub(super) fn line_of_file(&self, line: u64) -> u64 {
        (self.first_line + line).saturating_sub(self.header_lines + 1).max(1)
    }
}

/// One row as it stands in the file.
struct Row {
    bytes: Vec<u8>,
    line: u64,
    time: Option<i64>,
}

/// The chunks of a file.
pub(super) struct FeedRows {
    input: Box<dyn BufRead + Send>,
    kind: Kind,
    header: Vec<u8>,
    header_lines: u64,
    /// Where the event time is among the fields of CSV.
    field: usize,
    pace: Option<Pace>,
    /// The line that is read next, from 1.
    line: u64,
    /// The row that begins the next chunk.
    held: Option<Row>,
    latest: Option<i64>,
}

impl FeedRows {
    /// Opens a file; its name or its first byte says what it holds.
    pub(super) fn open(path: &str, pace: Option<Pace>) -> Result<FeedRows, String> {
        let cannot = |error: io::Error| format!("could not read \"{path}\": {error}");
        let file =
            File::open(path).map_err(|error| format!("could not open \"{path}\": {error}"))?;
        let mut file = BufReader::new(file);
        let is_compressed = file.fill_buf().map_err(cannot)?.starts_with(&[0x1f, 0x8b]);
        let input: Box<dyn BufRead + Send> = if is_compressed {
            Box::new(BufReader::new(MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        };
        FeedRows::new(input, kind_by_name(path), pace)
    }

    fn new(
        mut input: Box<dyn BufRead + Send>,
        kind: Option<Kind>,
        pace: Option<Pace>,
    ) -> Result<FeedRows, String> {
        let start = input.fill_buf().map_err(|error| unreadable(1, &error))?;
        // A byte order mark is no part of the first row.
        let mark = if start.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        let first = start[mark..].iter().find(|byte| !byte.is_ascii_whitespace());
        let kind = kind.unwrap_or(if first == Some(&b'{') { Kind::NdJson } else { Kind::Csv });
        input.consume(mark);
        let mut rows = FeedRows {
            input,
            kind,
            header: Vec::new(),
            header_lines: 0,
            field: 0,
            pace,
            line: 1,
            held: None,
            latest: None,
        };
        if kind == Kind::Csv {
            rows.read_header()?;
        }
        Ok(rows)
    }

    /// How the rows are written.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    fn read_header(&mut self) -> Result<(), String> {
        let Some(mut header) = self.record()? else { return Ok(()) };
        self.header_lines = self.line - 1;
        if let Some(pace) = &self.pace {
            let names = csv_fields(&header);
            let is_it = |name: &String| name.eq_ignore_ascii_case(&pace.column);
            self.field = names
                .iter()
                .position(is_it)
                .ok_or_else(|| format!("the file's header names no column \"{}\"", pace.column))?;
        }
        if !header.ends_with(b"\n") {
            header.push(b'\n');
        }
        self.header = header;
        Ok(())
    }

    /// The next chunk; `None` at the end of the file.
    pub(super) fn next_chunk(&mut self) -> Result<Option<Chunk>, String> {
        let Some(first) = self.next_row()? else { return Ok(None) };
        let mut bytes = self.header.clone();
        bytes.extend_from_slice(&first.bytes);
        let span = self.pace.as_ref().map_or(i64::MAX, |pace| pace.span);
        let until = first.time.map_or(i64::MAX, |time| time.saturating_add(span));
        while bytes.len() < CHUNK_BYTES {
            let Some(row) = self.next_row()? else { break };
            if row.time.is_some_and(|time| time > until) {
                self.held = Some(row);
                break;
            }
            if !bytes.ends_with(b"\n") {
                bytes.push(b'\n');
            }
            bytes.extend_from_slice(&row.bytes);
        }
        Ok(Some(Chunk {
            bytes,
            first_line: first.line,
            header_lines: self.header_lines,
            time: first.time,
        }))
    }

    /// The held row or the next one of the file. Blank lines stay, so that lines can be counted.
    fn next_row(&mut self) -> Result<Option<Row>, String> {
        if let Some(row) = self.held.take() {
            return Ok(Some(row));
        }
        let line = self.line;
        let Some(bytes) = self.record()? else { return Ok(None) };
        if self.pace.is_some() {
            // A row without a time goes with those before it; the server says what is wrong with it.
            self.latest = self.latest.max(self.time_of(&bytes));
        }
        Ok(Some(Row { bytes, line, time: self.latest }))
    }

    /// One line, or of CSV so many that no quote is open.
    fn record(&mut self) -> Result<Option<Vec<u8>>, String> {
        let mut bytes = Vec::new();
        loop {
            let start = bytes.len();
            let room = ROW_BYTES_MAX - start as u64;
            let mut input = (&mut self.input).take(room);
            let read = input.read_until(b'\n', &mut bytes);
            match read.map_err(|error| unreadable(self.line, &error))? {
                0 if start as u64 == ROW_BYTES_MAX => return Err(too_long(self.line)),
                0 => return Ok((!bytes.is_empty()).then_some(bytes)),
                _ if bytes.len() as u64 == ROW_BYTES_MAX && !bytes.ends_with(b"\n") => {
                    return Err(too_long(self.line));
                }
                _ => self.line += 1,
            }
            let is_whole = self.kind == Kind::NdJson
                || memchr::memchr_iter(b'"', &bytes).count().is_multiple_of(2);
            if is_whole {
                return Ok(Some(bytes));
            }
        }
    }

    fn time_of(&self, row: &[u8]) -> Option<i64> {
        let pace = self.pace.as_ref()?;
        match self.kind {
            Kind::NdJson => {
                let row = serde_json::from_slice::<Value>(row).ok()?;
                let is_it = |name: &str| name.eq_ignore_ascii_case(&pace.column);
                let (_, value) = row.as_object()?.iter().find(|(name, _)| is_it(name))?;
                parse_timestamp(value.as_str()?).ok()
            }
            Kind::Csv => parse_timestamp(csv_fields(row).get(self.field)?.trim()).ok(),
        }
    }
}

fn unreadable(line: u64, error: &io::Error) -> String {
    format!("could not read line {line}: {error}")
}

fn too_long(line: u64) -> String {
    format!("line {line} begins a row of more than {} MiB", ROW_BYTES_MAX >> 20)
}

fn kind_by_name(path: &str) -> Option<Kind> {
    let name = path.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rsplit_once('.')?.1 {
        "csv" => Some(Kind::Csv),
        "ndjson" | "jsonl" | "json" => Some(Kind::NdJson),
        _ => None,
    }
}

/// The fields of one record, without their quotes.
fn csv_fields(record: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(record);
    let mut fields = vec![String::new()];
    let mut is_quoted = false;
    for c in text.trim_end_matches(['\n', '\r']).chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(String::new()),
            _ => fields.last_mut().expect("there is one from the start").push(c),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn rows(text: &str, kind: Option<Kind>, pace: Option<Pace>) -> Result<FeedRows, String> {
        FeedRows::new(Box::new(Cursor::new(text.as_bytes().to_vec())), kind, pace)
    }

    /// `(first line, time, text)` of each chunk.
    fn chunks(rows: &mut FeedRows) -> Vec<(u64, Option<i64>, String)> {
        let mut seen = Vec::new();
        while let Some(chunk) = rows.next_chunk().unwrap() {
            let text = String::from_utf8(chunk.bytes).unwrap();
            seen.push((chunk.first_line, chunk.time, text));
        }
        seen
    }

    fn pace(column: &str) -> Option<Pace> {
        Some(Pace { column: column.into(), span: SECOND })
    }

    #[test]
    fn without_a_pace_a_small_file_is_one_chunk() {
        let mut rows = rows("{\"a\":1}\n\n{\"a\":2}", None, None).unwrap();
        assert_eq!(rows.kind(), Kind::NdJson);
        assert_eq!(chunks(&mut rows), [(1, None, "{\"a\":1}\n\n{\"a\":2}".into())]);
    }

    #[test]
    fn a_chunk_spans_no_more_event_time_than_the_pace_says() {
        let text = "{\"at\":\"1970-01-01T00:00:05Z\"}\n{\"at\":\"1970-01-01T00:00:06Z\"}\n\
            {\"at\":null}\n{\"at\":\"1970-01-01T00:00:01Z\"}\n{\"at\":\"1970-01-01T00:00:09Z\"}\n";
        let mut rows = rows(text, None, pace("AT")).unwrap();
        let seen = chunks(&mut rows);
        let heads: Vec<_> = seen.iter().map(|(line, time, _)| (*line, *time)).collect();
        assert_eq!(heads, [(1, Some(5 * SECOND)), (5, Some(9 * SECOND))]);
        assert_eq!(seen[0].2.clone() + &seen[1].2, text);
    }

    #[test]
    fn each_chunk_of_csv_has_the_header_and_quoted_line_ends_cut_nothing() {
        let text = "\u{feff}\"at\",note\r\n1970-01-01,\"a\n\"\"b, c\"\r\n1970-01-02,d";
        let mut rows = rows(text, Some(Kind::Csv), pace("at")).unwrap();
        assert_eq!(
            chunks(&mut rows),
            [
                (2, Some(0), "\"at\",note\r\n1970-01-01,\"a\n\"\"b, c\"\r\n".into()),
                (4, Some(86_400 * SECOND), "\"at\",note\r\n1970-01-02,d".into()),
            ]
        );
    }

    #[test]
    fn a_line_of_a_request_is_a_line_of_the_file() {
        let chunk = Chunk { bytes: Vec::new(), first_line: 40, header_lines: 1, time: None };
        assert_eq!(chunk.line_of_file(2), 40);
        let chunk = Chunk { header_lines: 0, ..chunk };
        assert_eq!(chunk.line_of_file(3), 42);
    }

    #[test]
    fn large_files_are_cut_between_rows() {
        let text = "{\"a\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}\n".repeat(60_000);
        let mut rows = rows(&text, None, None).unwrap();
        let seen = chunks(&mut rows);
        assert!(seen.len() > 1 && seen.iter().all(|(.., text)| text.ends_with("}\n")));
        assert_eq!(seen.iter().map(|(.., text)| text.as_str()).collect::<String>(), text);
    }

    #[test]
    fn an_empty_file_has_no_rows_and_a_lacking_column_is_named() {
        assert_eq!(chunks(&mut rows("", Some(Kind::Csv), None).unwrap()), []);
        let Err(why) = rows("a,b\n1,2\n", None, pace("at")) else { panic!("it was taken") };
        assert_eq!(why, "the file's header names no column \"at\"");
    }

    #[test]
    fn compressed_files_are_read_through() {
        let mut file = tempfile::Builder::new().suffix(".csv.gz").tempfile().unwrap();
        let mut encoder = flate2::write::GzEncoder::new(&mut file, flate2::Compression::fast());
        encoder.write_all(b"a\n1\n").unwrap();
        encoder.finish().unwrap();
        let path = file.path().to_str().unwrap();
        let mut rows = FeedRows::open(path, None).unwrap();
        assert_eq!((rows.kind(), chunks(&mut rows)), (Kind::Csv, vec![(2, None, "a\n1\n".into())]));
    }

    proptest::proptest! {
        #[test]
        fn rows_come_whole_and_in_order(lines in proptest::collection::vec("[^\n]{0,30}", 0..20)) {
            let text: String = lines.iter().map(|line| format!("x{line}\n")).collect();
            let mut rows = rows(&text, Some(Kind::NdJson), pace("at")).unwrap();
            let joined: String = chunks(&mut rows).into_iter().map(|(.., text)| text).collect();
            proptest::prop_assert_eq!(joined, text);
        }
    }
}
