//! Endpoints for webhooks, and what was sent to them.

use std::time::Duration;

use super::{etag, masked, time};
use crate::domain::Violation;
use crate::domain::webhook::{Answer, WebhookField};
use crate::grpc::pb;
use crate::store::{DeliveryView, WebhookPatch, WebhookSettings, WebhookView};
use crate::webhooks::Attempt;

/// An endpoint's settings from the wire.
pub(in crate::grpc) fn read(settings: pb::WebhookSettings) -> WebhookSettings {
    let pb::WebhookSettings { url, event_types, description } = settings;
    WebhookSettings { url, event_types, description }
}

/// A change from the wire.
pub(in crate::grpc) fn patch(request: pb::UpdateWebhookRequest) -> Result<WebhookPatch, Violation> {
    let not_a_field = "must be one of url, event_types, description and enabled";
    let fields =
        masked(request.update_mask, WebhookField::ALL.len(), WebhookField::from_word, not_a_field)?;
    Ok(WebhookPatch {
        settings: read(request.settings.unwrap_or_default()),
        enabled: request.enabled,
        fields,
        revision: etag(&request.etag)?,
    })
}

/// An endpoint for the wire.
pub(in crate::grpc) fn write(view: WebhookView) -> pb::Webhook {
    let WebhookSettings { url, event_types, description } = view.settings;
    pb::Webhook {
        webhook_id: view.id.to_string(),
        settings: Some(pb::WebhookSettings { url, event_types, description }),
        // One that is being deleted is not shown.
        state: state(view.state),
        disabled_reason: view.disabled_reason.map(reason).unwrap_or_default(),
        failing_since_time: view.failing_since.and_then(time::write),
        old_secret_expire_time: view.previous_until.and_then(time::write),
        etag: view.revision.to_string(),
        create_time: time::write(view.created_at),
        update_time: time::write(view.updated_at),
    }
}

fn state(state: crate::domain::webhook::WebhookState) -> i32 {
    use crate::domain::webhook::WebhookState as D;
    match state {
        D::Enabled => pb::WebhookState::Enabled.into(),
        D::Disabled => pb::WebhookState::Disabled.into(),
        D::Deleted => pb::WebhookState::Unspecified.into(),
    }
}

super::enum_pairs! {
    reason, reason_of: crate::domain::webhook::DisabledReason => pb::WebhookDisabledReason {
        Client, Failing, Gone, Overflow
    }
}

super::enum_pairs! {
    delivery_state, delivery_state_of: crate::domain::webhook::DeliveryState => pb::WebhookDeliveryState {
        Queued, Delivered, Dead
    }
}

/// A delivery for the wire.
pub(in crate::grpc) fn write_delivery(view: DeliveryView) -> pb::WebhookDelivery {
    pb::WebhookDelivery {
        delivery_id: view.id.to_string(),
        event_type: view.event_type,
        subject: view.subject,
        state: delivery_state(view.state),
        attempts: view.attempts,
        status_code: view.status_code.unwrap_or_default(),
        latency: view.latency_ms.map(|ms| duration(Duration::from_millis(ms.into()))),
        last_error: view.last_error.unwrap_or_default(),
        next_attempt_time: time::write(view.next_at),
        body: view.body,
        create_time: time::write(view.created_at),
        update_time: time::write(view.updated_at),
    }
}

/// What became of a test, for the wire.
pub(in crate::grpc) fn write_attempt(attempt: Attempt) -> pb::TestWebhookResponse {
    let status_code = match attempt.answer {
        Answer::Status(status) => status.into(),
        Answer::None | Answer::Refused => 0,
    };
    let error = attempt.error.unwrap_or_default();
    pb::TestWebhookResponse { status_code, latency: Some(duration(attempt.took)), error }
}

fn duration(duration: Duration) -> prost_types::Duration {
    // An attempt is shorter than the ages that do not fit.
    prost_types::Duration::try_from(duration).unwrap_or_default()
}
