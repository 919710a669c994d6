//! Which outcomes are tried again, how often, and how long after.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Violation;

/// The most attempts a policy may ask for: more is harassment, not persistence.
pub const ATTEMPTS_MAX: u32 = 20;
/// The longest delay between two attempts, in seconds: 30 days.
pub const DELAY_MAX_S: u32 = 30 * 24 * 3_600;

/// An outcome that a policy can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// The line was busy.
    Busy,
    /// Nobody answered.
    NoAnswer,
    /// The carrier could not complete the call.
    Failed,
    /// An answering machine.
    Machine,
    /// We never learned what became of the call: off unless named, because a retry may ring twice.
    Unknown,
}

/// A run's retry policy. Attempts that the carrier deferred or that were never sent do not count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts in all, 1 to 20.
    pub max_attempts: u32,
    /// Which outcomes are tried again.
    pub on: Vec<RetryOn>,
    /// Seconds before the second attempt.
    pub initial_delay_s: u32,
    /// Each further delay is this many times the one before, 1.0 to 10.0.
    pub multiplier: f64,
    /// No delay is longer, in seconds.
    pub max_delay_s: u32,
    /// Each delay is spread by up to this share of itself, either way: 0.0 to 1.0.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    /// One attempt; if more are asked for, busy and no answer are tried again after 5 minutes,
    /// doubling.
    fn default() -> Self {
        Self {
            max_attempts: 1,
            on: vec![RetryOn::Busy, RetryOn::NoAnswer],
            initial_delay_s: 300,
            multiplier: 2.0,
            max_delay_s: 24 * 3_600,
            jitter: 0.1,
        }
    }
}

impl RetryPolicy {
    /// Checks the ranges; names the field.
    pub fn check(&self) -> Result<(), Violation> {
        if !(1..=ATTEMPTS_MAX).contains(&self.max_attempts) {
            return Err(Violation::new("max_attempts", "must be 1 to 20"));
        }
        if self.initial_delay_s > DELAY_MAX_S || self.max_delay_s > DELAY_MAX_S {
            return Err(Violation::new("max_delay", "delays must be at most 30 days"));
        }
        if !(1.0..=10.0).contains(&self.multiplier) {
            return Err(Violation::new("multiplier", "must be 1.0 to 10.0"));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(Violation::new("jitter", "must be 0.0 to 1.0"));
        }
        Ok(())
    }

    /// How long to wait after `attempts_used` attempts ended with `outcome`, or none for no further
    /// attempt. `draw` is uniform in 0.0..1.0.
    pub fn delay_after(&self, outcome: RetryOn, attempts_used: u32, draw: f64) -> Option<Duration> {
        if attempts_used >= self.max_attempts || !self.on.contains(&outcome) {
            return None;
        }
        let exponent = i32::try_from(attempts_used.saturating_sub(1)).unwrap_or(i32::MAX);
        let delay = f64::from(self.initial_delay_s) * self.multiplier.powi(exponent);
        let delay = delay.min(f64::from(self.max_delay_s));
        let spread = 1.0 + self.jitter * (2.0 * draw.clamp(0.0, 1.0) - 1.0);
        Some(Duration::from_secs_f64(delay * spread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn delays_are_bounded_and_end(
            attempts in 1u32..=20, initial in 0u32..1_000_000, multiplier in 1.0f64..10.0,
            max in 0u32..=DELAY_MAX_S, jitter in 0.0f64..=1.0, draw in 0.0f64..1.0,
        ) {
            let policy = RetryPolicy {
                max_attempts: attempts, on: vec![RetryOn::Busy], initial_delay_s: initial, multiplier,
                max_delay_s: max, jitter,
            };
            prop_assert!(policy.check().is_ok());
            for used in 1..attempts {
                let delay = policy.delay_after(RetryOn::Busy, used, draw).unwrap();
                prop_assert!(delay.as_secs_f64() <= f64::from(max) * (1.0 + jitter) + 0.001);
            }
            prop_assert_eq!(policy.delay_after(RetryOn::Busy, attempts, draw), None);
            prop_assert_eq!(policy.delay_after(RetryOn::Unknown, 1, draw), None);
        }
    }

    #[test]
    fn doubles_up_to_the_cap() {
        let policy = RetryPolicy {
            max_attempts: 9,
            jitter: 0.0,
            max_delay_s: 1_000,
            ..RetryPolicy::default()
        };
        let seconds: Vec<_> = (1..5)
            .map(|n| policy.delay_after(RetryOn::NoAnswer, n, 0.5).unwrap().as_secs())
            .collect();
        assert_eq!(seconds, [300, 600, 1_000, 1_000]);
    }
}
