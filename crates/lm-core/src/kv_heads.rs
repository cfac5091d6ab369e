//! Changes on the key/value side. Where several query heads read one key/value head, such a change hits all of them: that is
//! why it has a name of its own and is no [`HeadAblation`](crate::HeadAblation).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// One *key/value* head: layer and head, both from 0. The query heads `head · g` to `head · g + g - 1` read it, with
/// `g = heads / kv_heads`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KvHead {
    /// Layer, from 0.
    pub layer: usize,
    /// Key/value head within the layer, from 0.
    pub kv_head: usize,
}

impl KvHead {
    /// Key/value head `kv_head` of layer `layer`, both from 0.
    pub fn new(layer: usize, kv_head: usize) -> Self {
        Self { layer, kv_head }
    }
}

impl fmt::Display for KvHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-kv{}", self.layer, self.kv_head)
    }
}

/// What is done to one key/value head (Zhou et al., ICLR 2025, appendix A: the "k" and "v" forms).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KvAblationKind {
    /// Its keys, after bias, norm and rotary embedding, are multiplied by `factor`; at 0 every query head that reads it
    /// attends equally to all it may see.
    ScaleKey {
        /// The factor.
        factor: f32,
    },
    /// Its values are multiplied by `factor`.
    ScaleValue {
        /// The factor.
        factor: f32,
    },
    /// Its keys become the mean over the layer's key/value heads.
    MeanKey,
    /// Its values become the mean over the layer's key/value heads.
    MeanValue,
}

/// One key/value head and what is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KvEdit {
    /// The key/value head.
    #[serde(flatten)]
    pub head: KvHead,
    /// What is done to it.
    #[serde(flatten)]
    pub kind: KvAblationKind,
}

/// Which key/value heads to change, and how. Empty means the model as it is. A mean is taken before anything is scaled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KvAblation {
    edits: Vec<KvEdit>,
}

impl KvAblation {
    /// Changes nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds one head. Given twice with the same kind, the later factor counts; different kinds combine.
    #[must_use]
    pub fn with(mut self, head: KvHead, kind: KvAblationKind) -> Self {
        let same = |edit: &&mut KvEdit| {
            edit.head == head && std::mem::discriminant(&edit.kind) == std::mem::discriminant(&kind)
        };
        match self.edits.iter_mut().find(same) {
            Some(edit) => edit.kind = kind,
            None => self.edits.push(KvEdit { head, kind }),
        }
        self
    }

    /// The heads and what is done to each, in the order they were added.
    pub fn edits(&self) -> &[KvEdit] {
        &self.edits
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Refuses heads the model does not have and factors that are not finite.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn check(&self, layers: usize, kv_heads: usize) -> Result<()> {
        for edit in &self.edits {
            let KvHead { layer, kv_head } = edit.head;
            if layer >= layers || kv_head >= kv_heads {
                let expected = format!(
                    "layers 0 to {} and key/value heads 0 to {}",
                    layers.saturating_sub(1),
                    kv_heads.saturating_sub(1)
                );
                return Err(Error::argument("key/value head", expected, edit.head));
            }
            match edit.kind {
                KvAblationKind::ScaleKey { factor } | KvAblationKind::ScaleValue { factor }
                    if !factor.is_finite() =>
                {
                    return Err(Error::argument(
                        format!("factor of key/value head {}", edit.head),
                        "a finite number",
                        factor,
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_reads_back_and_names_what_is_missing() {
        let ablation = KvAblation::none()
            .with(KvHead::new(0, 1), KvAblationKind::ScaleKey { factor: 0.5 })
            .with(KvHead::new(0, 1), KvAblationKind::MeanValue)
            .with(KvHead::new(0, 1), KvAblationKind::ScaleKey { factor: 0.0 });
        let json = serde_json::to_string(&ablation).unwrap();
        assert_eq!(
            json,
            r#"[{"layer":0,"kv_head":1,"scale_key":{"factor":0.0}},{"layer":0,"kv_head":1,"mean_value":null}]"#
        );
        assert_eq!(serde_json::from_str::<KvAblation>(&json).unwrap(), ablation);
        assert_eq!(
            ablation.check(2, 1).unwrap_err().to_string(),
            "key/value head: expected layers 0 to 1 and key/value heads 0 to 0, found 0-kv1"
        );
        let infinite = KvAblation::none().with(
            KvHead::new(0, 0),
            KvAblationKind::ScaleValue {
                factor: f32::INFINITY,
            },
        );
        assert_eq!(
            infinite.check(1, 1).unwrap_err().to_string(),
            "factor of key/value head 0-kv0: expected a finite number, found inf"
        );
    }
}
