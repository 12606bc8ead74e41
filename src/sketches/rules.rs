//! Derives association rules from frequent sets: who has the antecedent has the consequent, too.
//!
//! The confidence of A → C is the count of A and C together over the count of A. Both counts are
//! known within bounds, and the first is never above the second; the interval holds every quotient that
//! the two bounds allow, so it holds the true one.

use std::collections::BTreeMap;

use super::fraction::Fraction;
use super::itemsets::{Frequent, FrequentSet};

/// A fraction with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// No less than this.
    pub lower: f64,
    /// Of what was counted.
    pub estimate: f64,
    /// No more than this.
    pub upper: f64,
}

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Items that come first, as places in [`Frequent::items`], ascending.
    pub antecedent: Vec<u32>,
    /// Items that come along, ascending.
    pub consequent: Vec<u32>,
    /// The fraction of all transactions that contain both.
    pub support: Interval,
    /// The fraction of those with the antecedent.
    pub confidence: Interval,
    /// Confidence over the fraction of all transactions that contain the consequent.
    pub lift: f64,
}

/// The quotient of two counts, of which the first is part of the second.
fn quotient(part: &FrequentSet, whole: &FrequentSet) -> Interval {
    let divide = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    Interval {
        lower: divide(part.lower, whole.upper.max(part.lower)),
        estimate: divide(part.estimate, whole.estimate.max(part.estimate)),
        upper: divide(part.upper, whole.lower.max(part.upper)),
    }
}

/// Every rule within the frequent sets whose confidence may reach `confidence`: all that do, each
/// set's rules together, in the order of the sets.
pub fn rules(frequent: &Frequent, confidence: Fraction) -> Vec<Rule> {
    let known: BTreeMap<&[u32], &FrequentSet> =
        frequent.sets.iter().map(|set| (set.items.as_slice(), set)).collect();
    let all = frequent.transactions as f64;
    let mut rules = Vec::new();
    for set in frequent.sets.iter().filter(|set| set.items.len() > 1) {
        // Each bit of `chosen` puts one item on the left.
        for chosen in 1_u32..(1 << set.items.len()) - 1 {
            let (antecedent, consequent) = split(&set.items, chosen);
            let (Some(left), Some(right)) =
                (known.get(antecedent.as_slice()), known.get(consequent.as_slice()))
            else {
                continue;
            };
            let whole = left.lower.max(set.upper);
            if set.upper < confidence.share(Fraction::ZERO, whole) {
                continue;
            }
            let confidence = quotient(set, left);
            rules.push(Rule {
                antecedent,
                consequent,
                support: Interval {
                    lower: set.lower as f64 / all,
                    estimate: set.estimate as f64 / all,
                    upper: set.upper as f64 / all,
                },
                confidence,
                lift: confidence.estimate * all / right.estimate as f64,
            });
        }
    }
    rules
}

fn split(items: &[u32], chosen: u32) -> (Vec<u32>, Vec<u32>) {
    let mut sides = (Vec::new(), Vec::new());
    for (at, item) in items.iter().enumerate() {
        if chosen & (1 << at) != 0 { sides.0.push(*item) } else { sides.1.push(*item) }
    }
    sides
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sketches::itemsets::{ItemsetOptions, Itemsets};

    fn share(text: &str) -> Fraction {
        Fraction::parse(text).unwrap()
    }

    #[test]
    fn the_textbook_rules() {
        let mut itemsets = Itemsets::new(ItemsetOptions::new(share("0.01"), 3));
        for basket in [
            "bread milk",
            "bread nappies beer eggs",
            "milk nappies beer cola",
            "bread milk nappies beer",
            "bread milk nappies cola",
        ] {
            itemsets.add(basket.split(' ').map(str::as_bytes));
        }
        let frequent = itemsets.frequent(share("0.4")).unwrap();
        let found = rules(&frequent, share("0.7"));
        let words = |items: &[u32]| {
            let word =
                |item: &u32| String::from_utf8(frequent.items[*item as usize].to_vec()).unwrap();
            items.iter().map(word).collect::<Vec<_>>().join(" ")
        };
        let line = |rule: &Rule| {
            assert_eq!(rule.confidence.lower, rule.confidence.upper);
            format!(
                "{} > {} {} {} {:.3}",
                words(&rule.antecedent),
                words(&rule.consequent),
                rule.support.estimate,
                rule.confidence.estimate,
                rule.lift
            )
        };
        let mut lines: Vec<String> = found.iter().map(line).collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "beer > nappies 0.6 1 1.250",
                "bread > milk 0.6 0.75 0.938",
                "bread > nappies 0.6 0.75 0.938",
                "bread beer > nappies 0.4 1 1.250",
                "cola > milk 0.4 1 1.250",
                "cola > milk nappies 0.4 1 1.667",
                "cola > nappies 0.4 1 1.250",
                "milk > bread 0.6 0.75 0.938",
                "milk > nappies 0.6 0.75 0.938",
                "milk beer > nappies 0.4 1 1.250",
                "milk cola > nappies 0.4 1 1.250",
                "nappies > beer 0.6 0.75 1.250",
                "nappies > bread 0.6 0.75 0.938",
                "nappies > milk 0.6 0.75 0.938",
                "nappies cola > milk 0.4 1 1.250",
            ]
            .map(|line| line
                .replace("bread beer", "beer bread")
                .replace("milk beer", "beer milk")
                .replace("milk cola", "cola milk")
                .replace("nappies cola", "cola nappies"))
            .into_iter()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
        );
    }

    #[test]
    fn intervals_hold_what_the_bounds_allow() {
        let set = |lower, upper| FrequentSet { items: vec![], lower, estimate: lower, upper };
        let interval = quotient(&set(10, 14), &set(12, 20));
        assert_eq!((interval.lower, interval.upper), (0.5, 1.0));
        let interval = quotient(&set(10, 14), &set(20, 25));
        assert_eq!((interval.lower, interval.estimate, interval.upper), (0.4, 0.5, 0.7));
    }
}
