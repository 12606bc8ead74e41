//! Inverts Chernoff's bound of the binomial distribution, which holds for any number of trials.

/// Minus the logarithm of Chernoff's bound of the chance that of `count` trials, each of which succeeds with
/// probability `share`, as few or as many as `seen` succeed.
pub fn unlikeliness(seen: f64, count: f64, share: f64) -> f64 {
    let rest = count - seen;
    let below = if seen == 0.0 { 0.0 } else { seen * (seen / (count * share)).ln() };
    let above = if rest <= 0.0 { 0.0 } else { rest * (rest / (count * (1.0 - share))).ln() };
    below + above
}

/// Where `holds` turns from false at `low` to true at `high`.
pub fn crossing(holds: impl Fn(f64) -> bool, mut low: f64, mut high: f64) -> f64 {
    if holds(low) {
        return low;
    }
    for _ in 0..100 {
        let middle = low + (high - low) / 2.0;
        if holds(middle) { high = middle } else { low = middle }
    }
    low
}

/// The shares between which that of the trials lies of which `seen` of `count` succeeded, but for a
/// probability of `failure`.
pub fn share_bounds(seen: f64, count: f64, failure: f64) -> (f64, f64) {
    let doubt = (2.0 / failure).ln();
    let middle = seen / count;
    let likely = |share| unlikeliness(seen, count, share) <= doubt;
    let lower = if seen == 0.0 { 0.0 } else { crossing(likely, 0.0, middle) };
    let upper = if seen == count { 1.0 } else { crossing(|share| !likely(share), middle, 1.0) };
    (lower, upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_lie_between_their_bounds() {
        assert_eq!(share_bounds(0.0, 10.0, 0.05).0, 0.0);
        assert_eq!(share_bounds(10.0, 10.0, 0.05).1, 1.0);
        let (lower, upper) = share_bounds(50.0, 100.0, 0.05);
        assert!((0.36..0.40).contains(&lower) && (0.60..0.64).contains(&upper), "{lower} {upper}");
        // Nothing of a few is not nothing of many: e^(-10 p) = 0.025.
        let (_, upper) = share_bounds(0.0, 10.0, 0.05);
        assert!((1.0 - (1.0 - upper).powi(10) - 0.975).abs() < 1e-9, "{upper}");
    }
}
