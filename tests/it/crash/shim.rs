//! The library that is preloaded into hearthd, and the disk that it plays: see `shim.c`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use fastrand::Rng;

/// What a disk writes whole.
const SECTOR: usize = 512;

/// The library, built once. The build of hearthd needs a C compiler too.
static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/crash/shim.c");
    let draft = folder.join(format!("shim-{}.so", std::process::id()));
    let mut compiler = Command::new("cc");
    compiler.args([
        "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o",
    ]);
    let built = compiler.arg(&draft).arg(source).status().unwrap();
    assert!(built.success(), "the C compiler failed: {built}");
    // Whole at once, as another run of the tests may be using it.
    let library = folder.join("shim.so");
    fs::rename(draft, &library).unwrap();
    library
});

/// A point in the life of a process. Numbers count from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// A text of the log, and how many lines with it must come; `None`: from the start on.
    pub(crate) after: Option<(&'static str, u32)>,
    pub(crate) then: Then,
}

/// What happens to the process there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    /// It is killed at that line, at once.
    Kill,
    /// It is killed at that line, when acks had the time to leave. So it is with those below.
    KillLater,
    /// It is killed before its nth write to the store.
    KillAtWrite(u32),
    /// It is killed before the nth page that a checkpoint writes.
    KillAtPage(u32),
    /// It is killed before its nth sync of the store.
    KillAtSync(u32),
    /// It is killed when its nth sync of the store has succeeded.
    KillAfterSync(u32),
    /// Its nth sync of the store fails.
    FailSync(u32),
    /// Its nth sync of the store's main file fails: that of a checkpoint.
    FailCheckpoint(u32),
}

/// The environment of a process whose wall clock is `ahead` seconds off, until there is a file
/// `set`.
pub(crate) fn wrong_clock(ahead: i64, set: &Path) -> BTreeMap<String, String> {
    [
        ("LD_PRELOAD", LIBRARY.to_str().unwrap()),
        ("SHIM_CLOCK", &ahead.to_string()),
        ("SHIM_CLOCK_SET", set.to_str().unwrap()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// A store's disk.
pub(crate) struct Disk {
    store: PathBuf,
    /// Where the library keeps what was synced.
    synced: PathBuf,
    /// While there is such a file, the disk is full.
    pub(crate) full: PathBuf,
}

/// What became of a disk when the power was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// All that was written had been synced.
    Nothing,
    /// Something was lost that had not been synced.
    Unsynced,
}

impl Disk {
    /// The disk of this store, with files of its own beside it.
    pub(crate) fn new(store: &Path) -> Self {
        // The library knows files by what the kernel calls them.
        let folder = store.parent().unwrap().canonicalize().unwrap();
        let (store, synced) = (
            folder.join(store.file_name().unwrap()),
            folder.join("synced"),
        );
        fs::create_dir_all(synced.join("names")).unwrap();
        Self {
            store,
            synced,
            full: folder.join("full"),
        }
    }

    /// The environment of a process on this disk.
    pub(crate) fn environment(&self, point: Option<Point>) -> BTreeMap<String, String> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let mut environment = BTreeMap::new();
        let mut set = |name: &str, value: String| environment.insert(name.to_owned(), value);
        set("LD_PRELOAD", text(&LIBRARY));
        set("SHIM_STORE", text(&self.store));
        set("SHIM_SYNCED", text(&self.synced));
        set("SHIM_FULL", text(&self.full));
        let Some(Point { after, then }) = point else {
            return environment;
        };
        if let Some((line, count)) = after {
            set("SHIM_LINE", line.to_owned());
            set("SHIM_LINE_COUNT", count.to_string());
        }
        match then {
            Then::Kill => set("SHIM_KILL", "line".to_owned()),
            Then::KillLater => set("SHIM_KILL", "paused-line".to_owned()),
            Then::KillAtWrite(n) => set("SHIM_KILL", format!("write:{n}")),
            Then::KillAtPage(n) => set("SHIM_KILL", format!("page:{n}")),
            Then::KillAtSync(n) => set("SHIM_KILL", format!("sync:{n}")),
            Then::KillAfterSync(n) => set("SHIM_KILL", format!("synced:{n}")),
            Then::FailSync(n) => set("SHIM_FAIL", format!("sync:{n}")),
            Then::FailCheckpoint(n) => set("SHIM_FAIL", format!("main:{n}")),
        };
        environment
    }
    /// The power is lost: only what was synced is still there. With `torn`, so are some sectors of
    /// what was not.
    pub(crate) fn lose_power(&self, mut torn: Option<&mut Rng>) -> Loss {
        let written = self.files(self.store.parent().unwrap());
        let copies = self.files(&self.synced);
        let mut loss = Loss::Nothing;
        let mut survivors = BTreeMap::new();
        for (inode, name) in self.files(&self.synced.join("names")) {
            let mut content = fs::read(&name).unwrap();
            // A copy is named after the file that it is a copy of.
            let original = copies.get(&inode).and_then(|copy| {
                let original: u64 = copy.file_name()?.to_str()?.parse().ok()?;
                fs::read(written.get(&original)?).ok()
            });
            if let Some(original) = original.filter(|original| *original != content) {
                loss = Loss::Unsynced;
                if let Some(rng) = &mut torn {
                    tear(&mut content, &original, rng);
                }
            }
            survivors.insert(name.file_name().unwrap().to_owned(), content);
        }
        for file in written.values() {
            fs::remove_file(file).unwrap();
        }
        fs::remove_dir_all(&self.synced).unwrap();
        let names = self.synced.join("names");
        fs::create_dir_all(&names).unwrap();
        // What survived is on the disk.
        for (name, content) in survivors {
            let file = self.store.with_file_name(&name);
            fs::write(&file, &content).unwrap();
            let copy = self.synced.join(file.metadata().unwrap().ino().to_string());
            fs::write(&copy, &content).unwrap();
            fs::hard_link(copy, names.join(name)).unwrap();
        }
        loss
    }

    /// The files of a folder by their inodes; of the store's own folder, only the store's.
    fn files(&self, folder: &Path) -> BTreeMap<u64, PathBuf> {
        let mut files = BTreeMap::new();
        let store = self.store.file_name().unwrap().to_str().unwrap();
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let (path, status) = entry.map(|entry| (entry.path(), entry.metadata())).unwrap();
            let status = status.unwrap();
            let is_of_store = path
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(store);
            if status.is_file() && (is_of_store || folder == self.synced) {
                files.insert(status.ino(), path);
            }
        }
        files
    }
}

/// Lets some of the sectors that were written reach what was synced.
fn tear(synced: &mut Vec<u8>, written: &[u8], rng: &mut Rng) {
    // A file that has grown may have done so on disk, without what was written there.
    if written.len() > synced.len() {
        synced.resize(rng.usize(synced.len()..=written.len()), 0);
    }
    let share = rng.f64();
    for (old, new) in synced.chunks_mut(SECTOR).zip(written.chunks(SECTOR)) {
        let length = old.len().min(new.len());
        if rng.f64() < share {
            old[..length].copy_from_slice(&new[..length]);
        }
    }
}
