//! Interrupts the program at named places, so that tests can crash it there.
//!
//! ```text
//! WEIR_FAULTS="log.synced=kill@3; query.step:boom=panic@1; log.write=full?/some/file"
//!              place      │    │             │                            │
//!                       action │             detail: of this object only  while this file exists
//!                              third passage only (3+: from the third on)
//! ```
//! Actions: `kill` ends the process as kill -9 does, with the thread still at the place; `panic`;
//! `sleep:MILLISECONDS`; `full` and `broken` make a call of the disk fail.
//!
//! Only builds for debugging and those with the feature `failpoints` have this. In all others each
//! place is an empty function.

#[cfg(any(debug_assertions, feature = "failpoints"))]
pub use armed::{after, at, io};
#[cfg(not(any(debug_assertions, feature = "failpoints")))]
pub use unarmed::{after, at, io};

#[cfg(not(any(debug_assertions, feature = "failpoints")))]
mod unarmed {
    use std::io::Result;

    /// A place where the program may be interrupted.
    #[inline(always)]
    pub fn at(_place: &str, _detail: &str) {}
    /// A place where a call of the disk may fail.
    ///
    /// # Errors
    /// None.
    #[inline(always)]
    pub fn io(_place: &str, _detail: &str) -> Result<()> {
        Ok(())
    }
    /// A place where the program may be interrupted in the middle of something.
    #[inline(always)]
    pub fn after(_place: &str, _detail: &str, _half: impl FnOnce()) {}
}

#[cfg(any(debug_assertions, feature = "failpoints"))]
mod armed {
    use std::io;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    const VARIABLE: &str = "WEIR_FAULTS";

    #[derive(Debug, PartialEq, Eq)]
    enum Action {
        Kill,
        Panic,
        Sleep(Duration),
        Fail(io::ErrorKind),
    }

    #[derive(Debug)]
    struct Rule {
        place: String,
        detail: Option<String>,
        action: Action,
        /// Passages, counted from 1, at which it acts.
        passages: std::ops::RangeInclusive<u64>,
        passed: AtomicU64,
        /// Acts only while this file exists.
        file: Option<String>,
    }

    impl Rule {
        fn parse(text: &str) -> Option<Rule> {
            let (place, rest) = text.trim().split_once('=')?;
            let (rest, file) = match rest.split_once('?') {
                Some((rest, file)) => (rest, Some(file.to_owned())),
                None => (rest, None),
            };
            let (action, passages) = match rest.split_once('@') {
                None => (rest, 1..=u64::MAX),
                Some((action, count)) => match count.strip_suffix('+') {
                    Some(from) => (action, from.parse().ok()?..=u64::MAX),
                    None => (action, count.parse().ok()?..=count.parse().ok()?),
                },
            };
            let action = match action.split_once(':') {
                Some(("sleep", millis)) => {
                    Action::Sleep(Duration::from_millis(millis.parse().ok()?))
                }
                None if action == "kill" => Action::Kill,
                None if action == "panic" => Action::Panic,
                None if action == "full" => Action::Fail(io::ErrorKind::StorageFull),
                None if action == "broken" => Action::Fail(io::ErrorKind::Other),
                _ => return None,
            };
            let (place, detail) = match place.split_once(':') {
                Some((place, detail)) => (place, Some(detail.to_owned())),
                None => (place, None),
            };
            let (place, passed) = (place.to_owned(), AtomicU64::new(0));
            Some(Rule { place, detail, action, passages, passed, file })
        }

        fn is_due(&self, place: &str, detail: &str) -> bool {
            self.place == place
                && self.detail.as_ref().is_none_or(|wanted| wanted == detail)
                && self.file.as_ref().is_none_or(|file| std::fs::exists(file).unwrap_or(false))
                && self.passages.contains(&(self.passed.fetch_add(1, Ordering::Relaxed) + 1))
        }
    }

    fn due(place: &str, detail: &str) -> Option<&'static Action> {
        static RULES: OnceLock<Vec<Rule>> = OnceLock::new();
        let rules = RULES.get_or_init(|| {
            let text = std::env::var(VARIABLE).unwrap_or_default();
            let rules = text.split(';').filter(|rule| !rule.trim().is_empty());
            rules.map(|rule| Rule::parse(rule).expect("WEIR_FAULTS is for tests only")).collect()
        });
        rules.iter().find(|rule| rule.is_due(place, detail)).map(|rule| &rule.action)
    }

    /// Ends the process as kill -9 does: others run on for a moment, this thread does not.
    fn kill() -> ! {
        let myself = std::process::id().to_string();
        // What follows waits for the end either way.
        drop(std::process::Command::new("kill").args(["-KILL", &myself]).spawn());
        loop {
            std::thread::park();
        }
    }

    fn act(action: &Action, place: &str) -> io::Result<()> {
        match action {
            Action::Kill => kill(),
            Action::Panic => panic!("fault at {place}"),
            Action::Sleep(time) => {
                std::thread::park_timeout(*time);
                Ok(())
            }
            Action::Fail(kind) => Err(io::Error::new(*kind, format!("fault at {place}"))),
        }
    }

    /// A place where the program may be interrupted.
    pub fn at(place: &str, detail: &str) {
        if let Some(action) = due(place, detail) {
            // A failure of the disk means nothing where no disk is asked.
            drop(act(action, place));
        }
    }

    /// A place where a call of the disk may fail.
    ///
    /// # Errors
    /// The one that a rule asks for.
    pub fn io(place: &str, detail: &str) -> io::Result<()> {
        due(place, detail).map_or(Ok(()), |action| act(action, place))
    }

    /// A place where the program may be interrupted in the middle of something: with `half` done.
    pub fn after(place: &str, detail: &str, half: impl FnOnce()) {
        if let Some(action) = due(place, detail) {
            half();
            // As in `at`.
            drop(act(action, place));
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn check(text: &str, passages: u64) -> Vec<u64> {
            let rule = Rule::parse(text).unwrap();
            (1..=passages).filter(|_| rule.is_due("a", "x")).collect()
        }

        #[test]
        fn a_rule_acts_at_its_place_its_object_and_its_passages() {
            assert_eq!(check("a=kill", 2), [1, 2]);
            assert_eq!(check(" a:x=panic@2", 4).len(), 1);
            assert_eq!(check("a=full@3+", 4).len(), 2);
            assert!(check("a:y=panic", 4).is_empty());
            assert!(check("b=broken", 4).is_empty());
            assert!(check("a=sleep:20?/no/such/file", 4).is_empty());
            assert_eq!(
                Rule::parse("a=sleep:20").unwrap().action,
                Action::Sleep(Duration::from_millis(20))
            );
            for bad in ["a", "a=", "a=kill@", "a=nap", "a=sleep:x"] {
                assert!(Rule::parse(bad).is_none(), "{bad}");
            }
        }
    }
}
