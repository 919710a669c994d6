//! Frequency caps: how often one phone may be tried in a time, whichever of the tenant's runs tries
//! it.

use std::fmt;
use std::time::Duration;

use jiff::ToSpan;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{Timestamp, Violation, window};

/// The most caps of one run.
pub const CAPS_MAX: usize = 8;
/// The most attempts that a cap can allow: more is no cap.
pub const ATTEMPTS_MAX: u32 = 100;
/// The longest time that a cap can look back, in days: as long as a run can live.
pub const DAYS_MAX: u32 = 90;
/// The shortest, in seconds: within a minute retries and the phone's live call decide.
pub const ROLLING_MIN_S: u32 = 60;
const DAY_S: u32 = 24 * 3_600;

/// The time in which attempts count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// So many of the callee's calendar days, in the callee's zone, today included: 1 to
    /// [`DAYS_MAX`].
    CalendarDays(u32),
    /// So many seconds before the attempt, [`ROLLING_MIN_S`] to [`DAYS_MAX`] days.
    RollingSeconds(u32),
}

/// At most so many attempts to one phone in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FrequencyCap {
    /// 1 to [`ATTEMPTS_MAX`].
    pub max_attempts: u32,
    /// In which time.
    pub span: Span,
}

impl fmt::Display for FrequencyCap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.max_attempts;
        match self.span {
            Span::CalendarDays(1) => write!(f, "{n} a calendar day"),
            Span::CalendarDays(days) => write!(f, "{n} in {days} calendar days"),
            Span::RollingSeconds(s) if s % DAY_S == 0 => {
                write!(f, "{n} in {} × 24 hours", s / DAY_S)
            }
            Span::RollingSeconds(s) if s % 3_600 == 0 => write!(f, "{n} in {} hours", s / 3_600),
            Span::RollingSeconds(seconds) => write!(f, "{n} in {seconds} seconds"),
        }
    }
}

impl FrequencyCap {
    /// Checks the ranges; names the field.
    pub fn check(&self) -> Result<(), Violation> {
        if !(1..=ATTEMPTS_MAX).contains(&self.max_attempts) {
            return Err(Violation::new("max_attempts", "must be 1 to 100"));
        }
        match self.span {
            Span::CalendarDays(days) if !(1..=DAYS_MAX).contains(&days) => {
                Err(Violation::new("calendar_days", "must be 1 to 90"))
            }
            Span::RollingSeconds(seconds)
                if !(ROLLING_MIN_S..=DAYS_MAX * DAY_S).contains(&seconds) =>
            {
                Err(Violation::new("rolling", "must be 1 minute to 90 days"))
            }
            Span::CalendarDays(_) | Span::RollingSeconds(_) => Ok(()),
        }
    }

    /// When it allows the next attempt, if no more are made until then. `attempts` begin with the
    /// newest.
    fn allows_from(&self, attempts: &[Timestamp], zone: &TimeZone) -> Option<Timestamp> {
        let nth = usize::try_from(self.max_attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        let counted = *attempts.get(nth)?;
        Some(match self.span {
            Span::RollingSeconds(seconds) => counted + Duration::from_secs(u64::from(seconds)),
            Span::CalendarDays(days) => start_of_day_after(counted, days, zone),
        })
    }
}

/// The beginning of the day that comes `days` after the one of `at`.
fn start_of_day_after(at: Timestamp, days: u32, zone: &TimeZone) -> Timestamp {
    let begins = window::local(at, zone)
        .and_then(|local| local.date().checked_add(i64::from(days).days()).ok())
        // A day whose midnight the clocks skip begins after the gap.
        .and_then(|date| zone.to_zoned(date.to_datetime(Time::midnight())).ok());
    begins.map_or(Timestamp::NEVER, |begins| Timestamp(begins.timestamp().as_microsecond()))
}

/// Checks a run's caps; names the field.
pub fn check(caps: &[FrequencyCap]) -> Result<(), Violation> {
    if caps.len() > CAPS_MAX {
        return Err(Violation::new("frequency_caps", "has more than 8 items"));
    }
    caps.iter().enumerate().try_for_each(|(i, cap)| {
        cap.check().map_err(|violation| violation.under(&format!("frequency_caps[{i}]")))
    })
}

/// No attempt before this counts for any of the caps.
pub fn looks_back_to(caps: &[FrequencyCap], now: Timestamp) -> Timestamp {
    let seconds = caps.iter().map(|cap| match cap.span {
        Span::RollingSeconds(seconds) => seconds,
        // The first of the days began at most this long ago; a day has up to 25 hours.
        Span::CalendarDays(days) => (days + 1) * DAY_S,
    });
    now - Duration::from_secs(u64::from(seconds.max().unwrap_or(0)))
}

/// The cap that holds a phone for longest, and until when; none if it may be tried now. `attempts`
/// are those to the phone since [`looks_back_to`], the newest first.
pub fn holds(
    caps: &[FrequencyCap],
    attempts: &[Timestamp],
    now: Timestamp,
    zone: &TimeZone,
) -> Option<(FrequencyCap, Timestamp)> {
    let until = caps.iter().filter_map(|cap| Some((*cap, cap.allows_from(attempts, zone)?)));
    until.filter(|(_, at)| *at > now).max_by_key(|(_, at)| *at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    fn cap(max_attempts: u32, span: Span) -> FrequencyCap {
        FrequencyCap { max_attempts, span }
    }

    #[test]
    fn a_day_is_the_callees() {
        let new_york = window::zone("America/New_York").unwrap();
        let once_a_day = [cap(1, Span::CalendarDays(1))];
        // Eleven in the evening there.
        let tried = [at("2026-06-02T03:00:00Z")];
        let midnight = at("2026-06-02T04:00:00Z");
        let held = holds(&once_a_day, &tried, at("2026-06-02T03:59:59Z"), &new_york);
        assert_eq!(held, Some((once_a_day[0], midnight)));
        assert_eq!(holds(&once_a_day, &tried, midnight, &new_york), None);
        let utc = window::zone("UTC").unwrap();
        assert_eq!(
            holds(&once_a_day, &tried, midnight, &utc).unwrap().1,
            at("2026-06-03T00:00:00Z")
        );
    }

    #[test]
    fn the_longest_hold_counts() {
        let utc = window::zone("UTC").unwrap();
        let caps = [cap(2, Span::RollingSeconds(3_600)), cap(3, Span::RollingSeconds(7_200))];
        let now = at("2026-06-02T12:00:00Z");
        let ago = |minutes: u64| now - Duration::from_secs(minutes * 60);
        assert_eq!(holds(&caps, &[ago(10)], now, &utc), None);
        assert_eq!(
            holds(&caps, &[ago(10), ago(20)], now, &utc).unwrap(),
            (caps[0], ago(20) + Duration::from_secs(3_600))
        );
        let (held_by, until) = holds(&caps, &[ago(10), ago(20), ago(30)], now, &utc).unwrap();
        assert_eq!((held_by, until), (caps[1], ago(30) + Duration::from_secs(7_200)));
        assert_eq!(holds(&[], &[now; 50], now, &utc), None);
    }

    #[test]
    fn says_which_field_is_wrong() {
        assert_eq!(
            check(&[cap(0, Span::CalendarDays(1))]).unwrap_err().field,
            "frequency_caps[0].max_attempts"
        );
        assert_eq!(
            check(&[cap(1, Span::CalendarDays(91))]).unwrap_err().field,
            "frequency_caps[0].calendar_days"
        );
        assert_eq!(
            check(&[cap(1, Span::RollingSeconds(59))]).unwrap_err().field,
            "frequency_caps[0].rolling"
        );
        assert_eq!(
            check(&[cap(4, Span::CalendarDays(30)); 9]).unwrap_err().field,
            "frequency_caps"
        );
    }

    fn any_cap() -> impl Strategy<Value = FrequencyCap> {
        let span = prop_oneof![
            (1u32..8).prop_map(Span::CalendarDays),
            (ROLLING_MIN_S..5 * DAY_S).prop_map(Span::RollingSeconds),
        ];
        (1u32..5, span).prop_map(|(max_attempts, span)| cap(max_attempts, span))
    }

    /// How many of `attempts` count for the cap at `now`, told in another way than above.
    fn counted(
        cap: &FrequencyCap,
        attempts: &[Timestamp],
        now: Timestamp,
        zone: &TimeZone,
    ) -> usize {
        let day = |at| window::local(at, zone).unwrap().date();
        let counts = |at: &&Timestamp| match cap.span {
            Span::RollingSeconds(seconds) => {
                now.since(**at) < Duration::from_secs(u64::from(seconds))
            }
            Span::CalendarDays(days) => {
                i64::from((day(now) - day(**at)).get_days()) < i64::from(days)
            }
        };
        attempts.iter().filter(counts).count()
    }

    proptest! {
        /// Whoever dials as soon as it is allowed never exceeds a cap, in any zone, and is never
        /// held longer than needed.
        #[test]
        fn never_more_and_never_longer(
            caps in prop::collection::vec(any_cap(), 1..4),
            zone in prop::sample::select(vec!["UTC", "America/New_York", "Europe/Paris", "Africa/Cairo",
                                              "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Beirut"]),
            start in 1_500_000_000i64..1_900_000_000,
            waits in prop::collection::vec(0i64..200_000, 1..25),
        ) {
            let zone = window::zone(zone).unwrap();
            let mut attempts: Vec<Timestamp> = Vec::new();
            let mut now = Timestamp::from_secs(start);
            for wait in waits {
                now = now + Duration::from_secs(wait.unsigned_abs());
                if let Some((by, until)) = holds(&caps, &attempts, now, &zone) {
                    let just_before = Timestamp(until.0 - 1);
                    prop_assert!(counted(&by, &attempts, just_before, &zone) >= by.max_attempts as usize);
                    now = until;
                }
                let back = looks_back_to(&caps, now);
                let seen: Vec<_> = attempts.iter().copied().filter(|at| *at >= back).collect();
                prop_assert_eq!(holds(&caps, &seen, now, &zone), None);
                for cap in &caps {
                    prop_assert!(counted(cap, &attempts, now, &zone) < cap.max_attempts as usize);
                }
                attempts.insert(0, now);
            }
        }
    }
}
