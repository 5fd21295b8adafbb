//! Which settings differ between two readings.

use serde::Serialize;
use serde_json::Value;

/// The keys whose values differ, such as `http.listen`; a list (`sinks`) counts as one. Never
/// values: a type that must not be shown has no `Serialize`, and so can't get in here.
pub(super) fn changed_keys<T: Serialize>(old: &T, new: &T) -> Vec<String> {
    let [old, new] = [old, new].map(|settings| {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_changed_key_is_named() {
        let old = json!({"a": {"same": 1, "other": 2}, "list": [1], "gone": {"key": 1}});
        assert_eq!(changed_keys(&old, &old), [""; 0]);
        let new = json!({"a": {"same": 1, "other": 3}, "list": [2], "gone": null});
        assert_eq!(changed_keys(&old, &new), ["a.other", "gone", "list"]);
    }
}
