//! Comma- and tab-separated values by RFC 4180, strictly.
//!
//! The `csv` crate is made to get through any file: a quote that is never closed takes the rest of the file into one field without
//! a word. Data that numbers are made of must not be guessed at, so the grammar's few states stand here, each line once,
//! and the `csv` crate is what the tests compare with.

use std::io::Read;

use serde_json::{Map, Value};

use super::super::collect::Collector;
use super::super::error::{DataError, Position, Problem, listed};
use super::super::options::Format;
use super::source::{Line, Lines};

/// How a remark above the header begins, as in PyRIT's scored replies.
const COMMENT: &[u8] = b"# ";

pub(super) fn read<R: Read>(
    lines: &mut Lines<R>,
    format: Format,
    into: &mut Collector<'_>,
) -> Result<(), DataError> {
    let delimiter = if format == Format::Tsv { b'\t' } else { b',' };
    let mut header: Option<Vec<String>> = None;
    let mut record = Record::default();
    let mut buffer = Vec::new();
    loop {
        // A record that goes on has its lines behind each other in the buffer.
        let start = buffer.len();
        let Some(line) = lines.next(&mut buffer).map_err(|stop| into.stop(stop))? else {
            break;
        };
        let bytes = buffer.get(start..).unwrap_or_default();
        if record.lines == 0 && !line.too_long {
            let comment = header.is_none() && bytes.starts_with(COMMENT);
            if bytes.is_empty() || comment {
                buffer.clear();
                continue;
            }
        }
        record.line(bytes, line, delimiter);
        if line.too_long || buffer.len() > into.max_line_bytes() {
            let limit = into.max_line_bytes();
            let record = std::mem::take(&mut record);
            // Without its header nothing can be read, nor after a quote that may be open for as long as the file goes on.
            if header.is_none() || (record.state == State::Quoted && !line.too_long) {
                return Err(into.at(record.position(), Problem::TooLong { limit }));
            }
            into.bad(record.position(), Problem::TooLong { limit })?;
            buffer.clear();
            continue;
        }
        if record.state == State::Quoted {
            buffer.push(b'\n');
            continue;
        }
        buffer.clear();
        let record = std::mem::take(&mut record);
        let position = record.position();
        match (record.finish(format), &header) {
            // Nothing can be read without its header.
            (Err(problem), None) => return Err(into.at(position, problem)),
            (Ok(names), None) => {
                if let Some(name) = repeated(&names) {
                    let message =
                        format!("the header has column `{name}` twice: {}", listed(&names));
                    return Err(into.file(message));
                }
                into.columns(&names)?;
                header = Some(names);
            }
            (Err(problem), Some(_)) => into.bad(position, problem)?,
            (Ok(fields), Some(names)) if fields.len() != names.len() => into.bad(
                position,
                Problem::FieldCount {
                    expected: names.len(),
                    found: fields.len(),
                },
            )?,
            (Ok(fields), Some(names)) => {
                let fields: Map<_, _> = names
                    .iter()
                    .cloned()
                    .zip(fields.into_iter().map(Value::from))
                    .collect();
                into.row(position, fields)?;
            }
        }
    }
    if record.lines > 0 {
        return Err(into.syntax(record.position(), format, UNCLOSED));
    }
    Ok(())
}

const UNCLOSED: &str = "a quote opened in this record is not closed";

fn repeated(names: &[String]) -> Option<&String> {
    names
        .iter()
        .enumerate()
        .find(|(index, name)| names.iter().take(*index).any(|before| before == *name))
        .map(|(_, name)| name)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the first character of a field.
    #[default]
    Start,
    Plain,
    Quoted,
    /// After a quote that may have closed the field, or be half of an escaped one.
    Closed,
}

/// A record as far as it was read.
#[derive(Debug, Default)]
struct Record {
    start: u64,
    lines: u64,
    fields: Vec<Vec<u8>>,
    field: Vec<u8>,
    state: State,
    problem: Option<Problem>,
}

impl Record {
    fn position(&self) -> Position {
        Position::Line(self.start)
    }

    fn line(&mut self, bytes: &[u8], line: Line, delimiter: u8) {
        if self.lines == 0 {
            self.start = line.number;
        } else {
            // A line break in quotes is LF, however the file was saved: the same text has one id.
            self.field.push(b'\n');
        }
        self.lines += 1;
        if let Err(error) = std::str::from_utf8(bytes)
            && !line.too_long
        {
            let offset = line.offset + error.valid_up_to() as u64;
            self.problem.get_or_insert(Problem::Utf8 { offset });
        }
        for &byte in bytes {
            match (self.state, byte) {
                (State::Start, b'"') => self.state = State::Quoted,
                (State::Quoted, b'"') => self.state = State::Closed,
                (State::Quoted, _) => self.field.push(byte),
                (State::Closed, b'"') => {
                    self.field.push(byte);
                    self.state = State::Quoted;
                }
                (_, _) if byte == delimiter => {
                    self.fields.push(std::mem::take(&mut self.field));
                    self.state = State::Start;
                }
                (State::Closed, _) => return self.wrong("text after a closing quote", line),
                (State::Plain, b'"') => {
                    return self.wrong("a quote inside a field that does not begin with one", line);
                }
                (State::Start | State::Plain, _) => {
                    self.field.push(byte);
                    self.state = State::Plain;
                }
            }
        }
    }

    /// The grammar is lost; the next line is taken for a record of its own.
    fn wrong(&mut self, message: &str, line: Line) {
        let place = if line.number == self.start {
            String::new()
        } else {
            format!(" on line {}", line.number)
        };
        self.problem.get_or_insert(Problem::Syntax {
            format: "CSV",
            message: format!("{message}{place}, in field {}", self.fields.len() + 1),
        });
        self.state = State::Plain;
    }

    fn finish(mut self, format: Format) -> Result<Vec<String>, Problem> {
        if let Some(mut problem) = self.problem {
            if let Problem::Syntax { format: name, .. } = &mut problem {
                *name = format.name();
            }
            return Err(problem);
        }
        self.fields.push(self.field);
        self.fields
            .into_iter()
            .map(|field| {
                // Lines were checked whole; only a record that is no text gets here otherwise.
                String::from_utf8(field).map_err(|error| Problem::Syntax {
                    format: format.name(),
                    message: error.to_string(),
                })
            })
            .collect()
    }
}
