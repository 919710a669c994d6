//! Leads.

use serde_json::Map;

use super::{call, each, enum_pairs, json, non_empty, time};
use crate::domain::lead::{
    ATTRIBUTES_MAX_BYTES, LeadChange, LeadFacts, LeadField, LeadSource, LeadStatus, tag_of, tags,
};
use crate::domain::{Phone, Violation};
use crate::grpc::pb;
use crate::store::{LeadEventView, LeadFilter, LeadPatch, LeadView};

/// The longest text searched for, in characters.
const TEXT_MAX_CHARS: usize = 100;
/// The most paths of a mask: a lead's attributes have no more names than bytes, and no client
/// changes so many.
const PATHS_MAX: usize = 100;

enum_pairs!(status, status_of: LeadStatus => pb::LeadStatus { New, Attempted, Contacted, Converted, Lost });
enum_pairs!(source, source_of: LeadSource => pb::LeadSource { Api, Import, Run, Call });

/// A person from the wire; fields are named from the person on. `region` is for a phone that names
/// none.
pub(in crate::grpc) fn read(
    facts: pb::LeadFacts,
    region: Option<&str>,
) -> Result<LeadFacts, Violation> {
    let own = non_empty(facts.default_region);
    let facts = LeadFacts {
        phone: phone(&facts.phone, own.as_deref().or(region))?,
        name: facts.name,
        time_zone: non_empty(facts.time_zone),
        attributes: attributes(facts.attributes)?,
        tags: tags(facts.tags)?,
    };
    facts.check()?;
    Ok(facts)
}

/// A phone from the wire; a violation names `phone` or `default_region`.
pub(in crate::grpc) fn phone(text: &str, region: Option<&str>) -> Result<Phone, Violation> {
    Phone::parse(text, region).map_err(|violation| {
        let region_is_wrong = violation.field == "region";
        Violation::new(if region_is_wrong { "default_region" } else { "phone" }, violation.reason)
    })
}

/// The beginning of phones that are looked for; none for an empty one.
pub(in crate::grpc) fn phone_prefix(text: String) -> Result<Option<String>, Violation> {
    let prefix = non_empty(text);
    if let Some(prefix) = &prefix {
        let digits = prefix.strip_prefix('+').unwrap_or("x");
        if digits.len() > 15 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Violation::new("phone_prefix", "must be + and at most 15 digits"));
        }
    }
    Ok(prefix)
}

fn attributes(
    from: Option<prost_types::Struct>,
) -> Result<Map<String, serde_json::Value>, Violation> {
    from.map_or(Ok(Map::new()), |attributes| {
        json::read("attributes", attributes, ATTRIBUTES_MAX_BYTES)
    })
}

/// A lead for the wire: whole, because it is for its owner.
pub(in crate::grpc) fn write(lead: LeadView) -> pb::Lead {
    let LeadView { id, facts, contact, source: from, revision, created_at, updated_at } = lead;
    pb::Lead {
        lead_id: id.to_string(),
        phone: facts.phone.expose().to_owned(),
        name: facts.name,
        time_zone: facts.time_zone.unwrap_or_default(),
        attributes: json::write(facts.attributes),
        create_time: time::write(created_at),
        update_time: time::write(updated_at),
        tags: facts.tags,
        status: status(contact.status),
        source: source(from),
        last_call: contact.last_call.map(|last| pb::LastCall {
            call_id: last.call_id.to_string(),
            direction: call::direction(last.direction),
            state: call::state(last.state),
            time: time::write(last.at),
        }),
        etag: revision.to_string(),
    }
}

/// Which leads; names fields from the filter on.
pub(in crate::grpc) fn filter(from: pb::LeadFilter) -> Result<LeadFilter, Violation> {
    let phone_prefix = phone_prefix(from.phone_prefix)?;
    if from.text.chars().count() > TEXT_MAX_CHARS {
        return Err(Violation::new("text", "is longer than 100 characters"));
    }
    let tag = non_empty(from.tag).map(|tag| tag_of(&tag)).transpose();
    Ok(LeadFilter {
        phone: None,
        statuses: each("statuses", &from.statuses, status_of)?,
        sources: each("sources", &from.sources, source_of)?,
        tag: tag.map_err(|violation| Violation::new("tag", violation.reason))?,
        phone_prefix,
        text: non_empty(from.text),
        created_from: time::read_some("created_from", from.created_from)?,
        created_until: time::read_some("created_until", from.created_until)?,
    })
}

/// A patch from the wire. Only what the mask names is read.
pub(in crate::grpc) fn patch(request: pb::UpdateLeadRequest) -> Result<LeadPatch, Violation> {
    let paths = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
    if !(1..=PATHS_MAX).contains(&paths.len()) {
        return Err(Violation::new("update_mask", "must name 1 to 100 fields"));
    }
    let given = request.lead.unwrap_or_default();
    let mut patch = LeadPatch {
        // Not looked at: the phone is what makes it this lead.
        facts: LeadFacts::of(Phone::from_stored(String::new())),
        status: LeadStatus::New,
        fields: Vec::new(),
        attributes: Vec::new(),
        seen: super::etag(&request.etag)?,
    };
    let mut all = None;
    for (i, path) in paths.iter().enumerate() {
        if let Some(name) = path.strip_prefix("attributes.").filter(|name| !name.is_empty()) {
            let all = match &mut all {
                Some(all) => all,
                none => {
                    none.insert(attributes(given.attributes.clone()).map_err(|v| v.under("lead"))?)
                }
            };
            patch.attributes.push((name.to_owned(), all.get(name).cloned()));
            continue;
        }
        let field = LeadField::from_word(path).ok_or_else(|| {
            let reason = "must be name, time_zone, attributes, attributes.NAME, tags or status";
            Violation::new(format!("update_mask.paths[{i}]"), reason)
        })?;
        match field {
            LeadField::Name => patch.facts.name.clone_from(&given.name),
            LeadField::TimeZone => patch.facts.time_zone = non_empty(given.time_zone.clone()),
            LeadField::Attributes => {
                patch.facts.attributes =
                    attributes(given.attributes.clone()).map_err(|v| v.under("lead"))?;
            }
            LeadField::Tags => {
                patch.facts.tags =
                    tags(given.tags.clone()).map_err(|violation| violation.under("lead"))?;
            }
            LeadField::Status => {
                let unset =
                    || Violation::new("status", "is required, because update_mask names it");
                patch.status = status_of(request.status).ok_or_else(unset)?;
            }
        }
        patch.fields.push(field);
    }
    patch.facts.check().map_err(|violation| violation.under("lead"))?;
    Ok(patch)
}

/// An entry of a history for the wire.
pub(in crate::grpc) fn event(view: LeadEventView) -> pb::LeadEvent {
    use pb::lead_event::{Called, Created, Kind, Updated};
    let kind = match view.change {
        LeadChange::Created { source: from } => Kind::Created(Created { source: source(from) }),
        LeadChange::Updated { fields, actor } => {
            let fields = fields.iter().map(|field| field.as_str().to_owned()).collect();
            Kind::Updated(Updated { fields, actor })
        }
        LeadChange::Called { call_id, direction, state, duration_s } => Kind::Called(Called {
            call_id: call_id.to_string(),
            direction: call::direction(direction),
            state: call::state(state),
            duration: duration_s.map(time::write_seconds),
        }),
    };
    pb::LeadEvent { time: time::write(view.at), kind: Some(kind) }
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
        assert_eq!(
            field(pb::LeadFacts { name: "x".repeat(201), ..facts("+14158672671", "") }),
            "name"
        );
        assert_eq!(
            field(pb::LeadFacts { tags: vec!["\"".into()], ..facts("+14158672671", "") }),
            "tags"
        );
    }

    #[test]
    fn the_nearest_region_counts() {
        let phone =
            |own, default| read(facts("(415) 867-2671", own), default).map(|lead| lead.phone);
        assert_eq!(phone("US", None).unwrap().expose(), "+14158672671");
        assert_eq!(phone("", Some("US")).unwrap().expose(), "+14158672671");
        assert_eq!(phone("US", Some("DE")).unwrap().expose(), "+14158672671");
        assert!(phone("", None).is_err());
    }

    #[test]
    fn reasons_never_hold_the_phone() {
        let violation = read(facts("+1415867267199", ""), None).unwrap_err();
        assert!(!violation.to_string().contains("1415867"), "{violation}");
    }

    #[test]
    fn a_mask_takes_what_it_names() {
        let update = |paths: &[&str]| pb::UpdateLeadRequest {
            lead: Some(pb::LeadFacts {
                name: "Ann".into(),
                time_zone: "Mars/Base".into(),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            }),
            etag: "7".into(),
            ..Default::default()
        };
        let name = patch(update(&["name"])).unwrap();
        assert_eq!(
            (name.facts.name.as_str(), name.facts.time_zone, name.seen),
            ("Ann", None, Some(7))
        );
        assert_eq!(patch(update(&["attributes.a"])).unwrap().attributes, [("a".to_owned(), None)]);
        let field = |paths| patch(update(paths)).unwrap_err().field;
        assert_eq!(field(&[]), "update_mask");
        assert_eq!(field(&["name", "phone"]), "update_mask.paths[1]");
        assert_eq!(field(&["attributes."]), "update_mask.paths[0]");
        assert_eq!(field(&["time_zone"]), "lead.time_zone");
        assert_eq!(field(&["status"]), "status");
        let bad = pb::UpdateLeadRequest { etag: "x".into(), ..update(&["name"]) };
        assert_eq!(patch(bad).unwrap_err().field, "etag");
    }

    #[test]
    fn filters_are_checked() {
        let field = |given| filter(given).unwrap_err().field;
        let of =
            |prefix: &str| pb::LeadFilter { phone_prefix: prefix.into(), ..Default::default() };
        assert_eq!(field(of("1415")), "phone_prefix");
        assert_eq!(field(of("+1%")), "phone_prefix");
        assert_eq!(
            field(pb::LeadFilter { statuses: vec![0], ..Default::default() }),
            "statuses[0]"
        );
        assert_eq!(field(pb::LeadFilter { tag: "\\".into(), ..Default::default() }), "tag");
        assert_eq!(filter(pb::LeadFilter::default()), Ok(LeadFilter::default()));
    }
}
