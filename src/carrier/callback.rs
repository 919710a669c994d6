//! Twilio's callbacks about a call, as types.
//!
//! What names the call must be right, or the callback is refused. What only informs is left out
//! when it cannot be read: a new spelling at Twilio must not cost us the end of a call.

use crate::domain::call::{AnsweredBy, CarrierStatus};
use crate::domain::{AccountSid, CallSid, Phone, Timestamp, Violation};

use super::wire;

/// Twilio sends about 30 parameters.
pub const PARAMS_MAX: usize = 128;
/// The longest value that is looked at, in bytes.
pub const VALUE_MAX_BYTES: usize = 8 * 1024;

/// A call's progress. <https://www.twilio.com/docs/voice/api/call-resource#statuscallback>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusCallback {
    /// Which call.
    pub call_sid: CallSid,
    /// Whose call.
    pub account_sid: AccountSid,
    /// Where it stands.
    pub status: CarrierStatus,
    /// The order in which Twilio's events happened, from 0; they arrive in any order.
    pub sequence_number: Option<u32>,
    /// When it happened, whole seconds.
    pub timestamp: Option<Timestamp>,
    /// How long the call lasted, in seconds; once it is completed.
    pub call_duration_s: Option<u32>,
    /// Who or what answered.
    pub answered_by: Option<AnsweredBy>,
    /// Who called; none when it is no E.164 number.
    pub from: Option<Phone>,
    /// Who was called; none when it is no E.164 number.
    pub to: Option<Phone>,
    /// The SIP code of the far end, 100 to 699.
    pub sip_response_code: Option<u16>,
    /// Twilio's error code. <https://www.twilio.com/docs/api/errors>
    pub error_code: Option<u32>,
}

impl StatusCallback {
    /// Reads the decoded form parameters of a status callback whose signature was verified.
    ///
    /// # Errors
    /// A [`Violation`] when there are too many parameters, or the SIDs, the status or the sequence
    /// number cannot be read.
    pub fn parse(params: &[(String, String)]) -> Result<Self, Violation> {
        let params = Params::new(params)?;
        Ok(Self {
            call_sid: params.required("CallSid")?.parse()?,
            account_sid: params.required("AccountSid")?.parse()?,
            status: CarrierStatus::from_word(params.required("CallStatus")?)
                .ok_or_else(|| Violation::new("CallStatus", "is not a status of Twilio's"))?,
            sequence_number: params
                .get("SequenceNumber")
                .map(|text| {
                    text.parse().map_err(|_| {
                        Violation::new("SequenceNumber", "must be a small whole number")
                    })
                })
                .transpose()?,
            timestamp: params.get("Timestamp").and_then(wire::parse_rfc2822),
            call_duration_s: params.number("CallDuration"),
            answered_by: params.get("AnsweredBy").and_then(wire::answered_by),
            from: params.get("From").and_then(wire::e164),
            to: params.get("To").and_then(wire::e164),
            sip_response_code: params
                .number("SipResponseCode")
                .filter(|code| (100..700).contains(code)),
            error_code: params.number("ErrorCode"),
        })
    }
}

/// Who answered, reported while the call goes on.
/// <https://www.twilio.com/docs/voice/answering-machine-detection#asyncamdstatuscallback>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmdCallback {
    /// Which call.
    pub call_sid: CallSid,
    /// Whose call.
    pub account_sid: AccountSid,
    /// Who or what answered; a word that we do not know reads as unknown.
    pub answered_by: AnsweredBy,
    /// How long detection took, in milliseconds.
    pub machine_detection_duration_ms: Option<u32>,
}

impl AmdCallback {
    /// Reads the decoded form parameters of an AMD callback whose signature was verified.
    ///
    /// # Errors
    /// A [`Violation`] when there are too many parameters, the SIDs cannot be read, or nothing says
    /// who answered.
    pub fn parse(params: &[(String, String)]) -> Result<Self, Violation> {
        let params = Params::new(params)?;
        Ok(Self {
            call_sid: params.required("CallSid")?.parse()?,
            account_sid: params.required("AccountSid")?.parse()?,
            answered_by: wire::answered_by(params.required("AnsweredBy")?)
                .unwrap_or(AnsweredBy::Unknown),
            machine_detection_duration_ms: params.number("MachineDetectionDuration"),
        })
    }
}

struct Params<'a>(&'a [(String, String)]);

impl<'a> Params<'a> {
    fn new(params: &'a [(String, String)]) -> Result<Self, Violation> {
        if params.len() > PARAMS_MAX {
            return Err(Violation::new("params", "are more than 128"));
        }
        if params.iter().any(|(_, value)| value.len() > VALUE_MAX_BYTES) {
            return Err(Violation::new("params", "hold a value of more than 8 KiB"));
        }
        Ok(Self(params))
    }

    /// The value of `name`; an empty one is as good as none.
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    fn required(&self, name: &'static str) -> Result<&'a str, Violation> {
        self.get(name).ok_or_else(|| Violation::new(name, "is required"))
    }

    fn number<N: std::str::FromStr>(&self, name: &str) -> Option<N> {
        self.get(name)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn params(extra: &[(&str, &str)]) -> Vec<(String, String)> {
        let base = [
            ("CallSid", "CA0123456789abcdef0123456789abcdef"),
            ("AccountSid", "AC0123456789abcdef0123456789abcdef"),
            ("CallStatus", "in-progress"),
        ];
        // What comes first wins, so the extras stand before.
        extra.iter().chain(&base).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn reads_what_twilio_sends() {
        let read = StatusCallback::parse(&params(&[
            ("From", "+15005550006"),
            ("To", "sip:bob@example.test"),
            ("SequenceNumber", "2"),
            ("Timestamp", "Fri, 18 Oct 2019 17:00:00 +0000"),
            ("AnsweredBy", "machine_end_beep"),
            ("SipResponseCode", "200"),
            ("CallDuration", "soon"),
        ]))
        .unwrap();
        assert_eq!(read.status, CarrierStatus::InProgress);
        assert_eq!(read.sequence_number, Some(2));
        assert_eq!(read.timestamp, Some(Timestamp::from_secs(1_571_418_000)));
        assert_eq!(read.answered_by, Some(AnsweredBy::MachineEndBeep));
        assert_eq!(read.sip_response_code, Some(200));
        assert_eq!((read.to, read.call_duration_s), (None, None));
    }

    #[test]
    fn refuses_what_names_no_call() {
        for (name, value) in [
            ("CallSid", "CA 1"),
            ("AccountSid", "AC!"),
            ("CallStatus", "exploded"),
            ("SequenceNumber", "-1"),
            ("SequenceNumber", "99999999999"),
        ] {
            let error = StatusCallback::parse(&params(&[(name, value)])).unwrap_err();
            assert!(!error.to_string().contains(value), "{error}");
        }
        let many = vec![("a".to_owned(), String::new()); PARAMS_MAX + 1];
        assert!(StatusCallback::parse(&many).is_err());
        assert!(AmdCallback::parse(&params(&[])).is_err());
        assert!(AmdCallback::parse(&params(&[("AnsweredBy", "parrot")])).is_ok());
    }

    proptest! {
        #[test]
        fn never_panics(given in proptest::collection::vec((".{0,20}", ".{0,40}"), 0..20), status in ".{0,12}") {
            let mut all = params(&[("CallStatus", status.as_str())]);
            all.extend(given.iter().cloned());
            let _ = StatusCallback::parse(&given);
            let _ = StatusCallback::parse(&all);
            let _ = AmdCallback::parse(&all);
        }
    }
}
