//! A YAML document as a tree whose parts know their lines.
//!
//! Of the parsers that are kept up, `saphyr-parser` gives events instead of values: lines are at hand, and what an alias stands for is
//! copied here, under a budget, so that a few lines cannot become gigabytes.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};

/// Parts inside parts.
const MAX_DEPTH: usize = 32;
/// Parts that all aliases of a file together may stand for.
const MAX_COPIED: usize = 10_000;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) data: Data,
}

#[derive(Clone, Debug)]
pub(super) enum Data {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// How many parts it has, itself among them.
    fn size(&self) -> usize {
        1 + match &self.data {
            Data::Scalar(_) => 0,
            Data::List(nodes) => nodes.iter().map(Self::size).sum(),
            Data::Map(entries) => entries.iter().map(|(_, node)| node.size()).sum(),
        }
    }

    /// How many parts stand inside each other. Aliases are copied only where this stays small, so that the walk does too.
    fn depth(&self) -> usize {
        let inside = match &self.data {
            Data::Scalar(_) => None,
            Data::List(nodes) => nodes.iter().map(Self::depth).max(),
            Data::Map(entries) => entries.iter().map(|(_, node)| node.depth()).max(),
        };
        1 + inside.unwrap_or(0)
    }

    pub(super) fn into_value(self) -> Value {
        match self.data {
            Data::Scalar(value) => value,
            Data::List(nodes) => nodes.into_iter().map(Self::into_value).collect(),
            Data::Map(entries) => entries
                .into_iter()
                .map(|(key, node)| (key, node.into_value()))
                .collect::<Map<_, _>>()
                .into(),
        }
    }
}

/// What stops the parser, and on which line.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) line: u64,
    pub(super) message: String,
}

struct Open {
    anchor: usize,
    node: Node,
    /// Of a mapping, the key whose value comes next.
    key: Option<String>,
}

/// The one document of a file.
pub(super) fn parse(text: &str) -> Result<Node, Wrong> {
    let mut open: Vec<Open> = Vec::new();
    let mut anchors: HashMap<usize, Node> = HashMap::new();
    let mut copied = 0;
    let mut document = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Wrong {
            line: error.marker().line() as u64,
            message: error.info().to_owned(),
        })?;
        let line = span.start.line() as u64;
        let wrong = |message: &str| Wrong {
            line,
            message: message.to_owned(),
        };
        let done = match event {
            Event::DocumentStart(_) if document.is_some() => {
                return Err(wrong("a second document; one is read"));
            }
            Event::SequenceStart(anchor, tag) => {
                no_tag(tag.as_deref(), "seq").map_err(|message| wrong(&message))?;
                let data = Data::List(Vec::new());
                open.push(Open {
                    anchor,
                    node: Node { line, data },
                    key: None,
                });
                None
            }
            Event::MappingStart(anchor, tag) => {
                no_tag(tag.as_deref(), "map").map_err(|message| wrong(&message))?;
                let data = Data::Map(Vec::new());
                open.push(Open {
                    anchor,
                    node: Node { line, data },
                    key: None,
                });
                None
            }
            Event::SequenceEnd | Event::MappingEnd => {
                open.pop().map(|open| (open.anchor, open.node))
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value =
                    scalar(&text, style, tag.as_deref()).map_err(|message| wrong(&message))?;
                Some((
                    anchor,
                    Node {
                        line,
                        data: Data::Scalar(value),
                    },
                ))
            }
            Event::Alias(anchor) => {
                let node = anchors
                    .get(&anchor)
                    .ok_or_else(|| wrong("an alias of something that is not finished"))?;
                copied += node.size();
                if copied > MAX_COPIED {
                    return Err(wrong(&format!(
                        "aliases stand for more than {MAX_COPIED} parts"
                    )));
                }
                if open.len() + node.depth() > MAX_DEPTH {
                    return Err(wrong(&too_deep()));
                }
                let mut node = node.clone();
                node.line = line;
                Some((0, node))
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => None,
        };
        if open.len() > MAX_DEPTH {
            return Err(wrong(&too_deep()));
        }
        let Some((anchor, node)) = done else {
            continue;
        };
        if anchor > 0 {
            anchors.insert(anchor, node.clone());
        }
        match open.last_mut() {
            None => document = Some(node),
            Some(parent) => parent.take(node).map_err(|message| wrong(&message))?,
        }
    }
    document.ok_or_else(|| Wrong {
        line: 1,
        message: "no document".to_owned(),
    })
}

fn too_deep() -> String {
    format!("more than {MAX_DEPTH} parts inside each other")
}

impl Open {
    fn take(&mut self, node: Node) -> Result<(), String> {
        match &mut self.node.data {
            Data::List(nodes) => nodes.push(node),
            Data::Map(entries) => match self.key.take() {
                Some(key) => entries.push((key, node)),
                None => {
                    let Data::Scalar(Value::String(key)) = node.data else {
                        return Err("a key that is no text".to_owned());
                    };
                    if key == "<<" {
                        return Err("a merge key; write the keys out".to_owned());
                    }
                    if entries.iter().any(|(before, _)| *before == key) {
                        return Err(format!("the key `{key}` stands twice"));
                    }
                    self.key = Some(key);
                }
            },
            // Nothing is inside a scalar.
            Data::Scalar(_) => {}
        }
        Ok(())
    }
}

fn no_tag(tag: Option<&Tag>, usual: &str) -> Result<(), String> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == usual) => Err(format!(
            "the tag `{}{}`; tags are not read",
            tag.handle, tag.suffix
        )),
        _ => Ok(()),
    }
}

/// A scalar by YAML 1.2's core schema.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    if tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str") {
        return Ok(text.into());
    }
    no_tag(tag, "")?;
    if style != ScalarStyle::Plain {
        return Ok(text.into());
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ => number(text).map_or_else(|| text.into(), Value::Number),
    })
}

fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.') {
        return None;
    }
    // Leading zeros and the like are a number to Rust and to YAML alike; `1_000` and `12:30` to neither.
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    unsigned
        .parse::<i64>()
        .map(Number::from)
        .ok()
        .or_else(|| unsigned.parse::<f64>().ok().and_then(Number::from_f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        parse(text).expect("YAML").into_value()
    }

    fn wrong(text: &str) -> String {
        let wrong = parse(text).expect_err("no YAML");
        format!("{}: {}", wrong.line, wrong.message)
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        let found = value(
            "[~, null, true, yes, 7, -7, +7, 1.5, .5, '7', \"true\", 12:30, 1_000, a b, !!str 7]",
        );
        let expected = serde_json::json!([
            null, null, true, "yes", 7, -7, 7, 1.5, 0.5, "7", "true", "12:30", "1_000", "a b", "7"
        ]);
        assert_eq!(found, expected);
    }

    #[test]
    fn blocks_keep_their_breaks_and_folds() {
        let found = value("a: |\n  one\n\n  two\nb: >-\n  one\n  two\n");
        assert_eq!(
            found,
            serde_json::json!({"a": "one\n\ntwo\n", "b": "one two"})
        );
    }

    #[test]
    fn aliases_are_copied_under_a_budget() {
        assert_eq!(
            value("a: &x [1, 2]\nb: *x\n"),
            serde_json::json!({"a": [1, 2], "b": [1, 2]})
        );
        let mut bomb = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
        for level in 1..10 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            bomb.push_str(&format!(
                "a{level}: &a{level} [{}]\n",
                below.trim_end_matches(", ")
            ));
        }
        assert_eq!(wrong(&bomb), "4: aliases stand for more than 10000 parts");
    }

    #[test]
    fn what_is_not_read_is_refused_with_its_line() {
        assert_eq!(wrong("a: 1\nb: 2\na: 3\n"), "3: the key `a` stands twice");
        assert_eq!(
            wrong("a: 1\n---\nb: 2\n"),
            "2: a second document; one is read"
        );
        assert_eq!(
            wrong("x: &x {a: 1}\ny:\n  <<: *x\n"),
            "3: a merge key; write the keys out"
        );
        assert_eq!(
            wrong("a: !thing 1\n"),
            "1: the tag `!thing`; tags are not read"
        );
        assert_eq!(wrong("[1, 2]: 3\n"), "1: a key that is no text");
        assert_eq!(wrong(""), "1: no document");
        let deep = "[".repeat(33);
        assert_eq!(wrong(&deep), "1: more than 32 parts inside each other");
        // Beyond some hundreds the parser itself has enough.
        assert_eq!(wrong(&"[".repeat(100_000)), "1: recursion limit exceeded");
        // Alias by alias, each 20 deeper.
        let mut stairs = "a0: &a0 1\n".to_owned();
        for level in 1..100 {
            let (open, close) = ("[".repeat(20), "]".repeat(20));
            stairs.push_str(&format!(
                "a{level}: &a{level} {open}*a{}{close}\n",
                level - 1
            ));
        }
        assert_eq!(wrong(&stairs), "3: more than 32 parts inside each other");
        assert!(
            wrong("a: \"open\nb: 1").contains("quote"),
            "{}",
            wrong("a: \"open\nb: 1")
        );
        assert!(
            wrong("a: *nobody").contains("unknown anchor"),
            "{}",
            wrong("a: *nobody")
        );
    }
}
