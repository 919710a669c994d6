//! A run's log.

use super::{call, job, maintain, run, time};
use crate::domain::event::{Commit, Event};
use crate::grpc::pb;
use crate::grpc::pb::run_event::{self as wire, Kind};
use crate::grpc::pb::watch_run_response as watch;
use crate::progress;

/// An update of a watch for the wire.
pub(in crate::grpc) fn update(update: progress::Update) -> pb::WatchRunResponse {
    let progress::Update { cursor, kind } = update;
    let kind = match kind {
        progress::Kind::Snapshot(view) => {
            watch::Kind::Snapshot(watch::Snapshot { run: Some(run::write(*view)) })
        }
        progress::Kind::Events(commit) => watch::Kind::Events(events(commit)),
        progress::Kind::Bookmark => watch::Kind::Bookmark(watch::Bookmark {}),
    };
    pb::WatchRunResponse {
        revision: cursor.revision,
        resume_token: cursor.to_string(),
        kind: Some(kind),
    }
}

fn events(commit: Commit) -> watch::Events {
    watch::Events {
        events: commit.events.into_iter().map(event).collect(),
        progress: Some(run::progress(&commit.progress)),
        commit_time: time::write(commit.at),
    }
}

fn event(event: Event) -> pb::RunEvent {
    let kind = match event {
        Event::RunCreated { state } => Kind::Created(wire::Created { state: run::state(state) }),
        Event::RunStateChanged { from, to, reason } => Kind::StateChanged(wire::StateChanged {
            from: run::state(from),
            to: run::state(to),
            reason: reason.unwrap_or_default(),
        }),
        Event::RunUpdated { fields } => Kind::Updated(wire::Updated { fields }),
        Event::RunSealed => Kind::Sealed(wire::Sealed {}),
        Event::JobsAdded { count } => Kind::JobsAdded(wire::JobsAdded { count }),
        Event::JobChanged { job_id, lead_id, state, attempt, outcome, eligible_at } => {
            Kind::JobChanged(wire::JobChanged {
                job_id: job_id.to_string(),
                lead_id: lead_id.to_string(),
                state: job::state(state),
                attempt,
                outcome: outcome.map_or(0, job::outcome),
                eligible_time: eligible_at.and_then(time::write),
            })
        }
        Event::Repaired { repair, count } => {
            Kind::Repaired(wire::Repaired { repair: maintain::repair_kind(repair), count })
        }
        Event::OrphanCall { call_id, job_id, attempt, call_sid } => {
            Kind::OrphanCall(wire::OrphanCall {
                call_id: call_id.to_string(),
                job_id: job_id.to_string(),
                attempt,
                call_sid: call_sid.to_string(),
            })
        }
        Event::CallChanged {
            call_id,
            job_id,
            attempt,
            state,
            call_sid,
            duration_s,
            answered_by,
            error_code,
        } => Kind::CallChanged(wire::CallChanged {
            call_id: call_id.to_string(),
            job_id: job_id.to_string(),
            attempt,
            state: call::state(state),
            call_sid: call_sid.map(|sid| sid.to_string()).unwrap_or_default(),
            duration: duration_s.map(time::write_seconds),
            answered_by: answered_by.map_or(0, call::answered_by),
            error_code: error_code.unwrap_or_default(),
        }),
    };
    pb::RunEvent { kind: Some(kind) }
}
