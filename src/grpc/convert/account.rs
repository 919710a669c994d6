//! Carrier accounts: credentials are read, and never written.

use secrecy::SecretString;
use url::{Host, Url};

use super::{non_empty, time};
use crate::domain::tenant::DEFAULT_CALLS_PER_SECOND;
use crate::domain::{AccountSid, CARRIER_ID_RULE, Violation, is_carrier_id};
use crate::grpc::pb;
use crate::store::{AccountPatch, AccountView, CarrierApiKey, CarrierSecrets, NewAccount};

/// The longest secret.
const SECRET_MAX_LEN: usize = 200;
/// The longest base URL.
const BASE_URL_MAX_LEN: usize = 200;

crate::domain::state_words! {
    /// What of an account can be changed by itself; the word is its field mask path.
    enum Field {
        /// The pace.
        CallsPerSecond = "calls_per_second",
        /// Where its API is.
        BaseUrl = "base_url",
        /// The current token.
        AuthToken = "auth_token",
        /// The token before a rotation.
        PreviousAuthToken = "previous_auth_token",
        /// The carrier's API key.
        ApiKey = "api_key",
    }
}

/// An account from the wire.
pub(in crate::grpc) fn read(
    request: pb::CreateCarrierAccountRequest,
) -> Result<NewAccount, Violation> {
    let secrets = super::required("secrets", request.secrets)?;
    let rate = request.calls_per_second;
    Ok(NewAccount {
        sid: request.account_sid.parse::<AccountSid>()?,
        calls_per_second: if rate == 0.0 { DEFAULT_CALLS_PER_SECOND } else { rate },
        base_url: base_url(request.base_url)?,
        secrets: CarrierSecrets {
            auth_token: secret("secrets.auth_token", secrets.auth_token)?,
            previous_auth_token: previous(secrets.previous_auth_token)?,
            api_key: secrets.api_key.map(api_key).transpose()?,
        },
    })
}

/// A patch from the wire. Only what the mask names is read.
pub(in crate::grpc) fn patch(
    request: pb::UpdateCarrierAccountRequest,
) -> Result<AccountPatch, Violation> {
    let not_a_field =
        "must be calls_per_second, base_url, auth_token, previous_auth_token or api_key";
    let fields =
        super::masked(request.update_mask, Field::ALL.len(), Field::from_word, not_a_field)?;
    let secrets = request.secrets.unwrap_or_default();
    let has = |field| fields.contains(&field);
    Ok(AccountPatch {
        calls_per_second: has(Field::CallsPerSecond).then_some(request.calls_per_second),
        base_url: has(Field::BaseUrl).then(|| base_url(request.base_url)).transpose()?,
        auth_token: has(Field::AuthToken)
            .then(|| secret("secrets.auth_token", secrets.auth_token))
            .transpose()?,
        previous_auth_token: has(Field::PreviousAuthToken)
            .then(|| previous(secrets.previous_auth_token))
            .transpose()?,
        api_key: has(Field::ApiKey)
            .then(|| secrets.api_key.map(api_key).transpose())
            .transpose()?,
        revision: super::etag(&request.etag)?,
    })
}

fn previous(text: String) -> Result<Option<SecretString>, Violation> {
    non_empty(text).map(|text| secret("secrets.previous_auth_token", text)).transpose()
}

fn secret(field: &str, text: String) -> Result<SecretString, Violation> {
    let fits = (1..=SECRET_MAX_LEN).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    let secret = SecretString::from(text);
    if fits {
        Ok(secret)
    } else {
        Err(Violation::new(field, "must be 1 to 200 printable characters without spaces"))
    }
}

fn api_key(key: pb::CarrierApiKey) -> Result<CarrierApiKey, Violation> {
    if !is_carrier_id(&key.sid) {
        return Err(Violation::new("secrets.api_key.sid", CARRIER_ID_RULE));
    }
    Ok(CarrierApiKey { sid: key.sid, secret: secret("secrets.api_key.secret", key.secret)? })
}

/// Credentials go there: not in the clear over a network.
fn base_url(text: String) -> Result<Option<String>, Violation> {
    let refuse = |why| Violation::new("base_url", why);
    let Some(text) = non_empty(text) else { return Ok(None) };
    if text.len() > BASE_URL_MAX_LEN {
        return Err(refuse("is longer than 200 characters"));
    }
    let url = Url::parse(&text).map_err(|_| refuse("is not a URL"))?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
        return Err(refuse(
            "must begin with https://, or with http:// where its host is this machine",
        ));
    }
    let plain = url.username().is_empty() && url.password().is_none();
    if !plain || url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("must not carry credentials, a query or a fragment"));
    }
    Ok(Some(url.to_string()))
}

/// An account for the wire: hints, never credentials.
pub(in crate::grpc) fn write(view: AccountView) -> pb::CarrierAccount {
    let hints = view.hints.as_ref();
    let previous = hints.and_then(|hints| hints.previous_auth_token.clone());
    pb::CarrierAccount {
        account_sid: view.sid.to_string(),
        calls_per_second: view.calls_per_second,
        base_url: view.base_url.unwrap_or_default(),
        sealed_with: view.sealed_with.unwrap_or_default(),
        auth_token_hint: hints.map(|hints| hints.auth_token.clone()).unwrap_or_default(),
        has_previous_auth_token: previous.is_some(),
        previous_auth_token_hint: previous.unwrap_or_default(),
        api_key_sid: hints.and_then(|hints| hints.api_key_sid.clone()).unwrap_or_default(),
        api_key_secret_hint: hints
            .and_then(|hints| hints.api_key_secret.clone())
            .unwrap_or_default(),
        secrets_time: hints.and_then(|hints| time::write(hints.set_at)),
        etag: view.revision.to_string(),
        create_time: time::write(view.created_at),
        update_time: time::write(view.updated_at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> pb::CarrierSecrets {
        let api_key = pb::CarrierApiKey { sid: format!("SK{:032}", 1), secret: "s3cret".into() };
        pb::CarrierSecrets {
            auth_token: "t0ken".into(),
            api_key: Some(api_key),
            ..Default::default()
        }
    }

    fn create() -> pb::CreateCarrierAccountRequest {
        let (account_sid, secrets) = (format!("AC{:032}", 1), Some(secrets()));
        pb::CreateCarrierAccountRequest { account_sid, secrets, ..Default::default() }
    }

    #[test]
    fn names_the_field_and_repeats_no_secret() {
        assert_eq!(read(create()).unwrap().calls_per_second, 1.0);
        let with = |change: fn(&mut pb::CarrierSecrets)| {
            let mut secrets = secrets();
            change(&mut secrets);
            read(pb::CreateCarrierAccountRequest { secrets: Some(secrets), ..create() })
                .unwrap_err()
        };
        assert_eq!(with(|s| s.auth_token.clear()).field, "secrets.auth_token");
        let spaced = with(|s| s.auth_token = "a b".into());
        assert!(!spaced.to_string().contains("a b"), "{spaced}");
        assert_eq!(
            with(|s| s.previous_auth_token = "é".into()).field,
            "secrets.previous_auth_token"
        );
        assert_eq!(
            with(|s| s.api_key = Some(pb::CarrierApiKey::default())).field,
            "secrets.api_key.sid"
        );
    }

    #[test]
    fn messages_do_not_print_secrets() {
        let printed = format!("{:?}", create());
        assert!(!printed.contains("t0ken") && !printed.contains("s3cret"), "{printed}");
        let made =
            pb::CreateApiKeyResponse { secret_key: "id.s3cret".into(), ..Default::default() };
        assert!(!format!("{made:?}").contains("s3cret"));
    }

    #[test]
    fn credentials_go_over_https_only() {
        for good in [
            "",
            "https://api.dublin.ie1.twilio.com",
            "https://example.signalwire.com/api/laml",
            "https://example.signalwire.com/api/laml/",
            "http://127.0.0.1:4010",
            "http://localhost:1",
        ] {
            assert!(base_url(good.into()).is_ok(), "{good}");
        }
        for bad in [
            "http://api.twilio.com",
            "ftp://x",
            "x",
            "https://u:p@x",
            "https://x?a=b",
            "https://x/api/laml?a=b",
            "https://x/api/laml#a",
            "http://localhost.evil.test",
        ] {
            assert!(base_url(bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_patch_reads_what_its_mask_names() {
        let request = |paths: &[&str]| pb::UpdateCarrierAccountRequest {
            account_sid: format!("AC{:032}", 1),
            secrets: Some(pb::CarrierSecrets { api_key: None, ..secrets() }),
            base_url: "nonsense".into(),
            update_mask: Some(prost_types::FieldMask {
                paths: paths.iter().map(|p| (*p).to_owned()).collect(),
            }),
            ..Default::default()
        };
        let token = patch(request(&["auth_token"])).unwrap();
        assert!(token.auth_token.is_some() && token.api_key.is_none() && token.base_url.is_none());
        let given_up = patch(request(&["api_key", "previous_auth_token"])).unwrap();
        assert!(matches!(
            (given_up.api_key, given_up.previous_auth_token),
            (Some(None), Some(None))
        ));
        assert_eq!(patch(request(&["base_url"])).unwrap_err().field, "base_url");
        assert_eq!(patch(request(&["secrets"])).unwrap_err().field, "update_mask.paths[0]");
        assert_eq!(patch(request(&[])).unwrap_err().field, "update_mask");
    }
}
