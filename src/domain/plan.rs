//! Plans: how much of the API a tenant may use. The numbers hold in each process by itself, except
//! the queue's.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The plan of a tenant that names none, or one that is not there any more.
pub const STANDARD: &str = "standard";
/// For tenants with much to say.
pub const HIGH_VOLUME: &str = "high_volume";
/// The fastest rate: its tokens are still a microsecond apart.
const PER_SECOND_MAX: u32 = 1_000_000;
/// The largest burst.
const BURST_MAX: u32 = 10_000_000;

/// So many a second, and so many at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    per_second: u32,
    burst: u32,
}

impl Rate {
    /// `per_second` 1 to 1,000,000; `burst` 1 to 10,000,000.
    const fn fixed(per_second: u32, burst: u32) -> Self {
        assert!(per_second > 0 && per_second <= PER_SECOND_MAX && burst > 0 && burst <= BURST_MAX);
        Self { per_second, burst }
    }

    /// How long one token takes to come back; never zero.
    pub const fn period(self) -> Duration {
        Duration::from_nanos(1_000_000_000 / self.per_second as u64)
    }

    /// Tokens that can be saved up; at least 1.
    pub const fn burst(self) -> u32 {
        self.burst
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s burst {}", self.per_second, self.burst)
    }
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "must be a rate like \"200/s burst 1000\": 1 to 1000000 a second, a burst of 1 to 10000000";
        let (per_second, burst) = text.split_once("/s burst ").ok_or(WRONG)?;
        let per_second = per_second.trim().parse().map_err(|_| WRONG)?;
        let burst = burst.trim().parse().map_err(|_| WRONG)?;
        let fits = (1..=PER_SECOND_MAX).contains(&per_second) && (1..=BURST_MAX).contains(&burst);
        if fits { Ok(Self { per_second, burst }) } else { Err(WRONG) }
    }
}

super::state_words! {
    /// What a request costs the server, roughly; each class has a quota of its own.
    pub enum Class {
        /// Looks something up.
        Read = "read",
        /// Changes something.
        Write = "write",
        /// Opens a stream.
        Stream = "stream",
        /// Goes through much of what the tenant has.
        Maintenance = "maintenance",
    }
}

/// What one tenant may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What a tenant names it by.
    pub name: &'static str,
    /// Requests that read.
    pub read: Rate,
    /// Requests that write.
    pub write: Rate,
    /// Streams opened.
    pub stream: Rate,
    /// Maintenance requests. Reconcile and Cleanup are held to once a minute besides, over all
    /// processes.
    pub maintenance: Rate,
    /// Jobs and leads, one token each, over all requests and streams; the burst is at least a full
    /// batch.
    pub rows: Rate,
    /// Streams open at once.
    pub streams_max: u32,
    /// Jobs queued at once, over all runs and processes. May be passed by what is added at the same
    /// moment.
    pub queued_jobs_max: u64,
}

impl Plan {
    /// What most tenants need: far more than a person, or one service that polls, asks for.
    pub const STANDARD: Self = Self {
        name: STANDARD,
        read: Rate::fixed(200, 1_000),
        write: Rate::fixed(100, 500),
        stream: Rate::fixed(20, 200),
        maintenance: Rate::fixed(1, 10),
        rows: Rate::fixed(20_000, 100_000),
        streams_max: 200,
        queued_jobs_max: 1_000_000,
    };
    /// Several busy services of one tenant.
    pub const HIGH_VOLUME: Self = Self {
        name: HIGH_VOLUME,
        read: Rate::fixed(1_000, 5_000),
        write: Rate::fixed(500, 2_500),
        stream: Rate::fixed(100, 1_000),
        maintenance: Rate::fixed(2, 20),
        rows: Rate::fixed(50_000, 500_000),
        streams_max: 2_000,
        queued_jobs_max: 10_000_000,
    };

    /// The quota of requests of a class.
    pub const fn rate(&self, class: Class) -> Rate {
        match class {
            Class::Read => self.read,
            Class::Write => self.write,
            Class::Stream => self.stream,
            Class::Maintenance => self.maintenance,
        }
    }
}

/// Every plan that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plans {
    /// For tenants that name no other.
    pub standard: Plan,
    /// By name.
    pub high_volume: Plan,
}

impl Default for Plans {
    fn default() -> Self {
        Self { standard: Plan::STANDARD, high_volume: Plan::HIGH_VOLUME }
    }
}

impl Plans {
    /// The plan of this name; [`STANDARD`] if there is none.
    pub fn of(&self, name: &str) -> &Plan {
        if name == HIGH_VOLUME { &self.high_volume } else { &self.standard }
    }

    /// Whether there is a plan of this name.
    pub fn is_known(name: &str) -> bool {
        matches!(name, STANDARD | HIGH_VOLUME)
    }
}

/// All limits on requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Requests from one address, before it is known whose they are.
    pub peer: Rate,
    /// What tenants may use.
    pub plans: Plans,
}

impl Limits {
    /// What one address may send: as much as a tenant of the large plan in all.
    pub const PEER: Rate = Rate::fixed(1_600, 8_000);
}

impl Default for Limits {
    fn default() -> Self {
        Self { peer: Self::PEER, plans: Plans::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_as_they_are_written() {
        for rate in [Limits::PEER, Plan::STANDARD.rows, Plan::HIGH_VOLUME.maintenance] {
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
        assert_eq!("3/s burst 7".parse(), Ok(Rate { per_second: 3, burst: 7 }));
        for bad in [
            "",
            "3",
            "3/s",
            "3 burst 7",
            "0/s burst 7",
            "3/s burst 0",
            "1000001/s burst 7",
            "-3/s burst 7",
        ] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
        assert_eq!(Rate::fixed(PER_SECOND_MAX, 1).period(), Duration::from_micros(1));
    }

    #[test]
    fn a_plan_that_is_not_there_is_the_standard_one() {
        let plans = Plans::default();
        assert_eq!(plans.of(HIGH_VOLUME).name, HIGH_VOLUME);
        assert_eq!(plans.of("gold").name, STANDARD);
        assert!(Plans::is_known(STANDARD) && !Plans::is_known("gold"));
    }

    /// Or a tenant that keeps to its plan would be stopped for its address.
    #[test]
    fn one_address_can_carry_the_largest_plan() {
        let plan = Plan::HIGH_VOLUME;
        let all: u32 = Class::ALL.iter().map(|class| plan.rate(*class).per_second).sum();
        let limits = Limits::default();
        assert!(limits.peer.per_second + 2 >= all, "{all}");
        assert!(Class::ALL.iter().all(|class| plan.rate(*class).burst <= limits.peer.burst));
    }
}
