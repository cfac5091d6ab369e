//! Named places in the computation, and what to keep of them.
//!
//! Nothing is kept unless it is named. The shape of every site is written at the site.

use std::fmt;

use ndarray::{Array2, ArrayView3};
use serde::{Deserialize, Serialize};

use crate::model::ModelShape;
use crate::{Error, Result};

/// A place in the computation. Layers count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Site {
    /// The residual stream, `[position, hidden]`: 0 is the embedding, `l` is after block `l` counted from 1, so that the
    /// last is the number of layers, *before* the final norm. `Hidden(layer)` is also the residual before block `layer`.
    Hidden(usize),
    /// What the heads of a layer put out, before the output projection, `[position, heads · head_dim]`: head `h` stands at
    /// `h · head_dim`.
    HeadOutput(usize),
    /// What the attention of a layer adds to the residual, `[position, hidden]`.
    AttentionOutput(usize),
    /// What the feed-forward part of a layer adds to the residual, `[position, hidden]`.
    MlpOutput(usize),
    /// The last residual after the final norm, `[position, hidden]`; what the unembedding sees.
    FinalNorm,
    /// How much each head of a layer attends to each token of the row so far, `[position, heads · tokens]`, head by head;
    /// [`Captured::weights`] gives it three axes. Only read, never written: [`HeadAblation`](crate::HeadAblation) changes
    /// attention. Asking for it costs the fused kernel of that layer.
    AttentionWeights(usize),
}

/// As tensors are named: `hidden.3`, `head_output.0`, `final_norm`.
impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hidden(index) => write!(f, "hidden.{index}"),
            Self::HeadOutput(layer) => write!(f, "head_output.{layer}"),
            Self::AttentionOutput(layer) => write!(f, "attention_output.{layer}"),
            Self::MlpOutput(layer) => write!(f, "mlp_output.{layer}"),
            Self::FinalNorm => f.write_str("final_norm"),
            Self::AttentionWeights(layer) => write!(f, "attention_weights.{layer}"),
        }
    }
}

impl Site {
    /// The layer whose part it is; `None` for the final norm, and for [`Site::Hidden`], which lies between layers.
    fn layer(self) -> Option<usize> {
        match self {
            Self::HeadOutput(layer)
            | Self::AttentionOutput(layer)
            | Self::MlpOutput(layer)
            | Self::AttentionWeights(layer) => Some(layer),
            Self::Hidden(_) | Self::FinalNorm => None,
        }
    }

    /// Values a position has there; `None` for attention weights, which are as many as tokens.
    #[must_use]
    pub fn width(self, shape: &ModelShape) -> Option<usize> {
        match self {
            Self::HeadOutput(_) => Some(shape.heads * shape.head_dim),
            Self::AttentionWeights(_) => None,
            Self::Hidden(_) | Self::AttentionOutput(_) | Self::MlpOutput(_) | Self::FinalNorm => {
                Some(shape.hidden)
            }
        }
    }

    pub(crate) fn check(self, shape: &ModelShape) -> Result<()> {
        let layers = shape.layers;
        let expected = match self {
            Self::Hidden(index) if index > layers => format!("Hidden(0) to Hidden({layers})"),
            _ if self.layer().is_some_and(|layer| layer >= layers) => {
                format!("layers 0 to {}", layers.saturating_sub(1))
            }
            _ => return Ok(()),
        };
        Err(Error::argument("site", expected, format!("{self:?}")))
    }
}

/// Which positions of a row, counted from its first token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Positions {
    /// The last token of each row, or in a session of each chunk.
    #[default]
    Last,
    /// Every token of each row; pads are never returned.
    All,
    /// These, in rising order. In a session those of them that a chunk holds.
    At(Vec<usize>),
}

impl Positions {
    /// Those of the tokens `start..start + count` of a row, counted from `start`.
    pub(crate) fn within(&self, start: usize, count: usize) -> Vec<usize> {
        match self {
            Self::Last => (count.saturating_sub(1)..count).collect(),
            Self::All => (0..count).collect(),
            Self::At(list) => list
                .iter()
                .filter_map(|position| position.checked_sub(start))
                .filter(|index| *index < count)
                .collect(),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let Self::At(list) = self else { return Ok(()) };
        if list.is_empty() {
            return Err(Error::Empty {
                what: "list of positions".to_owned(),
                unit: "position",
            });
        }
        match list.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => Err(Error::argument(
                "positions",
                "rising numbers, none twice",
                format!("{} before {}", pair[0], pair[1]),
            )),
            None => Ok(()),
        }
    }

    /// Refuses positions that a whole row of so many tokens does not have.
    pub(crate) fn check_row(&self, row: usize, tokens: usize) -> Result<()> {
        match self {
            Self::At(list) => match list.iter().find(|position| **position >= tokens) {
                Some(position) => Err(Error::argument(
                    format!("position in row {row}"),
                    format!("below its {tokens} tokens"),
                    position,
                )),
                None => Ok(()),
            },
            Self::Last | Self::All => Ok(()),
        }
    }
}

/// What to keep of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// The sites, in the order their values are returned.
    pub sites: Vec<Site>,
    /// At which positions.
    pub positions: Positions,
}

impl Capture {
    /// Keeps nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Keeps `sites` at `positions`.
    pub fn of(sites: impl IntoIterator<Item = Site>, positions: Positions) -> Self {
        Self {
            sites: sites.into_iter().collect(),
            positions,
        }
    }

    /// Refuses sites that such a model does not have, and positions out of order.
    ///
    /// # Errors
    /// [`Error::Argument`], [`Error::Empty`].
    pub fn check(&self, shape: &ModelShape) -> Result<()> {
        self.positions.check()?;
        self.sites.iter().try_for_each(|site| site.check(shape))
    }

    /// Keeps the embedding and the residual after each of `layers` blocks.
    pub fn hidden_states(layers: usize, positions: Positions) -> Self {
        Self::of((0..=layers).map(Site::Hidden), positions)
    }

    /// Bytes that the values of prompts of these `lengths` take, in `f32`: to be asked before a run.
    #[must_use]
    pub fn bytes(&self, shape: &ModelShape, lengths: &[usize]) -> usize {
        let values = |length: usize| -> usize {
            let positions = match &self.positions {
                Positions::Last => 1.min(length),
                Positions::All => length,
                Positions::At(list) => list.iter().filter(|at| **at < length).count(),
            };
            let widths = self.sites.iter().map(|site| {
                site.width(shape)
                    .unwrap_or_else(|| shape.heads.saturating_mul(length))
            });
            widths.fold(0_usize, |sum, width| {
                sum.saturating_add(width.saturating_mul(positions))
            })
        };
        lengths
            .iter()
            .fold(0, |sum, &length| values(length).saturating_add(sum))
            .saturating_mul(size_of::<f32>())
    }
}

/// What one row of a run kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Captured {
    /// The positions, counted from the row's first token.
    pub positions: Vec<usize>,
    /// For each site of the [`Capture`], in its order: `[position, width]`, `f32`.
    pub values: Vec<Array2<f32>>,
}

impl Captured {
    /// Attention weights, the value at `index` of [`Captured::values`], as `[position, head, token]`; `None` if it is not
    /// there or does not divide into so many heads.
    #[must_use]
    pub fn weights(&self, index: usize, heads: usize) -> Option<ArrayView3<'_, f32>> {
        let value = self.values.get(index)?;
        let tokens = value.ncols().checked_div(heads)?;
        value
            .view()
            .into_shape_with_order((value.nrows(), heads, tokens))
            .ok()
    }
}
