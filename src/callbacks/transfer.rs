//! What the carrier asks about transfers: answered with TwiML from where the transfer stands, never
//! with silence.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{OriginalUri, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tracing::Instrument as _;

use super::{Shared, callback};
use crate::carrier::transfer::{self, ACCEPT, Ask, DECLINE, Documents};
use crate::carrier::twiml;
use crate::domain::call::CarrierStatus;
use crate::domain::transfer::{Action, DialEnd, Fact, Miss, Phase, heard};
use crate::domain::{TenantId, TransferId};
use crate::store::{Error, Result, TransferView};

/// The longest that somebody on the line waits for an answer that needs a commit; then they hear
/// that it takes a moment.
const COMMIT_WITHIN: Duration = Duration::from_secs(3);
/// How often that is said; then it is an apology, and the call ends.
const MOMENTS_MAX: u32 = 5;
/// The parameter in which we count that.
const MOMENT: &str = "moment";

/// One question.
struct Question {
    shared: Arc<Shared>,
    tenant: TenantId,
    id: TransferId,
    ask: Ask,
    /// The form, and the query, which are what the carrier and what we said.
    params: Vec<(String, String)>,
}

/// A question, or news, about a transfer. 200 with TwiML, 204 for news; 403 for a bad signature;
/// 503 for news that could not be stored.
pub(super) async fn ask(
    State(shared): State<Arc<Shared>>,
    Path((tenant, id, what)): Path<(String, String, String)>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    // What was never in a URL of ours is, to a stranger, a bad signature.
    let (Ok(tenant), Ok(id), Some(ask)) =
        (tenant.parse::<TenantId>(), id.parse::<TransferId>(), Ask::parse(&what))
    else {
        return StatusCode::FORBIDDEN.into_response();
    };
    let span = tracing::info_span!("transfer", %tenant, transfer = %id, %ask);
    async {
        let mut params: Vec<(String, String)> =
            url::form_urlencoded::parse(&body).into_owned().collect();
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        match callback::is_signed(&shared, &tenant, path, &params, &headers).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!("refused: the signature is missing or wrong");
                return StatusCode::FORBIDDEN.into_response();
            }
            Err(status) => return status.into_response(),
        }
        let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        params.extend(query.into_owned());
        let question = Question { shared, tenant, id, ask, params };
        // A task of its own: the carrier hanging up must not stop a commit half-way.
        let answering = tokio::spawn(async move { question.answer().await }.in_current_span());
        answering.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
    }
    .instrument(span)
    .await
}

impl Question {
    async fn answer(&self) -> Response {
        let documents = Documents::new(&self.shared.public_url, &self.tenant, self.id);
        let told = tokio::time::timeout(COMMIT_WITHIN, self.tell()).await;
        let view = match told {
            Ok(Ok(view)) => view,
            Ok(Err(Error::NotFound(_))) => return StatusCode::FORBIDDEN.into_response(),
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot record what the carrier told of a transfer");
                return self.without_store(&documents);
            }
            Err(_) => return self.without_store(&documents),
        };
        let transfer = &view.transfer;
        tracing::debug!(state = transfer.state().as_str(), heard = ?heard(transfer), "asked");
        let document = match self.ask {
            Ask::Child(_) => return StatusCode::NO_CONTENT.into_response(),
            Ask::Dial(_) => documents.caller(transfer),
            // Our own update took the caller out of the queue, and goes on with them.
            Ask::Queue if self.was_redirected() => twiml::Response::default(),
            Ask::Queue | Ask::Over => documents.caller(transfer),
            Ask::Wait => documents.waiting(transfer),
            Ask::Connect(_) => twiml::Response::default(),
            Ask::Key(leg) => {
                documents.pressed(transfer, leg, self.param("Digits").unwrap_or_default())
            }
        };
        xml(&document)
    }

    /// Records what the question says, and gives the transfer as it is then.
    async fn tell(&self) -> Result<TransferView> {
        let store = &self.shared.store;
        let mut view = store.transfer(&self.tenant, self.id).await?;
        for fact in self.facts(&view) {
            view = store.transfer_fact(&self.tenant, self.id, fact).await?;
        }
        Ok(view)
    }

    fn facts(&self, view: &TransferView) -> Vec<Fact> {
        let status = |name| self.param(name).and_then(CarrierStatus::from_word);
        // Twilio asks, too, when it was the caller who hung up.
        let over = matches!(self.ask, Ask::Dial(_) | Ask::Wait | Ask::Queue | Ask::Over)
            && status("CallStatus").is_some_and(CarrierStatus::is_final);
        if over {
            return vec![Fact::CallerEnded];
        }
        let phase = view.transfer.progress.phase;
        match self.ask {
            // By which update is not said: who sent it brings what came of it.
            Ask::Queue if self.was_redirected() => Vec::new(),
            Ask::Dial(_) | Ask::Queue | Ask::Over if phase == Phase::Return => {
                vec![Fact::Done(Action::Return)]
            }
            Ask::Over if phase == Phase::Move => vec![Fact::Connected],
            Ask::Dial(n) => {
                // `answered` is Twilio's word for a dialed party that was connected and is gone.
                let talked = self.param("DialCallStatus") == Some("answered");
                let how =
                    if talked { Some(CarrierStatus::Completed) } else { status("DialCallStatus") };
                vec![Fact::ChildEnded(n, dial_end(how))]
            }
            Ask::Child(n) => match status("CallStatus") {
                Some(CarrierStatus::Ringing) => vec![Fact::ChildRings(n)],
                Some(CarrierStatus::InProgress) => vec![Fact::ChildAnswered(n)],
                _ => Vec::new(),
            },
            Ask::Wait => vec![Fact::CallerWaits],
            Ask::Queue => match self.param("QueueResult") {
                Some("bridged" | "bridging-in-process") => vec![Fact::Connected],
                Some("hangup") => vec![Fact::CallerEnded],
                Some("leave") | None => Vec::new(),
                Some(_) => vec![Fact::QueueFailed],
            },
            Ask::Connect(leg) if view.transfer.progress.leg == Some(leg) => vec![Fact::Connected],
            Ask::Key(leg) => match self.param("Digits") {
                Some(ACCEPT) => vec![Fact::Accepted(leg)],
                Some(DECLINE) => vec![Fact::NotAccepted(leg, Miss::Declined)],
                _ => Vec::new(),
            },
            Ask::Connect(_) | Ask::Over => Vec::new(),
        }
    }

    /// What is answered while the database is away: the same question a moment later.
    fn without_store(&self, documents: &Documents) -> Response {
        match self.ask {
            // Twilio tells news again.
            Ask::Child(_) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
            Ask::Wait => return xml(&transfer::hold(None)),
            Ask::Connect(_) => return xml(&twiml::Response::default()),
            Ask::Dial(_) | Ask::Queue | Ask::Key(_) | Ask::Over => {}
        }
        let moments: u32 = self.param(MOMENT).and_then(|text| text.parse().ok()).unwrap_or(0);
        if moments >= MOMENTS_MAX {
            return xml(&transfer::apology());
        }
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair(MOMENT, &(moments + 1).to_string());
        for name in ["DialCallStatus", "QueueResult", "Digits"] {
            if let Some(value) = self.param(name) {
                query.append_pair(name, value);
            }
        }
        xml(&transfer::one_moment(format!("{}?{}", documents.url(self.ask), query.finish())))
    }

    /// Our own update took the caller out of the queue.
    fn was_redirected(&self) -> bool {
        matches!(self.param("QueueResult"), Some("redirected" | "redirected-from-bridged"))
    }

    fn param(&self, name: &str) -> Option<&str> {
        let found = self.params.iter().rfind(|(known, value)| known == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }
}

fn dial_end(status: Option<CarrierStatus>) -> DialEnd {
    match status {
        Some(CarrierStatus::Completed) => DialEnd::Talked,
        Some(CarrierStatus::Busy) => DialEnd::Missed(Miss::Busy),
        Some(CarrierStatus::NoAnswer | CarrierStatus::Canceled) => DialEnd::Missed(Miss::NoAnswer),
        _ => DialEnd::Missed(Miss::Failed),
    }
}

/// An answer of TwiML; what cannot be written ends the call rather than leave somebody in silence.
pub(super) fn xml(document: &twiml::Response) -> Response {
    let xml = document.to_xml().unwrap_or_else(|error| {
        tracing::error!(%error, "cannot write TwiML");
        "<Response><Hangup/></Response>".to_owned()
    });
    ([(header::CONTENT_TYPE, "text/xml; charset=utf-8")], xml).into_response()
}
