//! Simulates whole engines, deterministically: a simulated disk, a virtual clock, workers that take
//! turns in an order that a seed decides.
//!
//! Equal seeds give equal runs, down to each byte that is written. `docs/simulation.md` says what is
//! covered and how a seed is replayed.
//!
//! `WEIR_SIM_SEED` and `WEIR_SIM_COUNT` choose other seeds and more of them.

mod audit;
mod faults;
mod model;
mod plan;
mod points;
mod random;
mod remote;
mod sinks;
pub(crate) mod world;

use random::live;

/// A number of the environment, or what holds without it.
fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Seeds that found something: a query that an error of the disk had stopped lost its input to retention
/// (43); a replay behind REBUILD began without the watermark that the swap had left (2, 7, 14, 17, 25); PAUSE of a
/// query that had failed was not kept (110); groups came out in another order when replayed (136, 149); DROP IF EXISTS was
/// acknowledged for what a failed DROP had removed from memory only (477). Clients do more since
/// then, so that these seeds live other lives now. Found later, each with a test in `epochs.rs`: two epochs with a watermark
/// between them were told with a pause, and a GROUP BY with offsets and without groups could not be read. A query whose
/// REBUILD failed while the catalog was written went on where the catalog said that another plan begins (30536). What was
/// left of a segment that had found no room stood between others (32555). Segments were removed although an older one
/// had stayed, because the disk did not let it go (62537). A PAUSE that the catalog had refused was answered as done when it
/// was said again (108613).
const FOUND: [u64; 15] =
    [2, 7, 14, 17, 25, 43, 110, 136, 149, 477, 20_208, 30_536, 32_555, 62_537, 108_613];

#[test]
fn whatever_a_seed_does_nothing_acknowledged_is_lost_and_every_answer_is_right() {
    let seeds: Vec<u64> = match std::env::var("WEIR_SIM_SEED") {
        Ok(_) => {
            let first = setting("WEIR_SIM_SEED", 1);
            (first..first + setting("WEIR_SIM_COUNT", 1)).collect()
        }
        Err(_) => FOUND.into_iter().chain([1]).collect(),
    };
    let count = seeds.len();
    let mut failed = Vec::new();
    for seed in seeds {
        match std::panic::catch_unwind(|| live(seed)) {
            Ok(life) if count < 100 || seed.is_multiple_of(100) => {
                println!("seed {seed}: {life:?}")
            }
            Ok(_) => {}
            Err(_) => {
                println!("seed {seed} fails; WEIR_SIM_SEED={seed} WEIR_SIM_COUNT=1 repeats it");
                failed.push(seed);
            }
        }
    }
    assert!(failed.is_empty(), "{} of {count} seeds fail: {failed:?}", failed.len());
}

#[test]
fn equal_seeds_give_equal_traces() {
    let first = live(7);
    assert_eq!(first, live(7));
    assert_ne!(first.trace, live(8).trace);
}
