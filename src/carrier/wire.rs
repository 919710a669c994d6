//! Twilio's JSON and its dates, as types.

use serde::{Deserialize, Deserializer};

use crate::domain::call::{AnsweredBy, CarrierStatus};
use crate::domain::{CallSid, Phone, QueueSid, Timestamp};

use super::error::Error;

/// A call as Twilio describes it.
/// <https://www.twilio.com/docs/voice/api/call-resource#call-properties>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallResource {
    /// The call's name.
    pub sid: CallSid,
    /// Where it stands.
    pub status: CarrierStatus,
    /// `outbound-api`, `outbound-dial`, `inbound` and others; as given.
    pub direction: String,
    /// Who was called; none when it is no E.164 number (a client, a SIP address).
    pub to: Option<Phone>,
    /// Who called; none when it is no E.164 number.
    pub from: Option<Phone>,
    /// When dialing began, whole seconds.
    pub start_time: Option<Timestamp>,
    /// When the call ended, whole seconds.
    pub end_time: Option<Timestamp>,
    /// When the call was created, whole seconds.
    pub date_created: Option<Timestamp>,
    /// How long it lasted, in seconds.
    pub duration_s: Option<u32>,
    /// Who or what answered.
    pub answered_by: Option<AnsweredBy>,
    /// How long the carrier held the call before dialing, in milliseconds.
    pub queue_time_ms: Option<u64>,
    /// The call that this one is a leg of.
    pub parent_call_sid: Option<CallSid>,
}

/// One page of a list of calls, newest first.
#[derive(Clone, PartialEq, Eq)]
pub struct CallPage {
    /// The calls.
    pub calls: Vec<CallResource>,
    /// Where the next page is; opaque, for [`ListCalls::page`](super::ListCalls::page).
    pub next_page: Option<String>,
}

/// Whether there is a next page, not where: its address repeats the filters, phone numbers among
/// them.
impl std::fmt::Debug for CallPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let more = self.next_page.is_some();
        f.debug_struct("CallPage")
            .field("calls", &self.calls)
            .field("more", &more)
            .finish_non_exhaustive()
    }
}

/// A queue as Twilio describes it.
/// <https://www.twilio.com/docs/voice/api/queue-resource#queue-properties>
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct QueueResource {
    /// The queue's name at Twilio.
    pub sid: QueueSid,
    /// The name that `<Enqueue>` and `<Dial><Queue>` give.
    pub friendly_name: String,
    /// How many calls wait.
    pub current_size: u32,
}

/// One page of a list of queues.
pub(crate) struct QueuePage {
    pub queues: Vec<QueueResource>,
    pub next_page: Option<String>,
}

/// Twilio says numbers as strings; compatible carriers do not always.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Number(serde_json::Number),
}

fn scalar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Scalar>::deserialize(deserializer)?.map(|scalar| match scalar {
        Scalar::Text(text) => text,
        Scalar::Number(number) => number.to_string(),
    }))
}

#[derive(Deserialize)]
struct RawCall {
    sid: String,
    status: Option<String>,
    direction: Option<String>,
    to: Option<String>,
    from: Option<String>,
    start_time: Option<String>,
    end_time: Option<String>,
    date_created: Option<String>,
    #[serde(default, deserialize_with = "scalar")]
    duration: Option<String>,
    answered_by: Option<String>,
    #[serde(default, deserialize_with = "scalar")]
    queue_time: Option<String>,
    parent_call_sid: Option<String>,
}

#[derive(Deserialize)]
struct RawPage {
    calls: Vec<RawCall>,
    next_page_uri: Option<String>,
}

#[derive(Deserialize)]
struct RawConferences {
    conferences: Vec<RawConference>,
}

#[derive(Deserialize)]
struct RawConference {
    sid: String,
    status: String,
}

#[derive(Deserialize)]
struct RawQueues {
    queues: Vec<QueueResource>,
    next_page_uri: Option<String>,
}

#[derive(Deserialize)]
struct RawError {
    #[serde(default, deserialize_with = "scalar")]
    code: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct RawCreated {
    sid: String,
    status: Option<String>,
}

impl TryFrom<RawCall> for CallResource {
    type Error = Error;

    fn try_from(raw: RawCall) -> Result<Self, Error> {
        let protocol =
            |what: &str| Error::Protocol { reason: format!("a call with an unreadable {what}") };
        Ok(Self {
            sid: raw.sid.parse().map_err(|_| protocol("sid"))?,
            status: raw
                .status
                .as_deref()
                .and_then(CarrierStatus::from_word)
                .ok_or_else(|| protocol("status"))?,
            direction: raw.direction.unwrap_or_default(),
            to: raw.to.as_deref().and_then(e164),
            from: raw.from.as_deref().and_then(e164),
            start_time: raw.start_time.as_deref().and_then(parse_rfc2822),
            end_time: raw.end_time.as_deref().and_then(parse_rfc2822),
            date_created: raw.date_created.as_deref().and_then(parse_rfc2822),
            duration_s: raw.duration.and_then(|text| text.parse().ok()),
            answered_by: raw.answered_by.as_deref().and_then(answered_by),
            queue_time_ms: raw.queue_time.and_then(|text| text.parse().ok()),
            parent_call_sid: raw.parent_call_sid.and_then(|sid| sid.parse().ok()),
        })
    }
}

fn from_json<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Error> {
    // serde's message may quote the value, and the value may be a phone number: say only where it
    // is.
    serde_json::from_slice(body).map_err(|error| Error::Protocol {
        reason: format!("unreadable JSON at line {} column {}", error.line(), error.column()),
    })
}

/// Reads a call resource.
pub(crate) fn parse_call(body: &[u8]) -> Result<CallResource, Error> {
    from_json::<RawCall>(body)?.try_into()
}

/// Reads a page of calls.
pub(crate) fn parse_page(body: &[u8]) -> Result<CallPage, Error> {
    let raw: RawPage = from_json(body)?;
    let calls = raw.calls.into_iter().map(CallResource::try_from).collect::<Result<_, _>>()?;
    Ok(CallPage { calls, next_page: raw.next_page_uri.filter(|uri| !uri.is_empty()) })
}

/// Reads a page of queues.
pub(crate) fn parse_queues(body: &[u8]) -> Result<QueuePage, Error> {
    let raw: RawQueues = from_json(body)?;
    Ok(QueuePage { queues: raw.queues, next_page: raw.next_page_uri.filter(|uri| !uri.is_empty()) })
}

/// Reads the SIDs of a page of conferences, but for those that are over.
pub(crate) fn parse_conferences(body: &[u8]) -> Result<Vec<String>, Error> {
    let RawConferences { mut conferences } = from_json(body)?;
    conferences.retain(|conference| conference.status != "completed");
    Ok(conferences.into_iter().map(|conference| conference.sid).collect())
}

/// Reads what matters in the answer to a create: once the SID is known, nothing else may spoil it.
pub(crate) fn parse_created(body: &[u8]) -> Option<(CallSid, CarrierStatus)> {
    let raw: RawCreated = serde_json::from_slice(body).ok()?;
    let status =
        raw.status.as_deref().and_then(CarrierStatus::from_word).unwrap_or(CarrierStatus::Queued);
    Some((raw.sid.parse().ok()?, status))
}

/// Reads Twilio's error body: its code and its unmasked message; none when it is not shaped as
/// Twilio's. <https://www.twilio.com/docs/usage/twilios-response#response-formats-exceptions>
pub(crate) fn parse_error(body: &[u8]) -> Option<(u32, String)> {
    let raw: RawError = serde_json::from_slice(body).ok()?;
    Some((raw.code?.parse().ok()?, raw.message?))
}

/// An E.164 number as the carrier writes it, or none. Twilio's own numbers need no second
/// judgement.
pub(crate) fn e164(text: &str) -> Option<Phone> {
    let digits = text.strip_prefix('+')?;
    let fits = (5..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    (fits && !digits.starts_with('0')).then(|| Phone::from_stored(text.to_owned()))
}

/// Twilio's word for who answered, or none for a word that we do not know.
pub(crate) fn answered_by(word: &str) -> Option<AnsweredBy> {
    Some(match word {
        "human" => AnsweredBy::Human,
        "machine_start" => AnsweredBy::MachineStart,
        "machine_end_beep" => AnsweredBy::MachineEndBeep,
        "machine_end_silence" => AnsweredBy::MachineEndSilence,
        "machine_end_other" => AnsweredBy::MachineEndOther,
        "fax" => AnsweredBy::Fax,
        "unknown" => AnsweredBy::Unknown,
        _ => return None,
    })
}

/// Twilio's word for `answered_by`.
pub const fn answered_by_word(answered_by: AnsweredBy) -> &'static str {
    match answered_by {
        AnsweredBy::Human => "human",
        AnsweredBy::MachineStart => "machine_start",
        AnsweredBy::MachineEndBeep => "machine_end_beep",
        AnsweredBy::MachineEndSilence => "machine_end_silence",
        AnsweredBy::MachineEndOther => "machine_end_other",
        AnsweredBy::Fax => "fax",
        AnsweredBy::Unknown => "unknown",
    }
}

/// Reads an RFC 2822 date, `Fri, 18 Oct 2019 17:00:00 +0000`.
pub fn parse_rfc2822(text: &str) -> Option<Timestamp> {
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    parser.parse_timestamp(text).ok().map(|at| Timestamp::from_micros(at.as_microsecond()))
}

/// Writes an RFC 2822 date as Twilio does: UTC, whole seconds, `+0000`.
pub fn format_rfc2822(at: Timestamp) -> String {
    civil(at.micros().div_euclid(1_000_000)).strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// Reads Twilio's list filters: an RFC 3339 instant or a UTC date.
pub fn parse_iso(text: &str) -> Option<Timestamp> {
    let at = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let date = text.parse::<jiff::civil::Date>().ok()?;
        Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    })?;
    Some(Timestamp::from_micros(at.as_microsecond()))
}

pub(crate) fn iso_seconds(seconds: i64) -> String {
    civil(seconds).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn civil(seconds: i64) -> jiff::Timestamp {
    // Beyond jiff's years -9999 to 9999 there is nothing to call; the epoch stands in.
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_go_both_ways() {
        let at = parse_rfc2822("Fri, 18 Oct 2019 17:00:00 +0000").unwrap();
        assert_eq!(at, Timestamp::from_secs(1_571_418_000));
        assert_eq!(format_rfc2822(at), "Fri, 18 Oct 2019 17:00:00 +0000");
        assert_eq!(parse_iso("2019-10-18T17:00:00Z"), Some(at));
        assert_eq!(parse_iso(&iso_seconds(1_571_418_000)), Some(at));
        assert_eq!(parse_iso("2019-10-18"), Some(Timestamp::from_secs(1_571_356_800)));
        assert_eq!(parse_rfc2822("yesterday"), None);
        assert_eq!(format_rfc2822(Timestamp::NEVER).len(), 31);
    }

    #[test]
    fn a_call_reads_as_twilio_writes_it() {
        let body = br#"{"sid":"CAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","status":"completed","direction":"outbound-api",
            "to":"+13051913581","from":"client:bob","duration":"4","queue_time":1000,"answered_by":"machine_start",
            "start_time":"Fri, 18 Oct 2019 17:02:00 +0000","end_time":null,"price":"-0.200"}"#;
        let call = parse_call(body).unwrap();
        assert_eq!(call.duration_s, Some(4));
        assert_eq!(call.queue_time_ms, Some(1000));
        assert_eq!(call.answered_by, Some(AnsweredBy::MachineStart));
        assert_eq!(call.from, None);
        assert!(call.to.is_some() && call.start_time.is_some() && call.end_time.is_none());
        assert!(matches!(parse_call(b"{\"sid\":\"x\"}"), Err(Error::Protocol { .. })));
        assert!(matches!(parse_call(b"<html>"), Err(Error::Protocol { .. })));
    }

    #[test]
    fn queues_read_as_twilio_writes_them() {
        let page = parse_queues(
            br#"{"end":0,"next_page_uri":null,"page":0,"queues":[{"account_sid":"ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "average_wait_time":0,"current_size":3,"friendly_name":"hold","max_size":100,
            "sid":"QUaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}]}"#,
        )
        .unwrap();
        assert_eq!(
            (page.queues[0].friendly_name.as_str(), page.queues[0].current_size),
            ("hold", 3)
        );
    }

    #[test]
    fn conferences_that_are_over_are_left_out() {
        let body = br#"{"page":0,"conferences":[
            {"sid":"CFaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","status":"completed","friendly_name":"a"},
            {"sid":"CFbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","status":"in-progress","friendly_name":"a"}]}"#;
        assert_eq!(
            parse_conferences(body),
            Ok(vec!["CFbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb".to_owned()])
        );
        assert!(matches!(parse_conferences(b"{}"), Err(Error::Protocol { .. })));
    }

    #[test]
    fn only_twilios_errors_are_twilios() {
        assert_eq!(parse_error(br#"{"code":21211,"message":"m"}"#), Some((21211, "m".into())));
        for other in [&br#"{"code":null,"message":"m"}"#[..], br#"{"message":"m"}"#, b"<html>", b""]
        {
            assert_eq!(parse_error(other), None);
        }
    }
}
