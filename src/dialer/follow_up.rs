//! Calls of which news is overdue: ask the carrier.
//!
//! A call with a SID is fetched. One whose creation went unanswered is looked for in the account's
//! list. A look-up that fails decides nothing; the call comes again.

use futures_util::StreamExt;
use tracing::Instrument;

use super::Shared;
use crate::carrier::{Account, CallResource, Client, Error, ListCalls, UpdateCall};
use crate::domain::call::{self, CarrierStatus, News};
use crate::domain::unknown::{Candidate, Verdict};
use crate::domain::{CallId, CallSid, TenantId, Timestamp};
use crate::metrics;
use crate::store::{DueCall, Result};

/// Calls taken, and asked about, at a time.
const DUE_MAX: u32 = 64;
const AT_ONCE: usize = 8;
/// Twilio's word for a call that its REST API created.
const OUTBOUND_API: &str = "outbound-api";
/// Pages of the list between two numbers that are read for one look-up. More calls than that to one
/// phone within the list's retention are not expected; the look-up then counts as failed.
const PAGES_MAX: usize = 20;

/// Asks about every call that is due.
pub async fn run(shared: &Shared) -> Result<()> {
    let due = shared.store.take_due_calls(DUE_MAX).await?;
    if due.is_empty() {
        return Ok(());
    }
    let now = shared.store.now().await?;
    futures_util::stream::iter(due)
        .for_each_concurrent(AT_ONCE, |due| async move {
            let span =
                tracing::info_span!("follow_up", tenant = %due.tenant, call_id = %due.call_id);
            follow_up(shared, &due, now).instrument(span).await;
        })
        .await;
    Ok(())
}

async fn follow_up(shared: &Shared, due: &DueCall, now: Timestamp) {
    let Some(reached) = shared.account_access(&due.account).await else { return };
    let reached = &reached;
    match &due.sid {
        Some(sid) => {
            let goes_on = fetch(shared, reached, (&due.tenant, due.call_id), sid).await;
            if goes_on && call::is_overtime(due.answered_at, due.time_limit_s, now) {
                end_overtime(reached, sid).await;
            }
        }
        None => look_up(shared, reached, due).await,
    }
}

/// Asks for the call and records the answer. Returns whether the call goes on.
pub(super) async fn fetch(
    shared: &Shared,
    (client, account): &(Client, Account),
    (tenant, call_id): (&TenantId, CallId),
    sid: &CallSid,
) -> bool {
    let news = match client.fetch_call(account, sid).await {
        Ok(call) => status_news(&call),
        Err(Error::NotFound) => News::Presumed {
            code: call::GONE_AT_CARRIER,
            message: "the carrier no longer knows the call".to_owned(),
        },
        Err(error) => {
            tracing::warn!(%error, "cannot ask about the call");
            return false;
        }
    };
    let goes_on = matches!(news, News::Status { status: CarrierStatus::InProgress, .. });
    if let Err(error) = shared.recorder.record(tenant, call_id, news).await {
        tracing::warn!(%error, "cannot record what the carrier said");
    }
    goes_on
}

/// The carrier should have ended it.
async fn end_overtime((client, account): &(Client, Account), sid: &CallSid) {
    match client.update_call(account, sid, &UpdateCall::Hangup).await {
        Ok(_) => tracing::warn!("ended a call that was past its time limit"),
        Err(error) => tracing::warn!(%error, "cannot end a call that is past its time limit"),
    }
}

fn status_news(call: &CallResource) -> News {
    News::Status {
        sid: call.sid.clone(),
        status: call.status,
        sequence: None,
        duration_s: call.duration_s.filter(|_| call.status.is_final()),
        answered_by: call.answered_by,
        error_code: None,
    }
}

async fn look_up(shared: &Shared, reached: &(Client, Account), due: &DueCall) {
    let found = match list(reached, due).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "cannot look for the call");
            return;
        }
    };
    match shared.store.resolve_unknown(due, found).await {
        Ok(Verdict::Adopt(call)) => {
            metrics::unknown_resolved(true);
            tracing::info!(call_sid = %call.sid, "found a call whose creation went unanswered");
        }
        Ok(Verdict::GiveUp) => {
            metrics::unknown_resolved(false);
            tracing::info!("a call whose creation went unanswered was never created");
        }
        Ok(Verdict::Wait { .. }) => {}
        Err(error) => tracing::warn!(%error, "cannot record what was found"),
    }
}

/// Every outbound API call between the two numbers, whatever its age: the list's own time filters
/// know days only.
async fn list(
    (client, account): &(Client, Account),
    due: &DueCall,
) -> std::result::Result<Vec<Candidate>, Error> {
    let mut query = ListCalls {
        to: Some(due.to.clone()),
        from: Some(due.from.clone()),
        page_size: 1_000,
        ..ListCalls::default()
    };
    let mut found = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = client.list_calls(account, &query).await?;
        let ours = page.calls.into_iter().filter(|call| call.direction == OUTBOUND_API);
        found.extend(ours.map(|call| Candidate {
            sid: call.sid,
            status: call.status,
            created_at: call.date_created.or(call.start_time),
        }));
        match page.next_page {
            Some(next) => query.page = Some(next),
            None => return Ok(found),
        }
    }
    Err(Error::Protocol { reason: "the list has too many pages".to_owned() })
}
