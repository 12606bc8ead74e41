//! Turns days and months of a time zone into points of time, and back.
//!
//! Civil days and months are counted from 1970-01-01 with plain integer arithmetic (Howard Hinnant,
//! "chrono-compatible low-level date algorithms"), so no date is out of range; only a zone's offset
//! is looked up. Beyond the years that the zone database knows, its last offset holds.
//!
//! *Local time* here is an `i64` too: the microseconds that a wall clock in the zone shows since its
//! own 1970-01-01T00:00. Where the clock is set forward some local times never occur: the point of
//! time that stands for them is the switch itself. Where it is set back some occur twice: the first
//! one counts. So the map from local time to points of time never goes back.

use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::Tz;

/// Microseconds in a day of 24 hours.
pub(super) const DAY: i64 = 86_400 * 1_000_000;

/// No zone is further from UTC than this, and no switch is wider than twice this.
const OFFSET_MAX: i64 = 18 * 3_600 * 1_000_000;

/// What the wall clocks of `zone` are ahead of UTC at the point of time `t`, in microseconds.
fn offset_at(zone: Tz, t: i64) -> i64 {
    let known = DateTime::from_timestamp_micros(t).unwrap_or(if t < 0 {
        DateTime::<chrono::Utc>::MIN_UTC
    } else {
        DateTime::<chrono::Utc>::MAX_UTC
    });
    let offset = zone.offset_from_utc_datetime(&known.naive_utc()).fix();
    i64::from(offset.local_minus_utc()) * 1_000_000
}

/// What a wall clock in `zone` shows at the point of time `t`.
pub(super) fn local(zone: Tz, t: i64) -> i64 {
    t.saturating_add(offset_at(zone, t))
}

/// The first point of time at which a wall clock in `zone` shows `local_time` or more.
pub(super) fn instant(zone: Tz, local_time: i64) -> i64 {
    if local_time == i64::MIN || local_time == i64::MAX {
        return local_time;
    }
    // Where no switch is near, the offset on both sides is the answer.
    let (mut below, mut reached) =
        (local_time.saturating_sub(2 * OFFSET_MAX), local_time.saturating_add(2 * OFFSET_MAX));
    let (before, after) = (offset_at(zone, below), offset_at(zone, reached));
    if before == after {
        let t = local_time.saturating_sub(before);
        if offset_at(zone, t) == before {
            return t;
        }
    }
    let early = local_time.saturating_sub(before.max(after));
    if local(zone, early) >= local_time && local(zone, early.saturating_sub(1)) < local_time {
        return early;
    }
    while below + 1 < reached {
        let middle = below + (reached - below) / 2;
        if local(zone, middle) >= local_time {
            reached = middle;
        } else {
            below = middle;
        }
    }
    reached
}

/// Year, month from 1 and day from 1 of a day counted from 1970-01-01.
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_month)
}

/// The day, counted from 1970-01-01, that is the first of a month counted from January 1970.
fn first_of_month(month: i64) -> i64 {
    let (year, month) = (1970 + month.div_euclid(12), month.rem_euclid(12) + 1);
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let of_year = (153 * month_from_march + 2) / 5;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * 146_097 + of_era - 719_468
}

/// The month, counted from January 1970, that a local time lies in.
pub(super) fn month_of(local_time: i64) -> i64 {
    let (year, month, _) = civil(local_time.div_euclid(DAY));
    (year - 1970) * 12 + month - 1
}

/// Midnight of the first of a month counted from January 1970, as local time.
pub(super) fn month_start(month: i64) -> i64 {
    // A month beyond any i64 of microseconds is as good as the end of time.
    let month = month.clamp(-4_000_000, 4_000_000);
    first_of_month(month).saturating_mul(DAY)
}

/// The same day and time of day so many months later; the last of the month where it is shorter.
pub(super) fn add_months(local_time: i64, months: i64) -> i64 {
    let (day, time) = (local_time.div_euclid(DAY), local_time.rem_euclid(DAY));
    let day_of_month = civil(day).2;
    let month = month_of(local_time).saturating_add(months).clamp(-4_000_000, 4_000_000);
    let first = first_of_month(month);
    let length = first_of_month(month + 1) - first;
    (first + day_of_month.min(length) - 1).saturating_mul(DAY).saturating_add(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Datelike, NaiveDate};
    use proptest::prelude::*;

    const HOUR: i64 = 3_600 * 1_000_000;

    fn utc(text: &str) -> i64 {
        text.parse::<DateTime<chrono::Utc>>().unwrap().timestamp_micros()
    }

    #[test]
    fn a_midnight_that_does_not_exist_is_the_switch_itself() {
        // Sao Paulo went from 23:59:59 on 2018-11-03 to 01:00:00 on 2018-11-04.
        let midnight = utc("2018-11-04T00:00:00Z");
        assert_eq!(instant(Tz::America__Sao_Paulo, midnight), utc("2018-11-04T03:00:00Z"));
        assert_eq!(instant(Tz::America__Sao_Paulo, midnight + HOUR), utc("2018-11-04T03:00:00Z"));
    }

    #[test]
    fn a_day_that_does_not_exist_begins_where_the_next_one_does() {
        // Samoa skipped 2011-12-30.
        let skipped = utc("2011-12-30T00:00:00Z");
        assert_eq!(instant(Tz::Pacific__Apia, skipped), utc("2011-12-30T10:00:00Z"));
        assert_eq!(instant(Tz::Pacific__Apia, skipped + DAY), utc("2011-12-30T10:00:00Z"));
    }

    #[test]
    fn of_a_time_that_occurs_twice_the_first_one_counts() {
        let twice = utc("2024-10-27T02:30:00Z");
        assert_eq!(instant(Tz::Europe__Paris, twice), utc("2024-10-27T00:30:00Z"));
    }

    #[test]
    fn the_last_of_january_and_a_month_is_the_last_of_february() {
        let january = utc("2024-01-31T06:00:00Z");
        assert_eq!(add_months(january, 1), utc("2024-02-29T06:00:00Z"));
        assert_eq!(add_months(january, -2), utc("2023-11-30T06:00:00Z"));
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        for t in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
            let zone = Tz::Asia__Kolkata;
            assert!((local(zone, t) - t).abs() <= OFFSET_MAX || t.checked_add(DAY).is_none());
            let _ = (instant(zone, t), add_months(t, 1), month_start(month_of(t)));
        }
        assert_eq!(month_start(i64::MAX), i64::MAX);
    }

    proptest! {
        #[test]
        fn civil_days_agree_with_chrono(day in -700_000_i64..700_000) {
            let date = NaiveDate::from_num_days_from_ce_opt((day + 719_163) as i32).unwrap();
            let expected =
                (i64::from(date.year()), i64::from(date.month()), i64::from(date.day()));
            prop_assert_eq!(civil(day), expected);
            let month = month_of(day * DAY);
            prop_assert_eq!(month_start(month), (day - i64::from(date.day()) + 1) * DAY);
        }

        #[test]
        fn instants_reach_their_local_time_and_no_earlier_one_does(
            seconds in -4_000_000_000_i64..4_000_000_000, zone in 0..6_usize,
        ) {
            let zones = [
                Tz::Europe__Paris, Tz::America__Sao_Paulo, Tz::Pacific__Apia, Tz::Asia__Kolkata,
                Tz::Australia__Lord_Howe, Tz::America__New_York,
            ];
            let (zone, wanted) = (zones[zone], seconds * 1_000_000);
            let t = instant(zone, wanted);
            prop_assert!(local(zone, t) >= wanted);
            prop_assert!(local(zone, t - 1) < wanted);
            prop_assert!(instant(zone, wanted + HOUR) >= t);
        }
    }
}
