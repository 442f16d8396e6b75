//! `config`: prints the effective settings.

use anyhow::Context;
use clap::Args;

use super::args::{JsonArg, SettingsArgs};
use super::output::{Out, say_json};

#[derive(Debug, Args)]
pub struct Config {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    json: JsonArg,
}

impl Config {
    pub fn run(self) -> anyhow::Result<()> {
        let settings = self.settings.load()?;
        if self.json.json {
            return say_json(&settings);
        }
        let text = settings.to_toml().context("settings")?;
        let mut out = Out::new();
        out.text(&text)?;
        out.flush()
    }
}
