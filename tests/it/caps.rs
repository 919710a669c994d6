//! Frequency caps: what counts against a phone, over all runs of a tenant, and until when its jobs
//! wait.

use std::time::Duration;

use jiff::ToSpan;
use jiff::tz::TimeZone;
use trunkline::domain::call::{CarrierStatus, NOT_SENT, News, RejectClass};
use trunkline::domain::cap::{FrequencyCap, Span};
use trunkline::domain::explain::Reason;
use trunkline::domain::job::JobState;
use trunkline::domain::lead::LeadFacts;
use trunkline::domain::run::{RunField, RunSettings};
use trunkline::domain::{RunId, TenantId, Timestamp};
use trunkline::store::{
    ClaimLimits, ClaimedCall, JobView, NewJob, NewRun, Page, RunPatch, Store, Who,
};

use crate::store::reschedule_all;
use crate::support::raw::Raw;
use crate::support::{
    TestDatabase, job, make_tenant, new_run, on_both_databases, phone, settings, worker,
};

on_both_databases!(
    runs_of_a_tenant_share_a_phones_cap,
    what_rang_nowhere_does_not_count,
    a_day_ends_at_the_callees_midnight,
    only_the_capped_wait,
);

const FAST: f64 = 10_000.0;
const HOUR: u32 = 3_600;
const PAGE: Page = Page { size: 100, after: None };

struct World {
    store: Store,
    raw: Raw,
    tenant: TenantId,
    _database: TestDatabase,
}

impl World {
    async fn begin(database: TestDatabase) -> Self {
        let store = Store::open(&database.url).await.unwrap();
        let raw = Raw::connect(&database.url).await;
        let tenant = make_tenant(&store, "acme", 100, FAST).await;
        Self { store, raw, tenant, _database: database }
    }

    async fn create(&self, settings: RunSettings, jobs: std::ops::Range<usize>) -> RunId {
        self.store.create_run(&self.tenant, new_run(settings, jobs), None).await.unwrap().run.id
    }

    /// Looks at every tenant, and claims until nothing is to be had.
    async fn claim(&mut self) -> Vec<ClaimedCall> {
        let limits = ClaimLimits { max_calls: 32, horizon: Duration::from_millis(250) };
        let mut calls = Vec::new();
        self.raw.execute("UPDATE tenant_dispatch SET ready_at = 0").await;
        loop {
            let claimed = self.store.claim(&worker("1"), limits).await.unwrap();
            if claimed.tenant.is_none() {
                return calls;
            }
            calls.extend(claimed.calls);
        }
    }

    async fn end(&self, call: &ClaimedCall) {
        let news = News::Status {
            sid: format!("CA{}", call.call_id.0.simple()).parse().unwrap(),
            status: CarrierStatus::NoAnswer,
            sequence: None,
            duration_s: None,
            answered_by: None,
            error_code: None,
        };
        self.store.apply(&self.tenant, &[(call.call_id, news)]).await.unwrap();
    }

    /// One attempt at every phone of a run of its own, without caps.
    async fn try_all(&mut self, jobs: std::ops::Range<usize>) {
        self.create(settings(), jobs.clone()).await;
        let calls = self.claim().await;
        assert_eq!(calls.len(), jobs.len());
        for call in &calls {
            self.end(call).await;
        }
    }

    async fn jobs(&self, run: RunId) -> Vec<JobView> {
        self.store.list_jobs(&self.tenant, run, &[], PAGE).await.unwrap().items
    }

    async fn why(&self, job: &JobView) -> Vec<Reason> {
        self.store.explain_job(&self.tenant, job.id).await.unwrap().explanation.reasons
    }
}

fn capped(max_attempts: u32, span: Span) -> RunSettings {
    RunSettings { frequency_caps: vec![FrequencyCap { max_attempts, span }], ..settings() }
}

async fn runs_of_a_tenant_share_a_phones_cap(database: TestDatabase) {
    let mut world = World::begin(database).await;
    world.try_all(0..1).await;
    let first_tried = world.store.now().await.unwrap();
    let rule = capped(2, Span::RollingSeconds(24 * HOUR));
    // The second attempt is this run's own, and allowed.
    let run = world.create(rule.clone(), 0..1).await;
    let second = world.claim().await;
    assert_eq!(second.len(), 1);
    world.end(&second[0]).await;
    assert!(world.jobs(run).await[0].state.is_ended());
    // A third is not, whichever run asks, as long as it is capped.
    let third = world.create(rule.clone(), 0..1).await;
    assert!(world.claim().await.is_empty());
    let waiting = world.jobs(third).await.remove(0);
    assert_eq!(waiting.state, JobState::Queued);
    let day = Duration::from_secs(24 * 3_600);
    assert!(
        waiting.eligible_at <= first_tried + day,
        "the first attempt's time is the one to wait for"
    );
    assert!(waiting.eligible_at > first_tried + day - Duration::from_secs(60));
    let until = waiting.eligible_at;
    let held = Reason::FrequencyCap { cap: rule.frequency_caps[0], until };
    assert_eq!(world.why(&waiting).await, [held]);
    // It moved once, and costs nothing until then.
    let revision = world.store.run(&world.tenant, third).await.unwrap().revision;
    world.store.sweep().await.unwrap();
    assert!(world.claim().await.is_empty());
    assert_eq!(world.store.run(&world.tenant, third).await.unwrap().revision, revision);
    // Another tenant's attempts are its own.
    let stranger = make_tenant(&world.store, "other", 9, FAST).await;
    world.store.create_run(&stranger, new_run(rule, 0..1), None).await.unwrap();
    let claimed = world.claim().await;
    assert_eq!(claimed.iter().map(|call| call.to.clone()).collect::<Vec<_>>(), [phone(0)]);
    // A day later.
    let later = 24 * 3_600 * 1_000_000_i64;
    world.raw.execute(&format!("UPDATE call_log SET created_at = created_at - {later}")).await;
    let now = world.store.now().await.unwrap().0;
    for due in ["ready_jobs SET eligible_at", "jobs SET eligible_at", "runs SET claimable_at"] {
        world.raw.execute(&format!("UPDATE {due} = {now} WHERE run_id = '{third}'")).await;
    }
    assert_eq!(world.claim().await.iter().map(|call| call.run_id).collect::<Vec<_>>(), [third]);
}

async fn what_rang_nowhere_does_not_count(database: TestDatabase) {
    let mut world = World::begin(database).await;
    world.create(settings(), 0..5).await;
    let calls = world.claim().await;
    let call = |n: usize| calls.iter().find(|call| call.to == phone(n)).unwrap().call_id;
    let message = || "said the test".to_owned();
    let refused = |class| News::Rejected { class, code: "1".into(), message: message() };
    let lost = News::Lost { message: message() };
    let news = [
        (call(0), News::NotSent { code: NOT_SENT, message: message() }),
        (call(1), refused(RejectClass::Defer)),
        (call(2), refused(RejectClass::PolicyBlock)),
        (call(3), lost.clone()),
        (call(4), lost),
    ];
    world.store.apply(&world.tenant, &news).await.unwrap();
    // One of those whose answer was lost is given up; nobody knows that it did not ring.
    let given_up = News::Presumed { code: "stale_no_call_sid", message: message() };
    world.store.apply(&world.tenant, &[(call(3), given_up)]).await.unwrap();
    let run = world.create(capped(1, Span::CalendarDays(1)), 0..5).await;
    let mut dialed: Vec<_> =
        world.claim().await.into_iter().filter(|call| call.run_id == run).collect();
    dialed.sort_by_key(|call| call.to.clone());
    assert_eq!(
        dialed.into_iter().map(|call| call.to).collect::<Vec<_>>(),
        [phone(0), phone(1), phone(2)]
    );
}

async fn a_day_ends_at_the_callees_midnight(database: TestDatabase) {
    let mut world = World::begin(database).await;
    world.try_all(0..3).await;
    let zones = ["Pacific/Kiritimati", "America/Los_Angeles", "Asia/Kathmandu"];
    let jobs = zones.iter().enumerate().map(|(n, zone)| {
        let facts = LeadFacts { time_zone: Some((*zone).to_owned()), ..LeadFacts::of(phone(n)) };
        NewJob { who: Who::Person(facts), ..job(n) }
    });
    let new = NewRun { jobs: jobs.collect(), ..new_run(capped(1, Span::CalendarDays(1)), 0..0) };
    let run = world.store.create_run(&world.tenant, new, None).await.unwrap().run.id;
    // The leads are those of the first run, without a zone: the tenant's.
    world.raw.execute(&format!("UPDATE jobs SET time_zone = NULL WHERE run_id = '{run}'")).await;
    for (job, zone) in world.jobs(run).await.iter().zip(zones) {
        let set = format!("UPDATE jobs SET time_zone = '{zone}' WHERE job_id = '{}'", job.id);
        world.raw.execute(&set).await;
    }
    assert!(world.claim().await.is_empty());
    let now = world.store.now().await.unwrap();
    for (job, zone) in world.jobs(run).await.iter().zip(zones) {
        let local = |at: Timestamp| {
            jiff::Timestamp::from_microsecond(at.0).unwrap().to_zoned(TimeZone::get(zone).unwrap())
        };
        let midnight = local(job.eligible_at);
        assert_eq!(midnight.time(), jiff::civil::Time::midnight(), "{zone}");
        assert_eq!(midnight.date(), local(now).date().checked_add(1.day()).unwrap(), "{zone}");
    }
}

async fn only_the_capped_wait(database: TestDatabase) {
    let mut world = World::begin(database).await;
    world.try_all(0..10).await;
    world.try_all(0..5).await;
    // Five were tried twice, five once, ten never.
    let caps = vec![
        FrequencyCap { max_attempts: 2, span: Span::RollingSeconds(HOUR) },
        FrequencyCap { max_attempts: 3, span: Span::CalendarDays(30) },
    ];
    let run = world.create(RunSettings { frequency_caps: caps, ..settings() }, 0..20).await;
    let mut dialed: Vec<_> = world.claim().await.into_iter().map(|call| call.to).collect();
    dialed.sort();
    assert_eq!(dialed, (5..20).map(phone).collect::<Vec<_>>());
    // Another rule changes: who is capped waits on, and the log says nothing of them.
    let waiting = async || {
        world.store.list_jobs(&world.tenant, run, &[JobState::Queued], PAGE).await.unwrap()
    };
    let before = waiting().await;
    let far = vec![jiff::civil::date(2099, 12, 24)];
    let patch = RunPatch {
        settings: RunSettings { holidays: far, ..settings() },
        fields: vec![RunField::Holidays],
    };
    let changed = world.store.update_run(&world.tenant, run, patch, None).await.unwrap();
    assert_eq!(reschedule_all(&world.store).await, 2, "a page, and one that finds no more");
    assert_eq!(waiting().await, before);
    assert_eq!(world.store.run(&world.tenant, run).await.unwrap().revision, changed.revision);
    // The cap can be lifted, for those who wait as well.
    let patch = RunPatch { settings: settings(), fields: vec![RunField::FrequencyCaps] };
    let view = world.store.update_run(&world.tenant, run, patch, None).await.unwrap();
    assert!(view.settings.frequency_caps.is_empty());
    assert_eq!(view.progress.counts.queued, 5);
    assert_eq!(reschedule_all(&world.store).await, 2, "a page, and one that finds no more");
    let mut dialed: Vec<_> = world.claim().await.into_iter().map(|call| call.to).collect();
    dialed.sort();
    assert_eq!(dialed, (0..5).map(phone).collect::<Vec<_>>());
}
