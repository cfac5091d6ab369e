//! What must be equal for two pieces of work to belong to one run.

use std::collections::{BTreeMap, BTreeSet};

use lm_core::{Determinism, Provenance};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::canonical::{canonical, hex, sha256};
use super::error::{Result, RunError};
use super::record::Machine;

/// Something that a run does its work on.
pub trait Item {
    /// Its name, unlike every other's of the run. Seeds, shards and results hang on it, so it should stay with the item when
    /// the list is sorted or grows.
    fn id(&self) -> &str;

    /// Everything that a result may depend on, as JSON; enters the hash of the data set.
    ///
    /// # Errors
    /// Where it has no JSON form.
    fn content(&self) -> serde_json::Result<Value>;
}

impl<S: Serialize> Item for (String, S) {
    fn id(&self) -> &str {
        &self.0
    }

    fn content(&self) -> serde_json::Result<Value> {
        serde_json::to_value(&self.1)
    }
}

impl<S: Serialize> Item for (&str, S) {
    fn id(&self) -> &str {
        self.0
    }

    fn content(&self) -> serde_json::Result<Value> {
        serde_json::to_value(&self.1)
    }
}

/// What kind of run this is: everything, beside the items, that its results may depend on. Two journals belong together only
/// if all of it is equal.
///
/// Model, adapters, tokenizer, template, dtype and libtorch come from a [`Provenance`]. Device and threads are a part where
/// [`Determinism::Exact`] is asked: it promises equal bits, and another device or number of threads rounds otherwise. With
/// [`Determinism::Fast`] results may differ by rounding anyway; then they are noted in the journal ([`Machine`]) and a run may
/// go on elsewhere. The file name of the model is only ever noted: its hash says more.
///
/// ```
/// use lm_assess::run::RunConfig;
/// use lm_core::{Provenance, Sampling};
///
/// let config = RunConfig::new("refusals", "1", 7)
///     .repeats(3)
///     .provenance(Provenance::new())
///     .options("sampling", &Sampling::temperature(0.7))?
///     .code("my-study", env!("CARGO_PKG_VERSION"));
/// # let _ = config;
/// # Ok::<(), lm_assess::run::RunError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct RunConfig {
    method: String,
    version: String,
    seed: u64,
    repeats: u32,
    determinism: Determinism,
    provenance: Provenance,
    options: Map<String, Value>,
    code: BTreeMap<String, String>,
}

impl RunConfig {
    /// A run of `method`, whose `version` changes whenever its numbers may.
    pub fn new(method: impl Into<String>, version: impl Into<String>, seed: u64) -> Self {
        let own = ("lm-assess".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        Self {
            method: method.into(),
            version: version.into(),
            seed,
            repeats: 1,
            determinism: Determinism::default(),
            provenance: Provenance::new(),
            options: Map::new(),
            code: BTreeMap::from([own]),
        }
    }

    /// How often each item is done, 1 unless set.
    pub fn repeats(mut self, repeats: u32) -> Self {
        self.repeats = repeats;
        self
    }

    /// How far results may depend on what runs beside them, [`Determinism::Fast`] unless set.
    pub fn determinism(mut self, determinism: Determinism) -> Self {
        self.determinism = determinism;
        self
    }

    /// What the model says of itself.
    pub fn provenance(mut self, provenance: Provenance) -> Self {
        self.provenance = provenance;
        self
    }

    /// Adds options that results depend on, under a name: sampling, limits, those of the method.
    ///
    /// # Errors
    /// [`RunError::Json`] where they have no JSON form.
    pub fn options(mut self, name: &str, options: &impl Serialize) -> Result<Self> {
        let value = serde_json::to_value(options)
            .map_err(RunError::json(&format!("the options `{name}`")))?;
        self.options.insert(name.to_owned(), value);
        Ok(self)
    }

    /// Adds a version of code that results depend on: a crate's, a commit, an endpoint's.
    pub fn code(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.code.insert(name.into(), version.into());
        self
    }

    /// Adds the SHA-256 of the running program. Stricter than versions: whatever changes the build refuses to resume.
    ///
    /// # Errors
    /// [`RunError::Io`] where the program's file cannot be read.
    pub fn executable(self) -> Result<Self> {
        let path = std::env::current_exe().map_err(RunError::io("the program".as_ref()))?;
        let bytes = std::fs::read(&path).map_err(RunError::io(&path))?;
        Ok(self.code("executable", sha256(&bytes)))
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn times(&self) -> u32 {
        self.repeats
    }

    pub(super) fn machine(&self) -> Machine {
        Machine {
            model: self.provenance.model.clone(),
            device: self.provenance.device.clone(),
            threads: self.provenance.threads,
        }
    }

    /// The whole as JSON, with `null` for what is not known.
    pub(super) fn identity(&self, items: usize, data: &str) -> Result<Value> {
        if self.method.is_empty() {
            return Err(RunError::argument("method", "a name", "nothing"));
        }
        if self.repeats == 0 {
            return Err(RunError::argument("repeats", "at least 1", "0"));
        }
        let provenance = &self.provenance;
        if let Some(other) = provenance.seed.filter(|seed| *seed != self.seed) {
            return Err(RunError::argument(
                "seed",
                format!("{}, the run's", self.seed),
                format!("{other} in the provenance"),
            ));
        }
        let mut identity = json!({
            "adapters": provenance.adapters,
            "code": self.code,
            "data": {"items": items, "sha256": data},
            "determinism": self.determinism,
            "dtype": provenance.dtype,
            "family": provenance.family,
            "libtorch": provenance.libtorch,
            "method": self.method,
            "method_version": self.version,
            "model_hash": provenance.model_hash,
            "options": self.options,
            "repeats": self.repeats,
            "seed": self.seed,
            "template_hash": provenance.template_hash,
            "tokenizer_hash": provenance.tokenizer_hash,
            "tool": provenance.tool,
        });
        if let (Determinism::Exact, Some(fields)) = (self.determinism, identity.as_object_mut()) {
            fields.insert("device".to_owned(), json!(provenance.device));
            fields.insert("threads".to_owned(), json!(provenance.threads));
        }
        // Canonical from the start, so that what is written does not depend on the order of insertion.
        serde_json::from_str(&canonical(&identity)).map_err(RunError::json("the configuration"))
    }
}

/// SHA-256 of the items: over a line of canonical JSON, `[id,content]`, for each, in the order of ids.
pub(super) fn data_hash<T: Item>(items: &[T]) -> Result<String> {
    let mut seen = BTreeSet::new();
    let mut lines = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let id = item.id();
        let refuse = |problem: String| Err(RunError::Item { index, problem });
        if id.is_empty() {
            return refuse("expected an id, found an empty one".to_owned());
        }
        if !seen.insert(id) {
            return refuse(format!("the id `{id}` occurs a second time"));
        }
        let content = match item.content() {
            Ok(content) => content,
            Err(error) => return refuse(error.to_string()),
        };
        lines.push((id, canonical(&json!([id, content]))));
    }
    lines.sort_unstable();
    let mut hasher = Sha256::new();
    for (_, line) in &lines {
        hasher.update(line);
        hasher.update("\n");
    }
    Ok(hex(&hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_items_does_not_matter_and_their_content_does() {
        // Python: hashlib.sha256(b'["a",{"x":1}]\n["b",{"x":0.5}]\n').
        let expected = "bb71e9bb49c754133a84ed81b582d69c9bc52a03afd79a7de9df760302308406";
        let a = || ("a", json!({"x": 1}));
        let b = || ("b", json!({"x": 0.5}));
        assert_eq!(data_hash(&[a(), b()]).unwrap(), expected);
        assert_eq!(data_hash(&[b(), a()]).unwrap(), expected);
        assert_ne!(data_hash(&[a(), ("b", json!({"x": 2}))]).unwrap(), expected);
        assert_ne!(data_hash(&[a()]).unwrap(), expected);
    }

    #[test]
    fn items_that_cannot_be_told_apart_are_refused() {
        assert_eq!(
            data_hash(&[("a", 1), ("b", 1), ("a", 2)])
                .unwrap_err()
                .to_string(),
            "item 2: the id `a` occurs a second time"
        );
        assert_eq!(
            data_hash(&[("", 1)]).unwrap_err().to_string(),
            "item 0: expected an id, found an empty one"
        );
    }

    #[test]
    fn device_and_threads_are_a_part_where_bits_are_promised() {
        let of = |determinism, threads| {
            let mut provenance = Provenance::new();
            provenance.threads = Some(threads);
            let config = RunConfig::new("m", "1", 0)
                .determinism(determinism)
                .provenance(provenance);
            config.identity(0, "").unwrap()
        };
        assert_ne!(of(Determinism::Exact, 1), of(Determinism::Exact, 2));
        assert_eq!(of(Determinism::Fast, 1), of(Determinism::Fast, 2));
    }

    #[test]
    fn values_that_make_no_run_are_refused() {
        let refused = |config: RunConfig| config.identity(0, "").unwrap_err().to_string();
        assert_eq!(
            refused(RunConfig::new("", "1", 0)),
            "method: expected a name, found nothing"
        );
        assert_eq!(
            refused(RunConfig::new("m", "1", 0).repeats(0)),
            "repeats: expected at least 1, found 0"
        );
        assert_eq!(
            refused(RunConfig::new("m", "1", 0).provenance(Provenance::new().with_seed(3))),
            "seed: expected 0, the run's, found 3 in the provenance"
        );
    }
}
