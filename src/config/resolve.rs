//! Makes loaded settings ready to use: puts relative paths under the data directory and reads the
//! files that hold secrets. Entry point: [`resolve`].

use std::io;
use std::path::{Path, PathBuf, absolute};

use ctlstore_core::disk::read_secret;
use ctlstore_ldb::snapshot::SnapshotUrl;

use super::choices::Role;
use super::ctldb_url::CtldbUrl;
use super::settings::Settings;
use super::validate::Findings;

pub fn resolve(settings: &mut Settings, findings: &mut Findings) {
    paths(settings, findings);
    if settings.uses_ctldb() {
        ctldb_password(settings, findings);
    }
    if settings.plays(Role::Heartbeat) {
        heartbeat_secret(settings, findings);
    }
}

fn paths(settings: &mut Settings, findings: &mut Findings) {
    match absolute(&settings.node.data_dir) {
        Ok(path) => settings.node.data_dir = path,
        Err(error) => findings.refuse(&["node.data_dir"], format!("cannot be made absolute: {error}")),
    }
    let Settings { node, ctldb, ldb, bootstrap, executive, changelog, snapshotter, heartbeat, .. } = settings;
    let under = |path: &mut PathBuf| *path = node.data_dir.join(&path);
    under(&mut ldb.path);
    ldb.paths.iter_mut().for_each(under);
    if let Some(first) = ldb.paths.first() {
        ldb.path.clone_from(first);
    }
    under(&mut changelog.path);
    ctldb.password_file.as_mut().map(under);
    heartbeat.secret_file.as_mut().map(under);
    if let CtldbUrl::Sqlite(path) = &mut ctldb.url {
        under(path);
    }
    let urls = snapshotter.urls.iter_mut().chain(&mut bootstrap.urls).chain(&mut executive.ledger_retention_snapshots);
    for url in urls {
        if let SnapshotUrl::File(path) = url {
            under(path);
        }
    }
}

fn ctldb_password(settings: &mut Settings, findings: &mut Findings) {
    let ctldb = &mut settings.ctldb;
    let (Some(path), CtldbUrl::Mysql(url)) = (&ctldb.password_file, &ctldb.url) else { return };
    if url.has_password() {
        return;
    }
    match read_secret(path) {
        Ok(password) => ctldb.url = CtldbUrl::Mysql(url.with_password_of(path, &password)),
        Err(error) => findings.refuse(&["ctldb.password_file"], unreadable(path, &error)),
    }
}

fn heartbeat_secret(settings: &mut Settings, findings: &mut Findings) {
    let heartbeat = &mut settings.heartbeat;
    let (Some(path), None) = (&heartbeat.secret_file, &heartbeat.secret) else { return };
    match read_secret(path) {
        Ok(secret) => heartbeat.secret = Some(secret.into()),
        Err(error) => findings.refuse(&["heartbeat.secret_file"], unreadable(path, &error)),
    }
}

/// The path as it was resolved: the settings may have it relative to the data directory.
fn unreadable(path: &Path, error: &io::Error) -> String {
    format!("{} cannot be read: {error}", path.display())
}
