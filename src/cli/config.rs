//! `ctlstore config`: the effective settings.

use std::io::Write;

use anyhow::Context;

use crate::config::Settings;

pub fn print(settings: &Settings) -> anyhow::Result<()> {
    let text = settings.to_toml().context("settings")?;
    std::io::stdout().write_all(text.as_bytes()).context("standard output")
}
