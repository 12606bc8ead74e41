//! Names points and spans of time, and owns the only door to a clock.
//!
//! Event time is an `i64`: microseconds since 1970-01-01T00:00:00Z for a time column, or the plain
//! value for a logical (integer) one. Processing time is always microseconds.

use std::sync::atomic::{AtomicI64, Ordering};

/// A point of event time: microseconds since the Unix epoch, or a logical time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventTime(pub i64);

impl EventTime {
    /// Before every row: the watermark of a stream that has seen none.
    pub const MIN: EventTime = EventTime(i64::MIN);
    /// After every row: the watermark that closes everything.
    pub const MAX: EventTime = EventTime(i64::MAX);

    /// This point less `bound`; the two ends of time stay where they are.
    pub fn minus(self, bound: i64) -> EventTime {
        match self {
            EventTime::MIN | EventTime::MAX => self,
            EventTime(t) => EventTime(t.saturating_sub(bound)),
        }
    }

    /// This point plus `bound`; the two ends of time stay where they are.
    pub fn plus(self, bound: i64) -> EventTime {
        match self {
            EventTime::MIN | EventTime::MAX => self,
            EventTime(t) => EventTime(t.saturating_add(bound)),
        }
    }
}

/// Microseconds in a second.
pub const SECOND: i64 = 1_000_000;

/// A duration of one or more parts, such as `1 day 12 hours`, in microseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let after = rest[digits..].trim_start();
        let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let number: f64 = rest[..digits].parse().ok()?;
        let width = match after[..letters].to_lowercase().as_str() {
            "us" | "microsecond" | "microseconds" => 1.0,
            "ms" | "millisecond" | "milliseconds" => 1e3,
            "s" | "sec" | "secs" | "second" | "seconds" => 1e6,
            "m" | "min" | "mins" | "minute" | "minutes" => 60e6,
            "h" | "hour" | "hours" => 3_600e6,
            "d" | "day" | "days" => 86_400e6,
            "w" | "week" | "weeks" => 7.0 * 86_400e6,
            _ => return None,
        };
        total += number * width;
        rest = after[letters..].trim_start();
    }
    (total < 9e18).then_some(total as i64)
}

/// Where processing time comes from. Nothing else in the project reads a clock.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Microseconds since the Unix epoch.
    fn now(&self) -> i64;
}

/// The machine's clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    fn now(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
    }
}

/// A clock that tests and scripts move by hand.
#[derive(Debug)]
pub struct VirtualClock(AtomicI64);

impl VirtualClock {
    /// A clock that stands at `now` microseconds.
    pub fn new(now: i64) -> VirtualClock {
        VirtualClock(AtomicI64::new(now))
    }
    /// Moves the clock forward by `micros`.
    pub fn advance(&self, micros: i64) {
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
    /// Sets the clock.
    pub fn set(&self, now: i64) {
        self.0.store(now, Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("30 s"), Some(30_000_000));
        assert_eq!(parse_duration("7 days"), Some(7 * 86_400_000_000));
        assert_eq!(parse_duration("1 day 12 hours"), Some(36 * 3_600_000_000));
        assert_eq!(parse_duration("250ms"), Some(250_000));
        for bad in ["", "7", "days", "7 parsecs", "-1 s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
