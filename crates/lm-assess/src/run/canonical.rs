//! One text for one JSON value, and what two values differ in.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::error::{Difference, Differences};

/// Compact JSON with the keys of every object in the order of their bytes; numbers as `serde_json` writes them. Two values
/// that are equal give the same text.
pub fn canonical(value: &Value) -> String {
    sorted(value).to_string()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(values) => values.iter().map(sorted).collect(),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            let entries = entries
                .into_iter()
                .map(|(key, value)| (key.clone(), sorted(value)));
            Value::Object(entries.collect())
        }
        other => other.clone(),
    }
}

/// SHA-256 in lower-case hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The fields in which `found` differs from what was `expected`. Objects are looked into, lists are compared whole.
pub(super) fn differences(expected: &Value, found: &Value) -> Differences {
    let mut all = Vec::new();
    compare("", Some(expected), Some(found), &mut all);
    Differences(all)
}

fn compare(
    field: &str,
    expected: Option<&Value>,
    found: Option<&Value>,
    all: &mut Vec<Difference>,
) {
    if let (Some(Value::Object(a)), Some(Value::Object(b))) = (expected, found) {
        let mut keys: Vec<_> = a.keys().chain(b.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let within = if field.is_empty() {
                key.clone()
            } else {
                format!("{field}.{key}")
            };
            compare(&within, a.get(key), b.get(key), all);
        }
        return;
    }
    let text = |value: Option<&Value>| value.map_or_else(|| "absent".to_owned(), canonical);
    let (expected, found) = (text(expected), text(found));
    if expected != found {
        all.push(Difference {
            field: field.to_owned(),
            expected,
            found,
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equal_values_have_one_text() {
        let value = json!({"b": [1, {"d": null, "c": "é\n"}], "a": 0.1});
        assert_eq!(
            canonical(&value),
            r#"{"a":0.1,"b":[1,{"c":"é\n","d":null}]}"#
        );
        // Of the same object by Python: hashlib.sha256(json.dumps(…, sort_keys=True, separators=(",", ":"),
        // ensure_ascii=False).encode()).
        assert_eq!(
            sha256(canonical(&value).as_bytes()),
            "b8ab8568fe01c58d99204c2958ca4159b03336c3c91ef125cb2b363597941157"
        );
    }

    #[test]
    fn a_difference_is_named_by_its_path() {
        let expected = json!({"seed": 1, "options": {"top_p": 0.9, "same": [1]}, "gone": true});
        let found = json!({"options": {"same": [1], "top_p": 0.8}, "seed": 1, "new": null});
        assert_eq!(
            differences(&expected, &found).to_string(),
            "`gone`: expected true, found absent; `new`: expected absent, found null; \
             `options.top_p`: expected 0.9, found 0.8"
        );
        assert!(differences(&expected, &expected).0.is_empty());
    }
}
