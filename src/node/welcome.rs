//! Prints the servers' addresses to standard output. On a node with executive, reader and reflector
//! it adds commands to try first. Entry points: [`Welcome::new`] and [`Welcome::print`].

use std::io::Write;

use crate::config::Settings;

use super::listeners::Listeners;

/// The lines that are printed once the node runs.
pub struct Welcome {
    lines: Vec<String>,
}

impl Welcome {
    pub fn new(settings: &Settings, listeners: &Listeners) -> Self {
        let roles: Vec<String> = settings.node.roles.iter().map(|role| format!("{role:?}").to_lowercase()).collect();
        let mut lines = vec![format!("ctlstore {}: {}", env!("CARGO_PKG_VERSION"), roles.join(", "))];
        lines.extend(listeners.named().map(|(name, bound)| format!("listening {name} {}", bound.url())));
        lines.push("running; ctrl-C stops".to_owned());
        if let (Some(executive), Some(reader), true) =
            (&listeners.executive, &listeners.reader, settings.follows_ledger())
        {
            lines.extend(first_steps(&executive.url(), &reader.url(), &listeners.ops.url()));
        }
        Self { lines }
    }

    /// Prints the lines on a thread of its own, because standard output may be a pipe that is not read.
    pub fn print(self) {
        // If its reader is gone, the node runs all the same.
        let say = move || drop(writeln!(std::io::stdout(), "{}", self.lines.join("\n")));
        if let Err(error) = std::thread::Builder::new().name("welcome".to_owned()).spawn(say) {
            tracing::warn!(%error, "no thread that says where the node listens");
        }
    }
}

fn first_steps(executive: &str, reader: &str, ops: &str) -> [String; 7] {
    [
        "try:".to_owned(),
        format!("  curl -X POST {executive}/families/shop"),
        format!(
            r#"  curl -X POST {executive}/families/shop/tables/flags -d '{{"fields":[["name","string"],["on","integer"]],"keyFields":["name"]}}'"#
        ),
        format!("  curl -X POST {executive}/writers/readme -d 'a-secret'"),
        format!(
            r#"  curl -X POST {executive}/families/shop/mutations -H 'ctlstore-writer: readme' -H 'ctlstore-secret: a-secret' -d '{{"mutations":[{{"table":"flags","values":{{"name":"dark-mode","on":true}}}}]}}'"#
        ),
        format!(r#"  curl -X POST {reader}/get-row-by-key/shop/flags -d '{{"Key":[{{"Value":"dark-mode"}}]}}'"#),
        format!("  curl {ops}/status"),
    ]
}
