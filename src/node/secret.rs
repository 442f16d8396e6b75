//! The heartbeat's secret if the settings give none. [`kept_in`] makes it at the first start and keeps
//! it in the data directory, in a file that only its owner can read.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use secrecy::SecretString;
use uuid::Uuid;

use ctlstore_core::disk;
use ctlstore_core::schema::check_header_text;

/// The file's name within the data directory.
const FILE: &str = "heartbeat.secret";
/// The largest size of the file, in bytes.
const MAX_BYTES: u64 = 4096;
/// The mode of a file that the group or others can write to.
const OTHERS_WRITE: u32 = 0o022;

/// Reads the secret of an earlier start, or makes one.
pub fn kept_in(data_dir: &Path) -> io::Result<SecretString> {
    let path = data_dir.join(FILE);
    if let Some(secret) = kept_at(&path)? {
        return Ok(secret);
    }
    // Two version 4 UUIDs carry 244 random bits from the system's generator.
    let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let temporary = data_dir.join(format!("{FILE}.new"));
    let mut file = disk::create_anew(&temporary, 0o600)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, &path)?;
    disk::flush(data_dir)?;
    Ok(secret.into())
}

/// The secret in the file. A file that another user could have written is an error.
fn kept_at(path: &Path) -> io::Result<Option<SecretString>> {
    let file = match disk::open_own(OpenOptions::new().read(true), path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let metadata = file.metadata()?;
    let refused = |why: &str| io::Error::other(format!("{} {why}; remove it to have another one made", path.display()));
    if !disk::is_trusted(metadata.uid(), path) {
        return Err(refused(&format!("belongs to another user (uid {})", metadata.uid())));
    }
    if metadata.mode() & OTHERS_WRITE != 0 {
        return Err(refused("may be written by other users"));
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    let secret = text.trim();
    if secret.is_empty() {
        return Ok(None);
    }
    let bad = |reason| io::Error::new(io::ErrorKind::InvalidData, format!("{}: it {reason}", path.display()));
    check_header_text(secret.as_bytes()).map(|secret| Some(secret.into())).map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_lands_in_no_file_that_somebody_has_linked() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let foreign = at("foreign");
        let path = at(FILE);
        let new = at(&format!("{FILE}.new"));
        fs::write(&foreign, "theirs").unwrap();
        for is_hard in [true, false] {
            let link = |at: &Path| {
                if is_hard {
                    fs::hard_link(&foreign, at).unwrap();
                } else {
                    std::os::unix::fs::symlink(&foreign, at).unwrap();
                }
            };
            link(&new);
            let made = kept_in(directory.path()).unwrap();
            assert_eq!(kept_in(directory.path()).unwrap().expose_secret(), made.expose_secret());
            fs::remove_file(&path).unwrap();
            link(&path);
            let error = kept_in(directory.path()).unwrap_err().to_string();
            assert!(error.contains("link") && error.ends_with("remove it"), "{error}");
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(fs::read_to_string(&foreign).unwrap(), "theirs");
    }

    #[test]
    fn a_secret_that_others_could_have_put_there_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        fs::write(&path, "a-secret").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let error = kept_in(directory.path()).unwrap_err().to_string();
        assert!(error.contains("may be written by other users; remove it"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(kept_in(directory.path()).unwrap().expose_secret(), "a-secret");
    }

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
