//! The use cases: read rows, ask the domain, write. Each file tells one story; SQL stands beside its use.

pub mod access;
pub mod apply;
pub mod calls;
pub mod claim;
pub mod follow_up;
pub mod jobs;
pub mod leads;
pub mod queue;
pub mod requests;
pub mod runs;
pub mod sweep;
