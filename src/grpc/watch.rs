//! `WatchRun`: the wire's side of [`crate::progress`].

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use super::service::Shared;
use super::{convert, pb, status};
use crate::domain::{TenantId, Violation};
use crate::progress::{self, Cursor, Start, View, Watch};

/// What a watcher is sent.
pub(super) type Updates = Pin<Box<dyn Stream<Item = Result<pb::WatchRunResponse, Status>> + Send>>;

pub(super) fn watch(
    shared: &Shared,
    request: &Request<pb::WatchRunRequest>,
) -> Result<Response<Updates>, Status> {
    let call = shared.call(request)?;
    let watch = read(call.tenant, call.store.epoch(), request.get_ref())
        .map_err(|violation| status::of_violation(&violation))?;
    let updates = shared
        .hub
        .watch(watch, shared.draining.clone())
        .map_err(|error| status::of_progress(&error))?
        .map(|update| {
            update.map(convert::event::update).map_err(|error| status::of_progress(&error))
        });
    Ok(Response::new(Box::pin(updates)))
}

fn read(tenant: TenantId, epoch: &str, request: &pb::WatchRunRequest) -> Result<Watch, Violation> {
    let run = request.run_id.parse()?;
    let refuse = |reason: String| Violation::new("resume_token", reason);
    let start = match (request.resume_token.as_str(), request.from_start) {
        ("", false) => Start::Snapshot,
        ("", true) => Start::After(Cursor { epoch: epoch.to_owned(), run, revision: 0 }),
        (_, true) => return Err(refuse("must be empty with from_start".to_owned())),
        (token, false) => Start::After(
            token.parse().map_err(|error: progress::cursor::Error| refuse(error.to_string()))?,
        ),
    };
    let view = match pb::WatchView::try_from(request.view) {
        Ok(pb::WatchView::Unspecified | pb::WatchView::Full) => View::Full,
        Ok(pb::WatchView::Progress) => View::Progress,
        Err(_) => return Err(Violation::new("view", "is not a known value")),
    };
    let bookmark_every = match request.bookmark_interval {
        None => progress::BOOKMARK_DEFAULT,
        Some(interval) => bookmark_interval(interval)?,
    };
    Ok(Watch { tenant, run, start, view, bookmark_every })
}

fn bookmark_interval(interval: prost_types::Duration) -> Result<Duration, Violation> {
    let seconds = convert::time::read_seconds("bookmark_interval", interval, u32::MAX)?;
    let interval = Duration::from_secs(u64::from(seconds));
    if (progress::BOOKMARK_MIN..=progress::BOOKMARK_MAX).contains(&interval) {
        Ok(interval)
    } else {
        Err(Violation::new("bookmark_interval", "must be 1 to 60 seconds"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RunId;

    fn field(change: impl FnOnce(&mut pb::WatchRunRequest)) -> String {
        let run_id = uuid::Uuid::nil().to_string();
        let mut request = pb::WatchRunRequest { run_id, ..Default::default() };
        change(&mut request);
        read("acme".parse().unwrap(), "e", &request)
            .map_or_else(|violation| violation.field, |_| String::new())
    }

    #[test]
    fn refuses_what_it_cannot_follow() {
        assert_eq!(field(|_| ()), "");
        assert_eq!(field(|request| request.run_id.clear()), "run_id");
        assert_eq!(field(|request| request.resume_token = "???".into()), "resume_token");
        assert_eq!(field(|request| request.from_start = true), "");
        let both = |request: &mut pb::WatchRunRequest| {
            (request.from_start, request.resume_token) = (true, "x".into());
        };
        assert_eq!(field(both), "resume_token");
        assert_eq!(field(|request| request.view = 9), "view");
        for (seconds, nanos) in [(0, 0), (61, 0), (1, 1), (-1, 0)] {
            let interval = prost_types::Duration { seconds, nanos };
            assert_eq!(
                field(|request| request.bookmark_interval = Some(interval)),
                "bookmark_interval"
            );
        }
        let token =
            Cursor { epoch: "e".into(), run: RunId(uuid::Uuid::nil()), revision: 3 }.to_string();
        assert_eq!(field(|request| request.resume_token = token), "");
    }
}
