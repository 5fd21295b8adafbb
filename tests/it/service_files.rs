//! The files with which hearthd is deployed say what the code does: the unit of systemd, the
//! Dockerfile, and the settings in README.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hearthd::cli::exit::{EXIT_BAD_CONFIG, EXIT_USAGE};
use hearthd::config::Settings;
use tempfile::TempDir;

use crate::support::command::{fixture, hearthd};
use crate::support::daemon::{EXIT_LIMIT, Home};
use crate::support::skip;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

fn defaults() -> Settings {
    Settings::load(None, &BTreeMap::new()).unwrap()
}

/// The value of a unit's only setting of that name.
fn unit_setting(name: &str) -> String {
    let unit = read("systemd/hearthd.service");
    let mut values = unit
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let value = values
        .next()
        .unwrap_or_else(|| panic!("the unit has no {name}="));
    assert_eq!(values.next(), None, "{name} is set twice");
    value.to_owned()
}

fn unit_duration(name: &str) -> Duration {
    humantime::parse_duration(&unit_setting(name)).unwrap()
}

/// Runs what README says to install, below a root of its own.
fn installed() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let key = root.path().join("key");
    fs::write(&key, "{}").unwrap();
    let readme = read("README.md");
    let commands = readme
        .lines()
        .filter_map(|line| line.strip_prefix("sudo install "));
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        let [options @ .., from, to] = &words[..] else {
            panic!("{command}")
        };
        let from = match *from {
            "target/release/hearthd" => PathBuf::from(env!("CARGO_BIN_EXE_hearthd")),
            "hearthd.toml" => fixture("config/minimal.toml"),
            "service-account.json" => key.clone(),
            other => repository().join(other),
        };
        let to = root.path().join(to.strip_prefix('/').unwrap());
        let done = Command::new("install")
            .args(options)
            .arg(from)
            .arg(to)
            .output()
            .unwrap();
        assert!(done.status.success(), "{command}: {done:?}");
    }
    root
}

#[test]
fn systemd_takes_the_unit_as_readme_installs_it() {
    let root = installed();
    // What a system has anyway.
    fs::create_dir(root.path().join("bin")).unwrap();
    fs::copy("/bin/kill", root.path().join("bin/kill")).unwrap();
    let (_, key) = unit_setting("LoadCredential")
        .split_once(":/")
        .map(owned)
        .unwrap();
    assert!(
        root.path().join(&key).is_file(),
        "README does not install {key}"
    );
    let command = Command::new("systemd-analyze")
        // Only this unit: what it refers to isn't below this root.
        .args(["verify", "--recursive-errors=no", "hearthd.service"])
        .arg(format!("--root={}", root.path().display()))
        .output();
    let Ok(done) = command else {
        return skip(
            "systemd-analyze",
            "install Debian's systemd, or run scripts/test",
        );
    };
    let said = String::from_utf8_lossy(&done.stderr) + String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && said.is_empty(),
        "{}: {said}",
        done.status
    );
}

fn owned((left, right): (&str, &str)) -> (String, String) {
    (left.to_owned(), right.to_owned())
}

#[test]
fn the_unit_starts_the_service_with_the_settings_that_readme_installs() {
    let root = installed();
    let command = unit_setting("ExecStart");
    let words: Vec<&str> = command.split(' ').collect();
    let ["/usr/local/bin/hearthd", "run", "--config", settings] = words[..] else {
        panic!("{command}")
    };
    let settings = root.path().join(settings.strip_prefix('/').unwrap());
    hearthd(&["check", "--config", settings.to_str().unwrap()]).ok();
}

#[test]
fn the_settings_that_readme_shows_are_valid() {
    let readme = read("README.md");
    let blocks: Vec<&str> = readme.split("\n```toml\n").skip(1).collect();
    assert!(!blocks.is_empty());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hearthd.toml");
    for block in blocks {
        let (settings, _) = block.split_once("\n```\n").unwrap();
        fs::write(&file, settings).unwrap();
        hearthd(&["check", "--config", file.to_str().unwrap()]).ok();
    }
}

#[test]
fn the_unit_knows_exit_codes_times_and_folders() {
    let codes = unit_setting("RestartPreventExitStatus");
    let codes: Vec<u8> = codes.split(' ').map(|code| code.parse().unwrap()).collect();
    assert_eq!(codes, [EXIT_USAGE, EXIT_BAD_CONFIG]);
    assert!(unit_duration("TimeoutStopSec") > EXIT_LIMIT);
    let folder = Path::new("/var/lib").join(unit_setting("StateDirectory"));
    assert_eq!(defaults().store.path.parent(), Some(&*folder));
    // What was promised besides.
    assert_eq!(unit_setting("Type"), "notify");
    assert_eq!(unit_setting("Restart"), "on-failure");
    assert_eq!(unit_setting("StateDirectoryMode"), "0700");
    assert_eq!(unit_setting("ExecReload"), "/bin/kill -HUP $MAINPID");
}

#[test]
fn the_key_that_the_unit_hands_over_is_the_one_that_is_read() {
    let credential = unit_setting("LoadCredential");
    let (name, _) = credential.split_once(':').unwrap();
    // No emulator: the key is to be used.
    let mut home = Home::new("", "projects/test/subscriptions/hearthd");
    let file = home.path(name);
    fs::write(&file, "{}").unwrap();
    let folder = file.parent().unwrap().display().to_string();
    home.environment
        .insert("CREDENTIALS_DIRECTORY".to_owned(), folder);
    let mut service = home.spawn("run");
    let status = service.wait_for_exit(EXIT_LIMIT);
    let said = service.log();
    assert_eq!(status.code(), Some(i32::from(EXIT_BAD_CONFIG)), "{said}");
    assert!(said.contains(file.to_str().unwrap()), "{said}");
}

/// What stands between the first `opening` and the next quote.
fn up_to_quote<'a>(text: &'a str, opening: &str) -> &'a str {
    text.split_once(opening)
        .unwrap()
        .1
        .split_once('"')
        .unwrap()
        .0
}

/// The arguments of the Dockerfile's instructions of that name, in order.
fn instructions(name: &str) -> Vec<Vec<String>> {
    let text = read("deploy/Dockerfile");
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines
        .map(|line| line.split(' ').map(str::to_owned).collect())
        .collect()
}

#[test]
fn the_image_is_built_with_our_compiler_from_files_that_suffice() {
    let manifest = read("Cargo.toml");
    let version = up_to_quote(&manifest, "\nrust-version = \"");
    let from = instructions("FROM");
    let image = format!("docker.io/library/rust:{version}-");
    assert!(
        from[0][0].starts_with(&image),
        "{} is not {image}…",
        from[0][0]
    );

    let context = tempfile::tempdir().unwrap();
    let copies = instructions("COPY")
        .into_iter()
        .filter(|words| !words[0].starts_with("--"));
    for mut words in copies {
        let to = context.path().join(words.pop().unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let from = words.iter().map(|word| repository().join(word));
        let done = Command::new("cp")
            .arg("-r")
            .args(from)
            .arg(to)
            .output()
            .unwrap();
        assert!(done.status.success(), "{words:?}: {done:?}");
    }
    // A build of the least, which first reads every manifest and looks for every target.
    let done = Command::new(env!("CARGO"))
        .args(["check", "--locked", "--offline", "--package=cfg-if"])
        .current_dir(context.path())
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn the_image_is_told_its_revision_before_it_is_built() {
    let code = read("src/metrics/register.rs");
    let variable = up_to_quote(&code, "option_env!(\"");
    let dockerfile = read("deploy/Dockerfile");
    let line_of = |line: &str| dockerfile.lines().position(|other| other.starts_with(line));
    // An argument holds from its line to the end of its stage.
    let order = ["FROM", &format!("ARG {variable}"), "RUN cargo build"].map(line_of);
    assert!(order.is_sorted() && order[0].is_some(), "{order:?}");
}

#[test]
fn the_image_runs_as_nobody_with_the_defaults_of_the_code() {
    let only = |name| match &instructions(name)[..] {
        [words] => words.join(" "),
        other => panic!("{name}: {other:?}"),
    };
    let (user, group) = only("USER").split_once(':').map(owned).unwrap();
    assert!(
        [user, group]
            .iter()
            .all(|id| id.parse::<u32>().is_ok_and(|id| id > 0))
    );
    let defaults = defaults();
    assert_eq!(
        defaults.store.path.parent(),
        Some(Path::new(&only("VOLUME")))
    );
    assert_eq!(defaults.http.listen.port().to_string(), only("EXPOSE"));
    let unit = unit_setting("ExecStart");
    let words = [only("ENTRYPOINT"), only("CMD")]
        .join(" ")
        .replace(['[', ']', '"', ','], "");
    assert_eq!(words, unit, "the image and the unit run the same command");
}
