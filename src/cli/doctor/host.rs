//! What this machine gives a node: places for its files, room in them, open files.

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
use super::Finding;

/// Less free room than this is a warning, in bytes.
const LITTLE_ROOM: u64 = 1024 * 1024 * 1024;
/// Fewer open files than this are a warning: the executive alone takes 1,024 clients.
const FEW_FILES: u64 = 4096;

pub fn look(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (what, directory, has_wal) in directories(settings) {
        findings.extend(place(what, &directory, has_wal));
    }
    if settings.follows_ledger()
        && let Err(error) = refuse_foreign(&settings.ldb.path)
    {
        findings.push(Finding::fail(format!("ldb.path: {error}"), "ldb.path = a file of its own"));
    }
    if settings.plays(Role::Reader) && !settings.plays(Role::Reflector) {
        findings.push(ldb_of_another(&settings.ldb.path));
    }
    findings.push(open_files());
    findings
}

/// What lives where, and whether a write-ahead log does.
fn directories(settings: &Settings) -> Vec<(&'static str, PathBuf, bool)> {
    let of = |path: &Path| disk::directory_of(path).to_owned();
    let mut all = vec![("node.data_dir", settings.node.data_dir.clone(), false)];
    if settings.fetches_versions() {
        all.push(("ldb.path", of(&settings.ldb.path), false));
    }
    if settings.follows_ledger() {
        all.push(("ldb.path", of(&settings.ldb.path), true));
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

fn place(what: &str, directory: &Path, has_wal: bool) -> Vec<Finding> {
    let shown = directory.display();
    let Some(existing) = directory.ancestors().find(|path| path.exists()) else {
        return vec![Finding::fail(format!("{what}: {shown} is nowhere"), format!("mkdir -p {shown}"))];
    };
    if !existing.is_dir() {
        let reason = format!("{what}: {} is no directory", existing.display());
        return vec![Finding::fail(reason, format!("{what} = another place"))];
    }
    if let Err(error) = may_write(existing) {
        let user = std::env::var("USER").unwrap_or_else(|_| "$(id -un)".to_owned());
        let mend = format!("mkdir -p {shown} && chown {user} {shown}");
        return vec![Finding::fail(format!("{what}: can't write in {}: {error}", existing.display()), mend)];
    }
    let mut findings = Vec::new();
    match disk::network_filesystem(existing) {
        Ok(Some(kind)) if has_wal => {
            let reason = format!("{what}: {shown} is on a network filesystem ({kind}), where no wal can be");
            findings.push(Finding::fail(reason, format!("{what} = a path on a local disk")));
        }
        Err(error) => findings.push(Finding::warn(format!("{what}: {shown}: {error}"), format!("stat -f {shown}"))),
        Ok(_) => {}
    }
    match free_bytes(existing) {
        Ok(free) if free < LITTLE_ROOM => {
            let mend = format!("make room in {shown}: the ldb needs its size twice while a snapshot is taken");
            findings.push(Finding::warn(format!("{what}: only {} are free in {shown}", ByteSize(free)), mend));
        }
        Ok(free) => findings.push(Finding::ok(format!("{what}: {shown} is writable, {} free", ByteSize(free)))),
        Err(error) => findings.push(Finding::warn(format!("{what}: {shown}: {error}"), format!("stat -f {shown}"))),
    }
    findings
}

/// By making a file and taking it away again: rights alone don't tell.
fn may_write(directory: &Path) -> io::Result<()> {
    let probe = directory.join(format!(".ctlstore-doctor-{}", std::process::id()));
    fs::OpenOptions::new().write(true).create_new(true).open(&probe)?;
    fs::remove_file(probe)
}

fn free_bytes(directory: &Path) -> io::Result<u64> {
    let name = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: all zeroes are a value of statvfs, which is plain numbers.
    let mut buffer: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is NUL-terminated and outlives the call, which writes only `buffer`.
    if unsafe { libc::statvfs(name.as_ptr(), &raw mut buffer) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // The fields' types differ between platforms.
    #[allow(clippy::unnecessary_cast)]
    Ok((buffer.f_bavail as u64).saturating_mul(buffer.f_frsize as u64))
}

/// The LDB of a reader whose reflector is another process.
fn ldb_of_another(path: &Path) -> Finding {
    let shown = path.display();
    if !path.exists() {
        let mend = "ldb.path = the LDB of this host's reflector, or play the role reflector here";
        return Finding::warn(format!("ldb.path: no ldb at {shown} yet"), mend);
    }
    match ldb::read(path, |ldb| Ok(ldb.last_seq()?)) {
        Ok(seq) => Finding::ok(format!("ldb.path: {shown} is readable, at seq {seq}")),
        Err(error) => {
            let mend = format!("chmod g+r {shown} {shown}-wal {shown}-shm, and join the group of its owner");
            Finding::fail(format!("ldb.path: {error}"), mend)
        }
    }
}

fn open_files() -> Finding {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes only `limit`.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    match limit.rlim_cur {
        _ if result != 0 => Finding::warn("the limit of open files can't be read", "ulimit -n"),
        few if few < FEW_FILES => {
            Finding::warn(format!("only {few} files may be open at once"), "ulimit -n 65536, or LimitNOFILE=65536")
        }
        enough => Finding::ok(format!("{enough} files may be open at once")),
    }
}

/// The embedded ctldb, as far as that is seen without opening it.
pub fn embedded_ctldb(path: &Path, settings: &Settings) -> Finding {
    let shown = path.display();
    if !path.exists() {
        return match settings.plays(Role::Executive) {
            true => Finding::ok(format!("ctldb.url: {shown} is made at the first start")),
            false => Finding::fail(
                format!("ctldb.url: no ctldb at {shown}, and no executive here to make it"),
                "ctldb.url = the one that the executive writes",
            ),
        };
    }
    let ledger = LedgerTable::new(&settings.ctldb.ledger_table);
    if let Err(error) = ledger.and_then(|ledger| ctlstore_ctldb::refuse_foreign(path, &ledger)) {
        return Finding::fail(format!("ctldb.url: {error}"), "ctldb.url = a file of its own");
    }
    if !settings.plays(Role::Executive) {
        return match disk::open_regular(fs::OpenOptions::new().read(true), path) {
            Ok(_) => Finding::ok(format!("ctldb.url: {shown} is readable")),
            Err(error) => Finding::fail(format!("ctldb.url: {shown}: {error}"), format!("chmod g+r {shown}")),
        };
    }
    if !disk::beside(path, ".lock").exists() {
        // To take the lock would make its file, which might then be the wrong user's.
        return Finding::ok(format!("ctldb.url: {shown} is there"));
    }
    match ProcessLock::take(path) {
        Ok(_) => Finding::ok(format!("ctldb.url: {shown} is there, and nobody has it")),
        Err(LockError::Held { holder }) => Finding::ok(format!("ctldb.url: {shown} is in use ({holder})")),
        Err(LockError::Io(error)) => {
            Finding::fail(format!("ctldb.url: lock {shown}: {error}"), format!("chown {shown}"))
        }
    }
}
