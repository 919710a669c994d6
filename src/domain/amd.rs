//! Answering machine detection (AMD): what a run does when a machine picks up.
//! <https://www.twilio.com/docs/voice/answering-machine-detection>

use serde::{Deserialize, Serialize};

use super::Violation;
use super::call::AnsweredBy;
use super::script::Script;

super::state_words! {
    /// When the carrier reports who answered.
    pub enum AmdMode {
        /// As soon as it knows.
        Enable = "enable",
        /// With a machine, when its greeting has ended, so that a message can be left.
        DetectMessageEnd = "detect_message_end",
    }
}

/// What to do about a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMachine {
    /// Nothing: the script goes on, and the job counts as answered.
    TreatAsAnswered,
    /// Hang up; the attempt failed, and is tried again if the retry policy names machines.
    HangUp,
    /// Say or play this instead of the script; the job is done.
    LeaveMessage(Script),
}

/// How a run's calls treat answering machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amd {
    /// When the carrier reports.
    pub mode: AmdMode,
    /// What to do then.
    pub on_machine: OnMachine,
}

super::state_words! {
    /// What is to be done to a live call at the carrier.
    pub enum Intervention {
        /// Hang it up: it turned up after it was given up.
        HangUpOrphan = "hang_up_orphan",
        /// Hang it up: a machine answered.
        HangUpMachine = "hang_up_machine",
        /// Leave the run's message for the machine that answered.
        LeaveMessage = "leave_message",
        /// Hang it up: the transfer that it was made for goes on without it.
        HangUpLeg = "hang_up_leg",
    }
}

impl Amd {
    /// Checks that a message can be left as asked; names the field.
    pub fn check(&self) -> Result<(), Violation> {
        let OnMachine::LeaveMessage(message) = &self.on_machine else { return Ok(()) };
        if self.mode != AmdMode::DetectMessageEnd {
            return Err(Violation::new(
                "mode",
                "must be DETECT_MESSAGE_END to leave a message after the greeting",
            ));
        }
        match message {
            Script::Say { .. } | Script::Play { .. } => message.check(),
            Script::Stream { .. } | Script::FetchTwiml { .. } => {
                Err(Violation::new("message.kind", "must be say or play"))
            }
        }
    }

    /// What is to be done when this answered.
    pub fn intervention(&self, answered_by: AnsweredBy) -> Option<Intervention> {
        match (&self.on_machine, answered_by) {
            (OnMachine::TreatAsAnswered, _) | (_, AnsweredBy::Human | AnsweredBy::Unknown) => None,
            // A fax machine keeps no message.
            (OnMachine::HangUp, _) | (OnMachine::LeaveMessage(_), AnsweredBy::Fax) => {
                Some(Intervention::HangUpMachine)
            }
            (
                OnMachine::LeaveMessage(_),
                AnsweredBy::MachineStart
                | AnsweredBy::MachineEndBeep
                | AnsweredBy::MachineEndSilence
                | AnsweredBy::MachineEndOther,
            ) => Some(Intervention::LeaveMessage),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(text: &str) -> Script {
        Script::Say { text: text.into(), voice: None, language: None }
    }

    #[test]
    fn people_are_left_alone() {
        for on_machine in
            [OnMachine::TreatAsAnswered, OnMachine::HangUp, OnMachine::LeaveMessage(say("x"))]
        {
            let amd = Amd { mode: AmdMode::DetectMessageEnd, on_machine };
            assert_eq!(amd.intervention(AnsweredBy::Human), None);
            assert_eq!(amd.intervention(AnsweredBy::Unknown), None);
        }
    }

    #[test]
    fn a_message_needs_the_end_of_the_greeting_and_a_static_script() {
        let amd = |mode, message| Amd { mode, on_machine: OnMachine::LeaveMessage(message) };
        assert_eq!(amd(AmdMode::Enable, say("x")).check().unwrap_err().field, "mode");
        let stream = Script::Stream { url: "wss://a.example".into(), parameters: vec![] };
        assert_eq!(
            amd(AmdMode::DetectMessageEnd, stream).check().unwrap_err().field,
            "message.kind"
        );
        assert!(amd(AmdMode::DetectMessageEnd, say("")).check().is_err());
        assert!(amd(AmdMode::DetectMessageEnd, say("x")).check().is_ok());
    }
}
