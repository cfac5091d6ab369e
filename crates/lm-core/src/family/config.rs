//! Reading numbers out of `config.json` and of GGUF metadata with errors that name file and key.

use std::path::Path;

use serde_json::{Map, Value};

use crate::spec::RotaryScaling;
use crate::weights::gguf::{Gguf, GgufError, Metadata};
use crate::{Error, Result};

/// Where a configuration error is reported from.
pub(crate) trait ConfigSource {
    /// The file.
    fn path(&self) -> &Path;

    /// `key` holds something else than was expected.
    fn wrong(&self, key: &str, expected: &str, found: String) -> Error {
        Error::Config {
            path: self.path().to_owned(),
            key: key.to_owned(),
            expected: expected.to_owned(),
            found,
        }
    }
}

/// A `config.json`, in either of its dialects.
#[derive(Debug)]
pub(crate) struct JsonConfig<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
    prefix: String,
}

impl ConfigSource for JsonConfig<'_> {
    fn path(&self) -> &Path {
        self.path
    }
}

impl<'a> JsonConfig<'a> {
    pub(crate) fn new(path: &'a Path, value: &'a Value) -> Result<Self> {
        match value {
            Value::Object(map) => Ok(Self {
                path,
                map,
                prefix: String::new(),
            }),
            other => Err(Error::Config {
                path: path.to_owned(),
                key: String::from("(whole file)"),
                expected: "an object".to_owned(),
                found: kind(other).to_owned(),
            }),
        }
    }

    /// The value of `key`; JSON's `null` counts as absent, as it does for the files' own reader.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn refuse(&self, key: &str, expected: &str, found: Option<&Value>) -> Error {
        let found = found.map_or_else(|| "nothing".to_owned(), short);
        self.wrong(&self.full(key), expected, found)
    }

    pub(crate) fn usize(&self, key: &str) -> Result<usize> {
        self.usize_or_none(key)?
            .ok_or_else(|| self.refuse(key, "a whole number", None))
    }

    pub(crate) fn usize_or_none(&self, key: &str) -> Result<Option<usize>> {
        self.get(key)
            .map(|value| {
                let number = value
                    .as_u64()
                    .and_then(|number| usize::try_from(number).ok());
                number.ok_or_else(|| self.refuse(key, "a whole number", Some(value)))
            })
            .transpose()
    }

    pub(crate) fn f64(&self, key: &str) -> Result<f64> {
        self.f64_or_none(key)?
            .ok_or_else(|| self.refuse(key, "a number", None))
    }

    pub(crate) fn f64_or_none(&self, key: &str) -> Result<Option<f64>> {
        self.get(key)
            .map(|value| {
                value
                    .as_f64()
                    .ok_or_else(|| self.refuse(key, "a number", Some(value)))
            })
            .transpose()
    }

    pub(crate) fn bool_or(&self, key: &str, default: bool) -> Result<bool> {
        self.get(key).map_or(Ok(default), |value| {
            value
                .as_bool()
                .ok_or_else(|| self.refuse(key, "true or false", Some(value)))
        })
    }

    pub(crate) fn str_or_none(&self, key: &str) -> Result<Option<&'a str>> {
        self.get(key)
            .map(|value| {
                value
                    .as_str()
                    .ok_or_else(|| self.refuse(key, "a string", Some(value)))
            })
            .transpose()
    }

    fn object(&self, key: &str) -> Result<Option<JsonConfig<'a>>> {
        self.get(key)
            .map(|value| match value {
                Value::Object(map) => Ok(JsonConfig {
                    path: self.path,
                    map,
                    prefix: format!("{}.", self.full(key)),
                }),
                other => Err(self.refuse(key, "an object", Some(other))),
            })
            .transpose()
    }

    /// Base and scaling of the rotary embedding: `rope_parameters` (transformers 5), or `rope_theta` beside
    /// `rope_scaling` (before), `default_theta` when neither names a base.
    pub(crate) fn rotary(&self, default_theta: f64) -> Result<(f64, RotaryScaling)> {
        let own = self.f64_or_none("rope_theta")?;
        let plain = own.unwrap_or(default_theta);
        let read = |key: &str| {
            self.object(key)?
                .map(|nested| nested.rotary_parameters(plain))
                .transpose()
        };
        match (read("rope_parameters")?, read("rope_scaling")?) {
            (Some(new), Some(old)) if new != old => Err(self.wrong(
                "rope_scaling",
                "the same as in `rope_parameters`",
                format!("{old:?} against {new:?}"),
            )),
            (Some(found), _) | (None, Some(found)) => Ok(found),
            (None, None) => Ok((plain, RotaryScaling::None)),
        }
    }

    /// The rotary embedding of this object, `default_theta` if it names no base.
    fn rotary_parameters(&self, default_theta: f64) -> Result<(f64, RotaryScaling)> {
        let theta = self.f64_or_none("rope_theta")?.unwrap_or(default_theta);
        let kind = match self.str_or_none("rope_type")? {
            Some(kind) => kind,
            None => self.str_or_none("type")?.unwrap_or("default"),
        };
        let scaling = match kind {
            "default" => RotaryScaling::None,
            "linear" => RotaryScaling::Linear {
                factor: self.positive("factor")?,
            },
            "llama3" => RotaryScaling::Llama3 {
                factor: self.positive("factor")?,
                low_freq_factor: self.positive("low_freq_factor")?,
                high_freq_factor: self.high_freq_factor()?,
                original_context: self.positive("original_max_position_embeddings")?,
            },
            other => {
                return Err(self.wrong(
                    &self.full("rope_type"),
                    "`default`, `linear` or `llama3`",
                    format!("`{other}`"),
                ));
            }
        };
        Ok((theta, scaling))
    }

    /// Llama 3's ramp between the two factors divides by their difference.
    fn high_freq_factor(&self) -> Result<f64> {
        let (low, high) = (
            self.positive("low_freq_factor")?,
            self.positive("high_freq_factor")?,
        );
        if high > low {
            return Ok(high);
        }
        let expected = format!("above `low_freq_factor`, which is {low}");
        Err(self.wrong(&self.full("high_freq_factor"), &expected, high.to_string()))
    }

    fn positive(&self, key: &str) -> Result<f64> {
        let value = self.f64(key)?;
        if value.is_finite() && value > 0.0 {
            Ok(value)
        } else {
            Err(self.wrong(&self.full(key), "a positive number", value.to_string()))
        }
    }
}

/// GGUF metadata under the prefix of its architecture.
#[derive(Debug)]
pub(crate) struct MetadataConfig<'a> {
    path: &'a Path,
    gguf: &'a Gguf,
    architecture: &'a str,
}

impl ConfigSource for MetadataConfig<'_> {
    fn path(&self) -> &Path {
        self.path
    }
}

impl<'a> MetadataConfig<'a> {
    pub(crate) fn new(path: &'a Path, gguf: &'a Gguf, architecture: &'a str) -> Self {
        Self {
            path,
            gguf,
            architecture,
        }
    }

    pub(crate) fn has_tensor(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    /// Rows of a tensor, 0 if it is absent.
    pub(crate) fn rows(&self, name: &str) -> usize {
        self.gguf
            .tensor(name)
            .and_then(|tensor| tensor.shape.first().copied())
            .unwrap_or(0)
    }

    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn named<T>(&self, result: Result<T, GgufError>) -> Result<T> {
        result.map_err(|source| Error::Gguf {
            path: self.path.to_owned(),
            source,
        })
    }

    pub(crate) fn usize(&self, key: &str) -> Result<usize> {
        let value = self.usize_or_none(key)?;
        value.ok_or_else(|| self.wrong(&self.full(key), "a whole number", "nothing".to_owned()))
    }

    pub(crate) fn usize_or_none(&self, key: &str) -> Result<Option<usize>> {
        let value = self.named(
            self.gguf
                .metadata()
                .optional(&self.full(key), Metadata::u64),
        )?;
        value
            .map(|value| {
                usize::try_from(value).map_err(|_| {
                    self.wrong(
                        &self.full(key),
                        "a size that fits memory",
                        value.to_string(),
                    )
                })
            })
            .transpose()
    }

    pub(crate) fn f64(&self, key: &str) -> Result<f64> {
        let value = self.f64_or_none(key)?;
        value.ok_or_else(|| self.wrong(&self.full(key), "a number", "nothing".to_owned()))
    }

    /// A finite number above 0.
    pub(crate) fn positive(&self, key: &str) -> Result<f64> {
        let value = self.f64(key)?;
        if value.is_finite() && value > 0.0 {
            Ok(value)
        } else {
            Err(self.wrong(&self.full(key), "a positive number", value.to_string()))
        }
    }

    pub(crate) fn f64_or_none(&self, key: &str) -> Result<Option<f64>> {
        self.named(
            self.gguf
                .metadata()
                .optional(&self.full(key), Metadata::f32)
                .map(|value| value.map(f64::from)),
        )
    }

    pub(crate) fn str_or_none(&self, key: &str) -> Result<Option<&'a str>> {
        self.named(
            self.gguf
                .metadata()
                .optional(&self.full(key), Metadata::str),
        )
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A value as it stands in the file, cut where it is long.
pub(crate) fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
