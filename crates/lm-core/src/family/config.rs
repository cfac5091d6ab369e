//! Reading numbers out of `config.json` and of GGUF metadata with errors that name file and key.

use std::cell::RefCell;
use std::path::Path;

use serde_json::{Map, Value};

use crate::spec::{RotaryScaling, RotarySpec, RotaryStyle};
use crate::weights::gguf::{GgmlType, Gguf, GgufError, Metadata};
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

    /// A list of strings.
    pub(crate) fn strings_or_none(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        self.list(key, "a list of strings", Value::as_str)
    }

    /// A list of numbers.
    pub(crate) fn f64s(&self, key: &str) -> Result<Vec<f64>> {
        self.list(key, "a list of numbers", Value::as_f64)?
            .ok_or_else(|| self.refuse(key, "a list of numbers", None))
    }

    fn list<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        self.get(key)
            .map(|value| {
                let list = value
                    .as_array()
                    .and_then(|list| list.iter().map(&read).collect());
                list.ok_or_else(|| self.refuse(key, expected, Some(value)))
            })
            .transpose()
    }

    /// Whether `key` is written at all, `null` included.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The rotary embedding in the object `key` of this one, a part of `whole`; plain if it is not there.
    pub(crate) fn rotary_of(
        &self,
        whole: &JsonConfig<'_>,
        key: &str,
        head_dim: usize,
        default_theta: f64,
    ) -> Result<RotarySpec> {
        match self.object(key)? {
            Some(own) => own.rotary_parameters(whole, head_dim, default_theta, 1.0),
            None => Ok(RotarySpec::plain(
                default_theta,
                head_dim,
                RotaryStyle::Half,
            )),
        }
    }

    /// The value as it stands.
    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.get(key)
    }

    /// An object inside this one; its keys are named with this one's name before them.
    pub(crate) fn object(&self, key: &str) -> Result<Option<JsonConfig<'a>>> {
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

    fn theta_and_partial(&self, default_theta: f64, default_partial: f64) -> Result<(f64, f64)> {
        let partial = self.f64_or_none("partial_rotary_factor")?;
        Ok((
            self.f64_or_none("rope_theta")?.unwrap_or(default_theta),
            partial.unwrap_or(default_partial),
        ))
    }

    /// The rotary embedding: `rope_parameters` of transformers 5, or `rope_theta` beside `rope_scaling` (before), with what
    /// they leave out by default. Of each head the leading part is rotated.
    pub(crate) fn rotary(
        &self,
        head_dim: usize,
        default_theta: f64,
        default_partial: f64,
    ) -> Result<RotarySpec> {
        let (theta, partial) = self.theta_and_partial(default_theta, default_partial)?;
        let read = |key: &str| {
            self.object(key)?
                .map(|nested| nested.rotary_parameters(self, head_dim, theta, partial))
                .transpose()
        };
        match (read("rope_parameters")?, read("rope_scaling")?) {
            (Some(new), Some(old)) if new != old => Err(self.wrong(
                "rope_scaling",
                "the same as in `rope_parameters`",
                format!(
                    "{:?} against {:?}",
                    (old.theta, old.scaling),
                    (new.theta, new.scaling)
                ),
            )),
            (Some(found), _) | (None, Some(found)) => Ok(found),
            (None, None) => {
                let dim = self.rotated(head_dim, partial)?;
                Ok(RotarySpec::plain(theta, dim, RotaryStyle::Half))
            }
        }
    }

    /// Components of a head that are rotated.
    fn rotated(&self, head_dim: usize, partial: f64) -> Result<usize> {
        if !(partial > 0.0 && partial <= 1.0) {
            let expected = "a part of one, above 0";
            return Err(self.wrong(
                &self.full("partial_rotary_factor"),
                expected,
                partial.to_string(),
            ));
        }
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a head's width, rounded down as transformers does"
        )]
        Ok((head_dim as f64 * partial) as usize)
    }

    /// The rotary embedding of this object; `whole` is the configuration it stands in.
    fn rotary_parameters(
        &self,
        whole: &JsonConfig<'_>,
        head_dim: usize,
        default_theta: f64,
        default_partial: f64,
    ) -> Result<RotarySpec> {
        let (theta, partial) = self.theta_and_partial(default_theta, default_partial)?;
        let kind = match self.str_or_none("rope_type")? {
            Some(kind) => kind,
            None => self.str_or_none("type")?.unwrap_or("default"),
        };
        let context = whole
            .usize_or_none("max_position_embeddings")?
            .unwrap_or(2048);
        // A value beside the object wins, as in transformers: Phi-3 keeps it there.
        let original = match whole.usize_or_none("original_max_position_embeddings")? {
            Some(original) => original,
            None => self
                .usize_or_none("original_max_position_embeddings")?
                .unwrap_or(context),
        };
        let original_context = to_f64(original);
        let stretch = || match self.f64_or_none("factor")? {
            Some(_) => self.positive("factor"),
            None => Ok(to_f64(context) / original_context.max(1.0)),
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
            "dynamic" => RotaryScaling::Dynamic {
                factor: self.positive("factor")?,
                original_context: context,
            },
            "yarn" => {
                let factor = stretch()?;
                RotaryScaling::Yarn {
                    factor,
                    attention_factor: self.yarn_attention_factor(factor)?,
                    beta_fast: self.positive_or("beta_fast", 32.0)?,
                    beta_slow: self.positive_or("beta_slow", 1.0)?,
                    original_context,
                    truncate: self.bool_or("truncate", true)?,
                }
            }
            // `su` is Phi-3's first name for it.
            "longrope" | "su" => {
                let factor = stretch()?;
                let inferred = if factor <= 1.0 {
                    1.0
                } else {
                    (1.0 + factor.ln() / original_context.ln()).sqrt()
                };
                RotaryScaling::LongRope {
                    short_factors: self.f64s("short_factor")?,
                    long_factors: self.f64s("long_factor")?,
                    attention_factor: self.positive_or("attention_factor", inferred)?,
                    original_context: original,
                }
            }
            other => {
                return Err(self.wrong(
                    &self.full("rope_type"),
                    "`default`, `linear`, `llama3`, `dynamic`, `yarn` or `longrope`",
                    format!("`{other}`"),
                ));
            }
        };
        Ok(RotarySpec {
            theta,
            dim: self.rotated(head_dim, partial)?,
            style: RotaryStyle::Half,
            scaling,
        })
    }

    /// YaRN's factor on cosines and sines: given, or by the ratio of two scales, or by one.
    fn yarn_attention_factor(&self, factor: f64) -> Result<f64> {
        let scale = |mscale: f64| {
            if factor <= 1.0 {
                1.0
            } else {
                0.1 * mscale * factor.ln() + 1.0
            }
        };
        let given = |key: &str| -> Result<Option<f64>> {
            Ok(self.f64_or_none(key)?.filter(|value| *value != 0.0))
        };
        let inferred = match (given("mscale")?, given("mscale_all_dim")?) {
            (Some(mscale), Some(all)) => scale(mscale) / scale(all),
            _ => scale(1.0),
        };
        self.positive_or("attention_factor", inferred)
    }

    fn positive_or(&self, key: &str, default: f64) -> Result<f64> {
        match self.get(key) {
            Some(_) => self.positive(key),
            None => Ok(default),
        }
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

    pub(crate) fn positive(&self, key: &str) -> Result<f64> {
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
    bytes: &'a [u8],
    architecture: &'a str,
    /// Tensors that were read as part of the configuration.
    read: RefCell<Vec<String>>,
}

impl ConfigSource for MetadataConfig<'_> {
    fn path(&self) -> &Path {
        self.path
    }
}

impl<'a> MetadataConfig<'a> {
    pub(crate) fn new(
        path: &'a Path,
        gguf: &'a Gguf,
        bytes: &'a [u8],
        architecture: &'a str,
    ) -> Self {
        Self {
            path,
            gguf,
            bytes,
            architecture,
            read: RefCell::default(),
        }
    }

    /// The tensors that [`MetadataConfig::floats`] has read.
    pub(crate) fn into_read(self) -> Vec<String> {
        self.read.into_inner()
    }

    /// The values of a small `F32` tensor that belongs to the configuration, such as rotary factors; `None` if it is
    /// absent.
    pub(crate) fn floats(&self, name: &str) -> Result<Option<Vec<f64>>> {
        let Some(tensor) = self.gguf.tensor(name) else {
            return Ok(None);
        };
        let bytes = self.bytes.get(tensor.range.clone()).unwrap_or_default();
        if tensor.ty != GgmlType::F32 {
            return Err(self.wrong(name, "a tensor of type F32", format!("{:?}", tensor.ty)));
        }
        self.read.borrow_mut().push(name.to_owned());
        let (values, _) = bytes.as_chunks::<4>();
        Ok(Some(
            values
                .iter()
                .map(|value| f64::from(f32::from_le_bytes(*value)))
                .collect(),
        ))
    }

    /// The rotary embedding by the keys and tensors that all architectures share.
    pub(crate) fn rotary(&self, head_dim: usize) -> Result<RotarySpec> {
        let factors = self.floats("rope_freqs.weight")?;
        let (short, long) = (
            self.floats("rope_factors_short.weight")?,
            self.floats("rope_factors_long.weight")?,
        );
        let original = self.usize_or_none("rope.scaling.original_context_length")?;
        let kind = match self.str_or_none("rope.scaling.type")? {
            // A factor alone is linear scaling to llama.cpp.
            None if self
                .f64_or_none("rope.scaling.factor")?
                .is_some_and(|factor| factor != 0.0) =>
            {
                Some("linear")
            }
            kind => kind,
        };
        let scaling = match (kind, factors, short, long) {
            (_, None, Some(short_factors), Some(long_factors)) => RotaryScaling::LongRope {
                short_factors,
                long_factors,
                attention_factor: self.f64_or_none("rope.scaling.attn_factor")?.unwrap_or(1.0),
                original_context: match original {
                    Some(original) => original,
                    None => self.usize("context_length")?,
                },
            },
            (None | Some("none"), Some(factors), None, None) => RotaryScaling::Factors { factors },
            (None | Some("none"), None, None, None) => RotaryScaling::None,
            (Some("linear"), None, None, None) => RotaryScaling::Linear {
                factor: self.positive("rope.scaling.factor")?,
            },
            (other, ..) => {
                let found = other.map_or_else(
                    || "an odd set of factor tensors".to_owned(),
                    |other| format!("`{other}`"),
                );
                return Err(self.wrong(
                    &self.full("rope.scaling.type"),
                    "`none` or `linear`",
                    found,
                ));
            }
        };
        Ok(RotarySpec {
            theta: self.f64_or_none("rope.freq_base")?.unwrap_or(10_000.0),
            dim: self
                .usize_or_none("rope.dimension_count")?
                .unwrap_or(head_dim),
            style: RotaryStyle::Half,
            scaling,
        })
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

    pub(crate) fn full(&self, key: &str) -> String {
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

#[allow(
    clippy::cast_precision_loss,
    reason = "context lengths are bounded far below 2^52 or refused later"
)]
fn to_f64(value: usize) -> f64 {
    value as f64
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
