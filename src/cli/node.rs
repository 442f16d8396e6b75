//! `ctlstore node`: logs first, then the node on its runtime.

use anyhow::Context;

use crate::config::{LogFormat, Settings};
use crate::{node, telemetry};

pub fn run(settings: Settings) -> anyhow::Result<()> {
    match settings.log.format {
        LogFormat::Text => telemetry::text(&settings.log.level)?,
        LogFormat::Json => telemetry::json(&settings.log.level)?,
    }
    actix_rt::System::new().block_on(node::run(settings)).context("node")
}
