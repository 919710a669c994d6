//! SQL is checked before it runs: both databases prepare every statement that the store has.

use super::FAST;
use crate::support::{TestStore, make_tenant, on_both_stores};

/// Fewer would mean that statements stopped registering themselves.
const STATEMENTS_MIN: usize = 240;

on_both_stores!(the_database_prepares_every_statement);

async fn the_database_prepares_every_statement(test: TestStore) {
    let tenant = make_tenant(&test.store, "acme", 1, FAST).await;
    let (count, refused) = test.store.prepare_statements(&tenant).await.unwrap();
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(count >= STATEMENTS_MIN, "only {count} statements registered themselves");
}
