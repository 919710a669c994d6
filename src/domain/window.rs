//! Calling windows: when a callee may be called, by the clock on the callee's wall.

use std::time::Duration;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};
use serde::{Deserialize, Serialize};

use super::{Phone, Timestamp, Violation};

const MINUTES_PER_DAY: u16 = 24 * 60;
/// Every day of the week.
pub const ALL_DAYS: u8 = 0b111_1111;
/// Days looked ahead for an opening: a week, and one for a day that a zone skipped or cut short.
const DAYS_AHEAD: i32 = 15;

/// A daily window in local time, on some days of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallingWindow {
    /// First minute of the day in which a call may start, 0 to 1439.
    pub opens_minute: u16,
    /// First minute of the day in which none may start any more, `opens_minute + 1` to 1440.
    pub closes_minute: u16,
    /// Bit 0 is Monday, bit 6 Sunday; at least one.
    pub weekdays: u8,
}

impl Default for CallingWindow {
    /// 08:00–21:00 every day: the hours of the US Telemarketing Sales Rule, 16 CFR 310.4(c).
    fn default() -> Self {
        Self { opens_minute: 8 * 60, closes_minute: 21 * 60, weekdays: ALL_DAYS }
    }
}

impl CallingWindow {
    /// Around the clock.
    pub const ALWAYS: Self =
        Self { opens_minute: 0, closes_minute: MINUTES_PER_DAY, weekdays: ALL_DAYS };

    /// Checks the ranges; names the field.
    pub fn check(&self) -> Result<(), Violation> {
        if self.opens_minute >= MINUTES_PER_DAY {
            return Err(Violation::new("opens_minute", "must be 0 to 1439"));
        }
        if self.closes_minute <= self.opens_minute || self.closes_minute > MINUTES_PER_DAY {
            return Err(Violation::new(
                "closes_minute",
                "must be after opens_minute and at most 1440",
            ));
        }
        if self.weekdays == 0 || self.weekdays & !ALL_DAYS != 0 {
            return Err(Violation::new("weekdays", "must name at least one day of the week"));
        }
        Ok(())
    }

    /// Whether a call may start at `at` in `zone`.
    pub fn contains(&self, at: Timestamp, zone: &TimeZone) -> bool {
        local(at, zone).is_some_and(|local| {
            let minute = u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute()))
                .unwrap_or(0);
            self.has_day(local.date()) && (self.opens_minute..self.closes_minute).contains(&minute)
        })
    }

    /// The first instant from `from` on at which a call may start in `zone`; [`Timestamp::NEVER`]
    /// when the calendar holds none.
    pub fn next_opening(&self, from: Timestamp, zone: &TimeZone) -> Timestamp {
        if self.contains(from, zone) {
            return from;
        }
        let Some(today) = local(from, zone).map(|local| local.date()) else {
            return Timestamp::NEVER;
        };
        let opens = Time::midnight() + Duration::from_secs(u64::from(self.opens_minute) * 60);
        for days in 0..DAYS_AHEAD {
            let Ok(date) = today.checked_add(days.days()) else { break };
            if !self.has_day(date) {
                continue;
            }
            // Where clocks go back the opening comes twice; where they go forward it is moved to
            // the first minute after the gap.
            let ambiguous = zone.to_ambiguous_zoned(date.to_datetime(opens));
            let openings =
                [ambiguous.clone().earlier(), ambiguous.clone().compatible(), ambiguous.later()];
            let first = openings
                .into_iter()
                .flatten()
                .flat_map(|zoned| [Some(zoned.clone()), gap_end(&zoned)])
                .flatten()
                .map(|zoned| Timestamp(zoned.timestamp().as_microsecond()))
                .filter(|at| *at >= from && self.contains(*at, zone))
                .min();
            if let Some(first) = first {
                return first;
            }
        }
        Timestamp::NEVER
    }

    fn has_day(&self, date: Date) -> bool {
        self.weekdays & (1 << date.weekday().to_monday_zero_offset()) != 0
    }
}

/// The transition just before `zoned`, where a gap's lost hour ends.
fn gap_end(zoned: &Zoned) -> Option<Zoned> {
    let transition = zoned.time_zone().preceding(zoned.timestamp()).next()?;
    let close = zoned.timestamp().duration_since(transition.timestamp()).as_hours() < 24;
    close.then(|| transition.timestamp().to_zoned(zoned.time_zone().clone()))
}

/// What the clock in `zone` shows at `at`.
pub(super) fn local(at: Timestamp, zone: &TimeZone) -> Option<Zoned> {
    jiff::Timestamp::from_microsecond(at.0).ok().map(|at| at.to_zoned(zone.clone()))
}

/// The callee's zone: `given`, else that of the phone's prefix, else the tenant's.
pub fn zone_of(given: Option<&str>, phone: &Phone, tenants: &str) -> Result<TimeZone, Violation> {
    if let Some(name) = given {
        return zone(name);
    }
    // A prefix's zone that this calendar does not know says nothing.
    phone.time_zone().and_then(|name| TimeZone::get(&name).ok()).map_or_else(|| zone(tenants), Ok)
}

/// The zone that an IANA name stands for, for example `America/New_York`.
pub fn zone(name: &str) -> Result<TimeZone, Violation> {
    if name.is_empty() || name.len() > 64 {
        return Err(Violation::new(
            "time_zone",
            "must be an IANA time zone name of 1 to 64 characters",
        ));
    }
    TimeZone::get(name).map_err(|_| {
        Violation::new("time_zone", "is not an IANA time zone name, for example Europe/Paris")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    #[test]
    fn opens_and_closes_on_the_callees_clock() {
        let window = CallingWindow::default();
        let new_york = zone("America/New_York").unwrap();
        assert!(window.contains(at("2026-06-01T12:00:00Z"), &new_york));
        assert!(!window.contains(at("2026-06-01T11:59:59Z"), &new_york));
        assert!(!window.contains(at("2026-06-02T01:00:00Z"), &new_york));
        assert_eq!(
            window.next_opening(at("2026-06-02T01:00:00Z"), &new_york),
            at("2026-06-02T12:00:00Z")
        );
    }

    #[test]
    fn the_zone_is_given_or_the_prefixs_or_the_tenants() {
        let named = |given, phone: &str| {
            zone_of(given, &phone.parse().unwrap(), "UTC").unwrap().iana_name().unwrap().to_owned()
        };
        assert_eq!(named(Some("Asia/Tokyo"), "+442079460018"), "Asia/Tokyo");
        assert_eq!(named(None, "+442079460018"), "Europe/London");
        assert_eq!(named(None, "+14155550123"), "UTC");
        assert!(zone_of(Some("Mars/Phobos"), &"+442079460018".parse().unwrap(), "UTC").is_err());
    }

    #[test]
    fn weekdays_are_skipped() {
        let window = CallingWindow { weekdays: 0b001_1111, ..CallingWindow::default() };
        let utc = zone("UTC").unwrap();
        assert_eq!(
            window.next_opening(at("2026-11-20T21:00:00Z"), &utc),
            at("2026-11-23T08:00:00Z")
        );
    }

    #[test]
    fn a_gap_moves_the_opening_and_a_fold_repeats_it() {
        let berlin = zone("Europe/Berlin").unwrap();
        let early = CallingWindow { opens_minute: 150, closes_minute: 240, weekdays: ALL_DAYS };
        assert_eq!(
            early.next_opening(at("2026-03-29T00:00:00Z"), &berlin),
            at("2026-03-29T01:00:00Z")
        );
        assert_eq!(
            early.next_opening(at("2026-10-25T00:00:00Z"), &berlin),
            at("2026-10-25T00:30:00Z")
        );
        assert_eq!(
            early.next_opening(at("2026-10-25T01:10:00Z"), &berlin),
            at("2026-10-25T01:30:00Z")
        );
    }

    fn any_zone() -> impl Strategy<Value = String> {
        let names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        prop::sample::select(names)
    }

    proptest! {
        /// In every zone, across both changes of the clocks: the opening lies inside the window,
        /// and no minute before it does.
        #[test]
        fn the_opening_is_the_first_minute_inside(
            name in any_zone(),
            from in 1_700_000_000i64..1_900_000_000,
            opens in 0u16..1_440,
            length in 1u16..1_440,
            weekdays in 1u8..=ALL_DAYS,
        ) {
            let zone = zone(&name).unwrap();
            let closes_minute = (opens + length).min(1_440);
            let window = CallingWindow { opens_minute: opens, closes_minute, weekdays };
            prop_assert!(window.check().is_ok());
            let from = Timestamp::from_secs(from);
            let opening = window.next_opening(from, &zone);
            if opening == Timestamp::NEVER {
                return Ok(());
            }
            prop_assert!(opening >= from && window.contains(opening, &zone));
            let mut probe = Timestamp(from.0 - from.0.rem_euclid(60_000_000) + 60_000_000);
            while probe < opening {
                prop_assert!(!window.contains(probe, &zone), "{name} {probe:?} {opening:?}");
                probe = probe + Duration::from_secs(60);
            }
        }
    }
}
