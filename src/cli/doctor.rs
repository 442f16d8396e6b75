//! `doctor`: what a node with these settings would lack, each with the line that
//! mends it. It only looks; nothing is changed.

mod grants;
mod host;
mod server;
mod stores;
mod tables;

use std::fmt;

use clap::Args;
use serde::Serialize;

use crate::config::{CtldbUrl, Role, Settings};
use ctlstore_ctldb::ServerAddress;

use super::args::JsonArg;
use super::failure::{Exit, Failure};
use super::output::Out;
use super::{SettingsArgs, client};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore doctor --config executive.toml
  ctlstore doctor --role reflector --role reader --json

Exit code 1 when something would keep the node from working; warnings alone are 0.")]
pub struct Doctor {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    json: JsonArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// It works, and some day it will hurt.
    Warn,
    /// It does not work.
    Fail,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    what: String,
    /// The line that mends it.
    mend: Option<String>,
}

impl Finding {
    fn ok(what: impl Into<String>) -> Self {
        Self { level: Level::Ok, what: what.into(), mend: None }
    }

    fn warn(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Warn, what: what.into(), mend: Some(mend.into()) }
    }

    fn fail(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Fail, what: what.into(), mend: Some(mend.into()) }
    }
}

impl Doctor {
    pub fn run(self) -> anyhow::Result<()> {
        let settings = self.settings.load()?;
        let mut findings = host::look(&settings);
        if settings.uses_ctldb() {
            match &settings.ctldb.url {
                CtldbUrl::Sqlite(path) => findings.push(host::embedded_ctldb(path, &settings)),
                CtldbUrl::Mysql(url) => {
                    let wants = server::Wants {
                        ledger: settings.ctldb.ledger_table.clone(),
                        writes: settings.plays(Role::Executive),
                        drops: settings.executive.destructive_schema_changes,
                    };
                    findings.extend(client::run(async {
                        Ok(server::look(&ServerAddress::new(url.expose()), &wants).await)
                    })?);
                }
            }
            if settings.plays(Role::Executive) {
                findings.extend(client::run(async { Ok(tables::look(&settings).await) })?);
            }
        }
        findings.extend(client::run(async { Ok(stores::look(&settings).await) })?);
        findings.extend(exposure(&settings));
        report(&findings, &self.json)
    }
}

/// What is open to whom.
fn exposure(settings: &Settings) -> Vec<Finding> {
    let binds = [
        (Role::Executive, "executive.bind", settings.executive.bind, "change schemas and limits"),
        (Role::Reader, "reader.bind", settings.reader.bind, "read every row"),
    ];
    let wide = binds.into_iter().filter(|(role, _, bind, _)| settings.plays(*role) && !bind.ip().is_loopback());
    wide.map(|(_, key, bind, what)| {
        let mend = format!("{key} = \"127.0.0.1:{}\", or a network where that is right", bind.port());
        Finding::warn(format!("{key} is {bind}: whoever reaches it may {what}"), mend)
    })
    .collect()
}

fn report(findings: &[Finding], json: &JsonArg) -> anyhow::Result<()> {
    let mut out = Out::new();
    if json.json {
        out.json(&findings)?;
    } else {
        for Finding { level, what, mend } in findings {
            let shown = format!("{level:<4}");
            let shown = if *level == Level::Fail { out.alarming(&shown) } else { shown };
            out.line(&format!("{shown}  {what}"))?;
            if let Some(mend) = mend {
                out.line(&format!("      mend: {mend}"))?;
            }
        }
    }
    out.flush()?;
    match findings.iter().filter(|finding| finding.level == Level::Fail).count() {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Failed, "1 thing would keep the node from working").into()),
        many => Err(Failure::new(Exit::Failed, format!("{many} things would keep the node from working")).into()),
    }
}
