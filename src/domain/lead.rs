//! A lead: a person to call; and what imports, clients and calls make of one.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::call::{AnsweredBy, CallState, Direction};
use super::{CallId, Phone, Timestamp, Violation, window};

/// Longest name, in characters.
pub const NAME_MAX_CHARS: usize = 200;
/// Largest attributes, in bytes of JSON.
pub const ATTRIBUTES_MAX_BYTES: usize = 8_192;
/// The most tags of a lead.
pub const TAGS_MAX: usize = 20;
/// The longest tag, in characters.
pub const TAG_MAX_CHARS: usize = 50;

super::state_words! {
    /// How far it got with a lead. Calls move it on from new to contacted; the last two are the
    /// client's.
    pub enum LeadStatus {
        /// Nobody talked to it.
        New = "new",
        /// Called, but not reached.
        Attempted = "attempted",
        /// Somebody talked.
        Contacted = "contacted",
        /// It did what was hoped for.
        Converted = "converted",
        /// It will not.
        Lost = "lost",
    }
}

super::state_words! {
    /// Where a lead came from first.
    pub enum LeadSource {
        /// `CreateLead` or `BatchCreateLeads`.
        Api = "api",
        /// `ImportLeads`.
        Import = "import",
        /// A job that named a person.
        Run = "run",
        /// A call with a phone that was no lead's.
        Call = "call",
    }
}

super::state_words! {
    /// What a client may change of a lead. The phone is what makes it this lead.
    pub enum LeadField {
        /// The name.
        Name = "name",
        /// The zone.
        TimeZone = "time_zone",
        /// All attributes.
        Attributes = "attributes",
        /// All tags.
        Tags = "tags",
        /// The status.
        Status = "status",
    }
}

/// What a client says of a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeadFacts {
    /// Unique within the tenant.
    pub phone: Phone,
    /// For people; may be empty.
    pub name: String,
    /// IANA name; none for the tenant's default.
    pub time_zone: Option<String>,
    /// Anything else, as a JSON object.
    pub attributes: Map<String, Value>,
    /// Words to find it by: see [`tags`].
    #[serde(default)]
    pub tags: Vec<String>,
}

impl LeadFacts {
    /// A lead of which only the phone is known.
    pub fn of(phone: Phone) -> Self {
        Self {
            phone,
            name: String::new(),
            time_zone: None,
            attributes: Map::new(),
            tags: Vec::new(),
        }
    }

    /// Checks lengths and the zone; names the field.
    pub fn check(&self) -> Result<(), Violation> {
        if self.name.chars().count() > NAME_MAX_CHARS {
            return Err(Violation::new("name", "is longer than 200 characters"));
        }
        if self.name.chars().any(char::is_control) {
            return Err(Violation::new("name", "must not contain control characters"));
        }
        if let Some(name) = &self.time_zone {
            window::zone(name)?;
        }
        if self.tags.len() > TAGS_MAX {
            return Err(Violation::new("tags", "has more than 20 items"));
        }
        // Nothing to measure is the usual case, and imports ask a million times.
        let size = || serde_json::to_vec(&self.attributes).map_or(usize::MAX, |json| json.len());
        if !self.attributes.is_empty() && size() > ATTRIBUTES_MAX_BYTES {
            return Err(Violation::new("attributes", "is larger than 8192 bytes of JSON"));
        }
        Ok(())
    }

    /// This lead with what `row` says of it: what the row leaves out stays, its attributes and tags
    /// are added.
    #[must_use]
    pub fn with(&self, row: &Self) -> Self {
        let mut next = self.clone();
        if !row.name.is_empty() {
            next.name.clone_from(&row.name);
        }
        if row.time_zone.is_some() {
            next.time_zone.clone_from(&row.time_zone);
        }
        next.attributes.extend(row.attributes.clone());
        next.tags.extend(row.tags.clone());
        next.tags.sort_unstable();
        next.tags.dedup();
        next
    }

    /// Which fields of `other` are not as here.
    pub fn differing(&self, other: &Self) -> Vec<LeadField> {
        let differs = |field: &LeadField| match field {
            LeadField::Name => self.name != other.name,
            LeadField::TimeZone => self.time_zone != other.time_zone,
            LeadField::Attributes => self.attributes != other.attributes,
            LeadField::Tags => self.tags != other.tags,
            LeadField::Status => false,
        };
        LeadField::ALL.iter().copied().filter(differs).collect()
    }
}

/// Tags as they are kept: lower case, sorted, each once.
pub fn tags(given: Vec<String>) -> Result<Vec<String>, Violation> {
    let mut tags = given.iter().map(|tag| tag_of(tag)).collect::<Result<Vec<_>, _>>()?;
    tags.sort_unstable();
    tags.dedup();
    if tags.len() > TAGS_MAX {
        Err(Violation::new("tags", "has more than 20 items"))
    } else {
        Ok(tags)
    }
}

/// A tag as it is kept.
pub fn tag_of(given: &str) -> Result<String, Violation> {
    let tag = given.trim().to_lowercase();
    let fits = !tag.is_empty() && tag.chars().count() <= TAG_MAX_CHARS;
    // Searched for in JSON, where these would be escaped.
    if fits && !tag.chars().any(|c| c.is_control() || matches!(c, '"' | '\\')) {
        Ok(tag)
    } else {
        Err(Violation::new(
            "tags",
            "each must be 1 to 50 characters, without quotation marks and backslashes",
        ))
    }
}

/// A call, as its lead remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastCall {
    /// Which.
    pub call_id: CallId,
    /// Which way it went.
    pub direction: Direction,
    /// Where it stands, or how it ended.
    pub state: CallState,
    /// When it began.
    pub at: Timestamp,
}

/// What moves with a lead's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// How far it got.
    pub status: LeadStatus,
    /// The latest call.
    pub last_call: Option<LastCall>,
}

impl Contact {
    /// Of a lead that was never called.
    pub const NONE: Self = Self { status: LeadStatus::New, last_call: None };

    /// What a call makes of it. Calls may come in any order, and again.
    #[must_use]
    pub fn after(self, call: &LastCall, answered_by: Option<AnsweredBy>) -> Self {
        let later = |known: &LastCall| (call.at, call.call_id) >= (known.at, known.call_id);
        let last_call =
            if self.last_call.as_ref().is_none_or(later) { Some(*call) } else { self.last_call };
        let by_person = matches!(answered_by, None | Some(AnsweredBy::Human | AnsweredBy::Unknown));
        let talked = matches!(call.state, CallState::Answered | CallState::Completed) && by_person;
        let status = match (self.status, talked) {
            (LeadStatus::New | LeadStatus::Attempted, true) => LeadStatus::Contacted,
            (LeadStatus::New, false) => LeadStatus::Attempted,
            (status, _) => status,
        };
        Self { status, last_call }
    }
}

/// One thing in a lead's history. Holds no personal data: it is kept apart from the lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeadChange {
    /// It is there.
    Created {
        /// From where.
        source: LeadSource,
    },
    /// Something about it changed.
    Updated {
        /// What.
        fields: Vec<LeadField>,
        /// The id of the key that did it, or `import`.
        actor: String,
    },
    /// It was called, or it called.
    Called {
        /// Which call.
        call_id: CallId,
        /// Which way it went.
        direction: Direction,
        /// How it ended.
        state: CallState,
        /// Seconds from answer to end, if it was answered.
        duration_s: Option<u32>,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call(n: u128, state: CallState) -> LastCall {
        LastCall {
            call_id: CallId(uuid::Uuid::from_u128(n)),
            direction: Direction::Outbound,
            state,
            at: Timestamp(n as i64),
        }
    }

    #[test]
    fn calls_move_the_status_on_and_never_back() {
        let missed = Contact::NONE.after(&call(1, CallState::NoAnswer), None);
        assert_eq!(missed.status, LeadStatus::Attempted);
        let machine = missed.after(&call(2, CallState::Completed), Some(AnsweredBy::MachineStart));
        assert_eq!(machine.status, LeadStatus::Attempted);
        let talked = machine.after(&call(3, CallState::Completed), None);
        assert_eq!(talked.status, LeadStatus::Contacted);
        assert_eq!(talked.after(&call(4, CallState::Busy), None).status, LeadStatus::Contacted);
        let lost = Contact { status: LeadStatus::Lost, ..talked };
        assert_eq!(lost.after(&call(5, CallState::Completed), None).status, LeadStatus::Lost);
    }

    proptest! {
        /// However calls arrive, and however often, the lead comes out the same.
        #[test]
        fn the_order_of_calls_does_not_matter(calls in prop::collection::vec((1u128..6, 0usize..2), 1..8)) {
            let states = [CallState::Completed, CallState::Busy];
            // One call has one ending here.
            let calls: Vec<_> = calls.iter().map(|(n, _)| call(*n, states[*n as usize % 2])).collect();
            let fold = |calls: &[LastCall]| calls.iter().fold(Contact::NONE, |c, call| c.after(call, None));
            let forth = fold(&calls);
            let mut back = calls.clone();
            back.reverse();
            back.extend(calls.clone());
            prop_assert_eq!(fold(&back), forth);
        }
    }

    #[test]
    fn a_row_adds_and_leaves_the_rest() {
        let known = LeadFacts {
            name: "Ann".into(),
            tags: vec!["b".into()],
            attributes: serde_json::from_str(r#"{"a":1,"b":2}"#).unwrap(),
            ..LeadFacts::of(Phone::from_stored("+14155550100".into()))
        };
        let row = LeadFacts {
            name: String::new(),
            time_zone: Some("UTC".into()),
            tags: vec!["a".into(), "b".into()],
            attributes: serde_json::from_str(r#"{"b":3}"#).unwrap(),
            ..known.clone()
        };
        let next = known.with(&row);
        assert_eq!((next.name.as_str(), next.tags.join(" ").as_str()), ("Ann", "a b"));
        assert_eq!(serde_json::to_string(&next.attributes).unwrap(), r#"{"a":1,"b":3}"#);
        let fields = [LeadField::TimeZone, LeadField::Attributes, LeadField::Tags];
        assert_eq!(known.differing(&next), fields);
        assert_eq!(next.differing(&next.with(&row)), []);
    }

    #[test]
    fn tags_are_words() {
        let tags = |given: &[&str]| tags(given.iter().map(|tag| (*tag).to_owned()).collect());
        assert_eq!(tags(&[" VIP ", "vip", "a b"]), Ok(vec!["a b".to_owned(), "vip".to_owned()]));
        for bad in ["", " ", "a\"b", "a\\b", "a\nb", &"x".repeat(51)] {
            assert_eq!(tags(&[bad]).unwrap_err().field, "tags", "{bad:?}");
        }
    }
}
