//! A watcher that is cut anywhere, and resumes, sees the log exactly once.

use std::collections::HashMap;

use trunkline::config::Config;
use trunkline::grpc::pb::run_event::Kind as Event;
use trunkline::grpc::pb::watch_run_response::{Events, Kind};
use trunkline::grpc::pb::{self, JobState, RunState, WatchRunResponse, WatchView};
use trunkline::progress::Cursor;

use super::world::{
    PATIENCE, Setup, World, counts, create, ended, jobs, retrying, run, settings, state, watch,
};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases!(a_cut_watch_sees_everything_once, a_live_watch_is_cut_all_the_time);

/// A tenant that may open as many streams as these tests cut.
fn cut_often() -> Setup {
    let tweak = |config: &mut Config| {
        config.limits.standard.stream = Some("1000000/s burst 1000000".into());
        config.limits.standard.streams_max = Some(10_000);
    };
    Setup { tweak, ..Setup::default() }
}

/// One response, as far as two watches must agree on it.
type Seen = (i64, Events);

fn events(response: &WatchRunResponse) -> Option<Seen> {
    match &response.kind {
        Some(Kind::Events(events)) => Some((response.revision, events.clone())),
        Some(Kind::Snapshot(_) | Kind::Bookmark(_)) => None,
        None => panic!("a response that says nothing"),
    }
}

/// The token before the first revision: what `Cursor` gives for 0, in the log's own epoch.
async fn from_the_start(world: &World, run_id: &str) -> String {
    let mut stream = watch(&world.queue(), run_id, "", WatchView::Full).await;
    let first = stream.message().await.unwrap().unwrap();
    let cursor: Cursor = first.resume_token.parse().unwrap();
    Cursor { revision: 0, ..cursor }.to_string()
}

/// Everything after `token`, in pieces of `k` commits, each from a stream of its own.
async fn in_pieces(world: &World, run_id: &str, mut token: String, k: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    let watching = async {
        loop {
            let mut stream = watch(&world.queue(), run_id, &token, WatchView::Full).await;
            // A bookmark is no progress: cut after it each time, nobody would ever get to the end.
            let mut left = k;
            while left > 0 {
                let Some(response) = stream.message().await.unwrap() else { return };
                token.clone_from(&response.resume_token);
                if let Some(event) = events(&response) {
                    seen.push(event);
                    left -= 1;
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, watching).await.expect("a watch that ends");
    seen
}

/// The log counts itself: what each event says of jobs adds up to the counts beside it.
fn assert_counts_fold(log: &[Seen]) {
    let mut states: HashMap<String, JobState> = HashMap::new();
    let mut total = 0;
    for (i, (revision, commit)) in log.iter().enumerate() {
        assert_eq!(*revision, i as i64 + 1, "a gap");
        assert!(!commit.events.is_empty());
        for event in &commit.events {
            match event.kind.as_ref().unwrap() {
                Event::JobsAdded(added) => total += i64::from(added.count),
                Event::JobChanged(job) => {
                    let before = states.insert(job.job_id.clone(), job.state());
                    assert!(
                        !matches!(
                            before,
                            Some(JobState::Completed | JobState::Failed | JobState::Canceled)
                        ),
                        "job {} moved after its end, at {revision}",
                        job.job_id
                    );
                }
                _ => {}
            }
        }
        let in_state = |state| states.values().filter(|found| **found == state).count() as i64;
        let moved = states.len() as i64;
        let expected = pb::JobCounts {
            total,
            queued: total - moved + in_state(JobState::Queued),
            dialing: in_state(JobState::Dialing),
            in_call: in_state(JobState::InCall),
            completed: in_state(JobState::Completed),
            failed: in_state(JobState::Failed),
            canceled: in_state(JobState::Canceled),
            skipped: in_state(JobState::Skipped),
            expired: in_state(JobState::Expired),
        };
        assert_eq!(
            commit.progress.as_ref().unwrap().counts,
            Some(expected),
            "at revision {revision}"
        );
    }
}

async fn a_cut_watch_sees_everything_once(database: TestDatabase) {
    let world = World::start(database, cut_often()).await;
    let run_id = create(&world.queue(), retrying(), jobs(0..12)).await;
    let progress = watch(&world.queue(), &run_id, "", WatchView::Progress).await;
    let end = ended(&world.queue(), &run_id).await;
    assert_eq!(state(&end), RunState::Completed);
    let token = from_the_start(&world, &run_id).await;
    let log = in_pieces(&world, &run_id, token.clone(), usize::MAX).await;
    assert_eq!(log.len() as i64, end.revision);
    assert_counts_fold(&log);
    let Some(Event::StateChanged(last)) = log.last().unwrap().1.events.last().unwrap().kind.clone()
    else {
        panic!("the terminal event is the run's last");
    };
    assert_eq!(last.to(), RunState::Completed);
    for k in [1, 2, 3, 7, log.len() - 1, log.len()] {
        assert_eq!(in_pieces(&world, &run_id, token.clone(), k).await, log, "cut after every {k}");
    }
    // Every single place to begin at.
    let epoch: Cursor = token.parse().unwrap();
    for at in 0..=log.len() {
        let from = Cursor { revision: at as i64, ..epoch.clone() }.to_string();
        assert_eq!(in_pieces(&world, &run_id, from, usize::MAX).await, log[at..], "from {at}");
    }
    assert_last_snapshot(progress, &end).await;
    world.stop().await;
}

/// A PROGRESS watch ends with a snapshot of the run as it stands.
async fn assert_last_snapshot(mut stream: tonic::Streaming<WatchRunResponse>, end: &pb::Run) {
    let (mut last, mut revision) = (None, 0);
    while let Some(response) = stream.message().await.unwrap() {
        assert!(response.revision >= revision, "went back");
        revision = response.revision;
        if let Some(Kind::Snapshot(snapshot)) = response.kind {
            last = snapshot.run;
        }
    }
    let mut last = last.expect("a snapshot");
    // The worker's heartbeat is no part of the log.
    last.locked_by_worker.clone_from(&end.locked_by_worker);
    assert_eq!((&last, revision), (end, end.revision));
}

async fn a_live_watch_is_cut_all_the_time(database: TestDatabase) {
    let world = World::start(database, cut_often()).await;
    let draft = pb::CreateRunRequest {
        settings: Some(settings()),
        jobs: jobs(0..40),
        ..Default::default()
    };
    let draft = world.queue().create_run(draft).await.unwrap().into_inner();
    let run_id = draft.run.unwrap().run_id;
    let token = from_the_start(&world, &run_id).await;
    let start = async {
        let (request_id, id) = (String::new(), run_id.clone());
        let seal = pb::SealRunRequest { request_id: request_id.clone(), run_id: id.clone() };
        world.queue().seal_run(seal).await.unwrap();
        world.queue().start_run(pb::StartRunRequest { request_id, run_id: id }).await.unwrap();
    };
    let pieces = |k| in_pieces(&world, &run_id, token.clone(), k);
    let ((), one, two, five, whole) =
        tokio::join!(start, pieces(1), pieces(2), pieces(5), pieces(usize::MAX));
    let end = run(&world.queue(), &run_id).await;
    assert_eq!((state(&end), counts(&end).total), (RunState::Completed, 40));
    assert_eq!(whole.len() as i64, end.revision);
    assert_counts_fold(&whole);
    assert!(one == whole && two == whole && five == whole);
    assert_eq!(in_pieces(&world, &run_id, token, usize::MAX).await, whole, "read again at rest");
    world.stop().await;
}
