//! A model behind a soft prompt.

use ndarray::{Array1, Array2, Axis};
use tch::{Kind, Tensor};

use super::TorchModel;
use super::host::{from_array2, to_array2};
use super::session::TorchSession;
use crate::adapter::SoftPrompt;
use crate::model::{self, Intervention, LanguageModel, Scored, ScoringSession, Session};
use crate::sites::Capture;
use crate::{Error, Result};

/// A [`TorchModel`] whose every row begins with a [`SoftPrompt`], as a model of its own.
///
/// The virtual tokens count towards the context and the positions, and nowhere else: [`Session::len`] and
/// [`Session::rewind`] speak of a row's own tokens.
#[derive(Debug)]
pub struct SoftPrompted<'a> {
    model: &'a TorchModel,
    prompt: SoftPrompt,
}

impl TorchModel {
    /// The model behind a soft prompt.
    ///
    /// # Errors
    /// A prompt of another width than the model's, or one that leaves no room in its context.
    pub fn with_soft_prompt(&self, prompt: &SoftPrompt) -> Result<SoftPrompted<'_>> {
        check(self, prompt)?;
        Ok(SoftPrompted {
            model: self,
            prompt: prompt.clone(),
        })
    }

    /// A soft prompt of the embeddings of these tokens: before it is trained, it is as good as they are.
    ///
    /// # Errors
    /// No tokens, and ids outside the vocabulary.
    pub fn soft_prompt_of(&self, tokens: &[u32]) -> Result<SoftPrompt> {
        let spec = self.spec();
        model::check_chunks(&[tokens], &[0], spec.vocab_size, Some(spec.context_length))?;
        let _no_grad = tch::no_grad_guard();
        let ids: Vec<i64> = tokens.iter().map(|&id| i64::from(id)).collect();
        let device = self.decoder().places.first().device;
        let ids = Tensor::f_from_slice(&ids)?.f_to_device(device)?;
        SoftPrompt::new(to_array2(
            &self.decoder().embedding.f_index_select(0, &ids)?,
        )?)
    }
}

pub(super) fn check(model: &TorchModel, prompt: &SoftPrompt) -> Result<()> {
    let spec = model.spec();
    let (tokens, width) = prompt.values().dim();
    if width != spec.hidden_size || tokens >= spec.context_length {
        let most = spec.context_length.saturating_sub(1);
        let expected = format!("[1 to {most}, {}]", spec.hidden_size);
        return Err(Error::argument(
            "soft prompt",
            expected,
            format!("[{tokens}, {width}]"),
        ));
    }
    Ok(())
}

/// The ids under which a pass knows `count` virtual tokens: those after the vocabulary.
pub(super) fn ids(model: &TorchModel, count: usize) -> Vec<u32> {
    let first = model.spec().vocab_size;
    let all = (first..first + count).map(u32::try_from);
    all.filter_map(std::result::Result::ok).collect()
}

/// The prompt where the embedding is, `f32`.
pub(super) fn tensor(model: &TorchModel, prompt: &SoftPrompt) -> Result<Tensor> {
    let device = model.decoder().places.first().device;
    from_array2(&prompt.values().view(), Kind::Float, device)
}

/// Rows of `table` by `ids` `[row, position]`, and rows of `prompt` by those beyond it: `[row, position, hidden]`.
pub(super) fn embedded(prompt: &Tensor, table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let sizes = (table.size(), prompt.size());
    let (Some(&vocab), Some(&count)) = (sizes.0.first(), sizes.1.first()) else {
        return Err(Error::argument("soft prompt", "two axes", "none"));
    };
    let plain = Tensor::f_embedding(table, &ids.f_clamp_max(vocab - 1)?, -1, false, false)?;
    let numbers = ids.f_sub_scalar(vocab)?.f_clamp(0, count - 1)?;
    let own = prompt.f_index_select(0, &numbers.f_flatten(0, 1)?)?;
    let own = own.f_to_kind(plain.f_kind()?)?.f_view_as(&plain)?;
    Ok(own.f_where_self(&ids.f_ge(vocab)?.f_unsqueeze(-1)?, &plain)?)
}

impl LanguageModel for SoftPrompted<'_> {
    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    fn next_logits(&self, tokens: &[u32]) -> Result<Array1<f32>> {
        let logits = self.begin(1)?.extend(&[tokens])?;
        Ok(logits.index_axis(Axis(0), 0).to_owned())
    }

    fn context_length(&self) -> Option<usize> {
        let own = self.model.context_length();
        own.map(|length| length.saturating_sub(self.prompt.tokens()))
    }

    fn begin(&self, rows: usize) -> Result<Box<dyn Session + '_>> {
        let (nothing, capture) = (Intervention::none(), Capture::none());
        let mut inner = TorchSession::new(self.model, rows, &nothing, &capture, None)?;
        inner.set_soft_prompt(tensor(self.model, &self.prompt)?);
        Ok(Box::new(SoftSession {
            inner,
            prefix: ids(self.model, self.prompt.tokens()),
            vocab: self.vocab_size(),
            context: self.context_length(),
        }))
    }
}

/// A session whose rows begin with virtual tokens as soon as they hold any.
#[derive(Debug)]
struct SoftSession<'a> {
    inner: TorchSession<'a>,
    prefix: Vec<u32>,
    vocab: usize,
    context: Option<usize>,
}

impl SoftSession<'_> {
    fn lengths(&self) -> Vec<usize> {
        (0..self.rows()).map(|row| self.len(row)).collect()
    }

    /// The chunks with the virtual tokens before those that begin a row, and how many these are.
    fn whole(&self, chunks: &[&[u32]]) -> Result<(Vec<Vec<u32>>, Vec<usize>)> {
        let lengths = self.lengths();
        model::check_chunks(chunks, &lengths, self.vocab, self.context)?;
        let whole = chunks.iter().zip(&lengths);
        let whole = whole.map(|(chunk, &length)| match length {
            0 => ([&self.prefix, *chunk].concat(), self.prefix.len()),
            _ => (chunk.to_vec(), 0),
        });
        Ok(whole.unzip())
    }
}

impl Session for SoftSession<'_> {
    fn rows(&self) -> usize {
        self.inner.rows()
    }

    fn len(&self, row: usize) -> usize {
        self.inner.len(row).saturating_sub(self.prefix.len())
    }

    fn extend(&mut self, chunks: &[&[u32]]) -> Result<Array2<f32>> {
        let (whole, _) = self.whole(chunks)?;
        let whole: Vec<&[u32]> = whole.iter().map(Vec::as_slice).collect();
        self.inner.advance(&whole)
    }

    fn select(&mut self, rows: &[usize]) -> Result<()> {
        self.inner.select(rows)
    }

    fn rewind(&mut self, lengths: &[usize]) -> Result<()> {
        model::check_rewind(lengths, &self.lengths())?;
        let whole: Vec<usize> = lengths
            .iter()
            .map(|&length| match length {
                0 => 0,
                length => length + self.prefix.len(),
            })
            .collect();
        self.inner.rewind(&whole)
    }

    fn scoring(&mut self) -> Option<&mut dyn ScoringSession> {
        Some(self)
    }
}

impl ScoringSession for SoftSession<'_> {
    fn extend_scored(&mut self, chunks: &[&[u32]]) -> Result<Scored> {
        let (whole, before) = self.whole(chunks)?;
        let whole: Vec<&[u32]> = whole.iter().map(Vec::as_slice).collect();
        let from: Vec<usize> = before.iter().map(|before| before + 1).collect();
        self.inner.advance_scored(&whole, &from)
    }
}
