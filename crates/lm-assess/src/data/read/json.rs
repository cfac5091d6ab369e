//! JSON Lines, and arrays of objects.

use std::fmt;
use std::io::Read;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::super::assemble::kind;
use super::super::collect::Collector;
use super::super::error::{DataError, Position, Problem};
use super::super::options::Format;
use super::source::{Lines, Source, Stop};

/// Reads one object a line. Empty lines are passed over.
pub(super) fn lines<R: Read>(
    lines: &mut Lines<R>,
    into: &mut Collector<'_>,
) -> Result<(), DataError> {
    let mut buffer = Vec::new();
    while let Some(line) = lines.next(&mut buffer).map_err(|stop| into.stop(stop))? {
        let position = Position::Line(line.number);
        if line.too_long {
            let limit = into.max_line_bytes();
            into.bad(position, Problem::TooLong { limit })?;
        } else if !buffer.trim_ascii().is_empty() {
            match object(&buffer, Format::Jsonl, line.number, line.offset) {
                Ok(fields) => into.row(position, fields)?,
                Err(problem) => into.bad(position, problem)?,
            }
        }
        buffer.clear();
    }
    Ok(())
}

/// Reads one array, an element at a time.
pub(super) fn array<R: Read>(
    source: &mut Source<R>,
    into: &mut Collector<'_>,
) -> Result<(), DataError> {
    let mut elements = Elements {
        source,
        line: 1,
        limit: into.max_line_bytes(),
    };
    elements
        .source
        .skip_bom()
        .and_then(|()| elements.space())
        .map_err(|stop| into.stop(stop))?;
    if elements.next_byte().map_err(|stop| into.stop(stop))? != Some(b'[') {
        return Err(into.file(
            "expected a list of objects: `[` as the first character. An object that holds the list, or one an item, is not read"
                .to_owned(),
        ));
    }
    let mut buffer = Vec::new();
    let mut first = true;
    loop {
        let element = elements.next(&mut buffer).map_err(|stop| into.stop(stop))?;
        let position = Position::Line(element.line);
        let blank = buffer.trim_ascii().is_empty();
        let too_long = Problem::TooLong {
            limit: into.max_line_bytes(),
        };
        match element.end {
            // `[]` and `[ ]`.
            End::Closed if blank && first => {}
            _ if element.too_long => into.bad(position, too_long)?,
            End::Missing => {
                return Err(into.syntax(position, Format::Json, "the file ends inside the list"));
            }
            End::Unopened(byte) => {
                let message = format!("`{}` closes nothing", char::from(byte));
                return Err(into.syntax(position, Format::Json, &message));
            }
            End::Comma | End::Closed => {
                match object(&buffer, Format::Json, element.line, element.offset) {
                    Ok(fields) => into.row(position, fields)?,
                    Err(problem) => into.bad(position, problem)?,
                }
            }
        }
        buffer.clear();
        first = false;
        if element.end == End::Closed {
            break;
        }
    }
    elements.space().map_err(|stop| into.stop(stop))?;
    let line = Position::Line(elements.line);
    match elements.next_byte().map_err(|stop| into.stop(stop))? {
        None => Ok(()),
        Some(_) => Err(into.syntax(line, Format::Json, "something stands after the list")),
    }
}

/// Cuts an array where its elements end, without reading them.
struct Elements<'a, R> {
    source: &'a mut Source<R>,
    line: u64,
    limit: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Comma,
    Closed,
    Unopened(u8),
    Missing,
}

struct Element {
    line: u64,
    offset: u64,
    too_long: bool,
    end: End,
}

impl<R: Read> Elements<'_, R> {
    fn next_byte(&mut self) -> Result<Option<u8>, Stop> {
        let Some(byte) = self.source.peek()?.first().copied() else {
            return Ok(None);
        };
        self.source.take(1)?;
        self.line += u64::from(byte == b'\n');
        Ok(Some(byte))
    }

    fn space(&mut self) -> Result<(), Stop> {
        while self
            .source
            .peek()?
            .first()
            .is_some_and(u8::is_ascii_whitespace)
        {
            self.next_byte()?;
        }
        Ok(())
    }

    fn next(&mut self, buffer: &mut Vec<u8>) -> Result<Element, Stop> {
        self.space()?;
        let mut element = Element {
            line: self.line,
            offset: self.source.offset(),
            too_long: false,
            end: End::Missing,
        };
        let (mut depth, mut text, mut escaped) = (0_u64, false, false);
        loop {
            let shown = self.source.peek()?;
            if shown.is_empty() {
                return Ok(element);
            }
            let mut taken = 0;
            let mut end = None;
            for byte in shown {
                taken += 1;
                self.line += u64::from(*byte == b'\n');
                if text {
                    text = escaped || *byte != b'"';
                    escaped = !escaped && *byte == b'\\';
                } else {
                    match byte {
                        b'"' => text = true,
                        b'[' | b'{' => depth += 1,
                        b']' if depth == 0 => end = Some(End::Closed),
                        b'}' if depth == 0 => end = Some(End::Unopened(*byte)),
                        b',' if depth == 0 => end = Some(End::Comma),
                        b']' | b'}' => depth -= 1,
                        _ => {}
                    }
                }
                if end.is_some() {
                    break;
                }
            }
            let part = shown
                .get(..taken - usize::from(end.is_some()))
                .unwrap_or_default();
            let room = self.limit.saturating_sub(buffer.len());
            element.too_long |= part.len() > room;
            buffer.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
            self.source.take(taken)?;
            if let Some(end) = end {
                element.end = end;
                return Ok(element);
            }
        }
    }
}

/// One object; `line` and `offset` are where its text begins.
fn object(
    bytes: &[u8],
    format: Format,
    line: u64,
    offset: u64,
) -> Result<Map<String, Value>, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|error| Problem::Utf8 {
        offset: offset + error.valid_up_to() as u64,
    })?;
    match parse(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(Problem::Syntax {
            format: format.name(),
            message: format!("expected an object, found {}", kind(&other)),
        }),
        Err(error) => Err(Problem::Syntax {
            format: format.name(),
            message: located(&error, line),
        }),
    }
}

/// JSON in which no object has one key twice.
pub(in super::super) fn parse(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str::<Strict>(text).map(|strict| strict.0)
}

/// The parser's message, with the line in the file instead of that in the row.
fn located(error: &serde_json::Error, line: u64) -> String {
    let text = error.to_string();
    let message = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(message, _)| message);
    match error.line() {
        0 | 1 => format!("{message} at column {}", error.column()),
        below => format!(
            "{message} at line {}, column {}",
            line + below as u64 - 1,
            error.column()
        ),
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Strict, E> {
        Number::from_f64(value)
            .map(|number| Strict(number.into()))
            .ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Strict, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = access.next_element()? {
            values.push(value);
        }
        Ok(Strict(values.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Strict, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let Strict(value) = access.next_value()?;
            if map.contains_key(&key) {
                let message = format!("the key `{}` stands twice", super::super::error::cut(&key));
                return Err(A::Error::custom(message));
            }
            map.insert(key, value);
        }
        Ok(Strict(map.into()))
    }
}
