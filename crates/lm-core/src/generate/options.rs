//! What is asked of a generation.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::CancelToken;
use crate::model::MAX_ROWS;
use crate::sampling::Sampling;
use crate::tokenizer::StopStrings;
use crate::{Error, Result};

/// How to generate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerateOptions {
    /// Most tokens of a reply; 128 unless set.
    pub max_new_tokens: usize,
    /// How a token is chosen; greedy unless set.
    pub sampling: Sampling,
    /// Replies to each prompt; 1 unless set. Greedy ones are all alike.
    pub samples: usize,
    /// Seed of the run.
    pub seed: u64,
    /// Texts that end a reply; the reply stops before them.
    pub stop: Vec<String>,
    /// Whether the model's own stop tokens are passed over.
    pub ignore_stop_tokens: bool,
    /// Most rows that run together; 16 unless set.
    pub batch: usize,
    /// Whether a reply may depend, by rounding, on what runs beside it; [`Determinism::Fast`] unless set.
    #[serde(skip_serializing_if = "Determinism::is_fast")]
    pub determinism: Determinism,
    /// How many of the first step's largest logits to keep; none unless set.
    pub first_logits: usize,
    /// Most tokens of the whole call: those of each prompt as often as it is read, and those generated. Never exceeded.
    /// No limit unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_budget: Option<usize>,
    /// Time for the whole call, in JSON a number of seconds. Looked at before each pass of the model, so that the call takes
    /// at most one pass longer. No limit unless set.
    #[serde(with = "seconds", skip_serializing_if = "Option::is_none")]
    pub time_budget: Option<Duration>,
    /// Stops the call when cancelled, before the next pass of the model. Not part of the options' JSON: it belongs to a
    /// process, and says nothing about what is generated.
    #[serde(skip)]
    pub cancel: Option<CancelToken>,
}

/// What a reply may depend on. Equal calls give equal replies in either mode; this is about calls that differ in
/// [`GenerateOptions::batch`], in the order of their requests, or in which requests there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Determinism {
    /// Rows run together, [`GenerateOptions::batch`] at most. An engine's arithmetic may round differently for another
    /// number of rows, or for rows of other lengths beside one: logits of `f32` differ in their last digits, and where two
    /// tokens are that close, so does the reply from there on.
    #[default]
    Fast,
    /// A reply depends on nothing but its own prompt, sample and options, to the bit: each row, each stream of a
    /// [`Strategy`](crate::Strategy) too, has a session of its own, and every prompt is read whole and for each sample anew.
    /// [`GenerateOptions::batch`] has no effect. The price is that of a batch of 1.
    Exact,
}

impl Determinism {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    fn is_fast(&self) -> bool {
        *self == Self::Fast
    }

    /// Rows that may run together where `batch` are allowed.
    pub(super) fn together(self, batch: usize) -> usize {
        match self {
            Self::Fast => batch,
            Self::Exact => 1,
        }
    }
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_new_tokens: 128,
            sampling: Sampling::greedy(),
            samples: 1,
            seed: 0,
            stop: Vec::new(),
            ignore_stop_tokens: false,
            batch: 16,
            determinism: Determinism::Fast,
            first_logits: 0,
            token_budget: None,
            time_budget: None,
            cancel: None,
        }
    }
}

impl GenerateOptions {
    /// Refuses values that no generation could use.
    ///
    /// # Errors
    /// [`Error::Argument`], and an empty stop string.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [
            ("max-new-tokens", self.max_new_tokens),
            ("samples", self.samples),
            ("batch", self.batch),
        ] {
            if value == 0 {
                return Err(Error::argument(name, "at least 1", value));
            }
        }
        if self.batch > MAX_ROWS {
            let expected = format!("at most {MAX_ROWS}");
            return Err(Error::argument("batch", expected, self.batch));
        }
        // Each gets an entry in the result, whether it is begun or not.
        if self.samples > MAX_ROWS {
            let expected = format!("at most {MAX_ROWS}");
            return Err(Error::argument("samples", expected, self.samples));
        }
        StopStrings::new(self.stop.iter().map(String::as_str))?;
        self.sampling.check()
    }
}

/// A [`Duration`] as a number of seconds.
mod seconds {
    use std::time::Duration;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        duration
            .as_ref()
            .map(Duration::as_secs_f64)
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let read = |seconds: f64| {
            Duration::try_from_secs_f64(seconds)
                .map_err(|_| D::Error::custom(format!("expected seconds from 0, found {seconds}")))
        };
        Option::<f64>::deserialize(deserializer)?
            .map(read)
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_before_are_read_and_written_as_before() {
        let before = r#"{"max_new_tokens":5,"sampling":{"temperature":0.0,"top_k":null,"top_p":null,"min_p":null,"repetition_penalty":1.0},"samples":1,"seed":0,"stop":[],"ignore_stop_tokens":false,"batch":16,"first_logits":0}"#;
        let options: GenerateOptions = serde_json::from_str(before).unwrap();
        let expected = GenerateOptions {
            max_new_tokens: 5,
            ..GenerateOptions::default()
        };
        assert_eq!(options, expected);
        assert_eq!(serde_json::to_string(&options).unwrap(), before);
    }

    #[test]
    fn budgets_survive_json_and_the_token_stays_behind() {
        let options = GenerateOptions {
            token_budget: Some(7),
            time_budget: Some(Duration::from_millis(1500)),
            ..GenerateOptions::default()
        };
        let cancellable = GenerateOptions {
            cancel: Some(CancelToken::new()),
            ..options.clone()
        };
        assert_ne!(options, cancellable);
        let json = serde_json::to_value(&cancellable).unwrap();
        assert_eq!(json["token_budget"], 7);
        assert_eq!(json["time_budget"], 1.5);
        assert!(json.get("cancel").is_none());
        let read: GenerateOptions = serde_json::from_value(json).unwrap();
        assert_eq!(read, options);
        let error = serde_json::from_str::<GenerateOptions>(r#"{"time_budget": -1}"#).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("expected seconds from 0, found -1"),
            "{error}"
        );
    }
}
