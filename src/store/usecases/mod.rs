//! The use cases: read rows, ask the domain, write. Each file tells one story; SQL stands beside its use.

pub mod access;
pub mod accounts;
pub mod apply;
pub mod audit;
pub mod calls;
pub mod claim;
pub mod cleanup;
pub mod explain;
pub mod follow_up;
pub mod jobs;
pub mod keys;
pub mod leads;
pub mod queue;
pub mod reconcile;
mod reconcile_facts;
pub mod requests;
pub mod retry;
pub mod runs;
pub mod sweep;
pub mod takeover;
pub mod tenants;
