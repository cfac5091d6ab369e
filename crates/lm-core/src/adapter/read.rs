//! Values of `adapter_config.json`, and what of it is refused.

use std::path::Path;

use serde_json::{Map, Value};

use super::targets::Targets;
use crate::{Error, Result, family};

/// Keys that ask for numbers which the two matrices alone do not give.
const REFUSED: &[(&str, &str)] = &[
    ("use_dora", "false: DoRA is not read"),
    ("lora_bias", "false: biases of B are not read"),
    (
        "modules_to_save",
        "null: weights of the base model are not replaced",
    ),
    (
        "trainable_token_indices",
        "null: weights of the base model are not replaced",
    ),
    (
        "target_parameters",
        "null: only matrices of linear layers are adapted",
    ),
    ("layer_replication", "null: blocks are not repeated"),
    (
        "alora_invocation_tokens",
        "null: activated LoRA is not read",
    ),
    ("arrow_config", "null: Arrow routing is not read"),
    ("kasa_config", "null: KaSA is not read"),
    ("monteclora_config", "null: MonteCLoRA is not read"),
    ("use_bdlora", "null: block-diagonal LoRA is not read"),
    ("velora_config", "null: VeLoRA is not read"),
    ("megatron_config", "null: Megatron's layers are not read"),
    ("use_qalora", "false: QA-LoRA is not read"),
];

/// Keys that change no number here, or that are read.
const KNOWN: &[&str] = &[
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
];

/// Ways to begin that leave the base model as it was.
const HARMLESS_STARTS: &[&str] = &["gaussian", "orthogonal", "eva", "mica"];

/// The values of a file, and errors that name it.
pub(super) struct Reader<'a> {
    path: &'a Path,
    values: &'a Map<String, Value>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: &'a Path, value: &'a Value) -> Result<Self> {
        match value {
            Value::Object(values) => Ok(Self { path, values }),
            other => Err(Error::Checkpoint {
                path: path.to_owned(),
                problem: format!("expected a JSON object, found {}", family::short(other)),
            }),
        }
    }

    pub(super) fn wrong(&self, key: &str, expected: &str, found: impl Into<String>) -> Error {
        Error::Config {
            path: self.path.to_owned(),
            key: key.escape_debug().to_string(),
            expected: expected.to_owned(),
            found: found.into(),
        }
    }

    /// An error about an argument as one about the file.
    pub(super) fn of_file(&self, error: Error) -> Error {
        match error {
            Error::Argument {
                name,
                expected,
                found,
            } => self.wrong(&name, &expected, found),
            other => other,
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.values.get(key)
    }

    /// A value that is not off: absent, null, false and empty all are.
    pub(super) fn on(&self, key: &str) -> Option<&'a Value> {
        self.get(key).filter(|value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            Value::Bool(true) | Value::Number(_) => true,
        })
    }

    pub(super) fn refuse_other_methods(&self) -> Result<()> {
        let method = self.get("peft_type").unwrap_or(&Value::Null);
        if method.as_str() != Some("LORA") {
            return Err(self.wrong("peft_type", "\"LORA\"", family::short(method)));
        }
        for (key, expected) in REFUSED {
            if let Some(value) = self.on(key) {
                return Err(self.wrong(key, expected, family::short(value)));
            }
        }
        if let Some(bias) = self.on("bias").filter(|bias| bias.as_str() != Some("none")) {
            let expected = "\"none\": biases of the base model are not replaced";
            return Err(self.wrong("bias", expected, family::short(bias)));
        }
        match self.on("init_lora_weights") {
            None | Some(Value::Bool(true)) => {}
            Some(start)
                if start
                    .as_str()
                    .is_some_and(|name| HARMLESS_STARTS.contains(&name)) => {}
            Some(start) => {
                let expected = "a start that leaves the base model as it was";
                return Err(self.wrong("init_lora_weights", expected, family::short(start)));
            }
        }
        // A switch that did not exist when this was written may well change numbers.
        for key in self.values.keys() {
            let switch = matches!(self.on(key), Some(Value::Bool(true) | Value::Object(_)));
            if switch && !KNOWN.contains(&key.as_str()) {
                let found = self.get(key).map(family::short).unwrap_or_default();
                return Err(self.wrong(key, "off: this setting is not known", found));
            }
        }
        Ok(())
    }

    pub(super) fn number(&self, key: &str, value: &Value) -> Result<usize> {
        let number = value.as_u64().and_then(|value| usize::try_from(value).ok());
        number.ok_or_else(|| self.wrong(key, "a whole number", family::short(value)))
    }

    pub(super) fn float(&self, key: &str, value: Option<&Value>, default: f64) -> Result<f64> {
        match value {
            None => Ok(default),
            Some(value) => value
                .as_f64()
                .ok_or_else(|| self.wrong(key, "a number", family::short(value))),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(key, "true or false", family::short(other))),
        }
    }

    pub(super) fn targets(&self, key: &str) -> Result<Option<Targets>> {
        match self.on(key) {
            None => Ok(None),
            Some(Value::String(pattern)) => Ok(Some(Targets::Pattern(pattern.clone()))),
            Some(Value::Array(list)) => {
                let names = list.iter().map(|name| {
                    let text = name.as_str().map(str::to_owned);
                    text.ok_or_else(|| self.wrong(key, "names", family::short(name)))
                });
                Ok(Some(Targets::Names(names.collect::<Result<_>>()?)))
            }
            Some(other) => {
                Err(self.wrong(key, "names or a regular expression", family::short(other)))
            }
        }
    }

    pub(super) fn patterns<T>(
        &self,
        key: &str,
        read: impl Fn(&str, &Value) -> Result<T>,
    ) -> Result<Vec<(String, T)>> {
        match self.on(key) {
            None => Ok(Vec::new()),
            Some(Value::Object(map)) => map
                .iter()
                .map(|(name, value)| Ok((name.clone(), read(key, value)?)))
                .collect(),
            Some(other) => Err(self.wrong(key, "an object", family::short(other))),
        }
    }
}
