//! The steps of transfers: what the saga wants done at the carrier, and what came of it.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::Deps;
use crate::carrier::transfer::Documents;
use crate::carrier::twiml::Response;
use crate::carrier::{
    self, Account, Amd, AmdMode, Answer, Client, CodeClass, CreateCall, UpdateCall, connection_override,
};
use crate::domain::call::RejectClass;
use crate::domain::transfer::{Action, Fact, Purpose, Step, StepError};
use crate::reach::{self, BootInstant, Intent};
use crate::store::{Advanced, CallerCall, LegCall, LegIntent, Result, Task, TransferView};

/// All repetitions of one update together: a task may take 25 s, and there is more to do in it.
const ACT_WITHIN: Duration = Duration::from_secs(15);
/// How often an update is repeated when the carrier is away or busy, and the first wait before that.
const RETRIES: usize = 3;
const RETRY_DELAY_MIN: Duration = Duration::from_millis(200);
/// A task that took this long already goes on as a new one.
const STEPS_WITHIN: Duration = Duration::from_secs(5);
/// The longest that a call waits for its turn by the meters without putting its task off.
const HORIZON: Duration = Duration::from_millis(250);

/// What the steps of transfers need.
pub(super) struct Saga<'a> {
    pub deps: &'a Deps,
    /// Calls being sent: they are finished whatever becomes of their task.
    pub sending: &'a TaskTracker,
}

impl Saga<'_> {
    /// Does what there is to do.
    pub(super) async fn step(&self, task: &Task) -> Result<()> {
        let store = &self.deps.store;
        let began = Instant::now();
        let mut advanced = store.advance_transfer(task, None).await?;
        let again = loop {
            match advanced.step {
                Step::Begin | Step::Wait | Step::Nothing => break None,
                Step::Act(action) => {
                    let fact = self.act(task, &advanced, action).await;
                    advanced = store.advance_transfer(task, Some(fact)).await?;
                }
                Step::Call(purpose) => match self.call(task, &advanced.view, purpose).await? {
                    Some(later) => break Some(later),
                    None => advanced = store.advance_transfer(task, None).await?,
                },
            }
            let more = matches!(advanced.step, Step::Act(_) | Step::Call(_));
            if more && began.elapsed() > STEPS_WITHIN {
                break Some(Duration::ZERO);
            }
        };
        store.finish_task(task, again).await
    }

    /// Has something done to the caller's call. Repeated while the carrier is away: all of it may be done twice.
    async fn act(&self, task: &Task, advanced: &Advanced, action: Action) -> Fact {
        let Some(caller) = &advanced.caller else {
            return Fact::Refused(action, error("no_call_sid", "configuration"));
        };
        let (client, account) = match self.deps.reach.carriers.get(&caller.account).await {
            Ok(Some(reached)) => reached,
            Ok(None) => return Fact::Refused(action, error("no_credentials", "configuration")),
            Err(why) => {
                tracing::error!(account = %caller.account, error = %why, "cannot use the carrier account");
                return Fact::Refused(action, error("account_unusable", "unavailable"));
            }
        };
        let documents = Documents::new(&self.deps.public_url, &task.tenant, advanced.view.id);
        let update = match xml(&documents.caller(&advanced.view.transfer)) {
            Some(xml) => UpdateCall::Twiml(xml),
            None => return Fact::Refused(action, error("bad_twiml", "configuration")),
        };
        let asked = Asked { client, account, caller, update, action };
        let patience = ExponentialBuilder::default()
            .with_min_delay(RETRY_DELAY_MIN)
            .with_max_times(RETRIES)
            .with_jitter();
        let trying = (|| self.once(&asked)).retry(patience).when(is_transient);
        match timeout(ACT_WITHIN, trying).await {
            Ok(Ok(fact)) => fact,
            Ok(Err(why)) => Fact::Refused(action, of_carrier(&why)),
            Err(_) => Fact::Refused(action, error("timeout", "unavailable")),
        }
    }

    async fn once(&self, asked: &Asked<'_>) -> Result<Fact, carrier::Error> {
        if asked.action == Action::Check {
            return asked.check().await;
        }
        if !self.deps.reach.breakers.may_send(&asked.caller.account) {
            return Err(carrier::Error::Unavailable { reason: "the circuit breaker is open".to_owned() });
        }
        let mut updated = asked.update().await;
        self.report(asked, &updated).await;
        // The call changed under us: ask what became of it, and try once more if it goes on.
        if matches!(&updated, Err(carrier::Error::Rejected { class: CodeClass::Race, .. })) {
            if asked.check().await? == Fact::CallerEnded {
                return Ok(Fact::CallerEnded);
            }
            updated = asked.update().await;
            self.report(asked, &updated).await;
        }
        match updated {
            Ok(()) => Ok(Fact::Done(asked.action)),
            Err(carrier::Error::NotFound) => Ok(Fact::CallerEnded),
            Err(why) => Err(why),
        }
    }

    async fn report(&self, asked: &Asked<'_>, updated: &Result<(), carrier::Error>) {
        let answered = !matches!(updated, Err(carrier::Error::Unavailable { .. }));
        let account = &asked.caller.account;
        self.deps.reach.breakers.report_update(&*self.deps.store, account, answered).await;
    }

    /// Has the target called: some time later, if it is not possible now.
    async fn call(&self, task: &Task, view: &TransferView, purpose: Purpose) -> Result<Option<Duration>> {
        let began = BootInstant::now();
        let intent = self.deps.store.transfer_leg(task, purpose, &self.deps.worker, HORIZON).await?;
        let leg = match intent {
            LegIntent::Later(later) => return Ok(Some(later)),
            LegIntent::Stale => return Ok(None),
            LegIntent::Call(leg) => leg,
        };
        let documents = Documents::new(&self.deps.public_url, &task.tenant, view.id);
        let twiml = documents.target(&view.transfer, purpose, leg.call_id).to_xml();
        let request = twiml.map_err(|why| why.to_string()).map(|xml| self.request(task, &leg, purpose, xml));
        let (deps, tenant, transfer) = (self.deps.clone(), task.tenant.clone(), view.id);
        let span = tracing::info_span!("target", %transfer, call_id = %leg.call_id);
        // A task of its own: once the request is on its way, nothing may stop its answer from being recorded.
        self.sending.spawn(
            async move {
                let reached = deps.reach.carriers.get(&leg.account).await;
                tokio::time::sleep(leg.send_in).await;
                let intent = Intent { call_id: leg.call_id, account: &leg.account, probe: leg.probe, began };
                let news = reach::send(&deps.reach, &*deps.store, intent, reached, request).await;
                reach::record(&deps.recorder, &tenant, leg.call_id, news).await;
            }
            .instrument(span),
        );
        Ok(None)
    }

    fn request(&self, task: &Task, leg: &LegCall, purpose: Purpose, xml: String) -> CreateCall {
        let base = self.deps.public_url.trim_end_matches('/');
        let callback = |what: &str| {
            connection_override(&format!("{base}/twilio/{what}/{}/{}", task.tenant, leg.call_id))
        };
        // Whoever takes the caller out of the queue accepted already, or is a person by the client's word.
        let amd = (purpose == Purpose::Notify)
            .then(|| Amd { mode: AmdMode::Enable, callback_url: callback("amd") });
        CreateCall {
            to: leg.to.clone(),
            from: leg.from.clone(),
            answer: Answer::Twiml(xml),
            status_callback: callback("status"),
            ring_timeout_s: leg.ring_timeout_s,
            time_limit_s: leg.time_limit_s,
            amd,
        }
    }
}

/// One thing that is asked of the carrier.
struct Asked<'a> {
    client: Client,
    account: Account,
    caller: &'a CallerCall,
    update: UpdateCall,
    action: Action,
}

impl Asked<'_> {
    async fn update(&self) -> Result<(), carrier::Error> {
        self.client.update_call(&self.account, &self.caller.sid, &self.update).await.map(drop)
    }

    /// Whether the caller's call goes on.
    async fn check(&self) -> Result<Fact, carrier::Error> {
        match self.client.fetch_call(&self.account, &self.caller.sid).await {
            Ok(call) if call.status.is_final() => Ok(Fact::CallerEnded),
            Ok(_) => Ok(Fact::Done(Action::Check)),
            Err(carrier::Error::NotFound) => Ok(Fact::CallerEnded),
            Err(why) => Err(why),
        }
    }
}

fn xml(document: &Response) -> Option<String> {
    document.to_xml().inspect_err(|why| tracing::error!(error = %why, "cannot write TwiML")).ok()
}

fn is_transient(error: &carrier::Error) -> bool {
    match error {
        carrier::Error::Unavailable { .. } => true,
        carrier::Error::Rejected { class, .. } => {
            matches!(class, CodeClass::Ambiguous | CodeClass::Reject(RejectClass::Defer))
        }
        carrier::Error::NotFound | carrier::Error::Protocol { .. } => false,
    }
}

fn error(code: &str, class: &str) -> StepError {
    StepError { code: code.to_owned(), class: class.to_owned() }
}

/// Of the carrier's own words only the code is kept.
fn of_carrier(why: &carrier::Error) -> StepError {
    match why {
        carrier::Error::NotFound => error("not_found", "rejected"),
        carrier::Error::Rejected { code: Some(code), .. } => error(&code.to_string(), "rejected"),
        carrier::Error::Rejected { http_status, .. } => error(&format!("http_{http_status}"), "rejected"),
        carrier::Error::Unavailable { .. } => error("unavailable", "unavailable"),
        carrier::Error::Protocol { .. } => error("protocol", "protocol"),
    }
}
