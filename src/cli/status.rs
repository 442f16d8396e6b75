//! `status`: prints what every actor of a node tells about itself, once or repeatedly.

use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::args::JsonArg;
use super::client::{self, ServerClient};
use super::output::{Out, OutputTable, Piped, printable};

/// Moves to the terminal's upper left corner, and clears the rest.
const HOME: &str = "\x1b[H\x1b[J";
const CLEAR: &str = "\x1b[2J";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore status                          on a terminal until ctrl-C, else once
  ctlstore status --ops host:9090 --json   the JSON of GET /status")]
pub struct StatusArgs {
    /// The node's ops address: a URL, or host and port
    #[arg(long, value_name = "URL", env = "CTLSTORE_OPS", default_value = "http://127.0.0.1:9090")]
    ops: String,
    /// Ask only once, also on a terminal
    #[arg(long)]
    once: bool,
    /// Seconds between two questions
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    interval: f64,
    #[command(flatten)]
    json: JsonArg,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("must be 0.1 to 3600".to_owned()) }
}

#[derive(Deserialize)]
struct NodeJson {
    version: String,
    ready: bool,
    roles: Vec<RoleJson>,
}

#[derive(Deserialize)]
struct RoleJson {
    role: String,
    state: String,
    not_ready: Option<String>,
    last_seq: Option<i64>,
    lag_seconds: Option<f64>,
    last_error: Option<LastErrorJson>,
}

#[derive(Deserialize)]
struct LastErrorJson {
    message: String,
    at: String,
}

impl StatusArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        let ops = ServerClient::new("node", "--ops or CTLSTORE_OPS", &self.ops)?;
        client::run(async {
            if self.json.json {
                let answer = ops.ask(ops.request(Method::GET, &["status"])).await?;
                let mut out = Out::new();
                out.json(&answer.json::<Box<RawValue>>()?)?;
                return out.flush();
            }
            let refreshes = Out::new().is_terminal() && !self.once;
            if refreshes {
                Out::new().text(CLEAR)?;
            }
            loop {
                let node = ops.ask(ops.request(Method::GET, &["status"])).await.and_then(|answer| answer.json());
                if !refreshes {
                    return self.show(&node?, "");
                }
                match node {
                    Ok(node) => self.show(&node, HOME)?,
                    // A node that is being restarted comes back.
                    Err(failure) => {
                        let mut out = Out::new();
                        let failure = out.alarming(&failure.to_string());
                        out.line(&format!("{HOME}{failure}"))?;
                        out.flush()?;
                    }
                }
                tokio::time::sleep(Duration::from_secs_f64(self.interval)).await;
            }
        })
    }

    fn show(&self, node: &NodeJson, before: &str) -> anyhow::Result<()> {
        let mut out = Out::new();
        out.text(before)?;
        let ready = if node.ready { "ready".to_owned() } else { out.alarming("not ready") };
        if out.is_terminal() {
            out.line(&format!("ctlstore {} at {}: {ready}\n", node.version, self.ops))?;
        }
        // On a terminal a note has no room beside the other columns.
        let columns = if out.is_terminal() { 4 } else { 5 };
        let mut table = OutputTable::new(["ROLE", "STATE", "SEQ", "LAG", "NOTE"].into_iter().take(columns));
        for role in &node.roles {
            let seq = role.last_seq.map_or_else(|| "-".to_owned(), |seq| seq.to_string());
            let lag = role.lag_seconds.map_or_else(|| "-".to_owned(), |lag| format!("{lag:.3} s"));
            table.row([role.role.as_str(), &role.state, &seq, &lag, &role.note()].into_iter().take(columns));
        }
        table.write(&mut out, Piped::Tabs)?;
        if out.is_terminal() {
            for role in node.roles.iter().filter(|role| !role.note().is_empty()) {
                out.line(&format!("\n{}: {}", role.role, printable(&role.note())))?;
            }
        }
        out.flush()
    }
}

impl RoleJson {
    fn note(&self) -> String {
        match (&self.not_ready, &self.last_error) {
            (Some(why), _) => why.clone(),
            (None, Some(LastErrorJson { message, at })) => format!("last error at {at}: {message}"),
            (None, None) => String::new(),
        }
    }
}
