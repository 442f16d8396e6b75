//! `ctlstore health`: one question to a node, for health checks of containers,
//! whose images have no curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use reqwest::redirect::Policy;

use super::SettingsArgs;

/// From connecting to the answer's head.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest piece of a bad answer that is repeated, in characters.
const SHOWN_CHARS: usize = 200;

#[derive(Debug, Args)]
pub struct HealthArgs {
    /// What to ask, instead of /readyz at ops.bind
    #[arg(long)]
    url: Option<String>,
    /// The file that the node runs with, where ops.bind is said
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    config: Option<PathBuf>,
}

/// Fails with the reason unless the answer is a 2xx.
pub fn ask(args: HealthArgs) -> anyhow::Result<()> {
    let url = match args.url {
        Some(url) => url,
        None => {
            let settings = SettingsArgs { config: args.config, roles: Vec::new() }.load()?;
            format!("http://{}/readyz", reachable(settings.ops.bind))
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("runtime")?;
    runtime.block_on(get(&url)).with_context(|| url.clone())
}

async fn get(url: &str) -> anyhow::Result<()> {
    // A proxy of the environment would answer for a node that it cannot reach.
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).timeout(TIMEOUT).build()?;
    let mut answer = client.get(url).send().await.map_err(reqwest::Error::without_url)?;
    if answer.status().is_success() {
        return Ok(());
    }
    let body = answer.chunk().await.ok().flatten().unwrap_or_default();
    let body: String = String::from_utf8_lossy(&body).trim().chars().take(SHOWN_CHARS).collect();
    bail!("{} {body:?}", answer.status())
}

/// An address of this machine for one that means all of them.
fn reachable(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bind.port())
}
