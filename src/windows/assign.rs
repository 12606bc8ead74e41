//! Says which windows a point of time lies in.
//!
//! Windows of fixed width are counted from an origin: window `k` of a hop is
//! `[origin + k·slide, origin + k·slide + size)`. Windows by the calendar are counted in days or
//! months of local time and then mapped to points of time, so a day in Paris has 23, 24 or 25 hours.
//! In UTC a day always has 24, so there days are fixed widths.
//!
//! Starts and ends beyond the range of an `i64` are cut to it: a window whose end is
//! [`i64::MAX`] closes at the end of time only. By the calendar, points of time more than 2^62
//! microseconds (146,000 years) from 1970 count as if they lay there.

use chrono_tz::Tz;

use crate::windows::calendar::{self, DAY};
use crate::windows::spec::{Span, TimeWindow, TimeWindowKind};

/// A time window ready to compute with.
#[derive(Debug, Clone)]
pub struct Windows {
    pub(super) shape: Shape,
    /// About how wide the windows are, where there are several sizes; ascending.
    horizons: Vec<i64>,
}

/// What the arithmetic differs by.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// Starts every `slide` from `origin`, each `size` wide.
    Hop { origin: i64, slide: i64, size: i64 },
    /// Starts every `slide` from `origin`, one window of each of `sizes`, which ascend.
    Horizons {
        origin: i64,
        slide: i64,
        sizes: Vec<i64>,
        /// Where windows start or end, less the last multiple of `slide`; ascending from 0.
        edges: Vec<i64>,
    },
    /// Starts every `size` from `origin`, growing by `step`.
    Cumulate { origin: i64, step: i64, size: i64 },
    /// One window without end.
    Landmark { since: i64 },
    /// By the calendar of a zone.
    Calendar(Calendar),
}

/// Windows that start by the calendar, end by it, or both.
#[derive(Debug, Clone)]
pub(super) struct Calendar {
    zone: Tz,
    offset: i64,
    /// Distance between starts.
    slide: Span,
    /// Widths of the windows that start together.
    sizes: Vec<Span>,
    /// Growth of a cumulating window; its `slide` is its one size.
    step: Option<Span>,
}

impl Windows {
    /// Prepares a window; spans are positive.
    pub fn new(window: &TimeWindow) -> Windows {
        let zone = window.timezone.unwrap_or(Tz::UTC);
        let plain = |span: Span| match span {
            Span::Days(days) if zone == Tz::UTC => Span::Fixed(days.saturating_mul(DAY)),
            Span::Fixed(_) | Span::Days(_) | Span::Months(_) => span,
        };
        let origin = if zone == Tz::UTC {
            window.offset
        } else {
            calendar::instant(zone, 0).saturating_add(window.offset)
        };
        let calendar = |slide, sizes, step| {
            Shape::Calendar(Calendar { zone, offset: window.offset, slide, sizes, step })
        };
        let hop = |slide: Span, size: Span| match (plain(slide), plain(size)) {
            (Span::Fixed(slide), Span::Fixed(size)) => Shape::Hop { origin, slide, size },
            (slide, size) => calendar(slide, vec![size], None),
        };
        let mut horizons = Vec::new();
        let shape = match window.kind {
            TimeWindowKind::Tumble { size } => hop(size, size),
            TimeWindowKind::Hop { slide, size } => hop(slide, size),
            TimeWindowKind::Horizons { slide, sizes } => {
                horizons = sizes.as_slice().iter().map(|size| size.about()).collect();
                let sizes: Vec<Span> = sizes.as_slice().iter().map(|size| plain(*size)).collect();
                Shape::horizons(origin, plain(slide), &sizes)
                    .unwrap_or_else(|| calendar(plain(slide), sizes, None))
            }
            TimeWindowKind::Cumulate { step, size } => match (plain(step), plain(size)) {
                (Span::Fixed(step), Span::Fixed(size)) => Shape::Cumulate { origin, step, size },
                (step, size) => calendar(size, vec![size], Some(step)),
            },
            TimeWindowKind::Landmark { since } => Shape::Landmark { since },
        };
        Windows { shape, horizons }
    }

    /// How many sizes there are of windows that start together.
    pub fn horizon_count(&self) -> usize {
        self.horizons.len().max(1)
    }

    /// Which of the sizes a window has, from 0: the nearest one, where the calendar or the ends of time
    /// made it wider or narrower.
    pub fn horizon_of(&self, start: i64, end: i64) -> usize {
        let width = i128::from(end) - i128::from(start);
        let distance = |&horizon: &usize| (i128::from(self.horizons[horizon]) - width).abs();
        (0..self.horizons.len()).min_by_key(distance).unwrap_or(0)
    }

    /// The windows `[start, end)` that `t` lies in, ascending by end, then start.
    pub fn windows_of(&self, t: i64) -> Vec<(i64, i64)> {
        let mut windows = Vec::new();
        self.windows_into(t, &mut windows);
        windows
    }

    /// Appends to `windows` what [`windows_of`](Self::windows_of) returns.
    pub fn windows_into(&self, t: i64, windows: &mut Vec<(i64, i64)>) {
        match &self.shape {
            &Shape::Hop { origin, slide, size } => hops_into(t, (origin, slide, size), windows),
            &Shape::Horizons { origin, slide, ref sizes, .. } => {
                let from = windows.len();
                sizes.iter().for_each(|&size| hops_into(t, (origin, slide, size), windows));
                settle(windows, from);
            }
            &Shape::Cumulate { origin, step, size } => {
                let from_origin = i128::from(t) - i128::from(origin);
                let (step, size) = (i128::from(step), i128::from(size));
                let within = from_origin.rem_euclid(size);
                let start = i128::from(t) - within;
                let (first, last) = (within / step + 1, (size + step - 1) / step);
                windows.extend(
                    (first..=last).map(|k| (clamp(start), clamp(start + (k * step).min(size)))),
                );
            }
            &Shape::Landmark { since } => {
                if t >= since {
                    windows.push((since, i64::MAX));
                }
            }
            Shape::Calendar(calendar) => calendar.windows_into(t, windows),
        }
    }
}

/// Appends the windows of one size that `t` lies in, ascending.
fn hops_into(t: i64, (origin, slide, size): (i64, i64, i64), windows: &mut Vec<(i64, i64)>) {
    let from_origin = i128::from(t) - i128::from(origin);
    let (slide, size) = (i128::from(slide), i128::from(size));
    let last = from_origin.div_euclid(slide);
    let first = (from_origin - size).div_euclid(slide) + 1;
    windows.extend((first..=last).map(|k| {
        let start = i128::from(origin) + k * slide;
        (clamp(start), clamp(start + size))
    }));
}

/// Brings the windows behind `from` into order. Windows of two sizes that the calendar or the ends of time
/// gave the same bounds are one.
fn settle(windows: &mut Vec<(i64, i64)>, from: usize) {
    windows[from..].sort_by_key(|&(start, end)| (end, start));
    let mut kept = from;
    for next in from..windows.len() {
        if next == from || windows[next] != windows[kept - 1] {
            windows[kept] = windows[next];
            kept += 1;
        }
    }
    windows.truncate(kept);
}

impl Shape {
    /// Windows of several sizes, where all of it is fixed.
    fn horizons(origin: i64, slide: Span, sizes: &[Span]) -> Option<Shape> {
        let fixed = |span: &Span| if let Span::Fixed(width) = span { Some(*width) } else { None };
        let slide = fixed(&slide)?;
        let sizes: Vec<i64> = sizes.iter().map(fixed).collect::<Option<_>>()?;
        let mut edges: Vec<i64> = sizes.iter().map(|size| size % slide).chain([0]).collect();
        edges.sort_unstable();
        edges.dedup();
        Some(Shape::Horizons { origin, slide, sizes, edges })
    }
}

/// The nearest `i64`.
pub(super) fn clamp(t: i128) -> i64 {
    t.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

impl Calendar {
    /// Points of time are cut to this distance from 1970.
    const FAR: i64 = 1 << 62;

    /// What the wall clock shows at the start of window `k`.
    fn local_start(&self, k: i64) -> i64 {
        match self.slide {
            Span::Fixed(_) => calendar::local(self.zone, self.start(k)),
            Span::Days(days) => k.saturating_mul(days).saturating_mul(DAY),
            Span::Months(months) => calendar::month_start(k.saturating_mul(months)),
        }
        .saturating_add(if matches!(self.slide, Span::Fixed(_)) { 0 } else { self.offset })
    }

    /// Where window `k` starts.
    fn start(&self, k: i64) -> i64 {
        match self.slide {
            Span::Fixed(slide) => self.origin().saturating_add(k.saturating_mul(slide)),
            Span::Days(_) | Span::Months(_) => calendar::instant(self.zone, self.local_start(k)),
        }
    }

    fn origin(&self) -> i64 {
        calendar::instant(self.zone, 0).saturating_add(self.offset)
    }

    /// The point of time that lies `times` spans behind the start of window `k`.
    fn behind_start(&self, k: i64, span: Span, times: i64) -> i64 {
        match (span, self.slide) {
            (Span::Fixed(width), _) => self.start(k).saturating_add(width.saturating_mul(times)),
            (Span::Days(days), _) => {
                let width = days.saturating_mul(times).saturating_mul(DAY);
                calendar::instant(self.zone, self.local_start(k).saturating_add(width))
            }
            // Months from the first of a month are counted, so that an offset beyond the length of
            // a short month cannot make neighbours overlap.
            (Span::Months(months), Span::Months(slide)) => {
                let month = k.saturating_mul(slide).saturating_add(months.saturating_mul(times));
                let local = calendar::month_start(month).saturating_add(self.offset);
                calendar::instant(self.zone, local)
            }
            (Span::Months(months), Span::Fixed(_) | Span::Days(_)) => {
                let local = calendar::add_months(self.local_start(k), months.saturating_mul(times));
                calendar::instant(self.zone, local)
            }
        }
    }

    /// The last window that starts at or before `t`.
    fn index(&self, t: i64) -> i64 {
        let mut k = match self.slide {
            Span::Fixed(slide) => t.saturating_sub(self.origin()).div_euclid(slide),
            Span::Days(days) => calendar::local(self.zone, t)
                .saturating_sub(self.offset)
                .div_euclid(days.saturating_mul(DAY)),
            Span::Months(months) => {
                let local = calendar::local(self.zone, t).saturating_sub(self.offset);
                calendar::month_of(local).div_euclid(months)
            }
        };
        // Around a switch of the clock the guess may be off by one or two.
        while self.start(k) > t {
            k -= 1;
        }
        while self.start(k + 1) <= t {
            k += 1;
        }
        k
    }

    /// No window is wider.
    fn width_max(&self) -> i64 {
        let width = |size: &Span| match *size {
            Span::Fixed(size) => size,
            Span::Days(days) => days.saturating_mul(DAY).saturating_add(2 * DAY),
            Span::Months(months) => months.saturating_mul(31 * DAY).saturating_add(2 * DAY),
        };
        self.sizes.iter().map(width).max().unwrap_or(0)
    }

    /// Ends of a cumulating window `k`, ascending, the last one its greatest width.
    fn cumulating_ends(&self, k: i64, step: Span) -> impl Iterator<Item = i64> + '_ {
        let (start, last) = (self.start(k), self.start(k + 1));
        let mut previous = start;
        let steps = (1..).map(move |times| self.behind_start(k, step, times));
        steps.take_while(move |&end| end < last).chain(std::iter::once(last)).filter(move |&end| {
            let grows = end > previous;
            previous = previous.max(end);
            grows
        })
    }

    fn windows_into(&self, t: i64, windows: &mut Vec<(i64, i64)>) {
        let t = t.clamp(-Self::FAR, Self::FAR);
        let last = self.index(t);
        if let Some(step) = self.step {
            let start = self.start(last);
            let ends = self.cumulating_ends(last, step).filter(|&end| end > t);
            windows.extend(ends.map(|end| (start, end)));
            return;
        }
        let from = windows.len();
        for (start, end) in self.reaching(last, t) {
            if t < end && start < end {
                windows.push((start, end));
            }
        }
        settle(windows, from);
    }

    /// Windows up to number `last` that may reach beyond `t`, latest first.
    fn reaching(&self, last: i64, t: i64) -> impl Iterator<Item = (i64, i64)> + '_ {
        let width_max = self.width_max();
        (0..)
            .map(move |back| last - back)
            .map(|k| (self.start(k), k))
            .take_while(move |(start, _)| start.saturating_add(width_max) > t)
            .flat_map(move |(start, k)| {
                self.sizes.iter().map(move |&size| (start, self.behind_start(k, size, 1)))
            })
    }

    /// The slice that `t` lies in.
    pub(super) fn slice_of(&self, t: i64) -> (i64, i64) {
        let t = t.clamp(-Self::FAR, Self::FAR);
        let last = self.index(t);
        let (mut start, mut end) = (self.start(last), self.start(last + 1));
        let mut cut = |edge: i64| {
            if edge <= t {
                start = start.max(edge);
            } else {
                end = end.min(edge);
            }
        };
        if let Some(step) = self.step {
            self.cumulating_ends(last, step).for_each(cut);
        } else {
            // An end at or before `t` matters only if it lies behind the nearest start.
            let nearest = self.start(last);
            self.reaching(last, nearest).for_each(|(_, end)| cut(end));
        }
        (start, end)
    }
}
