//! `node`: starts the log, then runs the node on its runtime until it ends.

use anyhow::Context;

use super::failure::Logged;
use crate::config::{LogFormat, Settings};
use crate::{node, telemetry};

pub fn run(settings: Settings) -> anyhow::Result<()> {
    run_with(settings, || {})
}

/// The same; `first` is done when lines can be logged.
pub fn run_with(settings: Settings, first: impl FnOnce()) -> anyhow::Result<()> {
    match settings.log.format {
        LogFormat::Text => telemetry::text(&settings.log.level)?,
        LogFormat::Json => telemetry::json(&settings.log.level)?,
    }
    first();
    let collected = settings.log.format == LogFormat::Json;
    let ended = actix_rt::System::new().block_on(node::run(settings));
    let ended = match ended {
        // A collector of JSON logs can't read a plain line.
        Err(error) if collected => {
            tracing::error!(%error, "the node failed");
            Err(Logged.into())
        }
        ended => ended.context("node"),
    };
    telemetry::flush();
    ended
}
