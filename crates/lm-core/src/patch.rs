//! Writing at the sites of the computation, as values.

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use crate::model::ModelShape;
use crate::sites::{Positions, Site};
use crate::{Error, Result};

/// What a [`Patch`] does. Values are `[n, width]`, row by row: one row for all positions, or one for each: with
/// [`Positions::At`] in the order of the list, with [`Positions::All`] by position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PatchAction {
    /// Puts the values in the place of what is there.
    Replace(Vec<Vec<f32>>),
    /// Adds the values.
    Add(Vec<Vec<f32>>),
    /// Goes from what is there toward the values: 0 changes nothing, 1 replaces.
    Interpolate {
        /// The values.
        toward: Vec<Vec<f32>>,
        /// How far.
        amount: f32,
    },
}

impl PatchAction {
    /// The values, whatever is done with them.
    #[must_use]
    pub fn values(&self) -> &[Vec<f32>] {
        match self {
            Self::Replace(values) | Self::Add(values) => values,
            Self::Interpolate { toward, .. } => toward,
        }
    }
}

/// A change at a site. What reads the site, a [`Capture`](crate::Capture) too, sees it changed.
///
/// In a session a patch is applied to the positions of each chunk as it passes; with [`Positions::All`] also to every token
/// that is generated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Patch {
    /// Where.
    pub site: Site,
    /// One head of [`Site::HeadOutput`] alone; values are then `head_dim` wide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<usize>,
    /// The rows of the batch, as they are numbered when the pass runs; all of them unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Vec<usize>>,
    /// At which positions.
    pub positions: Positions,
    /// What is done.
    pub action: PatchAction,
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "a view is a handle, as in ndarray's own functions"
)]
impl Patch {
    /// Does `action` at `site` at every position of every row.
    pub fn new(site: Site, action: PatchAction) -> Self {
        Self {
            site,
            head: None,
            rows: None,
            positions: Positions::All,
            action,
        }
    }

    /// Puts `values`, `[n, width]`, in the place of what is there.
    pub fn replace(site: Site, values: ArrayView2<'_, f32>) -> Self {
        Self::new(site, PatchAction::Replace(lines(&values)))
    }

    /// Adds `values`, `[n, width]`.
    pub fn add(site: Site, values: ArrayView2<'_, f32>) -> Self {
        Self::new(site, PatchAction::Add(lines(&values)))
    }

    /// Goes from what is there toward `values`, `[n, width]`, by `amount`.
    pub fn interpolate(site: Site, values: ArrayView2<'_, f32>, amount: f32) -> Self {
        let toward = lines(&values);
        Self::new(site, PatchAction::Interpolate { toward, amount })
    }

    /// Limits it to `positions`.
    #[must_use]
    pub fn at(mut self, positions: Positions) -> Self {
        self.positions = positions;
        self
    }

    /// Limits it to one head of [`Site::HeadOutput`].
    #[must_use]
    pub fn on_head(mut self, head: usize) -> Self {
        self.head = Some(head);
        self
    }

    /// Limits it to these rows of the batch.
    #[must_use]
    pub fn in_rows(mut self, rows: impl IntoIterator<Item = usize>) -> Self {
        self.rows = Some(rows.into_iter().collect());
        self
    }

    /// Refuses a site that such a model does not have or that is only read, and values that do not fit it.
    ///
    /// # Errors
    /// [`Error::Argument`], [`Error::Empty`].
    pub fn check(&self, shape: &ModelShape) -> Result<()> {
        self.site.check(shape)?;
        self.positions.check()?;
        let name = || format!("patch at {:?}", self.site);
        let Some(mut width) = self.site.width(shape) else {
            return Err(Error::argument(
                name(),
                "a site that can be written",
                "one that is only read",
            ));
        };
        if let Some(head) = self.head {
            if !matches!(self.site, Site::HeadOutput(_)) {
                return Err(Error::argument(
                    name(),
                    "no head: only HeadOutput has them",
                    head,
                ));
            }
            if head >= shape.heads {
                let expected = format!("a head below {}", shape.heads);
                return Err(Error::argument(name(), expected, head));
            }
            width = shape.head_dim;
        }
        let values = self.action.values();
        let wanted = match &self.positions {
            Positions::Last => Some(1),
            Positions::At(list) => Some(list.len()),
            Positions::All => None,
        };
        if values.is_empty()
            || (values.len() != 1 && wanted.is_some_and(|wanted| wanted != values.len()))
        {
            let expected = match wanted {
                Some(wanted) if wanted != 1 => format!("1 or {wanted} rows of values"),
                Some(_) => "1 row of values".to_owned(),
                None => "rows of values".to_owned(),
            };
            return Err(Error::argument(name(), expected, values.len()));
        }
        for (index, row) in values.iter().enumerate() {
            if row.len() != width {
                let expected = format!("{width} values in row {index}");
                return Err(Error::argument(name(), expected, row.len()));
            }
            if let Some(value) = row.iter().find(|value| !value.is_finite()) {
                let expected = format!("finite values in row {index}");
                return Err(Error::argument(name(), expected, value));
            }
        }
        match self.action {
            PatchAction::Interpolate { amount, .. } if !amount.is_finite() => {
                Err(Error::argument(name(), "a finite amount", amount))
            }
            _ => Ok(()),
        }
    }
}

fn lines(values: &ArrayView2<'_, f32>) -> Vec<Vec<f32>> {
    values.outer_iter().map(|row| row.to_vec()).collect()
}
