//! Which settings differ between two readings.

use serde_json::Value;

use super::Settings;

impl Settings {
    /// The keys whose values differ, such as `http.listen`; a list (`sinks`) counts as one. Never
    /// values: a type that must not be shown has no `Serialize`, and so can't get in here.
    pub fn changed_keys(&self, new: &Self) -> Vec<String> {
        let [old, new] = [self, new].map(|settings| {
            // Settings come from text, so each of them can be written as text again.
            serde_json::to_value(settings).unwrap_or_default()
        });
        let mut keys = Vec::new();
        for (table, old) in old.as_object().into_iter().flatten() {
            match (old, &new[table]) {
                (Value::Object(old), Value::Object(new)) => {
                    let changed = old
                        .iter()
                        .filter(|(key, value)| new.get(*key) != Some(value));
                    keys.extend(changed.map(|(key, _)| format!("{table}.{key}")));
                }
                (old, new) if old != new => keys.push(table.clone()),
                _ => {}
            }
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::config::LogLevel;

    fn full(variables: &[(&str, &str)]) -> Settings {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/config/full.toml");
        let variables = variables
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        Settings::load(Some(&path), &variables.collect()).unwrap()
    }

    #[test]
    fn the_same_settings_in_other_words_are_no_change() {
        let other = full(&[("HEARTHD_REORDER__HOLD", "2000ms")]);
        assert_eq!(full(&[]).changed_keys(&other), Vec::<String>::new());
        let other = full(&[("HEARTHD_REORDER__HOLD", "2001ms")]);
        assert_eq!(full(&[]).changed_keys(&other), ["reorder.hold"]);
    }

    #[test]
    fn each_changed_key_is_named() {
        let old = full(&[]);
        let mut new = old.clone();
        new.http.listen.set_port(1);
        new.log.level = LogLevel::Trace;
        new.sinks.clear();
        assert_eq!(
            old.changed_keys(&new),
            ["http.listen", "log.level", "sinks"]
        );
        new.pubsub = None;
        assert!(old.changed_keys(&new).contains(&"pubsub".to_owned()));
    }

    #[test]
    fn keys_are_called_as_in_the_file() {
        let text = std::fs::read_to_string(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/config/full.toml"),
        );
        let text = text.unwrap();
        let value = serde_json::to_value(full(&[])).unwrap();
        let tables = value
            .as_object()
            .unwrap()
            .values()
            .filter_map(Value::as_object);
        let keys: BTreeSet<_> = tables.flat_map(|table| table.keys()).collect();
        for key in keys {
            assert!(
                text.contains(&format!("\n{key} = ")),
                "full.toml lacks {key}"
            );
        }
    }
}
