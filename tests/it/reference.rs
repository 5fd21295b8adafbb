//! REFERENCE.md says what the binary does: its commands, examples, records, metrics and settings;
//! and README shows what its first command prints.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use hearthd::cli::exit::{EXIT_BAD_CONFIG, EXIT_BAD_DATA, EXIT_USAGE};
use hearthd::event::Platform;
use hearthd::metrics::Metrics;
use hearthd::sources::SourceId;
use serde_json::Value;

use super::support::command::{fixture, hearthd, hearthd_reading};

type Names = BTreeSet<String>;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// What stands below a heading, up to the next one of its level or above.
fn section(heading: &str) -> String {
    let reference = read("REFERENCE.md");
    let level = |line: &str| line.chars().take_while(|c| *c == '#').count();
    let depth = level(heading);
    let lines = reference
        .lines()
        .skip_while(|line| !line.starts_with(heading))
        .skip(1);
    let inside = |line: &&str| level(line) == 0 || level(line) > depth;
    let lines: Vec<&str> = lines.take_while(inside).collect();
    assert!(!lines.is_empty(), "no section {heading:?}");
    lines.join("\n")
}

/// The cells of a table, row by row.
fn table(text: &str, header: &str) -> Vec<Vec<String>> {
    let rows = text.lines().skip_while(|line| *line != header).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let cells = |row: &str| {
        row.split('|')
            .map(|cell| cell.trim().to_owned())
            .collect::<Vec<_>>()
    };
    let rows: Vec<_> = rows.map(|row| cells(row.trim_matches('|'))).collect();
    assert!(!rows.is_empty(), "no table {header:?}");
    rows
}

/// What stands in backticks.
fn quoted(text: &str) -> Names {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// What the first cells of a table name.
fn first_cells(text: &str, header: &str) -> Names {
    table(text, header)
        .iter()
        .flat_map(|row| quoted(&row[0]))
        .collect()
}

/// The blocks of code in that language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let start = format!("```{language}\n");
    let blocks = text.split(&start).skip(1);
    blocks
        .map(|rest| rest.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

fn only<T, const N: usize>(items: Vec<T>) -> [T; N] {
    let count = items.len();
    items
        .try_into()
        .unwrap_or_else(|_| panic!("{count} instead of {N}"))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn records(scenarios: &[String]) -> Vec<Value> {
    let arguments = [&["replay".to_owned()], scenarios].concat();
    hearthd(&arguments).ok().stdout.lines().map(json).collect()
}

fn keys(object: &Value) -> Names {
    object.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn every_command_and_option_is_named() {
    let commands = section("## 1. Commands");
    let help = hearthd(&["--help"]).ok().stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let names: Vec<_> = listed
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let expected = names.iter().map(|name| format!("hearthd {name}")).collect();
    assert_eq!(
        first_cells(&commands, "| command | does | options |"),
        expected
    );

    // Options stand alone, or with what they take.
    let options: Names = quoted(&commands)
        .iter()
        .flat_map(|text| text.split(' '))
        .map(str::to_owned)
        .collect();
    for name in names {
        let help = hearthd(&["help", name]).ok().stdout;
        let words = help.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        for option in words.filter(|word| word.starts_with("--")) {
            assert!(options.contains(option), "{name} {option}");
        }
    }
}

#[test]
fn every_exit_code_is_named() {
    let commands = section("## 1. Commands");
    let codes = table(&commands, "| exit code | means |");
    let codes: Vec<_> = codes
        .iter()
        .map(|row| row[0].parse::<u8>().unwrap())
        .collect();
    assert_eq!(codes, [0, 1, EXIT_USAGE, EXIT_BAD_DATA, EXIT_BAD_CONFIG]);
}

#[test]
fn the_three_shapes_of_a_line_are_one_event() {
    let [lines] = only(blocks(&section("## 2. Capture lines"), "json"));
    let done = hearthd_reading(lines.as_bytes(), &["replay", "--strict", "-"]).ok();
    let expected = "3 received: 1 emitted (0 late), 2 duplicates, 0 quarantined";
    assert!(done.stderr.starts_with(expected), "{}", done.stderr);
}

#[test]
fn the_examples_are_what_replay_writes() {
    let scenario = "scenarios/s1_doorbell_with_clip.jsonl";
    let records_section = section("## 3. Records");
    assert!(records_section.contains(scenario));
    let [example] = only(blocks(&records_section, "json"));
    let file = fixture(scenario).display().to_string();
    assert!(
        records(std::slice::from_ref(&file)).contains(&json(&example)),
        "{example}"
    );

    let folder = tempfile::tempdir().unwrap();
    for (option, heading) in [
        ("--graph", "## 4. The graph"),
        ("--summary", "## 5. Summary and metrics"),
    ] {
        let [example] = only(blocks(&section(heading), "json"));
        let path = folder.path().join("written");
        hearthd(&["replay", option, path.to_str().unwrap(), &file]).ok();
        assert_eq!(
            json(&example),
            json(&fs::read_to_string(path).unwrap()),
            "{heading}"
        );
    }
}

/// README shortens the records of its first command: each part that it shows is in the record, in
/// that order.
#[test]
fn readme_shows_what_its_first_command_prints() {
    let readme = read("README.md");
    let command = readme.lines().find(|line| line.starts_with("cargo run "));
    let (_, arguments) = command.unwrap().split_once(" -- ").unwrap();
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let printed = hearthd(&arguments).ok().stdout;
    let shown = blocks(&readme, "text").swap_remove(0);
    assert_eq!(shown.lines().count(), printed.lines().count());
    for (shown, record) in shown.lines().zip(printed.lines()) {
        let mut rest = record;
        for part in shown.split('…') {
            let Some((_, after)) = rest.split_once(part) else {
                panic!("{part:?} is not in {rest:?}");
            };
            rest = after;
        }
    }
}

#[test]
fn every_field_of_a_record_is_named() {
    let scenarios = fs::read_dir(fixture("scenarios")).unwrap();
    let scenarios = scenarios.map(|entry| entry.unwrap().path().display().to_string());
    let mut scenarios: Vec<_> = scenarios.filter(|path| path.ends_with(".jsonl")).collect();
    scenarios.sort();
    let known_flags = first_cells(&section("### `hearthd.event`"), "| flag | means |");
    let envelope = first_cells(&section("## 3. Records"), "| field | holds |");
    let mut fields = BTreeMap::new();
    for record in records(&scenarios) {
        assert_eq!(keys(&record), envelope);
        let (kind, data) = (record["type"].as_str().unwrap(), &record["data"]);
        let fields = fields.entry(kind.to_owned()).or_insert_with(|| {
            first_cells(
                &section(&format!("### `{kind}`")),
                "| field | type | holds |",
            )
        });
        assert_eq!(&keys(data), fields, "{kind}");
        for flag in data["flags"].as_array().into_iter().flatten() {
            assert!(known_flags.contains(flag.as_str().unwrap()), "{flag}");
        }
    }
    assert_eq!(fields.len(), 3);
}

/// Names, labels and their values, as a scrape has them.
fn series() -> BTreeMap<String, BTreeMap<String, Names>> {
    let scrape = Metrics::new(&[(SourceId::pubsub(), Platform::Sdm)], &["stdout"])
        .unwrap()
        .scrape();
    let types = scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.filter_map(|line| line.split(' ').next());
    let mut all: BTreeMap<_, BTreeMap<String, Names>> = names
        .map(|name| (name.to_owned(), BTreeMap::new()))
        .collect();
    for (name, labels) in scrape
        .lines()
        .filter_map(|line| line.rsplit_once('}')?.0.split_once('{'))
    {
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(name);
        for label in labels.split(',') {
            let (label, value) = label.split_once('=').unwrap();
            let values = all
                .get_mut(name)
                .unwrap()
                .entry(label.to_owned())
                .or_default();
            values.insert(value.trim_matches('"').to_owned());
        }
    }
    all
}

#[test]
fn every_metric_is_named_with_its_labels_and_their_values() {
    let metrics = section("## 5. Summary and metrics");
    let words = quoted(&metrics);
    let (ours, others): (BTreeMap<_, _>, BTreeMap<_, _>) = series()
        .into_iter()
        .partition(|(name, _)| name.starts_with("hearthd_"));
    assert!(
        others.keys().all(|name| words.contains(name)),
        "{:?}",
        others.keys()
    );
    let rows = table(&metrics, "| metric | labels | means |");
    let listed: Names = rows.iter().flat_map(|row| quoted(&row[0])).collect();
    assert_eq!(listed, ours.keys().cloned().collect());
    for row in rows {
        let (name, labels) = (row[0].trim_matches('`'), quoted(&row[1]));
        for (label, values) in &ours[name] {
            if label == "le" {
                assert!(row[1].contains("histogram"), "{name}");
                continue;
            }
            assert!(labels.contains(label), "{name} {label}");
            // The others have values of the settings and the build.
            let is_fixed = !["sink", "version", "revision"].contains(&label.as_str());
            assert!(!is_fixed || values.is_subset(&words), "{name}: {values:?}");
        }
    }
    let readme = read("README.md");
    let words = readme.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for name in words.filter(|word| word.starts_with("hearthd_")) {
        assert!(ours.contains_key(name), "README names {name}");
    }
}

/// The keys of the full sample with their values, as it writes them.
fn settings() -> BTreeMap<String, String> {
    let mut table = String::new();
    let mut settings = BTreeMap::new();
    for line in read("fixtures/config/full.toml")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        if line.starts_with('[') {
            table = line.trim_matches(['[', ']']).to_owned();
        } else if let Some((key, value)) = line.split_once(" = ") {
            // The first of several sinks has the keys that all have.
            settings
                .entry(format!("{table}.{key}"))
                .or_insert(value.trim_matches('"').to_owned());
        }
    }
    settings
}

#[test]
fn every_setting_is_named_with_its_default_and_range() {
    let header = "| setting | default | range | what it is, and when to change it |";
    let rows = table(&section("## 7. Settings"), header);
    let settings = settings();
    let listed: Names = rows.iter().flat_map(|row| quoted(&row[0])).collect();
    assert_eq!(listed, settings.keys().cloned().collect());

    let faults = read("fixtures/config/invalid_ranges.faults.txt");
    let ranges: BTreeMap<_, _> = faults
        .lines()
        .filter_map(|line| {
            let (_, range) = line.split_once(" is outside the valid range of ")?;
            Some((line.split(':').next()?, range))
        })
        .collect();
    assert!(ranges.len() > 10, "{ranges:?}");
    for row in rows {
        let [setting, default, range, _] = only(row);
        let setting = setting.trim_matches('`');
        if default.starts_with('`') {
            assert_eq!(default.trim_matches('`'), settings[setting], "{setting}");
        }
        if let Some(expected) = ranges.get(setting) {
            assert_eq!(range, *expected, "{setting}");
        }
    }
    let is_setting = |word: &&String| {
        word.split_once('.').is_some_and(|(table, key)| {
            let known = settings
                .keys()
                .any(|name| name.split('.').next() == Some(table));
            known && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        })
    };
    for word in quoted(&read("README.md")).iter().filter(is_setting) {
        assert!(settings.contains_key(word), "README names {word}");
    }
}
