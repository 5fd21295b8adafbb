//! Rules of this code base that neither the compiler nor clippy can hold.
//!
//! A rule is a function from a file to its faults. `the_tree` applies every rule to the repository,
//! `self_test` shows of each rule that it can fail. Function lengths and clock reads are
//! clippy's part: see `clippy.toml`.

#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/modules.rs"]
mod modules;
#[path = "tidy/rust_file.rs"]
mod rust_file;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::{fs, io};

use imports::Imports;
use rust_file::{Line, Part, RustFile, is_word_char};

/// Lines a file of `src` may have before its tests. What is longer has more than one subject.
const LINES_PER_FILE: usize = 400;

/// Characters a line of Rust may have; the width that rustfmt aims for.
const COLUMNS_PER_LINE: usize = 100;

/// What must stay free of I/O, clocks, locks, tasks and logs. An entry ending in `/` is a folder.
const CORE: &[&str] = &[
    "src/event.rs",
    "src/event/",
    "src/platforms.rs",
    "src/platforms/",
    "src/engine.rs",
    "src/engine/",
    "src/delivery.rs",
    "src/delivery/",
    "src/backoff.rs",
];

const ENGINE: &[&str] = &["src/engine.rs", "src/engine/"];

/// What the core must not name.
const BANNED_IN_CORE: &[Name] = &[
    Name::Word("async"),
    Name::Word("await"),
    Name::Word("Mutex"),
    Name::Word("RwLock"),
    Name::Word("SystemTime"),
    Name::Word("println"),
    Name::Word("eprintln"),
    Name::End("Instant::now"),
    Name::End("Utc::now"),
    Name::End("Local::now"),
    Name::Below("tokio"),
    Name::Below("tracing"),
    Name::Below("prometheus"),
    Name::Below("rusqlite"),
    Name::Below("axum"),
    Name::Below("std::env"),
    Name::Below("std::fs"),
    Name::Below("std::io"),
    Name::Below("std::net"),
    Name::Below("std::process"),
    Name::Below("std::thread"),
    Name::Below("crate::cli"),
    Name::Below("crate::clock"),
    Name::Below("crate::config"),
    Name::Below("crate::daemon"),
    Name::Below("crate::http"),
    Name::Below("crate::metrics"),
    Name::Below("crate::pipeline"),
    Name::Below("crate::sinks"),
    Name::Below("crate::sources"),
    Name::Below("crate::store"),
    Name::Below("crate::telemetry"),
];

/// Names that only some files may use.
struct Home {
    names: &'static [Name],
    files: &'static [&'static str],
    /// What the other files do.
    instead: &'static str,
}

const HOMES: &[Home] = &[
    Home {
        names: &[
            Name::End("Instant::now"),
            Name::End("SystemTime::now"),
            Name::End("Utc::now"),
            Name::End("Local::now"),
        ],
        files: &["src/clock.rs"],
        instead: "take `now` as a parameter",
    },
    Home {
        names: &[Name::End("process::exit"), Name::End("process::abort")],
        files: &["src/main.rs"],
        instead: "return an error",
    },
    Home {
        names: &[Name::Below("anyhow")],
        files: &["src/main.rs", "src/cli.rs", "src/cli/"],
        instead: "define a typed error",
    },
    Home {
        names: &[Name::Below("prometheus")],
        files: METRICS,
        instead: "give `Metrics` a method for what is to be counted",
    },
];

/// Words that mean "not finished". They are put together here, so that this file may hold them.
const UNFINISHED_WORDS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// Fragments that mean "not finished".
const UNFINISHED_CODE: &[&str] = &[
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("#[", "ignore"),
];

/// Where metrics are registered, without their prefix.
const METRICS: &[&str] = &["src/metrics.rs", "src/metrics/"];

/// What the registry puts before the names of all metrics.
const METRIC_PREFIX: &str = "hearthd_";

// ── the rules ────────────────────────────────────────────────────────────────────────────────────

/// How a name in code is recognised.
#[derive(Clone, Copy)]
enum Name {
    /// This word, anywhere.
    Word(&'static str),
    /// This path, and whatever is below it.
    Below(&'static str),
    /// Any path that ends like this.
    End(&'static str),
}

impl Name {
    fn matches(self, name: &str) -> bool {
        match self {
            Self::Word(word) => name.split("::").any(|part| part == word),
            Self::Below(path) => name
                .strip_prefix(path)
                .is_some_and(|r| r.is_empty() || r.starts_with("::")),
            Self::End(path) => name
                .strip_suffix(path)
                .is_some_and(|r| r.is_empty() || r.ends_with("::")),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Word(text) | Self::Below(text) | Self::End(text) => text,
        }
    }
}

/// One breach of a rule.
struct Fault {
    path: String,
    line: usize,
    message: String,
}

impl Fault {
    fn new(file: &RustFile, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: file.path.clone(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// The core is a value: it waits for nothing, reads no clock, does no I/O, and can be tested
/// without a runtime. The engine knows no platform either; its tests may decode fixtures.
fn core_names_no_runtime(file: &RustFile) -> Vec<Fault> {
    if !file.is_in(CORE) {
        return Vec::new();
    }
    let is_engine = file.is_in(ENGINE);
    let mut faults = Vec::new();
    for (line, name) in file.names() {
        for banned in BANNED_IN_CORE.iter().filter(|banned| banned.matches(&name)) {
            faults.push(Fault::new(
                file,
                line,
                format!("the core must not use `{}`", banned.text()),
            ));
        }
        let platforms = Name::Below("crate::platforms");
        if is_engine && line < file.tests_from && platforms.matches(&name) {
            faults.push(Fault::new(
                file,
                line,
                "the engine must not know any platform",
            ));
        }
    }
    faults
}

/// Clocks, the end of the process, untyped errors and metrics have one home each.
fn names_stay_at_home(file: &RustFile) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (line, name) in file
        .names()
        .into_iter()
        .filter(|(line, _)| *line < file.tests_from)
    {
        for home in HOMES.iter().filter(|home| !file.is_in(home.files)) {
            for found in home.names.iter().filter(|bound| bound.matches(&name)) {
                let (what, files) = (found.text(), home.files.join(", "));
                let message = format!("only {files} may use `{what}`; {}", home.instead);
                faults.push(Fault::new(file, line, message));
            }
        }
    }
    faults
}

/// The names under which `src/metrics` registers metrics: texts of several words joined by `_`.
fn metric_names(files: &[RustFile]) -> BTreeSet<String> {
    let is_name = |text: &str| {
        let is_name_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        text.contains('_') && text.chars().all(is_name_char)
    };
    let mut names = BTreeSet::new();
    for file in files.iter().filter(|file| file.is_in(METRICS)) {
        for line in file.code_lines() {
            let literals = line.1.only(Part::Literal);
            let texts = literals.split('"').filter(|text| is_name(text));
            names.extend(texts.map(str::to_owned));
        }
    }
    names
}

/// What is measured, and under which name, is decided in one place; tests may ask for a metric by
/// its name. The other half of this fence is in [`HOMES`]: who can't name `prometheus` can't
/// register a metric.
fn only_metrics_names_a_metric(file: &RustFile, metrics: &BTreeSet<String>) -> Vec<Fault> {
    if file.is_in(METRICS) {
        return Vec::new();
    }
    let is_metric = |word: &str| {
        let name = word.strip_prefix(METRIC_PREFIX);
        name.is_some() || metrics.contains(word)
    };
    let mut faults = Vec::new();
    for (line, content) in file.code_lines() {
        for word in words(&content.only(Part::Literal)).filter(|word| is_metric(word)) {
            let message = format!("only {} may name a metric: `{word}`", METRICS.join(", "));
            faults.push(Fault::new(file, line, message));
        }
    }
    faults
}

fn files_are_short(file: &RustFile) -> Vec<Fault> {
    let length = file.tests_from - 1;
    if length <= LINES_PER_FILE {
        return Vec::new();
    }
    let message = format!("{length} lines before the tests; at most {LINES_PER_FILE}");
    vec![Fault::new(file, LINES_PER_FILE + 1, message)]
}

fn files_begin_with_their_subject(file: &RustFile) -> Vec<Fault> {
    let first: String = file
        .lines
        .first()
        .map(|line| line.only(Part::Comment))
        .unwrap_or_default();
    if first.starts_with("//!") && first.len() > "//! ".len() {
        return Vec::new();
    }
    vec![Fault::new(
        file,
        1,
        "the first line must be a `//!` sentence on what the file is for",
    )]
}

/// A line may run over where it can't be broken: inside a literal, or for a URL.
fn lines_are_short(file: &RustFile) -> Vec<Fault> {
    let is_too_long = |line: &Line| {
        let end = line.parts.get(COLUMNS_PER_LINE);
        end.is_some_and(|part| *part != Part::Literal)
            && !line
                .chars
                .windows(3)
                .any(|window| window == [':', '/', '/'])
    };
    file.numbered()
        .filter(|(_, line)| is_too_long(line))
        .map(|(number, line)| {
            let width = line.chars.len();
            Fault::new(
                file,
                number,
                format!("{width} characters; at most {COLUMNS_PER_LINE}"),
            )
        })
        .collect()
}

/// A change is finished when it is merged: notes on what is left to do have no place in its files.
fn nothing_is_unfinished(path: &str, text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let marks = words(content).filter(|word| UNFINISHED_WORDS.contains(word));
        let code = UNFINISHED_CODE
            .iter()
            .copied()
            .filter(|code| content.contains(code));
        for found in marks.chain(code) {
            let message = format!("`{found}` does not belong into a finished change");
            faults.push(Fault {
                path: path.to_owned(),
                line,
                message,
            });
        }
    }
    faults
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_word_char(c))
}

/// Files that use each other, directly or over others, can only be understood and changed together.
fn imports_make_no_circle(files: &[RustFile]) -> Vec<Fault> {
    let (imports, unresolved) = Imports::of(files);
    // A path that leads nowhere would hide what it uses.
    let unresolved = unresolved.iter().map(|unresolved| Fault {
        path: unresolved.file.clone(),
        line: unresolved.what.line,
        message: format!(
            "found nothing at the end of `{}`",
            unresolved.what.path.join("::")
        ),
    });
    let circles = imports.circles();
    let circles = circles.iter().map(|circle| {
        let ties = imports.ties(circle);
        let uses: Vec<String> = ties
            .iter()
            .map(|(from, to, tie)| format!("{from} uses {tie} of {to}"))
            .collect();
        Fault {
            path: ties[0].0.to_owned(),
            line: ties[0].2.line,
            message: format!("a circle of imports: {}", uses.join("; ")),
        }
    });
    unresolved.chain(circles).collect()
}

const MAP: &str = "ARCHITECTURE.md";

/// Documents that name files of the repository.
const DOCUMENTS: &[&str] = &[MAP, "README.md"];

/// What a document says of files is true only while they exist.
fn named_paths_exist(document: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        for path in named_paths(content).filter(|path| !exists(path)) {
            faults.push(Fault {
                path: document.to_owned(),
                line,
                message: format!("`{path}` does not exist"),
            });
        }
    }
    faults
}

/// The code map names each module at the top of `src` and each folder below it. A folder stands for
/// the file of the same name too.
fn code_map_is_complete(text: &str, files: &[String]) -> Vec<Fault> {
    let fault = |line, message| Fault {
        path: MAP.to_owned(),
        line,
        message,
    };
    let Some((start, section)) = code_map(text) else {
        return vec![fault(1, "no section \"Code map\"".to_owned())];
    };
    let mapped: BTreeSet<&str> = section.into_iter().flat_map(named_paths).collect();
    let folders: BTreeSet<&str> = files.iter().flat_map(|path| folders_of(path)).collect();
    let top = files.iter().filter(|path| path.matches('/').count() == 1);
    let top = top.map(String::as_str).filter(|path| {
        let folder = format!("{}/", path.trim_end_matches(".rs"));
        !folders.contains(folder.as_str())
    });
    let unmapped = top.chain(folders.iter().copied());
    unmapped
        .filter(|path| !mapped.contains(path))
        .map(|path| fault(start, format!("`{path}` is not in the code map")))
        .collect()
}

/// The folders below `src` that a file is in, each with its last `/`.
fn folders_of(path: &str) -> Vec<&str> {
    let ends = path.match_indices('/').map(|(at, _)| at + 1);
    ends.skip(1).filter_map(|end| path.get(..end)).collect()
}

/// The paths of files and folders that a line of a document has in backticks.
fn named_paths(line: &str) -> impl Iterator<Item = &str> {
    const FOLDERS: [&str; 8] = [
        "src/",
        "tests/",
        "benches/",
        "fixtures/",
        "scripts/",
        "systemd/",
        "deploy/",
        ".ci/",
    ];
    let quoted = line.split('`').skip(1).step_by(2);
    let words = quoted.flat_map(|text| text.split(' '));
    words.filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)))
}

/// The lines of the section "Code map" and the number of the first of them. It reaches from its
/// heading to the next one that is not below it.
fn code_map(text: &str) -> Option<(usize, Vec<&str>)> {
    let level = |line: &str| line.chars().take_while(|&c| c == '#').count();
    let lines: Vec<&str> = text.lines().collect();
    let heading = lines
        .iter()
        .position(|line| level(line) > 0 && line.to_lowercase().contains("code map"))?;
    let depth = level(lines[heading]);
    let inside = |line: &&str| level(line) == 0 || level(line) > depth;
    let body = lines[heading + 1..].iter().copied().take_while(inside);
    Some((
        heading + 1,
        std::iter::once(lines[heading]).chain(body).collect(),
    ))
}

// ── the repository ───────────────────────────────────────────────────────────────────────────────

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below `folder`, as sorted paths from the root with `/` between the parts.
fn files_below(folder: &str) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root().join(folder))? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = if folder.is_empty() {
            name.clone()
        } else {
            format!("{folder}/{name}")
        };
        let is_hidden = name.starts_with('.') && !matches!(name.as_str(), ".ci" | ".github");
        let kind = entry.file_type()?;
        if kind.is_file() {
            files.push(path);
        } else if kind.is_dir() && !is_hidden && path != "target" {
            files.append(&mut files_below(&path)?);
        }
    }
    files.sort();
    Ok(files)
}

fn rust_files(folder: &str) -> io::Result<Vec<RustFile>> {
    let paths = files_below(folder)?;
    let paths = paths.iter().filter(|path| path.ends_with(".rs"));
    paths
        .map(|path| Ok(RustFile::new(path, &fs::read_to_string(root().join(path))?)))
        .collect()
}

/// Whether people wrote this file: fixtures and generated files may hold any word.
fn is_written_by_people(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let known = matches!(
        ending,
        "" | "rs" | "md" | "toml" | "sh" | "yml" | "yaml" | "html" | "css" | "js" | "service"
    );
    known && name != "LICENSE" && !path.starts_with("fixtures/")
}

mod the_tree {
    use super::*;

    /// Fails with every fault, one a line, so that an editor can jump to it.
    fn expect_none(faults: &[Fault]) {
        let mut list: Vec<String> = faults.iter().map(Fault::to_string).collect();
        list.dedup(); // one `use` group may name the same thing several times
        assert!(
            list.is_empty(),
            "{} fault(s):\n{}",
            list.len(),
            list.join("\n")
        );
    }

    fn check(folders: &[&str], rule: fn(&RustFile) -> Vec<Fault>) -> io::Result<()> {
        let mut faults = Vec::new();
        for folder in folders {
            faults.extend(rust_files(folder)?.iter().flat_map(rule));
        }
        expect_none(&faults);
        Ok(())
    }

    #[test]
    fn core_is_pure() -> io::Result<()> {
        check(&["src"], core_names_no_runtime)
    }

    #[test]
    fn clocks_exits_untyped_errors_and_metrics_stay_at_home() -> io::Result<()> {
        check(&["src"], names_stay_at_home)
    }

    #[test]
    fn metrics_are_named_in_one_place() -> io::Result<()> {
        let files = rust_files("src")?;
        let names = metric_names(&files);
        // A fence around nothing holds always.
        let known = ["messages_received_total", "sink_up", "build_info"];
        assert!(known.iter().all(|name| names.contains(*name)), "{names:?}");
        let faults = files
            .iter()
            .flat_map(|file| only_metrics_names_a_metric(file, &names));
        expect_none(&faults.collect::<Vec<_>>());
        Ok(())
    }

    #[test]
    fn no_files_import_each_other() -> io::Result<()> {
        expect_none(&imports_make_no_circle(&rust_files("src")?));
        Ok(())
    }

    #[test]
    fn files_have_a_bounded_length() -> io::Result<()> {
        check(&["src"], files_are_short)
    }

    #[test]
    fn files_say_what_they_are_for() -> io::Result<()> {
        check(&["src"], files_begin_with_their_subject)
    }

    #[test]
    fn lines_have_a_bounded_length() -> io::Result<()> {
        check(&["src", "tests"], lines_are_short)
    }

    #[test]
    fn no_file_is_marked_as_unfinished() -> io::Result<()> {
        let mut faults = Vec::new();
        for path in files_below("")?
            .iter()
            .filter(|path| is_written_by_people(path))
        {
            // What is not text has no words.
            let text = String::from_utf8(fs::read(root().join(path))?).unwrap_or_default();
            faults.extend(nothing_is_unfinished(path, &text));
        }
        expect_none(&faults);
        Ok(())
    }

    #[test]
    fn documents_name_what_exists_and_the_code_map_all_modules() -> io::Result<()> {
        let mut faults = Vec::new();
        for document in DOCUMENTS {
            let text = fs::read_to_string(root().join(document))?;
            faults.extend(named_paths_exist(document, &text, |path| {
                root().join(path).exists()
            }));
        }
        let files: Vec<String> = rust_files("src")?
            .into_iter()
            .map(|file| file.path)
            .collect();
        let map = fs::read_to_string(root().join(MAP))?;
        faults.extend(code_map_is_complete(&map, &files));
        expect_none(&faults);
        Ok(())
    }
}

mod self_test {
    use super::*;

    /// The lines that `rule` finds fault with in a file of this path and text.
    fn faults(rule: fn(&RustFile) -> Vec<Fault>, path: &str, text: &str) -> Vec<usize> {
        rule(&RustFile::new(path, text))
            .iter()
            .map(|fault| fault.line)
            .collect()
    }

    #[test]
    fn every_banned_name_is_found_in_the_core() {
        for banned in BANNED_IN_CORE {
            let text = format!("fn f() {{\n    {};\n}}", banned.text());
            for path in ["src/event.rs", "src/platforms/sdm/wire.rs", "src/engine.rs"] {
                assert_eq!(faults(core_names_no_runtime, path, &text), [2], "{text}");
            }
            assert!(faults(core_names_no_runtime, "src/store/sqlite.rs", &text).is_empty());
        }
    }

    #[test]
    fn a_group_or_a_relative_path_is_no_way_through_the_fence() {
        let find = |text| faults(core_names_no_runtime, "src/engine/graph.rs", text);
        assert_eq!(
            find("use std::{\n    collections::{BTreeMap, BTreeSet},\n    fs,\n};"),
            [3]
        );
        assert_eq!(find("use crate::{event::Event, sinks::Sink};"), [1]);
        assert_eq!(find("use super::super::store::Store;"), [1]);
        assert_eq!(
            find("fn f(a: Vec<std::net::IpAddr>) {\n    g().await\n}"),
            [1, 2]
        );
        assert_eq!(
            find("use super::traits::Store;\nuse crate::storehouse;"),
            [0; 0]
        );
        assert_eq!(find("/// Unlike tokio.\nfn f() { g(\"async\"); }"), [0; 0]);
    }

    #[test]
    fn engine_knows_platforms_in_its_tests_only() {
        let text =
            "use crate::platforms::sdm;\n#[cfg(test)]\nmod tests {\n    use crate::platforms;\n}";
        assert_eq!(
            faults(core_names_no_runtime, "src/engine/graph.rs", text),
            [1]
        );
        assert_eq!(
            faults(core_names_no_runtime, "src/platforms/sdm.rs", text),
            [0; 0]
        );
    }

    #[test]
    fn names_away_from_home_are_found() {
        for home in HOMES {
            for name in home.names {
                let text = format!("fn f() {{\n    {}();\n}}", name.text());
                assert_eq!(
                    faults(names_stay_at_home, "src/daemon.rs", &text),
                    [2],
                    "{text}"
                );
                assert!(
                    faults(names_stay_at_home, home.files[0], &text).is_empty(),
                    "{text}"
                );
            }
        }
        let text = "fn f() -> anyhow::Result<()> {}";
        assert_eq!(
            faults(names_stay_at_home, "src/cli/replay.rs", text),
            [0; 0]
        );
        let text = "use std::process::{self, exit};\n";
        assert_eq!(faults(names_stay_at_home, "src/cli.rs", text), [1]);
    }

    #[test]
    fn a_metric_named_elsewhere_is_found() {
        let page =
            "fn f() {\n    r.gauge(\"sink_up\", \"0 if it failed.\", \"sink\", &[\"a b_c\"]);\n}\n";
        let tests = "#[cfg(test)]\nmod tests {\n    const A: &str = \"not_one\";\n}";
        let page = [
            RustFile::new(
                "src/metrics.rs",
                "r.counter(\n    \"acks_total\",\n    \"Acks.\",\n);",
            ),
            RustFile::new("src/metrics/sinks.rs", &format!("{page}{tests}")),
            RustFile::new("src/sinks.rs", "f(\"not_one_either\");"),
        ];
        let names = metric_names(&page);
        assert_eq!(names, ["acks_total", "sink_up"].map(str::to_owned).into());

        let text = "f(\"acks_total\");\ng(\"see hearthd_sink_up\");\nh(\"hearthd_gone\");\n\
             i(\"my_acks_total, my_hearthd_x, sink\"); // sink_up, hearthd_sink_up\nhearthd_f();\n";
        let find = |path, text: &str| -> Vec<usize> {
            let faults = only_metrics_names_a_metric(&RustFile::new(path, text), &names);
            faults.iter().map(|fault| fault.line).collect()
        };
        assert_eq!(find("src/http.rs", text), [1, 2, 3]);
        assert_eq!(find("src/metrics/sinks.rs", text), [0; 0]);
        let in_tests = format!("#[cfg(test)]\nmod tests {{\n{text}\n}}");
        assert_eq!(find("src/http.rs", &in_tests), [0; 0]);
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let long = "//! X\n".repeat(LINES_PER_FILE);
        assert!(faults(files_are_short, "src/a.rs", &long).is_empty());
        assert_eq!(
            faults(files_are_short, "src/a.rs", &format!("{long}x")),
            [401]
        );
        let attributes = "#[cfg(test)]\n#[expect(\n    a::b[1],\n    reason = \"c\"\n)]\n";
        let tests = format!("{long}{attributes}mod tests {{\n}}\n");
        assert!(faults(files_are_short, "src/a.rs", &tests).is_empty());
        let elsewhere = format!("#[cfg(test)]\nmod tests;\n{long}");
        assert_eq!(faults(files_are_short, "src/a.rs", &elsewhere), [401]);
        assert!(faults(files_are_short, "src/a/tests.rs", &elsewhere).is_empty());
    }

    #[test]
    fn a_file_without_a_subject_is_found() {
        for text in ["", "use a;\n", "//!\nuse a;\n", "// A.\n", "\n//! A.\n"] {
            assert_eq!(
                faults(files_begin_with_their_subject, "src/a.rs", text),
                [1],
                "{text}"
            );
        }
        assert!(faults(files_begin_with_their_subject, "src/a.rs", "//! A.\n").is_empty());
    }

    #[test]
    fn a_long_line_is_found_unless_it_cannot_be_broken() {
        let long = "a".repeat(COLUMNS_PER_LINE);
        let text = format!("{long}\n{long}b\n// {long}\nf(\"{long}\");\n// https://{long}\n");
        assert_eq!(faults(lines_are_short, "src/a.rs", &text), [2, 3]);
        assert!(faults(lines_are_short, "src/a.rs", &"ü".repeat(100)).is_empty());
    }

    #[test]
    fn every_mark_of_unfinished_work_is_found() {
        for mark in UNFINISHED_WORDS.iter().chain(UNFINISHED_CODE) {
            let text = format!("a\n// {mark}: b");
            let lines: Vec<usize> = nothing_is_unfinished("README.md", &text)
                .iter()
                .map(|fault| fault.line)
                .collect();
            assert_eq!(lines, [2], "{text}");
        }
        for word in UNFINISHED_WORDS {
            assert!(nothing_is_unfinished("a.md", &format!("A{word} {word}S")).is_empty());
        }
    }

    #[test]
    fn a_path_that_does_not_exist_is_found() {
        let exists = |path: &str| matches!(path, "src/a.rs" | "scripts/test");
        let find = |text: &str| -> Vec<String> {
            let faults = named_paths_exist("README.md", text, exists);
            faults.iter().map(Fault::to_string).collect()
        };
        let none: [&str; 0] = [];
        let good = "`src/a.rs`, src/b.rs, `a/src/b.rs`\n`scripts/test --all`";
        assert_eq!(find(good), none);
        assert_eq!(
            find(&format!("{good}\n`src/b.rs`, `scripts/gone`\n")),
            [
                "README.md:3: `src/b.rs` does not exist",
                "README.md:3: `scripts/gone` does not exist",
            ]
        );
    }

    #[test]
    fn a_gap_in_the_code_map_is_found() {
        let files = [
            "src/a.rs",
            "src/b.rs",
            "src/b/c.rs",
            "src/b/d/e.rs",
            "src/lib.rs",
        ];
        let files = files.map(str::to_owned);
        let find = |text: &str| -> Vec<String> {
            let faults = code_map_is_complete(text, &files);
            faults.iter().map(Fault::to_string).collect()
        };
        let none: [&str; 0] = [];
        let good =
            "# A\n## Code map\n`src/a.rs`\n### In\n- `src/b/`, `src/b/d/` `src/lib.rs`\n## B\n";
        assert_eq!(find(good), none);
        assert_eq!(
            find("# A\n"),
            ["ARCHITECTURE.md:1: no section \"Code map\""]
        );
        assert_eq!(
            find("\n## Code map\n`src/b.rs` `src/b/d/` `src/lib.rs`\n## B\n`src/a.rs`"),
            [
                "ARCHITECTURE.md:2: `src/a.rs` is not in the code map",
                "ARCHITECTURE.md:2: `src/b/` is not in the code map",
            ]
        );
    }

    #[test]
    fn fixtures_and_licences_may_hold_any_word() {
        for path in [
            "README.md",
            "src/a.rs",
            "scripts/test",
            ".ci/run",
            "deploy/Dockerfile",
        ] {
            assert!(is_written_by_people(path), "{path}");
        }
        for path in [
            "LICENSE",
            "Cargo.lock",
            "fixtures/sdm/a.json",
            "fixtures/README.md",
        ] {
            assert!(!is_written_by_people(path), "{path}");
        }
    }
}
