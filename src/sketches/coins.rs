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

/// Sixty-four coins of a row: the n-th one that is counted, at a place, under a seed that is random itself.
#[inline]
pub fn of_row(seed: u64, place: u64, row: u64) -> u64 {
    mix(mix(seed ^ place) ^ row)
}

/// How many of `tries` fail before the first that succeeds, where each succeeds with probability 1/`rate`,
/// a power of two; all of them where none does. `word` is sixty-four coins.
///
/// A number n of failures or more has probability (1 − 1/rate)ⁿ, so the answer is the greatest n for which
/// that lies above the word as a fraction. It is found by its bits from the greatest on, with
/// (1 − 1/rate)^(2ʲ) as fractions of 2⁶⁴: integers alone, the same on every machine.
#[inline]
pub fn failures(word: u64, rate: u64, tries: u64) -> u64 {
    debug_assert!(rate.is_power_of_two(), "a rate is a power of two");
    if rate == 1 || tries == 0 {
        return 0;
    }
    // 2⁶⁴ − 2⁶⁴/rate.
    let chance = (1_u64 << (64 - rate.trailing_zeros())).wrapping_neg();
    if tries == 1 {
        return u64::from(word < chance);
    }
    failures_of_many(word, chance, tries)
}

#[cold]
fn failures_of_many(word: u64, chance: u64, tries: u64) -> u64 {
    let bits = 64 - tries.leading_zeros() as usize;
    let mut chances = [0_u64; 64];
    let mut power = u128::from(chance);
    for chance in &mut chances[..bits] {
        *chance = power as u64;
        power = (power * power) >> 64;
    }
    let (mut failed, mut left) = (0_u64, 1_u128 << 64);
    for bit in (0..bits).rev() {
        let next = (left * u128::from(chances[bit])) >> 64;
        if next > u128::from(word) {
            left = next;
            failed |= 1 << bit;
        }
    }
    failed.min(tries)
}

/// Words of coins, one after the other, that begin at a place.
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

    /// The next sixty-four coins.
    pub fn word(&mut self) -> u64 {
        self.taken += 1;
        mix(self.origin.wrapping_add(self.taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coins_are_fair_and_repeat() {
        let heads = |seed| {
            let mut coins = Coins::new(seed, 7, 1);
            (0..100_000).filter(|_| coins.word() & 1 == 1).count()
        };
        for seed in 0..20 {
            assert!((49_000..51_000).contains(&heads(seed)), "{} heads", heads(seed));
        }
        assert_eq!(heads(3), heads(3));
        assert_ne!(at(1, 2), at(2, 1));
    }

    #[test]
    fn failures_are_as_many_as_a_rate_says() {
        const DRAWS: u64 = 100_000;
        for rate in [2_u64, 8, 1 << 10, 1 << 20] {
            let mut coins = Coins::new(5, rate, 0);
            let words: Vec<u64> = (0..DRAWS).map(|_| coins.word()).collect();
            let failed = |tries| words.iter().map(move |&word| failures(word, rate, tries));
            // None or more of all tries: rate − 1 on average, and e⁻¹ of them at least rate.
            let all = 50 * rate;
            let mean = failed(all).sum::<u64>() as f64 / DRAWS as f64;
            assert!((mean / (rate - 1) as f64 - 1.0).abs() < 0.02, "{mean} at {rate}");
            let long = failed(all).filter(|&n| n >= rate).count() as f64 / DRAWS as f64;
            let wanted = (1.0 - 1.0 / rate as f64).powf(rate as f64);
            assert!((long - wanted).abs() < 0.01, "{long} at {rate}");
            // Fewer tries are the first of more.
            for tries in [1, 2, 3, 7, rate] {
                assert!(failed(tries).zip(failed(all)).all(|(few, many)| few == many.min(tries)));
            }
        }
    }

    #[test]
    fn certain_and_hopeless_tries_end() {
        assert_eq!(failures(123, 1, u64::MAX), 0);
        assert_eq!(failures(123, 4, 0), 0);
        assert_eq!(failures(0, 1 << 62, 1_000_000), 1_000_000);
        assert_eq!(failures(u64::MAX, 2, u64::MAX), 0);
    }
}
