//! What only files do: names, rolling, and what is found after a crash at any call.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, IntervalMonthDayNanoArray, RecordBatch, StringArray};
use arrow::datatypes::IntervalMonthDayNano;
use expect_test::expect;

use super::delivered::{Files, read};
use super::fixture::{Database, Writer, changes, plan, writer};
use crate::error::{Report, SqlState};
use crate::sinks::file::FileTarget;
use crate::sinks::file_format::FileFormat;
use crate::sinks::mark_file::failing;
use crate::sinks::sink::{SinkBatch, SinkError, SinkMode, SinkPlan, SinkTarget};

#[test]
fn a_files_name_carries_its_offsets_and_nothing_else_is_seen() {
    let files = Files::new(FileFormat::Ndjson);
    let mut writer = writer(&files, &plan("1", SinkMode::Changelog));
    writer.write("+a1 -a1 +b2").unwrap();
    writer.write("+_7").unwrap();
    expect![[r#"
        00000000000000000000-00000000000000000003.ndjson
        00000000000000000003-00000000000000000004.ndjson
        weir_progress.json"#]]
    .assert_eq(&files.names().join("\n"));
    let text = |name: &str| std::fs::read_to_string(files.path().join(name)).unwrap();
    let all: Vec<String> = files.names()[..2].iter().map(|name| text(name)).collect();
    expect![[r#"
        {"k":"a","n":1,"weir_offset":0,"weir_op":1}
        {"k":"a","n":1,"weir_offset":1,"weir_op":-1}
        {"k":"b","n":2,"weir_offset":2,"weir_op":1}
        {"k":null,"n":7,"weir_offset":3,"weir_op":1}
    "#]]
    .assert_eq(&all.concat());
}

#[test]
fn a_csv_file_has_a_header_and_quotes() {
    let files = Files::new(FileFormat::Csv);
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a,\"b\"\n"), Some(""), None]));
    let batch = RecordBatch::try_from_iter([("the \"text\"", texts)]).unwrap();
    let plan = SinkPlan { schema: batch.schema(), ..plan("1", SinkMode::Append) };
    let mut writer = writer(&files, &plan);
    writer.commit(&SinkBatch { batch, weights: None, first_offset: 0 }).unwrap();
    let text = std::fs::read_to_string(files.path().join(&files.names()[0])).unwrap();
    assert_eq!(text, "\"the \"\"text\"\"\"\r\n\"a,\"\"b\"\"\n\"\r\n\"\"\r\n\r\n");
}

#[test]
fn parquet_holds_intervals_as_text_and_large_batches() {
    let files = Files::new(FileFormat::Parquet);
    let rows = 20_000;
    let interval = IntervalMonthDayNano::new(14, -3, 1_500_000_000);
    let intervals: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(vec![interval; rows]));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
    let batch = RecordBatch::try_from_iter([("i", intervals), ("n", numbers)]).unwrap();
    let plan = SinkPlan { schema: batch.schema(), ..plan("1", SinkMode::Append) };
    let mut writer = writer(&files, &plan);
    writer.commit(&SinkBatch { batch, weights: None, first_offset: 0 }).unwrap();
    let found = read(FileFormat::Parquet, &files.path().join(&files.names()[0]));
    assert_eq!(found.len(), rows);
    assert_eq!(found[7]["i"], "P14M-3DT1.5S");
    assert_eq!(found[19_999]["n"], 19_999);
}

/// Ends the program before every call that changes the disk, in turn; then goes on with a new writer as
/// the loop would. However often and wherever: every row is there once.
#[test]
fn a_crash_at_any_call_doubles_and_loses_nothing() {
    for format in [FileFormat::Ndjson, FileFormat::Parquet] {
        let mut calls = 0;
        loop {
            let files = Files::new(format);
            let plan = plan("1", SinkMode::Append);
            failing::after(Some(calls));
            let deliver = |upto: u64| -> Result<u64, SinkError> {
                let mut target = files.target();
                let mut offset = target.prepare(&plan)?;
                while offset < upto {
                    let text = format!("+a{offset} +b{}", offset + 1);
                    let to = offset + 2;
                    target.commit(&changes(offset, &text), offset, to, &mut |_| Ok(()))?;
                    offset = to;
                }
                Ok(offset)
            };
            let ended = deliver(6).is_err();
            failing::after(None);
            assert_eq!(deliver(8).unwrap(), 8);
            let numbers: Vec<i64> = files.rows().iter().map(|r| r["n"].as_i64().unwrap()).collect();
            assert_eq!(numbers, (0..8).collect::<Vec<i64>>(), "ended before call {calls}");
            assert!(!files.names().iter().any(|name| name.ends_with(".part")));
            if !ended {
                break;
            }
            calls += 1;
        }
        assert!(calls > 20, "{calls} calls change the disk");
    }
}

#[test]
fn an_attempt_that_failed_is_made_again_by_the_same_writer() {
    let files = Files::new(FileFormat::Ndjson);
    let mut writer = writer(&files, &plan("1", SinkMode::Append));
    for calls in 0..30 {
        let (from, text) = (writer.offset, format!("+a{}", writer.offset));
        failing::after(Some(calls));
        let first = writer.write(&text);
        failing::after(None);
        if let Err(error) = first {
            assert!(!error.is_final(), "{error}");
            assert_eq!(writer.offset, from);
            writer.write(&text).unwrap();
        }
    }
    let numbers: Vec<i64> = files.rows().iter().map(|r| r["n"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (0..30).collect::<Vec<i64>>());
}

#[test]
fn finished_files_may_be_taken_away() {
    let files = Files::new(FileFormat::Ndjson);
    let plan = plan("1", SinkMode::Append);
    writer(&files, &plan).write("+a1 +b1").unwrap();
    std::fs::remove_file(files.path().join(&files.names()[0])).unwrap();
    assert_eq!(writer(&files, &plan).offset, 2);
}

#[test]
fn a_directory_of_another_sink_is_refused_unless_adopted() {
    let files = Files::new(FileFormat::Ndjson);
    writer(&files, &plan("1", SinkMode::Append)).write("+a1 +b1").unwrap();
    let mut second = plan("2", SinkMode::Append);
    let error = Writer::new(&files, &second).err().unwrap();
    assert_eq!((error.code(), error.is_final()), (SqlState::OBJECT_IN_USE, true));
    assert_eq!(error.detail().unwrap(), "weir_progress.json names the sink 1.");
    second.adopt = true;
    let mut adopter = writer(&files, &second);
    assert_eq!(adopter.offset, 2);
    adopter.write("+c1").unwrap();
    assert_eq!(files.rows().len(), 3);
    // Another changelog begins at 0, where there are files already.
    let mut third = plan("3", SinkMode::Append);
    (third.adopt, third.changelog) = (true, "another".into());
    let error = Writer::new(&files, &third).err().unwrap();
    assert_eq!((error.code(), error.is_final()), (SqlState::OBJECT_IN_USE, true));
    assert_eq!(error.to_string(), "directory of sink \"s\" holds files of another sink");
}

#[test]
fn foreign_files_stay_and_those_in_the_way_are_never_replaced() {
    let files = Files::new(FileFormat::Ndjson);
    std::fs::create_dir_all(files.path()).unwrap();
    let foreign =
        ["README", ".weir-x.part", "1-2.ndjson", "00000000000000000000-x.ndjson", ".part"];
    for name in foreign {
        std::fs::write(files.path().join(name), "theirs").unwrap();
    }
    let mut writer = writer(&files, &plan("1", SinkMode::Append));
    writer.write("+a1").unwrap();
    // Somebody makes the next file while the sink runs.
    let next = files.path().join("00000000000000000001-00000000000000000002.ndjson");
    std::fs::write(&next, "theirs").unwrap();
    let error = writer.write("+b1").unwrap_err();
    assert!(error.is_final(), "{error}");
    assert_eq!(std::fs::read_to_string(&next).unwrap(), "theirs");
    for name in foreign {
        assert_eq!(std::fs::read_to_string(files.path().join(name)).unwrap(), "theirs");
    }
    let error = Writer::new(&files, &plan("1", SinkMode::Append)).err().unwrap();
    assert_eq!(error.code(), SqlState::OBJECT_IN_USE);
}

#[test]
fn a_directory_that_goes_away_is_waited_for() {
    let files = Files::new(FileFormat::Ndjson);
    let mut writer = writer(&files, &plan("1", SinkMode::Append));
    writer.write("+a1").unwrap();
    let away = files.path().with_extension("away");
    std::fs::rename(files.path(), &away).unwrap();
    let error = writer.write("+b1").unwrap_err();
    assert!(matches!(error, SinkError::Unavailable { .. }), "{error}");
    assert!(!files.path().exists(), "a mount that is away is not made up");
    std::fs::rename(&away, files.path()).unwrap();
    writer.write("+b1").unwrap();
    assert_eq!(files.rows().len(), 2);
}

#[test]
fn a_path_that_is_a_file_and_a_damaged_mark_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "").unwrap();
    let mut target = FileTarget::new(path, FileFormat::Csv);
    let error = target.prepare(&plan("1", SinkMode::Append)).unwrap_err();
    assert_eq!((error.code(), error.is_final()), (SqlState::INVALID_PARAMETER, true));

    let files = Files::new(FileFormat::Csv);
    writer(&files, &plan("1", SinkMode::Append)).write("+a1").unwrap();
    std::fs::write(files.path().join("weir_progress.json"), "{}\n").unwrap();
    let error = Writer::new(&files, &plan("1", SinkMode::Append)).err().unwrap();
    assert_eq!((error.code(), error.is_final()), (SqlState::CORRUPT, true));
}

#[test]
fn a_dropped_sink_leaves_its_files_and_takes_its_mark() {
    let files = Files::new(FileFormat::Ndjson);
    files.target().forget(&plan("1", SinkMode::Append)).unwrap();
    writer(&files, &plan("1", SinkMode::Append)).write("+a1").unwrap();
    files.target().forget(&plan("2", SinkMode::Append)).unwrap();
    assert_eq!(files.names().len(), 2);
    files.target().forget(&plan("1", SinkMode::Append)).unwrap();
    assert_eq!(files.names(), ["00000000000000000000-00000000000000000001.ndjson"]);
}
