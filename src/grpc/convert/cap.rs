//! Frequency caps.

use super::time;
use crate::domain::Violation;
use crate::domain::cap::{DAYS_MAX, FrequencyCap, Span};
use crate::grpc::pb::FrequencyCap as Wire;
use crate::grpc::pb::frequency_cap::Span as WireSpan;

/// From the wire.
pub(super) fn read(from: Vec<Wire>) -> Result<Vec<FrequencyCap>, Violation> {
    let caps = from.into_iter().enumerate();
    caps.map(|(i, cap)| read_one(cap).map_err(|v| v.under(&format!("frequency_caps[{i}]"))))
        .collect()
}

fn read_one(from: Wire) -> Result<FrequencyCap, Violation> {
    let span = match super::required("span", from.span)? {
        WireSpan::CalendarDays(days) => Span::CalendarDays(days),
        WireSpan::Rolling(rolling) => {
            Span::RollingSeconds(time::read_seconds("rolling", rolling, DAYS_MAX * 24 * 3_600)?)
        }
    };
    let cap = FrequencyCap { max_attempts: from.max_attempts, span };
    cap.check()?;
    Ok(cap)
}

/// For the wire.
pub(super) fn write(cap: FrequencyCap) -> Wire {
    let span = match cap.span {
        Span::CalendarDays(days) => WireSpan::CalendarDays(days),
        Span::RollingSeconds(seconds) => WireSpan::Rolling(time::write_seconds(seconds)),
    };
    Wire { max_attempts: cap.max_attempts, span: Some(span) }
}
