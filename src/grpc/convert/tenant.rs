//! Tenants and their settings.

use super::{enum_pairs, non_empty, run, script, time};
use crate::domain::tenant::{
    CALLER_IDS_MAX, DEFAULT_CALLS_PER_SECOND, DEFAULT_MAX_CONCURRENT_CALLS, DEFAULT_PLAN, Tenant,
    TenantField, TenantState,
};
use crate::domain::window::CallingWindow;
use crate::domain::{AccountSid, Phone, TenantId, Violation};
use crate::grpc::pb;
use crate::store::{TenantPatch, TenantView};

enum_pairs!(state, state_of: TenantState => pb::TenantState { Active, Disabled });

/// A tenant from the wire, with the documented default for what is absent.
pub(in crate::grpc) fn read(
    id: TenantId,
    settings: Option<pb::TenantSettings>,
) -> Result<Tenant, Violation> {
    let settings = super::required("settings", settings)?;
    let tenant = read_settings(id, settings).map_err(|violation| violation.under("settings"))?;
    tenant.check().map_err(|violation| violation.under("settings"))?;
    Ok(tenant)
}

fn read_settings(id: TenantId, from: pb::TenantSettings) -> Result<Tenant, Violation> {
    let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
    // Before each is parsed: a list may be as long as a message.
    if from.caller_ids.len() > CALLER_IDS_MAX {
        return Err(Violation::new("caller_ids", "must hold 1 to 100 numbers"));
    }
    let caller_id =
        |(i, text): (usize, &String)| super::id::<Phone>(&format!("caller_ids[{i}]"), text);
    let rate = from.calls_per_second;
    Ok(Tenant {
        id,
        name: from.name,
        max_concurrent_calls: match from.max_concurrent_calls {
            0 => DEFAULT_MAX_CONCURRENT_CALLS,
            most => most,
        },
        calls_per_second: if rate == 0.0 { DEFAULT_CALLS_PER_SECOND } else { rate },
        account_sid: super::id::<AccountSid>("account_sid", &from.account_sid)?,
        caller_ids: from.caller_ids.iter().enumerate().map(caller_id).collect::<Result<_, _>>()?,
        time_zone: or(from.time_zone, "UTC"),
        window: match from.window {
            Some(window) => {
                run::read_window(window).map_err(|violation| violation.under("window"))?
            }
            None => CallingWindow::default(),
        },
        region: non_empty(from.region),
        plan: or(from.plan, DEFAULT_PLAN),
        greeting: match from.greeting {
            Some(greeting) => Some(script::read(Some(greeting)).map_err(|v| v.under("greeting"))?),
            None => None,
        },
    })
}

/// A patch from the wire. Only what the mask names is read.
pub(in crate::grpc) fn patch(
    id: &TenantId,
    settings: Option<pb::TenantSettings>,
    mask: Option<prost_types::FieldMask>,
    etag: &str,
) -> Result<TenantPatch, Violation> {
    let not_a_field = "is not a field of TenantSettings";
    let fields = super::masked(mask, TenantField::ALL.len(), TenantField::from_word, not_a_field)?;
    let given = settings.unwrap_or_default();
    // Never stored: the mask does not name it.
    let unread = pb::TenantSettings { account_sid: format!("AC{:032}", 0), ..Default::default() };
    let settings = fields.iter().fold(unread, |settings, field| take(settings, *field, &given));
    let tenant =
        read_settings(id.clone(), settings).map_err(|violation| violation.under("settings"))?;
    Ok(TenantPatch { tenant, fields, revision: super::etag(etag)? })
}

fn take(
    mut to: pb::TenantSettings,
    field: TenantField,
    from: &pb::TenantSettings,
) -> pb::TenantSettings {
    match field {
        TenantField::Name => to.name.clone_from(&from.name),
        TenantField::AccountSid => to.account_sid.clone_from(&from.account_sid),
        TenantField::MaxConcurrentCalls => to.max_concurrent_calls = from.max_concurrent_calls,
        TenantField::CallsPerSecond => to.calls_per_second = from.calls_per_second,
        TenantField::CallerIds => to.caller_ids.clone_from(&from.caller_ids),
        TenantField::TimeZone => to.time_zone.clone_from(&from.time_zone),
        TenantField::Window => to.window.clone_from(&from.window),
        TenantField::Region => to.region.clone_from(&from.region),
        TenantField::Plan => to.plan.clone_from(&from.plan),
        TenantField::Greeting => to.greeting.clone_from(&from.greeting),
    }
    to
}

/// A tenant for the wire.
pub(in crate::grpc) fn write(view: TenantView) -> pb::Tenant {
    let tenant = view.tenant;
    pb::Tenant {
        tenant_id: tenant.id.to_string(),
        settings: Some(pb::TenantSettings {
            name: tenant.name,
            account_sid: tenant.account_sid.to_string(),
            max_concurrent_calls: tenant.max_concurrent_calls,
            calls_per_second: tenant.calls_per_second,
            caller_ids: tenant.caller_ids.iter().map(|phone| phone.expose().to_owned()).collect(),
            time_zone: tenant.time_zone,
            window: Some(run::write_window(tenant.window)),
            region: tenant.region.unwrap_or_default(),
            plan: tenant.plan,
            greeting: tenant.greeting.map(script::write),
        }),
        state: state(view.state),
        etag: view.revision.to_string(),
        create_time: time::write(view.created_at),
        update_time: time::write(view.updated_at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn settings() -> pb::TenantSettings {
        pb::TenantSettings {
            account_sid: format!("AC{:032}", 1),
            caller_ids: vec!["+12125550100".into()],
            ..Default::default()
        }
    }

    fn id() -> TenantId {
        "acme".parse().unwrap()
    }

    fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
        Some(prost_types::FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        })
    }

    #[test]
    fn defaults_and_back() {
        let tenant = read(id(), Some(settings())).unwrap();
        assert_eq!((tenant.max_concurrent_calls, tenant.calls_per_second), (3, 1.0));
        let at = Timestamp(0);
        let view = TenantView {
            tenant: tenant.clone(),
            state: TenantState::Active,
            revision: 7,
            created_at: at,
            updated_at: at,
        };
        let wire = write(view);
        assert_eq!((wire.etag.as_str(), wire.state()), ("7", pb::TenantState::Active));
        assert_eq!(read(id(), wire.settings).unwrap(), tenant);
    }

    #[test]
    fn names_the_field_as_the_proto_does() {
        let field = |settings| read(id(), settings).unwrap_err().field;
        assert_eq!(field(None), "settings");
        let phones = vec!["+12125550100".into(), "12".into()];
        assert_eq!(
            field(Some(pb::TenantSettings { caller_ids: phones, ..settings() })),
            "settings.caller_ids[1]"
        );
        assert_eq!(
            field(Some(pb::TenantSettings { caller_ids: vec![], ..settings() })),
            "settings.caller_ids"
        );
        assert_eq!(
            field(Some(pb::TenantSettings { account_sid: "no id".into(), ..settings() })),
            "settings.account_sid"
        );
        assert_eq!(
            field(Some(pb::TenantSettings { plan: "A".into(), ..settings() })),
            "settings.plan"
        );
    }

    #[test]
    fn a_patch_reads_what_its_mask_names() {
        let given = pb::TenantSettings {
            name: "new".into(),
            caller_ids: vec!["nonsense".into()],
            ..Default::default()
        };
        let read = patch(&id(), Some(given.clone()), mask(&["name", "name"]), "4").unwrap();
        assert_eq!(
            (read.fields, read.tenant.name.as_str(), read.revision),
            (vec![TenantField::Name], "new", Some(4))
        );
        let field = |paths: &[&str], etag| {
            patch(&id(), Some(given.clone()), mask(paths), etag).unwrap_err().field
        };
        assert_eq!(field(&["caller_ids"], ""), "settings.caller_ids[0]");
        assert_eq!(field(&["tenant_id"], ""), "update_mask.paths[0]");
        assert_eq!(field(&[], ""), "update_mask");
        assert_eq!(field(&["name"], "x"), "etag");
        // Every field of the message can be named.
        let words: Vec<&str> = TenantField::ALL.iter().map(|field| field.as_str()).collect();
        assert_eq!(
            patch(&id(), Some(settings()), mask(&words), "").unwrap().fields,
            TenantField::ALL
        );
    }
}
