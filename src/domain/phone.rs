//! Phone numbers in E.164 that do not print themselves.

use std::fmt;
use std::str::FromStr;
use std::sync::{LazyLock, PoisonError};

use serde::{Deserialize, Serialize};

use super::Violation;

/// Rules of countries that are kept compiled. The library keeps a hundred, which is some fifteen
/// countries: numbers of more in turn would cost milliseconds each. All there are fill 1,435, and
/// take 200 MiB.
const RULES_KEPT: usize = 1_000;
static RULES: LazyLock<()> = LazyLock::new(|| {
    let cache = phonenumber::metadata::DATABASE.cache();
    cache.lock().unwrap_or_else(PoisonError::into_inner).set_capacity(RULES_KEPT);
});

/// A phone number in E.164 (ITU-T E.164: `+`, country code, at most 15 digits).
///
/// `Debug` and `Display` redact it (`+1415•••2671`); only [`Phone::expose`] gives it whole.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Phone(String);

impl Phone {
    /// Reads `text` as an E.164 number or, with `region` (ISO 3166-1 alpha-2), as a national one.
    pub fn parse(text: &str, region: Option<&str>) -> Result<Self, Violation> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Violation::new("phone", "is required"));
        }
        if text.len() > 40 {
            return Err(Violation::new("phone", "is longer than 40 characters"));
        }
        // A parser takes letters for the digits of their keys; to us they are a slip, and somebody
        // else's phone.
        if text.chars().any(char::is_alphabetic) {
            return Err(Violation::new("phone", "must not contain letters"));
        }
        let country = region.map(region_code).transpose()?;
        if country.is_none() && !text.starts_with('+') {
            return Err(Violation::new("phone", "must be in E.164: + and the country code first"));
        }
        LazyLock::force(&RULES);
        let number = phonenumber::parse(country, text)
            .map_err(|error| Violation::new("phone", format!("is not a phone number: {error}")))?;
        if number.extension().is_some() {
            return Err(Violation::new("phone", "must not have an extension"));
        }
        let e164 = number.format().mode(phonenumber::Mode::E164).to_string();
        let possible =
            is_magic(&e164) || phonenumber::is_viable(&e164) && phonenumber::is_valid(&number);
        if possible && e164.len() <= 16 {
            Ok(Self(e164))
        } else {
            Err(Violation::new("phone", "is not a number that can be dialed"))
        }
    }

    /// Takes back what [`Phone::parse`] once accepted and the store kept.
    pub fn from_stored(e164: String) -> Self {
        Self(e164)
    }

    /// The time zone in which numbers of this prefix are; none where they are in several, or are
    /// nobody's.
    pub fn time_zone(&self) -> Option<String> {
        if is_magic(&self.0) {
            return None;
        }
        let zones = namba::TimeZones::for_number(&self.0.parse().ok()?)?;
        let mut names = zones.iter();
        match (names.next(), names.next()) {
            (Some(only), None) => Some(only.to_owned()),
            _ => None,
        }
    }

    /// The number whole, for the carrier and the owner; never for a log.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Checks that `region` is one that a national number can be read with.
pub fn check_region(region: &str) -> Result<(), Violation> {
    region_code(region).map(drop)
}

fn region_code(region: &str) -> Result<phonenumber::country::Id, Violation> {
    region
        .to_ascii_uppercase()
        .parse()
        .map_err(|_| Violation::new("region", "must be an ISO 3166-1 alpha-2 code, for example US"))
}

/// Twilio's magic test numbers and the North American fictitious exchange 555 are not assigned, so
/// the metadata calls them invalid; people test with them.
/// <https://www.twilio.com/docs/iam/test-credentials>
fn is_magic(e164: &str) -> bool {
    e164.len() == 12
        && e164.starts_with("+1")
        && (e164.starts_with("+1500555") || &e164[5..8] == "555")
}

impl FromStr for Phone {
    type Err = Violation;

    fn from_str(text: &str) -> Result<Self, Violation> {
        Self::parse(text, None)
    }
}

impl fmt::Display for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Short numbers keep only their last two digits: a longer head would give most of them
        // away.
        let (head, tail) = if self.0.len() >= 11 { (5, 4) } else { (2, 2) };
        write!(
            f,
            "{}•••{}",
            &self.0[..head.min(self.0.len())],
            &self.0[self.0.len().saturating_sub(tail)..]
        )
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn national_needs_a_region() {
        assert_eq!(Phone::parse("(415) 867-2671", Some("us")).unwrap().expose(), "+14158672671");
        assert_eq!(Phone::parse("020 7946 0018", Some("GB")).unwrap().expose(), "+442079460018");
        assert!(Phone::parse("(415) 867-2671", None).is_err());
    }

    #[test]
    fn a_prefix_has_a_time_zone_where_it_has_just_one() {
        let zone = |text: &str| text.parse::<Phone>().unwrap().time_zone();
        assert_eq!(zone("+14158672671").as_deref(), Some("America/Los_Angeles"));
        assert_eq!(zone("+442079460018").as_deref(), Some("Europe/London"));
        // Toll-free, and fictitious.
        assert_eq!(zone("+18002321234"), None);
        assert_eq!(zone("+14155550123"), None);
    }

    #[test]
    fn rules_of_many_countries_stay_compiled() {
        Phone::parse("+14158672671", None).unwrap();
        let cache = phonenumber::metadata::DATABASE.cache();
        assert_eq!(cache.lock().unwrap().capacity(), RULES_KEPT);
    }

    #[test]
    fn refuses_what_cannot_be_dialed() {
        for bad in [
            "",
            "+",
            "+1",
            "hello",
            "+1415867267111111",
            "+1415 867 2671 ext 5",
            "+00000000000",
            "12",
            "+1212CALLNOW",
        ] {
            assert!(Phone::parse(bad, None).is_err(), "{bad}");
        }
        assert_eq!(Phone::parse("415 867 2671", Some("nowhere")).unwrap_err().field, "region");
    }

    #[test]
    fn magic_numbers_pass() {
        assert!("+15005550006".parse::<Phone>().is_ok());
        assert!("+14155550123".parse::<Phone>().is_ok());
    }

    #[test]
    fn never_prints_whole() {
        let phone: Phone = "+14158672671".parse().unwrap();
        assert_eq!(format!("{phone} {phone:?}"), "+1415•••2671 +1415•••2671");
    }
}
