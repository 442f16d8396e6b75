//! Reads and checks the environment's variables for the clients of stores. [`read`] gives
//! the variables that a kind of store knows, checked; [`check_proxies`] checks those that
//! all clients share. It makes no client.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::sync::OnceLock;
use std::time::Duration;

use url::Url;

use super::error::StoreError;

/// The longest value of one variable. A certificate and a service account's key fit.
const MAX_BYTES: usize = 64 << 10;
const MAX_REGION_BYTES: usize = 64;
/// The longest time that a variable may set, far more than any store needs.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

const PROXIES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const NO_PROXIES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Names whose values are `true` or `false`, without their prefix.
const BOOLEANS: [&str; 22] = [
    "virtual_hosted_style_request",
    "s3_express",
    "imdsv1_fallback",
    "unsigned_payload",
    "skip_signature",
    "disable_tagging",
    "disable_bulk_delete",
    "request_payer",
    "sse_bucket_key_enabled",
    "use_emulator",
    "storage_use_emulator",
    "use_fabric_endpoint",
    "use_azure_cli",
    "allow_http",
    "allow_invalid_certificates",
    "disable_system_certificates",
    "http1_only",
    "http2_only",
    "http2_keep_alive_while_idle",
    "randomize_addresses",
    "metadata_imdsv1_fallback",
    "force_path_style",
];
/// The ends of names whose values are paths of files, in any characters.
const PATHS: [&str; 4] = ["_file", "_path", "service_account", "application_credentials"];
/// The ends of names whose values are texts of several lines.
const TEXTS: [&str; 2] = ["service_account_key", "ca_certificate"];

/// The region of `s3:` URLs, if this process was told one.
static S3_REGION: OnceLock<String> = OnceLock::new();

/// Sets the region of the `s3:` URLs of this process, over `AWS_REGION`. An empty one, and
/// every call after the first that sets one, does nothing.
pub fn set_s3_region(region: &str) {
    if !region.is_empty() {
        let _ = S3_REGION.set(region.to_owned());
    }
}

/// The region that was set, as the variable that it stands for.
pub(super) fn s3_region() -> Option<(String, String)> {
    S3_REGION.get().map(|region| ("AWS_REGION".to_owned(), region.clone()))
}

/// A variable that can't be used, and why. Its value is not shown, because it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadVariable {
    pub(super) name: String,
    pub(super) reason: String,
}

impl BadVariable {
    /// The failure of the store whose address is `place`.
    pub(super) fn at(self, place: &str) -> StoreError {
        let Self { name, reason } = self;
        StoreError::Misconfigured { place: place.to_owned(), variable: name, reason }
    }
}

/// The variables whose names begin with one of `prefixes` or are in `names`. Those of `own`
/// win over those of the process. An empty variable counts as not set.
pub(super) fn read(
    prefixes: &[&str],
    names: &[&str],
    own: &[(String, String)],
) -> Result<Vec<(String, String)>, BadVariable> {
    let is_known = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix)) || names.contains(&name);
    let process = env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let own = own.iter().map(|(name, value)| (name.clone(), OsString::from(value)));
    let known: BTreeMap<String, OsString> = process.filter(|(name, _)| is_known(name)).chain(own).collect();
    let mut checked = Vec::new();
    for (name, value) in known {
        let refused = |reason: String| BadVariable { name: name.clone(), reason };
        let value = value.into_string().map_err(|_| refused("is not UTF-8".to_owned()))?;
        if check(&name, &value).map_err(refused)? {
            checked.push((name, value));
        }
    }
    Ok(checked)
}

/// Checks the proxies that the environment names.
pub(super) fn check_proxies() -> Result<(), BadVariable> {
    for name in PROXIES.iter().chain(&NO_PROXIES) {
        let Some(value) = env::var_os(name) else { continue };
        let refused = |reason: String| BadVariable { name: (*name).to_owned(), reason };
        let value = value.into_string().map_err(|_| refused("is not UTF-8".to_owned()))?;
        if value.is_empty() {
            continue;
        }
        printable(&value).map_err(refused)?;
        if PROXIES.contains(name) {
            proxy(&value).map_err(refused)?;
        }
    }
    Ok(())
}

/// Whether the client is to get `value`; it does not get an empty one.
fn check(name: &str, value: &str) -> Result<bool, String> {
    let name = name.to_ascii_lowercase();
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    let bare = name.split_once('_').map_or(name.as_str(), |(_, bare)| bare);
    let is_boolean = BOOLEANS.contains(&bare);
    let is_address = !is_boolean
        && (name.contains("endpoint") || ends(&["_full_uri", "authority_host", "base_url"]) || name == "msi_endpoint");
    if value.trim().is_empty() {
        // Without its endpoint a client would talk to the provider's own servers.
        return if is_address { Err("is empty: unset it, or set it to http(s)://host".to_owned()) } else { Ok(false) };
    }
    if value.len() > MAX_BYTES {
        return Err(format!("is longer than {MAX_BYTES} bytes"));
    }
    if ends(&TEXTS) {
        return if value.contains('\0') { Err("has a NUL in it".to_owned()) } else { Ok(true) };
    }
    if value.chars().any(char::is_control) {
        return Err("has a line end or another control character in it".to_owned());
    }
    if ends(&PATHS) {
        return Ok(true);
    }
    printable(value)?;
    if is_boolean {
        boolean(value)?;
    } else if is_address {
        address(value)?;
    } else if ends(&["proxy_url"]) {
        proxy(value)?;
    } else if ends(&["_timeout", "_interval"]) {
        duration(value)?;
    } else if ends(&["region"]) {
        region(value)?;
    }
    Ok(true)
}

/// Whether a header or an address can carry the value.
fn printable(value: &str) -> Result<(), String> {
    if value.chars().any(char::is_control) {
        return Err("has a line end or another control character in it".to_owned());
    }
    if !value.is_ascii() {
        return Err("has a character outside of ASCII, which no request can carry".to_owned());
    }
    if value.trim() != value {
        return Err("begins or ends with a space".to_owned());
    }
    Ok(())
}

fn boolean(value: &str) -> Result<(), String> {
    let known = ["true", "false", "1", "0", "yes", "no", "on", "off", "y", "n"];
    if !known.contains(&value.to_ascii_lowercase().as_str()) {
        return Err("is neither true nor false".to_owned());
    }
    Ok(())
}

fn duration(value: &str) -> Result<(), String> {
    match humantime::parse_duration(value) {
        Ok(time) if time <= LONGEST => Ok(()),
        _ => Err("is no time with its unit, such as 30s".to_owned()),
    }
}

fn region(value: &str) -> Result<(), String> {
    let is_good = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if value.len() > MAX_REGION_BYTES || !value.bytes().all(is_good) {
        return Err("is no region, such as us-east-1".to_owned());
    }
    Ok(())
}

fn address(value: &str) -> Result<(), String> {
    let no_address = || "is no address such as https://host:port".to_owned();
    let url = Url::parse(value).map_err(|_| no_address())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) || url.port() == Some(0) {
        return Err(no_address());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has credentials in it, which belong into variables of their own".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() || value.contains(['\\', ' ']) {
        return Err("has a query, a fragment, a space or a backslash, none of which belongs to an address".to_owned());
    }
    Ok(())
}

fn proxy(value: &str) -> Result<(), String> {
    let whole = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let url = Url::parse(&whole).ok().filter(|url| url.host_str().is_some_and(|host| !host.is_empty()));
    match url {
        Some(url) if matches!(url.scheme(), "http" | "https") => Ok(()),
        Some(url) if url.scheme().starts_with("socks") => Err("is a SOCKS proxy, which is not supported".to_owned()),
        _ => Err("is no proxy such as http://host:port".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_would_panic_or_stumble_over_is_named() {
        for (name, value, why) in [
            ("AWS_ENDPOINT_URL", "", "is empty"),
            ("AWS_ENDPOINT_URL", "  ", "is empty"),
            ("AWS_ENDPOINT_URL_S3", "minio:9000", "is no address"),
            ("AWS_ENDPOINT_URL", "minio", "is no address"),
            ("AWS_ENDPOINT", "ftp://minio", "is no address"),
            ("AWS_ENDPOINT_URL", "http://h:0", "is no address"),
            ("AWS_ENDPOINT_URL", "http://u:p@h", "credentials"),
            ("AWS_ENDPOINT_URL", "http://h/?x", "query"),
            ("AWS_ENDPOINT_URL", "http://h\n", "line end"),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "nonsense", "is no address"),
            ("AWS_ACCESS_KEY_ID", "AKIA\n", "line end"),
            ("AWS_ACCESS_KEY_ID", "AKIA\u{e9}", "outside of ASCII"),
            ("AWS_SESSION_TOKEN", " token", "space"),
            ("AWS_REGION", "us east 1", "is no region"),
            ("AWS_DEFAULT_REGION", "x/../y", "is no region"),
            ("AWS_ALLOW_HTTP", "perhaps", "neither true nor false"),
            ("AWS_POOL_IDLE_TIMEOUT", "soon", "is no time"),
            ("AWS_PROXY_URL", "socks5://h:1", "SOCKS"),
            ("GOOGLE_BASE_URL", "localhost", "is no address"),
            ("AZURE_STORAGE_ENDPOINT", "blob", "is no address"),
            ("AZURE_STORAGE_ACCOUNT_NAME", "acc\tount", "control character"),
            ("GOOGLE_SERVICE_ACCOUNT_KEY", "{\0}", "NUL"),
        ] {
            let refused = check(name, value).expect_err(name);
            assert!(refused.contains(why), "{name}={value:?}: {refused}");
        }
    }

    #[test]
    fn the_region_of_this_process_is_set_once() {
        set_s3_region("");
        assert_eq!(s3_region(), None, "an empty one sets nothing");
        set_s3_region("eu-central-1");
        set_s3_region("us-east-1");
        assert_eq!(s3_region(), Some(("AWS_REGION".to_owned(), "eu-central-1".to_owned())));
    }

    #[test]
    fn what_clients_can_use_passes_and_empty_ones_are_left_out() {
        for (name, value, is_used) in [
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9000", true),
            ("AWS_ENDPOINT_URL", "https://h/prefix/", true),
            ("AWS_SESSION_TOKEN", "", false),
            ("AWS_SECRET_ACCESS_KEY", "a/b+c=", true),
            ("AWS_REGION", "eu-central-1", true),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/pfad/für", true),
            ("GOOGLE_SERVICE_ACCOUNT_KEY", "{\n}\n", true),
            ("AZURE_USE_FABRIC_ENDPOINT", "true", true),
            ("AWS_CONNECT_TIMEOUT", "3s", true),
        ] {
            assert_eq!(check(name, value), Ok(is_used), "{name}={value:?}");
        }
    }
}
