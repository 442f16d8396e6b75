//! The HTTP clients of stores, with our rules: bounded times, redirects that take no
//! credentials elsewhere, no `Referer`. [`Connector`] gives them to the object_store
//! crate, [`web`] makes the one for plain web servers.

use std::time::Duration;

use object_store::client::{HttpClient, HttpConnector};
use object_store::{ClientConfigKey as Key, ClientOptions};
use reqwest::{Certificate, Client, ClientBuilder, NoProxy, Proxy};

use super::redirects;

/// The longest that connecting may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// In place of a limit for a whole request, which would end long transfers: what
/// counts here is that bytes flow.
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

/// The client for plain web servers.
pub(super) fn web(silence: Duration) -> reqwest::Result<Client> {
    let timed = common().connect_timeout(CONNECT_TIMEOUT).read_timeout(silence).timeout(WHOLE_REQUEST);
    timed.http1_only().redirect(redirects::of_web()).user_agent(USER_AGENT).build()
}

fn common() -> ClientBuilder {
    // A store's bytes are hashed and measured as they are stored.
    ClientBuilder::new().no_gzip().no_brotli().no_zstd().no_deflate().referer(false)
}

/// With what the crate was told, as far as a client can be told so.
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
