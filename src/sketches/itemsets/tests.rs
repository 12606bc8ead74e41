//! Lossy counting over transactions against counting every subset.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Basket = Vec<u8>;

fn options(bucket_width: u64, buffer_buckets: u64, size_max: u32) -> ItemsetOptions {
    ItemsetOptions { bucket_width, buffer_buckets, size_max }
}

fn share(number: f64) -> Fraction {
    Fraction::parse(&number.to_string()).unwrap()
}

fn of(options: ItemsetOptions, baskets: &[Basket]) -> Itemsets {
    let mut itemsets = Itemsets::new(options);
    baskets.iter().for_each(|basket| itemsets.add(basket.chunks(1)));
    itemsets
}

/// How many baskets contain each set of items, counted one by one.
fn truth(baskets: &[Basket], size_max: u32) -> BTreeMap<Vec<u8>, u64> {
    let mut counts = BTreeMap::new();
    for basket in baskets {
        let mut items = basket.clone();
        items.sort_unstable();
        items.dedup();
        for chosen in 1_u32..1 << items.len() {
            if chosen.count_ones() <= size_max {
                let set = items.iter().enumerate().filter(|(at, _)| chosen & (1 << at) != 0);
                *counts.entry(set.map(|(_, item)| *item).collect()).or_default() += 1;
            }
        }
    }
    counts
}

/// Checks every promise of an answer; gives the number of sets.
fn check(itemsets: &Itemsets, baskets: &[Basket], support: f64, error: f64) -> usize {
    let share = share(support);
    let found = itemsets.frequent(share).unwrap();
    let truth = truth(baskets, itemsets.options.size_max);
    let all = baskets.len() as f64;
    assert_eq!(found.transactions, baskets.len() as u64);
    let mut seen = BTreeMap::new();
    for set in &found.sets {
        let items: Vec<u8> = set.items.iter().map(|item| found.items[*item as usize][0]).collect();
        let exact = truth.get(&items).copied().unwrap_or_default();
        assert!(items.is_sorted_by(|a, b| a < b), "items ascend");
        assert!(set.lower <= exact && exact <= set.upper, "{items:?}: {set:?}, truly {exact}");
        assert!((set.upper - set.lower) as f64 <= error * all + 1e-9, "{set:?}");
        assert!(exact as f64 >= (support - error) * all - 1e-9, "{items:?} is too rare");
        assert!(seen.insert(items, ()).is_none(), "once");
    }
    for (items, exact) in &truth {
        let frequent = *exact >= share.share(Fraction::ZERO, baskets.len() as u64);
        assert!(!frequent || seen.contains_key(items), "{items:?} is missing, {exact} times");
    }
    found.sets.len()
}

fn baskets() -> impl Strategy<Value = Vec<Basket>> {
    // Some items go together, so that large sets are frequent, too.
    let basket = (prop::collection::vec(0..12_u8, 0..5), any::<bool>(), any::<bool>()).prop_map(
        |(mut items, pair, triple)| {
            items.extend(if pair { &[20, 21][..] } else { &[] });
            items.extend(if triple { &[22, 21, 23][..] } else { &[] });
            items
        },
    );
    prop::collection::vec(basket, 0..160)
}

#[test]
fn a_summary_that_was_never_full_is_exact() {
    let baskets: Vec<Basket> =
        ["abc", "ab", "abcd", "", "bbb"].map(|basket| basket.as_bytes().to_vec()).to_vec();
    let itemsets = of(options(100, 2, 3), &baskets);
    assert_eq!(check(&itemsets, &baskets, 0.4, 0.0), 7);
    assert_eq!(check(&itemsets, &[baskets.clone()].concat(), 1.0, 0.0), 0);
}

#[test]
fn single_items_are_counted_as_lossy_counting_counts_them() {
    // The fixture of lossy counting over items, a bucket at a time.
    let stream: Vec<Basket> = b"abacadabeaafbag".iter().map(|item| vec![*item]).collect();
    let itemsets = of(options(5, 1, 1), &stream);
    let kept: Vec<_> = itemsets.nodes.iter().map(|node| (node.count, node.missed)).collect();
    assert_eq!((kept, &itemsets.items.texts[0][..]), (vec![(7, 0)], &b"a"[..]));
}

#[test]
fn too_many_sets_end_in_an_error_and_not_in_memory() {
    let basket: Vec<[u8; 2]> = (0..300_u16).map(u16::to_le_bytes).collect();
    let mut itemsets = Itemsets::new(options(2, 1, 4));
    for _ in 0..4 {
        itemsets.add(basket.iter().map(|item| &item[..]));
    }
    assert_eq!(itemsets.frequent(share(0.5)), Err(TooManySets));
    assert_eq!(itemsets.transactions(), 4);
    assert!(itemsets.size() < 10_000);
    let bytes = itemsets.to_bytes();
    let mut merged = of(options(2, 1, 4), &[vec![1]]);
    merged.merge(&Itemsets::from_bytes(options(2, 1, 4), &bytes).unwrap());
    assert_eq!(merged.frequent(share(0.5)), Err(TooManySets));
}

#[test]
fn one_huge_transaction_hides_nothing() {
    let mut itemsets = Itemsets::new(ItemsetOptions::new(share(0.01), 3));
    let huge: Vec<[u8; 4]> = (0..200_000_u32).map(u32::to_le_bytes).collect();
    itemsets.add(huge.iter().map(|item| &item[..]));
    for _ in 0..99 {
        itemsets.add([&b"a"[..], b"b"]);
    }
    let found = itemsets.frequent(share(0.1)).unwrap();
    assert_eq!(found.sets.iter().map(|set| set.lower).collect::<Vec<_>>(), [99, 99, 99]);
}

#[test]
fn memory_is_bounded_however_many_items_there_are() {
    let mut itemsets = Itemsets::new(ItemsetOptions::new(share(0.01), 3));
    for row in 0..50_000_u32 {
        let items = [row, row.wrapping_mul(7919), row % 10 + 1_000_000].map(u32::to_le_bytes);
        itemsets.add(items.iter().map(|item| &item[..]));
    }
    let found = itemsets.frequent(share(0.05)).unwrap();
    assert_eq!(found.sets.len(), 10);
    assert!(itemsets.set_count() < 50, "{}", itemsets.set_count());
    assert!(itemsets.size() < 4_000_000, "{}", itemsets.size());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn answers_keep_every_promise(
        baskets in baskets(), width in 2..20_u64, buffer in 1..4_u64, size_max in 1..5_u32,
        above in 1.05..6.0_f64,
    ) {
        let error = (1e6 / width as f64).floor() / 1e6;
        let itemsets = of(options(width, buffer, size_max), &baskets);
        check(&itemsets, &baskets, ((error * above * 1e6).floor() / 1e6).min(1.0), 1.0 / width as f64);
    }

    #[test]
    fn merged_summaries_keep_every_promise(
        baskets in baskets(), width in 2..15_u64, buffer in 1..3_u64,
        cuts in prop::collection::vec(0..100_usize, 1..5),
    ) {
        let options = options(width, buffer, 3);
        let mut merged = Itemsets::new(options);
        let mut rest = baskets.as_slice();
        for cut in cuts {
            let (part, after) = rest.split_at(cut.min(rest.len()));
            rest = after;
            merged.merge(&of(options, part));
        }
        merged.merge(&of(options, rest));
        let error = (1e6 / width as f64).floor() / 1e6;
        check(&merged, &baskets, ((error * 2e6).floor() / 1e6).min(1.0), 1.0 / width as f64);
    }

    #[test]
    fn a_summary_that_was_written_and_read_goes_on_to_the_bit(
        baskets in baskets(), cut in 0..160_usize,
    ) {
        let options = options(5, 2, 3);
        let (before, after) = baskets.split_at(cut.min(baskets.len()));
        let mut whole = of(options, before);
        let mut read = Itemsets::from_bytes(options, &whole.to_bytes()).unwrap();
        let mut empty = Itemsets::new(options);
        empty.merge(&read);
        for basket in after {
            for itemsets in [&mut whole, &mut read, &mut empty] {
                itemsets.add(basket.chunks(1));
            }
        }
        prop_assert_eq!(whole.to_bytes(), read.to_bytes());
        prop_assert_eq!(whole.to_bytes(), empty.to_bytes());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(0..6_u8, 0..60)) {
        let bytes = [&[VERSION][..], &bytes].concat();
        if let Some(mut read) = Itemsets::from_bytes(options(5, 2, 3), &bytes) {
            read.add([&b"a"[..]]);
        }
    }
}
