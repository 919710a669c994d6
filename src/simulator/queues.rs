//! Twilio's Queues and Members resources.
//! <https://www.twilio.com/docs/voice/api/queue-resource>
//! <https://www.twilio.com/docs/voice/api/member-resource>

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::carrier::wire::format_rfc2822;

use super::Core;
use super::api::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, authorize};
use super::config::SimAccount;
use super::listener::Line;
use super::request::{Params, Refusal, Source};
use super::request_faults::{Request, RequestKind};
use super::switchboard::{QUEUE_SIZE_DEFAULT, Queue, Switchboard};

/// Twilio's largest queue, and its longest name.
const SIZE_MAX: u32 = 5_000;
const NAME_MAX_CHARS: usize = 64;
/// Stands for the call that waits longest.
const FRONT: &str = "Front.json";

pub(crate) fn router() -> Router<Arc<Core>> {
    const ACCOUNT: &str = "/2010-04-01/Accounts/{account}";
    Router::new()
        .route(&format!("{ACCOUNT}/Queues.json"), get(list).post(create))
        .route(&format!("{ACCOUNT}/Queues/{{queue}}"), get(fetch).delete(close))
        .route(&format!("{ACCOUNT}/Queues/{{queue}}/Members.json"), get(members))
        .route(&format!("{ACCOUNT}/Queues/{{queue}}/Members/{{member}}"), get(member).post(dequeue))
}

async fn list(
    State(core): State<Arc<Core>>,
    ConnectInfo(line): ConnectInfo<Line>,
    Path(account): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let work = || {
        let account = authorize(&core, &account, &headers)?;
        let queues: Vec<Value> = core.switchboard().queues(&account.sid).map(show).collect();
        let path = format!("/2010-04-01/Accounts/{}/Queues.json", account.sid);
        page("queues", &path, &queues, query.as_deref())
    };
    core.carry_out(&line, Request::to_read(RequestKind::Queues), work).await
}

async fn create(
    State(core): State<Arc<Core>>,
    Path(account): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    const EXISTS: Refusal =
        Refusal::new(StatusCode::BAD_REQUEST, 22003, "A queue of this name exists already");
    let made = || {
        let account = authorize(&core, &account, &headers)?;
        let params = Params::decode(&body);
        let name = params.get("FriendlyName").filter(|name| name.chars().count() <= NAME_MAX_CHARS);
        let name = name.ok_or(Refusal::PARAMETER)?;
        let size = params
            .get("MaxSize")
            .map(|text| text.parse().map_err(|_| Refusal::PARAMETER))
            .transpose()?;
        let size = size.unwrap_or(QUEUE_SIZE_DEFAULT).min(SIZE_MAX);
        let mut switchboard = core.switchboard();
        if switchboard.queues(&account.sid).any(|queue| queue.name == name) {
            return Err(EXISTS);
        }
        let queue = switchboard.queue(&account.sid, name, size).ok_or(Refusal::TOO_MANY)?;
        Ok((StatusCode::CREATED, Json(show(queue))).into_response())
    };
    made().unwrap_or_else(IntoResponse::into_response)
}

async fn fetch(
    State(core): State<Arc<Core>>,
    ConnectInfo(line): ConnectInfo<Line>,
    Path((account, queue)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let work = || {
        let account = authorize(&core, &account, &headers)?;
        let sid = queue.strip_suffix(".json").ok_or(Refusal::NOT_FOUND)?;
        let switchboard = core.switchboard();
        Ok(Json(show(find(&switchboard, account, sid)?)).into_response())
    };
    core.carry_out(&line, Request::to_read(RequestKind::Queues), work).await
}

/// Twilio deletes only empty queues; no code is documented for others.
async fn close(
    State(core): State<Arc<Core>>,
    ConnectInfo(line): ConnectInfo<Line>,
    Path((account, queue)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    const NOT_EMPTY: Refusal =
        Refusal::new(StatusCode::BAD_REQUEST, 20001, "The queue is not empty");
    let work = || {
        let account = authorize(&core, &account, &headers)?;
        let sid = queue.strip_suffix(".json").ok_or(Refusal::NOT_FOUND)?;
        let mut switchboard = core.switchboard();
        if !find(&switchboard, account, sid)?.members.is_empty() {
            return Err(NOT_EMPTY);
        }
        switchboard.close_queue(sid);
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    core.carry_out(&line, Request::to_read(RequestKind::Queues), work).await
}

async fn members(
    State(core): State<Arc<Core>>,
    ConnectInfo(line): ConnectInfo<Line>,
    Path((account, queue)): Path<(String, String)>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let work = || {
        let account = authorize(&core, &account, &headers)?;
        let switchboard = core.switchboard();
        let queue = find(&switchboard, account, &queue)?;
        let members: Vec<Value> = (0..queue.members.len())
            .filter_map(|at| show_member(&core, &switchboard, queue, at))
            .collect();
        let path = format!("{}/Members.json", uri(queue));
        page("queue_members", &path, &members, query.as_deref())
    };
    core.carry_out(&line, Request::to_read(RequestKind::Queues), work).await
}

async fn member(
    State(core): State<Arc<Core>>,
    ConnectInfo(line): ConnectInfo<Line>,
    Path((account, queue, member)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let work = || {
        let account = authorize(&core, &account, &headers)?;
        let switchboard = core.switchboard();
        let queue = find(&switchboard, account, &queue)?;
        let at = position(queue, &member)?;
        let member = show_member(&core, &switchboard, queue, at).ok_or(Refusal::NOT_QUEUED)?;
        Ok(Json(member).into_response())
    };
    core.carry_out(&line, Request::to_read(RequestKind::Queues), work).await
}

async fn dequeue(
    State(core): State<Arc<Core>>,
    ConnectInfo(line): ConnectInfo<Line>,
    Path((account, queue, member)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let params = Params::decode(&body);
    let request = Request::to_change(RequestKind::Dequeue, &member, &params);
    let work = || {
        let account = authorize(&core, &account, &headers)?;
        let Some(source @ Source::Fetched(_)) = Source::read(&params)? else {
            return Err(Refusal::PARAMETER);
        };
        let mut switchboard = core.switchboard();
        let queue = find(&switchboard, account, &queue)?;
        let at = position(queue, &member)?;
        let shown = show_member(&core, &switchboard, queue, at).ok_or(Refusal::NOT_QUEUED)?;
        let sid = queue.sid.clone();
        if !switchboard.send_away(&sid, at, source) {
            return Err(Refusal::NOT_QUEUED);
        }
        Ok(Json(shown).into_response())
    };
    core.carry_out(&line, request, work).await
}

fn find<'a>(
    switchboard: &'a Switchboard,
    account: &SimAccount,
    sid: &str,
) -> Result<&'a Queue, Refusal> {
    switchboard
        .queues(&account.sid)
        .find(|queue| queue.sid.as_str() == sid)
        .ok_or(Refusal::NOT_FOUND)
}

/// Where the call that a path names stands in the queue, from 0.
fn position(queue: &Queue, member: &str) -> Result<usize, Refusal> {
    if member == FRONT {
        return if queue.members.is_empty() { Err(Refusal::NOT_QUEUED) } else { Ok(0) };
    }
    let sid = member.strip_suffix(".json").ok_or(Refusal::NOT_FOUND)?;
    queue.members.iter().position(|member| member.sid.as_str() == sid).ok_or(Refusal::NOT_QUEUED)
}

fn uri(queue: &Queue) -> String {
    format!("/2010-04-01/Accounts/{}/Queues/{}", queue.account, queue.sid)
}

fn show(queue: &Queue) -> Value {
    let uri = uri(queue);
    let created = format_rfc2822(queue.created.at);
    json!({
        "account_sid": queue.account,
        "average_wait_time": 0,
        "current_size": queue.members.len(),
        "date_created": created,
        "date_updated": created,
        "friendly_name": queue.name,
        "max_size": queue.size_max,
        "sid": queue.sid,
        "subresource_uris": { "members": format!("{uri}/Members.json") },
        "uri": format!("{uri}.json"),
    })
}

fn show_member(core: &Core, switchboard: &Switchboard, queue: &Queue, at: usize) -> Option<Value> {
    let member = queue.members.get(at)?;
    let since_us = switchboard.now().monotonic_us.saturating_sub(member.since.monotonic_us);
    let waited_s = core.simulated(Duration::from_micros(since_us));
    Some(json!({
        "call_sid": member.sid,
        "date_enqueued": format_rfc2822(member.since.at),
        "position": at + 1,
        "queue_sid": queue.sid,
        "uri": format!("{}/Members/{}.json", uri(queue), member.sid),
        "wait_time": waited_s as u64,
    }))
}

/// One page in Twilio's envelope.
pub(crate) fn page(
    key: &str,
    path: &str,
    items: &[Value],
    query: Option<&str>,
) -> Result<Response, Refusal> {
    let params = Params::decode(query.unwrap_or_default().as_bytes());
    let number = |name| {
        params.get(name).map(|text| text.parse().map_err(|_| Refusal::PARAMETER)).transpose()
    };
    let size: usize = number("PageSize")?.unwrap_or(PAGE_SIZE_DEFAULT).clamp(1, PAGE_SIZE_MAX);
    let page: usize = number("Page")?.unwrap_or(0);
    let uri = |page: usize| format!("{path}?PageSize={size}&Page={page}");
    let start = page.saturating_mul(size).min(items.len());
    let end = start.saturating_add(size).min(items.len());
    Ok(Json(json!({
        key: &items[start..end],
        "start": start,
        "end": end.saturating_sub(1),
        "page": page,
        "page_size": size,
        "first_page_uri": uri(0),
        "previous_page_uri": page.checked_sub(1).map(uri),
        "next_page_uri": (end < items.len()).then(|| uri(page + 1)),
        "uri": uri(page),
    }))
    .into_response())
}
