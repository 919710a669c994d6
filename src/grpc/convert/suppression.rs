//! Suppressions.

use super::{each, enum_pairs, lead, non_empty, time};
use crate::domain::suppression::{
    NewSuppression, SuppressionChange, SuppressionReason, SuppressionSource,
};
use crate::domain::{Phone, Violation};
use crate::grpc::pb;
use crate::grpc::pb::add_suppressions_response::Result as Added;
use crate::store::{SuppressionAdded, SuppressionFilter, SuppressionView};

enum_pairs!(reason, reason_of: SuppressionReason => pb::SuppressionReason {
    Asked, Registry, Complaint, WrongNumber, Legal, Other,
});
enum_pairs!(source, source_of: SuppressionSource => pb::SuppressionSource { Api, Operator, Import, OptOut });
enum_pairs!(change, change_of: SuppressionChange => pb::SuppressionChange { Added, Extended, Unchanged });

/// A suppression from the wire; fields are named from it on. `region` is for a phone that names
/// none.
pub(in crate::grpc) fn read(
    new: pb::NewSuppression,
    source: SuppressionSource,
    region: Option<&str>,
) -> Result<NewSuppression, Violation> {
    let own = non_empty(new.default_region);
    let reason = match new.reason {
        0 => SuppressionReason::Asked,
        given => {
            reason_of(given).ok_or_else(|| Violation::new("reason", "is not a known value"))?
        }
    };
    let suppression = NewSuppression {
        phone: lead::phone(&new.phone, own.as_deref().or(region))?,
        reason,
        source,
        note: new.note,
        call: None,
        expires_at: time::read_some("expire_time", new.expire_time)?,
    };
    suppression.check()?;
    Ok(suppression)
}

/// How phones of a request come to be suppressed: what else there is, others than clients say.
pub(in crate::grpc) fn clients_source(given: i32) -> Result<SuppressionSource, Violation> {
    match pb::SuppressionSource::try_from(given) {
        Ok(pb::SuppressionSource::Unspecified | pb::SuppressionSource::Api) => {
            Ok(SuppressionSource::Api)
        }
        Ok(pb::SuppressionSource::Operator) => Ok(SuppressionSource::Operator),
        Ok(pb::SuppressionSource::Import | pb::SuppressionSource::OptOut) | Err(_) => {
            Err(Violation::new("source", "must be API or OPERATOR"))
        }
    }
}

/// What became of a phone, for the wire. `path` is the item's in the request.
pub(in crate::grpc) fn added(path: &str, added: SuppressionAdded) -> Added {
    match added {
        SuppressionAdded::Kept { id, change: done, live_call } => Added {
            suppression_id: id.to_string(),
            change: change(done),
            live_call_id: live_call.map(|call| call.to_string()).unwrap_or_default(),
            error: String::new(),
        },
        SuppressionAdded::Rejected { field, reason } => {
            Added { error: Violation { field, reason }.under(path).to_string(), ..Added::default() }
        }
    }
}

/// A suppression for the wire: whole, because it is for its owner.
pub(in crate::grpc) fn write(view: SuppressionView) -> pb::Suppression {
    pb::Suppression {
        suppression_id: view.id.to_string(),
        phone: view.phone.expose().to_owned(),
        reason: reason(view.reason),
        source: source(view.source),
        note: view.note,
        call_id: view.call.map(|call| call.to_string()).unwrap_or_default(),
        expire_time: view.expires_at.and_then(time::write),
        create_time: time::write(view.created_at),
        created_by: view.created_by,
    }
}

/// Which suppressions.
pub(in crate::grpc) fn filter(
    from: pb::ListSuppressionsRequest,
) -> Result<SuppressionFilter, Violation> {
    let phone = non_empty(from.phone).map(|phone| phone.parse::<Phone>()).transpose()?;
    Ok(SuppressionFilter {
        phone,
        phone_prefix: lead::phone_prefix(from.phone_prefix)?,
        reasons: each("reasons", &from.reasons, reason_of)?,
        sources: each("sources", &from.sources, source_of)?,
        created_from: time::read_some("created_from", from.created_from)?,
        created_until: time::read_some("created_until", from.created_until)?,
        expired: from.include_expired,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(phone: &str) -> pb::NewSuppression {
        pb::NewSuppression { phone: phone.into(), ..Default::default() }
    }

    #[test]
    fn enums_round_trip() {
        for value in SuppressionReason::ALL {
            assert_eq!(reason_of(reason(*value)), Some(*value));
        }
        for value in SuppressionSource::ALL {
            assert_eq!(source_of(source(*value)), Some(*value));
        }
        assert_eq!(
            change_of(change(SuppressionChange::Extended)),
            Some(SuppressionChange::Extended)
        );
    }

    #[test]
    fn a_phone_is_enough_and_fields_are_named() {
        let read = |new| read(new, SuppressionSource::Api, Some("US"));
        let plain = read(new("(415) 867-2671")).unwrap();
        assert_eq!(
            (plain.phone.expose(), plain.reason),
            ("+14158672671", SuppressionReason::Asked)
        );
        let field = |new| read(new).unwrap_err().field;
        assert_eq!(field(new("12")), "phone");
        assert_eq!(
            field(pb::NewSuppression { default_region: "nowhere".into(), ..new("12") }),
            "default_region"
        );
        assert_eq!(field(pb::NewSuppression { reason: 99, ..new("+14158672671") }), "reason");
        assert_eq!(
            field(pb::NewSuppression { note: "x".repeat(501), ..new("+14158672671") }),
            "note"
        );
        assert_eq!(
            clients_source(pb::SuppressionSource::OptOut.into()).unwrap_err().field,
            "source"
        );
    }
}
