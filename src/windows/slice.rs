//! Cuts the time line at every edge of every window.
//!
//! ```text
//! windows   [=========)         [=========)            HOP, slide 10, size 7: two slices in ten,
//!                                                      the second one in no window
//!           [=============)                            HOP, slide 7, size 10: edges at 0, 3, 7, 10 …
//!                  [=============)
//! slices    [-----)[-----)[------)
//! ```
//!
//! All points of a slice lie in the same windows, so whatever is folded into a slice is folded into
//! each of its windows once. Slices tile the time line without holes.
//!
//! The edges of a hop repeat every slide: its starts, and its ends, which all leave the same
//! remainder `size mod slide`. Windows of several sizes have one such remainder for each size.
//! Source: Krishnamurthy, Wu, Franklin, "On-the-fly sharing for streamed aggregation", SIGMOD 2006.

use crate::windows::assign::{Shape, Windows, clamp};

/// Below this distance from 0, sums and differences of three times do not overflow.
const NEAR: i64 = 1 << 60;

impl Windows {
    /// The slice `[start, end)` that `t` lies in.
    pub fn slice_of(&self, t: i64) -> (i64, i64) {
        match &self.shape {
            &Shape::Hop { origin, slide, size } => {
                let edge = size % slide;
                if near(t) && near(origin) && slide < NEAR {
                    let within = (t - origin).rem_euclid(slide);
                    let base = t - within;
                    return if within < edge {
                        (base, base + edge)
                    } else {
                        (base + edge, base + slide)
                    };
                }
                let within = (i128::from(t) - i128::from(origin)).rem_euclid(i128::from(slide));
                let base = i128::from(t) - within;
                if within < i128::from(edge) {
                    (clamp(base), clamp(base + i128::from(edge)))
                } else {
                    (clamp(base + i128::from(edge)), clamp(base + i128::from(slide)))
                }
            }
            &Shape::Horizons { origin, slide, ref edges, .. } => {
                let within = if near(t) && near(origin) && slide < NEAR {
                    (t - origin).rem_euclid(slide)
                } else {
                    let from_origin = i128::from(t) - i128::from(origin);
                    // Less than the slide, so it fits.
                    clamp(from_origin.rem_euclid(i128::from(slide)))
                };
                let after = edges.partition_point(|&edge| edge <= within);
                let end = edges.get(after).copied().unwrap_or(slide);
                let base = i128::from(t) - i128::from(within);
                (clamp(base + i128::from(edges[after - 1])), clamp(base + i128::from(end)))
            }
            &Shape::Cumulate { origin, step, size } => {
                let (step, size) = (i128::from(step), i128::from(size));
                let within = (i128::from(t) - i128::from(origin)).rem_euclid(size);
                let start = within - within % step;
                let base = i128::from(t) - within;
                (clamp(base + start), clamp(base + (start + step).min(size)))
            }
            &Shape::Landmark { since } => {
                if t < since {
                    (i64::MIN, since)
                } else {
                    (since, i64::MAX)
                }
            }
            Shape::Calendar(calendar) => calendar.slice_of(t),
        }
    }

    /// Appends to `starts` the start of each time's slice.
    pub fn slice_starts(&self, times: &[i64], starts: &mut Vec<i64>) {
        starts.reserve(times.len());
        // Neighbouring rows mostly share their slice.
        let (mut start, mut end) = times.first().map_or((0, 0), |&t| self.slice_of(t));
        for &t in times {
            if t < start || end <= t {
                (start, end) = self.slice_of(t);
            }
            starts.push(start);
        }
    }
}

fn near(t: i64) -> bool {
    (-NEAR..NEAR).contains(&t)
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;
    use proptest::prelude::*;

    use crate::windows::assign::Windows;
    use crate::windows::spec::{Sizes, Span, TimeWindow, TimeWindowKind};

    const HOUR: i64 = 3_600 * 1_000_000;
    const DAY: i64 = 24 * HOUR;

    fn windows(kind: TimeWindowKind, offset: i64, timezone: Option<Tz>) -> Windows {
        Windows::new(&TimeWindow { kind, offset, timezone })
    }

    fn utc(text: &str) -> i64 {
        text.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_micros()
    }

    fn show(windows: &[(i64, i64)]) -> String {
        let point = |t| {
            chrono::DateTime::from_timestamp_micros(t).unwrap().format("%m-%dT%H:%M").to_string()
        };
        let one = |&(start, end): &(i64, i64)| format!("{}..{}", point(start), point(end));
        windows.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn paris(size: Span) -> Windows {
        windows(TimeWindowKind::Tumble { size }, 0, Some(Tz::Europe__Paris))
    }

    #[test]
    fn a_day_in_paris_has_23_hours_in_march_and_25_in_october() {
        let day = paris(Span::Days(1));
        let march = day.windows_of(utc("2024-03-31T12:00:00Z"));
        assert_eq!(show(&march), "03-30T23:00..03-31T22:00");
        let october = day.windows_of(utc("2024-10-27T12:00:00Z"));
        assert_eq!(show(&october), "10-26T22:00..10-27T23:00");
    }

    #[test]
    fn a_month_ends_where_the_next_one_starts() {
        let january = paris(Span::Months(1)).windows_of(utc("2024-01-31T22:59:59Z"));
        assert_eq!(show(&january), "12-31T23:00..01-31T23:00");
        let kind = TimeWindowKind::Tumble { size: Span::Months(1) };
        let shifted = windows(kind, 30 * DAY, None);
        let late = shifted.windows_of(utc("2023-03-02T12:00:00Z"));
        assert_eq!(show(&late), "01-31T00:00..03-03T00:00");
    }

    #[test]
    fn a_day_that_was_skipped_holds_nothing() {
        let kind = TimeWindowKind::Tumble { size: Span::Days(1) };
        let samoa = windows(kind, 0, Some(Tz::Pacific__Apia));
        let before = samoa.windows_of(utc("2011-12-30T09:59:59Z"));
        assert_eq!(show(&before), "12-29T10:00..12-30T10:00");
        let after = samoa.windows_of(utc("2011-12-30T10:00:00Z"));
        assert_eq!(show(&after), "12-30T10:00..12-31T10:00");
    }

    #[test]
    fn a_day_in_utc_is_24_hours_wide() {
        let fixed = windows(TimeWindowKind::Tumble { size: Span::Fixed(DAY) }, 7, None);
        let days = windows(TimeWindowKind::Tumble { size: Span::Days(1) }, 7, Some(Tz::UTC));
        for t in [-DAY, -1, 6, 7, utc("1969-07-20T20:17:00Z"), utc("2024-02-29T00:00:00Z")] {
            assert_eq!(fixed.windows_of(t), days.windows_of(t));
            assert_eq!(fixed.slice_of(t), days.slice_of(t));
        }
    }

    #[test]
    fn hours_of_a_zone_with_half_an_hour_start_at_half_past() {
        let kind = TimeWindowKind::Tumble { size: Span::Fixed(HOUR) };
        let india = windows(kind, 0, Some(Tz::Asia__Kolkata));
        assert_eq!(
            show(&india.windows_of(utc("2024-01-01T00:10:00Z"))),
            "12-31T23:30..01-01T00:30"
        );
    }

    #[test]
    fn a_landmark_has_one_window_that_never_ends() {
        let landmark = windows(TimeWindowKind::Landmark { since: 100 }, 0, None);
        assert_eq!(landmark.windows_of(99), vec![]);
        assert_eq!(landmark.windows_of(100), vec![(100, i64::MAX)]);
        assert_eq!(landmark.slice_of(99), (i64::MIN, 100));
    }

    #[test]
    fn a_cumulating_day_of_a_switch_has_an_hour_more_or_less() {
        let kind = TimeWindowKind::Cumulate { step: Span::Fixed(HOUR), size: Span::Days(1) };
        let cumulate = windows(kind, 0, Some(Tz::Europe__Paris));
        assert_eq!(cumulate.windows_of(utc("2024-03-30T23:30:00Z")).len(), 23);
        assert_eq!(cumulate.windows_of(utc("2024-10-26T22:30:00Z")).len(), 25);
    }

    #[test]
    fn windows_of_several_sizes_come_by_their_ends_and_share_slices() {
        let kind = horizons(5, [20, 5, 12]);
        let compiled = windows(kind, 0, None);
        let mine = [(-5, 15), (10, 15), (5, 17), (0, 20), (10, 22), (5, 25), (10, 30)];
        assert_eq!(compiled.windows_of(13), mine);
        assert_eq!([10, 12].map(|t| compiled.slice_of(t)), [(10, 12), (12, 15)]);
        let widths = [(10, 15), (5, 17), (0, 20)];
        assert_eq!(widths.map(|(start, end)| compiled.horizon_of(start, end)), [0, 1, 2]);
    }

    #[test]
    fn sizes_that_are_equal_on_most_days_make_one_window_then() {
        let sizes = Sizes::new(&[Span::Days(1), Span::Fixed(24 * HOUR)]).unwrap();
        let kind = TimeWindowKind::Horizons { slide: Span::Days(1), sizes };
        let paris = windows(kind, 0, Some(Tz::Europe__Paris));
        assert_eq!(
            show(&paris.windows_of(utc("2024-03-30T12:00:00Z"))),
            "03-29T23:00..03-30T23:00"
        );
        assert_eq!(
            show(&paris.windows_of(utc("2024-03-31T12:00:00Z"))),
            "03-30T23:00..03-31T22:00 03-30T23:00..03-31T23:00"
        );
    }

    #[test]
    fn the_ends_of_time_lie_in_windows_cut_short() {
        let kind = TimeWindowKind::Hop { slide: Span::Fixed(7), size: Span::Fixed(10) };
        let hop = windows(kind, 3, None);
        assert!(hop.windows_of(i64::MIN).iter().all(|w| w.0 == i64::MIN));
        assert_eq!(hop.windows_of(i64::MAX).last().map(|w| w.1), Some(i64::MAX));
        let several = windows(horizons(7, [10, 14, 15]), 3, None);
        for t in [i64::MIN, i64::MIN + 20, i64::MAX - 20, i64::MAX] {
            let found = several.windows_of(t);
            assert!(found.iter().all(|w| w.0 <= t && (t < w.1 || w.1 == i64::MAX)));
            assert!(found.windows(2).all(|two| (two[0].1, two[0].0) < (two[1].1, two[1].0)));
        }
        let huge = TimeWindowKind::Tumble { size: Span::Fixed(i64::MAX) };
        assert_eq!(windows(huge, 0, None).windows_of(-1), vec![(-i64::MAX, 0)]);
        for kind in [
            TimeWindowKind::Tumble { size: Span::Months(1) },
            TimeWindowKind::Hop { slide: Span::Days(1), size: Span::Months(1) },
            TimeWindowKind::Cumulate { step: Span::Days(1), size: Span::Months(1) },
        ] {
            let months = windows(kind, 0, Some(Tz::Asia__Kolkata));
            assert!(
                !months.windows_of(i64::MIN).is_empty() && !months.windows_of(i64::MAX).is_empty()
            );
            assert!(months.slice_of(i64::MAX).0 > 0);
        }
    }

    /// Every window that could hold a time near 0, by counting.
    fn brute(kind: TimeWindowKind, offset: i64, t: i64) -> Vec<(i64, i64)> {
        let mut all = Vec::new();
        for k in -400..400_i64 {
            match kind {
                TimeWindowKind::Hop { slide: Span::Fixed(slide), size: Span::Fixed(size) } => {
                    all.push((offset + k * slide, offset + k * slide + size));
                }
                TimeWindowKind::Horizons { slide: Span::Fixed(slide), sizes } => {
                    let start = offset + k * slide;
                    all.extend(sizes.as_slice().iter().map(|size| (start, start + size.about())));
                }
                TimeWindowKind::Cumulate { step: Span::Fixed(step), size: Span::Fixed(size) } => {
                    let start = offset + k * size;
                    all.extend((1..=size / step).map(|j| (start, start + j * step)));
                }
                _ => unreachable!("the strategy makes hops and cumulates"),
            }
        }
        all.retain(|&(start, end)| start <= t && t < end);
        all.sort_by_key(|&(start, end)| (end, start));
        all
    }

    fn any_kind() -> impl Strategy<Value = TimeWindowKind> {
        prop_oneof![
            (1..20_i64, 1..40_i64).prop_map(|(slide, size)| TimeWindowKind::Hop {
                slide: Span::Fixed(slide),
                size: Span::Fixed(size),
            }),
            (1..10_i64, 1..6_i64).prop_map(|(step, steps)| TimeWindowKind::Cumulate {
                step: Span::Fixed(step),
                size: Span::Fixed(step * steps),
            }),
            (1..20_i64, prop::collection::btree_set(1..40_i64, 1..5))
                .prop_map(|(slide, sizes)| horizons(slide, sizes)),
        ]
    }

    fn horizons(slide: i64, sizes: impl IntoIterator<Item = i64>) -> TimeWindowKind {
        let sizes: Vec<Span> = sizes.into_iter().map(Span::Fixed).collect();
        let slide = Span::Fixed(slide);
        TimeWindowKind::Horizons { slide, sizes: Sizes::new(&sizes).unwrap() }
    }

    fn any_calendar() -> impl Strategy<Value = Windows> {
        let span = || {
            prop_oneof![
                (1..4_i64).prop_map(Span::Days),
                (1..4_i64).prop_map(Span::Months),
                (1..30_i64).prop_map(|hours| Span::Fixed(hours * HOUR)),
            ]
        };
        let zones = prop::sample::select(vec![
            Tz::Europe__Paris,
            Tz::America__Sao_Paulo,
            Tz::Pacific__Apia,
            Tz::Australia__Lord_Howe,
            Tz::UTC,
        ]);
        let offset = prop_oneof![Just(0), -40 * DAY..40 * DAY];
        (span(), span(), span(), zones, offset, 0..3).prop_map(|(a, b, c, zone, offset, kind)| {
            let kind = match kind {
                0 => TimeWindowKind::Cumulate { step: a, size: b },
                1 => TimeWindowKind::Hop { slide: a, size: b },
                _ => TimeWindowKind::Horizons { slide: a, sizes: Sizes::new(&[b, c]).unwrap() },
            };
            windows(kind, offset, Some(zone))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn fixed_windows_match_counting(kind in any_kind(), offset in -50..50_i64, t in -300..300_i64) {
            prop_assert_eq!(windows(kind, offset, None).windows_of(t), brute(kind, offset, t));
        }

        #[test]
        fn a_fixed_slice_lies_between_neighbouring_edges(
            kind in any_kind(), offset in -50..50_i64, t in -300..300_i64,
        ) {
            let compiled = windows(kind, offset, None);
            let (start, end) = compiled.slice_of(t);
            prop_assert!(start <= t && t < end);
            let mine = brute(kind, offset, t);
            for inside in start..end {
                prop_assert_eq!(&brute(kind, offset, inside), &mine);
            }
            prop_assert_ne!(&brute(kind, offset, start - 1), &mine);
            prop_assert_ne!(&brute(kind, offset, end), &mine);
            let mut starts = Vec::new();
            compiled.slice_starts(&[t, t + 1, t - 9], &mut starts);
            let expected: Vec<i64> =
                [t, t + 1, t - 9].iter().map(|&t| compiled.slice_of(t).0).collect();
            prop_assert_eq!(starts, expected);
        }

        #[test]
        fn far_from_zero_the_same_rules_hold(
            kind in any_kind(), t in prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>()],
        ) {
            let compiled = windows(kind, 0, None);
            let (start, end) = compiled.slice_of(t);
            prop_assert!(start <= t && (t < end || end == i64::MAX));
            for (from, to) in compiled.windows_of(t) {
                prop_assert!(from <= start && end <= to);
            }
        }

        #[test]
        fn calendar_slices_lie_in_the_same_windows_throughout(
            compiled in any_calendar(), seconds in -2_000_000_000_i64..2_000_000_000,
        ) {
            let t = seconds * 1_000_000;
            let (start, end) = compiled.slice_of(t);
            prop_assert!(start <= t && t < end);
            let mine = compiled.windows_of(t);
            for &(from, to) in &mine {
                prop_assert!(from <= t && t < to, "{from} {t} {to}");
                prop_assert!(from <= start && end <= to);
            }
            for part in 0..8 {
                let inside = start + (end - start) / 8 * part;
                prop_assert_eq!(&compiled.windows_of(inside), &mine);
            }
            prop_assert_eq!(compiled.windows_of(end - 1), mine);
            prop_assert_eq!(compiled.slice_of(start - 1).1, start);
            prop_assert_eq!(compiled.slice_of(end).0, end);
        }
    }
}
