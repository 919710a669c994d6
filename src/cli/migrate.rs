//! `trunkline migrate`: the database's schema, up to date.

use secrecy::ExposeSecret;

use super::Error;
use crate::app;
use crate::config::{Config, Flags};

/// Brings the database's schema up to date; `serve` does so as well.
// Has no `Debug`: the database URL may carry a password.
#[derive(clap::Args)]
pub struct Args {
    /// sqlite://FILE or postgres://… [default: sqlite://trunkline.db]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
}

impl Args {
    /// The settings that these flags override.
    pub fn flags(&self, flags: &mut Flags) {
        flags.set("database_url", self.database_url.as_ref());
    }
}

/// Brings the schema up to date and says so.
pub async fn execute(config: &Config) -> Result<(), Error> {
    app::migrate(config.check_database()?.expose_secret()).await?;
    println!("the schema is up to date");
    Ok(())
}
