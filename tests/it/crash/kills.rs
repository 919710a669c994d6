//! SIGKILL at each step from the claim to the recorded SID, and at random moments.

use std::collections::HashSet;
use std::env;
use std::time::Duration;

use prost_types::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use tokio::time::{sleep, timeout};
use trunkline::grpc::pb;
use trunkline::simulator::{self, Faults, Range};

use super::fleet::{Fleet, Settings};
use super::judge::{Caps, judge};
use super::probe::{Held, Seen};
use crate::support::{TestDatabase, on_both_databases};
use crate::system::world::{
    PACE_TOLERANCE, call_id, create, jobs, quick_carrier, retrying, settings, until,
};

on_both_databases!(kills_at_every_step_dial_nobody_twice);

/// Each kill leaves up to eight intents behind, which keep their slots for more than a minute.
const CAPS: Caps = Caps { concurrent: 900, per_second: None, tolerance: PACE_TOLERANCE };
const SETTINGS: &Settings = &[
    ("TENANT__MAX_CONCURRENT_CALLS", "900"),
    ("TENANT__CALLS_PER_SECOND", "20"),
    ("TWILIO__CALLS_PER_SECOND", "20"),
    ("DIALER__PERMITS", "8"),
    // Intents wait for their turn for most of a second.
    ("DIALER__HORIZON_MS", "1000"),
];
/// In the test; `scripts/soak` says how many it wants.
const KILLS: usize = 20;
/// A round: first at random, for what that leaves takes longest to end.
const RANDOM_KILLS: usize = 10;
const STEPS: [Step; 10] = [
    Step::Claimed,
    Step::Claimed,
    Step::Claiming,
    Step::Claiming,
    Step::AtCarrier,
    Step::Answered,
    Step::Recorded,
    Step::AtCarrier,
    Step::Answered,
    Step::Recorded,
];
/// A process that was not where it was to be killed is let go, and another run is tried.
const TRIES: usize = 10;
/// The same where a millisecond is to be met.
const CATCHES_MAX: usize = 50;
/// How long callbacks are held back where the answer is to be the first that is heard of a call; by
/// then the killed server is back.
const CALLBACKS_LATE: Range = Range::exactly(4_000.0);
/// From the last kill on: more than a minute until an intent is given up, and what else the machine
/// has to do.
const PATIENCE: Duration = Duration::from_secs(150);

/// Where the process dies.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    /// Inside the claim's transaction.
    Claiming,
    /// The intents are committed; not all of them are sent.
    Claimed,
    /// The carrier has the request and did not answer.
    AtCarrier,
    /// The carrier answered; the SID is not recorded.
    Answered,
    /// The SID is recorded; nothing else was heard of the call.
    Recorded,
}

impl Step {
    /// What goes wrong, from before the run begins until after the kill.
    fn faults(self) -> Faults {
        let late = |slow_ms| Faults {
            slow_answer_ms: Range::exactly(slow_ms),
            callback_delay_ms: CALLBACKS_LATE,
            ..Faults::default()
        };
        match self {
            Self::Claiming | Self::Claimed => Faults::default(),
            Self::AtCarrier => late(3_000.0),
            // Long enough to take a lock meanwhile.
            Self::Answered => late(3_000.0),
            Self::Recorded => late(0.0),
        }
    }
}

struct Drill {
    fleet: Fleet,
    random: StdRng,
    runs: Vec<String>,
    /// Phones used up.
    phones: usize,
}

impl Drill {
    async fn create(&mut self, server: usize, settings: pb::RunSettings, size: usize) -> String {
        let queue = self.fleet.queue(server);
        let run_id = create(&queue, settings, jobs(self.phones..self.phones + size)).await;
        self.phones += size;
        self.runs.push(run_id.clone());
        run_id
    }

    async fn kill_at_random(&mut self) {
        let slow = Faults { slow_answer_ms: Range { min: 0.0, max: 100.0 }, ..Faults::default() };
        self.fleet.carrier.simulator.set_faults(slow).unwrap();
        let victim = self.random.random_range(0..self.fleet.len());
        let delay = Duration::from_millis(self.random.random_range(0..900));
        self.create(victim, retrying(), 20).await;
        sleep(delay).await;
        self.fleet.kill(victim).await;
        self.fleet.restart(victim).await;
    }

    /// Kills a process at this step. One that had gone on by the time it died counts as killed at
    /// random.
    async fn kill_at(&mut self, step: Step) {
        for _ in 0..TRIES {
            if self.kill_near(step).await {
                return;
            }
        }
        panic!("always killed too late at {step:?}");
    }

    /// Returns whether the process died at the step.
    async fn kill_near(&mut self, step: Step) -> bool {
        self.fleet.carrier.simulator.set_faults(step.faults()).unwrap();
        let (run_id, victim, held) = match step {
            Step::Claiming if self.fleet.probe.is_postgres() => self.until_claim_is_held_up().await,
            Step::Claiming => self.until_caught_writing().await,
            Step::Claimed | Step::AtCarrier | Step::Answered | Step::Recorded => {
                self.until_at(step).await
            }
        };
        let pid = self.fleet.server(victim).pid();
        self.fleet.kill(victim).await;
        let in_time = fits(step, &self.of(pid, &run_id).await, &self.at_carrier());
        if let Some(held) = held {
            held.release().await;
        }
        self.fleet.carrier.simulator.set_faults(Faults::default()).unwrap();
        self.fleet.restart(victim).await;
        in_time
    }

    /// Our ids of the calls that the carrier has.
    fn at_carrier(&self) -> HashSet<String> {
        self.fleet.carrier.creates().iter().map(call_id).collect()
    }

    /// The run's calls that this process claimed.
    async fn of(&self, pid: u32, run_id: &str) -> Vec<Seen> {
        let mut calls = self.fleet.probe.calls(run_id).await;
        calls.retain(|call| call.pid() == pid);
        calls
    }

    /// PostgreSQL: a claim that cannot write its intents. News of other runs may get in its way;
    /// then another run is tried.
    async fn until_claim_is_held_up(&mut self) -> (String, usize, Option<Held>) {
        for _ in 0..TRIES {
            let held = self.fleet.probe.hold_calls().await;
            let run_id = self.create(0, settings(), 8).await;
            if let Some(login) = self.fleet.probe.until_blocked("INSERT INTO call_log").await {
                let process = login.rsplit('_').next().unwrap().parse().unwrap();
                return (run_id, process, Some(held));
            }
            held.release().await;
        }
        panic!("no claim was held up");
    }

    /// SQLite: stopped with the write lock in its hand at the time of a claim. There is no other
    /// writer, so nothing can hold a claim up once it has begun.
    async fn until_caught_writing(&mut self) -> (String, usize, Option<Held>) {
        for _ in 0..CATCHES_MAX {
            let starts = jiff::Timestamp::now() + Duration::from_millis(300);
            let starts_at =
                Timestamp { seconds: starts.as_second(), nanos: starts.subsec_nanosecond() };
            let settings = pb::RunSettings { starts_at: Some(starts_at), ..settings() };
            let run_id = self.create(0, settings, 8).await;
            let probe = &self.fleet.probe;
            until("the run to start", async || jiff::Timestamp::now() >= starts).await;
            until("a transaction", async || probe.is_being_written().await).await;
            self.fleet.signal(0, Signal::STOP);
            if probe.is_being_written().await && probe.calls(&run_id).await.is_empty() {
                return (run_id, 0, None);
            }
            self.fleet.signal(0, Signal::CONT);
        }
        panic!("never caught inside a claim");
    }

    /// Which process is at this step with calls of the run.
    async fn until_somebody(&self, step: Step, run_id: &str) -> usize {
        loop {
            let calls = self.fleet.probe.calls(run_id).await;
            let at_carrier = self.at_carrier();
            let pids: HashSet<u32> = calls.iter().map(Seen::pid).collect();
            let there = pids.into_iter().find(|pid| {
                let of_one: Vec<Seen> =
                    calls.iter().filter(|call| call.pid() == *pid).cloned().collect();
                fits(step, &of_one, &at_carrier)
            });
            if let Some(process) = there.and_then(|pid| self.fleet.with_pid(pid)) {
                return process;
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until some process is at this step, from [`Step::Claimed`] on.
    async fn until_at(&mut self, step: Step) -> (String, usize, Option<Held>) {
        let run_id = self.create(0, settings(), if step == Step::Claimed { 8 } else { 4 }).await;
        let before = if step == Step::Answered { Step::AtCarrier } else { step };
        let searching = self.until_somebody(before, &run_id);
        let victim = timeout(PATIENCE, searching)
            .await
            .unwrap_or_else(|_| panic!("nobody came to {step:?}"));
        if step != Step::Answered {
            return (run_id, victim, None);
        }
        let held = self.fleet.probe.hold_calls().await;
        let pid = self.fleet.server(victim).pid();
        let unrecorded: HashSet<String> = self
            .of(pid, &run_id)
            .await
            .into_iter()
            .filter(|call| call.state == "intent")
            .map(|call| call.call_id)
            .collect();
        let carrier = &self.fleet.carrier;
        until("an answer that cannot be recorded", async || {
            let creates = carrier.creates();
            let answered = creates.iter().filter(|entry| entry.answered_at_us.is_some());
            answered.map(call_id).any(|id| unrecorded.contains(&id))
        })
        .await;
        (run_id, victim, Some(held))
    }
}

/// Whether a process whose calls these are is at this step.
fn fits(step: Step, calls: &[Seen], at_carrier: &HashSet<String>) -> bool {
    let intents = || calls.iter().filter(|call| call.state == "intent");
    match step {
        Step::Claiming => calls.is_empty(),
        Step::Claimed => intents().any(|call| !at_carrier.contains(&call.call_id)),
        // All of them: what was never sent would have to be waited for.
        Step::AtCarrier | Step::Answered => {
            !calls.is_empty()
                && intents().filter(|call| at_carrier.contains(&call.call_id)).count()
                    == calls.len()
        }
        Step::Recorded => !calls.is_empty() && calls.iter().all(|call| call.call_sid.is_some()),
    }
}

/// What the caller of the tests wants of them: `scripts/soak` sets it.
fn wanted<T: std::str::FromStr>(variable: &str) -> Option<T> {
    env::var(variable).ok()?.parse().ok()
}

async fn kills_at_every_step_dial_nobody_twice(database: TestDatabase) {
    let seed: u64 = wanted("SOAK_SEED").unwrap_or_else(rand::random);
    let kills: usize = wanted("SOAK_KILLS").unwrap_or(KILLS);
    println!("seed {seed}; the same delays and outcomes again: scripts/soak {kills} {seed}");
    let size = if database.url.starts_with("postgres") { 3 } else { 1 };
    let carrier = simulator::Config { seed, ..quick_carrier() };
    let fleet = Fleet::start(database, size, carrier, SETTINGS, None).await;
    let random = StdRng::seed_from_u64(seed);
    let mut drill = Drill { fleet, random, runs: Vec::new(), phones: 0 };
    let round = || (0..RANDOM_KILLS).map(|_| None).chain(STEPS.map(Some));
    for step in std::iter::repeat_with(round).flatten().take(kills) {
        match step {
            None => drill.kill_at_random().await,
            Some(step) => drill.kill_at(step).await,
        }
    }
    let queue = drill.fleet.queue(0);
    let creates = judge(&queue, &drill.fleet.carrier, &drill.runs, &CAPS, PATIENCE).await;
    println!("{kills} kills, {} jobs, {creates} creates, none twice", drill.phones);
    drill.fleet.stop().await;
}
