//! Examines the stores that snapshots are published to and fetched from: whether their manifests can be
//! read. Entry point: [`examine`].

use std::time::Duration;

use crate::config::{Role, Settings};
use ctlstore_core::Abort;
use ctlstore_ldb::snapshot::fetch::{self, FetchError};
use ctlstore_ldb::snapshot::{Manifest, SnapshotUrl, StoreError};

use super::diagnosis::Diagnosis;

/// How long one store may take.
const TIMEOUT: Duration = Duration::from_secs(15);

pub async fn examine(settings: &Settings) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    for (key, url) in places(settings) {
        let found = ask(url).await;
        findings.push(finding(key, url, found));
    }
    findings
}

fn places(settings: &Settings) -> impl Iterator<Item = (&'static str, &SnapshotUrl)> {
    let to = settings.plays(Role::Snapshotter).then_some(&settings.snapshotter.urls);
    let from = settings.plays(Role::Reflector).then_some(&settings.bootstrap.urls);
    let to = to.into_iter().flatten().map(|url| ("snapshotter.urls", url));
    to.chain(from.into_iter().flatten().map(|url| ("bootstrap.urls", url)))
}

/// The manifest at `url`; [`FetchError::Aborted`] if it does not come in time.
async fn ask(url: &SnapshotUrl) -> Result<Option<Manifest>, FetchError> {
    let abort = Abort::default();
    let in_thread = abort.clone();
    let url = url.clone();
    let mut asking = tokio::task::spawn_blocking(move || fetch::published_manifest(&url, &in_thread));
    let asked = match tokio::time::timeout(TIMEOUT, &mut asking).await {
        Ok(asked) => asked,
        Err(_) => {
            abort.abort();
            asking.await
        }
    };
    asked.unwrap_or(Err(FetchError::Aborted))
}

fn finding(key: &str, url: &SnapshotUrl, found: Result<Option<Manifest>, FetchError>) -> Diagnosis {
    let error = match found {
        // It can't work until the variable is right.
        Err(FetchError::Refused(StoreError::Misconfigured { variable, reason, .. })) => {
            let what = format!("{key}: {url} can't be used: the variable {variable} {reason}");
            return Diagnosis::fail(what, format!("unset {variable}, or export {variable}=a value that is right"));
        }
        Ok(Some(manifest)) => return Diagnosis::ok(format!("{key}: {url} has a snapshot at seq {}", manifest.seq)),
        Ok(None) => return Diagnosis::ok(format!("{key}: {url} can be asked, and has no manifest yet")),
        Err(error) => error,
    };
    let mend = match &error {
        FetchError::Refused(StoreError::Denied { .. } | StoreError::Other { .. }) => credentials(url),
        FetchError::Unavailable(_) | FetchError::Aborted => format!("{key} = a place that answers this host"),
        _ => format!("ctlstore snapshot inspect {url}"),
    };
    let reason = match error {
        FetchError::Aborted => format!("{key}: {url} does not answer in time"),
        error => format!("{key}: {error}"),
    };
    // A node starts without it, and goes on trying.
    Diagnosis::warn(reason, mend)
}

fn credentials(url: &SnapshotUrl) -> String {
    let shown = url.to_string();
    let variables = match shown.split(':').next().unwrap_or_default() {
        "s3" | "s3a" => "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION",
        "gs" => "GOOGLE_SERVICE_ACCOUNT",
        "http" | "https" => return "an address with the right user or signature in it".to_owned(),
        "file" => return format!("chmod a+r {shown}"),
        _ => "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    };
    format!("export {variables} of one who may read {shown}")
}
