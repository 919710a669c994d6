//! A client certificate that stands for a key: a URI among its subject alternative names says of
//! which tenant.
//!
//! `spiffe://<trust domain>/tenant/<tenant id>`. The certificate was verified against the
//! configured authorities during the handshake, so the authority's word is taken for the tenant;
//! the trust domain is the authority's to choose.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Extensions;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::auth::{Admitted, Caller, unauthenticated};
use super::status;
use crate::domain::TenantId;
use crate::domain::tenant::TenantState;
use crate::store::{self, Store, TenantView};

/// How long a tenant is believed to be there without asking the store; as for keys.
const CACHE_TTL: Duration = Duration::from_secs(5);
/// The most tenants believed at once.
const CACHE_MAX: usize = 10_000;
/// Bytes of a certificate's SHA-256 that name it in the audit log.
const FINGERPRINT_BYTES: usize = 8;

/// Whom a certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// None where it names no tenant, or more than one.
    tenant: Option<TenantId>,
    /// Names the certificate.
    fingerprint: String,
}

impl Identity {
    /// Of the connection that a request came over; none if it showed no certificate.
    pub(super) fn of(extensions: &Extensions) -> Option<Self> {
        let certificates = extensions.get::<TlsConnectInfo<TcpConnectInfo>>()?.peer_certs()?;
        certificates.first().map(|leaf| Self::read(leaf))
    }

    fn read(der: &[u8]) -> Self {
        let digest = Sha256::digest(der);
        Self { tenant: tenant_of(der), fingerprint: hex::encode(&digest[..FINGERPRINT_BYTES]) }
    }
}

/// The one tenant that the certificate's URIs name.
fn tenant_of(der: &[u8]) -> Option<TenantId> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut tenants = certificate
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        })
        .flatten()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => tenant_in(uri),
            _ => None,
        });
    match (tenants.next(), tenants.next()) {
        (Some(tenant), None) => Some(tenant),
        (None | Some(_), _) => None,
    }
}

/// `spiffe://<trust domain>/tenant/<tenant id>`.
fn tenant_in(uri: &str) -> Option<TenantId> {
    let (trust_domain, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
    let tenant = path.strip_prefix("tenant/")?;
    if trust_domain.is_empty() { None } else { tenant.parse().ok() }
}

/// What is to be known of a tenant to let it in, and when that was read.
#[derive(Clone)]
struct Known {
    state: TenantState,
    region: Option<String>,
    plan: String,
    read_at: Instant,
}

/// Lets tenants in by certificate.
pub(super) struct Certificates {
    store: Store,
    scopes: Vec<String>,
    /// Tenants that exist; names that do not would let anybody fill it.
    known: Mutex<HashMap<TenantId, Known>>,
}

impl Certificates {
    pub(super) fn new(store: Store, scopes: Vec<String>) -> Self {
        Self { store, scopes, known: Mutex::default() }
    }

    /// The caller that `identity` stands for, if its tenant may come in.
    pub(super) async fn admit(&self, identity: &Identity) -> Result<Admitted, Status> {
        let tenant = identity.tenant.clone().ok_or_else(unauthenticated)?;
        let known = match self.find(&tenant).await {
            Ok(known) => known,
            Err(store::Error::NotFound(_)) => return Err(unauthenticated()),
            Err(error) => return Err(status::of_store(&error)),
        };
        if known.state != TenantState::Active {
            return Err(unauthenticated());
        }
        let key_id = format!("cert:{}", identity.fingerprint);
        let caller = Caller { tenant, key_id, method: "", region: known.region, plan: known.plan };
        Ok(Admitted { caller, scopes: self.scopes.clone() })
    }

    async fn find(&self, tenant: &TenantId) -> store::Result<Known> {
        let cached =
            self.lock().get(tenant).filter(|known| known.read_at.elapsed() < CACHE_TTL).cloned();
        if let Some(known) = cached {
            return Ok(known);
        }
        let read_at = Instant::now();
        let TenantView { tenant: settings, state, .. } = self.store.tenant_view(tenant).await?;
        let known = Known { state, region: settings.region, plan: settings.plan, read_at };
        let mut all = self.lock();
        if all.len() >= CACHE_MAX {
            all.retain(|_, known| known.read_at.elapsed() < CACHE_TTL);
        }
        if all.len() < CACHE_MAX {
            all.insert(tenant.clone(), known.clone());
        }
        Ok(known)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(names: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["client.example.com".to_owned()]).unwrap();
        params
            .subject_alt_names
            .extend(names.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn one_uri_names_the_tenant() {
        let tenant =
            |names: &[&str]| Identity::read(&certificate(names)).tenant.map(|id| id.to_string());
        assert_eq!(tenant(&["spiffe://example.org/tenant/acme"]), Some("acme".into()));
        assert_eq!(
            tenant(&["https://example.org/", "spiffe://a/tenant/acme"]),
            Some("acme".into())
        );
        for bad in [
            &[][..],
            &["spiffe://example.org/tenant/"],
            &["spiffe://example.org/tenant/acme/admin"],
            &["spiffe://example.org/tenant/ACME"],
            &["spiffe:///tenant/acme"],
            &["spiffe://example.org/service/acme"],
            &["https://example.org/tenant/acme"],
            &["spiffe://a/tenant/acme", "spiffe://a/tenant/other"],
        ] {
            assert_eq!(tenant(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_certificate_names_nobody() {
        let whole = certificate(&["spiffe://a/tenant/acme"]);
        for len in 0..whole.len() {
            assert_eq!(tenant_of(&whole[..len]), None, "{len}");
        }
        assert_ne!(Identity::read(b"a").fingerprint, Identity::read(b"b").fingerprint);
    }
}
