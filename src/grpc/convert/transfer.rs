//! Transfers.

use super::{enum_pairs, non_empty, required, time};
use crate::domain::transfer::{
    Event, Method, Miss, Mode, OnFailure, Outcome, RING_TIMEOUT_DEFAULT_S, Settings, State,
    TARGETS_MAX,
};
use crate::domain::{Phone, Violation};
use crate::grpc::pb;
use crate::grpc::pb::on_failure::Kind as Way;
use crate::grpc::pb::transfer_event::{self as wire, Kind};
use crate::grpc::pb::watch_transfer_response as watch;
use crate::progress::transfer::{TransferNews, TransferUpdate};
use crate::store::TransferView;

enum_pairs!(mode, mode_of: Mode => pb::TransferMode { Direct, Warm });
enum_pairs!(method, method_of: Method => pb::TransferMethod { Redirect, Dequeue, Conference });
enum_pairs!(state, state_of: State => pb::TransferState {
    Requested, Redirecting, Dequeuing, Ringing, Bridged, Returned, Failed, CallerGone, Canceled,
});
enum_pairs!(outcome, outcome_of: Outcome => pb::TransferOutcome {
    Bridged, Busy, NoAnswer, Declined, TargetFailed, CallerGone, Returned, Canceled,
});
enum_pairs!(miss, miss_of: Miss => pb::TargetMiss { Busy, NoAnswer, Machine, NoKey, Declined, Failed });

/// Settings from the wire, every range checked; a violation names the field under `settings`.
pub(in crate::grpc) fn read(settings: Option<pb::TransferSettings>) -> Result<Settings, Violation> {
    let settings = required("settings", settings)?;
    read_inner(settings).map_err(|violation| violation.under("settings"))
}

fn read_inner(settings: pb::TransferSettings) -> Result<Settings, Violation> {
    // Before each of them is parsed.
    if settings.targets.len() > TARGETS_MAX {
        return Err(Violation::new("targets", "must be 1 to 10 numbers"));
    }
    let targets = settings.targets.iter().enumerate();
    let targets =
        targets.map(|(i, text)| phone(&format!("targets[{i}]"), text)).collect::<Result<_, _>>()?;
    let ring_timeout_s = match settings.ring_timeout {
        None => RING_TIMEOUT_DEFAULT_S,
        Some(duration) => time::read_seconds("ring_timeout", duration, u32::MAX)?,
    };
    let on_failure = match settings.on_failure.and_then(|way| way.kind) {
        None => OnFailure::Apologize { text: None },
        Some(Way::Apology(text)) => OnFailure::Apologize { text: non_empty(text) },
        Some(Way::QueueName(name)) => OnFailure::Queue { name },
        Some(Way::TwimlUrl(url)) => OnFailure::Url { url },
    };
    let settings = Settings {
        targets,
        caller_id: non_empty(settings.caller_id)
            .map(|text| phone("caller_id", &text))
            .transpose()?,
        announcement: non_empty(settings.announcement),
        facts: non_empty(settings.facts),
        hold_audio_url: non_empty(settings.hold_audio_url),
        ring_timeout_s,
        on_failure,
    };
    settings.check()?;
    Ok(settings)
}

/// A number in E.164; a violation names `field`.
pub(in crate::grpc) fn phone(field: &str, text: &str) -> Result<Phone, Violation> {
    text.parse().map_err(|violation: Violation| Violation::new(field, violation.reason))
}

/// A transfer for the wire: with its numbers, because it is for its owner.
pub(in crate::grpc) fn write(view: TransferView) -> pb::Transfer {
    let transfer = view.transfer;
    let (state_now, came_out) = (transfer.state(), transfer.outcome());
    let progress = transfer.progress;
    let error = progress.error;
    pb::Transfer {
        transfer_id: view.id.to_string(),
        incident_id: view.incident.map(|id| id.to_string()).unwrap_or_default(),
        call_id: transfer.caller.map(|id| id.to_string()).unwrap_or_default(),
        mode: mode(transfer.mode),
        settings: Some(write_settings(transfer.settings)),
        state: state(state_now),
        outcome: came_out.map_or(0, outcome),
        method: method(progress.method),
        target: number(progress.target),
        target_call_id: progress.leg.map(|id| id.to_string()).unwrap_or_default(),
        caller_waiting: progress.held && !state_now.is_ended(),
        error_code: error.as_ref().map(|error| error.code.clone()).unwrap_or_default(),
        error_class: error.map(|error| error.class).unwrap_or_default(),
        revision: view.revision,
        create_time: time::write(view.created_at),
        update_time: time::write(view.updated_at),
        end_time: view.ended_at.and_then(time::write),
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn write_settings(settings: Settings) -> pb::TransferSettings {
    let way = match settings.on_failure {
        OnFailure::Apologize { text } => Way::Apology(text.unwrap_or_default()),
        OnFailure::Queue { name } => Way::QueueName(name),
        OnFailure::Url { url } => Way::TwimlUrl(url),
    };
    pb::TransferSettings {
        targets: settings.targets.iter().map(|phone| phone.expose().to_owned()).collect(),
        caller_id: settings.caller_id.map(|phone| phone.expose().to_owned()).unwrap_or_default(),
        announcement: settings.announcement.unwrap_or_default(),
        facts: settings.facts.unwrap_or_default(),
        hold_audio_url: settings.hold_audio_url.unwrap_or_default(),
        ring_timeout: Some(time::write_seconds(settings.ring_timeout_s)),
        on_failure: Some(pb::OnFailure { kind: Some(way) }),
    }
}

/// An update of a watch for the wire.
pub(in crate::grpc) fn update(update: TransferUpdate) -> pb::WatchTransferResponse {
    let TransferUpdate { cursor, kind } = update;
    let kind = match kind {
        TransferNews::Snapshot(view) => {
            watch::Kind::Snapshot(watch::Snapshot { transfer: Some(write(*view)) })
        }
        TransferNews::Events(commit) => watch::Kind::Events(watch::Events {
            events: commit.events.into_iter().map(event).collect(),
            state: state(commit.state),
            commit_time: time::write(commit.at),
        }),
        TransferNews::Bookmark => watch::Kind::Bookmark(watch::Bookmark {}),
    };
    pb::WatchTransferResponse {
        revision: cursor.revision,
        resume_token: cursor.to_string(),
        kind: Some(kind),
    }
}

fn event(event: Event) -> pb::TransferEvent {
    let kind = match event {
        Event::Created { mode: of, targets } => {
            Kind::Created(wire::Created { mode: mode(of), targets: number(targets) })
        }
        Event::CallerJoined { call_id } => {
            Kind::CallerJoined(wire::CallerJoined { call_id: call_id.to_string() })
        }
        Event::CallerWaiting => Kind::CallerWaiting(wire::CallerWaiting {}),
        Event::Moved { phase, method: way, target } => Kind::Moved(wire::Moved {
            phase: phase.as_str().to_owned(),
            method: method(way),
            target: number(target),
        }),
        Event::Redirected { target } => {
            Kind::Redirected(wire::Redirected { target: number(target) })
        }
        Event::ActionFailed { action, error } => Kind::ActionFailed(wire::ActionFailed {
            action: action.as_str().to_owned(),
            code: error.code,
            error_class: error.class,
        }),
        Event::FellBack { to } => Kind::FellBack(wire::FellBack { to: method(to) }),
        Event::LegStarted { target, call_id } => Kind::TargetCalled(wire::TargetCalled {
            target: number(target),
            call_id: call_id.to_string(),
        }),
        Event::TargetAnswered { target } => {
            Kind::TargetAnswered(wire::TargetAnswered { target: number(target) })
        }
        Event::Accepted { target } => Kind::Accepted(wire::Accepted { target: number(target) }),
        Event::TargetMissed { target, miss: why } => {
            Kind::TargetMissed(wire::TargetMissed { target: number(target), miss: miss(why) })
        }
        Event::TakingBack { state: _, outcome: will } => {
            Kind::TakingBack(wire::TakingBack { outcome: outcome(will) })
        }
        Event::Ended { state: last, outcome: how } => {
            Kind::Ended(wire::Ended { state: state(last), outcome: outcome(how) })
        }
    };
    pb::TransferEvent { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> pb::TransferSettings {
        pb::TransferSettings { targets: vec!["+12125550100".into()], ..Default::default() }
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let settings = read(Some(good())).unwrap();
        assert_eq!(settings.ring_timeout_s, RING_TIMEOUT_DEFAULT_S);
        assert_eq!(settings.on_failure, OnFailure::Apologize { text: None });
        let written = write_settings(settings.clone());
        assert_eq!(read(Some(written)).unwrap(), settings);
    }

    #[test]
    fn names_what_is_wrong() {
        let field = |settings| read(Some(settings)).unwrap_err().field;
        assert_eq!(read(None).unwrap_err().field, "settings");
        assert_eq!(field(pb::TransferSettings::default()), "settings.targets");
        let targets = |targets: &[&str]| pb::TransferSettings {
            targets: targets.iter().map(|&text| text.to_owned()).collect(),
            ..good()
        };
        assert_eq!(field(targets(&["+12125550100", "2125550100"])), "settings.targets[1]");
        assert_eq!(field(targets(&["+12125550100"; 11])), "settings.targets");
        let wrong = pb::TransferSettings { caller_id: "me".into(), ..good() };
        assert_eq!(field(wrong), "settings.caller_id");
        let ring_timeout = Some(time::write_seconds(4));
        assert_eq!(field(pb::TransferSettings { ring_timeout, ..good() }), "settings.ring_timeout");
        let way = |kind| Some(pb::OnFailure { kind: Some(kind) });
        let wrong =
            pb::TransferSettings { on_failure: way(Way::TwimlUrl("ftp://x".into())), ..good() };
        assert_eq!(field(wrong), "settings.on_failure.twiml_url");
    }
}
