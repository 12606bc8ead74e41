//! Tosses coins that are a function of where they are tossed: a seed, a place, and a count there.

/// Mixes bits so that neighbouring inputs have unrelated outputs (the finaliser of SplitMix64).
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Sixty-four coins at a place.
pub fn at(seed: u64, place: u64) -> u64 {
    mix(mix(seed) ^ place)
}

/// A row of coins that begins at a place.
#[derive(Debug)]
pub struct Coins {
    origin: u64,
    taken: u64,
}

impl Coins {
    /// The coins of a place; `purpose` tells several rows of one place apart.
    pub fn new(seed: u64, place: u64, purpose: u64) -> Coins {
        Coins { origin: mix(at(seed, place) ^ purpose.rotate_left(32)), taken: 0 }
    }

    /// The next coin.
    pub fn toss(&mut self) -> bool {
        let word = mix(self.origin.wrapping_add(self.taken / 64));
        let coin = word >> (self.taken % 64) & 1 == 1;
        self.taken += 1;
        coin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coins_are_fair_and_repeat() {
        let heads = |seed| {
            let mut coins = Coins::new(seed, 7, 1);
            (0..100_000).filter(|_| coins.toss()).count()
        };
        for seed in 0..20 {
            assert!((49_000..51_000).contains(&heads(seed)), "{} heads", heads(seed));
        }
        assert_eq!(heads(3), heads(3));
        assert_ne!(at(1, 2), at(2, 1));
    }
}
