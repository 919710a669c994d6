//! The steps of transfers: what the saga wants done at the carrier, and what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use url::Url;
use uuid::Uuid;

use crate::carrier::transfer::Documents;
use crate::carrier::twiml::Response;
use crate::carrier::{
    self, Account, Amd, AmdMode, Answer, Client, CodeClass, CreateCall, ListCalls, UpdateCall,
    connection_override,
};
use crate::domain::call::{CarrierStatus, RejectClass};
use crate::domain::time::micros;
use crate::domain::transfer::{Action, Fact, Purpose, Step, StepError};
use crate::domain::{Timestamp, WorkerId};
use crate::gateway::{self, BootInstant, Gateway, Intent};
use crate::store::{
    Advanced, CallerCall, Error, LegCall, LegIntent, Recorder, Result, Store, Task, TransferView,
};

/// All repetitions of one update together: a task may take 25 s, and there is more to do in it.
const ACT_WITHIN: Duration = Duration::from_secs(15);
/// The last look at whether it was done: with that and [`STEPS_WITHIN`] still less than a task may
/// take.
const LOOK_WITHIN: Duration = Duration::from_secs(4);
/// A queue is deleted in this time, or later: it takes a place of those for whom somebody waits.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How often an update is repeated when the carrier is away or busy, and the first wait before
/// that.
const RETRIES: usize = 3;
const RETRY_DELAY_MIN: Duration = Duration::from_millis(200);
/// A task that took this long already goes on as a new one.
const STEPS_WITHIN: Duration = Duration::from_secs(5);
/// The longest that a call waits for its turn by the meters without putting its task off.
const HORIZON: Duration = Duration::from_millis(250);
/// Calls to targets that are being sent at a time; also how many intents of theirs a crash can
/// leave open.
const LEGS_AT_ONCE: usize = 32;
/// The carrier's clock may be behind ours by this much.
const SKEW: Duration = Duration::from_secs(5);

/// What the steps of transfers are done with.
#[derive(Clone)]
pub struct Saga {
    /// Where everything durable lives.
    pub(super) store: Store,
    recorder: Recorder,
    gateway: Arc<Gateway>,
    /// Where the carrier reaches our webhooks.
    public_url: String,
    worker: WorkerId,
    /// Calls being sent: they are finished whatever becomes of their task.
    sending: TaskTracker,
    permits: Arc<Semaphore>,
}

impl Saga {
    /// For an executor of this process.
    pub fn new(store: Store, recorder: Recorder, gateway: Gateway, public_url: &Url) -> Self {
        Self {
            store,
            recorder,
            gateway: Arc::new(gateway),
            public_url: public_url.to_string(),
            worker: WorkerId(format!("transfers:{}:{}", std::process::id(), Uuid::new_v4())),
            sending: TaskTracker::new(),
            permits: Arc::new(Semaphore::new(LEGS_AT_ONCE)),
        }
    }

    /// Returns once every call is sent and its answer recorded.
    pub(super) async fn sent(&self) {
        self.sending.close();
        self.sending.wait().await;
    }

    /// Does what there is to do.
    pub(super) async fn step(&self, task: &Task) -> Result<()> {
        let store = &self.store;
        let began = Instant::now();
        let mut advanced = store.advance_transfer(task, None, true).await?;
        let again = loop {
            let fact = match advanced.step {
                Step::Begin | Step::Wait | Step::Nothing => break advanced.later,
                Step::Act(action) => Some(self.act(task, &advanced, action).await),
                Step::Call(purpose) => match self.call(task, &advanced.view, purpose).await? {
                    Some(later) => break Some(later),
                    None => None,
                },
            };
            let may_act = began.elapsed() <= STEPS_WITHIN;
            advanced = store.advance_transfer(task, fact, may_act).await?;
            if !may_act && matches!(advanced.step, Step::Act(_) | Step::Call(_)) {
                break Some(Duration::ZERO);
            }
        };
        store.finish_task(task, again).await
    }

    fn documents(&self, task: &Task, view: &TransferView) -> Documents {
        Documents::new(&self.public_url, &task.tenant, view.id)
    }

    /// Deletes the queue in which the caller waited.
    pub(super) async fn close_queue(&self, task: &Task) -> Result<()> {
        let advanced = self.store.advance_transfer(task, None, false).await?;
        if let Some(caller) = &advanced.caller {
            let name = self.documents(task, &advanced.view).room();
            let closed = timeout(CLOSE_WITHIN, self.delete_queue(caller, &name)).await;
            closed
                .unwrap_or_else(|_| Err(Error::Unavailable("the carrier: timeout".to_owned())))?;
        }
        self.store.finish_task(task, None).await
    }

    async fn delete_queue(&self, caller: &CallerCall, name: &str) -> Result<()> {
        let reached = self.gateway.carriers.get(&caller.account).await;
        let reached = reached.map_err(|why| Error::Unavailable(why.to_string()))?;
        let Some((client, account)) = reached else { return Ok(()) };
        let deleted = match client.find_queue(&account, name).await {
            Ok(Some(queue)) => client.close_queue(&account, &queue.sid).await,
            Ok(None) => Ok(()),
            Err(why) => Err(why),
        };
        match deleted {
            Ok(()) | Err(carrier::Error::NotFound) => Ok(()),
            Err(why) => Err(Error::Unavailable(format!("the carrier: {}", of_carrier(&why).code))),
        }
    }

    /// Has something done to the caller's call. Repeated while the carrier is away.
    async fn act(&self, task: &Task, advanced: &Advanced, action: Action) -> Fact {
        let Some(caller) = &advanced.caller else {
            return Fact::Refused(action, error("no_call_sid", "configuration"));
        };
        let (client, account) = match self.gateway.carriers.get(&caller.account).await {
            Ok(Some(reached)) => reached,
            Ok(None) => return Fact::Refused(action, error("no_credentials", "configuration")),
            Err(why) => {
                tracing::error!(account = %caller.account, error = %why, "cannot use the carrier account");
                return Fact::Refused(action, error("account_unusable", "unavailable"));
            }
        };
        let documents = self.documents(task, &advanced.view);
        let update = match xml(&documents.caller(&advanced.view.transfer)) {
            Some(xml) => UpdateCall::Twiml(xml),
            None => return Fact::Refused(action, error("bad_twiml", "configuration")),
        };
        let view = &advanced.view;
        let maybe_done = AtomicBool::new(advanced.again);
        let room = documents.room();
        let asked = Asked { client, account, caller, view, room, update, action, maybe_done };
        let patience = ExponentialBuilder::default()
            .with_min_delay(RETRY_DELAY_MIN)
            .with_max_times(RETRIES)
            .with_jitter();
        let trying = (|| self.once(&asked)).retry(patience).when(is_transient);
        let why = match timeout(ACT_WITHIN, trying).await {
            Ok(Ok(fact)) => return fact,
            Ok(Err(why)) => of_carrier(&why),
            Err(_) => {
                asked.maybe_done.store(true, Ordering::Relaxed);
                error("timeout", "unavailable")
            }
        };
        // The next way would undo what was carried out unheard.
        if asked.maybe_done.load(Ordering::Relaxed)
            && let Ok(Ok(Some(fact))) = timeout(LOOK_WITHIN, asked.look()).await
        {
            return fact;
        }
        Fact::Refused(action, why)
    }

    async fn once(&self, asked: &Asked<'_>) -> Result<Fact, carrier::Error> {
        if asked.action == Action::Check {
            return asked.check().await;
        }
        if !self.gateway.breakers.may_send(&asked.caller.account) {
            return Err(carrier::Error::Unavailable {
                reason: "the circuit breaker is open".to_owned(),
            });
        }
        if asked.maybe_done.load(Ordering::Relaxed)
            && let Some(fact) = asked.look().await?
        {
            return Ok(fact);
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
        self.gateway.breakers.report_update(&self.store, account, answered).await;
    }

    /// Has the target called: some time later, if it is not possible now.
    async fn call(
        &self,
        task: &Task,
        view: &TransferView,
        purpose: Purpose,
    ) -> Result<Option<Duration>> {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else { return Ok(Some(HORIZON)) };
        let began = BootInstant::now();
        let intent = self.store.transfer_leg(task, purpose, &self.worker, HORIZON).await?;
        let leg = match intent {
            LegIntent::Later(later) => return Ok(Some(later)),
            LegIntent::Stale => return Ok(None),
            LegIntent::Call(leg) => leg,
        };
        let documents = self.documents(task, view);
        let twiml = documents.target(&view.transfer, purpose, leg.call_id).to_xml();
        let request =
            twiml.map_err(|why| why.to_string()).map(|xml| self.request(task, &leg, purpose, xml));
        let (saga, tenant, transfer) = (self.clone(), task.tenant.clone(), view.id);
        let span = tracing::info_span!("target", %transfer, call_id = %leg.call_id);
        // A task of its own: once the request is on its way, nothing may stop its answer from being
        // recorded.
        self.sending.spawn(
            async move {
                let reached = saga.gateway.carriers.get(&leg.account).await;
                tokio::time::sleep(leg.send_in).await;
                let intent =
                    Intent { call_id: leg.call_id, account: &leg.account, probe: leg.probe, began };
                let news =
                    gateway::send(&saga.gateway, &saga.store, intent, reached, request).await;
                gateway::record(&saga.recorder, &tenant, leg.call_id, news).await;
                drop(permit);
            }
            .instrument(span),
        );
        Ok(None)
    }

    fn request(&self, task: &Task, leg: &LegCall, purpose: Purpose, xml: String) -> CreateCall {
        let base = self.public_url.trim_end_matches('/');
        let callback = |what: &str| {
            connection_override(&format!("{base}/twilio/{what}/{}/{}", task.tenant, leg.call_id))
        };
        // Whoever takes the caller out of the queue accepted already, or is a person by the
        // client's word.
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
    view: &'a TransferView,
    /// The conference of the two.
    room: String,
    update: UpdateCall,
    action: Action,
    /// Somebody asked before, and the answer was lost.
    maybe_done: AtomicBool,
}

impl Asked<'_> {
    async fn update(&self) -> Result<(), carrier::Error> {
        let updated = self.client.update_call(&self.account, &self.caller.sid, &self.update).await;
        let unheard = matches!(
            updated,
            Err(carrier::Error::Unavailable { .. }
                | carrier::Error::Rejected { class: CodeClass::Ambiguous, .. })
        );
        if unheard {
            self.maybe_done.store(true, Ordering::Relaxed);
        }
        updated.map(drop)
    }

    /// What came of an update whose answer nobody heard. Repeating one that connects the two would
    /// part them.
    async fn look(&self) -> Result<Option<Fact>, carrier::Error> {
        match self.action {
            Action::Redirect => self.dialed().await,
            Action::Move => {
                let met = self
                    .client
                    .is_in_conference(&self.account, &self.room, &self.caller.sid)
                    .await?;
                Ok(met.then_some(Fact::Done(Action::Move)))
            }
            Action::Hold | Action::Enqueue | Action::Return | Action::Check => Ok(None),
        }
    }

    async fn dialed(&self) -> Result<Option<Fact>, carrier::Error> {
        let transfer = &self.view.transfer;
        let target = transfer.progress.target;
        let parent = Some(self.caller.sid.clone());
        let legs = self
            .client
            .list_calls(&self.account, &ListCalls { parent, ..ListCalls::default() })
            .await?;
        let since = Timestamp(self.view.updated_at.micros() - micros(SKEW));
        // The newest comes first.
        let leg = legs.calls.iter().find(|leg| {
            leg.to.as_ref() == transfer.settings.targets.get(target)
                && leg.date_created.is_some_and(|created| created >= since)
        });
        Ok(leg.map(|leg| match leg.status {
            CarrierStatus::InProgress | CarrierStatus::Completed => Fact::ChildAnswered(target),
            _ => Fact::Done(Action::Redirect),
        }))
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
        carrier::Error::Rejected { http_status, .. } => {
            error(&format!("http_{http_status}"), "rejected")
        }
        carrier::Error::Unavailable { .. } => error("unavailable", "unavailable"),
        carrier::Error::Protocol { .. } => error("protocol", "protocol"),
    }
}
