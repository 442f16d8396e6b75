//! `<ldb.path>.seq`: written after each commit, so that other processes can wait for a change.
//! They must not watch the WAL, which changes before its data is visible.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ctlstore_core::disk::{FileId, beside, file_mode, open_own};
use ctlstore_core::ledger::Seq;

/// The open file. It holds the seq as 20 decimal digits and a line feed. The fixed width lets
/// a write replace the old seq in place, so that no reader finds half of it.
#[derive(Debug)]
pub struct SeqFile {
    path: PathBuf,
    open: Option<(File, FileId)>,
}

impl SeqFile {
    pub fn beside(ldb: &Path) -> Self {
        Self { path: beside(ldb, ".seq"), open: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `seq`, and so wakes waiting processes. Creates the file again if it is gone.
    pub fn touch(&mut self, seq: Seq) -> io::Result<()> {
        let there = FileId::of(&self.path)?;
        if self.open.as_ref().map(|(_, id)| *id) != there || there.is_none() {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(file_mode());
            let file = open_own(&mut options, &self.path)?;
            let id = FileId::of(&self.path)?.ok_or(io::ErrorKind::NotFound)?;
            self.open = Some((file, id));
        }
        match &self.open {
            Some((file, _)) => file.write_all_at(format!("{:020}\n", seq.0).as_bytes(), 0),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_holds_the_last_seq_and_comes_back_when_it_is_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = SeqFile::beside(&directory.path().join("ldb.db"));
        file.touch(Seq(7)).unwrap();
        file.touch(Seq(4711)).unwrap();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "00000000000000004711\n");
        std::fs::remove_file(file.path()).unwrap();
        file.touch(Seq(4712)).unwrap();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "00000000000000004712\n");
    }
}
