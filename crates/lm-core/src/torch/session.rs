//! Sessions with a key/value cache.

use ndarray::Array2;
use tch::Tensor;

use super::TorchModel;
use super::cache::KvCache;
use super::decoder::{Decoder, Input, Last};
use super::edits::Edits;
use super::host::to_array2;
use super::layout::Layout;
use super::lora::{Adapters, Assigned};
use super::overlay::Overlay;
use super::taps::{Patches, Taps};
use crate::Result;
use crate::model::{self, Intervention, OpenSession, Scored, ScoringSession, Session};
use crate::sites::{Capture, Captured};

/// Rows in progress on a [`TorchModel`].
#[derive(Debug)]
pub(super) struct TorchSession<'a> {
    model: &'a TorchModel,
    layout: Layout,
    cache: KvCache,
    edits: Edits,
    patches: Patches,
    /// What the adapters add, whose they are, and which row has which.
    overlay: Overlay,
    adapters: Option<&'a Adapters>,
    assigned: Option<Assigned>,
    capture: Capture,
    captured: Vec<Captured>,
}

impl<'a> TorchSession<'a> {
    pub(super) fn new(
        model: &'a TorchModel,
        rows: usize,
        intervention: &Intervention,
        capture: &Capture,
        adapters: Option<&'a Adapters>,
    ) -> Result<Self> {
        model::require_rows(rows)?;
        let decoder = model.decoder();
        let spec = &decoder.spec;
        capture.check(&spec.shape())?;
        let (edits, patches) = model.prepared(intervention)?;
        let assigned = match adapters {
            Some(adapters) => adapters.assigned(rows)?.cloned(),
            None => None,
        };
        Ok(Self {
            model,
            layout: Layout::new(rows),
            cache: KvCache::new(
                spec.layers,
                &spec.attention,
                spec.context_length,
                rows,
                decoder.places.clone(),
            ),
            edits,
            patches,
            overlay: overlay(model, adapters, assigned.as_ref())?,
            adapters,
            assigned,
            capture: capture.clone(),
            captured: Vec::new(),
        })
    }

    pub(super) fn set_soft_prompt(&mut self, prompt: Tensor) {
        self.overlay.set_soft_prompt(prompt);
    }

    /// [`Session::extend`] by chunks that have been checked, perhaps with virtual tokens in them.
    pub(super) fn advance(&mut self, chunks: &[&[u32]]) -> Result<Array2<f32>> {
        let none: Vec<usize> = chunks.iter().map(|chunk| chunk.len()).collect();
        Ok(self.advance_scored(chunks, &none)?.next)
    }

    /// The same, scoring of each chunk the tokens from number `from[row]` on, which has a token before it.
    pub(super) fn advance_scored(&mut self, chunks: &[&[u32]], from: &[usize]) -> Result<Scored> {
        let decoder = self.model.decoder();
        let spec = &decoder.spec;
        let starts = self.layout.lengths();
        self.patches.check(&starts, chunks, true)?;
        let _no_grad = tch::no_grad_guard();
        let lengths: Vec<usize> = chunks.iter().map(|chunk| chunk.len()).collect();
        let (next, step) = self.layout.extended(&lengths);
        let input = Input {
            chunks,
            layout: &next,
            step: &step,
            edits: &self.edits,
            overlay: &self.overlay,
        };
        let mut taps = Taps::new(&self.capture, &self.patches, &spec.shape(), &starts, chunks);
        let last = decoder.forward(&input, Some(&mut self.cache), &mut taps)?;
        let logits = to_array2(&last.newest_logits(decoder)?)?;
        let scores = scores(decoder, &last, (chunks, step.width), from)?;
        let captured = taps.finish()?;
        // Only now: a pass that failed leaves slots that the next one overwrites.
        self.layout = next;
        self.captured = captured;
        Ok(Scored {
            scores,
            next: logits,
        })
    }

    fn check(&self, chunks: &[&[u32]]) -> Result<()> {
        let spec = self.model.spec();
        model::check_chunks(
            chunks,
            &self.layout.lengths(),
            spec.vocab_size,
            Some(spec.context_length),
        )
    }
}

/// Of each of `chunks`, which stand at the right end of `width` positions, the scores of its tokens from `from[row]` on.
fn scores(
    decoder: &Decoder,
    last: &Last,
    (chunks, width): (&[&[u32]], usize),
    from: &[usize],
) -> Result<Vec<Vec<f64>>> {
    let (mut after, mut tokens) = (Vec::new(), Vec::new());
    for (row, (chunk, &from)) in chunks.iter().zip(from).enumerate() {
        let start = row * width + width - chunk.len();
        for (number, &token) in chunk.iter().enumerate().skip(from) {
            after.push((start + number) as i64 - 1);
            tokens.push(token);
        }
    }
    let mut all = last.log_probs(decoder, &after, &tokens)?.into_iter();
    let rows = chunks.iter().zip(from);
    let of_row = rows.map(|(chunk, from)| all.by_ref().take(chunk.len() - from).collect());
    Ok(of_row.collect())
}

/// What `adapters` add to rows so assigned.
fn overlay(
    model: &TorchModel,
    adapters: Option<&Adapters>,
    assigned: Option<&Assigned>,
) -> Result<Overlay> {
    match adapters {
        Some(adapters) => adapters.overlay(assigned, &model.decoder().places),
        None => Ok(Overlay::default()),
    }
}

impl Session for TorchSession<'_> {
    fn rows(&self) -> usize {
        self.layout.rows()
    }

    fn len(&self, row: usize) -> usize {
        self.layout.lengths().get(row).copied().unwrap_or(0)
    }

    fn extend(&mut self, chunks: &[&[u32]]) -> Result<Array2<f32>> {
        self.check(chunks)?;
        self.advance(chunks)
    }

    fn select(&mut self, rows: &[usize]) -> Result<()> {
        model::check_selection(rows, self.layout.rows())?;
        let _no_grad = tch::no_grad_guard();
        let mut changed = None;
        if let Some(assigned) = &self.assigned {
            let picked = rows.iter().filter_map(|&row| assigned.get(row).copied());
            let picked: Assigned = picked.collect();
            changed = Some((overlay(self.model, self.adapters, Some(&picked))?, picked));
        }
        self.cache.select(rows, &self.layout)?;
        if let Some((overlay, picked)) = changed {
            self.overlay = overlay;
            self.assigned = Some(picked);
        }
        self.layout = self.layout.selected(rows);
        Ok(())
    }

    fn rewind(&mut self, lengths: &[usize]) -> Result<()> {
        model::check_rewind(lengths, &self.layout.lengths())?;
        let _no_grad = tch::no_grad_guard();
        let shared = self.cache.shared_slots();
        let cut = self.layout.ends(lengths).iter().any(|end| *end < shared);
        let next = self.layout.rewound(lengths);
        self.cache.rewind(next.slots(), cut)?;
        self.layout = next;
        Ok(())
    }

    fn scoring(&mut self) -> Option<&mut dyn ScoringSession> {
        Some(self)
    }
}

impl ScoringSession for TorchSession<'_> {
    fn extend_scored(&mut self, chunks: &[&[u32]]) -> Result<Scored> {
        self.check(chunks)?;
        self.advance_scored(chunks, &vec![1; chunks.len()])
    }
}

impl OpenSession for TorchSession<'_> {
    fn captured(&self) -> &[Captured] {
        &self.captured
    }
}
