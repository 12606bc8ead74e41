//! Tests what damage and failure do to a log: nothing acknowledged is lost, nothing wrong is shown.

use super::*;
use crate::error::{Report, SqlState};

const SEGMENT: &str = "streams/s/00000000000000000000.seg";

/// A log with two acknowledged requests and, above the mark, requests of one, two and one frames.
/// Returns the disk, the mark's position, and where each request above it ends.
fn with_tail() -> (MemoryStorage, usize, Vec<usize>) {
    let storage = MemoryStorage::new();
    let log = open(&storage, LogOptions::default()).unwrap();
    log.append(vec![numbers(0, 2)], true).unwrap();
    log.append(vec![numbers(2, 1), tick()], true).unwrap();
    let mark = log.bytes() as usize;
    let mut ends = Vec::new();
    for request in [vec![numbers(10, 1)], vec![numbers(20, 2), numbers(22, 1)], vec![tick()]] {
        log.append(request, false).unwrap();
        ends.push(log.bytes() as usize);
    }
    (storage.kill(), mark, ends)
}

/// The values that must be there when `requests` of those above the mark are.
fn expected(requests: usize) -> (Vec<i64>, u64) {
    let values = [vec![0, 1, 2], vec![10], vec![20, 21, 22], vec![]];
    let frames = [3, 1, 2, 1];
    (values[..=requests].concat(), frames[..=requests].iter().sum())
}

fn check_reopened(storage: &MemoryStorage, requests: usize, cut: u64) {
    let log = open(storage, LogOptions::default()).unwrap();
    let (values, frames) = expected(requests);
    assert_eq!(all_values(&log), values);
    assert_eq!((log.recovered().frames, log.recovered().cut_bytes), (frames, cut));
    log.append(vec![numbers(99, 1)], true).unwrap();
    drop(log);
    // What was kept is durable, and the cut cannot come back.
    let log = open(&storage.crash(cut), LogOptions::default()).unwrap();
    assert_eq!(all_values(&log), [values, vec![99]].concat());
    assert_eq!(log.recovered().cut_bytes, 0);
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_to_whole_requests() {
    let (storage, mark, ends) = with_tail();
    let whole = storage.contents(SEGMENT).unwrap();
    for length in mark..=whole.len() {
        let storage = storage.kill();
        storage.put(SEGMENT, whole[..length].to_vec());
        let kept = ends.iter().filter(|&&end| end <= length).count();
        let good = if kept == 0 { mark } else { ends[kept - 1] };
        check_reopened(&storage, kept, (length - good) as u64);
    }
}

#[test]
fn a_wrong_byte_above_the_mark_cuts_even_good_frames_behind_it() {
    let (storage, mark, ends) = with_tail();
    let whole = storage.contents(SEGMENT).unwrap();
    for position in mark..whole.len() {
        let storage = storage.kill();
        let mut bytes = whole.clone();
        bytes[position] ^= 1 << (position % 8);
        storage.put(SEGMENT, bytes);
        let kept = ends.iter().filter(|&&end| end <= position).count();
        let good = if kept == 0 { mark } else { ends[kept - 1] };
        check_reopened(&storage, kept, (whole.len() - good) as u64);
    }
}

#[test]
fn a_flipped_bit_below_the_mark_is_reported_wherever_it_is() {
    let (storage, mark, _) = with_tail();
    let whole = storage.contents(SEGMENT).unwrap();
    for position in 0..mark {
        let storage = storage.kill();
        let mut bytes = whole.clone();
        bytes[position] ^= 1 << (position % 8);
        storage.put(SEGMENT, bytes);
        let error = open(&storage, LogOptions::default()).and_then(|log| read_all(&log));
        let error = error.err().unwrap_or_else(|| panic!("byte {position} went unnoticed"));
        assert_eq!(error.code(), SqlState::CORRUPT);
        let LogError::Corrupt { path, position: reported, .. } = error else { panic!("{error}") };
        assert_eq!(path, SEGMENT);
        assert!(reported <= position as u64);
    }
}

#[test]
fn a_file_cut_below_the_mark_and_a_missing_file_are_corruption() {
    let (storage, mark, _) = with_tail();
    let whole = storage.contents(SEGMENT).unwrap();
    for length in 0..mark {
        storage.put(SEGMENT, whole[..length].to_vec());
        let error = open(&storage, LogOptions::default()).unwrap_err();
        assert_eq!(error.code(), SqlState::CORRUPT, "{length}");
    }
    crate::log::storage::Storage::remove(&storage, SEGMENT).unwrap();
    let error = open(&storage, LogOptions::default()).unwrap_err();
    assert!(error.to_string().contains("the file is missing"), "{error}");
}

#[test]
fn a_log_without_its_mark_is_not_taken_for_an_empty_one() {
    let (storage, _, _) = with_tail();
    storage.put("streams/s/mark", vec![0; 8192]);
    let error = open(&storage, LogOptions::default()).unwrap_err();
    assert_eq!(error.code(), SqlState::CORRUPT);
}

#[test]
fn a_lost_segment_between_others_is_reported() {
    let storage = MemoryStorage::new();
    let log = open(&storage, small()).unwrap();
    for n in 0..40 {
        log.append(vec![numbers(n, 1)], true).unwrap();
    }
    let second = log.shared.read().segments[1].path.clone();
    crate::log::storage::Storage::remove(&storage, &second).unwrap();
    let error = open(&storage, small()).unwrap_err();
    assert!(error.to_string().contains("the segment before it is missing"), "{error}");
}

#[test]
fn damage_in_a_sealed_segment_stops_its_readers_and_nobody_else() {
    let storage = MemoryStorage::new();
    let log = open(&storage, small()).unwrap();
    for n in 0..40 {
        log.append(vec![numbers(n, 1)], true).unwrap();
    }
    let (path, length) = {
        let segment = Arc::clone(&log.shared.read().segments[1]);
        (segment.path.clone(), segment.length() as usize)
    };
    drop(log);
    let mut bytes = storage.contents(&path).unwrap();
    bytes[length - 1] ^= 1;
    storage.put(&path, bytes);
    let log = open(&storage, small()).unwrap();
    let error = read_all(&log).unwrap_err();
    assert_eq!(error.code(), SqlState::CORRUPT);
    assert!(error.to_string().contains(&path), "{error}");
    let behind = log.position_of_offset(39).unwrap();
    assert_eq!(read_from(&log, behind, 10).unwrap().len(), 1);
    log.append(vec![numbers(40, 1)], true).unwrap();
}

#[test]
fn other_columns_than_the_files_have_are_refused() {
    let (storage, _, _) = with_tail();
    let other = all_types(0, 0).schema();
    let opened =
        Log::open(Arc::new(storage), "streams/s", other, LogOptions::default(), sequencer());
    assert!(matches!(opened, Err(LogError::SchemaMismatch { .. })));
}

/// Fails one call; the log must refuse from then on, read on, and be whole after reopening.
fn check_failure(fail: impl Fn(&MemoryStorage), code: SqlState, sealing: bool) {
    let storage = MemoryStorage::new();
    let log = open(&storage, small()).unwrap();
    let before: i64 = if sealing { 12 } else { 3 };
    for n in 0..before {
        log.append(vec![numbers(n, 1)], true).unwrap();
    }
    fail(&storage);
    let mut sent = before;
    let error = loop {
        assert!(sent < before + 40, "the failure never came");
        match log.append(vec![numbers(sent, 1)], true) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), code, "{error}");
    assert_eq!(log.visible().offset, sent as u64);
    assert_eq!(log.sequencer_complete(), log.sequencer_last(), "nobody waits for lost frames");
    let refusal = log.append(vec![numbers(sent, 1)], true).unwrap_err();
    assert_eq!(refusal.code(), code);
    assert!(matches!(refusal, LogError::Refusing { .. }));
    assert!(log.sync().is_err() && log.failure() == Some(error));
    assert_eq!(all_values(&log), (0..sent).collect::<Vec<_>>());
    for seed in 0..50 {
        let log = open(&storage.crash(seed), small()).unwrap();
        let values = all_values(&log);
        assert!(values.len() as i64 >= sent && values.len() as i64 <= sent + 1);
        assert_eq!(values, (0..values.len() as i64).collect::<Vec<_>>());
        log.append(vec![tick()], true).unwrap();
    }
}

#[test]
fn after_a_failed_write_nothing_is_acknowledged_until_reopening() {
    check_failure(|storage| storage.fail_write(1), SqlState::IO, false);
    // The second write of an append is that of the mark.
    check_failure(|storage| storage.fail_write(2), SqlState::IO, false);
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_until_reopening() {
    for nth in 1..30 {
        check_failure(|storage| storage.fail_sync(nth), SqlState::IO, nth % 2 == 0);
    }
}

#[test]
fn a_failed_write_at_any_point_also_while_sealing_loses_nothing() {
    for nth in 1..30 {
        check_failure(|storage| storage.fail_write(nth), SqlState::IO, true);
    }
}

#[test]
fn a_full_disk_is_told_as_such_and_forgotten_when_there_is_room_again() {
    for capacity in (5_000..12_000).step_by(37) {
        let storage = MemoryStorage::new();
        let log = open(&storage, small()).unwrap();
        storage.set_capacity(Some(capacity));
        let mut sent = 0;
        let error = loop {
            // Some are written only, and synced later.
            match log.append(vec![numbers(sent, 1)], sent % 3 == 0) {
                Ok(_) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.code(), SqlState::DISK_FULL, "{error}");
        assert!(log.append(vec![numbers(sent, 1)], true).is_err() && log.failure().is_none());
        storage.set_capacity(None);
        log.append(vec![numbers(sent, 1)], true).unwrap();
        for storage in [storage.crash(capacity), storage.kill()] {
            let again = open(&storage, small()).unwrap();
            assert_eq!(all_values(&again), (0..=sent).collect::<Vec<_>>());
        }
        assert_eq!(all_values(&log), (0..=sent).collect::<Vec<_>>());
    }
}

#[test]
fn a_segment_whose_first_frames_found_no_room_is_not_begun_again() {
    // Each request is longer than a segment is to be, so each begins one.
    let short = || LogOptions { segment_bytes: 1, ..small() };
    for (capacity, nth) in (5_000..7_000).step_by(37).flat_map(|c| (1..4).map(move |nth| (c, nth)))
    {
        let storage = MemoryStorage::new();
        let log = open(&storage, short()).unwrap();
        storage.set_capacity(Some(capacity));
        let mut sent = 0;
        while log.append(vec![numbers(sent, 1)], true).is_ok() {
            sent += 1;
        }
        storage.set_capacity(None);
        storage.fail_sync(nth);
        let kept = sent + i64::from(log.append(vec![numbers(sent, 1)], true).is_ok());
        for storage in [storage.crash(capacity), storage.kill()] {
            let values = all_values(&open(&storage, short()).unwrap());
            let expected: Vec<_> = (0..=sent).collect();
            assert!(values.len() as i64 >= kept && expected.starts_with(&values), "{values:?}");
        }
    }
}

#[test]
fn what_is_left_of_a_segment_that_found_no_room_does_not_stand_between_others() {
    let options = || LogOptions { segment_bytes: 1_500, ..small() };
    for capacity in 5_000..6_500 {
        let storage = MemoryStorage::new();
        let log = open(&storage, options()).unwrap();
        storage.set_capacity(Some(capacity));
        let mut sent = 0;
        while log.append(vec![numbers(sent, 50)], true).is_ok() {
            sent += 50;
        }
        storage.set_capacity(None);
        // A short one that the old segment may have room for, then others that need a new one.
        for rows in [1, 50, 50] {
            log.append(vec![numbers(sent, rows)], true).unwrap();
            sent += rows;
        }
        for storage in [storage.crash(capacity), storage.kill()] {
            let again = open(&storage, options()).unwrap();
            assert_eq!(all_values(&again), (0..sent).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_crash_while_a_log_is_created_leaves_an_empty_log() {
    for nth in 0..6 {
        for seed in 0..40 {
            let storage = MemoryStorage::new();
            if nth < 3 {
                storage.fail_write(nth + 1);
            } else {
                storage.fail_sync(nth - 2);
            }
            drop(open(&storage, small()));
            for storage in [storage.crash(seed), storage.kill()] {
                let log = open(&storage, small()).unwrap();
                assert_eq!(log.visible(), Position::default());
                log.append(vec![numbers(0, 1)], true).unwrap();
                assert_eq!(all_values(&open(&storage.crash(seed), small()).unwrap()), [0]);
            }
        }
    }
}

#[test]
fn a_crash_while_sealing_loses_nothing_acknowledged() {
    for nth in 1..60 {
        for seed in 0..10 {
            let storage = MemoryStorage::new();
            let log = open(&storage, LogOptions { segment_bytes: 900, ..small() }).unwrap();
            if nth % 2 == 0 {
                storage.fail_sync(nth / 2)
            } else {
                storage.fail_write(nth / 2 + 1)
            }
            let acknowledged =
                (0..20).take_while(|&n| log.append(vec![numbers(n, 1)], true).is_ok()).count();
            let log = open(&storage.crash(seed), small()).unwrap();
            let values = all_values(&log);
            assert!(values.len() >= acknowledged && values.len() <= acknowledged + 1);
            assert_eq!(values, (0..values.len() as i64).collect::<Vec<_>>());
        }
    }
}
