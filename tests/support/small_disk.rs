//! A file system of a few megabytes in memory, for tests of a full disk. Mounting it needs root.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::process;

/// The mounted file system; dropping it unmounts it.
pub struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    /// `size` is in the form of mount(8), such as `4m`.
    #[track_caller]
    pub fn mount(size: &str) -> Self {
        let disk = Self { directory: process::scratch_dir() };
        disk.run_mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
        disk
    }

    /// Changes its size.
    #[track_caller]
    pub fn resize(&self, size: &str) {
        self.run_mount(&["-o", &format!("remount,size={size}")]);
    }

    #[track_caller]
    fn run_mount(&self, arguments: &[&str]) {
        let mounted = Command::new("mount").args(arguments).arg(self.directory.path()).status();
        assert!(mounted.expect("run mount").success(), "mounting a tmpfs failed; it takes root");
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Uses all the space that is left. Removing the returned file frees it.
    pub fn fill(&self) -> PathBuf {
        let ballast = self.path("ballast");
        let mut file = File::create(&ballast).expect("make the ballast");
        let mut chunk = 1 << 20;
        while chunk > 0 {
            if file.write_all(&vec![7; chunk]).is_err() {
                chunk /= 2;
            }
        }
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.directory.path()).status();
    }
}
