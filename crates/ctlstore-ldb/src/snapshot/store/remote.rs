//! Object stores, through the object_store crate: which client serves which URL, how long it
//! tries, and which key an object's name has. Every call of the crate runs within
//! [`contained`], because the crate panics at some addresses, headers and answers.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path as Key;
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientConfigKey, GetOptions, GetResult, ObjectMeta, ObjectStore,
    ObjectStoreExt, ObjectStoreScheme, PutMode, PutOptions, RetryConfig, UpdateVersion,
};
use url::Url;

use ctlstore_core::Abort;

use super::client::{CONNECT_TIMEOUT, Connector, StoreOptions, WHOLE_REQUEST};
use super::contain::contained;
use super::environment::{self, BadVariable};
use super::error::StoreError;
use super::object::{CHECKSUM, Chunk, Condition, Object, ObjectBody, ObjectInfo, Part, Stream};
use super::runtime::wait;

/// New tries of one request, all of them within [`RETRY_TIMEOUT`].
pub(super) const RETRIES: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF: BackoffConfig =
    BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(3), base: 2.0 };
/// A copy within the store may take this many times as long as another request.
const COPY_FACTOR: u32 = 20;
/// Variables that the crate knows besides those with its prefixes.
const SERVICE_ACCOUNT: &str = "SERVICE_ACCOUNT";
const IDENTITY_ENDPOINT: &str = "IDENTITY_ENDPOINT";
/// The most objects that one listing gives.
const MAX_LISTED: usize = 10_000;

/// A directory of objects in a store.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    pub(super) store: Arc<dyn ObjectStore>,
    /// The part of the key before the name. It ends with a slash or is empty.
    parent: String,
    /// The URL up to the name, without secrets.
    shown: String,
    /// The longest that the store may be silent.
    pub(super) silence: Duration,
}

impl Remote {
    /// Opens no connection.
    pub(super) fn open(url: &Url, shown: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        let refused = |error: object_store::Error| StoreError::of_store(shown.to_owned(), &error);
        let (scheme, key) = ObjectStoreScheme::parse(url).map_err(|error| refused(error.into()))?;
        let key = key.as_ref();
        let parent = key[..key.rfind('/').map_or(0, |slash| slash + 1)].to_owned();
        let variables = variables(&scheme, options).map_err(|bad| bad.at(shown))?;
        let store = contained(|| shown.to_owned(), || build(&scheme, url, &variables, options).map_err(refused))?;
        // The part up to the name is the same for every sibling.
        let shown = shown[..shown.rfind('/').map_or(0, |slash| slash + 1)].to_owned();
        Ok(Self { store, parent, shown, silence: options.silence })
    }

    pub(super) fn place(&self, name: &str) -> String {
        format!("{}{name}", self.shown)
    }

    pub(super) fn key(&self, name: &str) -> Result<Key, StoreError> {
        Key::parse(format!("{}{name}", self.parent))
            .map_err(|error| StoreError::Other { place: self.place(name), reason: error.to_string() })
    }

    /// Waits for one request and its new tries.
    pub(super) fn run<T>(
        &self,
        name: &str,
        abort: &Abort,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        self.run_for(self.limit(), name, abort, work)
    }

    fn run_for<T>(
        &self,
        limit: Duration,
        name: &str,
        abort: &Abort,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        let work = async { work.await.map_err(|error| StoreError::of_store(self.place(name), &error)) };
        wait(|| self.place(name), limit, abort, work)
    }

    /// The longest wait for one request and its new tries.
    fn limit(&self) -> Duration {
        request_limit(self.silence)
    }

    pub(super) fn head(&self, name: &str, abort: &Abort) -> Result<ObjectInfo, StoreError> {
        let key = self.key(name)?;
        let options = GetOptions { head: true, ..GetOptions::default() };
        let got = self.run(name, abort, self.store.get_opts(&key, options))?;
        Ok(info(name, &got))
    }

    pub(super) fn get(&self, name: &str, part: &Part, abort: &Abort) -> Result<Object, StoreError> {
        let key = self.key(name)?;
        let range = (part.offset > 0).then_some(object_store::GetRange::Offset(part.offset));
        let options = GetOptions { range, if_match: part.if_match.clone(), ..GetOptions::default() };
        let got = self.run(name, abort, self.store.get_opts(&key, options))?;
        let info = info(name, &got);
        let place = self.place(name);
        let chunks = got.into_stream().map(move |chunk| match chunk {
            Ok(bytes) => Ok(Box::new(bytes) as Chunk),
            Err(error) => Err(StoreError::of_store(place.clone(), &error)),
        });
        Ok(Object {
            info,
            body: ObjectBody::Stream(Stream::new(chunks.boxed(), self.place(name), self.limit(), abort)),
        })
    }

    pub(super) fn put(
        &self,
        name: &str,
        bytes: Vec<u8>,
        checksum: Option<&str>,
        condition: &Condition,
        abort: &Abort,
    ) -> Result<(), StoreError> {
        let key = self.key(name)?;
        let mode = match condition {
            Condition::None => PutMode::Overwrite,
            Condition::Missing => PutMode::Create,
            Condition::Is(etag) => PutMode::Update(UpdateVersion { e_tag: Some(etag.clone()), version: None }),
        };
        let options = PutOptions { mode, attributes: attributes(checksum), ..PutOptions::default() };
        self.run(name, abort, self.store.put_opts(&key, bytes.into(), options)).map(|_| ())
    }

    /// Copies within the store, metadata included.
    pub(super) fn copy(&self, from: &str, to: &str, abort: &Abort) -> Result<(), StoreError> {
        let from = self.key(from)?;
        let key = self.key(to)?;
        self.run_for(self.limit() * COPY_FACTOR, to, abort, self.store.copy(&from, &key))
    }

    pub(super) fn delete(&self, name: &str, abort: &Abort) -> Result<(), StoreError> {
        let key = self.key(name)?;
        match self.run(name, abort, self.store.delete(&key)) {
            Err(StoreError::NotFound { .. }) => Ok(()),
            outcome => outcome,
        }
    }

    /// The siblings whose names begin with `prefix`, in the store's order, at most [`MAX_LISTED`].
    pub(super) fn list(&self, prefix: &str, abort: &Abort) -> Result<Vec<ObjectInfo>, StoreError> {
        let start = self.key(prefix)?;
        let directory = (!self.parent.is_empty()).then(|| Key::from(self.parent.trim_end_matches('/')));
        let wanted = |meta: &ObjectMeta| meta.location.as_ref().starts_with(start.as_ref());
        // Stores list in the order of keys, so the listing can end at the first other key.
        // Without that, a bucket full of other objects would be listed whole.
        let listed = self.store.list_with_offset(directory.as_ref(), &start);
        let listed = listed.try_take_while(|meta| std::future::ready(Ok(wanted(meta)))).take(MAX_LISTED);
        let metas: Vec<ObjectMeta> = self.run(prefix, abort, listed.try_collect())?;
        let names = metas.iter().filter_map(|meta| Some((meta.location.as_ref().strip_prefix(&self.parent)?, meta)));
        Ok(names.filter(|(name, _)| !name.contains('/')).map(|(name, meta)| of_meta(name, meta)).collect())
    }
}

pub(super) fn attributes(checksum: Option<&str>) -> Attributes {
    checksum.map(|sum| (Attribute::Metadata(CHECKSUM.into()), sum.to_owned())).into_iter().collect()
}

fn info(name: &str, got: &GetResult) -> ObjectInfo {
    let checksum = got.attributes.get(&Attribute::Metadata(CHECKSUM.into())).map(|value| value.to_string());
    ObjectInfo { checksum, ..of_meta(name, &got.meta) }
}

fn of_meta(name: &str, meta: &ObjectMeta) -> ObjectInfo {
    ObjectInfo {
        name: name.to_owned(),
        size: Some(meta.size),
        etag: meta.e_tag.clone(),
        checksum: None,
        modified: meta.last_modified.into(),
    }
}

fn retry() -> RetryConfig {
    RetryConfig { backoff: BACKOFF, max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT }
}

/// The client's settings that we set. The environment sets the others.
fn client(silence: Duration) -> [(ClientConfigKey, String); 3] {
    let text = |time: Duration| format!("{} ms", time.as_millis());
    [
        (ClientConfigKey::ConnectTimeout, text(CONNECT_TIMEOUT)),
        (ClientConfigKey::ReadTimeout, text(silence)),
        (ClientConfigKey::Timeout, text(WHOLE_REQUEST)),
    ]
}

/// The variables that this kind of store knows.
fn configured<K: FromStr>(variables: &[(String, String)]) -> impl Iterator<Item = (K, String)> {
    variables.iter().filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value.clone())))
}

/// Whether the endpoint is an `http:` address. Naming one allows plain HTTP.
fn is_plain(endpoint: Option<String>) -> bool {
    endpoint.is_some_and(|url| url.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://")))
}

/// The longest wait for one request and its new tries, of a store that may be silent for `silence`.
pub(super) fn request_limit(silence: Duration) -> Duration {
    CONNECT_TIMEOUT + silence + RETRY_TIMEOUT + silence
}

/// The pause before the next try, after so many tries.
pub(super) fn retry_pause(tries: usize) -> Duration {
    let factor = BACKOFF.base.powi(i32::try_from(tries).unwrap_or(i32::MAX));
    BACKOFF.init_backoff.mul_f64(factor).min(BACKOFF.max_backoff)
}

fn variables(scheme: &ObjectStoreScheme, options: &StoreOptions) -> Result<Vec<(String, String)>, BadVariable> {
    environment::check_proxies()?;
    let (prefix, others): (_, &[&str]) = match scheme {
        ObjectStoreScheme::GoogleCloudStorage => ("GOOGLE_", &[SERVICE_ACCOUNT]),
        ObjectStoreScheme::MicrosoftAzure => ("AZURE_", &[IDENTITY_ENDPOINT]),
        _ => ("AWS_", &[]),
    };
    let region = if prefix == "AWS_" { environment::s3_region() } else { None };
    let own: Vec<_> = region.into_iter().chain(options.variables.iter().cloned()).collect();
    environment::read(&[prefix], others, &own)
}

fn build(
    scheme: &ObjectStoreScheme,
    url: &Url,
    variables: &[(String, String)],
    options: &StoreOptions,
) -> object_store::Result<Arc<dyn ObjectStore>> {
    Ok(match scheme {
        ObjectStoreScheme::GoogleCloudStorage => Arc::new(gcs(url, variables, options)?),
        ObjectStoreScheme::MicrosoftAzure => Arc::new(azure(url, variables, options)?),
        _ => Arc::new(s3(url, variables, options)?),
    })
}

fn s3(url: &Url, variables: &[(String, String)], options: &StoreOptions) -> object_store::Result<impl ObjectStore> {
    let mut builder = AmazonS3Builder::new().with_http_connector(Connector).with_url(url.as_str()).with_retry(retry());
    for (key, value) in configured(variables) {
        builder = builder.with_config(key, value);
    }
    for (key, value) in client(options.silence) {
        builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
    }
    let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint];
    if is_plain(endpoint.iter().find_map(|key| builder.get_config_value(key))) {
        builder = builder.with_allow_http(true);
    }
    // Not every such store knows bulk deletes, and we delete one object at a time.
    builder.with_disable_bulk_delete(true).build()
}

fn gcs(url: &Url, variables: &[(String, String)], options: &StoreOptions) -> object_store::Result<impl ObjectStore> {
    let mut builder =
        GoogleCloudStorageBuilder::new().with_http_connector(Connector).with_url(url.as_str()).with_retry(retry());
    if let Some((_, path)) = variables.iter().find(|(name, _)| name == SERVICE_ACCOUNT) {
        builder = builder.with_service_account_path(path);
    }
    for (key, value) in configured(variables) {
        builder = builder.with_config(key, value);
    }
    for (key, value) in client(options.silence) {
        builder = builder.with_config(GoogleConfigKey::Client(key), value);
    }
    builder.build()
}

fn azure(url: &Url, variables: &[(String, String)], options: &StoreOptions) -> object_store::Result<impl ObjectStore> {
    let mut builder =
        MicrosoftAzureBuilder::new().with_http_connector(Connector).with_url(url.as_str()).with_retry(retry());
    for (key, value) in configured(variables) {
        builder = builder.with_config(key, value);
    }
    if let Some((_, endpoint)) = variables.iter().find(|(name, _)| name == IDENTITY_ENDPOINT) {
        builder = builder.with_msi_endpoint(endpoint);
    }
    for (key, value) in client(options.silence) {
        builder = builder.with_config(AzureConfigKey::Client(key), value);
    }
    if is_plain(builder.get_config_value(&AzureConfigKey::Endpoint)) {
        builder = builder.with_allow_http(true);
    }
    builder.build()
}
