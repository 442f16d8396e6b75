//! `health`: asks a node whether it is ready. It is for health checks of containers, whose images have
//! no curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use reqwest::redirect::Policy;
use url::Url;

use super::args::SettingsArgs;
use super::client::root_cause;
use super::failure::Failure;

/// From connecting to the answer's head.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How much of a bad answer is repeated, in characters.
const SHOWN_CHARS: usize = 200;
const READY: &str = "/readyz";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore health                        the node on this host, at ops.bind of the settings
  ctlstore health --config host.toml     the same, with a settings file
  ctlstore health --ops 10.0.0.7:9090    another node, by its ops address
  ctlstore health --ops http://10.0.0.7:9090/readyz/reader    one role of it

Exit code 0 if the node answers that it is ready; else 1, with the reason.")]
pub struct HealthArgs {
    /// The node's ops address instead of ops.bind; without a path, /readyz is asked
    #[arg(long = "ops", visible_alias = "url", value_name = "URL")]
    ops: Option<String>,
    /// The node's settings file, which has ops.bind
    #[arg(long, value_name = "FILE", conflicts_with = "ops")]
    config: Option<PathBuf>,
}

/// Fails with the reason unless the answer is a 2xx.
pub fn ask(args: HealthArgs) -> anyhow::Result<()> {
    let url = match args.ops {
        Some(ops) => ready_url(&ops)?,
        None => {
            let settings = SettingsArgs { config: args.config, roles: Vec::new() }.load()?;
            format!("http://{}{READY}", reachable(settings.ops.bind))
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("runtime")?;
    runtime.block_on(get(&url)).with_context(|| url.clone())
}

/// The URL to ask, of a URL with or without a path, or of host and port alone.
fn ready_url(ops: &str) -> Result<String, Failure> {
    let full = if ops.contains("://") { ops.to_owned() } else { format!("http://{ops}") };
    let bad = || Failure::usage(format!("--ops {ops:?} is no URL of a node, as http://host:port is"));
    let mut url = Url::parse(&full).map_err(|_| bad())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(bad());
    }
    if url.path() == "/" {
        url.set_path(READY);
    }
    Ok(url.into())
}

async fn get(url: &str) -> anyhow::Result<()> {
    // A proxy of the environment would answer for a node that it cannot reach.
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).timeout(TIMEOUT).build()?;
    let mut answer = client.get(url).send().await.map_err(|error| anyhow!(root_cause(&error)))?;
    if answer.status().is_success() {
        return Ok(());
    }
    let body = answer.chunk().await.ok().flatten().unwrap_or_default();
    let body: String = String::from_utf8_lossy(&body).trim().chars().take(SHOWN_CHARS).collect();
    bail!("{} {body:?}", answer.status())
}

/// An address of this machine, if `bind` means all of them.
fn reachable(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bind.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_a_path_is_asked_whether_it_is_ready() {
        for (ops, want) in [
            ("http://host:9090", "http://host:9090/readyz"),
            ("http://host:9090/", "http://host:9090/readyz"),
            ("host:9090", "http://host:9090/readyz"),
            ("[::1]:9090", "http://[::1]:9090/readyz"),
            ("http://host:9090/readyz/reader", "http://host:9090/readyz/reader"),
            ("https://host/x?y=1", "https://host/x?y=1"),
        ] {
            assert_eq!(ready_url(ops).unwrap(), want, "{ops}");
        }
        for bad in ["", "http://", "ftp://host/", ":", "file:///readyz"] {
            assert!(ready_url(bad).is_err(), "{bad}");
        }
    }
}
