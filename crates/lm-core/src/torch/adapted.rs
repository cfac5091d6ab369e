//! A model seen through adapters.

use std::path::Path;
use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayView2};

use super::TorchModel;
use super::lora::{self, Adapters};
use super::session::TorchSession;
use crate::adapter::Adapter;
use crate::chat::Conversation;
use crate::generate::GenerateOptions;
use crate::heads::HeadAblation;
use crate::model::{
    ChatModel, Intervention, LanguageModel, ModelShape, OpenModel, OpenSession, Reply, Run,
    RunOutput, Session, sweep_plainly,
};
use crate::provenance::Provenance;
use crate::sites::Capture;
use crate::{Error, Result};

/// A [`TorchModel`] with adapters on, as a model of its own: whatever takes a [`LanguageModel`] or an [`OpenModel`] takes it.
///
/// Nothing is registered on the model below, which goes on as it was; dropping this is switching the adapters off.
#[derive(Debug)]
pub struct Adapted<'a> {
    model: &'a TorchModel,
    adapters: Adapters,
}

impl TorchModel {
    /// Reads an adapter for this model from a folder in PEFT's format.
    ///
    /// # Errors
    /// Those of [`Adapter::open`].
    pub fn open_adapter(&self, folder: impl AsRef<Path>) -> Result<Adapter> {
        Adapter::open(folder, self.checkpoint())
    }

    /// The model with all of `adapters` on every row: what they add is summed. With none it is the model itself.
    ///
    /// # Errors
    /// An adapter for another model.
    pub fn with_adapters(&self, adapters: &[&Adapter]) -> Result<Adapted<'_>> {
        Ok(Adapted {
            model: self,
            adapters: Adapters::new(self, adapters, None)?,
        })
    }

    /// The model with one of `adapters`, or none, for each row of a batch: row `i` has `adapters[rows[i]]`. Runs and sessions
    /// of it have exactly `rows.len()` rows; in a session the adapters follow their rows through
    /// [`Session::select`].
    ///
    /// # Errors
    /// An adapter for another model; an index beyond `adapters`; no rows.
    pub fn with_row_adapters(
        &self,
        adapters: &[&Adapter],
        rows: &[Option<usize>],
    ) -> Result<Adapted<'_>> {
        crate::model::require_rows(rows.len())?;
        Ok(Adapted {
            model: self,
            adapters: Adapters::new(self, adapters, Some(rows.to_vec()))?,
        })
    }

    /// A new model whose weights are `W + scaling · B·A`, summed in `f32` and rounded to the run's dtype. This model stays as
    /// it is, bit for bit, and shares the weights that the adapter leaves alone; dropping the new model is unmerging.
    ///
    /// # Errors
    /// An adapter for another model; in a narrow dtype, sums that overflow.
    pub fn merged(&self, adapter: &Adapter) -> Result<TorchModel> {
        let mut hashes = self.adapters.clone();
        hashes.push(adapter.hash());
        Ok(TorchModel {
            decoder: lora::merged(self, adapter)?,
            text: self.text.as_ref().map(Arc::clone),
            options: self.options.clone(),
            adapters: hashes,
            checkpoint: Arc::clone(&self.checkpoint),
        })
    }
}

impl Adapted<'_> {
    /// The model below.
    pub fn model(&self) -> &TorchModel {
        self.model
    }

    /// What a result made with this model must carry: the hashes of its adapters too.
    ///
    /// # Errors
    /// What reading the weights may meet.
    pub fn provenance(&self) -> Result<Provenance> {
        let mut provenance = self.model.provenance()?;
        provenance.adapters.extend_from_slice(&self.adapters.hashes);
        Ok(provenance)
    }
}

impl LanguageModel for Adapted<'_> {
    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    fn next_logits(&self, tokens: &[u32]) -> Result<Array1<f32>> {
        let output = self.run(&[tokens], &Run::default())?;
        let logits = output.logits.first().map(|logits| logits.row(0).to_owned());
        logits.ok_or_else(|| Error::Empty {
            what: "batch".to_owned(),
            unit: "row",
        })
    }

    fn context_length(&self) -> Option<usize> {
        self.model.context_length()
    }

    fn begin(&self, rows: usize) -> Result<Box<dyn Session + '_>> {
        let session: Box<dyn Session + '_> =
            self.begin_open(rows, &Intervention::none(), &Capture::none())?;
        Ok(session)
    }

    fn score(&self, prefix: &[u32], continuation: &[u32]) -> Result<Vec<f64>> {
        self.model
            .score_with(prefix, continuation, Some(&self.adapters))
    }
}

impl OpenModel for Adapted<'_> {
    fn shape(&self) -> ModelShape {
        self.model.shape()
    }

    fn run(&self, prompts: &[&[u32]], run: &Run) -> Result<RunOutput> {
        self.model.run_with(prompts, run, Some(&self.adapters))
    }

    fn begin_open(
        &self,
        rows: usize,
        intervention: &Intervention,
        capture: &Capture,
    ) -> Result<Box<dyn OpenSession + '_>> {
        let adapters = Some(&self.adapters);
        let session = TorchSession::new(self.model, rows, intervention, capture, adapters)?;
        Ok(Box::new(session))
    }

    fn sweep(
        &self,
        prompts: &[&[u32]],
        ablations: &[HeadAblation],
        found: &mut dyn FnMut(usize, ArrayView2<'_, f32>) -> Result<()>,
    ) -> Result<()> {
        if self.adapters.by_row() {
            // The fast one repeats rows, which have adapters of their own here.
            return sweep_plainly(self, prompts, ablations, found);
        }
        let overlay = self.model.overlay(Some(&self.adapters), prompts.len())?;
        self.model.sweep_with(prompts, ablations, &overlay, found)
    }

    fn unembed(&self, hidden: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        self.model.unembed(hidden)
    }
}

impl ChatModel for Adapted<'_> {
    fn reply(&self, conversation: &Conversation, options: &GenerateOptions) -> Result<Vec<Reply>> {
        self.model.text()?.reply(self, conversation, options)
    }
}
