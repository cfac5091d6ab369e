//! From the fields of a row to an item.

use std::collections::BTreeMap;

use lm_core::{Conversation, Message, Prompt, Role};
use serde_json::{Map, Value};

use super::error::{Position, Problem, cut};
use super::item::Item;
use super::mapping::Mapping;
use super::options::{Field, Layout, ReadOptions, group_name};
use super::read::parse_json;

/// What stands between a context and the request about it in HarmBench's direct request.
const AFTER_CONTEXT: &str = "\n\n---\n\n";

const ROLES: [&str; 6] = [
    "system",
    "developer",
    "user",
    "assistant",
    "tool",
    "ipython",
];
/// Who speaks in ShareGPT's files, and what is the same here.
const SPEAKERS: [(&str, &str); 8] = [
    ("human", "user"),
    ("user", "user"),
    ("gpt", "assistant"),
    ("assistant", "assistant"),
    ("system", "system"),
    ("tool", "tool"),
    ("observation", "tool"),
    ("function_call", "assistant"),
];

/// What each mapped column held first, so that a file that changes its mind is noticed.
#[derive(Debug, Default)]
pub(super) struct Kinds(BTreeMap<String, (&'static str, Position)>);

impl Kinds {
    fn same(&mut self, column: &str, value: &Value, position: Position) -> Result<(), Problem> {
        let found = class(value);
        match self.0.get(column) {
            Some((expected, first)) if *expected != found => Err(Problem::Value {
                column: column.to_owned(),
                expected: format!("{expected} as in {first}"),
                found: kind(value),
            }),
            Some(_) => Ok(()),
            None => {
                self.0.insert(column.to_owned(), (found, position));
                Ok(())
            }
        }
    }
}

/// Makes an item of a row.
pub(super) fn item(
    mut fields: Map<String, Value>,
    position: Position,
    mapping: &Mapping,
    options: &ReadOptions,
    kinds: &mut Kinds,
) -> Result<Item, Problem> {
    let mut row = Row {
        fields: &fields,
        mapping,
        position,
        kinds,
    };
    let content = row.content(options)?;
    let mut item = Item::new(content);
    if let Some(id) = row.scalar(Field::Id)? {
        item.id = id;
    }
    item.label = row.scalar(Field::Label)?;
    item.target = row.text(Field::Target)?.map(str::to_owned);
    for field in [Field::Category, Field::Topic, Field::Source, Field::Person] {
        if let (Some(name), Some(column)) = (group_name(field), mapping.columns.get(&field))
            && let Some(value) = row.group(column)?
        {
            item.groups.insert(name.to_owned(), value);
        }
    }
    for (name, column) in &mapping.groups {
        if let Some(value) = row.group(column)? {
            item.groups.insert(name.clone(), value);
        }
    }
    fields.retain(|name, _| !mapping.uses(name));
    if options.refuse_unknown_columns
        && let Some(column) = fields.keys().next()
    {
        return Err(Problem::UnknownColumn {
            column: column.clone(),
        });
    }
    item.extra = fields;
    Ok(item)
}

struct Row<'a> {
    fields: &'a Map<String, Value>,
    mapping: &'a Mapping,
    position: Position,
    kinds: &'a mut Kinds,
}

impl<'a> Row<'a> {
    /// A column's value; none if it is absent, null or an empty text.
    fn value(&mut self, column: &str) -> Result<Option<&'a Value>, Problem> {
        let value = match self.fields.get(column) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(value) => value,
        };
        // A seed of several turns is a list among texts by its own format's rules.
        if self.mapping.layout != Layout::PyritSeeds {
            self.kinds.same(column, value, self.position)?;
        }
        Ok(Some(value))
    }

    fn of(&mut self, field: Field) -> Result<Option<(&'a str, &'a Value)>, Problem> {
        let mapping: &'a Mapping = self.mapping;
        let Some(column) = mapping.columns.get(&field) else {
            return Ok(None);
        };
        Ok(self.value(column)?.map(|value| (column.as_str(), value)))
    }

    fn text(&mut self, field: Field) -> Result<Option<&'a str>, Problem> {
        match self.of(field)? {
            None => Ok(None),
            Some((_, Value::String(text))) => Ok(Some(text)),
            Some((column, other)) => Err(wrong(column, "a text", other)),
        }
    }

    fn scalar(&mut self, field: Field) -> Result<Option<String>, Problem> {
        let Some((column, value)) = self.of(field)? else {
            return Ok(None);
        };
        scalar(column, value).map(Some)
    }

    /// A group's value. Of a list, such as PyRIT's harm categories, its members behind each other.
    fn group(&mut self, column: &str) -> Result<Option<String>, Problem> {
        match self.value(column)? {
            None => Ok(None),
            Some(Value::Array(values)) if values.is_empty() => Ok(None),
            Some(Value::Array(values)) => {
                let values: Result<Vec<_>, _> =
                    values.iter().map(|value| scalar(column, value)).collect();
                values.map(|values| Some(values.join(", ")))
            }
            Some(value) => scalar(column, value).map(Some),
        }
    }

    fn content(&mut self, options: &ReadOptions) -> Result<Prompt, Problem> {
        let (field, column) = self.mapping.main().unwrap_or((Field::Prompt, "prompt"));
        if !self.fields.contains_key(column) {
            return Err(Problem::NoColumn {
                column: column.to_owned(),
                found: self.fields.keys().cloned().collect(),
            });
        }
        let wanted = match (field, options.raw) {
            (Field::Messages, _) => "a list of messages",
            (_, true) => "a text",
            (_, false) => "a text or a list of messages",
        };
        let empty = |found: &str| Problem::Value {
            column: column.to_owned(),
            expected: wanted.to_owned(),
            found: found.to_owned(),
        };
        let Some(value) = self.value(column)? else {
            let null = self.fields.get(column).is_none_or(Value::is_null);
            return Err(empty(if null { "null" } else { "an empty text" }));
        };
        let context = self.text(Field::Context)?;
        let share_gpt = self.mapping.layout == Layout::ShareGpt;
        let mut messages = match (field, value) {
            (Field::Messages, Value::Array(list)) => messages(column, list, share_gpt)?,
            // A table has no lists; where it holds a conversation, it does as the text of one.
            (Field::Messages, Value::String(text)) => {
                let value = parse_json(text)
                    .map_err(|error| empty(&format!("a text that is no JSON: {error}")))?;
                match value {
                    Value::Array(list) => messages(column, &list, share_gpt)?,
                    other => return Err(empty(&format!("the text of {}", kind(&other)))),
                }
            }
            (Field::Prompt, Value::Array(list)) if !options.raw => {
                messages(column, list, share_gpt)?
            }
            (Field::Prompt, Value::String(text)) => {
                if text.trim().is_empty() {
                    return Err(empty("nothing but space"));
                }
                let text = match context {
                    Some(context) => format!("{context}{AFTER_CONTEXT}{text}"),
                    None => text.clone(),
                };
                if options.raw {
                    return Ok(Prompt::Raw(text));
                }
                vec![Message::new(Role::User, text)]
            }
            (_, other) => return Err(wrong(column, wanted, other)),
        };
        if let Some(text) = self.text(Field::System)? {
            if messages
                .first()
                .is_some_and(|first| first.role == Role::System)
            {
                let (column, value) = self.of(Field::System)?.unwrap_or(("system", &Value::Null));
                return Err(wrong(
                    column,
                    "nothing beside the conversation's own system message",
                    value,
                ));
            }
            messages.insert(0, Message::new(Role::System, text));
        }
        if let Some(text) = self.text(Field::Reply)? {
            if messages
                .last()
                .is_some_and(|last| last.role == Role::Assistant)
            {
                let (column, value) = self.of(Field::Reply)?.unwrap_or(("reply", &Value::Null));
                return Err(wrong(
                    column,
                    "nothing after a conversation that ends in a reply",
                    value,
                ));
            }
            messages.push(Message::new(Role::Assistant, text));
        }
        Ok(Prompt::Chat(Conversation::from(messages)))
    }
}

fn messages(column: &str, list: &[Value], share_gpt: bool) -> Result<Vec<Message>, Problem> {
    if list.is_empty() {
        return Err(Problem::Value {
            column: column.to_owned(),
            expected: "at least one message".to_owned(),
            found: "an empty list".to_owned(),
        });
    }
    let (who, what) = if share_gpt {
        ("from", "value")
    } else {
        ("role", "content")
    };
    let message = |(index, value): (usize, &Value)| {
        let at = format!("{column}.{index}");
        let Value::Object(fields) = value else {
            return Err(wrong(
                &at,
                &format!("an object with `{who}` and `{what}`"),
                value,
            ));
        };
        let mut extra = fields.clone();
        let speaker = extra.shift_remove(who).unwrap_or(Value::Null);
        let content = extra.shift_remove(what).unwrap_or(Value::Null);
        // What Parquet writes for a field that only other messages have.
        extra.retain(|_, value| !value.is_null());
        let role = match &speaker {
            Value::String(name) if share_gpt => SPEAKERS
                .iter()
                .find(|(speaker, _)| speaker == name)
                .map(|(_, role)| *role),
            Value::String(name) => ROLES.into_iter().find(|role| role == name),
            _ => None,
        };
        let Some(role) = role else {
            let known: Vec<_> = if share_gpt {
                SPEAKERS.iter().map(|(speaker, _)| *speaker).collect()
            } else {
                ROLES.to_vec()
            };
            return Err(wrong(
                &format!("{at}.{who}"),
                &format!("one of {}", known.join(", ")),
                &speaker,
            ));
        };
        let content = match content {
            Value::String(text) => text,
            // A turn that only calls a tool says nothing.
            Value::Null if extra.contains_key("tool_calls") => String::new(),
            other => return Err(wrong(&format!("{at}.{what}"), "a text", &other)),
        };
        Ok(Message {
            role: Role::from(role),
            content,
            extra,
        })
    };
    list.iter().enumerate().map(message).collect()
}

fn scalar(column: &str, value: &Value) -> Result<String, Problem> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(number) if !number.is_f64() => Ok(number.to_string()),
        other => Err(wrong(column, "a text, a whole number or a boolean", other)),
    }
}

pub(super) fn wrong(column: &str, expected: &str, found: &Value) -> Problem {
    Problem::Value {
        column: column.to_owned(),
        expected: expected.to_owned(),
        found: kind(found),
    }
}

/// What a value is, for a message.
pub(super) fn kind(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text \"{}\"", cut(text)),
        Value::Array(values) => format!("a list of {}", values.len()),
        Value::Object(_) => "an object".to_owned(),
    }
}

fn class(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
