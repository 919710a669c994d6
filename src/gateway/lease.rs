//! The time in which a claimed intent may be sent.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::domain::call::SEND_WITHIN;

/// A moment on the boot-time clock: unlike the monotonic one it goes on while the machine is
/// suspended, and unlike the wall clock nobody sets it.
#[derive(Debug, Clone, Copy)]
pub struct BootInstant(Duration);

impl BootInstant {
    /// Now.
    pub fn now() -> Self {
        #[cfg(target_os = "linux")]
        let clock = ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let clock = ClockId::Monotonic;
        let time = clock_gettime(clock);
        // Neither part is negative on these clocks.
        let (seconds, nanos) =
            (time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0));
        Self(Duration::new(seconds, nanos))
    }

    /// Whether an intent whose claim began then may still be sent.
    pub fn may_send(self) -> bool {
        self.age(Self::now()) < SEND_WITHIN
    }

    fn age(self, now: Self) -> Duration {
        now.0.saturating_sub(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends() {
        assert!(BootInstant::now().may_send());
        let long_ago = BootInstant(BootInstant::now().0.saturating_sub(SEND_WITHIN));
        assert!(!long_ago.may_send());
    }
}
