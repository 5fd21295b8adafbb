//! A disk that is small enough to fill.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::skip;

/// A disk of a given size, gone with the test.
pub(crate) struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`, and a loud line, if this process may not mount one.
    pub(crate) fn new(mebibytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &size, "hearthd-test"])
            .arg(folder.path());
        if mount.output().is_ok_and(|done| done.status.success()) {
            return Some(Self(folder));
        }
        skip(
            "a small disk",
            "run the tests as root, where `mount -t tmpfs` is allowed",
        );
        None
    }

    /// A file on it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Takes all the space that is left.
    pub(crate) fn fill(&self) {
        let mut junk = File::create(self.path("junk")).unwrap();
        let error = loop {
            if let Err(error) = junk.write_all(&[1; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    /// Nobody can write to it from now on.
    pub(crate) fn make_read_only(&self) {
        let mut remount = Command::new("mount");
        remount.args(["-o", "remount,ro"]).arg(self.0.path());
        assert!(remount.status().unwrap().success());
    }

    /// Gives the space back.
    pub(crate) fn free(&self) {
        fs::remove_file(self.path("junk")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: what a failed test still has open goes with the process.
        let done = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(
            done.is_ok_and(|status| status.success()),
            "{:?} stays mounted",
            self.0.path()
        );
    }
}
