//! Leads.

use serde_json::Map;

use super::{json, non_empty, time};
use crate::domain::lead::{ATTRIBUTES_MAX_BYTES, LeadFacts};
use crate::domain::{Phone, Violation};
use crate::grpc::pb;
use crate::store::LeadView;

/// A person from the wire; fields are named from the person on. A national phone is read with the region that the
/// client names, or else with the tenant's.
pub(in crate::grpc) fn read(facts: pb::LeadFacts, tenants: Option<&str>) -> Result<LeadFacts, Violation> {
    let region = non_empty(facts.default_region).or_else(|| tenants.map(str::to_owned));
    let phone = Phone::parse(&facts.phone, region.as_deref()).map_err(|violation| {
        let region_is_wrong = violation.field == "region";
        Violation::new(if region_is_wrong { "default_region" } else { "phone" }, violation.reason)
    })?;
    let attributes = match facts.attributes {
        Some(attributes) => json::read("attributes", attributes, ATTRIBUTES_MAX_BYTES)?,
        None => Map::new(),
    };
    let facts = LeadFacts { phone, name: facts.name, time_zone: non_empty(facts.time_zone), attributes };
    facts.check()?;
    Ok(facts)
}

/// A lead for the wire: whole, because it is for its owner.
pub(in crate::grpc) fn write(lead: LeadView) -> pb::Lead {
    let LeadView { id, facts, created_at, updated_at } = lead;
    pb::Lead {
        lead_id: id.to_string(),
        phone: facts.phone.expose().to_owned(),
        name: facts.name,
        time_zone: facts.time_zone.unwrap_or_default(),
        attributes: json::write(facts.attributes),
        create_time: time::write(created_at),
        update_time: time::write(updated_at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(phone: &str, default_region: &str) -> pb::LeadFacts {
        let (phone, default_region) = (phone.to_owned(), default_region.to_owned());
        pb::LeadFacts { phone, default_region, ..Default::default() }
    }

    #[test]
    fn names_the_field_as_the_proto_does() {
        let field = |facts| read(facts, None).unwrap_err().field;
        assert_eq!(field(facts("", "")), "phone");
        assert_eq!(field(facts("4158672671", "nowhere")), "default_region");
        assert_eq!(
            field(pb::LeadFacts { time_zone: "Mars/Base".into(), ..facts("+14158672671", "") }),
            "time_zone"
        );
        assert_eq!(field(pb::LeadFacts { name: "x".repeat(201), ..facts("+14158672671", "") }), "name");
        assert_eq!(read(facts("(415) 867-2671", "US"), None).unwrap().phone.expose(), "+14158672671");
        let of_tenant = |facts| read(facts, Some("GB")).unwrap().phone.expose().to_owned();
        assert_eq!(of_tenant(facts("020 7946 0018", "")), "+442079460018");
        assert_eq!(of_tenant(facts("(415) 867-2671", "US")), "+14158672671");
        assert_eq!(of_tenant(facts("+14158672671", "")), "+14158672671");
    }

    #[test]
    fn reasons_never_hold_the_phone() {
        let violation = read(facts("+1415867267199", ""), None).unwrap_err();
        assert!(!violation.to_string().contains("1415867"), "{violation}");
    }
}
