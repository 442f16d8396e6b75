//! The heartbeat's secret where none is given: made at the first start and kept in
//! the data directory, readable by the owner alone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use secrecy::SecretString;
use uuid::Uuid;

use crate::disk;

/// The file's name within the data directory.
const FILE: &str = "heartbeat.secret";
/// The most that it may hold, in bytes.
const MAX_BYTES: u64 = 4096;

/// Reads the secret of an earlier start, or makes one.
pub fn kept_in(data_dir: &Path) -> io::Result<SecretString> {
    let path = data_dir.join(FILE);
    match disk::read_regular_text(&path, MAX_BYTES) {
        Ok(secret) if !secret.trim().is_empty() => return Ok(secret.trim().into()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Two version 4 UUIDs carry 244 random bits from the system's generator.
    let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let temporary = data_dir.join(format!("{FILE}.new"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = disk::open_regular(&mut options, &temporary)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, &path)?;
    Ok(secret.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_made_once_and_kept_from_others() {
        let directory = tempfile::tempdir().unwrap();
        let first = kept_in(directory.path()).unwrap();
        let second = kept_in(directory.path()).unwrap();
        assert_eq!(first.expose_secret(), second.expose_secret());
        assert_eq!(first.expose_secret().len(), 64);
        let mode = fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
