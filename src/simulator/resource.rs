//! A call in Twilio's JSON. <https://www.twilio.com/docs/voice/api/call-resource#call-properties>

use serde_json::{Value, json};

use crate::carrier::wire::{answered_by_word, format_rfc2822};
use crate::domain::Timestamp;
use crate::domain::call::CarrierStatus;

use super::ledger::Entry;

/// The resource; numbers are strings and what is unknown is null, as Twilio has it.
pub(crate) fn call(entry: &Entry) -> Value {
    let date = |at: Option<Timestamp>| at.map(format_rfc2822);
    let started = entry.at(CarrierStatus::Initiated);
    let queue_time_ms = started.map_or(0, |at| at.since(entry.arrived_at_us).as_millis());
    let path = format!("/2010-04-01/Accounts/{}/Calls/{}", entry.account_sid, entry.sid);
    let updated = entry.steps.last().map(|step| step.at_us);
    json!({
        "account_sid": entry.account_sid,
        "answered_by": entry.answered_by.map(answered_by_word),
        "api_version": "2010-04-01",
        "caller_name": null,
        "date_created": format_rfc2822(entry.arrived_at_us),
        "date_updated": date(updated),
        "direction": entry.direction(),
        "duration": entry.duration_s.map(|s| s.to_string()),
        "end_time": date(entry.ended_at_us),
        "forwarded_from": null,
        "from": entry.from,
        "from_formatted": entry.from,
        "group_sid": null,
        "parent_call_sid": entry.parent_sid,
        "phone_number_sid": null,
        "price": null,
        "price_unit": "USD",
        "queue_time": queue_time_ms.to_string(),
        "sid": entry.sid,
        "start_time": date(started),
        "status": status(entry.status).as_str(),
        "subresource_uris": { "events": format!("{path}/Events.json"), "recordings": format!("{path}/Recordings.json") },
        "to": entry.to,
        "to_formatted": entry.to,
        "trunk_sid": null,
        "uri": format!("{path}.json"),
    })
}

/// `initiated` is a word of callbacks only; in the resource such a call is still queued.
pub(crate) const fn status(status: CarrierStatus) -> CarrierStatus {
    match status {
        CarrierStatus::Initiated => CarrierStatus::Queued,
        CarrierStatus::Queued
        | CarrierStatus::Ringing
        | CarrierStatus::InProgress
        | CarrierStatus::Completed
        | CarrierStatus::Busy
        | CarrierStatus::NoAnswer
        | CarrierStatus::Canceled
        | CarrierStatus::Failed => status,
    }
}
