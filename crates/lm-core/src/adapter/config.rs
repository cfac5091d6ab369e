//! `adapter_config.json`: read, checked, written.

use std::path::Path;

use serde_json::{Value, json};

use super::read::Reader;
use super::targets::{Patterns, Targets};
use crate::{Error, Result};

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
