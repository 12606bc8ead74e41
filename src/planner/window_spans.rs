//! Reads the widths of windows, and says which do not go together.

use datafusion::common::Result as PlannerResult;
use datafusion::scalar::ScalarValue;

use crate::error::SqlState;
use crate::planner::constants;
use crate::planner::error::PlanError;
use crate::planner::window_call::Reader;
use crate::windows::spec::{Sizes, Span, TimeWindow, TimeWindowKind};

/// Years that a window by the calendar may span.
const CALENDAR_YEARS_MAX: i64 = 10_000;

/// Windows that one row may lie in.
const WINDOWS_PER_ROW_MAX: i64 = 100_000;

impl Reader<'_> {
    /// HOP: windows of one size, or of several.
    pub(super) fn hop(&mut self) -> PlannerResult<TimeWindowKind> {
        let slide = self.span("slide")?;
        let sizes = self.literals("size")?;
        let sizes: Vec<Span> =
            sizes.iter().map(|value| self.span_of("size", value)).collect::<Result<_, _>>()?;
        match sizes.as_slice() {
            [] => Err(self.missing("size").into()),
            [size] => Ok(TimeWindowKind::Hop { slide, size: *size }),
            several => Ok(TimeWindowKind::Horizons { slide, sizes: self.sizes(several)? }),
        }
    }

    /// Several sizes, each of which has to be another one.
    fn sizes(&self, spans: &[Span]) -> Result<Sizes, PlanError> {
        let function = &self.call.function;
        let twice = spans.iter().enumerate().any(|(i, span)| spans[..i].contains(span));
        if twice {
            return Err(PlanError::Window {
                code: SqlState::INVALID_PARAMETER,
                message: format!("a size of {function} is given twice"),
                hint: Some(
                    "Windows of equal sizes are the same windows: name each size once.".into(),
                ),
            });
        }
        Sizes::new(spans).ok_or_else(|| PlanError::Window {
            code: SqlState::PROGRAM_LIMIT,
            message: format!(
                "{function} has {} sizes, more than {}",
                spans.len(),
                Sizes::COUNT_MAX
            ),
            hint: Some("Write several queries, each with some of the sizes.".into()),
        })
    }

    /// The same windows where days are no matter of the calendar: each has 24 hours.
    pub(super) fn in_utc(&self, kind: TimeWindowKind) -> Result<TimeWindowKind, PlanError> {
        let fixed = |span: Span| match span {
            Span::Days(days) => Span::Fixed(days.saturating_mul(constants::DAY)),
            Span::Fixed(_) | Span::Months(_) => span,
        };
        Ok(match kind {
            TimeWindowKind::Tumble { size } => TimeWindowKind::Tumble { size: fixed(size) },
            TimeWindowKind::Hop { slide, size } => {
                TimeWindowKind::Hop { slide: fixed(slide), size: fixed(size) }
            }
            TimeWindowKind::Horizons { slide, sizes } => {
                let sizes: Vec<Span> = sizes.as_slice().iter().copied().map(fixed).collect();
                TimeWindowKind::Horizons { slide: fixed(slide), sizes: self.sizes(&sizes)? }
            }
            TimeWindowKind::Cumulate { step, size } => {
                TimeWindowKind::Cumulate { step: fixed(step), size: fixed(size) }
            }
            TimeWindowKind::Landmark { since } => TimeWindowKind::Landmark { since },
        })
    }

    /// An argument that is one width.
    pub(super) fn span(&mut self, name: &str) -> PlannerResult<Span> {
        let value = self.literal(name)?.ok_or_else(|| self.missing(name))?;
        Ok(self.span_of(name, &value)?)
    }

    fn span_of(&self, name: &str, value: &ScalarValue) -> Result<Span, PlanError> {
        let span = constants::span(value)
            .ok_or_else(|| self.bad(name, "a positive interval or integer of one unit"))?;
        // The calendar itself ends some 146,000 years from 1970.
        let beyond = match span {
            Span::Fixed(_) => false,
            Span::Days(days) => days > 366 * CALENDAR_YEARS_MAX,
            Span::Months(months) => months > 12 * CALENDAR_YEARS_MAX,
        };
        if beyond {
            return Err(self.bad(name, "at most 10,000 years"));
        }
        Ok(span)
    }

    /// Every row is in this many windows, and each of them is answered on its own.
    pub(super) fn check_overlap(&self, window: &TimeWindow) -> PlannerResult<()> {
        let windows = match &window.kind {
            TimeWindowKind::Hop { slide, size } => size.about() / slide.about(),
            TimeWindowKind::Horizons { slide, sizes } => {
                let each = sizes.as_slice().iter().map(|size| size.about() / slide.about());
                each.fold(0, i64::saturating_add)
            }
            TimeWindowKind::Cumulate { step, size } => size.about() / step.about(),
            TimeWindowKind::Tumble { .. } | TimeWindowKind::Landmark { .. } => return Ok(()),
        };
        if windows <= WINDOWS_PER_ROW_MAX {
            return Ok(());
        }
        let function = &self.call.function;
        Err(PlanError::Window {
            code: SqlState::PROGRAM_LIMIT,
            message: format!(
                "each row of {function} would be in {windows} windows, more than {WINDOWS_PER_ROW_MAX}"
            ),
            hint: Some("Let the windows start less often, or make them smaller.".into()),
        }
        .into())
    }

    pub(super) fn check_steps(&self, step: Span, size: Span) -> PlannerResult<()> {
        let whole = match (step, size) {
            (Span::Fixed(step), Span::Fixed(size))
            | (Span::Days(step), Span::Days(size))
            | (Span::Months(step), Span::Months(size)) => size % step == 0,
            (Span::Fixed(step), Span::Days(_)) => constants::DAY % step == 0,
            _ => false,
        };
        if whole {
            return Ok(());
        }
        let message = "size of CUMULATE must be a whole multiple of its step";
        Err(PlanError::window(SqlState::INVALID_PARAMETER, message).into())
    }
}
