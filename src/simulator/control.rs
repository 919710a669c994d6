//! The simulator's own paths, below `/simulator`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::{Core, Faults, Scripted, Simulator};

pub(crate) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/simulator/health", get(health))
        .route("/simulator/ledger", get(ledger))
        .route("/simulator/faults", get(faults).post(set_faults))
        .route("/simulator/script", post(script))
}

async fn health(State(core): State<Arc<Core>>) -> Response {
    let book = core.book();
    let (creates, live) = (book.ledger.entries.len(), book.live_count());
    Json(serde_json::json!({ "status": "serving", "creates": creates, "live": live })).into_response()
}

async fn ledger(State(core): State<Arc<Core>>) -> Response {
    Json(Simulator { core }.ledger()).into_response()
}

async fn faults(State(core): State<Arc<Core>>) -> Response {
    Json(core.book().faults).into_response()
}

async fn set_faults(State(core): State<Arc<Core>>, Json(faults): Json<Faults>) -> Response {
    match (Simulator { core }).set_faults(faults) {
        Ok(()) => Json(faults).into_response(),
        Err(violation) => (StatusCode::BAD_REQUEST, violation.to_string()).into_response(),
    }
}

async fn script(State(core): State<Arc<Core>>, Json(script): Json<Scripted>) -> Response {
    match (Simulator { core }).script(script) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(violation) => (StatusCode::BAD_REQUEST, violation.to_string()).into_response(),
    }
}
