//! The simulator's own paths, below `/simulator`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use crate::domain::{CallSid, Violation};

use super::request::InboundRequest;
use super::{Core, Faults, RequestFault, Scripted, Simulator, life, resource};

pub(crate) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/simulator/health", get(health))
        .route("/simulator/ledger", get(ledger))
        .route("/simulator/faults", get(faults).post(set_faults))
        .route("/simulator/script", post(script))
        .route("/simulator/inbound", post(inbound))
        .route("/simulator/press", post(press))
        .route("/simulator/hangup", post(hang_up))
        .route("/simulator/spoil", post(spoil))
}

async fn health(State(core): State<Arc<Core>>) -> Response {
    let switchboard = core.switchboard();
    let (creates, live) = (switchboard.created(), switchboard.live_count());
    Json(serde_json::json!({ "status": "serving", "creates": creates, "live": live }))
        .into_response()
}

async fn ledger(State(core): State<Arc<Core>>) -> Response {
    Json(Simulator { core }.ledger()).into_response()
}

async fn faults(State(core): State<Arc<Core>>) -> Response {
    Json(core.switchboard().faults).into_response()
}

async fn set_faults(State(core): State<Arc<Core>>, Json(faults): Json<Faults>) -> Response {
    match (Simulator { core }).set_faults(faults) {
        Ok(()) => Json(faults).into_response(),
        Err(violation) => (StatusCode::BAD_REQUEST, violation.to_string()).into_response(),
    }
}

/// 204, or 404 when there is no such live call, or 400.
fn done(result: Result<bool, Violation>) -> Response {
    match result {
        Ok(true) => StatusCode::NO_CONTENT.into_response(),
        Ok(false) => StatusCode::NOT_FOUND.into_response(),
        Err(violation) => (StatusCode::BAD_REQUEST, violation.to_string()).into_response(),
    }
}

async fn script(State(core): State<Arc<Core>>, Json(script): Json<Scripted>) -> Response {
    done((Simulator { core }).script(script).map(|()| true))
}

async fn spoil(State(core): State<Arc<Core>>, Json(fault): Json<RequestFault>) -> Response {
    done((Simulator { core }).spoil(fault).map(|()| true))
}

/// Keys that somebody on the phone presses.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Pressed {
    call_sid: CallSid,
    digits: String,
}

async fn press(State(core): State<Arc<Core>>, Json(pressed): Json<Pressed>) -> Response {
    done((Simulator { core }).press(&pressed.call_sid, &pressed.digits))
}

/// Somebody on the phone who hangs up.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct HungUp {
    call_sid: CallSid,
}

async fn hang_up(State(core): State<Arc<Core>>, Json(hung_up): Json<HungUp>) -> Response {
    done(Ok((Simulator { core }).hang_up(&hung_up.call_sid)))
}

/// Somebody calls a number of the account's. Answers 201 with the call; what it hears is what the
/// voice URL says.
async fn inbound(State(core): State<Arc<Core>>, Json(request): Json<InboundRequest>) -> Response {
    let refuse = |why: &'static str| (StatusCode::BAD_REQUEST, why).into_response();
    let accounts = &core.config.accounts;
    let named = request.account.clone();
    let account = named
        .map_or_else(|| accounts.first(), |sid| accounts.iter().find(|account| account.sid == sid));
    let Some(account) = account else { return refuse("account is none of this carrier's") };
    let (call, plan) = match request.into_call() {
        Ok(read) => read,
        Err(why) => return refuse(why),
    };
    // Bound, so that the lock is not held while the call starts.
    let placed = core.switchboard().place(account, call, plan);
    let Some(new) = placed else { return refuse("as many calls as are remembered") };
    let answer = core.switchboard().entry(new.index).map(resource::call);
    life::start(&core, account, new);
    (StatusCode::CREATED, Json(answer)).into_response()
}
