//! `ctlstore config`: the effective settings.

use anyhow::Context;

use super::output::Out;
use crate::config::Settings;

pub fn print(settings: &Settings) -> anyhow::Result<()> {
    let text = settings.to_toml().context("settings")?;
    let mut out = Out::new();
    out.text(&text)?;
    out.flush()
}
