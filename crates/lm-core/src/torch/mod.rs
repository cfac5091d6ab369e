//! The libtorch engine: loads a checkpoint and runs it.
//!
//! Nothing of `tch` is in the public interface; everything goes in and out as token ids and `ndarray`s of `f32`.

mod adapted;
mod attention;
mod cache;
mod decoder;
mod edits;
mod frozen;
mod host;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod kernels;
mod layers;
mod layout;
mod load;
mod lora;
mod mask;
mod options;
mod overlay;
mod placement;
mod prefix;
mod rotary;
mod session;
mod soft;
mod stages;
mod sweep;
mod taps;
pub mod train;

use std::path::Path;
use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayView2};

pub use adapted::Adapted;
pub use options::{Device, Dtype, LoadOptions};
pub use placement::Placement;
pub use soft::SoftPrompted;

use self::decoder::{Decoder, Input, Last};
use self::edits::Edits;
use self::host::{from_array2, to_array2};
use self::layout::Layout;
use self::lora::Adapters;
use self::overlay::Overlay;
use self::session::TorchSession;
use self::taps::{Patches, Taps};
use crate::chat::Conversation;
use crate::generate::GenerateOptions;
use crate::heads::HeadAblation;
use crate::model::{
    self, ChatModel, Intervention, LanguageModel, ModelShape, OpenModel, OpenSession, Reply, Run,
    RunOutput, Session,
};
use crate::provenance::Provenance;
use crate::sites::{Capture, Captured};
use crate::spec::DecoderSpec;
use crate::text::TextInterface;
use crate::weights::Checkpoint;
use crate::{Error, Result};

/// A decoder-only language model on libtorch, with its tokenizer and chat template.
///
/// Immutable after loading, so one model can be shared by threads. Sessions borrow it.
#[derive(Debug)]
pub struct TorchModel {
    // Dropped in this order: the decoder's tensors may be views of the checkpoint's mapped files.
    decoder: Decoder,
    text: Option<Arc<TextInterface>>,
    options: LoadOptions,
    /// Hashes of the adapters that are merged into the weights.
    adapters: Vec<String>,
    checkpoint: Arc<Checkpoint>,
}

impl TorchModel {
    /// Loads a folder, a `.gguf` file or a hub id from the local cache, in `f32` on the CPU.
    ///
    /// # Errors
    /// Everything [`Checkpoint::open`] refuses, weights that are not finite, and what libtorch refuses.
    pub fn open(model: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(model, LoadOptions::default())
    }

    /// [`TorchModel::open`] with a dtype, a device, checks.
    ///
    /// # Errors
    /// As [`TorchModel::open`], [`Error::Device`] for a device that is absent, and a [`Placement`] of other layers than the
    /// model's.
    pub fn open_with(model: impl AsRef<Path>, options: LoadOptions) -> Result<Self> {
        // Before anything is read: a wrong device should not cost a minute of loading.
        for device in options.placement.devices() {
            device.find()?;
        }
        let checkpoint = Checkpoint::open(model)?;
        let text = if checkpoint.has_tokenizer() {
            Some(Arc::new(TextInterface::open(&checkpoint)?))
        } else {
            None
        };
        Ok(Self {
            decoder: load::decoder(&checkpoint, &options)?,
            text,
            options,
            adapters: Vec::new(),
            checkpoint: Arc::new(checkpoint),
        })
    }

    /// The decoder's description.
    pub fn spec(&self) -> &DecoderSpec {
        &self.decoder.spec
    }

    /// The files it was loaded from.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Its tokenizer, chat template and stop tokens.
    ///
    /// # Errors
    /// A checkpoint of weights alone: the error says which file is missing.
    pub fn text(&self) -> Result<&TextInterface> {
        match &self.text {
            Some(text) => Ok(text),
            None => Err(TextInterface::open(&self.checkpoint)
                .err()
                .unwrap_or_else(|| Error::Checkpoint {
                    path: self.checkpoint.path().to_owned(),
                    problem: "its tokenizer appeared after it was loaded: load it again".to_owned(),
                })),
        }
    }

    /// How it was loaded.
    pub fn options(&self) -> &LoadOptions {
        &self.options
    }

    /// What a result made with this model must carry. Hashes the weights the first time.
    ///
    /// # Errors
    /// What reading the weights may meet.
    pub fn provenance(&self) -> Result<Provenance> {
        let text = self.text.as_deref();
        Ok(Provenance {
            model: self
                .checkpoint
                .path()
                .file_name()
                .map(|name| name.to_string_lossy().into_owned()),
            model_hash: Some(self.checkpoint.model_hash()?.to_owned()),
            adapters: self.adapters.clone(),
            family: Some(self.decoder.spec.family.clone()),
            tokenizer_hash: text.map(|text| text.tokenizer().hash().to_owned()),
            template_hash: text
                .and_then(TextInterface::template)
                .map(|template| template.hash().to_owned()),
            dtype: Some(self.options.dtype.to_string()),
            device: Some(self.options.placement.record(self.decoder.spec.layers)?),
            threads: usize::try_from(tch::get_num_threads()).ok(),
            libtorch: Some(libtorch_version().to_owned()),
            ..Provenance::new()
        })
    }

    /// Whole prompts without a cache: what comes out of the last block, and what `capture` names.
    fn whole(
        &self,
        prompts: &[&[u32]],
        (edits, patches): &(Edits, Patches),
        capture: &Capture,
        overlay: &Overlay,
    ) -> Result<(Last, Vec<Captured>)> {
        let lengths: Vec<usize> = prompts.iter().map(|prompt| prompt.len()).collect();
        let (layout, step) = Layout::new(prompts.len()).extended(&lengths);
        let starts = vec![0; prompts.len()];
        let mut taps = Taps::new(capture, patches, &self.shape(), &starts, prompts);
        let last = self.decoder.forward(
            &Input {
                chunks: prompts,
                layout: &layout,
                step: &step,
                edits,
                overlay,
            },
            None,
            &mut taps,
        )?;
        Ok((last, taps.finish()?))
    }

    fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    fn check_prompts(&self, prompts: &[&[u32]]) -> Result<()> {
        model::require_rows(prompts.len())?;
        let spec = &self.decoder.spec;
        model::check_chunks(
            prompts,
            &vec![0; prompts.len()],
            spec.vocab_size,
            Some(spec.context_length),
        )
    }

    /// [`OpenModel::run`] under adapters.
    fn run_with(
        &self,
        prompts: &[&[u32]],
        run: &Run,
        adapters: Option<&Adapters>,
    ) -> Result<RunOutput> {
        self.check_prompts(prompts)?;
        let spec = &self.decoder.spec;
        run.capture.check(&spec.shape())?;
        for (row, prompt) in prompts.iter().enumerate() {
            for positions in [&run.capture.positions, &run.logits] {
                positions.check_row(row, prompt.len())?;
            }
        }
        let overlay = self.overlay(adapters, prompts.len())?;
        let change = self.prepared(&run.intervention)?;
        change.1.check(&vec![0; prompts.len()], prompts, false)?;
        let _no_grad = tch::no_grad_guard();
        let (last, captured) = self.whole(prompts, &change, &run.capture, &overlay)?;
        let width = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
        let mut logits = Vec::with_capacity(prompts.len());
        for (row, prompt) in prompts.iter().enumerate() {
            let pads = width - prompt.len();
            let within = run.logits.within(0, prompt.len());
            let indices: Vec<i64> = within.iter().map(|index| (pads + index) as i64).collect();
            logits.push(to_array2(&last.logits(&self.decoder, row, &indices)?)?);
        }
        Ok(RunOutput { logits, captured })
    }

    /// [`OpenModel::sweep`] under what adapters add to every row.
    fn sweep_with(
        &self,
        prompts: &[&[u32]],
        ablations: &[HeadAblation],
        overlay: &Overlay,
        found: &mut dyn FnMut(usize, ArrayView2<'_, f32>) -> Result<()>,
    ) -> Result<()> {
        self.check_prompts(prompts)?;
        let spec = &self.decoder.spec;
        let (layers, heads) = (spec.layers, spec.attention.heads);
        ablations
            .iter()
            .try_for_each(|ablation| ablation.check(layers, heads))?;
        let _no_grad = tch::no_grad_guard();
        sweep::sweep(&self.decoder, prompts, ablations, overlay, found)
    }

    /// [`LanguageModel::score`] under adapters.
    fn score_with(
        &self,
        prefix: &[u32],
        continuation: &[u32],
        adapters: Option<&Adapters>,
    ) -> Result<Vec<f64>> {
        let spec = &self.decoder.spec;
        model::check_score(
            prefix,
            continuation,
            spec.vocab_size,
            Some(spec.context_length),
        )?;
        let overlay = self.overlay(adapters, 1)?;
        let tokens = [prefix, continuation].concat();
        let _no_grad = tch::no_grad_guard();
        let nothing = (Edits::default(), Patches::default());
        let (last, _) = self.whole(&[&tokens], &nothing, &Capture::none(), &overlay)?;
        let after = prefix.len() - 1..tokens.len() - 1;
        let after: Vec<i64> = after.map(|position| position as i64).collect();
        last.log_probs(&self.decoder, &after, continuation)
    }

    /// What adapters add to a batch of `rows` rows.
    fn overlay(&self, adapters: Option<&Adapters>, rows: usize) -> Result<Overlay> {
        match adapters {
            Some(adapters) => adapters.overlay(adapters.assigned(rows)?, &self.decoder.places),
            None => Ok(Overlay::default()),
        }
    }

    /// An intervention on the devices.
    fn prepared(&self, intervention: &Intervention) -> Result<(Edits, Patches)> {
        let decoder = &self.decoder;
        intervention.check(&decoder.spec.shape())?;
        let Intervention {
            ablation,
            kv_ablation,
            patches,
        } = intervention;
        Ok((
            Edits::new(ablation, kv_ablation, &decoder.spec, &decoder.places)?,
            Patches::new(patches, &decoder.places)?,
        ))
    }
}

impl LanguageModel for TorchModel {
    fn vocab_size(&self) -> usize {
        self.decoder.spec.vocab_size
    }

    fn next_logits(&self, tokens: &[u32]) -> Result<Array1<f32>> {
        let output = self.run(&[tokens], &Run::default())?;
        output
            .logits
            .first()
            .map(|logits| logits.row(0).to_owned())
            .ok_or_else(|| Error::Empty {
                what: "batch".to_owned(),
                unit: "row",
            })
    }

    fn context_length(&self) -> Option<usize> {
        Some(self.decoder.spec.context_length)
    }

    fn begin(&self, rows: usize) -> Result<Box<dyn Session + '_>> {
        self.begin_ablated(rows, &HeadAblation::none())
    }

    fn score(&self, prefix: &[u32], continuation: &[u32]) -> Result<Vec<f64>> {
        self.score_with(prefix, continuation, None)
    }
}

impl OpenModel for TorchModel {
    fn shape(&self) -> ModelShape {
        self.decoder.spec.shape()
    }

    fn run(&self, prompts: &[&[u32]], run: &Run) -> Result<RunOutput> {
        self.run_with(prompts, run, None)
    }

    fn begin_open(
        &self,
        rows: usize,
        intervention: &Intervention,
        capture: &Capture,
    ) -> Result<Box<dyn OpenSession + '_>> {
        Ok(Box::new(TorchSession::new(
            self,
            rows,
            intervention,
            capture,
            None,
        )?))
    }

    fn sweep(
        &self,
        prompts: &[&[u32]],
        ablations: &[HeadAblation],
        found: &mut dyn FnMut(usize, ArrayView2<'_, f32>) -> Result<()>,
    ) -> Result<()> {
        self.sweep_with(prompts, ablations, &Overlay::default(), found)
    }

    fn unembed(&self, hidden: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        let width = self.decoder.spec.hidden_size;
        if hidden.ncols() != width {
            return Err(Error::argument(
                "hidden states",
                format!("[n, {width}]"),
                format!("{:?}", hidden.dim()),
            ));
        }
        let _no_grad = tch::no_grad_guard();
        let last = self.decoder.places.last();
        let hidden = from_array2(&hidden, last.kind, last.device)?;
        to_array2(&self.decoder.logits(&hidden)?)
    }
}

impl ChatModel for TorchModel {
    fn reply(&self, conversation: &Conversation, options: &GenerateOptions) -> Result<Vec<Reply>> {
        self.text()?.reply(self, conversation, options)
    }
}

/// Version of the libtorch this was built for, such as `2.11.0`.
pub fn libtorch_version() -> &'static str {
    "2.11.0"
}
