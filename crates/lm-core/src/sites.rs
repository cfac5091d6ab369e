//! Named places in the computation, and what to keep of them.
//!
//! Nothing is kept unless it is named. The shape of every site is written at the site.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A place in the computation that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Site {
    /// The residual stream, `[position, hidden]`: 0 is the embedding, `l` is after block `l` counted from 1, so that the
    /// last is the number of layers, *before* the final norm.
    Hidden(usize),
    /// The last residual after the final norm, `[position, hidden]`; what the unembedding sees.
    FinalNorm,
}

/// Which positions of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Positions {
    /// The last token of each row.
    #[default]
    Last,
    /// Every token of each row; pads are never returned.
    All,
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

    /// Refuses sites that a model of `layers` blocks does not have.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn check(&self, layers: usize) -> Result<()> {
        let beyond = |site: &&Site| matches!(site, Site::Hidden(layer) if *layer > layers);
        match self.sites.iter().find(beyond) {
            Some(site) => Err(Error::argument(
                "site",
                format!("Hidden(0) to Hidden({layers}) or FinalNorm"),
                format!("{site:?}"),
            )),
            None => Ok(()),
        }
    }

    /// Keeps the embedding and the residual after each of `layers` blocks.
    pub fn hidden_states(layers: usize, positions: Positions) -> Self {
        Self::of((0..=layers).map(Site::Hidden), positions)
    }
}

/// What one row of a run kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Captured {
    /// For each site of the [`Capture`], in its order: `[position, hidden]`, `f32`.
    pub values: Vec<Array2<f32>>,
}
