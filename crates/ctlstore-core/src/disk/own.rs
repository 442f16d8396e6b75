//! Opens and makes this program's own files, safely in a directory that others may write too.
//! Entry points: [`open_own`] for a file that stays, [`create_anew`] for one that replaces another
//! later, [`refuse_strangers_link`] for a name that an operator gives.
//!
//! A name that an operator gives may be a link. A name that this program derives from it may not:
//! through a planted link, another user could make this program write into any file.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::files::{create_directory, directory_mode, directory_of};
use super::regular::open_with;

/// How often a name is cleared for a new file while another process keeps taking it.
const TRIES: usize = 3;

/// Opens the file at `path` as `options` say. Only this program may use that name.
///
/// # Errors
/// Those of [`open_regular`](super::open_regular). A symbolic link, and a file with a second name,
/// are errors too.
pub fn open_own(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = open_unlinked(options, path)?;
    if has_other_names(&file)? {
        return Err(refused(path, "is a hard link to another file; remove it"));
    }
    Ok(file)
}

/// Does as [`open_own`], but takes a file with a second name. The caller writes nothing to such a file.
pub fn open_unlinked(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // The flag refuses a link at the moment of opening; this check is for a clear error.
    refuse_link(path)?;
    open_with(options, path, libc::O_NOFOLLOW)
}

/// Whether the file can be reached by more than one name.
pub fn has_other_names(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.nlink() > 1)
}

/// Makes a new file at `path` and opens it for appending. A file or link that has the name is
/// removed first; the target of a link stays as it is.
pub fn create_anew(path: &Path, mode: u32) -> io::Result<File> {
    let mut tries = 0;
    loop {
        remove_if_there(path)?;
        match OpenOptions::new().read(true).append(true).create_new(true).mode(mode).open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < TRIES => tries += 1,
            made => return made,
        }
    }
}

/// Makes a new directory at `path`.
///
/// # Errors
/// If anything has that name, also a link.
pub fn create_new_directory(path: &Path) -> io::Result<()> {
    // Not the recursive way, which accepts a link to a directory.
    DirBuilder::new().mode(directory_mode()).create(path)
}

/// Makes the directory at `path` if it is missing. Only this program may use that name.
///
/// # Errors
/// A symbolic link; those of the filesystem.
pub fn create_own_directory(path: &Path) -> io::Result<()> {
    refuse_link(path)?;
    create_directory(path)
}

fn refuse_link(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) {
        return Err(refused(path, "is a symbolic link, which is not followed here; remove it"));
    }
    Ok(())
}

/// Refuses a symbolic link at `path` that a stranger made: neither this user, nor root, nor the
/// owner of its directory.
///
/// # Errors
/// Such a link. Any other file, and a missing one, is accepted.
pub fn refuse_strangers_link(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() && !is_trusted(metadata.uid(), path) => {
            Err(refused(path, &format!("is a symbolic link of another user (uid {})", metadata.uid())))
        }
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether a file of the user `uid` in the directory of `path` can be trusted. This user, root and
/// the directory's owner are trusted; the owner can replace any file there anyway.
pub fn is_trusted(uid: u32, path: &Path) -> bool {
    // SAFETY: a plain system call without arguments, which can't fail.
    let own = unsafe { libc::geteuid() };
    uid == own || uid == 0 || fs::metadata(directory_of(path)).is_ok_and(|directory| directory.uid() == uid)
}

/// Whether any user may remove and replace the files of other users in `directory`.
pub fn is_open_to_all(directory: &Path) -> bool {
    const OTHERS_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    fs::metadata(directory).is_ok_and(|metadata| metadata.mode() & (OTHERS_WRITE | STICKY) == OTHERS_WRITE)
}

/// Removes the file or link at `path`, if there is one.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, format!("{} {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_planted_link_is_neither_followed_nor_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("foreign"), "theirs").unwrap();
        for target in ["foreign", "nowhere"] {
            let link = at(&format!("link to {target}"));
            symlink(at(target), &link).unwrap();
            for options in [OpenOptions::new().append(true).create(true), OpenOptions::new().read(true)] {
                let error = open_own(options, &link).unwrap_err().to_string();
                assert!(error.ends_with("is a symbolic link, which is not followed here; remove it"), "{error}");
            }
            let mut file = create_anew(&link, 0o600).unwrap();
            file.write_all(b"ours").unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_file());
        }
        fs::hard_link(at("foreign"), at("second name")).unwrap();
        let error = open_own(OpenOptions::new().write(true), &at("second name")).unwrap_err().to_string();
        assert!(error.ends_with("is a hard link to another file; remove it"), "{error}");
        create_anew(&at("second name"), 0o600).unwrap().write_all(b"ours").unwrap();
        assert_eq!(fs::read_to_string(at("foreign")).unwrap(), "theirs");
        assert!(!at("nowhere").exists());
    }

    #[test]
    fn a_link_in_the_place_of_a_new_directory_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        let there = directory.path().join("there");
        fs::create_dir(&there).unwrap();
        symlink(&there, &link).unwrap();
        assert_eq!(create_new_directory(&link).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(create_own_directory(&link).unwrap_err().to_string().contains("is a symbolic link"));
        create_own_directory(&there).unwrap();
    }
}
