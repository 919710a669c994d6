//! Rules: what a law asks, as windows and caps of ours. They hold beside a run's own settings and
//! loosen none of them.

use super::cap::{FrequencyCap, Span};
use super::window::{ALL_DAYS, CallingWindow};

const MONDAY_TO_FRIDAY: u8 = 0b001_1111;

super::state_words! {
    /// A law about calls. What else it asks (consent, registers, what is said) is for the caller to
    /// know.
    pub enum Rule {
        /// France, décret n° 2022-1313, code de la consommation art. D. 223-9: Monday to Friday
        /// 10–13 and 14–20, and four attempts in thirty calendar days. Public holidays are the
        /// run's to name.
        /// <https://www.legifrance.gouv.fr/eli/decret/2022/10/13/ECOC2223581D/jo/texte>
        France2023 = "france-2023",
        /// US Telemarketing Sales Rule, 16 CFR 310.4(c): 8–21 at the callee's. It names no number
        /// of attempts. <https://www.ecfr.gov/current/title-16/section-310.4>
        UsTsr = "us-tsr",
        /// US debt collection, Regulation F: 8–21 at the callee's, 12 CFR 1006.6(b)(1)(i); seven
        /// calls within seven consecutive days, 12 CFR 1006.14(b)(2)(i)(A).
        /// <https://www.consumerfinance.gov/rules-policy/regulations/1006/14/>
        UsRegulationF = "us-reg-f",
    }
}

const FRENCH_HOURS: &[CallingWindow] =
    &[window(10, 13, MONDAY_TO_FRIDAY), window(14, 20, MONDAY_TO_FRIDAY)];
const EIGHT_TO_NINE: &[CallingWindow] = &[window(8, 21, ALL_DAYS)];

const fn window(from_hour: u16, to_hour: u16, weekdays: u8) -> CallingWindow {
    CallingWindow { opens_minute: from_hour * 60, closes_minute: to_hour * 60, weekdays }
}

impl Rule {
    /// When it allows calls.
    pub const fn windows(self) -> &'static [CallingWindow] {
        match self {
            Self::France2023 => FRENCH_HOURS,
            Self::UsTsr | Self::UsRegulationF => EIGHT_TO_NINE,
        }
    }

    /// How often it allows them.
    pub const fn caps(self) -> &'static [FrequencyCap] {
        match self {
            Self::France2023 => &[FrequencyCap { max_attempts: 4, span: Span::CalendarDays(30) }],
            Self::UsTsr => &[],
            Self::UsRegulationF => &[FrequencyCap { max_attempts: 7, span: Span::CalendarDays(7) }],
        }
    }
}

/// The windows that all rules leave of `windows`; none if they leave nothing.
pub fn narrow(windows: Vec<CallingWindow>, rules: &[Rule]) -> Vec<CallingWindow> {
    rules.iter().fold(windows, |windows, rule| {
        let pairs = windows
            .iter()
            .flat_map(|own| rule.windows().iter().map(move |allowed| both(own, allowed)));
        pairs.flatten().collect()
    })
}

/// When both are open.
fn both(a: &CallingWindow, b: &CallingWindow) -> Option<CallingWindow> {
    let window = CallingWindow {
        opens_minute: a.opens_minute.max(b.opens_minute),
        closes_minute: a.closes_minute.min(b.closes_minute),
        weekdays: a.weekdays & b.weekdays,
    };
    window.check().is_ok().then_some(window)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Timestamp, cap, window};

    #[test]
    fn rules_are_sound() {
        for rule in Rule::ALL {
            assert!(
                !rule.windows().is_empty()
                    && rule.windows().iter().all(|window| window.check().is_ok())
            );
            assert_eq!(cap::check(rule.caps()), Ok(()));
        }
        let narrowed = narrow(vec![window(9, 18, ALL_DAYS)], &[Rule::France2023, Rule::UsTsr]);
        assert_eq!(narrowed, [window(10, 13, MONDAY_TO_FRIDAY), window(14, 18, MONDAY_TO_FRIDAY)]);
        assert_eq!(narrow(vec![window(21, 24, ALL_DAYS)], &[Rule::UsTsr]), []);
    }

    fn any_window() -> impl Strategy<Value = CallingWindow> {
        (0_u16..1_440, 1_u16..=1_440, 1_u8..=ALL_DAYS).prop_map(|(from, length, weekdays)| {
            CallingWindow {
                opens_minute: from,
                closes_minute: (from + length).min(1_440),
                weekdays,
            }
        })
    }

    proptest! {
        #[test]
        fn narrowed_is_open_when_all_are(
            windows in prop::collection::vec(any_window(), 1..4),
            rules in prop::sample::subsequence(Rule::ALL.to_vec(), 0..=3),
            minute in 0_i64..14 * 1_440,
        ) {
            let at = Timestamp::from_secs(1_780_000_000 + minute * 60);
            let utc = window::zone("UTC").unwrap();
            let open = |windows: &[CallingWindow]| windows.iter().any(|window| window.contains(at, &utc));
            let all = open(&windows) && rules.iter().all(|rule| open(rule.windows()));
            prop_assert_eq!(open(&narrow(windows, &rules)), all);
        }
    }
}
