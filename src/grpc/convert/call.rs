//! Calls.

use super::{enum_pairs, time};
use crate::domain::call::{AnsweredBy, CallState, Direction};
use crate::grpc::pb;
use crate::store::{CallView, InFlight};

enum_pairs!(state, state_of: CallState => pb::CallState {
    Intent, Unknown, Submitted, Ringing, Answered, Completed, Busy, NoAnswer, Failed, Canceled,
});
enum_pairs!(answered_by, answered_by_of: AnsweredBy => pb::AnsweredBy {
    Human, MachineStart, MachineEndBeep, MachineEndSilence, MachineEndOther, Fax, Unknown,
});
enum_pairs!(direction, direction_of: Direction => pb::CallDirection { Outbound, Inbound, Transfer });

/// A call for the wire: with its numbers, because it is for its owner.
pub(in crate::grpc) fn write(view: CallView) -> pb::Call {
    let call = view.call;
    pb::Call {
        call_id: view.id.to_string(),
        call_sid: call.sid.map(|sid| sid.to_string()).unwrap_or_default(),
        direction: direction(view.direction),
        run_id: view.run_id.map(|id| id.to_string()).unwrap_or_default(),
        job_id: view.job_id.map(|id| id.to_string()).unwrap_or_default(),
        transfer_id: view.transfer_id.map(|id| id.to_string()).unwrap_or_default(),
        attempt: view.attempt,
        state: state(call.state),
        from: view.from.expose().to_owned(),
        to: view.to.expose().to_owned(),
        create_time: time::write(view.created_at),
        answer_time: call.answered_at.and_then(time::write),
        end_time: view.ended_at.and_then(time::write),
        duration: call.duration_s.map(time::write_seconds),
        answered_by: call.answered_by.map_or(0, answered_by),
        error_code: call.error_code.unwrap_or_default(),
        error_message: call.error_message.unwrap_or_default(),
    }
}

/// A run's live calls for the wire.
pub(in crate::grpc) fn in_flight(calls: InFlight) -> pb::InFlight {
    let InFlight { intent, unknown, ringing, answered } = calls;
    pb::InFlight { intent, unknown, ringing, answered }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enums_round_trip() {
        for value in CallState::ALL {
            assert_eq!(state_of(state(*value)), Some(*value));
        }
        for value in AnsweredBy::ALL {
            assert_eq!(answered_by_of(answered_by(*value)), Some(*value));
        }
    }
}
