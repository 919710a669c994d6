//! A Twilio-compatible carrier that calls nobody: `trunkline simulate`.
//!
//! It takes calls over Twilio's REST API, lets them ring, be answered, follow their TwiML and end,
//! and sends the signed callbacks that Twilio would send. Outcomes are drawn from a seed; faults
//! are drawn or scripted. Its ledger records every create that it accepted and who talked to whom,
//! so a test can judge from the carrier's side.
//!
//! Besides Twilio's paths it serves, without authentication (never expose it):
//! - `GET /simulator/ledger` and `GET /simulator/health`: what it saw;
//! - `POST /simulator/script`: what becomes of the next calls to a number, and what its owner does;
//! - `POST /simulator/inbound`: somebody calls us;
//! - `POST /simulator/press` and `POST /simulator/hangup`: what a person on the phone does now;
//! - `GET` and `POST /simulator/faults`: what goes wrong by chance with creates and callbacks;
//! - `POST /simulator/spoil`: how the next requests of a kind go wrong.

mod api;
mod callbacks;
mod conferences;
mod config;
mod control;
mod keys;
pub mod ledger;
mod life;
mod listener;
mod plan;
mod queues;
mod request;
mod request_faults;
mod resource;
mod switchboard;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::carrier::callback_client::Poster;
use crate::domain::{AccountSid, CallSid, Violation};

pub use config::{
    Config, DELAY_MAX_MS, Faults, INSTANT_SPEED, Outcomes, Range, SECONDS_MAX, SimAccount,
};
pub use ledger::{Asked, Bridge, Entry, Ledger, PaceViolation, Step, Via};
pub use plan::{CreateFault, Outcome, Press, Scripted};
pub use request_faults::{RequestFault, RequestKind};

use switchboard::{Clock, Switchboard};

/// Webhooks under way at once.
const POSTS_MAX: usize = 512;

/// Serves a simulated carrier until `shutdown` is canceled.
///
/// # Errors
/// `InvalidInput` when `config` does not pass its check; otherwise what the listener fails with.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    shutdown: CancellationToken,
) -> io::Result<()> {
    Simulator::new(config)?.serve(listener, shutdown).await
}

/// A simulated carrier and, in process, what it saw. Cheap to clone.
#[derive(Clone)]
pub struct Simulator {
    core: Arc<Core>,
}

/// What handlers and calls share.
struct Core {
    config: Config,
    poster: Poster,
    posting: Semaphore,
    switchboard: Mutex<Switchboard>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Core {
    fn switchboard(&self) -> MutexGuard<'_, Switchboard> {
        // Every change under the lock leaves the switchboard whole; a panic elsewhere does not
        // spoil it.
        self.switchboard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn account(&self, sid: &AccountSid) -> Option<&SimAccount> {
        self.config.accounts.iter().find(|account| account.sid == *sid)
    }

    /// How long `simulated_s` simulated seconds take.
    fn real(&self, simulated_s: f64) -> Duration {
        if self.config.is_instant() {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(simulated_s / self.config.speed).unwrap_or(Duration::ZERO)
    }

    /// How many simulated seconds `real` is. Where nothing waits, no time passes.
    fn simulated(&self, real: Duration) -> f64 {
        if self.config.is_instant() { 0.0 } else { real.as_secs_f64() * self.config.speed }
    }

    /// Holds an answer back.
    async fn hold_back(&self, slow: Duration) {
        if !slow.is_zero() {
            self.stop.run_until_cancelled(tokio::time::sleep(slow)).await;
        }
    }

    /// Runs `work` until it ends or the simulator stops.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(work).await;
        });
    }
}

impl Simulator {
    /// A simulator for `config`; serves nothing yet.
    ///
    /// # Errors
    /// `InvalidInput` when `config` does not pass its check.
    pub fn new(config: Config) -> io::Result<Self> {
        config
            .check()
            .map_err(|violation| io::Error::new(io::ErrorKind::InvalidInput, violation))?;
        let tasks = TaskTracker::new();
        // A closed tracker takes tasks all the same; it only lets `wait` return whenever there are
        // none.
        tasks.close();
        let core = Core {
            poster: Poster::new().map_err(io::Error::other)?,
            posting: Semaphore::new(POSTS_MAX),
            switchboard: Mutex::new(Switchboard::new(config.faults, Clock::start())),
            tasks,
            stop: CancellationToken::new(),
            config,
        };
        Ok(Self { core: Arc::new(core) })
    }

    /// Serves until `shutdown` is canceled, then lets every call and callback go. To be called
    /// once.
    ///
    /// # Errors
    /// What the listener fails with.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let service =
            api::router(self.core.clone()).into_make_service_with_connect_info::<listener::Line>();
        let stop = self.core.stop.clone();
        let stopped = async move {
            shutdown.cancelled().await;
            stop.cancel();
        };
        let served =
            axum::serve(listener::Lines(listener), service).with_graceful_shutdown(stopped).await;
        self.core.stop.cancel();
        self.core.tasks.wait().await;
        served
    }

    /// Everything seen so far.
    pub fn ledger(&self) -> Ledger {
        self.core.switchboard().ledger()
    }

    /// Calls that are live now.
    pub fn live_calls(&self) -> usize {
        self.core.switchboard().live_count()
    }

    /// Waits until no call is live and every callback was sent, lost or given up.
    pub async fn settled(&self) {
        self.core.tasks.wait().await;
    }

    /// What goes wrong from now on.
    ///
    /// # Errors
    /// A [`Violation`] when a probability or a range does not fit.
    pub fn set_faults(&self, faults: Faults) -> Result<(), Violation> {
        faults.check()?;
        self.core.switchboard().faults = faults;
        Ok(())
    }

    /// Lets the next requests of a kind go wrong.
    ///
    /// # Errors
    /// A [`Violation`] when the fault does not fit, or too many are waiting.
    pub fn spoil(&self, fault: RequestFault) -> Result<(), Violation> {
        fault.check()?;
        if self.core.switchboard().request_faults.add(fault) {
            Ok(())
        } else {
            Err(Violation::new("on", "too many faults wait for their requests"))
        }
    }

    /// Whoever holds the phone presses keys; false when there is no such live call.
    ///
    /// # Errors
    /// A [`Violation`] when these are no keys.
    pub fn press(&self, call: &CallSid, digits: &str) -> Result<bool, Violation> {
        if !plan::are_keys(digits) {
            return Err(Violation::new("digits", "must be keys of a telephone"));
        }
        let switchboard = self.core.switchboard();
        let live = switchboard.named(call).and_then(|index| switchboard.live(index));
        live.inspect(|live| live.keys.press(digits));
        Ok(live.is_some())
    }

    /// Whoever holds the phone hangs up; false when there is no such live call.
    pub fn hang_up(&self, call: &CallSid) -> bool {
        let index = self.core.switchboard().named(call);
        index.is_some_and(|index| self.core.end(index))
    }

    /// Fixes what becomes of the next calls to one number.
    ///
    /// # Errors
    /// A [`Violation`] when too many are waiting, or what is pressed are no keys.
    pub fn script(&self, script: Scripted) -> Result<(), Violation> {
        if !script.presses.iter().all(Press::fits) {
            return Err(Violation::new(
                "presses",
                "must be keys, pressed after 0 to 86400 seconds",
            ));
        }
        if self.core.switchboard().script(script) {
            Ok(())
        } else {
            Err(Violation::new("script", "too many scripts wait for their calls"))
        }
    }
}
