//! `ctlstore node`: logs first, then the node on its runtime.

use anyhow::Context;

use super::Logged;
use crate::config::{LogFormat, Settings};
use crate::{node, telemetry};

pub fn run(settings: Settings) -> anyhow::Result<()> {
    match settings.log.format {
        LogFormat::Text => telemetry::text(&settings.log.level)?,
        LogFormat::Json => telemetry::json(&settings.log.level)?,
    }
    let collected = settings.log.format == LogFormat::Json;
    let ended = actix_rt::System::new().block_on(node::run(settings));
    let ended = match ended {
        // A collector of the logs reads no other lines.
        Err(error) if collected => {
            tracing::error!(%error, "the node failed");
            Err(Logged.into())
        }
        ended => ended.context("node"),
    };
    telemetry::flush();
    ended
}
