use secrecy::ExposeSecret;

use super::*;

const SID: &str = "AC0123456789abcdef0123456789abcdef";
/// All digits, as a real token may be: must not be taken for a number.
const TOKEN: &str = "01234567890123456789012345678901";

fn source(flags: &[(&'static str, &str)], env: &[(&str, &str)], file: &str) -> Source {
    let mut given = Flags::default();
    for (key, value) in flags {
        given.set(key, Some(value));
    }
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let file =
        (!file.is_empty()).then(|| File { name: "trunkline.toml".into(), text: file.into() });
    Source { flags: given, env, file }
}

fn complete() -> Vec<(&'static str, &'static str)> {
    vec![
        ("TRUNKLINE_PUBLIC_URL", "https://calls.example.com"),
        ("TRUNKLINE_TWILIO__ACCOUNT_SID", SID),
        ("TRUNKLINE_TWILIO__AUTH_TOKEN", TOKEN),
        ("TRUNKLINE_TENANT__CALLER_ID", "+14155550100"),
    ]
}

/// `check_serve` with one variable changed.
fn serve_with(name: &'static str, value: &'static str) -> Result<Serve, Error> {
    let mut env = complete();
    env.retain(|(known, _)| *known != name);
    env.push((name, value));
    Config::load(&source(&[], &env, "")).unwrap().check_serve()
}

fn keys(error: &Error) -> Vec<&str> {
    error.problems.iter().map(|problem| problem.setting.as_str()).collect()
}

#[test]
fn defaults_are_as_documented() {
    let config = Config::load(&Source::default()).unwrap();
    assert_eq!(config.database_url.expose_secret(), "sqlite://trunkline.db");
    assert_eq!(config.grpc.listen, "127.0.0.1:50051");
    assert_eq!(config.webhooks.listen, "127.0.0.1:8080");
    assert_eq!(config.twilio.base_url, "https://api.twilio.com");
    assert_eq!((config.tenant.max_concurrent_calls, config.tenant.calls_per_second), (3, 1.0));
    assert_eq!(
        (config.dialer.permits, config.dialer.request_timeout_ms, config.dialer.horizon_ms),
        (32, 15_000, 250)
    );
    assert_eq!((config.drain_timeout_ms, config.retention.logs_days), (25_000, 90));
    assert_eq!(config.log.format, LogFormat::Pretty);
}

#[test]
fn flags_over_environment_over_file_over_defaults() {
    let file =
        "[grpc]\nlisten = '1.1.1.1:1'\n[webhooks]\nlisten = '1.1.1.1:2'\n[tenant]\nid = 'file'\n";
    let env =
        [("TRUNKLINE_GRPC__LISTEN", "2.2.2.2:1"), ("TRUNKLINE_WEBHOOKS__LISTEN", "2.2.2.2:2")];
    let config = Config::load(&source(&[("grpc.listen", "3.3.3.3:1")], &env, file)).unwrap();
    assert_eq!(config.grpc.listen, "3.3.3.3:1");
    assert_eq!(config.webhooks.listen, "2.2.2.2:2");
    assert_eq!(config.tenant.id, "file");
    assert_eq!(config.tenant.time_zone, "UTC");
}

#[test]
fn database_url_of_the_platform_stands_between_ours_and_the_file() {
    let file = "database_url = 'sqlite://file.db'";
    let platform = ("DATABASE_URL", "postgres://platform/db");
    let ours = ("TRUNKLINE_DATABASE_URL", "postgres://ours/db");
    let url = |env: &[(&str, &str)]| {
        Config::load(&source(&[], env, file)).unwrap().database_url.expose_secret().to_owned()
    };
    assert_eq!(url(&[]), "sqlite://file.db");
    assert_eq!(url(&[platform]), "postgres://platform/db");
    assert_eq!(url(&[ours, platform]), "postgres://ours/db");
    assert_eq!(url(&[platform, ours]), "postgres://ours/db");
}

#[test]
fn environment_text_becomes_numbers_and_empty_means_unset() {
    let env = [
        ("TRUNKLINE_TENANT__CALLS_PER_SECOND", "2.5"),
        ("TRUNKLINE_TWILIO__CALLS_PER_SECOND", "3"),
        ("TRUNKLINE_DIALER__PERMITS", "7"),
        ("TRUNKLINE_LOG__FORMAT", "json"),
        ("TRUNKLINE_TWILIO__AUTH_TOKEN", TOKEN),
        ("TRUNKLINE_PUBLIC_URL", ""),
    ];
    let config = Config::load(&source(&[], &env, "")).unwrap();
    assert_eq!((config.tenant.calls_per_second, config.twilio.calls_per_second), (2.5, 3.0));
    assert_eq!((config.dialer.permits, config.log.format), (7, LogFormat::Json));
    assert_eq!(config.twilio.auth_token.unwrap().expose_secret(), TOKEN);
    assert!(config.public_url.is_none());
}

#[test]
fn unknown_keys_are_named_all_at_once() {
    let file = "retries = 3\n[twilio]\nauth_tokn = 'x'\n[window]\nopens = '08:00'\n";
    let env = [("TRUNKLINE_TWILIO_AUTH_TOKEN", "x"), ("TRUNKLINE_NONSENSE", "1"), ("OTHER", "1")];
    let error = Config::load(&source(&[], &env, file)).unwrap_err();
    let mut named = keys(&error);
    named.sort_unstable();
    let expected = [
        "TRUNKLINE_NONSENSE",
        "TRUNKLINE_TWILIO_AUTH_TOKEN",
        "retries",
        "twilio.auth_tokn",
        "window",
    ];
    assert_eq!(named, expected);
    let text = error.to_string();
    assert!(text.contains("did you mean TRUNKLINE_TWILIO__AUTH_TOKEN?"), "{text}");
    assert!(text.contains("twilio.auth_token, "), "{text}");
}

#[test]
fn wrong_types_name_the_setting_and_not_the_value() {
    for (file, key) in [
        ("[twilio]\nauth_token = 31337", "twilio.auth_token"),
        ("[dialer]\npermits = 'hunter31337'", "dialer.permits"),
        ("[dialer]\npermits = -31337", "dialer.permits"),
        ("[log]\nformat = 'v31337'", "log.format"),
    ] {
        let error = Config::load(&source(&[], &[], file)).unwrap_err();
        assert_eq!(keys(&error), [key], "{file}");
        assert!(!error.to_string().contains("31337"), "{error}");
        assert!(error.to_string().contains("TRUNKLINE_"), "{error}");
    }
}

#[test]
fn broken_toml_names_the_line_and_quotes_nothing() {
    let error = Config::load(&source(&[], &[], "[twilio]\nauth_token = hunter2\n")).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("trunkline.toml") && text.contains("line 2"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn serve_tells_everything_that_is_missing() {
    let error = Config::default().check_serve().unwrap_err();
    assert_eq!(
        keys(&error),
        ["public_url", "twilio.account_sid", "twilio.auth_token", "tenant.caller_id"]
    );
    let text = error.to_string();
    assert!(
        text.contains("set --public-url, TRUNKLINE_PUBLIC_URL or public_url in trunkline.toml"),
        "{text}"
    );
    assert!(text.contains("TRUNKLINE_TWILIO__AUTH_TOKEN or auth_token under [twilio]"), "{text}");
}

#[test]
fn serve_takes_a_complete_configuration() {
    let serve = serve_with("TRUNKLINE_TENANT__WINDOW__CLOSES", "24:00").unwrap();
    assert_eq!(serve.account.sid.as_str(), SID);
    assert_eq!(serve.tenant.account_sid.as_str(), SID);
    assert_eq!(serve.tenant.id.as_str(), "default");
    assert_eq!((serve.tenant.window.opens_minute, serve.tenant.window.closes_minute), (480, 1_440));
    assert_eq!(serve.dialer.permits, 32);
    assert!(serve_with("TRUNKLINE_PUBLIC_URL", "http://127.0.0.1:8080").is_ok());
    assert!(serve_with("TRUNKLINE_PUBLIC_URL", "http://localhost:8080/hooks").is_ok());
    assert!(serve_with("TRUNKLINE_TWILIO__BASE_URL", "http://[::1]:4010").is_ok());
    let below_a_path = "https://example.signalwire.com/api/laml/";
    assert!(serve_with("TRUNKLINE_TWILIO__BASE_URL", below_a_path).is_ok());
    let uuid = "b3877c40-da60-4998-90ad-b792e98472af";
    assert!(serve_with("TRUNKLINE_TWILIO__ACCOUNT_SID", uuid).is_ok());
}

#[test]
fn serve_refuses_each_bad_value_by_name() {
    for (name, value, key) in [
        ("TRUNKLINE_DATABASE_URL", "mysql://x", "database_url"),
        ("TRUNKLINE_GRPC__LISTEN", "localhost", "grpc.listen"),
        ("TRUNKLINE_WEBHOOKS__LISTEN", ":8080", "webhooks.listen"),
        ("TRUNKLINE_PUBLIC_URL", "calls.example.com", "public_url"),
        ("TRUNKLINE_PUBLIC_URL", "http://calls.example.com", "public_url"),
        ("TRUNKLINE_PUBLIC_URL", "ftp://calls.example.com", "public_url"),
        ("TRUNKLINE_PUBLIC_URL", "https://user:pw@calls.example.com", "public_url"),
        ("TRUNKLINE_PUBLIC_URL", "https://calls.example.com/?a=b", "public_url"),
        ("TRUNKLINE_TWILIO__BASE_URL", "http://api.twilio.com", "twilio.base_url"),
        ("TRUNKLINE_TWILIO__BASE_URL", "https://a.example.com/laml?a=b", "twilio.base_url"),
        ("TRUNKLINE_TWILIO__BASE_URL", "https://a.example.com/laml#a", "twilio.base_url"),
        ("TRUNKLINE_TWILIO__BASE_URL", "https://u:p@a.example.com/laml", "twilio.base_url"),
        ("TRUNKLINE_TWILIO__ACCOUNT_SID", "AC 123", "twilio.account_sid"),
        ("TRUNKLINE_TWILIO__AUTH_TOKEN", "a b", "twilio.auth_token"),
        ("TRUNKLINE_TWILIO__PREVIOUS_AUTH_TOKEN", "a b", "twilio.previous_auth_token"),
        ("TRUNKLINE_TWILIO__API_KEY_SID", "SK1", "twilio.api_key_secret"),
        ("TRUNKLINE_TWILIO__API_KEY_SECRET", "x", "twilio.api_key_sid"),
        ("TRUNKLINE_TWILIO__CALLS_PER_SECOND", "0", "twilio.calls_per_second"),
        ("TRUNKLINE_TENANT__ID", "Bad Id", "tenant.id"),
        ("TRUNKLINE_TENANT__CALLER_ID", "5550100", "tenant.caller_id"),
        ("TRUNKLINE_TENANT__MAX_CONCURRENT_CALLS", "0", "tenant.max_concurrent_calls"),
        ("TRUNKLINE_TENANT__CALLS_PER_SECOND", "99999", "tenant.calls_per_second"),
        ("TRUNKLINE_TENANT__TIME_ZONE", "Mars/Olympus", "tenant.time_zone"),
        ("TRUNKLINE_TENANT__WINDOW__OPENS", "8", "tenant.window.opens"),
        ("TRUNKLINE_TENANT__WINDOW__CLOSES", "07:00", "tenant.window.closes"),
        ("TRUNKLINE_DIALER__PERMITS", "0", "dialer.permits"),
        ("TRUNKLINE_DIALER__REQUEST_TIMEOUT_MS", "20000", "dialer.request_timeout_ms"),
        ("TRUNKLINE_DIALER__HORIZON_MS", "5000", "dialer.horizon_ms"),
        ("TRUNKLINE_RETENTION__LOGS_DAYS", "0", "retention.logs_days"),
        ("TRUNKLINE_DRAIN_TIMEOUT_MS", "999999999", "drain_timeout_ms"),
    ] {
        let error = serve_with(name, value).expect_err(name);
        assert_eq!(keys(&error), [key], "{name}={value}: {error}");
        assert!(error.to_string().contains("TRUNKLINE_"), "{error}");
    }
}

#[test]
fn client_needs_a_key_and_a_url() {
    let check = |endpoint: &str, key: Option<&str>| {
        let mut config = Config::default();
        config.client.endpoint = endpoint.into();
        config.client.api_key = key.map(SecretString::from);
        config.check_client()
    };
    assert!(check("https://x.example.com", Some("id.secret")).is_ok());
    assert!(check("http://trunkline:50051", Some("id.secret")).is_ok());
    let error = check("grpc://x", None).unwrap_err();
    assert_eq!(keys(&error), ["client.endpoint", "client.api_key"]);
    assert!(error.to_string().contains("--api-key-file, TRUNKLINE_CLIENT__API_KEY"), "{error}");
    for bad in ["nodot", "a b.c", ".x", "x.", "a.b\n"] {
        assert_eq!(keys(&check("http://x", Some(bad)).unwrap_err()), ["client.api_key"]);
    }
}

#[test]
fn secrets_and_phones_do_not_print() {
    let mut env = complete();
    env.push(("TRUNKLINE_DATABASE_URL", "postgres://user:hunter2@db/x"));
    env.push(("TRUNKLINE_CLIENT__API_KEY", "id.hunter2"));
    let config = Config::load(&source(&[], &env, "")).unwrap();
    let text = format!(
        "{config:?} {:?} {:?}",
        config.check_serve().unwrap(),
        config.check_client().unwrap()
    );
    for secret in [TOKEN, "hunter2", "4155550100"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn the_example_names_every_setting() {
    let example = include_str!("../../examples/trunkline.toml");
    Config::load(&source(&[], &[], example)).unwrap().check_serve().unwrap();
    // Uncommented, it must still hold nothing but settings. Prose has no " = " after its first
    // word.
    let all: String = example
        .lines()
        .map(|line| {
            let bare = line.strip_prefix("# ").unwrap_or(line);
            let setting = bare.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
            let kept = if setting || bare.starts_with('[') { bare } else { "" };
            format!("{kept}\n")
        })
        .collect();
    Config::load(&source(&[], &[], &all)).unwrap();
    for (key, _) in super::source::SETTINGS {
        let name = key.rsplit('.').next().unwrap();
        assert!(all.contains(&format!("{name} = ")), "{key}");
    }
}
