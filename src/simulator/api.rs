//! Twilio's Calls resource: create, fetch, list, update.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use serde_json::json;
use subtle::ConstantTimeEq;

use crate::carrier::wire::{e164, parse_iso};
use crate::domain::call::CarrierStatus;
use crate::domain::{CallSid, Phone, Timestamp};

use super::config::SimAccount;
use super::ledger::Entry;
use super::listener::Line;
use super::plan::CreateFault;
use super::request::{NewCall, Params, Refusal, Source};
use super::request_faults::{Request, RequestKind};
use super::switchboard::Taken;
use super::{Core, conferences, control, life, queues, resource};

/// The largest request body, in bytes.
const BODY_MAX_BYTES: usize = 256 * 1024;
/// Twilio's page sizes.
pub(crate) const PAGE_SIZE_DEFAULT: usize = 50;
pub(crate) const PAGE_SIZE_MAX: usize = 1_000;

pub(crate) fn router(core: Arc<Core>) -> Router {
    Router::new()
        .route("/2010-04-01/Accounts/{account}/Calls.json", get(list).post(create))
        .route("/2010-04-01/Accounts/{account}/Calls/{call}", get(fetch).post(update))
        .merge(queues::router())
        .merge(conferences::router())
        .merge(control::router())
        .fallback(|| async { Refusal::NOT_FOUND })
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .with_state(core)
}

/// HTTP Basic with the account's SID, or any API key's, and the auth token.
pub(crate) fn authorize<'a>(
    core: &'a Core,
    account: &str,
    headers: &HeaderMap,
) -> Result<&'a SimAccount, Refusal> {
    let login = || {
        let header = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let decoded = STANDARD.decode(header.strip_prefix("Basic ")?).ok()?;
        let (username, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
        let known = core.account(&account.parse().ok()?)?;
        let right: bool =
            password.as_bytes().ct_eq(known.auth_token.expose_secret().as_bytes()).into();
        (right && (username == account || username.starts_with("SK"))).then_some(known)
    };
    login().ok_or(Refusal::UNAUTHORIZED)
}

async fn create(
    State(core): State<Arc<Core>>,
    ConnectInfo(line): ConnectInfo<Line>,
    Path(account): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let read = authorize(&core, &account, &headers)
        .and_then(|account| Ok((account, NewCall::read(&Params::decode(&body))?)));
    let (account, request) = match read {
        Ok(read) => read,
        Err(refusal) => {
            core.switchboard().refuse(refusal.code.to_string());
            return refusal.into_response();
        }
    };
    // Bound, so that the lock is not held while the arms run.
    let taken = core.switchboard().take(&core.config, account, request);
    let (answer, index, fault, slow) = match taken {
        Taken::TooMany => return Refusal::TOO_MANY.into_response(),
        Taken::Fault(fault, slow) => (Refusal::INTERNAL.into_response(), None, Some(fault), slow),
        Taken::Call(new) => {
            let (index, fault, slow) = (new.index, new.plan.fault, new.plan.slow_answer);
            let answer = core.switchboard().entry(index).map(resource::call);
            life::start(&core, account, *new);
            ((StatusCode::CREATED, Json(answer)).into_response(), Some(index), fault, slow)
        }
    };
    core.hold_back(slow).await;
    if let Some(index) = index.filter(|_| fault != Some(CreateFault::Lost)) {
        core.switchboard().answer(index);
    }
    match fault {
        None => answer,
        Some(CreateFault::TooMany) => Refusal::TOO_MANY.into_response(),
        Some(CreateFault::Error500Before | CreateFault::Error500After) => {
            Refusal::INTERNAL.into_response()
        }
        Some(CreateFault::Lost | CreateFault::ResetBefore) => {
            line.cut();
            answer
        }
    }
}

/// The index of the call that the path names.
pub(crate) fn find(core: &Core, account: &SimAccount, call: &str) -> Result<usize, Refusal> {
    let sid: CallSid =
        call.strip_suffix(".json").and_then(|sid| sid.parse().ok()).ok_or(Refusal::NOT_FOUND)?;
    core.switchboard().find(&account.sid, &sid).ok_or(Refusal::NOT_FOUND)
}

fn show(core: &Core, index: usize) -> Result<Response, Refusal> {
    let call = core.switchboard().entry(index).map(resource::call);
    call.map(|call| Json(call).into_response()).ok_or(Refusal::NOT_FOUND)
}

async fn fetch(
    State(core): State<Arc<Core>>,
    ConnectInfo(line): ConnectInfo<Line>,
    Path((account, call)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let work = || show(&core, find(&core, authorize(&core, &account, &headers)?, &call)?);
    core.carry_out(&line, Request::to_read(RequestKind::Fetch), work).await
}

async fn update(
    State(core): State<Arc<Core>>,
    ConnectInfo(line): ConnectInfo<Line>,
    Path((account, call)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let params = Params::decode(&body);
    let kind =
        if params.get("Status").is_some() { RequestKind::HangUp } else { RequestKind::Redirect };
    let work = || {
        let index = find(&core, authorize(&core, &account, &headers)?, &call)?;
        change(&core, index, &params)?;
        show(&core, index)
    };
    core.carry_out(&line, Request::to_change(kind, &call, &params), work).await
}

/// <https://www.twilio.com/docs/voice/api/call-resource#update-a-call-resource>
fn change(core: &Core, index: usize, params: &Params) -> Result<(), Refusal> {
    // Bound, so that the lock is not held while the call is changed.
    let status = core.switchboard().entry(index).map(|entry| entry.status);
    let status = status.ok_or(Refusal::NOT_FOUND)?;
    if status.is_final() {
        return Err(Refusal::STATE);
    }
    let answered = status == CarrierStatus::InProgress;
    match params.get("Status") {
        // `canceled` leaves an answered call alone.
        Some("canceled") if answered => return Ok(()),
        Some(word @ ("canceled" | "completed")) => {
            // A call that nobody answered has nothing to complete.
            let ending = match (word, answered) {
                ("completed", true) => CarrierStatus::Completed,
                _ => CarrierStatus::Canceled,
            };
            return if core.hang_up(index, ending) { Ok(()) } else { Err(Refusal::STATE) };
        }
        Some(_) => return Err(Refusal::PARAMETER),
        None => {}
    }
    let source = Source::read(params)?.ok_or(Refusal::PARAMETER)?;
    if !answered {
        return Err(Refusal::STATE);
    }
    let commands =
        core.switchboard().live(index).map(|live| live.commands.clone()).ok_or(Refusal::STATE)?;
    commands.try_send(source).map_err(|error| match error {
        tokio::sync::mpsc::error::TrySendError::Full(_) => Refusal::TOO_MANY,
        tokio::sync::mpsc::error::TrySendError::Closed(_) => Refusal::STATE,
    })
}

/// The filters of a list.
struct Filter {
    parent: Option<String>,
    to: Option<Phone>,
    from: Option<Phone>,
    status: Option<CarrierStatus>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Filter {
    fn read(params: &Params) -> Result<Self, Refusal> {
        let phone =
            |name| params.get(name).map(|text| e164(text).ok_or(Refusal::PARAMETER)).transpose();
        let time = |name| {
            params.get(name).map(|text| parse_iso(text).ok_or(Refusal::PARAMETER)).transpose()
        };
        let status = |text| CarrierStatus::from_word(text).ok_or(Refusal::PARAMETER);
        Ok(Self {
            parent: params.get("ParentCallSid").map(str::to_owned),
            to: phone("To")?,
            from: phone("From")?,
            status: params.get("Status").map(status).transpose()?,
            since: time("StartTime>")?,
            until: time("StartTime<")?,
        })
    }

    fn fits(&self, entry: &Entry) -> bool {
        // A call that has not been dialed has no start time; when it was created stands in, so that
        // it is found.
        let started = entry.at(CarrierStatus::Initiated).unwrap_or(entry.arrived_at_us);
        let parent = entry.parent_sid.as_ref().map(CallSid::as_str);
        self.parent.as_ref().is_none_or(|of| parent == Some(of.as_str()))
            && self.from.as_ref().is_none_or(|from| entry.from == *from)
            && self.to.as_ref().is_none_or(|to| entry.to == *to)
            && self.status.is_none_or(|status| resource::status(entry.status) == status)
            && self.since.is_none_or(|since| started >= since)
            && self.until.is_none_or(|until| started <= until)
    }
}

async fn list(
    State(core): State<Arc<Core>>,
    ConnectInfo(line): ConnectInfo<Line>,
    Path(account): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let params = Params::decode(query.unwrap_or_default().as_bytes());
    let work = || {
        let page = page(&core, authorize(&core, &account, &headers)?, &params)?;
        Ok(Json(page).into_response())
    };
    core.carry_out(&line, Request::to_read(RequestKind::List), work).await
}

/// One page in Twilio's envelope.
/// <https://www.twilio.com/docs/usage/twilios-response#response-formats-list-paging-information>
fn page(core: &Core, account: &SimAccount, params: &Params) -> Result<serde_json::Value, Refusal> {
    let number = |name| {
        params.get(name).map(|text| text.parse().map_err(|_| Refusal::PARAMETER)).transpose()
    };
    let size: usize = number("PageSize")?.unwrap_or(PAGE_SIZE_DEFAULT).clamp(1, PAGE_SIZE_MAX);
    let page: usize = number("Page")?.unwrap_or(0);
    // The token says where the page before ended, so that calls created since do not shift the
    // pages.
    let before = match params.get("PageToken") {
        None => usize::MAX,
        Some(token) => {
            token.strip_prefix("PA").and_then(|n| n.parse().ok()).ok_or(Refusal::PARAMETER)?
        }
    };
    let filter = Filter::read(params)?;
    let switchboard = core.switchboard();
    let mut fitting = switchboard
        .newest(filter.to.as_ref(), before)
        .filter_map(|index| Some((index, switchboard.entry(index)?)))
        .filter(|(_, entry)| entry.account_sid == account.sid && filter.fits(entry));
    let found: Vec<_> = fitting.by_ref().take(size).collect();
    let more = fitting.next().is_some();
    let start = page.saturating_mul(size);
    let next_page_uri = found
        .last()
        .filter(|_| more)
        .map(|(last, _)| uri(account, params, size, page + 1, Some(*last)));
    Ok(json!({
        "calls": found.iter().map(|(_, entry)| resource::call(entry)).collect::<Vec<_>>(),
        "start": start,
        "end": (start + found.len()).saturating_sub(1),
        "page": page,
        "page_size": size,
        "first_page_uri": uri(account, params, size, 0, None),
        "previous_page_uri": null,
        "next_page_uri": next_page_uri,
        "uri": uri(account, params, size, page, (before < usize::MAX).then_some(before)),
    }))
}

fn uri(
    account: &SimAccount,
    params: &Params,
    size: usize,
    page: usize,
    before: Option<usize>,
) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    let ours = ["PageSize", "Page", "PageToken"];
    query.extend_pairs(params.0.iter().filter(|(name, _)| !ours.contains(&name.as_str())));
    query.append_pair("PageSize", &size.to_string()).append_pair("Page", &page.to_string());
    if let Some(before) = before {
        query.append_pair("PageToken", &format!("PA{before}"));
    }
    format!("/2010-04-01/Accounts/{}/Calls.json?{}", account.sid, query.finish())
}
