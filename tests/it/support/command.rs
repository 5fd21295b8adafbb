//! Runs the real binary.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A file of the fixtures.
pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(path)
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// This, if the command succeeded.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// `hearthd` with these arguments, and nothing of the test's environment.
pub(crate) fn command(arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearthd"));
    command.args(arguments).env_clear();
    let is = |argument: &dyn AsRef<OsStr>, text| argument.as_ref() == OsStr::new(text);
    let has_config = arguments.iter().any(|argument| is(argument, "--config"));
    if arguments.first().is_some_and(|name| is(name, "replay")) && !has_config {
        // This machine may have settings of its own, which are none of the tests' business.
        command.args(["--config", "/dev/null"]);
    }
    command
}

/// Runs `hearthd` to its end.
pub(crate) fn hearthd(arguments: &[impl AsRef<OsStr>]) -> Done {
    command(arguments).output().unwrap().into()
}

/// Runs `hearthd` on what it reads from its standard input.
pub(crate) fn hearthd_reading(input: &[u8], arguments: &[impl AsRef<OsStr>]) -> Done {
    let mut command = command(arguments);
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // The input is far below what a pipe takes before its reader must read.
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap().into()
}
