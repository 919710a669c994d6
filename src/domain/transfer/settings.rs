//! What a client decides about a transfer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::script::{Script, check_url, escaped_text};
use crate::domain::{Phone, Violation};

/// Targets of one transfer: somebody who waits for more than ten has hung up.
pub const TARGETS_MAX: usize = 10;
/// How long a target's phone rings unless told otherwise, in seconds.
pub const RING_TIMEOUT_DEFAULT_S: u32 = 25;
/// The shortest and the longest ringing, in seconds.
const RING_TIMEOUT_S: std::ops::RangeInclusive<u32> = 5..=120;
/// The longest announcement and the longest facts, in characters: with what is around them they
/// must fit into TwiML of 4,000 characters, escaped.
pub const FACTS_MAX_CHARS: usize = 500;
/// The same, written as XML: `&` takes five characters there.
const ESCAPED_MAX_CHARS: usize = 1_000;
/// The longest name of a queue, as at Twilio.
/// <https://www.twilio.com/docs/voice/api/queue-resource>
pub const QUEUE_NAME_MAX_CHARS: usize = 64;

/// What becomes of the caller when no target is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// They hear this, or an apology of ours, and the call ends.
    Apologize {
        /// What is said.
        text: Option<String>,
    },
    /// They go to this queue of the client's.
    Queue {
        /// Its friendly name at the carrier.
        name: String,
    },
    /// Their call goes on with the TwiML at this URL.
    Url {
        /// Where it is.
        url: String,
    },
}

/// What a client decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Whom to connect the caller to, in this order, 1 to 10 numbers.
    pub targets: Vec<Phone>,
    /// The number that targets see, one of the tenant's; none for its first.
    pub caller_id: Option<Phone>,
    /// Said to the caller before the target is dialed.
    pub announcement: Option<String>,
    /// Said to a target before it is asked whether it accepts; warm transfers only.
    pub facts: Option<String>,
    /// What a caller hears who waits, an audio file; none for words of ours.
    pub hold_audio_url: Option<String>,
    /// How long a target's phone rings, 5 to 120 s.
    pub ring_timeout_s: u32,
    /// What becomes of the caller when no target is reached.
    pub on_failure: OnFailure,
}

impl Settings {
    /// How long a target's phone rings.
    pub fn ring_timeout(&self) -> Duration {
        Duration::from_secs(u64::from(self.ring_timeout_s))
    }

    /// Checks every range; names the field.
    pub fn check(&self) -> Result<(), Violation> {
        if !(1..=TARGETS_MAX).contains(&self.targets.len()) {
            return Err(Violation::new("targets", "must be 1 to 10 numbers"));
        }
        for (i, phone) in self.targets.iter().enumerate() {
            if self.targets[..i].contains(phone) {
                return Err(Violation::new(format!("targets[{i}]"), "is there twice"));
            }
        }
        if !RING_TIMEOUT_S.contains(&self.ring_timeout_s) {
            return Err(Violation::new("ring_timeout", "must be 5 to 120 seconds"));
        }
        check_text("announcement", self.announcement.as_deref())?;
        check_text("facts", self.facts.as_deref())?;
        if let Some(url) = &self.hold_audio_url {
            check_url("hold_audio_url", url, &["http", "https"])?;
        }
        match &self.on_failure {
            OnFailure::Apologize { text } => check_text("on_failure.apology", text.as_deref()),
            OnFailure::Queue { name } => {
                let fits = (1..=QUEUE_NAME_MAX_CHARS).contains(&name.chars().count());
                if fits && !name.chars().any(char::is_control) && name.trim() == name {
                    Ok(())
                } else {
                    Err(Violation::new(
                        "on_failure.queue_name",
                        "must be 1 to 64 characters, none of them a control character",
                    ))
                }
            }
            OnFailure::Url { url } => check_url("on_failure.twiml_url", url, &["http", "https"]),
        }
    }
}

/// Checked as what a script says, and shorter.
fn check_text(field: &str, text: Option<&str>) -> Result<(), Violation> {
    let Some(text) = text else { return Ok(()) };
    if text.chars().count() > FACTS_MAX_CHARS {
        return Err(Violation::new(field, "is longer than 500 characters"));
    }
    if escaped_text(text) > ESCAPED_MAX_CHARS {
        return Err(Violation::new(field, "is longer than 1,000 characters, written as TwiML"));
    }
    let say = Script::Say { text: text.to_owned(), voice: None, language: None };
    say.check().map_err(|violation| Violation::new(field, violation.reason))
}
