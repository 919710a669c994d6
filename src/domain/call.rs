//! One phone call: what the carrier says of it, and what that makes of our row.

use serde::{Deserialize, Serialize};

/// Why the carrier refused to create a call, by what has to happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectClass {
    /// The number cannot be called: the job fails, whatever the retry policy says.
    LeadDead,
    /// The account may not call this number (geography, block list): the job fails.
    PolicyBlock,
    /// Our request or the account is set up wrongly: the run pauses, no attempt is used.
    Configuration,
    /// Too fast or too many: later, no attempt is used.
    Defer,
    /// A documented refusal of none of these kinds: counts as a failed attempt.
    Other,
}

/// Twilio's `CallStatus`. <https://www.twilio.com/docs/voice/api/call-resource#call-status-values>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CarrierStatus {
    /// Waiting to be dialed.
    Queued,
    /// Dialing has begun.
    Initiated,
    /// The phone rings.
    Ringing,
    /// Somebody, or something, answered.
    InProgress,
    /// Answered and over.
    Completed,
    /// The line was busy.
    Busy,
    /// Nobody answered in time.
    NoAnswer,
    /// Hung up before it was answered.
    Canceled,
    /// Could not be carried out.
    Failed,
}

impl CarrierStatus {
    /// Whether nothing more will happen on the call.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Busy | Self::NoAnswer | Self::Canceled | Self::Failed)
    }

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Initiated => "initiated",
            Self::Ringing => "ringing",
            Self::InProgress => "in-progress",
            Self::Completed => "completed",
            Self::Busy => "busy",
            Self::NoAnswer => "no-answer",
            Self::Canceled => "canceled",
            Self::Failed => "failed",
        }
    }

    /// The status that `word` names, or none.
    pub fn from_word(word: &str) -> Option<Self> {
        [
            Self::Queued,
            Self::Initiated,
            Self::Ringing,
            Self::InProgress,
            Self::Completed,
            Self::Busy,
            Self::NoAnswer,
            Self::Canceled,
            Self::Failed,
        ]
        .into_iter()
        .find(|status| status.as_str() == word)
    }
}

/// Twilio's `AnsweredBy`. <https://www.twilio.com/docs/voice/answering-machine-detection>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnsweredBy {
    /// A person.
    Human,
    /// A machine, its greeting still playing.
    MachineStart,
    /// A machine, its greeting ended with a beep.
    MachineEndBeep,
    /// A machine, its greeting ended in silence.
    MachineEndSilence,
    /// A machine, its greeting ended otherwise.
    MachineEndOther,
    /// A fax.
    Fax,
    /// Detection did not decide.
    Unknown,
}
