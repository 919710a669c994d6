//! One phone call: what the carrier says of it, and what that makes of our row.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CallSid, Timestamp};

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

super::state_words! {
    /// Twilio's `CallStatus`.
    /// <https://www.twilio.com/docs/voice/api/call-resource#call-status-values>
    pub enum CarrierStatus {
        /// Waiting to be dialed.
        Queued = "queued",
        /// Dialing has begun.
        Initiated = "initiated",
        /// The phone rings.
        Ringing = "ringing",
        /// Somebody, or something, answered.
        InProgress = "in-progress",
        /// Answered and over.
        Completed = "completed",
        /// The line was busy.
        Busy = "busy",
        /// Nobody answered in time.
        NoAnswer = "no-answer",
        /// Hung up before it was answered.
        Canceled = "canceled",
        /// Could not be carried out.
        Failed = "failed",
    }
}

impl CarrierStatus {
    /// Whether nothing more will happen on the call.
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Busy | Self::NoAnswer | Self::Canceled | Self::Failed
        )
    }
}

super::state_words! {
    /// Twilio's `AnsweredBy`. <https://www.twilio.com/docs/voice/answering-machine-detection>
    pub enum AnsweredBy {
        /// A person.
        Human = "human",
        /// A machine, its greeting still playing.
        MachineStart = "machine_start",
        /// A machine, its greeting ended with a beep.
        MachineEndBeep = "machine_end_beep",
        /// A machine, its greeting ended in silence.
        MachineEndSilence = "machine_end_silence",
        /// A machine, its greeting ended otherwise.
        MachineEndOther = "machine_end_other",
        /// A fax.
        Fax = "fax",
        /// Detection did not decide.
        Unknown = "unknown",
    }
}

super::state_words! {
    /// Which way a call goes.
    pub enum Direction {
        /// From us.
        Outbound = "outbound",
        /// To us.
        Inbound = "inbound",
        /// From us, to the target of a transfer.
        Transfer = "transfer",
    }
}

super::state_words! {
    /// Where a call stands.
    pub enum CallState {
        /// Committed before the request is sent; only its own worker sends it, once.
        Intent = "intent",
        /// The answer to our create request was lost; the carrier may or may not have the call.
        Unknown = "unknown",
        /// The carrier has it and named it.
        Submitted = "submitted",
        /// The phone rings.
        Ringing = "ringing",
        /// Answered, and going on.
        Answered = "answered",
        /// Answered and over.
        Completed = "completed",
        /// The line was busy.
        Busy = "busy",
        /// Nobody answered in time.
        NoAnswer = "no_answer",
        /// The carrier refused it or could not carry it out, or it was never sent.
        Failed = "failed",
        /// Hung up by us before it was answered.
        Canceled = "canceled",
    }
}

impl CallState {
    /// Whether the call holds a slot and its phone.
    pub const fn is_live(self) -> bool {
        self.rank() < ENDED
    }

    /// How far along a call is: news of a lower rank is old news.
    const fn rank(self) -> u8 {
        match self {
            Self::Intent => 0,
            Self::Unknown => 1,
            Self::Submitted => 2,
            Self::Ringing => 3,
            Self::Answered => 4,
            Self::Completed | Self::Busy | Self::NoAnswer | Self::Failed | Self::Canceled => ENDED,
        }
    }

    const fn of(status: CarrierStatus) -> Self {
        match status {
            CarrierStatus::Queued | CarrierStatus::Initiated => Self::Submitted,
            CarrierStatus::Ringing => Self::Ringing,
            CarrierStatus::InProgress => Self::Answered,
            CarrierStatus::Completed => Self::Completed,
            CarrierStatus::Busy => Self::Busy,
            CarrierStatus::NoAnswer => Self::NoAnswer,
            CarrierStatus::Canceled => Self::Canceled,
            CarrierStatus::Failed => Self::Failed,
        }
    }
}

const ENDED: u8 = 5;

/// An intent is sent within this of the moment before its claim began, or never. With the request's
/// own timeout it bounds how long anybody has to wait until no request for an old intent can still
/// be under way.
pub const SEND_WITHIN: Duration = Duration::from_secs(20);
/// How long after its time limit a call is ended by us: the carrier ends it first.
pub const OVERTIME: Duration = Duration::from_secs(30);
/// Between two look-ups of a call whose creation went unanswered.
pub const LOOKUP_INTERVAL: Duration = Duration::from_secs(10);
/// `error_code` of a call whose request was proven never to have been sent.
pub const NOT_SENT: &str = "not_sent";
/// `error_code` of a call of which nothing was ever heard again.
pub const STALE_NO_CALL_SID: &str = "stale_no_call_sid";
/// `error_code` of a call that the carrier took and later did not know.
pub const GONE_AT_CARRIER: &str = "gone_at_carrier";
/// `error_code` of a call whose run moved on before its intent was sent.
pub const WITHDRAWN: &str = "withdrawn";
/// Longest `error_message` kept, in characters.
pub const ERROR_MESSAGE_MAX_CHARS: usize = 300;

/// What is known of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Where it stands.
    pub state: CallState,
    /// The carrier's name for it, once known.
    pub sid: Option<CallSid>,
    /// The highest `SequenceNumber` taken.
    pub sequence: Option<u32>,
    /// Whether the ending is our presumption, which evidence from the carrier overrules.
    pub presumed: bool,
    /// When it was answered.
    pub answered_at: Option<Timestamp>,
    /// Seconds from answer to end, as the carrier bills it.
    pub duration_s: Option<u32>,
    /// Who answered.
    pub answered_by: Option<AnsweredBy>,
    /// The carrier's or our own code for what went wrong.
    pub error_code: Option<String>,
    /// The same in words, without personal data.
    pub error_message: Option<String>,
    /// Whether it turned up after it was given up, and is to be hung up.
    pub orphaned: bool,
}

impl Call {
    /// A call as it is committed before its request is sent.
    pub const fn intent() -> Self {
        Self {
            state: CallState::Intent,
            sid: None,
            sequence: None,
            presumed: false,
            answered_at: None,
            duration_s: None,
            answered_by: None,
            error_code: None,
            error_message: None,
            orphaned: false,
        }
    }
}

/// Something learned about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The carrier accepted our create request and named the call.
    Submitted {
        /// Its name.
        sid: CallSid,
    },
    /// The carrier refused to create it.
    Rejected {
        /// What has to happen next.
        class: RejectClass,
        /// The carrier's code, as text.
        code: String,
        /// The reason, without personal data.
        message: String,
    },
    /// The request was proven not to have reached the carrier.
    NotSent {
        /// [`NOT_SENT`] or [`WITHDRAWN`].
        code: &'static str,
        /// The reason, without personal data.
        message: String,
    },
    /// The answer to our create request was lost.
    Lost {
        /// The reason, without personal data.
        message: String,
    },
    /// The carrier reported a status, by callback or when asked.
    Status {
        /// The carrier's name for the call.
        sid: CallSid,
        /// The status.
        status: CarrierStatus,
        /// Position in the carrier's sequence; none when asked for.
        sequence: Option<u32>,
        /// Billed seconds, with a final status.
        duration_s: Option<u32>,
        /// Who answered, when detection ran.
        answered_by: Option<AnsweredBy>,
        /// The carrier's error code, if any.
        error_code: Option<String>,
    },
    /// Detection found out who answered, while the call goes on.
    AnsweredBy {
        /// The carrier's name for the call.
        sid: CallSid,
        /// Who answered.
        answered_by: AnsweredBy,
    },
    /// Nothing was heard for so long that the call is taken to have ended.
    Presumed {
        /// Our code, for example [`STALE_NO_CALL_SID`].
        code: &'static str,
        /// The reason, without personal data.
        message: String,
    },
}

impl News {
    /// The carrier's name for the call, if the news gives one.
    pub const fn sid(&self) -> Option<&CallSid> {
        match self {
            Self::Submitted { sid } | Self::Status { sid, .. } | Self::AnsweredBy { sid, .. } => {
                Some(sid)
            }
            Self::Rejected { .. }
            | Self::NotSent { .. }
            | Self::Lost { .. }
            | Self::Presumed { .. } => None,
        }
    }
}

/// Why news was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The news names another carrier call than the one on record.
    #[error("another call SID is on record for this call")]
    OtherSid,
}

/// What news makes of `call`: the call as it is afterwards, or none when it says nothing new.
pub fn decide(call: &Call, news: &News, now: Timestamp) -> Result<Option<Call>, Rejection> {
    let mut next = call.clone();
    match news {
        News::Submitted { sid } => {
            take_sid(&mut next, sid)?;
            if call.state.rank() < CallState::Submitted.rank() {
                next.state = CallState::Submitted;
            }
        }
        News::Rejected { code, message, .. } if call.sid.is_none() => {
            end_unsent(&mut next, code, message);
        }
        // Its own worker's word, which nobody else can give: it holds also after the intent was
        // taken for lost.
        News::NotSent { code, message } if call.sid.is_none() => {
            end_unsent(&mut next, code, message);
        }
        News::Lost { message } if call.state == CallState::Intent => {
            next.state = CallState::Unknown;
            next.error_message = Some(clip(message));
        }
        News::Status { .. } => take_status(&mut next, news, now)?,
        News::AnsweredBy { sid, answered_by } => {
            take_sid(&mut next, sid)?;
            next.answered_by = next.answered_by.or(Some(*answered_by));
            // Somebody did answer, even if the callback that says so is still on its way.
            if call.state.rank() < CallState::Answered.rank() {
                next.state = CallState::Answered;
                next.answered_at = Some(now);
            }
        }
        News::Presumed { code, message } if call.state.is_live() => {
            end_unsent(&mut next, code, message);
            next.presumed = true;
        }
        News::Rejected { .. }
        | News::NotSent { .. }
        | News::Lost { .. }
        | News::Presumed { .. } => {}
    }
    Ok((next != *call).then_some(next))
}

fn end_unsent(call: &mut Call, code: &str, message: &str) {
    if call.state.is_live() {
        call.state = CallState::Failed;
        call.error_code = Some(code.to_owned());
        call.error_message = Some(clip(message));
    }
}

fn take_sid(call: &mut Call, sid: &CallSid) -> Result<(), Rejection> {
    match &call.sid {
        Some(known) if known != sid => Err(Rejection::OtherSid),
        Some(_) => Ok(()),
        None => {
            call.sid = Some(sid.clone());
            Ok(())
        }
    }
}

fn take_status(call: &mut Call, news: &News, now: Timestamp) -> Result<(), Rejection> {
    let News::Status { sid, status, sequence, duration_s, answered_by, error_code } = news else {
        return Ok(());
    };
    take_sid(call, sid)?;
    let state = CallState::of(*status);
    let later = sequence > &call.sequence;
    let forward = state.rank() > call.state.rank();
    // Between two endings the carrier's later word holds, and any word of the carrier's beats our
    // presumption.
    let corrects = !state.is_live() && !call.state.is_live() && (call.presumed || later);
    if forward || corrects {
        call.state = state;
        call.presumed = false;
        call.error_code.clone_from(error_code);
        call.error_message = None;
    }
    if state.is_live() && call.presumed {
        call.orphaned = true;
    }
    if state == CallState::Answered && call.answered_at.is_none() {
        call.answered_at = Some(now);
    }
    if later {
        call.sequence = *sequence;
    }
    call.duration_s = call.duration_s.or(duration_s.filter(|_| status.is_final()));
    if call.state == CallState::Completed && call.answered_at.is_none() {
        // The news of the answer was lost; the bill says how long ago it was.
        call.answered_at = Some(now - Duration::from_secs(u64::from(call.duration_s.unwrap_or(0))));
    }
    call.answered_by = call.answered_by.or(*answered_by);
    Ok(())
}

/// When the carrier is to be asked about a call that stays as it is, because news may have been
/// lost: Twilio repeats a callback only when the connection failed.
pub fn check_at(call: &Call, time_limit_s: u32, now: Timestamp) -> Option<Timestamp> {
    let after = |seconds| Some(now + Duration::from_secs(seconds));
    match call.state {
        CallState::Unknown => Some(now + LOOKUP_INTERVAL),
        CallState::Submitted => after(30),
        CallState::Ringing => after(45),
        CallState::Answered => {
            let over = call.answered_at.unwrap_or(now)
                + Duration::from_secs(u64::from(time_limit_s))
                + OVERTIME;
            Some(over.min(now + Duration::from_secs(60)).max(now + LOOKUP_INTERVAL))
        }
        CallState::Intent
        | CallState::Completed
        | CallState::Busy
        | CallState::NoAnswer
        | CallState::Failed
        | CallState::Canceled => None,
    }
}

/// Whether an answered call has gone on for longer than it may; the carrier should have ended it.
pub fn is_overtime(answered_at: Option<Timestamp>, time_limit_s: u32, now: Timestamp) -> bool {
    let limit = Duration::from_secs(u64::from(time_limit_s)) + OVERTIME;
    answered_at.is_some_and(|answered| now >= answered + limit)
}

fn clip(message: &str) -> String {
    message.chars().take(ERROR_MESSAGE_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests;
