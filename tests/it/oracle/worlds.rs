//! Lives through one random world after another, each of a seed, and adds up what became of its questions.

use std::collections::BTreeMap;

use super::setting;

/// What became of the questions of a world.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) answered: usize,
    pub(super) compared: usize,
    /// Why, how often, and such a question.
    refused: BTreeMap<String, (usize, String)>,
}

impl Tally {
    /// Counts questions like `sql` that were not answered.
    pub(super) fn refuse(&mut self, why: &str, count: usize, sql: &str) {
        let (so_far, _) = self.refused.entry(why.to_owned()).or_insert((0, sql.to_owned()));
        *so_far += count;
    }

    fn add(&mut self, other: Tally) {
        self.answered += other.answered;
        self.compared += other.compared;
        for (why, (count, sql)) in other.refused {
            self.refuse(&why, count, &sql);
        }
    }
}

/// Lives through worlds. `PREFIX_CASES` says how many, `PREFIX_SEED` with which seed to begin, and
/// `PREFIX_ALL=1` to go on behind a failure, which `live` describes.
pub(super) fn live_through(
    prefix: &str,
    cases: u64,
    mut live: impl FnMut(u64) -> Result<Tally, String>,
) {
    let first = setting(&format!("{prefix}_SEED"), 1);
    let cases = setting(&format!("{prefix}_CASES"), cases);
    let keep_going = setting(&format!("{prefix}_ALL"), 0) > 0;
    let (mut total, mut failed) = (Tally::default(), 0);
    for seed in first..first + cases {
        match live(seed) {
            Ok(tally) => total.add(tally),
            Err(failure) => {
                let said =
                    format!("seed {seed} ({prefix}_SEED={seed} {prefix}_CASES=1)\n{failure}");
                assert!(keep_going, "{said}");
                println!("{said}\n");
                failed += 1;
            }
        }
    }
    println!("{} queries over {cases} worlds, compared {} times", total.answered, total.compared);
    println!("refused: {:#?}", total.refused);
    assert!(failed == 0, "{failed} of {cases} worlds failed");
    assert!(total.answered as u64 > 2 * cases, "hardly a question was answered");
}
