//! `config`: prints the effective settings.

use std::ffi::OsString;

use anyhow::Context;
use clap::Args;

use super::args::{JsonArg, SettingsArgs};
use super::original::{self, Note};
use super::output::{Out, say_json};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore config --config host.toml
  ctlstore config --as reflector -ldb-path /srv/ldb.db -upstream-driver mysql -upstream-dsn '…'")]
pub struct Config {
    #[command(flatten)]
    settings: SettingsArgs,
    /// A command of the Go program with its flags: print the settings that they become.
    /// Everything after it belongs to it
    #[arg(long = "as", value_name = "COMMAND FLAGS", num_args = 1.., allow_hyphen_values = true,
          conflicts_with_all = ["config", "roles"])]
    original: Option<Vec<OsString>>,
    #[command(flatten)]
    json: JsonArg,
}

impl Config {
    pub fn run(self) -> anyhow::Result<()> {
        let (settings, notes) = match &self.original {
            None => (self.settings.load()?, Vec::new()),
            Some(words) => match original::settings_as(words)? {
                Some(translated) => (translated.settings, translated.notes),
                None => return Ok(()),
            },
        };
        if self.json.json {
            return say_json(&settings);
        }
        let text = settings.to_toml().context("settings")?;
        let mut out = Out::new();
        for Note { flags, says } in &notes {
            out.line(&format!("# {flags}: {says}"))?;
        }
        out.text(&text)?;
        out.flush()
    }
}
