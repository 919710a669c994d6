//! Every method that this server has, and what it takes to call it: the one table.

use crate::domain::plan::Class;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Read runs, jobs and calls, and watch.
    OutboundRead,
    /// Change them; reading is included.
    OutboundWrite,
    /// Read leads.
    LeadsRead,
    /// Change them; reading is included.
    LeadsWrite,
    /// Read transfers, and watch.
    TransfersRead,
    /// Change them; reading is included.
    TransfersWrite,
    /// Read endpoints for webhooks, and what was sent to them.
    WebhooksRead,
    /// Change them; reading is included.
    WebhooksWrite,
    /// Everything, and what concerns all tenants.
    Admin,
}

impl Method {
    /// The RPC's name, for example `CreateRun`.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::OutboundRead,
        Self::OutboundWrite,
        Self::LeadsRead,
        Self::LeadsWrite,
        Self::TransfersRead,
        Self::TransfersWrite,
        Self::WebhooksRead,
        Self::WebhooksWrite,
        Self::Admin,
    ];

    /// The scope that `word` names, if it is one.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }

    /// The word that a key carries.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OutboundRead => "outbound:read",
            Self::OutboundWrite => "outbound:write",
            Self::LeadsRead => "leads:read",
            Self::LeadsWrite => "leads:write",
            Self::TransfersRead => "transfers:read",
            Self::TransfersWrite => "transfers:write",
            Self::WebhooksRead => "webhooks:read",
            Self::WebhooksWrite => "webhooks:write",
            Self::Admin => "admin",
        }
    }

    /// Whether a key with the scope `word` may do this.
    pub fn is_granted_by(self, word: &str) -> bool {
        let includes = match self {
            Self::OutboundRead => Some(Self::OutboundWrite),
            Self::LeadsRead => Some(Self::LeadsWrite),
            Self::TransfersRead => Some(Self::TransfersWrite),
            Self::WebhooksRead => Some(Self::WebhooksWrite),
            Self::OutboundWrite
            | Self::LeadsWrite
            | Self::TransfersWrite
            | Self::WebhooksWrite
            | Self::Admin => None,
        };
        word == self.as_str()
            || word == Self::Admin.as_str()
            || includes.is_some_and(|wider| word == wider.as_str())
    }
}

/// A method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// What a key needs to call it.
    pub scope: Scope,
    /// Whether either side streams; such a call may take longer than a unary one.
    pub streams: bool,
    /// Which of the tenant's quotas it uses.
    pub class: Class,
}

/// A unary method; what asks for a read scope reads.
const fn method(path: &'static str, scope: Scope) -> Method {
    let class = match scope {
        Scope::OutboundRead | Scope::LeadsRead | Scope::TransfersRead | Scope::WebhooksRead => {
            Class::Read
        }
        Scope::OutboundWrite
        | Scope::LeadsWrite
        | Scope::TransfersWrite
        | Scope::WebhooksWrite
        | Scope::Admin => Class::Write,
    };
    Method { path, scope, streams: false, class }
}

/// A unary method that reads, whatever it asks for.
const fn reading(path: &'static str, scope: Scope) -> Method {
    Method { path, scope, streams: false, class: Class::Read }
}

const fn stream(path: &'static str, scope: Scope) -> Method {
    Method { path, scope, streams: true, class: Class::Stream }
}

const fn maintenance(path: &'static str, scope: Scope) -> Method {
    Method { path, scope, streams: false, class: Class::Maintenance }
}

/// All of them.
pub const METHODS: [Method; 70] = [
    method("/trunkline.v1.OutboundQueue/CreateRun", Scope::OutboundWrite),
    maintenance("/trunkline.v1.OutboundQueue/ForecastRun", Scope::OutboundRead),
    method("/trunkline.v1.OutboundQueue/UpdateRun", Scope::OutboundWrite),
    method("/trunkline.v1.OutboundQueue/StartRun", Scope::OutboundWrite),
    method("/trunkline.v1.OutboundQueue/PauseRun", Scope::OutboundWrite),
    method("/trunkline.v1.OutboundQueue/ResumeRun", Scope::OutboundWrite),
    method("/trunkline.v1.OutboundQueue/CancelRun", Scope::OutboundWrite),
    method("/trunkline.v1.OutboundQueue/StopRun", Scope::OutboundWrite),
    method("/trunkline.v1.OutboundQueue/SealRun", Scope::OutboundWrite),
    method("/trunkline.v1.OutboundQueue/GetRun", Scope::OutboundRead),
    method("/trunkline.v1.OutboundQueue/ListRuns", Scope::OutboundRead),
    method("/trunkline.v1.OutboundQueue/AddJobs", Scope::OutboundWrite),
    stream("/trunkline.v1.OutboundQueue/ImportJobs", Scope::OutboundWrite),
    method("/trunkline.v1.OutboundQueue/ListJobs", Scope::OutboundRead),
    method("/trunkline.v1.OutboundQueue/GetJob", Scope::OutboundRead),
    method("/trunkline.v1.OutboundQueue/CancelJobs", Scope::OutboundWrite),
    method("/trunkline.v1.OutboundQueue/ListCalls", Scope::OutboundRead),
    method("/trunkline.v1.OutboundQueue/GetCall", Scope::OutboundRead),
    stream("/trunkline.v1.OutboundQueue/WatchRun", Scope::OutboundRead),
    maintenance("/trunkline.v1.OutboundQueue/ReconcileRuns", Scope::OutboundWrite),
    maintenance("/trunkline.v1.OutboundQueue/CleanupStaleCalls", Scope::OutboundWrite),
    maintenance("/trunkline.v1.OutboundQueue/RetryJobs", Scope::OutboundWrite),
    method("/trunkline.v1.OutboundQueue/ExplainJob", Scope::OutboundRead),
    reading("/trunkline.v1.OutboundQueue/ListTasks", Scope::OutboundRead),
    method("/trunkline.v1.OutboundQueue/RetryTask", Scope::OutboundWrite),
    method("/trunkline.v1.Leads/CreateLead", Scope::LeadsWrite),
    method("/trunkline.v1.Leads/BatchCreateLeads", Scope::LeadsWrite),
    method("/trunkline.v1.Leads/GetLead", Scope::LeadsRead),
    method("/trunkline.v1.Leads/ListLeads", Scope::LeadsRead),
    method("/trunkline.v1.Leads/UpdateLead", Scope::LeadsWrite),
    method("/trunkline.v1.Leads/DeleteLead", Scope::LeadsWrite),
    reading("/trunkline.v1.Leads/ListLeadEvents", Scope::LeadsRead),
    method("/trunkline.v1.Leads/CreateLeadFromCall", Scope::LeadsWrite),
    stream("/trunkline.v1.Leads/ImportLeads", Scope::LeadsWrite),
    stream("/trunkline.v1.Leads/ExportLeads", Scope::LeadsRead),
    method("/trunkline.v1.Transfers/StartTransfer", Scope::TransfersWrite),
    method("/trunkline.v1.Transfers/OpenIncident", Scope::TransfersWrite),
    method("/trunkline.v1.Transfers/GetTransfer", Scope::TransfersRead),
    method("/trunkline.v1.Transfers/ListTransfers", Scope::TransfersRead),
    method("/trunkline.v1.Transfers/CancelTransfer", Scope::TransfersWrite),
    stream("/trunkline.v1.Transfers/WatchTransfer", Scope::TransfersRead),
    method("/trunkline.v1.Leads/AddSuppressions", Scope::LeadsWrite),
    method("/trunkline.v1.Leads/RemoveSuppressions", Scope::LeadsWrite),
    reading("/trunkline.v1.Leads/ListSuppressions", Scope::LeadsRead),
    stream("/trunkline.v1.Leads/ImportSuppressions", Scope::LeadsWrite),
    method("/trunkline.v1.Tenants/CreateTenant", Scope::Admin),
    reading("/trunkline.v1.Tenants/GetTenant", Scope::Admin),
    reading("/trunkline.v1.Tenants/ListTenants", Scope::Admin),
    method("/trunkline.v1.Tenants/UpdateTenant", Scope::Admin),
    method("/trunkline.v1.Tenants/DisableTenant", Scope::Admin),
    method("/trunkline.v1.Tenants/EnableTenant", Scope::Admin),
    method("/trunkline.v1.Tenants/CreateCarrierAccount", Scope::Admin),
    reading("/trunkline.v1.Tenants/GetCarrierAccount", Scope::Admin),
    reading("/trunkline.v1.Tenants/ListCarrierAccounts", Scope::Admin),
    method("/trunkline.v1.Tenants/UpdateCarrierAccount", Scope::Admin),
    method("/trunkline.v1.Tenants/ResealCarrierAccounts", Scope::Admin),
    method("/trunkline.v1.Tenants/CreateApiKey", Scope::Admin),
    reading("/trunkline.v1.Tenants/ListApiKeys", Scope::Admin),
    method("/trunkline.v1.Tenants/RevokeApiKey", Scope::Admin),
    method("/trunkline.v1.Tenants/ExpireApiKey", Scope::Admin),
    reading("/trunkline.v1.Tenants/ListAuditEvents", Scope::Admin),
    method("/trunkline.v1.Webhooks/CreateWebhook", Scope::WebhooksWrite),
    reading("/trunkline.v1.Webhooks/GetWebhook", Scope::WebhooksRead),
    reading("/trunkline.v1.Webhooks/ListWebhooks", Scope::WebhooksRead),
    method("/trunkline.v1.Webhooks/UpdateWebhook", Scope::WebhooksWrite),
    method("/trunkline.v1.Webhooks/DeleteWebhook", Scope::WebhooksWrite),
    method("/trunkline.v1.Webhooks/RotateWebhookSecret", Scope::WebhooksWrite),
    method("/trunkline.v1.Webhooks/TestWebhook", Scope::WebhooksWrite),
    reading("/trunkline.v1.Webhooks/ListWebhookDeliveries", Scope::WebhooksRead),
    method("/trunkline.v1.Webhooks/RedeliverWebhook", Scope::WebhooksWrite),
];

/// Services of the server itself. They say nothing of any tenant; settings say who may call them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// `grpc.health.v1.Health`.
    Health,
    /// `grpc.reflection.v1.ServerReflection` and its `v1alpha`.
    Reflection,
}

const SYSTEM: [(&str, System); 3] = [
    ("/grpc.health.v1.Health/", System::Health),
    ("/grpc.reflection.v1.ServerReflection/", System::Reflection),
    ("/grpc.reflection.v1alpha.ServerReflection/", System::Reflection),
];

/// How a path is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// With a key.
    Keyed(Method),
    /// As the settings say.
    System(System),
    /// Not at all.
    None,
}

/// How `path` is served.
pub fn route(path: &str) -> Route {
    let system = || SYSTEM.iter().find(|(prefix, _)| path.starts_with(prefix));
    match METHODS.iter().find(|method| method.path == path) {
        Some(method) => Route::Keyed(*method),
        None => system().map_or(Route::None, |(_, service)| Route::System(*service)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message as _;

    use super::*;
    use crate::grpc::pb;

    /// The table holds exactly the methods of our protos, and says of each whether it streams.
    #[test]
    fn no_method_is_forgotten() {
        let files = prost_types::FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap().file;
        let mut in_protos = BTreeMap::new();
        for file in files.iter().filter(|file| file.package() == "trunkline.v1") {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    in_protos.insert(path, method.client_streaming() || method.server_streaming());
                }
            }
        }
        let in_table: BTreeMap<_, _> =
            METHODS.iter().map(|method| (method.path.to_owned(), method.streams)).collect();
        assert_eq!(in_protos, in_table);
        assert_eq!(in_table.len(), METHODS.len());
    }

    /// What only reads asks for a read scope, everything else for a write scope.
    #[test]
    fn reads_read_and_writes_write() {
        for method in METHODS {
            let name = method.name();
            let reads = ["Get", "List", "Watch", "Explain", "Export", "Forecast"]
                .iter()
                .any(|verb| name.starts_with(verb));
            let (service, _) = method.path.rsplit_once('/').unwrap();
            let kind = match service {
                "/trunkline.v1.OutboundQueue" => "outbound",
                "/trunkline.v1.Leads" => "leads",
                "/trunkline.v1.Transfers" => "transfers",
                "/trunkline.v1.Webhooks" => "webhooks",
                "/trunkline.v1.Tenants" => {
                    assert_eq!(method.scope, Scope::Admin, "{name}");
                    continue;
                }
                other => panic!("{other} has no scopes of its own"),
            };
            let scope = format!("{kind}:{}", if reads { "read" } else { "write" });
            assert_eq!(method.scope.as_str(), scope, "{name}");
        }
    }

    #[test]
    fn each_class_has_its_methods() {
        for method in METHODS {
            assert_eq!(method.streams, method.class == Class::Stream, "{}", method.path);
            let verbs = ["Get", "List", "Explain"];
            let reads = verbs.iter().any(|verb| method.name().starts_with(verb));
            assert_eq!(reads, method.class == Class::Read, "{}", method.path);
        }
        let maintenance = METHODS.iter().filter(|method| method.class == Class::Maintenance);
        assert_eq!(maintenance.count(), 4);
    }

    #[test]
    fn scopes_include_what_they_should() {
        assert!(Scope::LeadsRead.is_granted_by("leads:write"));
        assert!(!Scope::LeadsWrite.is_granted_by("leads:read"));
        assert!(!Scope::LeadsRead.is_granted_by("outbound:write"));
        assert!(METHODS.iter().all(|method| method.scope.is_granted_by("admin")));
        assert!(!METHODS.iter().any(|method| method.scope.is_granted_by("")));
    }

    #[test]
    fn each_path_has_its_route() {
        assert_eq!(route("/grpc.health.v1.Health/Check"), Route::System(System::Health));
        let reflection = route("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
        assert_eq!(reflection, Route::System(System::Reflection));
        assert_eq!(route("/trunkline.v1.Leads/Nonsense"), Route::None);
        assert!(matches!(route("/trunkline.v1.Leads/GetLead"), Route::Keyed(_)));
    }
}
