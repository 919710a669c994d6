//! What will become of one create: drawn from the seed, so that a run can be repeated.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::domain::Phone;

use super::config::{Config, Faults, SECONDS_MAX};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A person answers.
    Answered,
    /// A machine answers.
    Machine,
    /// The line is busy.
    Busy,
    /// Nobody answers.
    NoAnswer,
    /// The call cannot be carried out.
    Failed,
}

impl Outcome {
    /// In the order of the weights in [`Outcomes`](super::Outcomes).
    pub const ALL: [Self; 5] =
        [Self::Answered, Self::Machine, Self::Busy, Self::NoAnswer, Self::Failed];
}

/// What goes wrong with one create.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CreateFault {
    /// Created; the connection is reset without an answer.
    #[serde(rename = "create_lost")]
    Lost,
    /// Not created; HTTP 500.
    #[serde(rename = "create_500_before")]
    Error500Before,
    /// Created; HTTP 500.
    #[serde(rename = "create_500_after")]
    Error500After,
    /// Not created; HTTP 429.
    #[serde(rename = "create_429")]
    TooMany,
    /// Not created; the connection is reset without an answer.
    #[serde(rename = "create_reset_before")]
    ResetBefore,
}

impl CreateFault {
    /// The fault's name, the same as its probability's in [`Faults`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lost => "create_lost",
            Self::Error500Before => "create_500_before",
            Self::Error500After => "create_500_after",
            Self::TooMany => "create_429",
            Self::ResetBefore => "create_reset_before",
        }
    }
}

/// What a test wants of the next calls to one number, created or dialed by a `<Dial>`; what it
/// leaves out is drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scripted {
    /// The callee.
    pub to: Phone,
    /// What becomes of the call.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// What goes wrong; absent means nothing, not even by chance.
    #[serde(default)]
    pub fault: Option<CreateFault>,
    /// How long it rings, in simulated seconds.
    #[serde(default)]
    pub ring_s: Option<f64>,
    /// How long each `<Say>`, `<Play>` and stream lasts, and how long the callee talks when
    /// connected to somebody, in simulated seconds.
    #[serde(default)]
    pub talk_s: Option<f64>,
    /// When the callee hangs up, in simulated seconds after answering, whatever is said then.
    #[serde(default)]
    pub hang_up_after_s: Option<f64>,
    /// What the callee presses at each `<Gather>`, in order; what is not here is not pressed.
    #[serde(default)]
    pub presses: Vec<Press>,
    /// For how many calls it holds. Default 1.
    #[serde(default = "once")]
    pub times: u32,
}

/// Keys pressed at one `<Gather>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Press {
    /// `0` to `9`, `*` and `#`; empty = nothing is pressed this time.
    pub digits: String,
    /// When, in simulated seconds after the `<Gather>` began, prompts included. Default 1.
    #[serde(default = "one_second")]
    pub after_s: f64,
}

const fn one_second() -> f64 {
    1.0
}

impl Press {
    /// Whether these are keys, pressed at a time that can come.
    pub(crate) fn fits(&self) -> bool {
        are_keys(&self.digits) && (0.0..=SECONDS_MAX).contains(&self.after_s)
    }
}

/// Whether every character is a key of a telephone.
pub(crate) fn are_keys(digits: &str) -> bool {
    digits.bytes().all(|key| key.is_ascii_digit() || matches!(key, b'*' | b'#'))
}

const fn once() -> u32 {
    1
}

impl Scripted {
    /// A script for one create to `to` that leaves everything else to the draw, faults excepted.
    pub const fn new(to: Phone) -> Self {
        Self {
            to,
            outcome: None,
            fault: None,
            ring_s: None,
            talk_s: None,
            hang_up_after_s: None,
            presses: Vec::new(),
            times: 1,
        }
    }
}

/// Everything that was drawn for one create.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub outcome: Outcome,
    pub ring_s: f64,
    pub talk_s: f64,
    pub hang_up_after_s: Option<f64>,
    pub presses: Vec<Press>,
    pub fault: Option<CreateFault>,
    pub slow_answer: Duration,
    /// The seed of what happens to the call's callbacks.
    pub callback_seed: u64,
}

impl Plan {
    /// Of a call that somebody places to us; nothing about it is drawn.
    pub const fn of_inbound(
        talk_s: f64,
        hang_up_after_s: Option<f64>,
        presses: Vec<Press>,
    ) -> Self {
        Self {
            outcome: Outcome::Answered,
            ring_s: 0.0,
            talk_s,
            hang_up_after_s,
            presses,
            fault: None,
            slow_answer: Duration::ZERO,
            callback_seed: 0,
        }
    }
}

/// Draws the plan of the `nth` create to `to`.
///
/// The number of draws never depends on what was drawn, so that changing one probability changes
/// nothing else.
pub(crate) fn draw(
    config: &Config,
    faults: &Faults,
    to: &Phone,
    nth: u32,
    script: Option<&Scripted>,
) -> Plan {
    let mut rng = StdRng::seed_from_u64(mix(config.seed, to.expose().as_bytes(), nth));
    let [outcome, ring, talk, fault, slow] = rng.random::<[f64; 5]>();
    let callback_seed = rng.random();
    let seconds = |scripted: Option<f64>, drawn: f64| {
        scripted.filter(|s| s.is_finite()).unwrap_or(drawn).clamp(0.0, SECONDS_MAX)
    };
    Plan {
        outcome: script.and_then(|s| s.outcome).unwrap_or_else(|| pick_outcome(config, outcome)),
        ring_s: seconds(script.and_then(|s| s.ring_s), config.ring_s.at(ring)),
        talk_s: seconds(script.and_then(|s| s.talk_s), config.talk_s.at(talk)),
        hang_up_after_s: script.and_then(|s| s.hang_up_after_s).map(|s| seconds(Some(s), 0.0)),
        presses: script.map(|s| s.presses.clone()).unwrap_or_default(),
        fault: script.map_or_else(|| pick_fault(faults, fault), |s| s.fault),
        slow_answer: millis(faults.slow_answer_ms.at(slow)),
        callback_seed,
    }
}

/// What happens to one callback.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CallbackPlan {
    pub lost: bool,
    pub duplicated: bool,
    pub reordered: bool,
    pub delay: Duration,
}

impl CallbackPlan {
    /// Nothing happens to it.
    pub const NOTHING: Self =
        Self { lost: false, duplicated: false, reordered: false, delay: Duration::ZERO };
}

/// Draws what happens to the callback numbered `sequence`.
pub(crate) fn draw_callback(faults: &Faults, seed: u64, sequence: u32) -> CallbackPlan {
    let mut rng = StdRng::seed_from_u64(mix(seed, b"callback", sequence));
    let [lost, duplicated, reordered, delay] = rng.random::<[f64; 4]>();
    CallbackPlan {
        lost: lost < faults.callback_lost,
        duplicated: duplicated < faults.callback_duplicated,
        reordered: reordered < faults.callback_reordered,
        delay: millis(faults.callback_delay_ms.at(delay)),
    }
}

fn millis(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1_000.0).unwrap_or(Duration::ZERO)
}

fn pick_outcome(config: &Config, part: f64) -> Outcome {
    let weights = config.outcomes.weights();
    let mut left = part * weights.iter().sum::<f64>();
    for (outcome, weight) in Outcome::ALL.into_iter().zip(weights) {
        if left < weight {
            return outcome;
        }
        left -= weight;
    }
    Outcome::Answered
}

fn pick_fault(faults: &Faults, part: f64) -> Option<CreateFault> {
    let mut left = part;
    for (fault, probability) in [
        (CreateFault::Lost, faults.create_lost),
        (CreateFault::Error500Before, faults.create_500_before),
        (CreateFault::Error500After, faults.create_500_after),
        (CreateFault::TooMany, faults.create_429),
        (CreateFault::ResetBefore, faults.create_reset_before),
    ] {
        if left < probability {
            return Some(fault);
        }
        left -= probability;
    }
    None
}

/// FNV-1a over seed, bytes and number: stable across processes, unlike the standard library's
/// hasher.
fn mix(seed: u64, bytes: &[u8], number: u32) -> u64 {
    let all =
        seed.to_le_bytes().into_iter().chain(bytes.iter().copied()).chain(number.to_le_bytes());
    all.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::config::Outcomes;

    fn phone(n: u32) -> Phone {
        Phone::from_stored(format!("+1415555{n:04}"))
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let config = Config { seed: 7, ..Config::default() };
        let faults = Faults { create_lost: 0.5, ..Faults::default() };
        let plans = |seed| {
            let config = Config { seed, ..config.clone() };
            (0..50).map(|n| draw(&config, &faults, &phone(n), n % 3, None)).collect::<Vec<_>>()
        };
        assert_eq!(plans(7), plans(7));
        assert_ne!(plans(7), plans(8));
    }

    #[test]
    fn weights_and_probabilities_hold() {
        let outcomes =
            Outcomes { answered: 3.0, machine: 0.0, busy: 1.0, no_answer: 0.0, failed: 0.0 };
        let config = Config { outcomes, ..Config::default() };
        let faults = Faults { create_429: 0.25, create_lost: 0.25, ..Faults::default() };
        let plans: Vec<_> =
            (0..4_000).map(|n| draw(&config, &faults, &phone(n), 0, None)).collect();
        let share = |fits: &dyn Fn(&Plan) -> bool| {
            plans.iter().filter(|p| fits(p)).count() as f64 / 4_000.0
        };
        assert!((share(&|p| p.outcome == Outcome::Answered) - 0.75).abs() < 0.05);
        assert!((share(&|p| p.outcome == Outcome::Busy) - 0.25).abs() < 0.05);
        assert!((share(&|p| p.fault == Some(CreateFault::Lost)) - 0.25).abs() < 0.05);
        assert!((share(&|p| p.fault == Some(CreateFault::TooMany)) - 0.25).abs() < 0.05);
        assert!(plans.iter().all(|p| (2.0..=20.0).contains(&p.ring_s)));
    }

    #[test]
    fn a_script_wins() {
        let faults = Faults { create_lost: 1.0, ..Faults::default() };
        let script = Scripted {
            outcome: Some(Outcome::Busy),
            ring_s: Some(f64::NAN),
            talk_s: Some(-4.0),
            ..Scripted::new(phone(1))
        };
        let plan = draw(&Config::default(), &faults, &phone(1), 0, Some(&script));
        assert_eq!((plan.outcome, plan.fault, plan.talk_s), (Outcome::Busy, None, 0.0));
        let script: Scripted =
            serde_json::from_str(r#"{"to":"+14155550001","fault":"create_500_after"}"#).unwrap();
        assert_eq!((script.fault, script.times), (Some(CreateFault::Error500After), 1));
    }
}
