//! The carrier accounts as they are used: a login and a client, a circuit breaker, and how long an
//! intent may be sent. For whoever asks the carrier for something: the dialer, and the tasks.

mod breakers;
mod carriers;
mod lease;
mod send;

pub use breakers::Breakers;
pub use carriers::{Carriers, Error};
pub use lease::BootInstant;
pub use send::{Intent, Reached, record, send};

use crate::carrier;
use crate::store::AccountCache;

/// Accounts and their breakers.
pub struct Gateway {
    /// Logins and clients.
    pub carriers: Carriers,
    /// Whether they may be asked now.
    pub breakers: Breakers,
}

impl Gateway {
    /// Reaches these accounts, those without a base URL of their own as `config` says.
    pub fn new(accounts: AccountCache, config: carrier::Config) -> Self {
        Self { carriers: Carriers::new(accounts, config), breakers: Breakers::default() }
    }
}
