//! Checks the promises of the summaries against exact counts, over random and adversarial streams.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::sketches::items::{Numbers, Texts};

fn fraction(text: &str) -> Fraction {
    Fraction::parse(text).unwrap()
}

fn question(algorithm: Algorithm, support: &str, error: &str) -> Question {
    Question {
        support: fraction(support),
        error: fraction(error),
        algorithm,
        mode: Mode::NoFalseNegatives,
        failure: fraction("0.01"),
        seed: 0,
        in_parts: false,
    }
}

fn add(summary: &mut Summary<Numbers>, place: u64, item: u64, weight: u64) {
    match summary {
        Summary::Lossy(lossy) => lossy.add(Some(item), weight),
        Summary::Sticky(sticky) => sticky.add(Some(item), weight, place),
        Summary::Saving(saving) => saving.add(Some(item), weight),
        Summary::Exact(exact) => exact.add(Some(item), weight),
    }
}

fn summary_of(question: &Question, rows: &[(u64, u64)]) -> Summary<Numbers> {
    let mut summary = Summary::new(question, 0);
    for (place, &(item, weight)) in rows.iter().enumerate() {
        add(&mut summary, place as u64, item, weight);
    }
    summary
}

fn truth(rows: &[(u64, u64)]) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    rows.iter().for_each(|&(item, weight)| *counts.entry(item).or_default() += weight);
    counts
}

/// Everything that is promised without a probability; gives the number of answers.
fn check(question: &Question, summary: &Summary<Numbers>, rows: &[(u64, u64)]) -> usize {
    let truth = truth(rows);
    let total: u64 = truth.values().sum();
    assert_eq!(summary.total(), total);
    let (frequent, nearly) = (
        question.support.share(Fraction::ZERO, total),
        question.support.share(question.error, total),
    );
    let slack = question.error.share(Fraction::ZERO, total);
    for mode in [Mode::NoFalseNegatives, Mode::NoFalsePositives] {
        let question = Question { mode, ..*question };
        let answers = summary.answers(&question);
        let mut answered = BTreeMap::new();
        for answer in &answers {
            let item = summary.item(answer.entry).unwrap();
            let count = truth[&item];
            assert!(answer.lower <= count && count <= answer.upper, "{answer:?} of {count}");
            assert!(count - answer.lower <= slack, "short by more than εN");
            assert!(answer.upper - count <= slack, "beyond by more than εN");
            assert!(count >= nearly, "an answer below (s−ε)N");
            assert!(!answer.guaranteed || count >= frequent, "a guarantee that does not hold");
            assert!(answered.insert(item, answer).is_none(), "an item is an answer once");
        }
        for (item, &count) in &truth {
            match mode {
                Mode::NoFalseNegatives if total > 0 => {
                    assert!(count < frequent || answered.contains_key(item), "a false negative");
                }
                Mode::NoFalsePositives => {
                    assert!(count >= frequent || !answered.contains_key(item), "a false positive");
                }
                Mode::NoFalseNegatives => {}
            }
        }
    }
    summary.answers(question).len()
}

#[test]
fn the_fixture_leaves_one_entry() {
    let mut lossy = LossyCounting::<Texts>::new(fraction("0.2").reciprocal());
    for item in "a b a c a d a b e a a f b a g".split(' ') {
        lossy.add(Some(item.as_bytes()), 1);
    }
    assert_eq!(lossy.entries(), 1);
    let entry = (lossy.item(0), lossy.count(0), lossy.delta(0));
    assert_eq!(entry, (Some(b"a".as_slice()), 7, 0));
}

#[test]
fn a_group_of_fewer_rows_than_a_bucket_is_exact() {
    let rows: Vec<(u64, u64)> = (0..999).map(|row| (row % 400, 1)).collect();
    let question = question(Algorithm::LossyCounting, "0.01", "0.001");
    let summary = summary_of(&question, &rows);
    assert_eq!(summary.entries(), 400);
    assert!((0..400).all(|entry| summary.bounds(entry, 0).0 == summary.bounds(entry, 0).2));
}

#[test]
fn ten_thousand_groups_at_a_thousandth_take_less_than_64_megabytes() {
    // Of 400 rows each by Zipf's law, so that none has lost an item yet: a hundredth of the groups.
    let question = question(Algorithm::LossyCounting, "0.01", "0.001");
    let all = zipf_of(1_000_000, 40_000, 1.1, 3);
    let mut bytes = 0;
    for group in 0..100 {
        let rows = &all[400 * group..400 * (group + 1)];
        let summary = summary_of(&question, rows);
        assert_eq!(summary.entries(), truth(rows).len());
        bytes += summary.size() + size_of::<(i64, Summary<Numbers>)>();
    }
    assert!(bytes * 100 < 50_000_000, "{} MB", bytes * 100 / 1_000_000);
    // And a group of one row costs little.
    let small = summary_of(&question, &[(7, 1)]);
    assert!(small.size() < 400, "{}", small.size());
}

#[test]
fn null_is_an_item_like_any_other() {
    let mut summary = Summary::<Numbers>::new(&question(Algorithm::Exact, "0.5", "0.1"), 0);
    let Summary::Exact(exact) = &mut summary else { unreachable!("asked for above") };
    [None, Some(0), None, None].into_iter().for_each(|item| exact.add(item, 1));
    let answers = summary.answers(&question(Algorithm::Exact, "0.5", "0.1"));
    assert_eq!(answers.len(), 1);
    assert_eq!((summary.item(answers[0].entry), answers[0].lower), (None, 3));
}

/// Streams that are hard on a summary: items that come just often enough to be let go, new items only,
/// one item at the end, runs that end with a bucket.
fn adversarial(width: u64) -> Vec<Vec<(u64, u64)>> {
    let rows = 40 * width;
    let ones = |items: &mut dyn Iterator<Item = u64>| items.map(|item| (item, 1)).collect();
    vec![
        ones(&mut (0..rows)),
        ones(&mut (0..rows).map(|row| row / width)),
        ones(&mut (0..rows).map(|row| if row % width == 0 { 7 } else { 1_000 + row })),
        ones(&mut (0..rows).map(|row| if row % width == width - 1 { 7 } else { 1_000 + row })),
        ones(&mut (0..rows).map(|row| if row > rows - rows / 10 { 7 } else { 1_000 + row })),
        ones(&mut (0..rows).map(|row| if row < rows / 10 { 7 } else { 1_000 + row })),
        ones(&mut (0..rows).map(|row| row % (2 * width))),
        (0..rows).map(|row| (row % 3, if row % 5 == 0 { 3 * width + 1 } else { 1 })).collect(),
        (0..rows).map(|row| (row, row % 17)).collect(),
    ]
}

const BOUNDED: [Algorithm; 3] =
    [Algorithm::LossyCounting, Algorithm::SpaceSaving, Algorithm::Exact];

#[test]
fn promises_hold_on_adversarial_streams() {
    for (support, error) in [("0.1", "0.01"), ("0.05", "0.005"), ("0.2", "0.07")] {
        for algorithm in BOUNDED {
            let question = question(algorithm, support, error);
            for rows in adversarial(question.error.reciprocal()) {
                check(&question, &summary_of(&question, &rows), &rows);
            }
        }
    }
}

#[test]
fn entries_stay_below_the_bound_of_the_paper() {
    for error in ["0.1", "0.01", "0.003"] {
        let question = question(Algorithm::LossyCounting, "0.5", error);
        let width = question.error.reciprocal();
        for rows in adversarial(width).into_iter().take(7) {
            let mut summary = Summary::new(&question, 0);
            for (place, &(item, weight)) in rows.iter().enumerate() {
                add(&mut summary, place as u64, item, weight);
                let over = (place as u64 + 1).div_ceil(width) as f64;
                // (1/ε)·log(εN) of the paper, without the constant that it leaves out.
                let bound = width as f64 * (over.ln() + 1.0);
                assert!(summary.entries() as f64 <= bound, "{} at {place}", summary.entries());
            }
        }
    }
}

#[test]
fn space_saving_keeps_to_its_counters() {
    let question = question(Algorithm::SpaceSaving, "0.1", "0.01");
    for rows in adversarial(100) {
        let summary = summary_of(&question, &rows);
        assert!(summary.entries() <= 200);
    }
}

/// Zipf's law over 1,000 items.
fn zipf(rows: usize, exponent: f64, seed: u64) -> Vec<(u64, u64)> {
    zipf_of(1_000, rows, exponent, seed)
}

/// Zipf's law, with a generator of our own.
fn zipf_of(items: u32, rows: usize, exponent: f64, seed: u64) -> Vec<(u64, u64)> {
    let weights: Vec<f64> = (1..=items).map(|rank| 1.0 / f64::from(rank).powf(exponent)).collect();
    let all: f64 = weights.iter().sum();
    let mut edges = Vec::new();
    weights.iter().fold(0.0, |sum, weight| {
        edges.push(sum + weight / all);
        sum + weight / all
    });
    let draw = |row: usize| {
        let unit = (coins_at(seed, row as u64) >> 11) as f64 / (1_u64 << 53) as f64;
        (edges.partition_point(|edge| *edge < unit) as u64, 1)
    };
    (0..rows).map(draw).collect()
}

fn coins_at(seed: u64, place: u64) -> u64 {
    crate::sketches::coins::at(seed, place)
}

/// How many of 1,000 seeds give a summary that lacks a frequent item. Whatever the seed, no count is too
/// high and no answer too rare.
fn failures(
    question: &Question,
    rows: &[(u64, u64)],
    sample: impl Fn(&Question) -> Summary<Numbers>,
) -> u64 {
    let truth = truth(rows);
    let total: u64 = truth.values().sum();
    let frequent = question.support.share(Fraction::ZERO, total);
    let nearly = question.support.share(question.error, total);
    let failed = |seed: u64| {
        let question = Question { seed, ..*question };
        let summary = sample(&question);
        assert_eq!(summary.total(), total);
        let answers = summary.answers(&question);
        for answer in &answers {
            let count = truth[&summary.item(answer.entry).unwrap()];
            assert!(answer.lower <= count && count >= nearly);
        }
        let found = |item: u64| {
            let answer = answers.iter().find(|a| summary.item(a.entry) == Some(item));
            answer.is_some_and(|answer| truth[&item] <= answer.upper)
        };
        truth.iter().any(|(&item, &count)| count >= frequent && !found(item))
    };
    (0..1_000).filter(|&seed| failed(seed)).count() as u64
}

/// δ = 0.05, and so 600 rows are sampled before the rate doubles.
fn sampled(in_parts: bool) -> Question {
    let question = question(Algorithm::StickySampling, "0.05", "0.02");
    Question { failure: fraction("0.05"), in_parts, ..question }
}

/// As many frequent items as there can be, none more frequent than it must be, just after the rate has doubled.
fn hardest() -> Vec<(u64, u64)> {
    (0..4_820).map(|row| (row % 20, 1)).collect()
}

#[test]
fn sticky_sampling_fails_no_more_often_than_it_says() {
    let question = sampled(false);
    assert_eq!(question.stretch(), 600);
    for (rows, name) in [(zipf(8_000, 0.9, 1), "Zipf"), (hardest(), "hardest")] {
        let failed = failures(&question, &rows, |question| {
            let summary = summary_of(question, &rows);
            assert!(summary.entries() < 2 * question.stretch() as usize);
            summary
        });
        assert!(failed <= 50, "{name}: {failed} of 1,000 seeds failed");
    }
}

#[test]
fn weighted_sticky_sampling_fails_no_more_often_than_it_says() {
    let question = sampled(false);
    // Rows that stand for many, some of them across several doublings.
    let rows: Vec<(u64, u64)> = hardest()
        .chunks(241)
        .flat_map(|part| {
            (0..20).map(|item| (item, part.iter().filter(|row| row.0 == item).count() as u64 * 50))
        })
        .collect();
    let zipf: Vec<(u64, u64)> =
        zipf(3_000, 0.9, 1).iter().enumerate().map(|(row, r)| (r.0, row as u64 % 90)).collect();
    for (rows, name) in [(zipf, "Zipf"), (rows, "hardest")] {
        let failed = failures(&question, &rows, |question| summary_of(question, &rows));
        assert!(failed <= 50, "{name}: {failed} of 1,000 seeds failed");
    }
}

/// The samples of parts, merged in order; the places of rows are those in the whole.
fn merged_parts(question: &Question, rows: &[(u64, u64)], ends: &[usize]) -> Summary<Numbers> {
    let mut merged = Summary::new(question, -1);
    let mut start = 0;
    for (part, &end) in ends.iter().enumerate() {
        let mut summary = Summary::new(question, part as i64);
        for (place, row) in rows.iter().enumerate().take(end).skip(start) {
            add(&mut summary, place as u64, row.0, row.1);
        }
        assert!(merged.merge(&summary));
        start = end;
    }
    merged
}

#[test]
fn merged_samples_fail_no_more_often_than_they_say() {
    let question = sampled(true);
    let even: Vec<usize> = (1..=10).map(|part| part * 1_000).collect();
    let uneven = vec![7, 30, 900, 3_000, 3_001, 9_500, 10_000];
    for (rows, name) in [
        (zipf(10_000, 0.9, 1), "Zipf"),
        ((0..10_000).map(|row| (row % 20, 1)).collect(), "hardest"),
        ((0..10_000).map(|row| (row % 20, 1 + row / 20 % 13)).collect(), "weighted"),
    ] {
        for ends in [&even, &uneven] {
            let failed = failures(&question, &rows, |question| merged_parts(question, &rows, ends));
            assert!(failed <= 50, "{name}: {failed} of 1,000 seeds failed");
        }
        // What is counted behind a merge keeps the promise, too, whatever doubles then.
        let failed = failures(&question, &rows, |question| {
            let mut summary = merged_parts(question, &rows, &even[..3]);
            for (place, row) in rows.iter().enumerate().skip(3_000) {
                add(&mut summary, place as u64, row.0, row.1);
            }
            summary
        });
        assert!(failed <= 50, "{name}, going on: {failed} of 1,000 seeds failed");
    }
}

#[test]
fn entries_are_as_many_as_expected() {
    let question = sampled(false);
    // Items that come a hundred times in a row, and never again: at any time most entries are of items
    // that were sampled at an earlier rate.
    let mut entries_max = 0;
    for seed in 0..10 {
        let mut summary = Summary::new(&Question { seed, ..question }, 0);
        for row in 0..600_000 {
            add(&mut summary, row, row / 100, 1);
            entries_max = entries_max.max(summary.entries());
        }
    }
    assert!(entries_max as f64 <= 1.2 * question.stretch() as f64, "{entries_max}");
}

#[test]
fn a_weight_is_so_many_rows() {
    // Either way an item that came a hundred times is sampled at rate 16 with the same probability, and
    // short of as much.
    let question = sampled(false);
    let shortfall = |weight: u64| -> f64 {
        let short = (0..4_000).map(|seed| {
            let mut summary = Summary::new(&Question { seed, ..question }, 0);
            (0..5_000).for_each(|row| add(&mut summary, row, 1, 1));
            (0..100 / weight).for_each(|row| add(&mut summary, 5_000 + row, 7, weight));
            let entry = (0..summary.entries()).find(|&entry| summary.item(entry) == Some(7));
            100 - entry.map_or(0, |entry| summary.bounds(entry, 0).0)
        });
        short.sum::<u64>() as f64 / 4_000.0
    };
    let (rows, weight, both) = (shortfall(1), shortfall(100), shortfall(20));
    // 15 · (1 − (15/16)¹⁰⁰), with a standard error of 0.24.
    for mean in [rows, weight, both] {
        assert!((mean - 14.98).abs() < 1.0, "{rows} {weight} {both}");
    }
}

#[test]
fn parts_that_were_sampled_whole_are_exact() {
    let question = sampled(true);
    let rows: Vec<(u64, u64)> = (0..2_000).map(|row| (row % 31, 1)).collect();
    let merged = merged_parts(&question, &rows, &[500, 900, 1_400, 2_000]);
    let mut alone = question;
    alone.algorithm = Algorithm::Exact;
    let wanted = summary_of(&alone, &rows);
    let counts = |summary: &Summary<Numbers>| -> BTreeMap<u64, (u64, u64)> {
        let bounds = |entry| summary.bounds(entry, 40);
        (0..summary.entries())
            .map(|e| (summary.item(e).unwrap(), (bounds(e).0, bounds(e).2)))
            .collect()
    };
    assert_eq!(counts(&merged), counts(&wanted));
}

#[test]
fn sticky_sampling_repeats_and_depends_on_the_seed() {
    let question = question(Algorithm::StickySampling, "0.05", "0.02");
    let rows = zipf(20_000, 0.7, 2);
    let bytes = |seed| {
        let mut out = Vec::new();
        summary_of(&Question { seed, ..question }, &rows).write(&mut out);
        out
    };
    assert_eq!(bytes(1), bytes(1));
    assert_ne!(bytes(1), bytes(2));
}

fn stream() -> impl Strategy<Value = Vec<(u64, u64)>> {
    stream_of(1_500)
}

fn stream_of(rows: usize) -> impl Strategy<Value = Vec<(u64, u64)>> {
    let weight = prop_oneof![8 => Just(1_u64), 1 => 0..50_u64, 1 => 0..5_000_u64];
    let item = prop_oneof![3 => 0..6_u64, 2 => 0..100_u64, 1 => any::<u64>()];
    proptest::collection::vec((item, weight), 0..rows)
}

proptest! {
    #[test]
    fn promises_hold_on_random_streams(rows in stream(), error in 1..9_u64) {
        for algorithm in BOUNDED {
            let question = question(algorithm, "0.1", &format!("0.0{error}"));
            check(&question, &summary_of(&question, &rows), &rows);
        }
    }

    #[test]
    fn promises_hold_for_merged_slices(slices in proptest::collection::vec(stream_of(300), 1..6)) {
        for algorithm in BOUNDED {
            let question = question(algorithm, "0.1", "0.02");
            let mut merged = Summary::new(&question, 0);
            for slice in &slices {
                prop_assert!(merged.merge(&summary_of(&question, slice)));
            }
            let rows: Vec<(u64, u64)> = slices.concat();
            check(&question, &merged, &rows);
            let mut more = merged.clone();
            rows.iter().for_each(|&(item, weight)| add(&mut more, 0, item, weight));
            check(&question, &more, &[rows.clone(), rows].concat());
        }
    }

    #[test]
    fn bytes_give_the_same_summary(rows in stream(), cut in 0..1_500_usize) {
        for algorithm in [BOUNDED.as_slice(), &[Algorithm::StickySampling]].concat() {
            let question = question(algorithm, "0.1", "0.05");
            let cut = cut.min(rows.len());
            let first = summary_of(&question, &rows[..cut]);
            let (mut bytes, mut again) = (Vec::new(), Vec::new());
            first.write(&mut bytes);
            let mut read = Summary::<Numbers>::read(&question, 0, &mut bytes.as_slice()).unwrap();
            for (place, &(item, weight)) in rows.iter().enumerate().skip(cut) {
                add(&mut read, place as u64, item, weight);
            }
            bytes.clear();
            read.write(&mut again);
            summary_of(&question, &rows).write(&mut bytes);
            prop_assert_eq!(&again, &bytes);
            for cut in 0..bytes.len().min(300) {
                // Whatever is cut off is an error or another summary, never a panic.
                drop(Summary::<Numbers>::read(&question, 0, &mut &bytes[..cut]));
            }
        }
    }
}
