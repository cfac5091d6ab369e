//! PyRIT's seed data sets: a mapping with defaults and a list `seeds`.
//!
//! As in PyRIT 1.1: what the file says for all (`source`, `name`, `description`, `harm_categories`, `authors`, `groups`, `data_type`,
//! `seed_type`) holds for a seed that says nothing of its own, and lists are joined. Seeds with one `prompt_group_alias` are the turns of one
//! conversation, in the order of `sequence`; an objective among them is kept in `extra`. Templates are not filled in.

use std::io::Read;

use serde_json::{Map, Value, json};

use super::super::assemble::{kind, wrong};
use super::super::collect::Collector;
use super::super::error::{DataError, Position, Problem};
use super::super::options::{Format, Layout};
use super::source::Source;
use super::yaml::{self, Data, Node};

const TEXTS: [&str; 3] = ["name", "description", "source"];
const LISTS: [&str; 3] = ["harm_categories", "authors", "groups"];

pub(super) fn read<R: Read>(
    source: &mut Source<R>,
    limit: usize,
    into: &mut Collector<'_>,
) -> Result<(), DataError> {
    source.skip_bom().map_err(|stop| into.stop(stop))?;
    let start = source.offset();
    let Some(bytes) = source.rest(limit).map_err(|stop| into.stop(stop))? else {
        return Err(into.file(format!(
            "more than {limit} bytes of YAML (four times `max_line_bytes`)"
        )));
    };
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        let offset = start + error.valid_up_to() as u64;
        into.at(Position::Line(line), Problem::Utf8 { offset })
    })?;
    let document = yaml::parse(text)
        .map_err(|error| into.syntax(Position::Line(error.line), Format::Yaml, &error.message))?;
    let line = Position::Line(document.line);
    let Data::Map(mut entries) = document.data else {
        let problem = wrong("seeds", "a mapping that holds it", &document.into_value());
        return Err(into.at(line, problem));
    };
    let Some(at) = entries.iter().position(|(key, _)| key == "seeds") else {
        let found = entries.into_iter().map(|(key, _)| key).collect();
        let column = "seeds".to_owned();
        return Err(into.at(line, Problem::NoColumn { column, found }));
    };
    let (_, seeds) = entries.remove(at);
    let line = Position::Line(seeds.line);
    let Data::List(seeds) = seeds.data else {
        return Err(into.at(line, wrong("seeds", "a list", &seeds.into_value())));
    };
    let defaults: Map<String, Value> = entries
        .into_iter()
        .map(|(key, node)| (key, node.into_value()))
        .collect();
    into.layout(Layout::PyritSeeds)?;
    let mut groups: Vec<Group> = Vec::new();
    for seed in seeds {
        let position = Position::Line(seed.line);
        match self::seed(seed, &defaults) {
            Err(problem) => into.bad(position, problem)?,
            Ok(fields) => {
                let alias = fields.get("prompt_group_alias").cloned();
                let known = groups
                    .iter_mut()
                    .rev()
                    .find(|group| alias.is_some() && group.alias == alias);
                match known {
                    Some(group) => group.seeds.push((position, fields)),
                    None => groups.push(Group {
                        alias,
                        seeds: vec![(position, fields)],
                    }),
                }
            }
        }
    }
    for group in groups {
        group.give(into)?;
    }
    Ok(())
}

/// A seed with what the file says for all.
fn seed(seed: Node, defaults: &Map<String, Value>) -> Result<Map<String, Value>, Problem> {
    let mut fields = match seed.into_value() {
        Value::Object(fields) => fields,
        other => return Err(wrong("seeds", "a mapping with `value`", &other)),
    };
    let missing =
        |fields: &Map<String, Value>, key: &str| fields.get(key).is_none_or(Value::is_null);
    for key in TEXTS {
        if let Some(value) = defaults.get(key)
            && missing(&fields, key)
        {
            fields.insert(key.to_owned(), value.clone());
        }
    }
    if missing(&fields, "dataset_name")
        && let Some(name) = defaults
            .get("dataset_name")
            .or_else(|| defaults.get("name"))
    {
        fields.insert("dataset_name".to_owned(), name.clone());
    }
    for key in LISTS {
        let mut all: Vec<Value> = Vec::new();
        for value in [defaults.get(key), fields.get(key)].into_iter().flatten() {
            let several = match value {
                Value::Array(values) => values.clone(),
                Value::Null => Vec::new(),
                one => vec![one.clone()],
            };
            for value in several {
                if !all.contains(&value) {
                    all.push(value);
                }
            }
        }
        if !all.is_empty() {
            fields.insert(key.to_owned(), all.into());
        }
    }
    for (key, usual, known) in [
        ("data_type", "text", &["text"][..]),
        ("seed_type", "prompt", &["prompt", "objective"]),
    ] {
        let value = [fields.get(key), defaults.get(key)]
            .into_iter()
            .flatten()
            .find(|value| !value.is_null())
            .cloned()
            .unwrap_or_else(|| usual.into());
        if !known.iter().any(|known| value == *known) {
            return Err(wrong(key, &format!("one of {}", known.join(", ")), &value));
        }
        fields.insert(key.to_owned(), value);
    }
    match fields.get("value") {
        Some(Value::String(_)) => Ok(fields),
        Some(other) => Err(wrong("value", "a text", other)),
        None => Err(Problem::NoColumn {
            column: "value".to_owned(),
            found: fields.keys().cloned().collect(),
        }),
    }
}

/// Seeds that belong together.
struct Group {
    alias: Option<Value>,
    seeds: Vec<(Position, Map<String, Value>)>,
}

impl Group {
    fn give(self, into: &mut Collector<'_>) -> Result<(), DataError> {
        let is_objective = |fields: &Map<String, Value>| {
            fields
                .get("seed_type")
                .is_some_and(|kind| kind == "objective")
        };
        let (objectives, mut turns): (Vec<_>, Vec<_>) = self
            .seeds
            .into_iter()
            .partition(|(_, fields)| is_objective(fields));
        if turns.is_empty() {
            for (position, fields) in objectives {
                into.row(position, fields)?;
            }
            return Ok(());
        }
        let sequence = |fields: &Map<String, Value>| {
            fields.get("sequence").and_then(Value::as_i64).unwrap_or(0)
        };
        turns.sort_by_key(|(_, fields)| sequence(fields));
        let twice = turns.windows(2).find_map(|pair| match pair {
            [(_, one), (position, other)] if sequence(one) == sequence(other) => {
                Some((*position, sequence(other)))
            }
            _ => None,
        });
        if let Some((position, number)) = twice {
            let problem = Problem::Value {
                column: "sequence".to_owned(),
                expected: format!(
                    "another number for each seed of the group {}",
                    kind(&self.alias.unwrap_or_default())
                ),
                found: format!("the number {number} again"),
            };
            return into.bad(position, problem);
        }
        let messages: Vec<Value> = turns
            .iter()
            .map(|(_, fields)| {
                let role = fields.get("role").cloned().unwrap_or_else(|| "user".into());
                let content = fields.get("value").cloned().unwrap_or_default();
                json!({"role": role, "content": content})
            })
            .collect();
        let Some((position, mut fields)) = turns.into_iter().next() else {
            return Ok(());
        };
        if messages.len() > 1 || fields.get("role").is_some_and(|role| role != "user") {
            fields.insert("value".to_owned(), messages.into());
        }
        if let Some((_, objective)) = objectives.into_iter().next() {
            let objective = objective.get("value").cloned().unwrap_or_default();
            fields.insert("objective".to_owned(), objective);
        }
        for key in ["role", "sequence"] {
            fields.shift_remove(key);
        }
        into.row(position, fields)
    }
}
