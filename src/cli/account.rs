//! `trunkline account`: carrier accounts and their credentials, which only ever go in.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{self, Client, request_id};
use super::output::Output;
use super::run::pair;
use super::tenant::{PAGE_SIZE, administer};
use super::{Error, display};
use crate::grpc::pb;

/// The largest file of a secret, in bytes.
const SECRET_FILE_MAX_BYTES: u64 = 4_096;

/// Administers carrier accounts. Needs a key with the scope admin.
#[derive(Subcommand)]
pub enum Command {
    /// Creates an account.
    Create {
        /// The account's id at the carrier; at Twilio AC and 32 hexadecimal digits.
        account: String,
        /// A file that holds the auth token; - for standard input.
        #[arg(long, value_name = "FILE", required = true)]
        auth_token_file: Option<PathBuf>,
        #[command(flatten)]
        more: More,
    },
    /// Changes what is named of an account. A new auth token makes the old one the previous one.
    Update {
        /// The account.
        account: String,
        /// A file that holds the new auth token; - for standard input.
        #[arg(long, value_name = "FILE")]
        auth_token_file: Option<PathBuf>,
        #[command(flatten)]
        more: More,
        /// Callbacks signed with the previous auth token count no more.
        #[arg(long)]
        forget_previous_auth_token: bool,
        /// REST requests are signed with the auth token again.
        #[arg(long, conflicts_with = "api_key_sid")]
        forget_api_key: bool,
    },
    /// Shows an account, without its credentials.
    Get {
        /// The account.
        account: String,
    },
    /// Lists accounts by SID.
    List,
    /// Seals all credentials with the server's first master key.
    Reseal,
}

/// What both creating and changing can name.
#[derive(clap::Args)]
pub struct More {
    /// The carrier's API key, SK….
    #[arg(long, requires = "api_key_secret_file")]
    api_key_sid: Option<String>,
    /// A file that holds its secret.
    #[arg(long, value_name = "FILE", requires = "api_key_sid")]
    api_key_secret_file: Option<PathBuf>,
    /// New calls a second at most over all its tenants, 1/3600 to 10,000 [default: 1]
    #[arg(long)]
    calls_per_second: Option<f64>,
    /// Where its API is [default: the server's twilio.base_url]
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
}

/// Carries out `command`.
pub async fn execute(client: &Client, command: Command, output: Output) -> Result<(), Error> {
    let request_id = request_id();
    let account = match command {
        Command::Create { account: account_sid, auth_token_file, more } => {
            let secrets = Some(secrets(auth_token_file.as_deref(), &more)?);
            let calls_per_second = more.calls_per_second.unwrap_or_default();
            let base_url = more.base_url.unwrap_or_default();
            let request = pb::CreateCarrierAccountRequest {
                request_id,
                account_sid,
                calls_per_second,
                base_url,
                secrets,
            };
            administer!(client, create_carrier_account, request)?.account
        }
        Command::Update {
            account,
            auth_token_file,
            more,
            forget_previous_auth_token,
            forget_api_key,
        } => {
            let named = [
                ("auth_token", auth_token_file.is_some()),
                ("previous_auth_token", forget_previous_auth_token),
                ("api_key", more.api_key_sid.is_some() || forget_api_key),
                ("calls_per_second", more.calls_per_second.is_some()),
                ("base_url", more.base_url.is_some()),
            ];
            let paths =
                named.iter().filter(|(_, named)| *named).map(|(path, _)| (*path).to_owned());
            let request = pb::UpdateCarrierAccountRequest {
                request_id,
                account_sid: account,
                secrets: Some(secrets(auth_token_file.as_deref(), &more)?),
                update_mask: Some(prost_types::FieldMask { paths: paths.collect() }),
                calls_per_second: more.calls_per_second.unwrap_or_default(),
                base_url: more.base_url.unwrap_or_default(),
                etag: String::new(),
            };
            administer!(client, update_carrier_account, request)?.account
        }
        Command::Get { account: account_sid } => {
            administer!(client, get_carrier_account, pb::GetCarrierAccountRequest { account_sid })?
                .account
        }
        Command::List => return list(client, output).await,
        Command::Reseal => return reseal(client, output).await,
    };
    show(output, &account.unwrap_or_default())
}

fn secrets(auth_token: Option<&Path>, more: &More) -> Result<pb::CarrierSecrets, Error> {
    let api_key = match (&more.api_key_sid, &more.api_key_secret_file) {
        (Some(sid), Some(file)) => {
            Some(pb::CarrierApiKey { sid: sid.clone(), secret: read_secret(file)? })
        }
        (Some(_), None) | (None, _) => None,
    };
    let auth_token = auth_token.map(read_secret).transpose()?.unwrap_or_default();
    Ok(pb::CarrierSecrets { auth_token, previous_auth_token: String::new(), api_key })
}

/// From a file, so that it is neither in the shell's history nor in the list of processes.
fn read_secret(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(SECRET_FILE_MAX_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(SECRET_FILE_MAX_BYTES).read_to_string(&mut text))
    };
    read.map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
    Ok(text.trim().to_owned())
}

async fn list(client: &Client, output: Output) -> Result<(), Error> {
    let (mut accounts, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListCarrierAccountsRequest { page_size: PAGE_SIZE, page_token };
        let page = administer!(client, list_carrier_accounts, request)?;
        accounts.extend(page.accounts);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let value: Value = accounts.iter().map(account_json).collect();
    let rows = accounts.iter().map(|account| {
        let changed = display::time(account.secrets_time.as_ref());
        let rate = account.calls_per_second.to_string();
        vec![account.account_sid.clone(), rate, account.sealed_with.clone(), changed]
    });
    let header = ["account", "calls/s", "sealed with", "credentials changed"];
    Ok(output.show(&value, &header, rows.collect())?)
}

async fn reseal(client: &Client, output: Output) -> Result<(), Error> {
    let done = administer!(client, reseal_carrier_accounts, pb::ResealCarrierAccountsRequest {})?;
    let counts = [done.resealed_count, done.unchanged_count, done.unreadable_count];
    let value = json!({ "resealed": counts[0], "unchanged": counts[1], "unreadable": counts[2] });
    let row = counts.map(|count| count.to_string()).to_vec();
    output.show(&value, &["resealed", "unchanged", "unreadable"], vec![row])?;
    if done.unreadable_count > 0 {
        let why = "accounts are sealed with a master key that the server does not have; its log names them";
        return Err(Error::Runtime(format!("{} {why}", done.unreadable_count)));
    }
    Ok(())
}

fn account_json(account: &pb::CarrierAccount) -> Value {
    json!({
        "account_sid": account.account_sid,
        "calls_per_second": account.calls_per_second,
        "base_url": account.base_url,
        "sealed_with": account.sealed_with,
        "auth_token_hint": account.auth_token_hint,
        "has_previous_auth_token": account.has_previous_auth_token,
        "previous_auth_token_hint": account.previous_auth_token_hint,
        "api_key_sid": account.api_key_sid,
        "api_key_secret_hint": account.api_key_secret_hint,
        "secrets_time": display::time(account.secrets_time.as_ref()),
        "etag": account.etag,
    })
}

fn show(output: Output, account: &pb::CarrierAccount) -> Result<(), Error> {
    let hint = |hint: &str| if hint.is_empty() { String::new() } else { format!("…{hint}") };
    let stored = if account.sealed_with.is_empty() { "none" } else { "sealed" };
    let mut rows = vec![
        pair("account", &account.account_sid),
        pair("calls a second", &account.calls_per_second.to_string()),
        pair("API", &account.base_url),
        pair("credentials", stored),
        pair("sealed with", &account.sealed_with),
        pair("auth token", &hint(&account.auth_token_hint)),
        pair("previous auth token", &hint(&account.previous_auth_token_hint)),
        pair("API key", &account.api_key_sid),
        pair("API key's secret", &hint(&account.api_key_secret_hint)),
        pair("credentials changed", &display::time(account.secrets_time.as_ref())),
    ];
    rows.retain(|row| row.iter().all(|cell| !cell.is_empty()));
    Ok(output.show(&account_json(account), &["", ""], rows)?)
}
