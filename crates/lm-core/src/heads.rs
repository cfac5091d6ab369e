//! Attention heads, and switching them off, as values.
//!
//! An ablation is data handed to a call: it prints, compares, serialises, and cannot leak into the next call.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// One *query* head: layer and head, both counted from 0; `2-26` in text and in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Head {
    /// Layer, from 0.
    pub layer: usize,
    /// Query head within the layer, from 0.
    pub head: usize,
}

impl Head {
    /// Head `head` of layer `layer`, both from 0.
    pub fn new(layer: usize, head: usize) -> Self {
        Self { layer, head }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.layer, self.head)
    }
}

impl From<Head> for String {
    fn from(head: Head) -> Self {
        head.to_string()
    }
}

impl FromStr for Head {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // `usize::from_str` takes a leading `+`; a head's name has digits only.
        let number = |part: &str| -> Option<usize> {
            part.bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| part.parse().ok())?
        };
        text.split_once('-')
            .and_then(|(layer, head)| Some(Self::new(number(layer)?, number(head)?)))
            .ok_or_else(|| Error::argument("head", "layer-head, both from 0, such as 2-26", text))
    }
}

impl TryFrom<String> for Head {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// What is done to one head (Zhou et al., "On the Role of Attention Heads in Large Language Model Safety",
/// ICLR 2025, section 3.1 and appendix A).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AblationKind {
    /// Undifferentiated attention (UA): the head's query vector, after bias, norm and rotary embedding, is
    /// multiplied by `epsilon`. At 0 the head attends equally to every position it may see: its output is the mean of their
    /// values, and no query meets a key.
    Undifferentiated {
        /// The factor; the paper uses 1e-5, 0 is the exact limit.
        epsilon: f32,
    },
    /// Scaling contribution (SC): the head's output, before the output projection, is multiplied by `factor`.
    /// At 0 the head is silent.
    Contribution {
        /// The factor.
        factor: f32,
    },
    /// The head's query vector, after bias, norm and rotary embedding, becomes the mean over the layer's query heads (the
    /// paper's mean mask, "q"). Taken before another ablation of the same head.
    MeanQuery,
}

impl AblationKind {
    fn factor(self) -> Option<f32> {
        match self {
            Self::Undifferentiated { epsilon } => Some(epsilon),
            Self::Contribution { factor } => Some(factor),
            Self::MeanQuery => None,
        }
    }
}

/// Which heads to change, and how. Empty means the model as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HeadAblation {
    edits: Vec<HeadEdit>,
}

/// One head of a [`HeadAblation`] and what is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadEdit {
    /// The head.
    pub head: Head,
    /// What is done to it.
    #[serde(flatten)]
    pub kind: AblationKind,
}

impl HeadAblation {
    /// Changes nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Makes the attention of `heads` uniform (UA with ε = 0).
    pub fn undifferentiated(heads: impl IntoIterator<Item = Head>) -> Self {
        heads.into_iter().fold(Self::none(), |ablation, head| {
            ablation.with(head, AblationKind::Undifferentiated { epsilon: 0.0 })
        })
    }

    /// Silences `heads` (SC with factor 0).
    pub fn silenced(heads: impl IntoIterator<Item = Head>) -> Self {
        heads.into_iter().fold(Self::none(), |ablation, head| {
            ablation.with(head, AblationKind::Contribution { factor: 0.0 })
        })
    }

    /// Adds one head. Given twice with the same kind, the later factor counts; different kinds combine.
    #[must_use]
    pub fn with(mut self, head: Head, kind: AblationKind) -> Self {
        let same = |edit: &&mut HeadEdit| {
            edit.head == head && std::mem::discriminant(&edit.kind) == std::mem::discriminant(&kind)
        };
        match self.edits.iter_mut().find(same) {
            Some(edit) => edit.kind = kind,
            None => self.edits.push(HeadEdit { head, kind }),
        }
        self
    }

    /// The heads and what is done to each, in the order they were added.
    pub fn edits(&self) -> &[HeadEdit] {
        &self.edits
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Refuses heads the model does not have and factors that are not finite.
    ///
    /// # Errors
    /// [`Error::Head`] and [`Error::Argument`].
    pub fn check(&self, layers: usize, heads: usize) -> Result<()> {
        for edit in &self.edits {
            if edit.head.layer >= layers || edit.head.head >= heads {
                return Err(Error::Head {
                    head: edit.head,
                    layers,
                    heads,
                });
            }
            if let Some(factor) = edit.kind.factor().filter(|factor| !factor.is_finite()) {
                return Err(Error::argument(
                    format!("factor of head {}", edit.head),
                    "a finite number",
                    factor,
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_back_what_it_prints() {
        assert_eq!("2-26".parse::<Head>().unwrap(), Head::new(2, 26));
        assert_eq!(Head::new(2, 26).to_string(), "2-26");
        for bad in ["", "2", "2-", "-2", "2-26-1", "a-1", "+2-3", "2- 3", "-1-2"] {
            let error = bad.parse::<Head>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("head: expected layer-head, both from 0, such as 2-26, found {bad}")
            );
        }
    }

    #[test]
    fn an_ablation_is_a_value() {
        let ablation = HeadAblation::undifferentiated([Head::new(0, 1)])
            .with(Head::new(2, 3), AblationKind::Contribution { factor: 0.5 });
        let json = serde_json::to_string(&ablation).unwrap();
        assert_eq!(
            json,
            r#"[{"head":"0-1","undifferentiated":{"epsilon":0.0}},{"head":"2-3","contribution":{"factor":0.5}}]"#
        );
        assert_eq!(
            serde_json::from_str::<HeadAblation>(&json).unwrap(),
            ablation
        );
    }

    #[test]
    fn the_same_kind_given_twice_counts_once() {
        let head = Head::new(0, 0);
        let ablation =
            HeadAblation::silenced([head]).with(head, AblationKind::Contribution { factor: 2.0 });
        assert_eq!(ablation.edits().len(), 1);
        let both = ablation.with(head, AblationKind::Undifferentiated { epsilon: 0.0 });
        assert_eq!(both.edits().len(), 2);
    }

    #[test]
    fn heads_out_of_range_are_refused() {
        let error = HeadAblation::silenced([Head::new(2, 26)])
            .check(30, 9)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "head 2-26: the model has layers 0 to 29 and query heads 0 to 8 (layer-head, both from 0)"
        );
        let infinite = HeadAblation::none().with(
            Head::new(0, 0),
            AblationKind::Contribution { factor: f32::NAN },
        );
        assert!(
            infinite
                .check(1, 1)
                .unwrap_err()
                .to_string()
                .contains("expected a finite number, found NaN")
        );
    }
}
