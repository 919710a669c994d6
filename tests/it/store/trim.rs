//! Logs that are deleted long after what they tell of has ended.

use std::time::Duration;

use trunkline::domain::run::Command;
use trunkline::domain::transfer::{Fact, Mode};
use trunkline::domain::{RunId, TenantId};
use trunkline::store::{Caller, NewRun, Store};

use super::FAST;
use super::transfers::{new as transfer, with_callers};
use crate::support::{TestStore, make_tenant, new_run, on_both_stores, settings};

on_both_stores!(
    what_ended_long_ago_loses_its_log,
    a_long_log_goes_page_by_page,
    a_transfers_log_goes_as_well
);

const HOUR: Duration = Duration::from_secs(3_600);

async fn ended_run(store: &Store, tenant: &TenantId) -> RunId {
    let new = NewRun { start: false, ..new_run(settings(), 0..3) };
    let run = store.create_run(tenant, new, None).await.unwrap().run.id;
    let ended = store.command_run(tenant, run, Command::Cancel, None).await.unwrap();
    assert!(ended.progress.state.is_ended());
    run
}

/// The commits of the log that are there, and the oldest that could be.
async fn log(store: &Store, tenant: &TenantId, run: RunId) -> (usize, i64) {
    let page = store.commits_after(tenant, run, 0, 10_000).await.unwrap();
    (page.commits.len(), page.oldest)
}

async fn what_ended_long_ago_loses_its_log(test: TestStore) {
    let store = &test.store;
    let (tenant, other) =
        (make_tenant(store, "a", 9, FAST).await, make_tenant(store, "b", 9, FAST).await);
    let (mine, yours) = (ended_run(store, &tenant).await, ended_run(store, &other).await);
    let draft = NewRun { start: false, ..new_run(settings(), 0..1) };
    let live = store.create_run(&tenant, draft, None).await.unwrap().run;
    let before = store.run(&tenant, mine).await.unwrap();
    let commits = usize::try_from(before.revision).unwrap();
    assert_eq!(log(store, &tenant, mine).await, (commits, 1));
    assert_eq!(store.trim_logs(HOUR).await.unwrap(), 0, "it is not long ago");
    assert_eq!(store.trim_logs(Duration::ZERO).await.unwrap(), 2 * before.revision.unsigned_abs());
    for (tenant, run) in [(&tenant, mine), (&other, yours)] {
        assert_eq!(log(store, tenant, run).await, (0, before.revision + 1));
    }
    // The run itself stays, and so does the log of one that goes on.
    assert_eq!(store.run(&tenant, mine).await.unwrap(), before);
    assert_eq!(log(store, &tenant, live.id).await, (usize::try_from(live.revision).unwrap(), 1));
    assert_eq!(store.trim_logs(Duration::ZERO).await.unwrap(), 0, "each is looked at once");
}

async fn a_long_log_goes_page_by_page(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let run = ended_run(store, &tenant).await;
    let revision = store.run(&tenant, run).await.unwrap().revision;
    let more = format!(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2500)
         INSERT INTO run_events (tenant_id, run_id, revision, at, progress, events)
         SELECT e.tenant_id, e.run_id, {revision} + n, e.at, e.progress, e.events FROM n
         JOIN run_events e ON e.revision = {revision}"
    );
    let mut raw = test.raw().await;
    raw.execute(&more).await;
    raw.execute(&format!("UPDATE runs SET revision = {}", revision + 2_500)).await;
    assert_eq!(store.trim_logs(Duration::ZERO).await.unwrap(), 1_000);
    let (left, oldest) = log(store, &tenant, run).await;
    assert_eq!(
        (left, oldest),
        (usize::try_from(revision).unwrap() + 1_500, 1_001),
        "from the beginning on"
    );
    // Two processes at it: one finds that the other has deleted its page, and not that nothing is
    // left.
    let rest = 1_500 + revision.unsigned_abs();
    let mut deleted = 0;
    for _ in 0..4 {
        let trim = || store.trim_logs(Duration::ZERO);
        let (one, two) = tokio::join!(trim(), trim());
        deleted += one.unwrap() + two.unwrap();
    }
    assert_eq!((deleted, log(store, &tenant, run).await.0), (rest, 0));
}

async fn a_transfers_log_goes_as_well(test: TestStore) {
    let store = &test.store;
    let (tenant, callers) = with_callers(store, 1, 9).await;
    let new = transfer(Mode::Direct, Caller::Call(callers[0]), &[500]);
    let id = store.start_transfer(&tenant, new, None).await.unwrap().id;
    assert_eq!(store.trim_logs(Duration::ZERO).await.unwrap(), 0, "it goes on");
    let ended = store.transfer_fact(&tenant, id, Fact::CallerEnded).await.unwrap();
    assert_eq!(store.trim_logs(Duration::ZERO).await.unwrap(), ended.revision.unsigned_abs());
    let page = store.transfer_commits_after(&tenant, id, 0, 100).await.unwrap();
    assert_eq!((page.commits, page.oldest), (Vec::new(), ended.revision + 1));
    assert_eq!(store.transfer(&tenant, id).await.unwrap(), ended);
}
