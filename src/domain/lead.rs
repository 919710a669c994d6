//! A lead: a person to call.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Phone, Violation, window};

/// Longest name, in characters.
pub const NAME_MAX_CHARS: usize = 200;
/// Largest attributes, in bytes of JSON.
pub const ATTRIBUTES_MAX_BYTES: usize = 8_192;

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
}

impl LeadFacts {
    /// A lead of which only the phone is known.
    pub fn of(phone: Phone) -> Self {
        Self { phone, name: String::new(), time_zone: None, attributes: Map::new() }
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
        let size = serde_json::to_vec(&self.attributes).map_or(usize::MAX, |json| json.len());
        if size > ATTRIBUTES_MAX_BYTES {
            return Err(Violation::new("attributes", "is larger than 8192 bytes of JSON"));
        }
        Ok(())
    }
}
