//! Instants and durations.

use prost_types::{Duration, Timestamp as Instant};

use crate::domain::{Timestamp, Violation};

/// 0001-01-01T00:00:00Z, the first instant that `google.protobuf.Timestamp` allows, in seconds.
const FIRST_SECOND: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z, the last.
const LAST_SECOND: i64 = 253_402_300_799;
const NANOS_PER_SECOND: i32 = 1_000_000_000;
const NANOS_PER_MICRO: i32 = 1_000;
const MICROS_PER_SECOND: i64 = 1_000_000;

/// An instant from the wire. What is finer than a microsecond is cut off: neither database keeps
/// it.
pub(in crate::grpc) fn read(field: &str, at: Instant) -> Result<Timestamp, Violation> {
    let fits = (FIRST_SECOND..=LAST_SECOND).contains(&at.seconds)
        && (0..NANOS_PER_SECOND).contains(&at.nanos);
    if !fits {
        return Err(Violation::new(field, "must be an instant of the years 1 to 9999"));
    }
    Ok(Timestamp::from_micros(
        at.seconds * MICROS_PER_SECOND + i64::from(at.nanos / NANOS_PER_MICRO),
    ))
}

/// The same where it may be absent.
pub(in crate::grpc) fn read_some(
    field: &str,
    at: Option<Instant>,
) -> Result<Option<Timestamp>, Violation> {
    at.map(|at| read(field, at)).transpose()
}

/// An instant for the wire; none where the wire cannot name it, as with [`Timestamp::NEVER`].
pub(in crate::grpc) fn write(at: Timestamp) -> Option<Instant> {
    let seconds = at.micros().div_euclid(MICROS_PER_SECOND);
    let nanos = i32::try_from(at.micros().rem_euclid(MICROS_PER_SECOND)).ok()? * NANOS_PER_MICRO;
    (FIRST_SECOND..=LAST_SECOND).contains(&seconds).then_some(Instant { seconds, nanos })
}

/// Whole seconds from the wire, at most `max`. Fractions are refused, not rounded: a client that
/// asks for 1.5 s should learn that it does not get it.
pub(in crate::grpc) fn read_seconds(
    field: &str,
    duration: Duration,
    max: u32,
) -> Result<u32, Violation> {
    if duration.nanos != 0 {
        return Err(Violation::new(field, "must be whole seconds"));
    }
    u32::try_from(duration.seconds)
        .ok()
        .filter(|seconds| *seconds <= max)
        .ok_or_else(|| Violation::new(field, format!("must be 0 to {max} seconds")))
}

/// Whole seconds for the wire.
pub(in crate::grpc) fn write_seconds(seconds: u32) -> Duration {
    Duration { seconds: i64::from(seconds), nanos: 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn instants_round_trip(seconds in FIRST_SECOND..=LAST_SECOND, micros in 0..1_000_000) {
            let wire = Instant { seconds, nanos: micros * NANOS_PER_MICRO };
            prop_assert_eq!(write(read("at", wire).unwrap()), Some(wire));
        }

        #[test]
        fn any_instant_is_read_or_refused(seconds in any::<i64>(), nanos in any::<i32>()) {
            let _ = read("at", Instant { seconds, nanos });
            let _ = read_seconds("for", Duration { seconds, nanos }, u32::MAX);
        }
    }

    #[test]
    fn never_is_absent_and_fractions_are_refused() {
        assert_eq!(write(Timestamp::NEVER), None);
        let whole = Duration { seconds: 5, nanos: 0 };
        assert_eq!(read_seconds("f", whole, 10), Ok(5));
        for bad in [
            Duration { seconds: 1, nanos: 500_000_000 },
            Duration { seconds: -1, nanos: 0 },
            Duration { seconds: 11, nanos: 0 },
        ] {
            assert_eq!(read_seconds("f", bad, 10).unwrap_err().field, "f");
        }
    }
}
