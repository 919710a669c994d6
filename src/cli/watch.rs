//! Following a run to its end, through cuts, restarts and fail-overs of the server.

use std::future::Future;
use std::io;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use super::client::{self, Queue};
use super::render::Renderer;
use super::{Error, display};
use crate::grpc::pb::run_event::Kind as EventKind;
use crate::grpc::pb::watch_run_response::Kind;
use crate::grpc::pb::{
    JobCounts, Outcome, RunProgress, RunState, WatchRunRequest, WatchRunResponse, WatchView,
};

/// How often a renderer gets to show what it held back.
const TICK: Duration = Duration::from_millis(500);
/// How long nothing may be heard before following ends with an error.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10 * 60);

/// Where a run stands, or how it ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary {
    /// Its state.
    pub state: RunState,
    /// Its jobs by state.
    pub counts: JobCounts,
    /// Its ended jobs by outcome; only outcomes that occurred.
    pub outcomes: Vec<(Outcome, i64)>,
    /// The revision that says so.
    pub revision: i64,
    /// Why it last moved by itself; empty for no reason.
    pub reason: String,
}

impl Summary {
    /// Whether the run is over.
    pub const fn is_ended(&self) -> bool {
        match self.state {
            RunState::Completed
            | RunState::Canceled
            | RunState::Stopped
            | RunState::Failed
            | RunState::Expired => true,
            RunState::Unspecified
            | RunState::Draft
            | RunState::Pending
            | RunState::Running
            | RunState::Paused
            | RunState::Canceling
            | RunState::Stopping => false,
        }
    }

    /// Jobs that will not change again.
    pub const fn ended_jobs(&self) -> i64 {
        let counts = &self.counts;
        counts.completed + counts.failed + counts.canceled + counts.skipped + counts.expired
    }

    fn take(&mut self, progress: Option<&RunProgress>) {
        let Some(progress) = progress else { return };
        self.state = progress.state();
        self.counts = progress.counts.unwrap_or_default();
        self.outcomes =
            progress.outcomes.iter().map(|count| (count.outcome(), count.count)).collect();
    }
}

/// What a run can be watched through: the gRPC client, or a test's script.
pub trait Source {
    /// What comes.
    type Stream: Stream<Item = Result<WatchRunResponse, Status>> + Unpin;

    /// Sends one `WatchRun`.
    fn open(
        &mut self,
        request: WatchRunRequest,
    ) -> impl Future<Output = Result<Self::Stream, Status>>;
}

impl Source for Queue {
    type Stream = Streaming<WatchRunResponse>;

    async fn open(&mut self, request: WatchRunRequest) -> Result<Self::Stream, Status> {
        Ok(self.watch_run(request).await?.into_inner())
    }
}

/// How one stream ended.
enum End {
    /// With the run.
    Over,
    /// Before it: with OK, which only a proxy or a broken server does, or with an error.
    Cut(Option<Status>),
}

/// Follows the run until it is over and shows it with `renderer`. A cut stream is taken up where it
/// was cut; a token that the server cannot continue from is given up for a new snapshot.
pub async fn follow<S: Source>(
    source: &mut S,
    run_id: &str,
    view: WatchView,
    renderer: &mut dyn Renderer,
) -> Result<Summary, Error> {
    let mut token = String::new();
    let mut seen = Summary::default();
    let mut waits = client::backoff();
    let mut heard = Instant::now();
    let mut trimmed = false;
    loop {
        let request = WatchRunRequest {
            run_id: run_id.to_owned(),
            resume_token: token.clone(),
            view: view.into(),
            bookmark_interval: None,
            // Whoever wants events wants all of them.
            from_start: token.is_empty() && view == WatchView::Full && !trimmed,
        };
        let before = token.clone();
        let end = match source.open(request).await {
            Ok(mut stream) => consume(&mut stream, &mut token, &mut seen, renderer).await?,
            Err(status) => End::Cut(Some(status)),
        };
        if token != before {
            heard = Instant::now();
            waits = client::backoff();
        }
        let why = match end {
            End::Over => {
                renderer.finish(&seen)?;
                return Ok(seen);
            }
            End::Cut(Some(status))
                if status.code() == Code::OutOfRange
                    && (!token.is_empty() || view == WatchView::Full && !trimmed) =>
            {
                trimmed = true;
                token.clear();
                status
            }
            End::Cut(Some(status)) if may_pass(&status) => status,
            End::Cut(Some(status)) => return Err(status.into()),
            End::Cut(None) => {
                // A snapshot tells whether the run ended after all.
                token.clear();
                Status::unavailable("the stream ended before the run did")
            }
        };
        if heard.elapsed() > GIVE_UP_AFTER {
            return Err(why.into());
        }
        let asked =
            why.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
        let wait =
            waits.next().unwrap_or(client::RETRY_DELAY_MAX).max(asked.min(client::RETRY_DELAY_MAX));
        renderer.interrupted(&why, wait)?;
        tokio::time::sleep(wait).await;
    }
}

fn may_pass(status: &Status) -> bool {
    client::is_away(status) || status.code() == Code::ResourceExhausted
}

async fn consume<T>(
    stream: &mut T,
    token: &mut String,
    seen: &mut Summary,
    renderer: &mut dyn Renderer,
) -> io::Result<End>
where
    T: Stream<Item = Result<WatchRunResponse, Status>> + Unpin,
{
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let response = tokio::select! {
            next = stream.next() => match next {
                Some(Ok(response)) => response,
                Some(Err(status)) => return Ok(End::Cut(Some(status))),
                None => return Ok(End::Cut(None)),
            },
            _ = ticks.tick() => {
                renderer.tick()?;
                continue;
            }
        };
        *token = response.resume_token;
        seen.revision = response.revision;
        match response.kind {
            Some(Kind::Snapshot(snapshot)) => {
                let run = snapshot.run.unwrap_or_default();
                seen.take(run.progress.as_ref());
                seen.reason = run.last_error;
            }
            Some(Kind::Events(events)) => {
                for event in &events.events {
                    if let Some(EventKind::StateChanged(changed)) = &event.kind {
                        seen.reason.clone_from(&changed.reason);
                    }
                    renderer.event(seen.revision, events.commit_time.as_ref(), event)?;
                }
                seen.take(events.progress.as_ref());
            }
            Some(Kind::Bookmark(_)) | None => continue,
        }
        renderer.progress(seen)?;
        if seen.is_ended() {
            return Ok(End::Over);
        }
    }
}

/// An error if the run failed: a script that waits for it wants to know.
pub fn verdict(summary: &Summary) -> Result<(), Error> {
    if summary.state == RunState::Failed {
        let because =
            if summary.reason.is_empty() { String::new() } else { format!(": {}", summary.reason) };
        return Err(Error::Runtime(format!(
            "the run {}{because}",
            display::run_state(summary.state)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tokio_stream::Iter;

    use super::*;
    use crate::grpc::pb::watch_run_response::{Bookmark, Events, Snapshot};
    use crate::grpc::pb::{Run, RunEvent, run_event};

    type Item = Result<WatchRunResponse, Status>;

    /// Answers with one prepared stream after the other, and keeps the tokens it was asked with.
    struct Script {
        streams: VecDeque<Result<Vec<Item>, Status>>,
        tokens: Vec<String>,
    }

    impl Source for Script {
        type Stream = Iter<std::vec::IntoIter<Item>>;

        async fn open(&mut self, request: WatchRunRequest) -> Result<Self::Stream, Status> {
            self.tokens.push(request.resume_token);
            self.streams.pop_front().expect("a stream for each request").map(tokio_stream::iter)
        }
    }

    #[derive(Default)]
    struct Kept {
        revisions: Vec<i64>,
        events: usize,
        cuts: usize,
        finished: bool,
    }

    impl Renderer for Kept {
        fn progress(&mut self, seen: &Summary) -> io::Result<()> {
            self.revisions.push(seen.revision);
            Ok(())
        }
        fn event(
            &mut self,
            _: i64,
            _: Option<&prost_types::Timestamp>,
            _: &RunEvent,
        ) -> io::Result<()> {
            self.events += 1;
            Ok(())
        }
        fn interrupted(&mut self, _: &Status, _: Duration) -> io::Result<()> {
            self.cuts += 1;
            Ok(())
        }
        fn finish(&mut self, _: &Summary) -> io::Result<()> {
            self.finished = true;
            Ok(())
        }
    }

    fn progress(state: RunState, completed: i64) -> RunProgress {
        let counts =
            JobCounts { total: 2, completed, queued: 2 - completed, ..JobCounts::default() };
        RunProgress { state: state.into(), counts: Some(counts), outcomes: vec![] }
    }

    fn response(revision: i64, kind: Kind) -> Item {
        Ok(WatchRunResponse { revision, resume_token: format!("t{revision}"), kind: Some(kind) })
    }

    fn snapshot(revision: i64, state: RunState) -> Item {
        let run = Run { progress: Some(progress(state, 0)), ..Run::default() };
        response(revision, Kind::Snapshot(Snapshot { run: Some(run) }))
    }

    fn events(revision: i64, state: RunState, completed: i64) -> Item {
        let changed = run_event::StateChanged { reason: "because".into(), ..Default::default() };
        let event = RunEvent { kind: Some(run_event::Kind::StateChanged(changed)) };
        let events = Events {
            events: vec![event],
            progress: Some(progress(state, completed)),
            commit_time: None,
        };
        response(revision, Kind::Events(events))
    }

    fn bookmark(revision: i64) -> Item {
        response(revision, Kind::Bookmark(Bookmark {}))
    }

    async fn play(
        streams: Vec<Result<Vec<Item>, Status>>,
    ) -> (Result<Summary, Error>, Script, Kept) {
        let mut script = Script { streams: streams.into(), tokens: vec![] };
        let mut kept = Kept::default();
        let result = follow(&mut script, "r", WatchView::Full, &mut kept).await;
        (result, script, kept)
    }

    #[tokio::test]
    async fn resumes_where_it_was_cut() {
        let reset = Status::from_error(Box::new(io::Error::other("connection reset")));
        let (result, script, kept) = play(vec![
            Ok(vec![snapshot(1, RunState::Running), events(2, RunState::Running, 1), bookmark(3)]
                .into_iter()
                .chain([Err(Status::unavailable("draining"))])
                .collect()),
            Err(reset),
            Ok(vec![events(4, RunState::Completed, 2), events(5, RunState::Completed, 2)]),
        ])
        .await;
        let summary = result.unwrap();
        assert_eq!(
            (summary.state, summary.revision, summary.ended_jobs()),
            (RunState::Completed, 4, 2)
        );
        assert_eq!(summary.reason, "because");
        assert_eq!(script.tokens, ["", "t3", "t3"]);
        assert_eq!(kept.revisions, [1, 2, 4]);
        assert_eq!((kept.events, kept.cuts, kept.finished), (2, 2, true));
    }

    #[tokio::test]
    async fn a_token_out_of_range_gives_way_to_a_snapshot() {
        let (result, script, _) = play(vec![
            Ok(vec![snapshot(7, RunState::Running), Err(Status::unavailable("x"))]),
            Err(Status::out_of_range("trimmed")),
            Ok(vec![snapshot(9, RunState::Stopped)]),
        ])
        .await;
        assert_eq!(result.unwrap().state, RunState::Stopped);
        assert_eq!(script.tokens, ["", "t7", ""]);
    }

    #[tokio::test]
    async fn an_early_ok_is_checked_with_a_snapshot() {
        let (result, script, _) = play(vec![
            Ok(vec![snapshot(1, RunState::Running)]),
            Ok(vec![snapshot(2, RunState::Expired)]),
        ])
        .await;
        assert_eq!(result.unwrap().state, RunState::Expired);
        assert_eq!(script.tokens, ["", ""]);
    }

    #[tokio::test]
    async fn other_errors_end_it() {
        for status in
            [Status::not_found("x"), Status::unauthenticated("x"), Status::permission_denied("x")]
        {
            let (result, script, kept) = play(vec![Err(status)]).await;
            assert!(matches!(result, Err(Error::Status(_))));
            assert_eq!((script.tokens.len(), kept.finished), (1, false));
        }
    }
}
