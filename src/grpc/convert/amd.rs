//! Answering machine detection.

use super::script;
use crate::domain::Violation;
use crate::domain::amd::{Amd, AmdMode, OnMachine};
use crate::grpc::pb::AnsweringMachineDetection as Wire;
use crate::grpc::pb::answering_machine_detection::{Mode, OnMachine as Do};

/// From the wire, with the documented defaults.
pub(super) fn read(from: Wire) -> Result<Amd, Violation> {
    let on_machine = match (from.on_machine(), from.message.is_some()) {
        (Do::LeaveMessage, _) => {
            let read = script::read(from.message.clone());
            OnMachine::LeaveMessage(read.map_err(|violation| Violation {
                field: violation.field.replacen("script", "message", 1),
                ..violation
            })?)
        }
        (Do::Unspecified | Do::TreatAsAnswered | Do::HangUp, true) => {
            return Err(Violation::new("message", "is only for LEAVE_MESSAGE"));
        }
        (Do::Unspecified | Do::TreatAsAnswered, false) => OnMachine::TreatAsAnswered,
        (Do::HangUp, false) => OnMachine::HangUp,
    };
    let mode = match (from.mode(), &on_machine) {
        (Mode::DetectMessageEnd, _) | (Mode::Unspecified, OnMachine::LeaveMessage(_)) => {
            AmdMode::DetectMessageEnd
        }
        (Mode::Enable | Mode::Unspecified, _) => AmdMode::Enable,
    };
    Ok(Amd { mode, on_machine })
}

/// For the wire.
pub(super) fn write(amd: Amd) -> Wire {
    let mode = match amd.mode {
        AmdMode::Enable => Mode::Enable,
        AmdMode::DetectMessageEnd => Mode::DetectMessageEnd,
    };
    let (on_machine, message) = match amd.on_machine {
        OnMachine::TreatAsAnswered => (Do::TreatAsAnswered, None),
        OnMachine::HangUp => (Do::HangUp, None),
        OnMachine::LeaveMessage(message) => (Do::LeaveMessage, Some(script::write(message))),
    };
    Wire { mode: mode.into(), on_machine: on_machine.into(), message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::script::Script;

    #[test]
    fn there_and_back() {
        let message = Script::Say { text: "bye".into(), voice: None, language: None };
        for on_machine in
            [OnMachine::TreatAsAnswered, OnMachine::HangUp, OnMachine::LeaveMessage(message)]
        {
            let amd = Amd { mode: AmdMode::DetectMessageEnd, on_machine };
            assert_eq!(read(write(amd.clone())), Ok(amd));
        }
    }

    #[test]
    fn a_message_is_for_leaving() {
        let none = Wire { on_machine: Do::LeaveMessage.into(), ..Wire::default() };
        assert_eq!(read(none).unwrap_err().field, "message");
        let message = Some(script::write(Script::Play { url: "https://a.example/b.mp3".into() }));
        assert_eq!(read(Wire { message, ..Wire::default() }).unwrap_err().field, "message");
    }
}
