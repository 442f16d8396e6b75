//! `doctor`: finds what would keep a node with these settings from working, and prints for each finding
//! the line that mends it. It changes nothing. Each file below examines one part: `host` this machine,
//! `server` a MySQL ctldb, `tables` the ctldb's tables, `stores` the places of snapshots.

mod diagnosis;
mod grants;
mod host;
mod server;
mod stores;
mod tables;

use clap::Args;

use crate::config::{CtldbUrl, Role, Settings};
use ctlstore_ctldb::ServerAddress;

use self::diagnosis::{Diagnosis, Level};
use super::args::{JsonArg, SettingsArgs};
use super::client;
use super::failure::{Exit, Failure};
use super::output::Out;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore doctor --config executive.toml
  ctlstore doctor --role reflector --role reader --json

Exit code 1 if something would keep the node from working. Warnings alone are 0.")]
pub struct DoctorArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    json: JsonArg,
}

impl DoctorArgs {
    pub fn run(self) -> anyhow::Result<()> {
        let settings = self.settings.load()?;
        let mut findings = host::examine(&settings);
        if settings.uses_ctldb() {
            match &settings.ctldb.url {
                CtldbUrl::Sqlite(path) => findings.push(host::embedded_ctldb(path, &settings)),
                CtldbUrl::Mysql(url) => {
                    let needs = server::Needs {
                        ledger: settings.ctldb.ledger_table.clone(),
                        writes: settings.plays(Role::Executive),
                        drops: settings.executive.destructive_schema_changes,
                    };
                    findings.extend(client::run(async {
                        Ok(server::examine(&ServerAddress::new(url.expose()), &needs).await)
                    })?);
                }
            }
            if settings.plays(Role::Executive) {
                findings.extend(client::run(async { Ok(tables::examine(&settings).await) })?);
            }
        }
        findings.extend(client::run(async { Ok(stores::examine(&settings).await) })?);
        findings.extend(exposure(&settings));
        report(&findings, &self.json)
    }
}

/// Which servers are open beyond this host.
fn exposure(settings: &Settings) -> Vec<Diagnosis> {
    let binds = [
        (Role::Executive, "executive.bind", settings.executive.bind, "change schemas and limits"),
        (Role::Reader, "reader.bind", settings.reader.bind, "read every row"),
    ];
    let wide = binds.into_iter().filter(|(role, _, bind, _)| settings.plays(*role) && !bind.ip().is_loopback());
    wide.map(|(_, key, bind, what)| {
        let mend = format!("{key} = \"127.0.0.1:{}\", or a network where that is right", bind.port());
        Diagnosis::warn(format!("{key} is {bind}: whoever reaches it may {what}"), mend)
    })
    .collect()
}

fn report(findings: &[Diagnosis], json: &JsonArg) -> anyhow::Result<()> {
    let mut out = Out::new();
    if json.json {
        out.json(&findings)?;
    } else {
        for Diagnosis { level, what, mend } in findings {
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
