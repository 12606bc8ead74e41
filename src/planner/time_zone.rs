//! Gives `t AT TIME ZONE zone`, and `timezone(zone, t)`, which is the same, as PostgreSQL means it.
//!
//! Of a TIMESTAMPTZ it is what a wall clock in the zone shows then, a TIMESTAMP; of a TIMESTAMP it is when
//! that wall clock shows it, a TIMESTAMPTZ. A local time that the zone skips is counted on from before the
//! switch; one that it has twice is the second one.

use std::sync::Arc;

use arrow::array::{Array, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::SqlState;
use crate::planner::error::{PlanError, no_function};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// The function.
pub(super) fn function() -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::from(AtTimeZone { signature }))
}

fn local_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

fn instant_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AtTimeZone {
    signature: Signature,
}

impl ScalarUDFImpl for AtTimeZone {
    fn name(&self) -> &str {
        "timezone"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let is_text = |found: &DataType| {
            matches!(
                found,
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null
            )
        };
        match given {
            [zone, DataType::Timestamp(_, None)] if is_text(zone) => {
                Ok(vec![DataType::Utf8View, local_type()])
            }
            // PostgreSQL takes a date, or a text, for a TIMESTAMPTZ here.
            [zone, time]
                if is_text(zone)
                    && (is_text(time)
                        || matches!(time, DataType::Timestamp(..) | DataType::Date32)) =>
            {
                Ok(vec![DataType::Utf8View, instant_type()])
            }
            _ => no_function(self.name(), given),
        }
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(match given.get(1) {
            Some(DataType::Timestamp(_, None)) => instant_type(),
            _ => local_type(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [zone, times] = args.args.as_slice() else {
            return Err(exec_datafusion_err!("timezone takes two arguments"));
        };
        let is_one =
            !matches!((zone, times), (ColumnarValue::Array(_), _) | (_, ColumnarValue::Array(_)));
        let rows = if is_one { 1 } else { args.number_rows };
        let (zones, times) = (zone.to_array(rows)?, times.to_array(rows)?);
        let (zones, micros) =
            (zones.as_string_view(), times.as_primitive::<TimestampMicrosecondType>());
        let to_instant = matches!(times.data_type(), DataType::Timestamp(_, None));
        let mut known: Option<(String, Tz)> = None;
        let mut made = TimestampMicrosecondArray::builder(rows);
        for row in 0..rows {
            if zones.is_null(row) || micros.is_null(row) {
                made.append_null();
                continue;
            }
            let name = zones.value(row);
            if known.as_ref().is_none_or(|(known, _)| known != name) {
                known = Some((name.to_owned(), zone_of(name)?));
            }
            let Some((_, zone)) = &known else { unreachable!("looked up just above") };
            let time = micros.value(row);
            let time = if to_instant { instant(*zone, time) } else { local(*zone, time) };
            made.append_value(time.ok_or_else(|| exec_datafusion_err!("timestamp out of range"))?);
        }
        let zone = to_instant.then(|| Arc::from("UTC"));
        let made = made.finish().with_timezone_opt::<Arc<str>>(zone);
        if is_one {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?));
        }
        Ok(ColumnarValue::Array(Arc::new(made)))
    }
}

fn zone_of(name: &str) -> Result<Tz> {
    if name.eq_ignore_ascii_case("utc") {
        return Ok(Tz::UTC);
    }
    name.parse().map_err(|_| {
        DataFusionError::from(PlanError::Refused {
            code: SqlState::INVALID_PARAMETER,
            message: format!("time zone \"{name}\" is not known"),
            hint: Some("Use a name of the IANA data base, such as 'Europe/Paris'.".into()),
        })
    })
}

/// Beyond the times that can be looked up the first or the last offset holds.
fn offset_at(zone: Tz, instant: i64) -> i64 {
    let known = DateTime::from_timestamp_micros(instant).unwrap_or(if instant < 0 {
        DateTime::<chrono::Utc>::MIN_UTC
    } else {
        DateTime::<chrono::Utc>::MAX_UTC
    });
    let offset = zone.offset_from_utc_datetime(&known.naive_utc()).fix();
    i64::from(offset.local_minus_utc()) * SECOND
}

/// What a wall clock in the zone shows.
fn local(zone: Tz, instant: i64) -> Option<i64> {
    instant.checked_add(offset_at(zone, instant))
}

/// When a wall clock in the zone shows a time.
fn instant(zone: Tz, local: i64) -> Option<i64> {
    let looked_up = naive(local).map(|local| zone.offset_from_local_datetime(&local));
    let offset = match looked_up {
        Some(LocalResult::Single(offset) | LocalResult::Ambiguous(_, offset)) => {
            i64::from(offset.fix().local_minus_utc()) * SECOND
        }
        // No zone switches twice in a day.
        Some(LocalResult::None) => offset_at(zone, local.saturating_sub(DAY)),
        None => offset_at(zone, local),
    };
    local.checked_sub(offset)
}

fn naive(local: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_micros(local).map(|time| time.naive_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clocks_are_read_as_postgresql_reads_them() {
        let at = |text: &str| text.parse::<DateTime<chrono::Utc>>().unwrap().timestamp_micros();
        let paris = zone_of("Europe/Paris").unwrap();
        let check = |wall: &str, utc: &str| assert_eq!(instant(paris, at(wall)), Some(at(utc)));
        check("2026-01-01T14:00:00Z", "2026-01-01T13:00:00Z");
        check("2026-07-01T14:00:00Z", "2026-07-01T12:00:00Z");
        // Skipped: counted on from the winter before. Twice: the winter after.
        check("2026-03-29T02:30:00Z", "2026-03-29T01:30:00Z");
        check("2026-10-25T02:30:00Z", "2026-10-25T01:30:00Z");
        assert_eq!(local(paris, at("2026-07-01T12:00:00Z")), Some(at("2026-07-01T14:00:00Z")));
        assert_eq!(local(paris, i64::MAX), None);
        assert_eq!(instant(zone_of("UTC").unwrap(), i64::MIN), Some(i64::MIN));
        assert!(zone_of("+02").is_err());
    }
}
