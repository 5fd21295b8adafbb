//! Every scenario of the fixtures, against the records that are stored beside it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use hearthd::cli::replay::{self, Args};
use hearthd::record::RecordKind;
use insta::{Settings, assert_snapshot};
use serde_json::Value;
use strum::VariantArray as _;

/// The counters that `fixtures/README.md` tells for each scenario, from a separate model.
const COUNTERS: [&str; 6] = [
    "received",
    "emitted",
    "duplicates",
    "quarantined",
    "late",
    "notifications",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/scenarios")
}

/// The names of all scenarios.
fn names() -> Vec<String> {
    let files = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = files
        .filter_map(|name| Some(name.to_str()?.strip_suffix(".jsonl")?.to_owned()))
        .collect();
    names.sort();
    names
}

/// What the command made of a scenario.
struct Replayed {
    records: Vec<Value>,
    summary: Value,
    last: Value,
    graph: Value,
}

fn replay(name: &str) -> Replayed {
    let folder = tempfile::tempdir().unwrap();
    let [summary, last, graph] = ["summary", "last", "graph"].map(|name| folder.path().join(name));
    let args = Args {
        records: RecordKind::VARIANTS.to_vec(),
        r#final: Some(last.clone()),
        graph: Some(graph.clone()),
        summary: Some(summary.clone()),
        files: vec![self::folder().join(format!("{name}.jsonl"))],
        ..Args::default()
    };
    let mut stdout = Vec::new();
    replay::run(&args, &BTreeMap::new(), &mut stdout).unwrap();
    let read = |path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let stdout = String::from_utf8(stdout).unwrap();
    Replayed {
        records: stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
        summary: read(summary),
        last: read(last),
        graph: read(graph),
    }
}

/// The snapshots lie beside the fixtures, named like them.
fn beside_the_fixtures(check: impl FnOnce()) {
    let mut settings = Settings::clone_current();
    settings.set_snapshot_path(folder().join("expected"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(check);
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

/// Records for people: what the envelope says, then the data without what repeats it.
fn readable(replayed: &Replayed) -> String {
    let mut text = format!("summary {}\n", replayed.summary);
    for record in &replayed.records {
        let kind = record["type"]
            .as_str()
            .unwrap()
            .trim_start_matches("hearthd.");
        let number: u64 = record["sequence"].as_str().unwrap().parse().unwrap();
        let envelope = ["id", "source", "subject", "time"].map(|name| record[name].to_string());
        writeln!(text, "\n{number} {kind} {}", envelope.join(" ")).unwrap();
        for (field, value) in record["data"].as_object().unwrap() {
            writeln!(text, "  {field}: {value}").unwrap();
        }
    }
    writeln!(text, "\ngraph").unwrap();
    for resource in replayed.graph["resources"].as_array().unwrap() {
        writeln!(text, "  {resource}").unwrap();
    }
    text
}

#[test]
fn every_scenario_gives_the_records_beside_it() {
    for name in names() {
        let mut replayed = replay(&name);
        beside_the_fixtures(|| match name.as_str() {
            // Its records would fill a book.
            "long_day" => {
                assert_snapshot!("long_day_summary", pretty(&replayed.summary));
                assert_snapshot!("long_day_final", pretty(&replayed.last));
                assert_snapshot!("long_day_graph", pretty(&replayed.graph));
            }
            // So would 210 motions that are all alike.
            "backlog_after_downtime" => {
                replayed
                    .records
                    .retain(|record| record.to_string().contains("chime"));
                assert_snapshot!(name.as_str(), readable(&replayed));
            }
            _ => assert_snapshot!(name.as_str(), readable(&replayed)),
        });
        assert_eq!(replayed.summary["imbalance"], 0, "{name}");
        assert_eq!(replayed.summary["pending"], 0, "{name}");
    }
}

#[test]
fn the_counters_are_those_of_the_separate_model() {
    let readme = std::fs::read_to_string(folder().join("../README.md")).unwrap();
    let mut counted = BTreeMap::new();
    for name in names() {
        let summary = replay(&name).summary;
        let counters = COUNTERS.map(|counter| summary[counter].as_u64().unwrap());
        counted.insert(name, counters);
    }
    assert_eq!(counted, told_counters(&readme), "{COUNTERS:?}");
}

/// The numbers in the table of the fixtures' README, and in the text for the long day.
fn told_counters(readme: &str) -> BTreeMap<String, [u64; 6]> {
    let numbers = |text: &str| {
        let numbers: Vec<u64> = text
            .split(' ')
            .map_while(|word| word.parse().ok())
            .collect();
        <[u64; 6]>::try_from(numbers).ok()
    };
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = cells.get(1)?.trim_matches('`').to_owned();
        Some((name, numbers(cells.get(3)?)?))
    };
    let mut told: BTreeMap<String, [u64; 6]> = readme.lines().filter_map(row).collect();
    let long_day = readme
        .lines()
        .find_map(|line| line.strip_prefix("Numbers, same order: "));
    let long_day = long_day
        .and_then(|text| text.split_once('.'))
        .and_then(|(it, _)| numbers(it));
    told.insert("long_day".to_owned(), long_day.unwrap());
    told
}

#[test]
fn of_a_backlog_only_the_fresh_chime_rings_and_at_once() {
    let replayed = replay("backlog_after_downtime");
    let revisions: Vec<&Value> = replayed
        .records
        .iter()
        .filter(|record| record["type"] == "hearthd.notification")
        .collect();
    let rings: Vec<&Value> = revisions
        .iter()
        .filter(|record| record["data"]["alert"] == true)
        .copied()
        .collect();
    assert_eq!(rings.len(), 1, "{rings:?}");
    let ring = &rings[0]["data"];
    assert_eq!(ring["kinds"], serde_json::json!(["chime"]));
    assert_eq!(ring["revision"], 1);
    // At once: it is written before the messages behind it are taken in.
    let number = |record: &Value| record["sequence"].as_str().unwrap().parse::<u64>().unwrap();
    let behind = revisions
        .iter()
        .filter(|record| number(record) > number(rings[0]))
        .count();
    assert!(behind >= 100, "only {behind} revisions follow the ring");
}
