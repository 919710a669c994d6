//! The use cases: read rows, ask the domain, write. Each file tells one story; SQL stands beside its use.

pub mod access;
pub mod accounts;
pub mod apply;
pub mod audit;
pub mod calls;
pub mod census;
pub mod claim;
pub mod cleanup;
pub mod explain;
pub mod follow_up;
pub mod inbound;
pub mod jobs;
pub mod keys;
pub mod lead_calls;
pub mod lead_erase;
pub mod lead_import;
pub mod lead_list;
pub mod leads;
pub mod queue;
pub mod reconcile;
mod reconcile_facts;
pub mod requests;
pub mod retry;
pub mod runs;
pub mod sweep;
pub mod tasks;
pub mod tenants;
