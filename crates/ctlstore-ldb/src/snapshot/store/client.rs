//! The HTTP clients of stores, with our rules: bounded times, redirects that carry no
//! credentials elsewhere, no `Referer`. [`Connector`] gives clients to the object_store
//! crate; [`web`] makes the client for plain web servers.

use std::fmt;
use std::time::Duration;

use object_store::client::{HttpClient, HttpConnector};
use object_store::{ClientConfigKey as Key, ClientOptions};
use reqwest::{Certificate, Client, ClientBuilder, NoProxy, Proxy};

use super::redirects;

/// How a store is talked to.
#[derive(Clone)]
pub struct StoreOptions {
    /// The longest that the store may be silent while an answer is due.
    pub silence: Duration,
    /// Variables such as `AWS_ENDPOINT_URL`, which win over those of the environment. May hold secrets.
    pub variables: Vec<(String, String)>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { silence: Duration::from_secs(30), variables: Vec::new() }
    }
}

/// Shows the names of variables, not their values.
impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.variables.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("StoreOptions").field("silence", &self.silence).field("variables", &names).finish()
    }
}

/// The longest that connecting may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest request. Long transfers must fit; a transfer that stops flowing ends by `silence`.
pub(super) const WHOLE_REQUEST: Duration = Duration::from_secs(24 * 60 * 60);

const USER_AGENT: &str = concat!("ctlstore/", env!("CARGO_PKG_VERSION"));

/// Makes the clients of object stores.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = configured(options).and_then(ClientBuilder::build);
        client
            .map(HttpClient::new)
            .map_err(|source| object_store::Error::Generic { store: "HTTP client", source: Box::new(source) })
    }
}

/// Makes the client for plain web servers.
pub(super) fn web(silence: Duration) -> reqwest::Result<Client> {
    let timed = common().connect_timeout(CONNECT_TIMEOUT).read_timeout(silence).timeout(WHOLE_REQUEST);
    timed.http1_only().redirect(redirects::of_web()).user_agent(USER_AGENT).build()
}

fn common() -> ClientBuilder {
    // The bytes of a store are hashed as they are stored, so no client may decode them.
    ClientBuilder::new().no_gzip().no_brotli().no_zstd().no_deflate().referer(false)
}

/// Takes over what object_store was configured with, as far as a client has such a setting.
fn configured(options: &ClientOptions) -> reqwest::Result<ClientBuilder> {
    let value = |key| options.get_config_value(&key);
    let is_on = |key| value(key).is_some_and(|value| is_true(&value));
    let time = |key| value(key).and_then(|value| humantime::parse_duration(&value).ok());
    let mut builder = common().redirect(redirects::of_stores()).https_only(!is_on(Key::AllowHttp));
    builder = builder.user_agent(value(Key::UserAgent).unwrap_or_else(|| USER_AGENT.to_owned()));
    if let Some(headers) = options.get_default_headers() {
        builder = builder.default_headers(headers.clone());
    }
    if let Some(proxy) = value(Key::ProxyUrl) {
        let excludes = value(Key::ProxyExcludes).and_then(|excludes| NoProxy::from_string(&excludes));
        builder = builder.proxy(Proxy::all(proxy)?.no_proxy(excludes));
    }
    if let Some(pem) = value(Key::ProxyCaCertificate) {
        builder = builder.tls_certs_merge([Certificate::from_pem(pem.as_bytes())?]);
    }
    if is_on(Key::NoSystemCertificates) {
        builder = builder.tls_certs_only([]);
    }
    builder = builder.connect_timeout(time(Key::ConnectTimeout).unwrap_or(CONNECT_TIMEOUT));
    builder = builder.timeout(time(Key::Timeout).unwrap_or(WHOLE_REQUEST));
    if let Some(time) = time(Key::ReadTimeout) {
        builder = builder.read_timeout(time);
    }
    if let Some(time) = time(Key::PoolIdleTimeout) {
        builder = builder.pool_idle_timeout(time);
    }
    if let Some(most) = value(Key::PoolMaxIdlePerHost).and_then(|most| most.parse().ok()) {
        builder = builder.pool_max_idle_per_host(most);
    }
    if is_on(Key::Http1Only) {
        builder = builder.http1_only();
    }
    Ok(builder.danger_accept_invalid_certs(is_on(Key::AllowInvalidCertificates)))
}

fn is_true(value: &str) -> bool {
    ["true", "1", "yes", "on", "y"].contains(&value.to_ascii_lowercase().as_str())
}
