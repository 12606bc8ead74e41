//! Names the ways in which a script is run, and cuts its feeds accordingly.

use std::fmt;

use crate::time::SECOND;

/// A way to run a script. What it emits must be the same in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Each feed is one request.
    AsWritten,
    /// Each row is a request of its own.
    RowByRow,
    /// Each feed is cut into requests at random places.
    RandomCuts {
        /// Decides the places.
        seed: u64,
    },
    /// The engine is restarted after each feed.
    RestartAfterFeeds,
    /// Each row is a request of its own and each step of a query takes one.
    SmallSteps,
}

impl Mode {
    /// The five modes.
    pub const ALL: [Mode; 5] = [
        Mode::AsWritten,
        Mode::RowByRow,
        Mode::RandomCuts { seed: 0x5eed },
        Mode::RestartAfterFeeds,
        Mode::SmallSteps,
    ];

    /// Rows that a step takes at most.
    pub(super) fn step_rows(self) -> usize {
        match self {
            Mode::SmallSteps => 1,
            Mode::AsWritten
            | Mode::RowByRow
            | Mode::RandomCuts { .. }
            | Mode::RestartAfterFeeds => 65_536,
        }
    }

    /// Least time between two snapshots while the engine is open for the `opened`-th time. Where it
    /// is restarted after each feed, snapshots are taken after every step or not at all in turn, so
    /// that queries start from their last state, from an older one, and from nothing.
    pub(super) fn snapshot_interval(self, opened: u64) -> i64 {
        match self {
            Mode::RestartAfterFeeds if opened.is_multiple_of(2) => i64::MAX,
            Mode::RestartAfterFeeds => 0,
            Mode::AsWritten | Mode::RowByRow | Mode::RandomCuts { .. } | Mode::SmallSteps => {
                10 * SECOND
            }
        }
    }

    /// Shards of a GROUP BY while the engine is open for the `opened`-th time. Where it is restarted after
    /// each feed there are one to three in turn, so that states of each number are read back by each.
    pub(super) fn shards(self, opened: u64) -> usize {
        match self {
            Mode::AsWritten | Mode::RowByRow => 1,
            Mode::SmallSteps => 2,
            Mode::RandomCuts { .. } => 3,
            Mode::RestartAfterFeeds => [1, 3, 3, 2][(opened % 4) as usize],
        }
    }

    /// Whether changes that coalesce may come out in other portions than the script was written for.
    pub(super) fn cuts_feeds(self) -> bool {
        matches!(self, Mode::RowByRow | Mode::RandomCuts { .. } | Mode::SmallSteps)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mode::AsWritten => f.write_str("as written"),
            Mode::RowByRow => f.write_str("row by row"),
            Mode::RandomCuts { seed } => write!(f, "random cuts, seed {seed}"),
            Mode::RestartAfterFeeds => f.write_str("restart after each feed"),
            Mode::SmallSteps => f.write_str("small steps"),
        }
    }
}

/// Cuts feeds into requests as a mode wants it.
#[derive(Debug)]
pub(super) struct Cutter {
    mode: Mode,
    state: u64,
}

impl Cutter {
    pub(super) fn new(mode: Mode) -> Cutter {
        let state = if let Mode::RandomCuts { seed } = mode { seed } else { 0 };
        Cutter { mode, state }
    }

    /// The lengths of the requests that hold `lines` lines together, in order.
    pub(super) fn cut(&mut self, lines: usize) -> Vec<usize> {
        match self.mode {
            Mode::AsWritten | Mode::RestartAfterFeeds => vec![lines],
            Mode::RowByRow | Mode::SmallSteps => vec![1; lines],
            Mode::RandomCuts { .. } => {
                let mut lengths = Vec::new();
                let mut left = lines;
                while left > 0 {
                    let length = 1 + (self.random() % left as u64) as usize;
                    lengths.push(length);
                    left -= length;
                }
                lengths
            }
        }
    }

    /// SplitMix64: the same cuts for the same seed, on every machine.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_hold_all_lines_in_every_mode() {
        for mode in Mode::ALL {
            let mut cutter = Cutter::new(mode);
            for lines in [1, 2, 7, 100] {
                let lengths = cutter.cut(lines);
                assert_eq!(lengths.iter().sum::<usize>(), lines, "{mode}");
                assert!(lengths.iter().all(|length| *length > 0), "{mode}");
            }
        }
    }
}
