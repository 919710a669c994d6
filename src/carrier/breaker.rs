//! A circuit breaker: after a row of failures the carrier is left alone for a while, then asked
//! once.
//!
//! Pure: the caller hands in the time and reports what became of each request.

use std::time::{Duration, Instant};

/// When the breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// This many failures in a row open it; at least 1.
    pub failures_to_open: u32,
    /// It stays open for this long before one probe is let through.
    pub open_for: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { failures_to_open: 5, open_for: Duration::from_secs(10) }
    }
}

/// Whether a request may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allow,
    /// It may, as the only one: what becomes of it decides.
    Probe,
    /// It may not, before `retry_at` at the earliest.
    Refuse {
        /// When to ask again.
        retry_at: Instant,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// A probe is under way; one that never reports must not shut the breaker for good.
    HalfOpen {
        probe_expires: Instant,
    },
}

/// The breaker of one carrier account.
#[derive(Debug, Clone)]
pub struct Breaker {
    settings: Settings,
    state: State,
}

impl Breaker {
    /// A closed breaker.
    pub const fn new(settings: Settings) -> Self {
        Self { settings, state: State::Closed { failures: 0 } }
    }

    /// Whether a request may be sent at `now`. Every [`Decision::Allow`] and [`Decision::Probe`] is
    /// to be followed by [`Self::succeeded`] or [`Self::failed`].
    pub fn ask(&mut self, now: Instant) -> Decision {
        match self.state {
            State::Closed { .. } => Decision::Allow,
            State::Open { until } | State::HalfOpen { probe_expires: until } if now < until => {
                Decision::Refuse { retry_at: until }
            }
            State::Open { .. } | State::HalfOpen { .. } => {
                self.state = State::HalfOpen { probe_expires: now + self.settings.open_for };
                Decision::Probe
            }
        }
    }

    /// The carrier answered (a refusal is an answer too).
    pub fn succeeded(&mut self) {
        match self.state {
            State::Closed { .. } | State::HalfOpen { .. } => {
                self.state = State::Closed { failures: 0 }
            }
            // A request from before it opened; the probe decides, not the stragglers.
            State::Open { .. } => {}
        }
    }

    /// The carrier did not answer, or answered 5xx.
    pub fn failed(&mut self, now: Instant) {
        let open = State::Open { until: now + self.settings.open_for };
        self.state = match self.state {
            State::Closed { failures } if failures + 1 < self.settings.failures_to_open => {
                State::Closed { failures: failures + 1 }
            }
            State::Closed { .. } | State::HalfOpen { .. } => open,
            // Stragglers must not keep it open for ever.
            State::Open { until } => State::Open { until },
        };
    }

    /// Whether requests are refused or probed now.
    pub const fn is_open(&self) -> bool {
        match self.state {
            State::Closed { .. } => false,
            State::Open { .. } | State::HalfOpen { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings { failures_to_open: 3, open_for: Duration::from_secs(10) };

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(SETTINGS);
        for _ in 0..3 {
            assert_eq!(breaker.ask(now), Decision::Allow);
            breaker.failed(now);
        }
        breaker
    }

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        for _ in 0..10 {
            breaker.failed(now);
            breaker.failed(now);
            breaker.succeeded();
        }
        assert!(!breaker.is_open());
        assert!(opened(now).is_open());
    }

    #[test]
    fn lets_one_probe_through() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + SETTINGS.open_for;
        assert_eq!(breaker.ask(now), Decision::Refuse { retry_at: later });
        breaker.succeeded();
        breaker.failed(now + Duration::from_secs(5));
        assert_eq!(breaker.ask(later), Decision::Probe);
        assert!(matches!(breaker.ask(later), Decision::Refuse { .. }));
        breaker.succeeded();
        assert_eq!(breaker.ask(later), Decision::Allow);
    }

    #[test]
    fn a_failed_or_lost_probe_opens_it_again_for_a_while() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + SETTINGS.open_for;
        assert_eq!(breaker.ask(later), Decision::Probe);
        breaker.failed(later);
        assert_eq!(breaker.ask(later), Decision::Refuse { retry_at: later + SETTINGS.open_for });
        assert_eq!(breaker.ask(later + SETTINGS.open_for), Decision::Probe);
        assert_eq!(breaker.ask(later + SETTINGS.open_for * 2), Decision::Probe);
    }
}
