//! Tests a log on a disk that does what it should.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::error::{Report, SqlState};
use crate::log::retention::{Removed, RetentionRequest};
use crate::log::storage::{DiskStorage, Fault};

#[test]
fn every_type_is_read_back_from_memory_from_disk_and_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let storage = Arc::new(DiskStorage::new(directory.path()));
    let batches: Vec<RecordBatch> = (0..5).map(|n| all_types(10 * n, n * n * 7)).collect();
    for tail_bytes in [1 << 30, 0] {
        let name = format!("streams/{tail_bytes}");
        let options = LogOptions { tail_bytes, ..LogOptions::default() };
        let open = || {
            let schema = batches[0].schema();
            Log::open(Arc::clone(&storage) as _, &name, schema, options, sequencer()).unwrap()
        };
        let log = open();
        for batch in &batches {
            let mut frame = NewFrame::rows(batch.clone(), -5);
            frame.meta = format!("meta of {}", batch.num_rows()).into_bytes();
            log.append(vec![frame], true).unwrap();
        }
        let check = |log: &Log| {
            let frames = read_all(log).unwrap();
            assert_eq!(frames.len(), batches.len());
            for (frame, batch) in frames.iter().zip(&batches) {
                assert_eq!(frame.batch.as_ref().unwrap(), batch);
                assert_eq!(frame.meta, format!("meta of {}", batch.num_rows()).as_bytes());
                assert_eq!((frame.kind, frame.watermark), (FrameKind::Rows, -5));
            }
        };
        check(&log);
        drop(log);
        let log = open();
        assert_eq!((log.recovered().frames, log.recovered().cut_bytes), (5, 0));
        check(&log);
    }
}

#[test]
fn offsets_have_no_holes_and_control_records_take_none() {
    let log = open(&MemoryStorage::new(), small()).unwrap();
    let appended = log.append(vec![numbers(0, 3), tick(), numbers(3, 2)], true).unwrap();
    assert_eq!(appended.first, Position::default());
    assert_eq!(appended.next, Position { frame: 3, offset: 5 });
    let next = log.append(vec![tick(), numbers(5, 1)], true).unwrap();
    assert_eq!(next.first, appended.next);
    let places: Vec<_> =
        read_all(&log).unwrap().iter().map(|f| (f.index, f.first_offset, f.rows())).collect();
    assert_eq!(places, [(0, 0, 3), (1, 3, 0), (2, 3, 2), (3, 5, 0), (4, 5, 1)]);
    assert_eq!(log.last_watermark(), 4);
}

#[test]
fn a_log_goes_over_many_segments_and_is_read_from_every_position() {
    let storage = MemoryStorage::new();
    let log = open(&storage, small()).unwrap();
    for n in 0..100 {
        log.append(vec![numbers(3 * n, 3), tick()], true).unwrap();
    }
    let check = |log: &Log| {
        assert!(log.shared.read().segments.len() > 16, "more than are kept open");
        assert_eq!(all_values(log), (0..300).collect::<Vec<_>>());
        for offset in 0..300 {
            let position = log.position_of_offset(offset).unwrap();
            let frame = &log.read(position, 1).unwrap()[0];
            assert!(frame.first_offset <= offset && offset < frame.next_offset());
        }
        for frame in 0..200 {
            let at = Position { frame, offset: (frame / 2 + frame % 2) * 3 };
            assert_eq!(read_from(log, at, 50).unwrap().len() as u64, 200 - frame);
        }
        assert_eq!(log.position_of_offset(300).unwrap(), log.visible());
        assert_eq!(log.position_of_offset(301).unwrap_err().code(), SqlState::INVALID_PARAMETER);
        assert_eq!(log.last_frame().unwrap().unwrap().index, 199);
    };
    check(&log);
    drop(log);
    let log = open(&storage, small()).unwrap();
    check(&log);
    log.append(vec![numbers(300, 1)], true).unwrap();
    assert_eq!(all_values(&log).len(), 301);
}

#[test]
fn a_read_of_some_columns_says_which_and_holds_what_a_whole_read_holds() {
    let storage = Arc::new(MemoryStorage::new());
    let schema = all_types(0, 1).schema();
    let log = Log::open(storage, "s", schema, LogOptions { tail_bytes: 0, ..small() }, sequencer());
    let log = log.unwrap();
    for n in 0..5 {
        log.append(vec![NewFrame::rows(all_types(10 * n, 10), 0), tick()], true).unwrap();
    }
    let (whole, columns) = (log.read(log.start(), 1_000).unwrap(), Arc::from([1, 4, 15]));
    let some = log.read_columns(log.start(), 1_000, Some(&columns)).unwrap();
    assert_eq!(whole.len(), some.len());
    for (whole, some) in whole.iter().zip(&some) {
        assert_eq!((whole.index, whole.rows(), &whole.meta), (some.index, some.rows(), &some.meta));
        let (Some(all), Some(few)) = (&whole.batch, &some.batch) else { continue };
        assert_eq!(few.num_columns(), 3);
        for &column in &*columns {
            assert_eq!(few.column(some.place_of(column)), all.column(whole.place_of(column)));
        }
    }
}

#[test]
fn a_segment_is_sealed_by_size_only_between_groups_and_by_age() {
    let clock = Arc::new(VirtualClock::new(0));
    let sequencer = Arc::new(Sequencer::new(Arc::clone(&clock) as _, 0, i64::MIN));
    let storage = Arc::new(MemoryStorage::new());
    let options = LogOptions { segment_micros: 1_000, ..small() };
    let log = Log::open(storage, "s", schema(), options, sequencer).unwrap();
    let segments = || log.shared.read().segments.len();
    log.append((0..100).map(|n| numbers(n, 1)).collect(), true).unwrap();
    assert_eq!(segments(), 1, "a group is never split");
    log.append(vec![numbers(100, 1)], true).unwrap();
    assert_eq!(segments(), 2);
    clock.advance(999);
    log.append(vec![numbers(101, 1)], true).unwrap();
    assert_eq!(segments(), 2);
    clock.advance(1);
    log.append(vec![numbers(102, 1)], true).unwrap();
    assert_eq!(segments(), 3);
    assert_eq!(all_values(&log), (0..103).collect::<Vec<_>>());
}

#[test]
fn frames_are_visible_only_as_durable_as_the_log_asks_for() {
    for (durability, at_once) in
        [(Durability::Durable, false), (Durability::Written, true), (Durability::Memory, true)]
    {
        let storage = MemoryStorage::new();
        let log = open(&storage, LogOptions { durability, ..small() }).unwrap();
        let heard = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&heard);
        let id = log.listen(Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        }));
        log.append(vec![numbers(0, 2)], false).unwrap();
        assert_eq!(log.visible().offset, if at_once { 2 } else { 0 }, "{durability:?}");
        assert_eq!(heard.load(Ordering::SeqCst), u64::from(at_once));
        assert_eq!(log.sequencer_complete(), u64::from(at_once));
        log.sync().unwrap();
        assert_eq!((log.visible().offset, heard.load(Ordering::SeqCst)), (2, 1));
        assert_eq!(log.sequencer_complete(), 1);
        log.unlisten(id);
        log.append(vec![numbers(2, 2)], true).unwrap();
        assert_eq!((log.visible().offset, heard.load(Ordering::SeqCst)), (4, 1));
        let written = storage.contents("streams/s/00000000000000000000.seg").is_some();
        assert_eq!(written, durability != Durability::Memory);
    }
}

#[test]
fn sequences_increase_strictly_over_two_logs_and_over_a_restart() {
    let storage = Arc::new(MemoryStorage::new());
    let clock = Arc::new(VirtualClock::new(5_000));
    let mut seen = Vec::new();
    for _restart in 0..3 {
        let sequencer = Arc::new(Sequencer::new(Arc::clone(&clock) as _, 0, i64::MIN));
        let open = |name: &str| {
            let sequencer = Arc::clone(&sequencer);
            Log::open(Arc::clone(&storage) as _, name, schema(), small(), sequencer).unwrap()
        };
        let (a, b) = (open("a"), open("b"));
        for n in 0..20 {
            for log in [&a, &b] {
                let appended = log.append(vec![numbers(n, 1), tick()], true).unwrap();
                seen.extend(appended.frames.iter().map(|f| (f.sequence, f.ingest_time)));
            }
        }
        clock.set(1_000); // The clock was set back.
    }
    assert!(seen.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1));
    assert_eq!(seen.len(), 240);
}

#[test]
fn retention_removes_expired_segments_that_no_reader_needs() {
    let clock = Arc::new(VirtualClock::new(0));
    let sequencer = Arc::new(Sequencer::new(Arc::clone(&clock) as _, 0, i64::MIN));
    let storage = MemoryStorage::new();
    let log =
        Log::open(Arc::new(storage.clone()), "streams/s", schema(), small(), sequencer).unwrap();
    for n in 0..60 {
        clock.set(n);
        log.append(vec![numbers(n, 1)], true).unwrap();
    }
    let all = log.bytes();
    let expired = RetentionRequest { older_than_ingest_time: Some(30), ..Default::default() };
    let needed = Position { frame: 15, offset: 15 };
    let first = log.retain(RetentionRequest { needed_from: Some(needed), ..expired }).unwrap();
    assert!(0 < first.frames && first.earliest.frame <= 15, "{first:?}");
    let second = log.retain(expired).unwrap();
    assert!(15 < second.earliest.frame && second.earliest.frame <= 30, "{second:?}");
    assert_eq!(log.bytes(), all - first.bytes - second.bytes);
    assert_eq!(log.start(), second.earliest);
    let error = log.read(needed, 1).unwrap_err();
    assert_eq!(error.code(), SqlState::OFFSET_NOT_RETAINED);
    assert!(matches!(error, LogError::NotRetained { from, earliest, .. }
        if from == needed && earliest == second.earliest));
    assert_eq!(log.position_of_offset(0).unwrap_err().code(), SqlState::OFFSET_NOT_RETAINED);

    let limit = log.bytes() / 2;
    log.retain(RetentionRequest { max_bytes: Some(limit), ..Default::default() }).unwrap();
    assert!(log.bytes() <= limit);
    log.retain(RetentionRequest { max_bytes: Some(0), ..Default::default() }).unwrap();
    assert_eq!(all_values(&log).last(), Some(&59), "the newest frame stays");
    let kept = all_values(&log);
    assert_eq!(all_values(&open(&storage.crash(1), small()).unwrap()), kept);
}

#[test]
fn a_segment_that_cannot_be_removed_keeps_those_behind_it() {
    for failing in 1..=10 {
        let storage = MemoryStorage::new();
        let log = open(&storage, small()).unwrap();
        for n in 0..60 {
            log.append(vec![numbers(n, 1)], true).unwrap();
        }
        storage.fail_call(storage.calls() + failing, Fault::Error);
        let steps = [50, 25, 12];
        let (size, used) = (log.bytes(), storage.used());
        let outcomes = steps.map(|percent| {
            let limit = size * percent / 100;
            let request = RetentionRequest { max_bytes: Some(limit), ..Default::default() };
            let outcome = log.retain(request);
            // What is not gone yet counts: the disk has no room for others there.
            assert_eq!(size - log.bytes(), used - storage.used(), "call {failing}");
            let kept = all_values(&log);
            let reopened = all_values(&open(&storage.kill(), small()).unwrap());
            assert!(reopened.ends_with(&kept), "call {failing}: {reopened:?}, {kept:?}");
            outcome.map(|_| reopened == kept)
        });
        assert!(outcomes.iter().all(|outcome| *outcome.as_ref().unwrap_or(&true)), "{outcomes:?}");
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1, "{failing}");
    }
}

#[test]
fn retention_counts_what_it_removes_while_the_log_grows() {
    let storage = MemoryStorage::new();
    let log = open(&storage, small()).unwrap();
    let everything = RetentionRequest { max_bytes: Some(0), ..Default::default() };
    let mut removed = Removed::default();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..2_000 {
                log.append(vec![numbers(n, 1)], true).unwrap();
            }
        });
        while !writer.is_finished() {
            let more = log.retain(everything).unwrap();
            removed.frames += more.frames;
            removed.bytes += more.bytes;
        }
    });
    let left = 2_000 - removed.frames;
    assert_eq!((log.start().frame, all_values(&log).len() as u64), (removed.frames, left));
    let each = (removed.bytes + log.bytes()) / 2_000;
    assert!((50..1_000).contains(&each), "{each} bytes per frame");
}

#[test]
fn what_a_log_held_when_it_was_pinned_stays_until_the_pin_is_dropped() {
    for options in [small(), in_memory()] {
        let log = Arc::new(open(&MemoryStorage::new(), options).unwrap());
        for n in 0..60 {
            log.append(vec![numbers(n, 1)], true).unwrap();
        }
        let everything = RetentionRequest { max_bytes: Some(0), ..Default::default() };
        let (first, second) = (log.pin(), log.pin());
        drop(first);
        assert_eq!(log.retain(everything).unwrap().frames, 0);
        assert_eq!(log.removable(everything), log.start());
        assert_eq!((second.start(), second.end.frame), (Position::default(), 60));
        drop(second);
        assert!(log.retain(everything).unwrap().frames > 0);
    }
}

#[test]
fn a_memory_log_keeps_everything_until_retention_drops_it() {
    let log = open(&MemoryStorage::new(), LogOptions { tail_bytes: 0, ..in_memory() }).unwrap();
    for n in 0..50 {
        log.append(vec![numbers(n, 1)], true).unwrap();
    }
    assert_eq!(all_values(&log), (0..50).collect::<Vec<_>>());
    let half = log.bytes() / 2;
    let removed =
        log.retain(RetentionRequest { max_bytes: Some(half), ..Default::default() }).unwrap();
    assert_eq!((removed.frames, removed.rows), (25, 25));
    assert_eq!(all_values(&log), (25..50).collect::<Vec<_>>());
    assert_eq!(log.read(Position::default(), 1).unwrap_err().code().0, "WR004");
    assert_eq!(log.position_of_offset(30).unwrap(), Position { frame: 30, offset: 30 });
}

#[test]
fn a_batch_that_does_not_fit_is_refused_and_the_log_goes_on() {
    let log = open(&MemoryStorage::new(), small()).unwrap();
    let other = NewFrame::rows(all_types(0, 1), 0);
    assert!(matches!(log.append(vec![other], true), Err(LogError::WrongColumns { .. })));
    let nulls: ArrayRef = Arc::new(Int64Array::from(vec![None]));
    let nulls = NewFrame::rows(RecordBatch::try_from_iter([("n", nulls)]).unwrap(), 0);
    assert!(matches!(log.append(vec![nulls], true), Err(LogError::WrongColumns { .. })));
    let mut large = tick();
    large.meta = vec![0; (256 << 20) + 1];
    let error = log.append(vec![large], true).unwrap_err();
    assert_eq!(error.code(), SqlState::PROGRAM_LIMIT);
    log.append(vec![numbers(0, 1)], true).unwrap();
    assert_eq!(all_values(&log), [0]);

    let item = Box::new(DataType::Utf8);
    let odd = DataType::Dictionary(Box::new(DataType::Int32), item);
    let odd = Arc::new(Schema::new(vec![Field::new("d", odd, true)]));
    let storage = Arc::new(MemoryStorage::new());
    let error = Log::open(storage, "d", odd, small(), sequencer()).unwrap_err();
    assert_eq!(error.code(), SqlState::NOT_SUPPORTED);
}

#[test]
fn nothing_but_the_rows_bytes_is_written() {
    let blob = "x".repeat(100);
    let all: StringViewArray = (0..1_000).map(|_| Some(blob.as_str())).collect();
    let column: ArrayRef = Arc::new(all.slice(500, 1));
    let batch = RecordBatch::try_from_iter([("t", column)]).unwrap();
    let storage = Arc::new(MemoryStorage::new());
    let log = Log::open(storage, "s", batch.schema(), small(), sequencer()).unwrap();
    let before = log.bytes();
    log.append(vec![NewFrame::rows(batch, 0)], true).unwrap();
    assert!(log.bytes() - before < 700, "{} bytes", log.bytes() - before);
    let kept = log.shared.read().tail.bytes();
    assert!(kept < 1_200, "{kept} bytes in memory");
}
