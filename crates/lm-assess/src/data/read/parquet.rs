//! Parquet by rows. The `arrow` side of the library would bring a third more packages and nothing that rows need.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Map, Number, Value};

use super::super::collect::Collector;
use super::super::error::{DataError, Position, Problem};
use super::super::options::Format;

pub(super) fn read(path: &Path, into: &mut Collector<'_>) -> Result<(), DataError> {
    // The library panics on some damaged files. Nothing of it outlives the call, and what the collector holds is thrown away.
    catch_unwind(AssertUnwindSafe(|| rows(path, into))).unwrap_or_else(|_| {
        Err(into.file("not valid Parquet: its reader gave up on it".to_owned()))
    })
}

fn rows(path: &Path, into: &mut Collector<'_>) -> Result<(), DataError> {
    let file = File::open(path).map_err(|source| DataError::Io {
        path: path.to_owned(),
        source,
    })?;
    let reader = SerializedFileReader::new(file)
        .map_err(|error| into.file(format!("not valid Parquet: {error}")))?;
    let schema = reader.metadata().file_metadata().schema();
    let names: Vec<String> = schema
        .get_fields()
        .iter()
        .map(|field| field.name().to_owned())
        .collect();
    into.columns(&names)?;
    let rows = reader
        .get_row_iter(None)
        .map_err(|error| into.file(format!("not valid Parquet: {error}")))?;
    for (index, row) in rows.enumerate() {
        let position = Position::Row(index as u64 + 1);
        // A page that cannot be read takes the rows after it with it.
        let row =
            row.map_err(|error| into.syntax(position, Format::Parquet, &error.to_string()))?;
        let (fields, bytes) = object(&row);
        if bytes > into.max_line_bytes() {
            let limit = into.max_line_bytes();
            into.bad(position, Problem::TooLong { limit })?;
        } else {
            into.row(position, fields)?;
        }
    }
    Ok(())
}

/// The fields, and how many bytes their texts have.
fn object(row: &Row) -> (Map<String, Value>, usize) {
    let mut bytes = 0;
    let fields = row
        .get_column_iter()
        .map(|(name, field)| (name.clone(), value(field, &mut bytes)))
        .collect();
    (fields, bytes)
}

fn value(field: &Field, bytes: &mut usize) -> Value {
    let float = |value: f64| Number::from_f64(value).map_or(Value::Null, Value::Number);
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) => (*value).into(),
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::ULong(value) => (*value).into(),
        Field::Float16(value) => float(f64::from(value.to_f32())),
        Field::Float(value) => float(f64::from(*value)),
        Field::Double(value) => float(*value),
        Field::Str(text) => {
            *bytes += text.len();
            text.as_str().into()
        }
        Field::Group(row) => {
            let (fields, more) = object(row);
            *bytes += more;
            fields.into()
        }
        Field::ListInternal(list) => list
            .elements()
            .iter()
            .map(|field| value(field, bytes))
            .collect(),
        // Dates, decimals, maps and bytes are nothing that a prompt is made of; their text is kept.
        other => other.to_string().into(),
    }
}
