//! Files that this program makes for itself in a directory where others may write too. Nobody
//! can make it write into another file by a link under a name that it uses. A name that an
//! operator gives may be a link; one that this program derives from it may not.
//! Entry points: [`open_own`] for a file that stays, [`create_anew`] for one that takes
//! another's place later, [`refuse_strangers_link`] for the names that an operator gives.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::files::{DIRECTORY_MODE, directory_of};
use super::regular::open_with;

/// How often a name is cleared for a new file while somebody else keeps taking it.
const TRIES: usize = 3;

/// Opens the file at `path`, which only this program names, as `options` say.
///
/// # Errors
/// As [`open_regular`](super::open_regular); a symbolic link, or a file that has another name as well.
pub fn open_own(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = open_unlinked(options, path)?;
    match has_other_names(&file)? {
        false => Ok(file),
        true => Err(refused(path, "is a hard link to another file; remove it")),
    }
}

/// As [`open_own`], for a file that nothing is written to while it has another name.
pub fn open_unlinked(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // The flag is looked at when it is opened; the words are for people.
    refuse_link(path)?;
    open_with(options, path, libc::O_NOFOLLOW)
}

/// Whether the file can be reached by more than one name.
pub fn has_other_names(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.nlink() > 1)
}

/// Makes a new file at `path`, in the place of whatever has the name, to be written. A link
/// there goes; what it leads to stays as it is.
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

/// Makes a new directory at `path`, where nothing may be.
pub fn create_new_directory(path: &Path) -> io::Result<()> {
    // Unlike one that makes what is missing above it, this takes no link for a directory.
    DirBuilder::new().mode(DIRECTORY_MODE).create(path)
}

/// Makes the directory at `path`, whose name only this program uses, if it is not there.
///
/// # Errors
/// A symbolic link; those of the filesystem.
pub fn create_own_directory(path: &Path) -> io::Result<()> {
    refuse_link(path)?;
    super::create_directory(path)
}

fn refuse_link(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) {
        true => Err(refused(path, "is a symbolic link, which is not followed here; remove it")),
        false => Ok(()),
    }
}

/// Fails where a symbolic link at `path` was made by another user than this one, root, and
/// the owner of its directory. Anything else, or nothing, is no error.
pub fn refuse_strangers_link(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => match is_trusted(metadata.uid(), path) {
            true => Ok(()),
            false => Err(refused(path, &format!("is a symbolic link of another user (uid {})", metadata.uid()))),
        },
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether files of this user in the directory of `path` may be believed: those who own the
/// directory can do anything there anyway.
pub fn is_trusted(uid: u32, path: &Path) -> bool {
    // SAFETY: a plain system call without arguments, which can't fail.
    let own = unsafe { libc::geteuid() };
    uid == own || uid == 0 || fs::metadata(directory_of(path)).is_ok_and(|directory| directory.uid() == uid)
}

/// Whether any user may remove and replace files of others in `directory`.
pub fn is_open_to_all(directory: &Path) -> bool {
    const OTHERS_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    fs::metadata(directory).is_ok_and(|metadata| metadata.mode() & (OTHERS_WRITE | STICKY) == OTHERS_WRITE)
}

/// Removes a file or link that need not be there.
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
        let (link, there) = (directory.path().join("link"), directory.path().join("there"));
        fs::create_dir(&there).unwrap();
        symlink(&there, &link).unwrap();
        assert_eq!(create_new_directory(&link).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(create_own_directory(&link).unwrap_err().to_string().contains("is a symbolic link"));
        create_own_directory(&there).unwrap();
    }
}
