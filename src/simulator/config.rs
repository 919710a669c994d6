//! What the simulated carrier is and how it behaves.

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};

use crate::domain::{AccountSid, Violation};

/// From this speed on nothing waits: a simulated second takes no time at all.
pub const INSTANT_SPEED: f64 = 1_000.0;
/// The longest ring or talk time, in simulated seconds: Twilio ends a call after 24 h.
pub const SECONDS_MAX: f64 = 86_400.0;
/// The longest delay that a fault adds, in milliseconds.
pub const DELAY_MAX_MS: f64 = 120_000.0;

/// How the simulator is set up.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The accounts it knows; requests for others are refused with 20003.
    pub accounts: Vec<SimAccount>,
    /// Outcomes, times and faults are drawn from this, the callee's number, and how often it was
    /// called.
    pub seed: u64,
    /// Simulated seconds in a second; at least [`INSTANT_SPEED`] means no waiting. Default 1.
    pub speed: f64,
    /// No waiting, whatever the speed.
    pub instant: bool,
    /// How often each outcome is drawn.
    pub outcomes: Outcomes,
    /// How long a phone rings before it is answered or found busy, in simulated seconds.
    pub ring_s: Range,
    /// How long each `<Say>`, `<Play>` and stream lasts, in simulated seconds.
    pub talk_s: Range,
    /// What goes wrong.
    pub faults: Faults,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            accounts: Vec::new(),
            seed: 1,
            speed: 1.0,
            instant: false,
            outcomes: Outcomes::default(),
            ring_s: Range { min: 2.0, max: 20.0 },
            talk_s: Range { min: 5.0, max: 60.0 },
            faults: Faults::default(),
        }
    }
}

impl Config {
    /// Checks every range, weight and probability.
    ///
    /// # Errors
    /// A [`Violation`] that names the setting.
    pub fn check(&self) -> Result<(), Violation> {
        if !(self.speed.is_finite() && self.speed > 0.0) {
            return Err(Violation::new("speed", "must be a positive number"));
        }
        for account in &self.accounts {
            if account.calls_per_second.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
                return Err(Violation::new(
                    "accounts.calls_per_second",
                    "must be a positive number",
                ));
            }
        }
        let weights = self.outcomes.weights();
        if weights.iter().any(|w| !w.is_finite() || *w < 0.0) || weights.iter().sum::<f64>() <= 0.0
        {
            return Err(Violation::new(
                "outcomes",
                "must be weights of at least 0, one of them positive",
            ));
        }
        self.ring_s.check("ring_s", SECONDS_MAX)?;
        self.talk_s.check("talk_s", SECONDS_MAX)?;
        self.faults.check().map_err(|violation| violation.under("faults"))
    }

    /// Whether nothing waits.
    pub fn is_instant(&self) -> bool {
        self.instant || self.speed >= INSTANT_SPEED
    }
}

/// An account at the simulated carrier.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimAccount {
    /// Its SID.
    pub sid: AccountSid,
    /// Checked in HTTP Basic, and the key of its webhooks' signatures.
    #[serde(deserialize_with = "secret")]
    pub auth_token: SecretString,
    /// Creates that come faster, in real time, are refused with 20429; none = never.
    #[serde(default)]
    pub calls_per_second: Option<f64>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

/// Weights of what becomes of a call; they need not add up to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outcomes {
    /// A person answers.
    pub answered: f64,
    /// A machine answers.
    pub machine: f64,
    /// The line is busy.
    pub busy: f64,
    /// Nobody answers.
    pub no_answer: f64,
    /// The call cannot be carried out.
    pub failed: f64,
}

impl Default for Outcomes {
    fn default() -> Self {
        Self { answered: 0.6, machine: 0.12, busy: 0.05, no_answer: 0.2, failed: 0.03 }
    }
}

impl Outcomes {
    /// Every call is answered by a person.
    pub const ALL_ANSWERED: Self =
        Self { answered: 1.0, machine: 0.0, busy: 0.0, no_answer: 0.0, failed: 0.0 };

    /// In the order of [`Outcome::ALL`](super::Outcome::ALL).
    pub(crate) const fn weights(&self) -> [f64; 5] {
        [self.answered, self.machine, self.busy, self.no_answer, self.failed]
    }
}

/// A number drawn evenly from `min` to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// At least this.
    pub min: f64,
    /// At most this.
    pub max: f64,
}

impl Range {
    /// Always this number.
    pub const fn exactly(value: f64) -> Self {
        Self { min: value, max: value }
    }

    /// The number at `part` (0 to 1) of the way.
    pub(crate) fn at(self, part: f64) -> f64 {
        self.min + (self.max - self.min) * part
    }

    fn check(self, field: &'static str, max: f64) -> Result<(), Violation> {
        if self.min.is_finite() && 0.0 <= self.min && self.min <= self.max && self.max <= max {
            Ok(())
        } else {
            Err(Violation::new(field, format!("must be a range within 0 and {max}")))
        }
    }
}

/// What goes wrong: probabilities from 0 to 1, delays in real milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// The call is created, then the connection is reset without an answer.
    pub create_lost: f64,
    /// HTTP 500, and no call is created.
    pub create_500_before: f64,
    /// HTTP 500, but the call is created.
    pub create_500_after: f64,
    /// HTTP 429, and no call is created.
    pub create_429: f64,
    /// The connection is reset without an answer, and no call is created.
    pub create_reset_before: f64,
    /// How long the answer to a create is held back.
    pub slow_answer_ms: Range,
    /// A status callback is never sent.
    pub callback_lost: f64,
    /// A status callback is sent twice.
    pub callback_duplicated: f64,
    /// A status callback is sent after the one that follows it.
    pub callback_reordered: f64,
    /// How long a status callback is held back.
    pub callback_delay_ms: Range,
}

impl Faults {
    /// Checks every probability and range.
    ///
    /// # Errors
    /// A [`Violation`] that names the fault.
    pub fn check(&self) -> Result<(), Violation> {
        let probabilities = [
            ("create_lost", self.create_lost),
            ("create_500_before", self.create_500_before),
            ("create_500_after", self.create_500_after),
            ("create_429", self.create_429),
            ("create_reset_before", self.create_reset_before),
            ("callback_lost", self.callback_lost),
            ("callback_duplicated", self.callback_duplicated),
            ("callback_reordered", self.callback_reordered),
        ];
        for (field, probability) in probabilities {
            if !(0.0..=1.0).contains(&probability) {
                return Err(Violation::new(field, "must be a probability from 0 to 1"));
            }
        }
        // One create has one fault at most, so their probabilities share one draw.
        if probabilities[..5].iter().map(|(_, p)| p).sum::<f64>() > 1.0 + f64::EPSILON {
            return Err(Violation::new(
                "create_lost",
                "and the other create faults must add up to at most 1",
            ));
        }
        self.slow_answer_ms.check("slow_answer_ms", DELAY_MAX_MS)?;
        self.callback_delay_ms.check("callback_delay_ms", DELAY_MAX_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fit() {
        Config::default().check().unwrap();
    }

    #[test]
    fn names_the_setting_that_does_not_fit() {
        let field = |config: Config| config.check().unwrap_err().field;
        assert_eq!(field(Config { speed: 0.0, ..Config::default() }), "speed");
        assert_eq!(
            field(Config { ring_s: Range { min: 2.0, max: 1.0 }, ..Config::default() }),
            "ring_s"
        );
        let faults = Faults { callback_lost: 1.5, ..Faults::default() };
        assert_eq!(field(Config { faults, ..Config::default() }), "faults.callback_lost");
        let faults = Faults { create_lost: 0.6, create_429: 0.6, ..Faults::default() };
        assert_eq!(field(Config { faults, ..Config::default() }), "faults.create_lost");
        let faults = Faults { slow_answer_ms: Range::exactly(f64::NAN), ..Faults::default() };
        assert_eq!(field(Config { faults, ..Config::default() }), "faults.slow_answer_ms");
    }

    #[test]
    fn reads_json_and_hides_tokens() {
        let json = r#"{"accounts":[{"sid":"AC0123456789abcdef0123456789abcdef","auth_token":"hush"}],"speed":10}"#;
        let config: Config = serde_json::from_str(json).unwrap();
        assert!(!format!("{config:?}").contains("hush"));
        assert!(serde_json::from_str::<Config>(r#"{"sped":10}"#).is_err());
    }
}
