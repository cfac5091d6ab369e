//! Files, by format. Each reader hands rows to a collector and knows nothing of their meaning.

mod csv;
mod json;
#[cfg(feature = "parquet")]
mod parquet;
mod pyrit;
mod source;
mod yaml;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

pub(super) use self::json::parse as parse_json;
pub(super) use self::source::Stop;
use self::source::{Lines, Source};
use super::collect::Collector;
use super::error::{DataError, Position, Problem};
use super::options::{Format, ReadOptions};
use super::set::DataSet;

/// A YAML file is held as a whole, up to this many rows' worth of bytes.
const YAML_ROWS: usize = 4;

pub(super) fn file(path: &Path, options: &ReadOptions) -> Result<DataSet, DataError> {
    options.check()?;
    let io = |source| DataError::Io {
        path: path.to_owned(),
        source,
    };
    let opened = File::open(path).map_err(io)?;
    let metadata = opened.metadata().map_err(io)?;
    let mut into = Collector::new(path, options);
    if metadata.is_dir() {
        return Err(into.file("a folder; a data set is a file".to_owned()));
    }
    if metadata.len() > options.max_file_bytes {
        return Err(into.stop(Stop::TooLarge(options.max_file_bytes)));
    }
    let mut source = Source::new(opened, options.max_file_bytes);
    let start = source.peek().map_err(|stop| into.stop(stop))?;
    if start.is_empty() {
        return Err(into.file("the file is empty".to_owned()));
    }
    let format = match options.format {
        Some(format) => format,
        None => told(path, start).map_err(|problem| into.file(problem))?,
    };
    if format != Format::Parquet
        && let Some(what) = foreign(start)
    {
        return Err(into.file(format!("expected {} in UTF-8, found {what}", format.name())));
    }
    let (bytes, sha256) = match format {
        Format::Json => {
            json::array(&mut source, &mut into)?;
            source.finish()
        }
        Format::Yaml => {
            pyrit::read(
                &mut source,
                options.max_line_bytes.saturating_mul(YAML_ROWS),
                &mut into,
            )?;
            source.finish()
        }
        Format::Jsonl | Format::Csv | Format::Tsv | Format::Lines => {
            let mut lines =
                Lines::new(source, options.max_line_bytes).map_err(|stop| into.stop(stop))?;
            match format {
                Format::Jsonl => json::lines(&mut lines, &mut into)?,
                Format::Lines => plain(&mut lines, &mut into)?,
                _ => csv::read(&mut lines, format, &mut into)?,
            }
            lines.finish()
        }
        Format::Parquet => parquet(path, source, &mut into)?,
    };
    into.finish(format, bytes, sha256)
}

#[cfg(feature = "parquet")]
fn parquet(
    path: &Path,
    mut source: Source<File>,
    into: &mut Collector<'_>,
) -> Result<(u64, String), DataError> {
    parquet::read(path, into)?;
    // Parquet is read from its end; the hash is taken from its start.
    loop {
        let shown = source.peek().map_err(|stop| into.stop(stop))?.len();
        if shown == 0 {
            return Ok(source.finish());
        }
        source.take(shown).map_err(|stop| into.stop(stop))?;
    }
}

#[cfg(not(feature = "parquet"))]
fn parquet(
    _: &Path,
    _: Source<File>,
    into: &mut Collector<'_>,
) -> Result<(u64, String), DataError> {
    Err(into.file("Parquet needs lm-assess's feature `parquet`, which is off".to_owned()))
}

/// A prompt on each line, as it stands. Lines of nothing but space are passed over.
fn plain<R: Read>(lines: &mut Lines<R>, into: &mut Collector<'_>) -> Result<(), DataError> {
    const PROMPT: &str = "prompt";
    into.columns(&[PROMPT.to_owned()])?;
    let mut buffer = Vec::new();
    while let Some(line) = lines.next(&mut buffer).map_err(|stop| into.stop(stop))? {
        let position = Position::Line(line.number);
        if line.too_long {
            let limit = into.max_line_bytes();
            into.bad(position, Problem::TooLong { limit })?;
        } else {
            match std::str::from_utf8(&buffer) {
                Ok(text) if text.trim().is_empty() => {}
                Ok(text) => {
                    let fields = [(PROMPT.to_owned(), Value::from(text))];
                    into.row(position, Map::from_iter(fields))?;
                }
                Err(error) => {
                    let offset = line.offset + error.valid_up_to() as u64;
                    into.bad(position, Problem::Utf8 { offset })?;
                }
            }
        }
        buffer.clear();
    }
    Ok(())
}

/// The format by name, and by content where names are used for several.
fn told(path: &Path, start: &[u8]) -> Result<Format, String> {
    let name = path.extension().unwrap_or_default().to_string_lossy();
    let content = by_content(start);
    let format = match name.to_ascii_lowercase().as_str() {
        "jsonl" | "ndjson" => Some(Format::Jsonl),
        "csv" => Some(Format::Csv),
        "tsv" => Some(Format::Tsv),
        "yaml" | "yml" => Some(Format::Yaml),
        "parquet" => Some(Format::Parquet),
        // One array, or, just as often, JSON Lines.
        "json" => content.or(Some(Format::Json)),
        // A prompt in PyRIT's own format, or somebody's text.
        "prompt" => content.or(Some(Format::Yaml)),
        "txt" => match content {
            None => Some(Format::Lines),
            Some(found) => {
                return Err(format!(
                    "named as plain lines, but begins like {}; `ReadOptions::format` says which it is",
                    found.name()
                ));
            }
        },
        _ => content,
    };
    format.ok_or_else(|| {
        "neither its name nor its first bytes tell the format; `ReadOptions::format` says it"
            .to_owned()
    })
}

fn by_content(start: &[u8]) -> Option<Format> {
    if start.starts_with(b"PAR1") {
        return Some(Format::Parquet);
    }
    let text = start
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(start)
        .trim_ascii_start();
    let inside = text.get(1..).unwrap_or_default().trim_ascii_start();
    match (text.first(), inside.first()) {
        (Some(b'{'), Some(b'"' | b'}')) => Some(Format::Jsonl),
        (Some(b'['), Some(b'{' | b']')) => Some(Format::Json),
        _ => None,
    }
}

/// What a file is that is no UTF-8 text, where its first bytes say so.
fn foreign(start: &[u8]) -> Option<&'static str> {
    let marks: [(&[u8], &str); 7] = [
        (b"\xff\xfe", "UTF-16; save it as UTF-8"),
        (b"\xfe\xff", "UTF-16; save it as UTF-8"),
        (b"\x1f\x8b", "a gzip archive; unpack it first"),
        (b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it first"),
        (
            b"PK\x03\x04",
            "a zip archive (or a spreadsheet); unpack or export it first",
        ),
        (b"PAR1", "Parquet"),
        (
            b"version https://git-lfs",
            "a Git LFS pointer; `git lfs pull` brings the file",
        ),
    ];
    marks
        .into_iter()
        .find_map(|(mark, what)| start.starts_with(mark).then_some(what))
}
