//! `tojson` as Hugging Face overrides it: Python's `json.dumps` without HTML escapes.
//!
//! The engine's own filter escapes `<`, `>`, `&` and `'`, as Jinja2's does; a model was trained on the plain characters.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// How deep lists and maps may be nested, so that a value built by a hostile template cannot exhaust the stack.
const MAX_DEPTH: usize = 128;

/// Bytes of output for one unit of the engine's fuel, its own rate.
const BYTES_PER_FUEL: usize = 64;

/// The filter, with the arguments of Hugging Face's: `tojson(ensure_ascii=False, indent=None, separators=None,
/// sort_keys=False)`.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the engine hands over named arguments by value"
)]
pub(super) fn tojson(
    state: &State,
    value: &Value,
    ensure_ascii: Option<bool>,
    indent: Option<usize>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let indent = indent.or(kwargs.get::<Option<usize>>("indent")?);
    let separators = kwargs.get::<Option<Vec<String>>>("separators")?;
    let ensure_ascii = ensure_ascii
        .or(kwargs.get("ensure_ascii")?)
        .unwrap_or(false);
    let sort_keys = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(other) => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("tojson: expected two separators, found {}", other.len()),
            ));
        }
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let mut writer = Writer {
        state,
        text: String::new(),
        paid: 0,
        item,
        key,
        indent,
        ensure_ascii,
        sort_keys,
    };
    writer.value(value, 0)?;
    Ok(writer.text)
}

struct Writer<'s, 'a, 'b> {
    state: &'s State<'a, 'b>,
    text: String,
    /// Bytes of `text` already charged. Charged while writing: a small value can be nested to print exponentially long.
    paid: usize,
    item: String,
    key: String,
    indent: Option<usize>,
    ensure_ascii: bool,
    sort_keys: bool,
}

impl Writer<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("tojson: nested deeper than {MAX_DEPTH}"),
            ));
        }
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self
                .text
                .push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => self.text.push_str(&value.to_string()),
            ValueKind::Number => self
                .text
                .push_str(&python_float(f64::try_from(value.clone())?)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => self.list(value, depth)?,
            ValueKind::Map => self.map(value, depth)?,
            kind => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("tojson: a value of type {kind} has no JSON form"),
                ));
            }
        }
        self.pay()
    }

    fn pay(&mut self) -> Result<(), Error> {
        let due = (self.text.len() - self.paid) / BYTES_PER_FUEL;
        self.paid += due * BYTES_PER_FUEL;
        // One unit for the value itself, so that a tree of empty lists is not free.
        self.state.consume_fuel(due as u64 + 1)
    }

    fn list(&mut self, list: &Value, depth: usize) -> Result<(), Error> {
        self.text.push('[');
        let mut empty = true;
        for item in list.try_iter()? {
            self.separate(&mut empty, depth + 1);
            self.value(&item, depth + 1)?;
        }
        self.close(']', empty, depth);
        Ok(())
    }

    fn map(&mut self, map: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = map.try_iter()?.collect();
        if self.sort_keys {
            keys.sort();
        }
        self.text.push('{');
        let mut empty = true;
        for key in keys {
            self.separate(&mut empty, depth + 1);
            match key.kind() {
                ValueKind::String => self.string(key.as_str().unwrap_or_default()),
                ValueKind::None => self.text.push_str("\"null\""),
                ValueKind::Bool | ValueKind::Number => {
                    self.text.push('"');
                    self.value(&key, depth + 1)?;
                    self.text.push('"');
                }
                kind => {
                    return Err(Error::new(
                        ErrorKind::InvalidOperation,
                        format!("tojson: a key of type {kind} has no JSON form"),
                    ));
                }
            }
            self.text.push_str(&self.key);
            self.value(&map.get_item(&key)?, depth + 1)?;
        }
        self.close('}', empty, depth);
        Ok(())
    }

    fn separate(&mut self, empty: &mut bool, depth: usize) {
        if !*empty {
            self.text.push_str(&self.item);
        }
        *empty = false;
        self.line(depth);
    }

    fn close(&mut self, bracket: char, empty: bool, depth: usize) {
        if !empty {
            self.line(depth);
        }
        self.text.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.text.push('\n');
            // A template may ask for any indent; nothing real is wider than this.
            let width = indent.min(64) * depth;
            self.text.extend(std::iter::repeat_n(' ', width));
        }
    }

    fn string(&mut self, string: &str) {
        self.text.push('"');
        for character in string.chars() {
            match character {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                _ if character < ' ' || (self.ensure_ascii && !character.is_ascii()) => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        // Writing to a string cannot fail.
                        let _ = write!(self.text, "\\u{unit:04x}");
                    }
                }
                _ => self.text.push(character),
            }
        }
        self.text.push('"');
    }
}

/// Python's `repr` of a float, with JSON's names for what is not finite.
fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    // Rust's debug form is the shortest that reads back, with Python's thresholds for the exponent, but without its
    // sign and two digits.
    let text = format!("{value:?}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => match exponent.strip_prefix('-') {
            Some(digits) => format!("{mantissa}e-{digits:0>2}"),
            None => format!("{mantissa}e+{exponent:0>2}"),
        },
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::python_float;

    /// Expected texts are Python's `json.dumps`.
    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (value, expected) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-2.5e-5, "-2.5e-05"),
            (1e16, "1e+16"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (1e15, "1000000000000000.0"),
            (0.0001, "0.0001"),
            (1e-300, "1e-300"),
            (-0.0, "-0.0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(python_float(value), expected);
        }
    }
}
