//! Calling schedules: the windows of a week, less the holidays.

use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::window::{self, CallingWindow};
use super::{Timestamp, Violation};

/// The most windows of a run: three a day.
pub const WINDOWS_MAX: usize = 21;
/// The most holidays of a run: every day of a year, which is more than a run lives.
pub const HOLIDAYS_MAX: usize = 366;

/// When a callee may be called: in any of the windows, but not on a holiday, by the callee's own
/// clock.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// With none it never opens.
    pub windows: Vec<CallingWindow>,
    /// By the callee's calendar.
    pub holidays: Vec<Date>,
}

impl Schedule {
    /// Whether a call may start at `at` in `zone`.
    pub fn contains(&self, at: Timestamp, zone: &TimeZone) -> bool {
        self.windows.iter().any(|window| window.contains(at, zone)) && !self.is_holiday(at, zone)
    }

    /// The first instant from `from` on at which a call may start in `zone`; [`Timestamp::NEVER`]
    /// when the calendar holds none.
    pub fn next_opening(&self, from: Timestamp, zone: &TimeZone) -> Timestamp {
        let mut from = from;
        // Each round but the last leaves a holiday behind.
        for _ in 0..=self.holidays.len() {
            let opening = self.windows.iter().map(|window| window.next_opening(from, zone)).min();
            let Some(opening) = opening.filter(|at| *at < Timestamp::NEVER) else {
                return Timestamp::NEVER;
            };
            if !self.is_holiday(opening, zone) {
                return opening;
            }
            let Some(tomorrow) = day_after(opening, zone) else { return Timestamp::NEVER };
            from = tomorrow;
        }
        Timestamp::NEVER
    }

    fn is_holiday(&self, at: Timestamp, zone: &TimeZone) -> bool {
        !self.holidays.is_empty()
            && window::local(at, zone).is_some_and(|local| self.holidays.contains(&local.date()))
    }
}

/// The first instant of the next day in `zone`.
fn day_after(at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let tomorrow = window::local(at, zone)?.date().checked_add(1.day()).ok()?;
    let starts = zone.to_ambiguous_zoned(tomorrow.at(0, 0, 0, 0)).compatible().ok()?;
    Some(Timestamp(starts.timestamp().as_microsecond()))
}

/// Checks the windows and holidays of a run; names the field.
pub fn check(windows: &[CallingWindow], holidays: &[Date]) -> Result<(), Violation> {
    if windows.len() > WINDOWS_MAX {
        return Err(Violation::new("windows", format!("must be at most {WINDOWS_MAX}")));
    }
    for (i, window) in windows.iter().enumerate() {
        window.check().map_err(|violation| violation.under(&format!("windows[{i}]")))?;
    }
    if holidays.len() > HOLIDAYS_MAX {
        return Err(Violation::new("holidays", format!("must be at most {HOLIDAYS_MAX}")));
    }
    Ok(())
}

/// A holiday as clients write it.
pub fn holiday(text: &str) -> Option<Date> {
    // Exactly this form: jiff also reads times, zones and other calendars' marks.
    let plain = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::window::{ALL_DAYS, zone};

    const WEEKDAYS: CallingWindow =
        CallingWindow { opens_minute: 9 * 60, closes_minute: 20 * 60, weekdays: 0b001_1111 };
    const SATURDAY: CallingWindow =
        CallingWindow { opens_minute: 10 * 60, closes_minute: 14 * 60, weekdays: 0b010_0000 };

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    #[test]
    fn a_week_has_several_windows() {
        let utc = zone("UTC").unwrap();
        let schedule = Schedule { windows: vec![WEEKDAYS, SATURDAY], holidays: Vec::new() };
        // Friday evening, Saturday noon, Saturday evening.
        assert_eq!(
            schedule.next_opening(at("2026-11-20T20:00:00Z"), &utc),
            at("2026-11-21T10:00:00Z")
        );
        assert!(schedule.contains(at("2026-11-21T12:00:00Z"), &utc));
        assert_eq!(
            schedule.next_opening(at("2026-11-21T14:00:00Z"), &utc),
            at("2026-11-23T09:00:00Z")
        );
    }

    #[test]
    fn holidays_are_skipped_by_the_callees_calendar() {
        let holidays = ["2026-12-24", "2026-12-25", "2026-12-26"].map(|day| holiday(day).unwrap());
        let schedule = Schedule { windows: vec![WEEKDAYS], holidays: holidays.into() };
        let berlin = zone("Europe/Berlin").unwrap();
        assert_eq!(
            schedule.next_opening(at("2026-12-24T09:00:00Z"), &berlin),
            at("2026-12-28T08:00:00Z")
        );
        // Still the 23rd in Honolulu.
        let honolulu = zone("Pacific/Honolulu").unwrap();
        assert!(schedule.contains(at("2026-12-24T02:00:00Z"), &honolulu));
    }

    #[test]
    fn holidays_have_one_form() {
        assert!(holiday("2026-12-25").is_some());
        for wrong in ["2026-13-01", "2026-02-30", "25.12.2026", "2026-12-25T00:00", "20261225", ""]
        {
            assert_eq!(holiday(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn bounds_are_named() {
        let wrong = CallingWindow { weekdays: 0, ..WEEKDAYS };
        assert_eq!(check(&[WEEKDAYS, wrong], &[]).unwrap_err().field, "windows[1].weekdays");
        assert_eq!(check(&[WEEKDAYS; WINDOWS_MAX + 1], &[]).unwrap_err().field, "windows");
        assert_eq!(check(&[], &[Date::constant(2026, 1, 1); 367]).unwrap_err().field, "holidays");
    }

    prop_compose! {
        fn any_window()(opens in 0u16..1_440, length in 1u16..1_440, weekdays in 1u8..=ALL_DAYS)
            -> CallingWindow {
            CallingWindow { opens_minute: opens, closes_minute: (opens + length).min(1_440), weekdays }
        }
    }

    proptest! {
        /// In every zone, across both changes of the clocks: the opening lies inside, and no minute
        /// before it.
        #[test]
        fn the_opening_is_the_first_minute_inside(
            name in prop::sample::select(jiff::tz::db().available().map(|n| n.to_string()).collect::<Vec<_>>()),
            from in 1_700_000_000i64..1_900_000_000,
            windows in prop::collection::vec(any_window(), 1..4),
            off in prop::collection::btree_set(0i64..6, 0..4),
        ) {
            let zone = zone(&name).unwrap();
            let from = Timestamp::from_secs(from);
            let today = window::local(from, &zone).unwrap().date();
            let holidays: Vec<Date> = off.iter().map(|days| today.checked_add(days.days()).unwrap()).collect();
            let schedule = Schedule { windows, holidays };
            let opening = schedule.next_opening(from, &zone);
            prop_assert!(opening >= from && schedule.contains(opening, &zone));
            let mut probe = Timestamp(from.0 - from.0.rem_euclid(60_000_000) + 60_000_000);
            while probe < opening {
                prop_assert!(!schedule.contains(probe, &zone), "{name} {probe:?} {opening:?}");
                probe = probe + Duration::from_secs(60);
            }
        }
    }
}
