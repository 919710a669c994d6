//! Twilio's Conferences and Participants resources, as far as asking who is in goes. What is over
//! is not shown. <https://www.twilio.com/docs/voice/api/conference-resource>
//! <https://www.twilio.com/docs/voice/api/conference-participant-resource>

use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::Core;
use super::api::{authorize, find};
use super::listener::Line;
use super::queues::page;
use super::request::{Params, Refusal};
use super::request_faults::{Request, RequestKind};

pub(crate) fn router() -> Router<Arc<Core>> {
    const CONFERENCES: &str = "/2010-04-01/Accounts/{account}/Conferences";
    Router::new()
        .route(&format!("{CONFERENCES}.json"), get(list))
        .route(&format!("{CONFERENCES}/{{conference}}/Participants/{{call}}"), get(participant))
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
        let params = Params::decode(query.as_deref().unwrap_or_default().as_bytes());
        let wanted = params.get("FriendlyName");
        let switchboard = core.switchboard();
        let found: Vec<Value> = switchboard
            .rooms(&account.sid)
            .filter(|(name, ..)| wanted.is_none_or(|wanted| wanted == *name))
            .map(|(name, sid, begun)| {
                let status = if begun { "in-progress" } else { "init" };
                json!({ "account_sid": account.sid, "friendly_name": name, "sid": sid, "status": status })
            })
            .collect();
        let path = format!("/2010-04-01/Accounts/{}/Conferences.json", account.sid);
        page("conferences", &path, &found, query.as_deref())
    };
    core.carry_out(&line, Request::to_read(RequestKind::Conferences), work).await
}

async fn participant(
    State(core): State<Arc<Core>>,
    ConnectInfo(line): ConnectInfo<Line>,
    Path((account, conference, call)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let work = || {
        let account = authorize(&core, &account, &headers)?;
        let index = find(&core, account, &call)?;
        let switchboard = core.switchboard();
        let entry = switchboard.entry(index).filter(|_| switchboard.is_in_room(&conference, index));
        let sid = &entry.ok_or(Refusal::NOT_FOUND)?.sid;
        let shown =
            json!({ "account_sid": account.sid, "call_sid": sid, "conference_sid": conference });
        Ok(Json(shown).into_response())
    };
    core.carry_out(&line, Request::to_read(RequestKind::Conferences), work).await
}
