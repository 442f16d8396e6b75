//! Examines this machine: the directories of the node's files, the room in them, the limit of open
//! files. Entry points: [`examine`], and [`embedded_ctldb`].

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use crate::config::{CtldbUrl, Role, Settings};
use ctlstore_core::disk::{self, LockError, ProcessLock};
use ctlstore_ctldb::{self, LedgerTable};
use ctlstore_ldb::refuse_foreign;
use ctlstore_ldb::snapshot::SnapshotUrl;

use super::super::ldb;
use super::diagnosis::Diagnosis;

/// Less free room than this is a warning, in bytes.
const LITTLE_ROOM: u64 = 1024 * 1024 * 1024;
/// A lower limit of open files is a warning: the executive alone may have 1,024 clients.
const FEW_FILES: u64 = 4096;

pub fn examine(settings: &Settings) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    for (what, directory, has_wal) in directories(settings) {
        findings.extend(examine_directory(what, &directory, has_wal));
    }
    let key = settings.ldb.key();
    let ldbs = settings.ldb.all();
    if settings.follows_ledger() {
        for error in ldbs.iter().filter_map(|path| refuse_foreign(path).err()) {
            findings.push(Diagnosis::fail(format!("{key}: {error}"), format!("{key} = a file of its own")));
        }
    }
    if settings.plays(Role::Reader) && !settings.plays(Role::Reflector) {
        findings.extend(ldbs.iter().map(|path| ldb_of_another(key, path)));
    }
    findings.push(open_files());
    findings
}

/// The directories of the node's files, by setting, and whether a write-ahead log is in them.
fn directories(settings: &Settings) -> Vec<(&'static str, PathBuf, bool)> {
    let of = |path: &Path| disk::directory_of(path).to_owned();
    let mut all = vec![("node.data_dir", settings.node.data_dir.clone(), false)];
    if settings.fetches_versions() {
        all.push(("ldb.path", of(&settings.ldb.path), false));
    }
    if settings.follows_ledger() {
        for directory in settings.ldb.all().iter().map(|path| of(path)) {
            if !all.iter().any(|(_, known, has_wal)| *has_wal && *known == directory) {
                all.push((settings.ldb.key(), directory, true));
            }
        }
        all.push(("changelog.path", of(&settings.changelog.path), false));
    }
    if let (true, CtldbUrl::Sqlite(path)) = (settings.plays(Role::Executive), &settings.ctldb.url) {
        all.push(("ctldb.url", of(path), true));
    }
    if settings.plays(Role::Snapshotter) {
        let files = settings.snapshotter.urls.iter().filter_map(|url| match url {
            SnapshotUrl::File(path) => Some(("snapshotter.urls", of(path), false)),
            _ => None,
        });
        all.extend(files);
    }
    all
}

fn examine_directory(what: &str, directory: &Path, has_wal: bool) -> Vec<Diagnosis> {
    let shown = directory.display();
    let Some(existing) = directory.ancestors().find(|path| path.exists()) else {
        return vec![Diagnosis::fail(format!("{what}: {shown} is nowhere"), format!("mkdir -p {shown}"))];
    };
    if !existing.is_dir() {
        let reason = format!("{what}: {} is no directory", existing.display());
        return vec![Diagnosis::fail(reason, format!("{what} = another place"))];
    }
    if let Err(error) = may_write(existing) {
        let user = std::env::var("USER").unwrap_or_else(|_| "$(id -un)".to_owned());
        let mend = format!("mkdir -p {shown} && chown {user} {shown}");
        return vec![Diagnosis::fail(format!("{what}: can't write in {}: {error}", existing.display()), mend)];
    }
    let mut findings = Vec::new();
    match disk::network_filesystem(existing) {
        Ok(Some(kind)) if has_wal => {
            let reason = format!("{what}: {shown} is on a network filesystem ({kind}), where no wal can be");
            findings.push(Diagnosis::fail(reason, format!("{what} = a path on a local disk")));
        }
        Err(error) => findings.push(Diagnosis::warn(format!("{what}: {shown}: {error}"), format!("stat -f {shown}"))),
        Ok(_) => {}
    }
    match free_bytes(existing) {
        Ok(free) if free < LITTLE_ROOM => {
            let mend = format!("make room in {shown}: the ldb needs its size twice while a snapshot is taken");
            findings.push(Diagnosis::warn(format!("{what}: only {} are free in {shown}", ByteSize(free)), mend));
        }
        Ok(free) => findings.push(Diagnosis::ok(format!("{what}: {shown} is writable, {} free", ByteSize(free)))),
        Err(error) => findings.push(Diagnosis::warn(format!("{what}: {shown}: {error}"), format!("stat -f {shown}"))),
    }
    findings
}

/// Makes a file and removes it, since permissions alone don't tell.
fn may_write(directory: &Path) -> io::Result<()> {
    let probe = directory.join(format!(".ctlstore-doctor-{}", std::process::id()));
    fs::OpenOptions::new().write(true).create_new(true).open(&probe)?;
    fs::remove_file(probe)
}

fn free_bytes(directory: &Path) -> io::Result<u64> {
    let name = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: all zeroes are a valid statvfs, which consists of numbers.
    let mut buffer: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is NUL-terminated and outlives the call, which writes only `buffer`.
    if unsafe { libc::statvfs(name.as_ptr(), &raw mut buffer) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // The fields' types differ between platforms.
    #[allow(clippy::unnecessary_cast)]
    Ok((buffer.f_bavail as u64).saturating_mul(buffer.f_frsize as u64))
}

/// Examines the LDB of a reader whose reflector is another process.
fn ldb_of_another(key: &str, path: &Path) -> Diagnosis {
    let shown = path.display();
    if !path.exists() {
        let mend = format!("{key} = the LDB of this host's reflector, or play the role reflector here");
        return Diagnosis::warn(format!("{key}: no ldb at {shown} yet"), mend);
    }
    match ldb::read(path, |ldb| Ok(ldb.last_seq()?)) {
        Ok(seq) => Diagnosis::ok(format!("{key}: {shown} is readable, at seq {seq}")),
        Err(error) => {
            let mend = format!("chmod g+r {shown} {shown}-wal {shown}-shm, and join the group of its owner");
            Diagnosis::fail(format!("{key}: {error}"), mend)
        }
    }
}

fn open_files() -> Diagnosis {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes only `limit`.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    match limit.rlim_cur {
        _ if result != 0 => Diagnosis::warn("the limit of open files can't be read", "ulimit -n"),
        few if few < FEW_FILES => {
            Diagnosis::warn(format!("only {few} files may be open at once"), "ulimit -n 65536, or LimitNOFILE=65536")
        }
        enough => Diagnosis::ok(format!("{enough} files may be open at once")),
    }
}

/// Examines the embedded ctldb without opening it.
pub fn embedded_ctldb(path: &Path, settings: &Settings) -> Diagnosis {
    let shown = path.display();
    if !path.exists() {
        if settings.plays(Role::Executive) {
            return Diagnosis::ok(format!("ctldb.url: {shown} is made at the first start"));
        }
        let reason = format!("ctldb.url: no ctldb at {shown}, and no executive here to make it");
        return Diagnosis::fail(reason, "ctldb.url = the one that the executive writes");
    }
    let ledger = LedgerTable::new(&settings.ctldb.ledger_table);
    if let Err(error) = ledger.and_then(|ledger| ctlstore_ctldb::refuse_foreign(path, &ledger)) {
        return Diagnosis::fail(format!("ctldb.url: {error}"), "ctldb.url = a file of its own");
    }
    if !settings.plays(Role::Executive) {
        return match disk::open_regular(fs::OpenOptions::new().read(true), path) {
            Ok(_) => Diagnosis::ok(format!("ctldb.url: {shown} is readable")),
            Err(error) => Diagnosis::fail(format!("ctldb.url: {shown}: {error}"), format!("chmod g+r {shown}")),
        };
    }
    if !disk::beside(path, ".lock").exists() {
        // Taking the lock would make its file, which might then belong to the wrong user.
        return Diagnosis::ok(format!("ctldb.url: {shown} is there"));
    }
    match ProcessLock::take(path) {
        Ok(_) => Diagnosis::ok(format!("ctldb.url: {shown} is there, and nobody has it")),
        Err(LockError::Held { holder }) => Diagnosis::ok(format!("ctldb.url: {shown} is in use ({holder})")),
        Err(LockError::Io(error)) => {
            Diagnosis::fail(format!("ctldb.url: lock {shown}: {error}"), format!("chown {shown}"))
        }
    }
}
