//! Where settings come from, and how the layers become one [`Config`].

use std::fmt;
use std::path::Path;

use figment::Figment;
use figment::error::Kind;
use figment::providers::Serialized;
use figment::value::{Dict, Value};

use super::{Config, DEFAULT_FILE, Error, Problem};

/// What every environment variable of ours begins with.
const PREFIX: &str = "TRUNKLINE_";
/// Names another file; the same as `--config`.
const FILE_VARIABLE: &str = "TRUNKLINE_CONFIG";
/// Set by most hosting platforms; yields to `TRUNKLINE_DATABASE_URL`.
const DATABASE_VARIABLE: &str = "DATABASE_URL";
/// The largest settings file, in bytes.
const FILE_MAX_BYTES: usize = 1 << 20;

/// The file that this process runs.
///
/// # Errors
/// When the system does not say.
pub fn this_program() -> std::io::Result<std::path::PathBuf> {
    std::env::current_exe()
}

/// Every key there is, and the flag that sets it, or "".
pub(super) const SETTINGS: [(&str, &str); 60] = [
    ("database_url", "--database-url"),
    ("public_url", "--public-url"),
    ("drain_timeout_ms", ""),
    ("roles", "--roles"),
    ("grpc.listen", "--grpc-listen"),
    ("grpc.health", ""),
    ("grpc.reflection", ""),
    ("tls.cert_file", ""),
    ("tls.key_file", ""),
    ("tls.client_ca_file", ""),
    ("tls.client_auth", ""),
    ("tls.client_scopes", ""),
    ("limits.peer", ""),
    ("limits.standard.read", ""),
    ("limits.standard.write", ""),
    ("limits.standard.stream", ""),
    ("limits.standard.maintenance", ""),
    ("limits.standard.rows", ""),
    ("limits.standard.streams_max", ""),
    ("limits.standard.queued_jobs_max", ""),
    ("limits.high_volume.read", ""),
    ("limits.high_volume.write", ""),
    ("limits.high_volume.stream", ""),
    ("limits.high_volume.maintenance", ""),
    ("limits.high_volume.rows", ""),
    ("limits.high_volume.streams_max", ""),
    ("limits.high_volume.queued_jobs_max", ""),
    ("webhooks.listen", "--webhooks-listen"),
    ("metrics.listen", "--metrics-listen"),
    ("hooks.allow", ""),
    ("hooks.timeout_ms", ""),
    ("hooks.disable_after_s", ""),
    ("twilio.base_url", ""),
    ("twilio.account_sid", ""),
    ("twilio.auth_token", ""),
    ("twilio.previous_auth_token", ""),
    ("twilio.api_key_sid", ""),
    ("twilio.api_key_secret", ""),
    ("twilio.calls_per_second", ""),
    ("tenant.id", ""),
    ("tenant.caller_id", ""),
    ("tenant.max_concurrent_calls", ""),
    ("tenant.calls_per_second", ""),
    ("tenant.time_zone", ""),
    ("tenant.region", ""),
    ("tenant.greeting", ""),
    ("tenant.window.opens", ""),
    ("tenant.window.closes", ""),
    ("sealing.keys", ""),
    ("dialer.permits", ""),
    ("dialer.request_timeout_ms", ""),
    ("dialer.horizon_ms", ""),
    ("retention.logs_days", ""),
    ("log.format", ""),
    ("log.filter", "--log"),
    ("client.endpoint", "--endpoint"),
    ("client.api_key", "--api-key-file"),
    ("client.ca_file", ""),
    ("client.cert_file", ""),
    ("client.key_file", ""),
];

/// Settings given as flags. Has no `Debug`: one of them may be the API key.
#[derive(Clone, Default)]
pub struct Flags(Vec<(&'static str, String)>);

impl Flags {
    /// Sets `key` if the flag was given.
    pub fn set(&mut self, key: &'static str, value: Option<impl ToString>) {
        debug_assert!(is_known(key), "{key} is not a setting");
        self.0.extend(value.map(|value| (key, value.to_string())));
    }
}

/// A settings file.
#[derive(Clone)]
pub struct File {
    /// For messages.
    pub name: String,
    /// TOML.
    pub text: String,
}

/// Everything that settings are read from. Has no `Debug`: it holds secrets.
#[derive(Clone, Default)]
pub struct Source {
    /// From the command line.
    pub flags: Flags,
    /// The environment, all of it.
    pub env: Vec<(String, String)>,
    /// The settings file, if there is one.
    pub file: Option<File>,
}

impl Source {
    /// This process's environment, and the file that `config` or `TRUNKLINE_CONFIG` names or,
    /// without either, `trunkline.toml` if the working directory has one.
    pub fn of_process(flags: Flags, config: Option<&Path>) -> Result<Self, Error> {
        let mut env = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            if !name.starts_with(PREFIX) && name != DATABASE_VARIABLE {
                continue;
            }
            let value = value
                .into_string()
                .map_err(|_| Problem::new(name.as_str(), "its value is not UTF-8"))?;
            env.push((name, value));
        }
        let from_env = env.iter().find(|(name, value)| name == FILE_VARIABLE && !value.is_empty());
        let named = config.or(from_env.map(|(_, path)| Path::new(path)));
        let file = match named {
            Some(path) => Some(read(path)?),
            None if Path::new(DEFAULT_FILE).exists() => Some(read(Path::new(DEFAULT_FILE))?),
            None => None,
        };
        Ok(Self { flags, env, file })
    }
}

fn read(path: &Path) -> Result<File, Error> {
    let name = path.display().to_string();
    let problem =
        |why: &dyn fmt::Display| Error::from(Problem::new(name.as_str(), format!("{why}")));
    let text = std::fs::read_to_string(path).map_err(|error| problem(&error))?;
    if text.len() > FILE_MAX_BYTES {
        return Err(problem(&"is larger than 1 MiB"));
    }
    Ok(File { name, text })
}

impl Config {
    /// Reads the settings: flags over environment over file over defaults. Unknown keys are errors.
    pub fn load(source: &Source) -> Result<Self, Error> {
        let mut problems = Vec::new();
        let mut figment = Figment::new();
        if let Some(file) = &source.file {
            let table = parse(file)?;
            unknown_keys(file, "", &table, &mut problems);
            figment = figment.merge(Serialized::defaults(table));
        }
        // First, so that TRUNKLINE_DATABASE_URL overrides it.
        let platform =
            source.env.iter().find(|(name, value)| name == DATABASE_VARIABLE && !value.is_empty());
        if let Some((_, url)) = platform {
            figment = figment.merge(Serialized::default("database_url", url));
        }
        for (name, value) in &source.env {
            let Some(rest) = name.strip_prefix(PREFIX).filter(|_| name != FILE_VARIABLE) else {
                continue;
            };
            let key = rest.to_ascii_lowercase().replace("__", ".");
            if !is_known(&key) || env_name(&key) != *name {
                problems.push(Problem::new(name.as_str(), unknown_variable(&key)));
            } else if !value.is_empty() {
                // Empty means not set: that is how container tools pass on what is not set.
                figment = figment.merge(Serialized::default(&key, value));
            }
        }
        for (key, value) in &source.flags.0 {
            figment = figment.merge(Serialized::default(key, value));
        }
        if !problems.is_empty() {
            return Err(Error { problems });
        }
        // Lossy: a number from the environment is text.
        figment
            .extract_lossy()
            .map_err(|error| Error { problems: error.into_iter().map(described).collect() })
    }
}

fn parse(file: &File) -> Result<Dict, Error> {
    use figment::providers::{Format, Toml};
    Toml::from_str(&file.text).map_err(|error| {
        // The first line says where; the rest quotes the file, which may hold secrets.
        let text = error.to_string();
        let place = text.lines().next().unwrap_or("is not TOML");
        Problem::new(file.name.as_str(), place).into()
    })
}

fn unknown_keys(file: &File, prefix: &str, table: &Dict, problems: &mut Vec<Problem>) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match value {
            Value::Dict(_, inner) if is_section(&key) => {
                unknown_keys(file, &format!("{key}."), inner, problems);
            }
            _ if is_known(&key) => {}
            _ => problems.push(Problem::new(
                key.as_str(),
                format!("is not a setting, but {} sets it; {}", file.name, siblings(&key)),
            )),
        }
    }
}

fn is_known(key: &str) -> bool {
    SETTINGS.iter().any(|(known, _)| *known == key)
}

fn is_section(key: &str) -> bool {
    SETTINGS
        .iter()
        .any(|(known, _)| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

/// What could have been meant.
fn siblings(key: &str) -> String {
    let section = key.rsplit_once('.').map_or("", |(section, _)| section);
    let known: Vec<&str> = SETTINGS
        .iter()
        .map(|(known, _)| *known)
        .filter(|known| section.is_empty() || known.starts_with(&format!("{section}.")))
        .collect();
    if known.is_empty() {
        let all: Vec<&str> = SETTINGS.iter().map(|(known, _)| *known).collect();
        return format!("there are {}", all.join(", "));
    }
    format!("there are {}", known.join(", "))
}

fn unknown_variable(key: &str) -> String {
    let flat = |text: &str| text.replace(['.', '_'], "");
    match SETTINGS.iter().find(|(known, _)| flat(known) == flat(key)) {
        Some((known, _)) => format!("is not a setting; did you mean {}?", env_name(known)),
        None => format!("is not a setting; {}", siblings(key)),
    }
}

/// The variable that sets `key`: sections are set off by two underscores.
fn env_name(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}

/// Every way to set `key`, for messages.
pub(super) fn ways(key: &str) -> String {
    let flag = SETTINGS.iter().find(|(known, _)| *known == key).map_or("", |(_, flag)| *flag);
    let flag = if flag.is_empty() { String::new() } else { format!("{flag}, ") };
    let file = match key.rsplit_once('.') {
        Some((section, name)) => format!("{name} under [{section}] in {DEFAULT_FILE}"),
        None => format!("{key} in {DEFAULT_FILE}"),
    };
    format!("{flag}{} or {file}", env_name(key))
}

/// Says what type was expected and never what was given: it may be a secret in the wrong place.
fn described(error: figment::Error) -> Problem {
    let key = error.path.join(".");
    let message = match error.kind {
        Kind::InvalidType(_, expected)
        | Kind::InvalidValue(_, expected)
        | Kind::InvalidLength(_, expected) => {
            format!("must be {expected}")
        }
        Kind::UnknownVariant(_, expected) => format!("must be one of {}", expected.join(", ")),
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => "is out of range".into(),
        Kind::Message(_)
        | Kind::UnknownField(..)
        | Kind::MissingField(_)
        | Kind::DuplicateField(_)
        | Kind::Unsupported(_)
        | Kind::UnsupportedKey(..) => "has a value of the wrong kind".into(),
    };
    if is_known(&key) { Problem::of(&key, message) } else { Problem::new(key, message) }
}
