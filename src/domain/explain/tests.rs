use super::*;
use crate::domain::window::{self, CallingWindow};

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

/// A queued job that nothing holds, on a Monday at noon.
fn ready() -> Facts {
    let now = at("2026-06-01T12:00:00Z");
    Facts {
        now,
        job: Job {
            state: JobState::Queued,
            attempt: 0,
            attempts_used: 0,
            eligible_at: now,
            outcome: None,
        },
        moved_at: now,
        run: RunFacts {
            state: RunState::Running,
            last_error: None,
            starts_at: None,
            expires_at: now + SECOND * 86_400,
            live: 0,
            concurrency: 5,
            ahead: 0,
        },
        tenant: TenantFacts { live: 0, max_concurrent_calls: 3, next_call_at: now, breaker: None },
        schedule: Schedule { windows: vec![CallingWindow::default()], holidays: Vec::new() },
        zone: window::zone("UTC").unwrap(),
        caps: Vec::new(),
        attempts: Vec::new(),
        suppressed_since: None,
        phone_call: None,
        call: None,
    }
}

fn call(state: CallState) -> LastCall {
    LastCall {
        id: CallId(uuid::Uuid::from_u128(7)),
        attempt: 1,
        state,
        since: ready().now,
        created_at: ready().now,
        empty_lookups: 1,
        error_code: None,
    }
}

fn reasons(change: impl FnOnce(&mut Facts)) -> Vec<Reason> {
    let mut facts = ready();
    change(&mut facts);
    explain(&facts).reasons
}

#[test]
fn each_rule_alone() {
    let now = ready().now;
    let later = now + SECOND * 60;
    let id = CallId(uuid::Uuid::from_u128(9));
    assert_eq!(reasons(|_| ()), [Reason::Ready]);
    assert_eq!(reasons(|f| f.run.state = RunState::Draft), [Reason::RunNotStarted]);
    let paused =
        |f: &mut Facts| (f.run.state, f.run.last_error) = (RunState::Paused, Some("21205".into()));
    assert_eq!(reasons(paused), [Reason::RunPaused { last_error: Some("21205".into()) }]);
    let starts = |f: &mut Facts| f.run.starts_at = Some(later);
    assert_eq!(reasons(starts), [Reason::RunStartsLater { at: later }]);
    assert_eq!(reasons(|f| f.run.live = 5), [Reason::RunAtConcurrency { live: 5, limit: 5 }]);
    assert_eq!(reasons(|f| f.tenant.live = 4), [Reason::TenantAtConcurrency { live: 4, limit: 3 }]);
    assert_eq!(reasons(|f| f.tenant.next_call_at = later), [Reason::Pace { at: later }]);
    assert_eq!(reasons(|f| f.run.ahead = 12), [Reason::BehindOthers { ahead: 12 }]);
    let failing = OpenBreaker { until: later, probing: false };
    assert_eq!(reasons(|f| f.tenant.breaker = Some(failing)), [Reason::CarrierFailing(failing)]);
    let cap = FrequencyCap { max_attempts: 1, span: cap::Span::RollingSeconds(120) };
    let tried = |f: &mut Facts| (f.caps, f.attempts) = (vec![cap], vec![now - SECOND * 60]);
    assert_eq!(reasons(tried), [Reason::FrequencyCap { cap, until: later }]);
    // The same after a claim has put it off.
    let put_off = |f: &mut Facts| {
        tried(f);
        f.job.eligible_at = later;
    };
    assert_eq!(reasons(put_off), [Reason::FrequencyCap { cap, until: later }]);
    assert_eq!(reasons(|f| f.phone_call = Some(id)), [Reason::PhoneHasLiveCall { call_id: id }]);
    assert_eq!(reasons(|f| f.suppressed_since = Some(now)), [Reason::Suppressed { since: now }]);
    let suppressed = Facts { suppressed_since: Some(now), ..ready() };
    assert_eq!(explain(&suppressed).next_eligible_at, None, "it is never dialed");
    assert_eq!(reasons(|f| f.job.eligible_at = later), [Reason::NotYetEligible { at: later }]);
    let retry = |f: &mut Facts| (f.job.eligible_at, f.job.attempts_used) = (later, 1);
    assert_eq!(reasons(retry), [Reason::WaitingForRetry { at: later }]);
    assert_eq!(reasons(|f| f.run.state = RunState::Canceling), [Reason::RunCalledOff]);
    assert_eq!(reasons(|f| f.run.expires_at = now), [Reason::RunExpired]);
}

#[test]
fn what_a_claim_put_off_is_explained_by_what_put_it_off() {
    let opens = at("2026-06-02T08:00:00Z");
    let night = |f: &mut Facts| {
        f.now = at("2026-06-01T22:00:00Z");
        f.job.eligible_at = opens;
    };
    assert_eq!(reasons(night), [Reason::OutsideWindow { opens_at: opens }]);
    let busy = |f: &mut Facts| {
        f.phone_call = Some(CallId(uuid::Uuid::nil()));
        f.job.eligible_at = f.now + PHONE_BUSY_DEFER;
    };
    assert_eq!(reasons(busy), [Reason::PhoneHasLiveCall { call_id: CallId(uuid::Uuid::nil()) }]);
    let both = |f: &mut Facts| {
        night(f);
        f.job.attempts_used = 1;
        f.job.eligible_at = opens + SECOND;
    };
    let at = opens + SECOND;
    assert_eq!(
        reasons(both),
        [Reason::WaitingForRetry { at }, Reason::OutsideWindow { opens_at: opens }]
    );
}

#[test]
fn the_deciding_rule_comes_first() {
    let many = |f: &mut Facts| {
        f.run.state = RunState::Paused;
        f.run.live = 5;
        f.tenant.live = 3;
        f.run.ahead = 1;
    };
    let found = reasons(many);
    assert!(matches!(found[0], Reason::RunPaused { .. }) && found.len() == 4, "{found:?}");
}

#[test]
fn next_eligible_is_inside_the_window_and_before_the_end() {
    let mut facts = ready();
    assert_eq!(explain(&facts).next_eligible_at, Some(facts.now));
    facts.job.eligible_at = at("2026-06-01T23:00:00Z");
    let opens = at("2026-06-02T08:00:00Z");
    assert_eq!(explain(&facts).next_eligible_at, Some(opens));
    facts.run.expires_at = opens;
    assert_eq!(explain(&facts).next_eligible_at, None);
    assert_eq!(explain(&facts).expires_at, Some(opens));
}

#[test]
fn in_flight_and_ended() {
    let now = ready().now;
    let dialing = |state| {
        move |f: &mut Facts| {
            (f.job.state, f.job.attempt) = (JobState::Dialing, 1);
            f.call = Some(call(state));
        }
    };
    let call_id = call(CallState::Ringing).id;
    let ringing = Reason::CallInFlight { call_id, state: CallState::Ringing, since: now };
    assert_eq!(reasons(dialing(CallState::Ringing)), [ringing]);
    let unknown = Reason::CallUnknown { call_id, empty_lookups: 1, gives_up_at: now + STALE_AFTER };
    assert_eq!(reasons(dialing(CallState::Unknown)), [unknown]);
    assert_eq!(reasons(dialing(CallState::Busy)), [Reason::NoLiveCall]);
    let ended = |f: &mut Facts| {
        (f.job.state, f.job.outcome) = (JobState::Failed, Some(Outcome::LeadDead));
        f.call = Some(LastCall { error_code: Some("21211".into()), ..call(CallState::Failed) });
    };
    let why = Reason::Ended {
        outcome: Some(Outcome::LeadDead),
        at: now,
        error_code: Some("21211".into()),
    };
    assert_eq!(reasons(ended), [why]);
    let mut facts = ready();
    ended(&mut facts);
    assert_eq!((explain(&facts).next_eligible_at, explain(&facts).expires_at), (None, None));
}
