//! Many ablations of one prompt set, sharing all work that is equal.
//!
//! What does not change is not computed again: blocks below the first one that an ablation touches; in that block everything
//! but the heads it changes, whose difference goes through their own columns of the output projection; a beginning that all
//! prompts share, which is read once an ablation and not once a prompt; and, at the end, every position but the last. What is
//! left runs as rows of large batches, ablations of several layers together.
//! [`sweep_plainly`](crate::sweep_plainly) is what it must equal.

use ndarray::{Array2, ArrayView2, s};
use tch::Tensor;

use super::attention::Shared;
use super::decoder::{Block, Decoder, Shares, padded};
use super::edits::{Edits, LayerEdit};
use super::host::to_array2;
use super::layout::Layout;
use super::overlay::Overlay;
use super::prefix::{Owners, Prefix, Stored};
use super::taps::{Patches, Taps};
use crate::Result;
use crate::heads::{AblationKind, HeadAblation};
use crate::kv_heads::KvAblation;
use crate::model::ModelShape;
use crate::sites::Capture;
use crate::spec::LayerPart;

/// Tokens that run through a block together, unless one ablation of one prompt has more.
const TOKENS_AT_ONCE: usize = 1024;
/// Residuals of the model as it is that may be kept, in bytes; beyond that only those of every n-th layer are, and the others
/// are computed again.
const KEPT_BYTES: usize = 1 << 30;
/// The shortest common beginning worth a stage of its own.
const SHORTEST_PREFIX: usize = 4;

/// See [`OpenModel::sweep`](crate::OpenModel::sweep); prompts and ablations must have been checked, and the overlay be for all
/// rows.
pub(super) fn sweep(
    decoder: &Decoder,
    prompts: &[&[u32]],
    ablations: &[HeadAblation],
    overlay: &Overlay,
    found: &mut dyn FnMut(usize, ArrayView2<'_, f32>) -> Result<()>,
) -> Result<()> {
    let still = Still {
        edits: &Edits::default(),
        overlay,
    };
    let sweep = Sweep::new(decoder, prompts, still)?;
    let layers = decoder.spec.layers;
    let entries: Vec<Entry<'_>> = ablations
        .iter()
        .map(|ablation| Entry::new(ablation, layers))
        .collect();
    let mut next = 0;
    while let Some(first) = entries.get(next) {
        // Results come in order, so what runs together stands together, each no deeper than the one after it.
        let mut count = 1;
        if !first.goes_deeper {
            let mut before = first.layer;
            for entry in entries.iter().skip(next + 1).take(sweep.at_once() - 1) {
                if entry.goes_deeper || entry.layer < before {
                    break;
                }
                before = entry.layer;
                count += 1;
            }
        }
        let chunk = entries.get(next..next + count).unwrap_or_default();
        for (offset, logits) in sweep.chunk(chunk)?.iter().enumerate() {
            found(next + offset, logits.view())?;
        }
        next += count;
    }
    Ok(())
}

/// An ablation and where it begins.
struct Entry<'a> {
    ablation: &'a HeadAblation,
    /// The first layer it changes; the number of layers if it changes nothing.
    layer: usize,
    /// Whether it changes later layers as well.
    goes_deeper: bool,
}

impl<'a> Entry<'a> {
    fn new(ablation: &'a HeadAblation, layers: usize) -> Self {
        let touched = || ablation.edits().iter().map(|edit| edit.head.layer);
        let layer = touched().min().unwrap_or(layers);
        Self {
            ablation,
            layer,
            goes_deeper: touched().any(|other| other != layer),
        }
    }
}

/// What is the same under every ablation.
#[derive(Clone, Copy)]
struct Still<'a> {
    /// None.
    edits: &'a Edits,
    overlay: &'a Overlay,
}

/// Keys and values of the common beginning at one layer.
type Keys = (Tensor, Tensor);

struct Sweep<'a> {
    decoder: &'a Decoder,
    /// The common beginning of all prompts.
    beginning: Option<Beginning<'a>>,
    /// The prompts, or what follows, some rows at a time.
    blocks: Vec<Stream<'a>>,
}

struct Beginning<'a> {
    stream: Stream<'a>,
    /// Of the model as it is, by layer.
    keys: Vec<Keys>,
}

/// How much of a block's result is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Every,
    /// Only the last position's.
    Last,
    /// Only keys and values.
    Keys,
}

impl<'a> Sweep<'a> {
    fn new(decoder: &'a Decoder, prompts: &[&[u32]], still: Still<'a>) -> Result<Self> {
        let common = common_beginning(prompts);
        let rotary = decoder.rotary.first();
        let by_length = [&rotary.plain, &rotary.windowed]
            .into_iter()
            .flatten()
            .any(super::rotary::Rotary::depends_on_length);
        let shared = if prompts.len() > 1 && common >= SHORTEST_PREFIX && !by_length {
            common
        } else {
            0
        };
        let spec = &decoder.spec;
        let bytes: usize = prompts
            .iter()
            .map(|prompt| prompt.len() - shared)
            .sum::<usize>()
            * spec.hidden_size
            * decoder.places.first().kind.elt_size_in_bytes()
            * (spec.layers + 1);
        let stride = bytes.div_ceil(KEPT_BYTES).max(1);
        let beginning = match prompts.first() {
            Some(first) if shared > 0 => {
                let tokens = first.get(..shared).unwrap_or_default();
                let (stream, keys) = Stream::new(decoder, &[tokens], 0, None, 1, still)?;
                Some(Beginning { stream, keys })
            }
            _ => None,
        };
        let mut blocks = Vec::new();
        let mut rest: Vec<&[u32]> = Vec::new();
        let mut longest = 0;
        let prefix = beginning
            .as_ref()
            .map(|beginning| beginning.keys.as_slice());
        for prompt in prompts {
            let own = prompt.get(shared..).unwrap_or_default();
            longest = longest.max(own.len());
            if !rest.is_empty() && longest * (rest.len() + 1) > TOKENS_AT_ONCE {
                blocks.push(Stream::new(decoder, &rest, shared, prefix, stride, still)?.0);
                rest.clear();
                longest = own.len();
            }
            rest.push(own);
        }
        blocks.push(Stream::new(decoder, &rest, shared, prefix, stride, still)?.0);
        Ok(Self {
            decoder,
            beginning,
            blocks,
        })
    }

    /// Ablations that run together.
    fn at_once(&self) -> usize {
        let tokens = |stream: &Stream<'_>| stream.rows * stream.width;
        let widest = self.blocks.iter().map(tokens).max().unwrap_or(1);
        let beginning = self.beginning.as_ref().map_or(0, |own| tokens(&own.stream));
        (TOKENS_AT_ONCE / (widest + beginning).max(1)).max(1)
    }

    /// Next-token logits `[prompt, vocab]` for each ablation.
    fn chunk(&self, chunk: &[Entry<'_>]) -> Result<Vec<Array2<f32>>> {
        let spec = &self.decoder.spec;
        // Edits of later layers, which only an ablation that runs alone has.
        let edits = match chunk {
            [entry] if entry.goes_deeper => Edits::new(
                entry.ablation,
                &KvAblation::none(),
                spec,
                &self.decoder.places,
            )?,
            _ => Edits::default(),
        };
        let keys = match &self.beginning {
            Some(Beginning { stream, .. }) => {
                Some(self.pass(stream, chunk, None, &edits, Want::Keys)?.1)
            }
            None => None,
        };
        let prompts = self.blocks.iter().map(|block| block.rows).sum();
        let mut all = vec![Array2::zeros((prompts, spec.vocab_size)); chunk.len()];
        let mut first = 0;
        for block in &self.blocks {
            let (states, _) = self.pass(block, chunk, keys.as_deref(), &edits, Want::Last)?;
            let rows = block.rows;
            if let Some(states) = states {
                for (index, all) in all.iter_mut().enumerate() {
                    let own = states.f_narrow(0, (index * rows) as i64, rows as i64)?;
                    let logits = to_array2(&self.decoder.logits(&own.f_select(1, -1)?)?)?;
                    all.slice_mut(s![first..first + rows, ..]).assign(&logits);
                }
            }
            first += rows;
        }
        Ok(all)
    }

    /// The states of `stream` after the last block under each ablation, `[ablation · row, position, hidden]`, and keys and
    /// values of each layer for the ablations that began below it.
    fn pass(
        &self,
        stream: &Stream<'_>,
        chunk: &[Entry<'_>],
        beginning: Option<&[Option<Keys>]>,
        edits: &Edits,
        end: Want,
    ) -> Result<(Option<Tensor>, Vec<Option<Keys>>)> {
        let layers = self.decoder.spec.layers;
        let start = chunk.first().map_or(layers, |entry| entry.layer);
        let base = self.beginning.as_ref().filter(|_| beginning.is_some());
        let mut keys: Vec<Option<Keys>> = (0..start).map(|_| None).collect();
        let mut states: Option<Tensor> = None;
        let mut running = 0;
        for layer in start..layers {
            let want = if layer + 1 == layers {
                end
            } else {
                Want::Every
            };
            let mut parts: Vec<Tensor> = Vec::new();
            let mut own_keys = None;
            if let Some(x) = &states {
                let prefix = beginning.and_then(|keys| keys.get(layer)?.as_ref());
                let step = Step {
                    decoder: self.decoder,
                    layer,
                    stream,
                    times: running,
                    prefix,
                    want,
                };
                let (next, found) = step.on(x, edits.of(layer))?;
                own_keys = Some(found);
                parts.extend(next);
            }
            let begun: Vec<&HeadAblation> = chunk
                .iter()
                .filter(|entry| entry.layer == layer)
                .map(|entry| entry.ablation)
                .collect();
            if !begun.is_empty() && want != Want::Keys {
                let step = Step {
                    decoder: self.decoder,
                    layer,
                    stream,
                    times: 1,
                    prefix: base.and_then(|base| base.keys.get(layer)),
                    want,
                };
                parts.push(step.begin(&stream.at(self.decoder, layer, base)?, &begun)?);
            }
            running += begun.len();
            keys.push(own_keys);
            states = match parts.len() {
                0 => None,
                1 => parts.pop(),
                _ => Some(Tensor::f_cat(&parts, 0)?),
            };
        }
        // What an ablation of nothing leaves.
        let unchanged = chunk.iter().filter(|entry| entry.layer == layers).count();
        if unchanged > 0 && end == Want::Last {
            let x = last_position(&stream.at(self.decoder, layers, base)?)?;
            let plain = x.f_repeat([unchanged as i64, 1, 1])?;
            states = Some(match states {
                Some(states) => Tensor::f_cat(&[states, plain], 0)?,
                None => plain,
            });
        }
        Ok((states, keys))
    }
}

/// Rows that are read together, and their residuals in the model as it is.
struct Stream<'a> {
    rows: usize,
    /// Positions of a row, pads at the left included.
    width: usize,
    /// What attention is told.
    shared: Shares<'a>,
    /// Whether a common beginning stands before the rows.
    follows: bool,
    /// Residuals before some of the layers, `[row, position, hidden]`, where the layer before is.
    residuals: Vec<(usize, Tensor)>,
}

impl<'a> Stream<'a> {
    /// `chunks` after `start` tokens that they have in common, whose keys and values are `beginning`. Keeps the residuals
    /// of every `stride`-th layer; returns its keys and values by layer if nothing stands before it.
    fn new(
        decoder: &'a Decoder,
        chunks: &[&[u32]],
        start: usize,
        beginning: Option<&[Keys]>,
        stride: usize,
        still: Still<'a>,
    ) -> Result<(Self, Vec<Keys>)> {
        let rows = chunks.len();
        let mut before = Layout::new(1);
        if start > 0 {
            before = before.extended(&[start]).0;
        }
        let lengths: Vec<usize> = chunks.iter().map(|chunk| chunk.len()).collect();
        let (layout, step) = before.selected(&vec![0; rows]).extended(&lengths);
        let width = step.width;
        let positions = decoder.on_first(&step.positions, width)?;
        let owners = Owners::even(1, rows);
        // The join of two sets of keys is a kernel of the CPU.
        let joins = start > 0 && decoder.places.on_cpu();
        let shared_keys = joins.then_some((&owners, start));
        let fixed = (still.edits, still.overlay);
        let shared = decoder.shared(&layout, &step, &positions, shared_keys, fixed)?;
        let mut stream = Self {
            rows,
            width,
            shared,
            follows: start > 0,
            residuals: Vec::new(),
        };
        let ids = decoder.on_first(&padded(chunks, width), width)?;
        let mut x = decoder.embed(&ids, &positions, still.overlay)?;
        let mut keys = Vec::new();
        for layer in 0..decoder.spec.layers {
            if layer % stride == 0 {
                stream.residuals.push((layer, x.shallow_clone()));
            }
            let step = Step {
                decoder,
                layer,
                stream: &stream,
                times: 1,
                prefix: beginning.and_then(|keys| keys.get(layer)),
                want: Want::Every,
            };
            let (next, own) = step.on(&x, None)?;
            if !stream.follows {
                keys.push(own);
            }
            if let Some(next) = next {
                x = next;
            }
        }
        stream.residuals.push((decoder.spec.layers, x));
        Ok((stream, keys))
    }

    /// The residual before `layer`.
    fn at(&self, decoder: &Decoder, layer: usize, base: Option<&Beginning<'_>>) -> Result<Tensor> {
        let kept = self
            .residuals
            .iter()
            .rev()
            .find(|(known, _)| *known <= layer);
        let Some((from, x)) = kept else {
            return Err(crate::Error::argument("layer", "one of the model's", layer));
        };
        let mut x = x.shallow_clone();
        for layer in *from..layer {
            let step = Step {
                decoder,
                layer,
                stream: self,
                times: 1,
                prefix: base.and_then(|base| base.keys.get(layer)),
                want: Want::Every,
            };
            if let (Some(next), _) = step.on(&x, None)? {
                x = next;
            }
        }
        Ok(x)
    }
}

/// One block for `times` versions of a stream's rows.
struct Step<'a> {
    decoder: &'a Decoder,
    layer: usize,
    stream: &'a Stream<'a>,
    times: usize,
    /// Keys and values of the common beginning, one for each version.
    prefix: Option<&'a Keys>,
    want: Want,
}

impl Step<'_> {
    /// `x`: `[version · row, position, hidden]`. Returns what is wanted of the block's result, and keys and values.
    fn on(&self, x: &Tensor, edit: Option<&LayerEdit>) -> Result<(Option<Tensor>, Keys)> {
        let block = self.block()?;
        let attention = &block.attention;
        let (shared, of_asked) = self.shared()?;
        let x = &self.decoder.places.entered(self.layer, x.shallow_clone())?;
        let normed = block.read(x, shared.overlay)?;
        let read = normed.as_ref().unwrap_or(x);
        let (mut key, mut value) = attention.keys_and_values(self.layer, read, &shared)?;
        if self.want == Want::Keys && edit.is_none() {
            return Ok((None, (key, value)));
        }
        let (x, read) = (self.asked(x)?, self.asked(read)?);
        let mut query = attention.queries(self.layer, &read, &of_asked)?;
        if let Some(edit) = edit {
            [query, key, value] = edit.inputs([query, key, value])?;
        }
        let keys = (key.shallow_clone(), value.shallow_clone());
        if self.want == Want::Keys {
            return Ok((None, keys));
        }
        let owners = Owners::even(self.times, self.stream.rows);
        let stored = self.stored(key, value, &owners);
        let heads = attention.heads(&query, &stored, &of_asked, edit)?;
        let attended = attention.projected(self.layer, &heads, &of_asked)?;
        let next = self.after(block, (&x, &read), attended, of_asked.overlay)?;
        Ok((Some(next), keys))
    }

    /// The block's result for each of `ablations`, which begin here, from the residual `x` of the model as it is.
    fn begin(&self, x: &Tensor, ablations: &[&HeadAblation]) -> Result<Tensor> {
        let block = self.block()?;
        let attention = &block.attention;
        let (shared, of_asked) = self.shared()?;
        let x = &self.decoder.places.entered(self.layer, x.shallow_clone())?;
        let normed = block.read(x, shared.overlay)?;
        let read = normed.as_ref().unwrap_or(x);
        let (key, value) = attention.keys_and_values(self.layer, read, &shared)?;
        let (x, read) = (self.asked(x)?, self.asked(read)?);
        let query = attention.queries(self.layer, &read, &of_asked)?;
        let owners = Owners::even(1, self.stream.rows);
        let stored = self.stored(key, value, &owners);
        let heads = attention.heads(&query, &stored, &of_asked, None)?;
        let attended = attention.projected(self.layer, &heads, &of_asked)?;
        let mut all = Vec::with_capacity(ablations.len());
        for ablation in ablations {
            let changes = by_head(ablation, self.layer);
            let sum = match changes.as_slice() {
                // A norm would blow up what rounding leaves of a sum that should cancel.
                [(head, kinds)]
                    if block.attention_post_norm.is_none()
                        && !of_asked.overlay.is_on(self.layer, LayerPart::Output) =>
                {
                    let changed = self.changed(&query, &stored, &of_asked, &heads, *head, kinds)?;
                    let difference = changed.f_sub(&heads.f_select(1, *head as i64)?)?;
                    let dim = attention.spec.head_dim as i64;
                    let columns = attention
                        .output
                        .weight
                        .f_narrow(1, *head as i64 * dim, dim)?;
                    let none: Option<&Tensor> = None;
                    attended.f_add(&difference.f_linear(&columns, none)?)?
                }
                _ => {
                    let mut own = heads.f_unbind(1)?;
                    for (head, kinds) in &changes {
                        if let Some(slot) = own.get_mut(*head) {
                            *slot =
                                self.changed(&query, &stored, &of_asked, &heads, *head, kinds)?;
                        }
                    }
                    attention.projected(self.layer, &Tensor::f_stack(&own, 1)?, &of_asked)?
                }
            };
            all.push(sum);
        }
        let attended = Tensor::f_cat(&all, 0)?;
        let spread = |x: &Tensor| x.f_repeat([ablations.len() as i64, 1, 1]);
        self.after(
            block,
            (&spread(&x)?, &spread(&read)?),
            attended,
            of_asked.overlay,
        )
    }

    /// Output of one changed head, `[row, position, head_dim]`.
    fn changed(
        &self,
        query: &Tensor,
        stored: &Stored<'_>,
        shared: &Shared<'_>,
        heads: &Tensor,
        head: usize,
        kinds: &[AblationKind],
    ) -> Result<Tensor> {
        let block = self.block()?;
        let kv_head = (head / block.attention.group()) as i64;
        let of_kv = |x: &Tensor| x.f_narrow(1, kv_head, 1);
        let mut asks = None;
        let mut uniform = false;
        let mut factor = None;
        if kinds.contains(&AblationKind::MeanQuery) {
            asks = Some(query.f_mean_dim(1, true, query.f_kind()?)?);
        }
        for kind in kinds {
            match *kind {
                AblationKind::Undifferentiated { epsilon: 0.0 } => uniform = true,
                AblationKind::Undifferentiated { epsilon } => {
                    let own = match asks {
                        Some(asks) => asks,
                        None => query.f_narrow(1, head as i64, 1)?,
                    };
                    let epsilon = Tensor::f_from_slice(&[epsilon])?
                        .f_to_kind(query.f_kind()?)?
                        .f_to_device(query.device())?;
                    asks = Some(own.f_mul(&epsilon)?);
                }
                AblationKind::Contribution { factor: by } => factor = Some(by),
                AblationKind::MeanQuery => {}
            }
        }
        let mut output = if uniform {
            let values = of_kv(&stored.values()?)?;
            shared.mask.means(&values, query.size4()?.2)?
        } else if let Some(asks) = asks {
            let keys = (of_kv(&stored.key)?, of_kv(&stored.value)?);
            let shared_keys = stored
                .prefix
                .map(|prefix| -> Result<_> {
                    Ok((of_kv(prefix.key)?, of_kv(prefix.value)?, prefix.owners))
                })
                .transpose()?;
            let own = Stored {
                key: keys.0,
                value: keys.1,
                prefix: shared_keys.as_ref().map(|(key, value, owners)| Prefix {
                    key,
                    value,
                    owners,
                }),
            };
            block.attention.attend_stored(&asks, &own, shared)?
        } else {
            heads.f_narrow(1, head as i64, 1)?
        };
        if let Some(factor) = factor {
            let factor = Tensor::f_from_slice(&[factor])?
                .f_to_kind(query.f_kind()?)?
                .f_to_device(query.device())?;
            output = output.f_mul(&factor)?;
        }
        Ok(output.f_squeeze_dim(1)?)
    }

    fn block(&self) -> Result<&Block> {
        let block = self.decoder.blocks.get(self.layer);
        block.ok_or_else(|| crate::Error::argument("layer", "one of the model's", self.layer))
    }

    /// What attention is told, for all positions and for those that are asked about.
    fn shared(&self) -> Result<(Shared<'_>, Shared<'_>)> {
        let shared = self.stream.shared.of(self.decoder, self.layer)?;
        let all = shared.repeated(self.times as i64)?;
        let asked = match self.want {
            Want::Last => all.of_last()?,
            Want::Every | Want::Keys => all.repeated(1)?,
        };
        Ok((all, asked))
    }

    fn asked(&self, x: &Tensor) -> Result<Tensor> {
        match self.want {
            Want::Last => last_position(x),
            Want::Every | Want::Keys => Ok(x.shallow_clone()),
        }
    }

    fn stored<'s>(&'s self, key: Tensor, value: Tensor, owners: &'s Owners) -> Stored<'s> {
        Stored {
            key,
            value,
            prefix: self
                .prefix
                .map(|(key, value)| Prefix { key, value, owners }),
        }
    }

    fn after(
        &self,
        block: &Block,
        from: (&Tensor, &Tensor),
        attended: Tensor,
        overlay: &Overlay,
    ) -> Result<Tensor> {
        let (capture, patches) = (Capture::none(), Patches::default());
        let shape: ModelShape = self.decoder.spec.shape();
        let mut taps = Taps::new(&capture, &patches, &shape, &[], &[]);
        block.after_attention(self.layer, from, attended, overlay, &mut taps)
    }
}

/// The heads of `layer` that an ablation changes, and how.
fn by_head(ablation: &HeadAblation, layer: usize) -> Vec<(usize, Vec<AblationKind>)> {
    let mut heads: Vec<(usize, Vec<AblationKind>)> = Vec::new();
    for edit in ablation
        .edits()
        .iter()
        .filter(|edit| edit.head.layer == layer)
    {
        match heads.iter_mut().find(|(head, _)| *head == edit.head.head) {
            Some((_, kinds)) => kinds.push(edit.kind),
            None => heads.push((edit.head.head, vec![edit.kind])),
        }
    }
    heads
}

fn last_position(x: &Tensor) -> Result<Tensor> {
    let (_, width, _) = x.size3()?;
    Ok(x.f_narrow(1, width - 1, 1)?)
}

/// Tokens that all prompts begin with, leaving at least one of each.
fn common_beginning(prompts: &[&[u32]]) -> usize {
    let Some((first, others)) = prompts.split_first() else {
        return 0;
    };
    let shared = others.iter().map(|other| {
        let pairs = first.iter().zip(*other);
        pairs.take_while(|(one, other)| one == other).count()
    });
    let shortest = prompts.iter().map(|prompt| prompt.len()).min().unwrap_or(0);
    shared.min().unwrap_or(0).min(shortest.saturating_sub(1))
}
