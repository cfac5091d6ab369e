//! `adapter_config.json`: read, checked, written.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::targets::{Patterns, Targets};
use crate::{Error, Result, family};

/// Settings of a LoRA adapter. Each field is the key of PEFT's `adapter_config.json` that is named.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdapterConfig {
    /// `r`: rank of the matrices that no pattern gives another.
    pub rank: usize,
    /// `lora_alpha`: numerator of the scaling.
    pub alpha: f64,
    /// `lora_dropout`: share of the inputs that training sets to zero.
    pub dropout: f64,
    /// `target_modules`.
    pub targets: Targets,
    /// `exclude_modules`: taken out of the targets.
    pub exclude: Option<Targets>,
    /// `layers_to_transform`: of the targets given by name, only those in these blocks.
    pub layers: Option<Vec<usize>>,
    /// `layers_pattern`: what stands before the number of the block in a name, one of several; empty for anything.
    pub layers_pattern: Vec<String>,
    /// `rank_pattern`: regular expressions for ends of names, and ranks; the first that matches counts.
    pub rank_pattern: Vec<(String, usize)>,
    /// `alpha_pattern`: the same for `lora_alpha`.
    pub alpha_pattern: Vec<(String, f64)>,
    /// `use_rslora`: the scaling is alpha / √rank, not alpha / rank.
    pub rank_stabilised: bool,
    /// `base_model_name_or_path`: of the model it was made for. Not checked.
    pub base_model: Option<String>,
}

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

/// Largest rank: above the width of any model.
pub(super) const MAX_RANK: usize = 1 << 17;

impl AdapterConfig {
    /// Rank `rank` and alpha `alpha` on `targets`, nothing else.
    #[must_use]
    pub fn new(rank: usize, alpha: f64, targets: Targets) -> Self {
        Self {
            rank,
            alpha,
            dropout: 0.0,
            targets,
            exclude: None,
            layers: None,
            layers_pattern: Vec::new(),
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            rank_stabilised: false,
            base_model: None,
        }
    }

    /// With dropout, a share from 0 to below 1, in training.
    #[must_use]
    pub fn with_dropout(mut self, share: f64) -> Self {
        self.dropout = share;
        self
    }

    /// Refuses numbers outside their ranges.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn check(&self) -> Result<()> {
        let ranks = self
            .rank_pattern
            .iter()
            .map(|(_, rank)| ("rank_pattern", rank));
        for (key, rank) in ranks.chain([("r", &self.rank)]) {
            if !(1..=MAX_RANK).contains(rank) {
                return Err(Error::argument(key, format!("1 to {MAX_RANK}"), rank));
            }
        }
        let alphas = self
            .alpha_pattern
            .iter()
            .map(|(_, alpha)| ("alpha_pattern", alpha));
        for (key, alpha) in alphas.chain([("lora_alpha", &self.alpha)]) {
            if !alpha.is_finite() {
                return Err(Error::argument(key, "a finite number", alpha));
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let expected = "from 0 to below 1";
            return Err(Error::argument("lora_dropout", expected, self.dropout));
        }
        Ok(())
    }

    /// Of these matrices, those the adapter is on: index, rank and scaling of each.
    pub(super) fn chosen(&self, modules: &[&str]) -> Result<Vec<(usize, usize, f64)>> {
        let wrong = |key: &'static str| {
            move |why: String| Error::argument(key, "regular expressions that can be matched", why)
        };
        let targets = self.targets.compiled().map_err(wrong("target_modules"))?;
        let exclude = self.exclude.as_ref().map(Targets::compiled).transpose();
        let exclude = exclude.map_err(wrong("exclude_modules"))?;
        let ranks = Patterns::new(&self.rank_pattern, "rank_pattern")?;
        let alphas = Patterns::new(&self.alpha_pattern, "alpha_pattern")?;
        let mut chosen = Vec::new();
        for (index, module) in modules.iter().enumerate() {
            let excluded = match &exclude {
                Some(exclude) => exclude.matches(module).map_err(wrong("exclude_modules"))?,
                None => false,
            };
            let wanted = targets.matches(module).map_err(wrong("target_modules"))?;
            if excluded || !wanted || !self.in_layers(module) {
                continue;
            }
            let rank = ranks.of(module).map_err(wrong("rank_pattern"))?;
            let alpha = alphas.of(module).map_err(wrong("alpha_pattern"))?;
            let rank = rank.unwrap_or(self.rank);
            let under = if self.rank_stabilised {
                (rank as f64).sqrt()
            } else {
                rank as f64
            };
            chosen.push((index, rank, alpha.unwrap_or(self.alpha) / under));
        }
        Ok(chosen)
    }

    /// PEFT asks for the block only of targets given by the ends of their names.
    fn in_layers(&self, module: &str) -> bool {
        let (Some(layers), Targets::Names(names)) = (&self.layers, &self.targets) else {
            return true;
        };
        if layers.is_empty() || names.iter().any(|name| name == module) {
            return true;
        }
        let parts: Vec<&str> = module.split('.').collect();
        let number = parts.windows(2).rev().find_map(|pair| match pair {
            [before, number] => {
                let fits = self.layers_pattern.is_empty()
                    || self.layers_pattern.iter().any(|name| name == before);
                number.parse::<usize>().ok().filter(|_| fits)
            }
            _ => None,
        });
        number.is_some_and(|number| layers.contains(&number))
    }

    /// Reads a file's values.
    pub(super) fn from_json(path: &Path, value: &Value) -> Result<Self> {
        let reader = Reader::new(path, value)?;
        reader.refuse_other_methods()?;
        let config = Self {
            rank: reader.number("r", &reader.get("r").cloned().unwrap_or(json!(8)))?,
            alpha: reader.float("lora_alpha", reader.get("lora_alpha"), 8.0)?,
            dropout: reader.float("lora_dropout", reader.get("lora_dropout"), 0.0)?,
            targets: reader.targets("target_modules")?.ok_or_else(|| {
                reader.wrong("target_modules", "names or a regular expression", "null")
            })?,
            exclude: reader.targets("exclude_modules")?,
            layers: match reader.on("layers_to_transform") {
                None => None,
                Some(Value::Array(list)) => Some(
                    list.iter()
                        .map(|layer| reader.number("layers_to_transform", layer))
                        .collect::<Result<_>>()?,
                ),
                Some(one) => Some(vec![reader.number("layers_to_transform", one)?]),
            },
            layers_pattern: match reader.targets("layers_pattern")? {
                None => Vec::new(),
                Some(Targets::Names(names)) => names,
                Some(Targets::Pattern(name)) => vec![name],
            },
            rank_pattern: reader
                .patterns("rank_pattern", |key, value| reader.number(key, value))?,
            alpha_pattern: reader.patterns("alpha_pattern", |key, value| {
                reader.float(key, Some(value), 0.0)
            })?,
            rank_stabilised: reader.flag("use_rslora")?,
            base_model: reader
                .get("base_model_name_or_path")
                .and_then(Value::as_str)
                .map(str::to_owned),
        };
        config.check().map_err(|error| reader.of_file(error))?;
        Ok(config)
    }

    /// The keys that every PEFT from 0.9 on knows, sorted as it sorts them.
    pub(super) fn to_json(&self, fan_in_fan_out: bool) -> Value {
        let pattern = |list: Vec<(&String, Value)>| {
            let map = list.into_iter().map(|(key, value)| (key.clone(), value));
            Value::Object(map.collect())
        };
        let number = |value: f64| {
            #[allow(
                clippy::cast_possible_truncation,
                reason = "checked to be whole and small"
            )]
            if value.fract() == 0.0 && value.abs() < 1e15 {
                json!(value as i64)
            } else {
                json!(value)
            }
        };
        let ranks = self.rank_pattern.iter();
        let alphas = self.alpha_pattern.iter();
        json!({
            "alpha_pattern": pattern(alphas.map(|(key, value)| (key, number(*value))).collect()),
            "base_model_name_or_path": self.base_model,
            "bias": "none",
            "exclude_modules": self.exclude,
            "fan_in_fan_out": fan_in_fan_out,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_pattern": (!self.layers_pattern.is_empty()).then_some(&self.layers_pattern),
            "layers_to_transform": self.layers,
            "lora_alpha": number(self.alpha),
            "lora_dropout": self.dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": self.rank,
            "rank_pattern": pattern(ranks.map(|(key, value)| (key, json!(value))).collect()),
            "revision": null,
            "target_modules": self.targets,
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": self.rank_stabilised,
        })
    }
}

/// The values of a file, and errors that name it.
struct Reader<'a> {
    path: &'a Path,
    values: &'a Map<String, Value>,
}

impl<'a> Reader<'a> {
    fn new(path: &'a Path, value: &'a Value) -> Result<Self> {
        match value {
            Value::Object(values) => Ok(Self { path, values }),
            other => Err(Error::Checkpoint {
                path: path.to_owned(),
                problem: format!("expected a JSON object, found {}", family::short(other)),
            }),
        }
    }

    fn wrong(&self, key: &str, expected: &str, found: impl Into<String>) -> Error {
        Error::Config {
            path: self.path.to_owned(),
            key: key.escape_debug().to_string(),
            expected: expected.to_owned(),
            found: found.into(),
        }
    }

    /// An error about an argument as one about the file.
    fn of_file(&self, error: Error) -> Error {
        match error {
            Error::Argument {
                name,
                expected,
                found,
            } => self.wrong(&name, &expected, found),
            other => other,
        }
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.values.get(key)
    }

    /// A value that is not off: absent, null, false and empty all are.
    fn on(&self, key: &str) -> Option<&'a Value> {
        self.get(key).filter(|value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            Value::Bool(true) | Value::Number(_) => true,
        })
    }

    fn refuse_other_methods(&self) -> Result<()> {
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

    fn number(&self, key: &str, value: &Value) -> Result<usize> {
        let number = value.as_u64().and_then(|value| usize::try_from(value).ok());
        number.ok_or_else(|| self.wrong(key, "a whole number", family::short(value)))
    }

    fn float(&self, key: &str, value: Option<&Value>, default: f64) -> Result<f64> {
        match value {
            None => Ok(default),
            Some(value) => value
                .as_f64()
                .ok_or_else(|| self.wrong(key, "a number", family::short(value))),
        }
    }

    fn flag(&self, key: &str) -> Result<bool> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(key, "true or false", family::short(other))),
        }
    }

    fn targets(&self, key: &str) -> Result<Option<Targets>> {
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

    fn patterns<T>(
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
