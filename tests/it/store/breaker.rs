//! An open circuit breaker: nothing is claimed, nobody loses an attempt, and everybody can see it.

use std::time::Duration;

use super::{FAST, assert_claims_nothing, claim_n, finish};
use crate::support::{ACCOUNT, TestStore, make_tenant, new_run, on_both_stores, settings};
use trunkline::domain::OpenBreaker;
use trunkline::domain::call::CarrierStatus;
use trunkline::domain::explain::Reason;
use trunkline::domain::job::JobState;
use trunkline::store::{JobAdded, Page};

on_both_stores!(nothing_is_claimed_and_everybody_can_see_it, after_a_while_one_call_probes);

async fn nothing_is_claimed_and_everybody_can_see_it(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let ended = store.create_run(&tenant, new_run(settings(), 0..0), None).await.unwrap().run;
    let created = store.create_run(&tenant, new_run(settings(), 0..3), None).await.unwrap();
    assert_eq!(created.run.breaker, None);
    let JobAdded::Job { job_id, .. } = created.jobs[0] else { panic!() };
    let account = ACCOUNT.parse().unwrap();
    let before = store.now().await.unwrap();
    store.open_breaker(&account, Duration::from_secs(3_600)).await.unwrap();
    assert_claims_nothing(store).await;
    let run = store.run(&tenant, created.run.id).await.unwrap();
    let Some(OpenBreaker { until, probing: false }) = run.breaker else {
        panic!("{:?}", run.breaker)
    };
    assert!(until >= before + Duration::from_secs(3_600));
    assert_eq!(run.revision, created.run.revision, "it is no change of the run");
    let listed = store.list_runs(&tenant, &[], Page { size: 10, after: None }).await.unwrap().items;
    assert_eq!(listed.iter().find(|listed| listed.id == run.id).unwrap().breaker, run.breaker);
    assert_eq!(store.run(&tenant, ended.id).await.unwrap().breaker, None, "it has ended");
    let why = store.explain_job(&tenant, job_id).await.unwrap();
    assert_eq!(why.explanation.reasons, [Reason::CarrierFailing(run.breaker.unwrap())]);
    assert_eq!(why.explanation.next_eligible_at, Some(until));
    assert_eq!((why.job.state, why.job.attempt, why.job.attempts_used), (JobState::Queued, 0, 0));
    store.close_breaker(&account).await.unwrap();
    assert_eq!(store.run(&tenant, run.id).await.unwrap().breaker, None);
}

async fn after_a_while_one_call_probes(test: TestStore) {
    let store = &test.store;
    let tenant = make_tenant(store, "acme", 9, FAST).await;
    let run = store.create_run(&tenant, new_run(settings(), 0..3), None).await.unwrap().run.id;
    let account = ACCOUNT.parse().unwrap();
    store.open_breaker(&account, Duration::ZERO).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2)).await;
    let seen = store.run(&tenant, run).await.unwrap().breaker.unwrap();
    assert!(seen.probing, "{seen:?}");
    let probe = claim_n(store, 1).await;
    assert!(matches!(&probe[..], [call] if call.probe), "{probe:?}");
    // Nobody else meanwhile.
    assert_claims_nothing(store).await;
    assert!(!store.run(&tenant, run).await.unwrap().breaker.unwrap().probing);
    store.close_breaker(&account).await.unwrap();
    finish(store, &tenant, probe[0].call_id, CarrierStatus::Completed).await;
    let rest = claim_n(store, 2).await;
    assert!(rest.len() == 2 && rest.iter().all(|call| !call.probe));
}
