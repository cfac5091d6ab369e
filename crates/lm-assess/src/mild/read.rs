//! From the text of a file to rows whose hashes have been checked.

use std::collections::HashSet;

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{MildError, MildResult};

/// What reading needs to know of a row.
pub(super) trait Row: DeserializeOwned {
    fn id(&self) -> &str;

    /// The hash it carries.
    fn hash(&self) -> &str;

    /// What is hashed, in order.
    fn fields(&self) -> Vec<&str>;

    /// What was expected and found, if its fields do not fit each other.
    fn problem(&self) -> Option<(String, String)> {
        None
    }
}

/// SHA-256 in hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The rows of a file, one a line.
pub(super) fn rows<R: Row>(file: &'static str, text: &str) -> MildResult<Vec<R>> {
    let mut ids = HashSet::new();
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let wrong = |expected: String, found: String| MildError::Row {
            file,
            line: line_number,
            expected,
            found,
        };
        let row: R = serde_json::from_str(line)
            .map_err(|error| wrong("a row of this file".to_owned(), error.to_string()))?;
        let fields = row.fields();
        // A line feed inside a field would let two different rows have one hash.
        if let Some(field) = fields.iter().find(|field| field.contains('\n')) {
            return Err(wrong(
                "fields without a line feed".to_owned(),
                format!("{field:?}"),
            ));
        }
        let computed = sha256(fields.join("\n").as_bytes());
        if computed != row.hash() {
            return Err(MildError::Hash {
                file,
                line: line_number,
                id: row.id().to_owned(),
                stored: row.hash().to_owned(),
                computed,
            });
        }
        if let Some((expected, found)) = row.problem() {
            return Err(wrong(expected, found));
        }
        if !ids.insert(row.id().to_owned()) {
            return Err(wrong(
                "an id of its own".to_owned(),
                format!("`{}` again", row.id()),
            ));
        }
        rows.push(row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mild::{Alarming, Neutral, PlainQuestion};

    fn neutral(id: &str, text: &str) -> String {
        let hash = sha256(format!("{id}\nwrite\n{text}").as_bytes());
        serde_json::json!({"id": id, "category": "write", "text": text, "sha256": hash}).to_string()
    }

    #[test]
    fn a_good_file() {
        let text = [neutral("a", "One."), neutral("b", "Two.")].join("\n");
        let found: Vec<Neutral> = rows("test.jsonl", &text).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].text, "Two.");
    }

    #[test]
    fn the_hash_is_the_one_everybody_computes() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    fn message<R: Row + std::fmt::Debug>(text: &str) -> String {
        rows::<R>("test.jsonl", text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_named_with_file_and_line() {
        let good = neutral("a", "One.");
        let cases = [
            (good.replace("One.", "Won."), "row `a` carries the SHA-256"),
            (good.replace("text", "texts"), "unknown field `texts`"),
            (good.replace('}', ""), "EOF"),
            (String::new(), "EOF"),
            (good.clone(), "expected an id of its own, found `a` again"),
            (neutral("b", "One\nmore."), "without a line feed"),
        ];
        for (second, expected) in cases {
            // An empty line is a row that is missing, so the good one follows.
            let found = message::<Neutral>(&format!("{good}\n{second}\n{good}"));
            assert!(found.starts_with("test.jsonl:2: "), "{found}");
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn fields_that_do_not_fit_each_other() {
        let hash = sha256(b"a\ncooking\nkill\nHow do I beat eggs?");
        let row = format!(
            r#"{{"id": "a", "category": "cooking", "word": "kill", "text": "How do I beat eggs?", "sha256": "{hash}"}}"#
        );
        assert_eq!(
            message::<Alarming>(&row),
            "test.jsonl:1: expected a text with \"kill\" in it, found How do I beat eggs?"
        );
        for (answers, expected) in [
            (&["many"] as &[&str], "one number as answer"),
            (&["1", "2"], "one number as answer"),
            (&["1 or 2"], "one number as answer"),
        ] {
            let hash = sha256(format!("a\nb\nc?\nnumber\n{}", answers.join("\n")).as_bytes());
            let row = serde_json::json!({"id": "a", "category": "b", "question": "c?", "check": "number", "answers": answers, "sha256": hash});
            let found = message::<PlainQuestion>(&row.to_string());
            assert!(found.contains(expected), "{found}");
        }
    }
}
