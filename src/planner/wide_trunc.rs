//! Is `date_trunc` of times outside the years 1677 to 2262: DataFusion's goes by nanoseconds, and ends there.

use std::sync::Arc;

use arrow::array::{AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use chrono::{DateTime, Datelike, NaiveDate};
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// The answer where a time has no nanoseconds; `None` for any other call.
pub(super) fn date_trunc(args: &ScalarFunctionArgs) -> Result<Option<ColumnarValue>> {
    let [ColumnarValue::Scalar(part), times] = args.args.as_slice() else { return Ok(None) };
    let zone = match times.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => zone,
        _ => return Ok(None),
    };
    let Some(part) = part.try_as_str().flatten().map(str::to_lowercase) else { return Ok(None) };
    // A zone that has been ahead or behind decides itself where its days begin.
    if zone.as_ref().is_some_and(|zone| !matches!(&**zone, "UTC" | "+00:00" | "Z")) {
        return Ok(None);
    }
    let array = times.to_array(args.number_rows)?;
    let array = array.as_primitive::<TimestampMicrosecondType>();
    let has_nanos = |time: i64| {
        // What is truncated may lie a year before.
        let year = 366 * DAY;
        time.saturating_sub(year).checked_mul(1_000).is_some() && time.checked_mul(1_000).is_some()
    };
    if !KNOWN.contains(&part.as_str()) || array.iter().flatten().all(has_nanos) {
        return Ok(None);
    }
    let truncate = |time| {
        truncated(&part, time).ok_or_else(|| {
            let text = format!("timestamp {time} is out of range for date_trunc");
            ArrowError::ArithmeticOverflow(text)
        })
    };
    let result = array.iter().map(|time| time.map(truncate).transpose());
    let result: TimestampMicrosecondArray = result.collect::<std::result::Result<_, _>>()?;
    Ok(Some(ColumnarValue::Array(Arc::new(result.with_timezone_opt(zone)))))
}

const KNOWN: [&str; 10] = [
    "microsecond",
    "millisecond",
    "second",
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "quarter",
    "year",
];

/// The last beginning of a part that is not after the time.
fn truncated(part: &str, time: i64) -> Option<i64> {
    let width = match part {
        "microsecond" => 1,
        "millisecond" => 1_000,
        "second" => SECOND,
        "minute" => 60 * SECOND,
        "hour" => 3_600 * SECOND,
        "day" => DAY,
        _ => {
            let date = DateTime::from_timestamp_micros(time)?.date_naive();
            let first = match part {
                "week" => date.week(chrono::Weekday::Mon).checked_first_day()?,
                "month" => date.with_day(1)?,
                "quarter" => NaiveDate::from_ymd_opt(date.year(), date.month0() / 3 * 3 + 1, 1)?,
                _ => NaiveDate::from_ymd_opt(date.year(), 1, 1)?,
            };
            return Some(first.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros());
        }
    };
    time.checked_sub(time.rem_euclid(width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_begins_where_it_does() {
        // Friday, 9999-12-31 13:14:15.161718.
        let time = 253_402_262_055_161_718;
        let text = |part| {
            let first = truncated(part, time).unwrap();
            DateTime::from_timestamp_micros(first).unwrap().to_string()
        };
        let expected = [
            "9999-12-31 13:14:15.161718 UTC",
            "9999-12-31 13:14:15.161 UTC",
            "9999-12-31 13:14:15 UTC",
            "9999-12-31 13:14:00 UTC",
            "9999-12-31 13:00:00 UTC",
            "9999-12-31 00:00:00 UTC",
            "9999-12-27 00:00:00 UTC",
            "9999-12-01 00:00:00 UTC",
            "9999-10-01 00:00:00 UTC",
            "9999-01-01 00:00:00 UTC",
        ];
        assert_eq!(KNOWN.map(text), expected);
        assert_eq!(truncated("hour", i64::MIN), None);
        assert_eq!(truncated("year", i64::MAX), None);
    }
}
