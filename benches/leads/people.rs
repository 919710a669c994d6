//! People who do not exist, with numbers that could: what a number costs to read depends on its
//! country's rules.

use std::collections::BTreeMap;

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use trunkline::grpc::pb::LeadFacts;

/// Area codes that are assigned.
const AREAS: [u16; 20] = [
    212, 213, 214, 305, 310, 312, 404, 408, 415, 503, 512, 602, 617, 650, 702, 713, 718, 813, 917,
    972,
];
/// The `n`th number. Exchanges begin with 220; the first 79 of them are no service codes.
pub fn phone(n: usize) -> String {
    let (area, rest) = (AREAS[n % AREAS.len()], n / AREAS.len());
    format!("+1{area}{}{:04}", 220 + rest / 10_000, rest % 10_000)
}

/// The `n`th person's name.
pub fn name(n: usize) -> String {
    format!("Person Number {n}")
}

/// The `n`th person.
pub fn facts(n: usize) -> LeadFacts {
    let plan = Value { kind: Some(Kind::StringValue("gold".into())) };
    LeadFacts {
        phone: phone(n),
        name: name(n),
        time_zone: "America/New_York".into(),
        attributes: Some(Struct { fields: BTreeMap::from([("plan".to_owned(), plan)]) }),
        ..LeadFacts::default()
    }
}
