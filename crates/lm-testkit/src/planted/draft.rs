//! A tiny llama of noise, into which heads and neurons are planted.

use serde_json::json;

use super::CONTEXT;
use crate::{TinyLlama, TinyModel};

/// The residual dimension that is the same at every token. In a [`Form`] it stands for the number 1.
pub(super) const BIAS: usize = 0;
/// Width of a head.
pub(super) const HEAD_DIM: usize = 16;
/// The slowest pair of a head's dimensions: `PAIR` and `PAIR + HEAD_DIM / 2`.
pub(super) const PAIR: usize = HEAD_DIM / 2 - 1;
/// A score at which one match outweighs a whole context: e²⁰ is a million times 512.
pub(super) const CERTAIN: f32 = 20.0;

/// By how much the norms divide.
const SCALE: f32 = 16.0;
const ROTARY_BASE: f64 = 1e7;
/// Of the random blocks' output.
const NOISE: f32 = 0.3;
/// Of the random queries, so that the other heads attend unevenly and making them uniform does something.
const QUERY_NOISE: f32 = 8.0;
/// Of the random unembedding, so that unplanted logits stay within a few tenths of 0.
const LOGIT_NOISE: f32 = 0.25;
/// Height of a [`Draft::step`]'s gate between its two ends: SiLU is straight up to 3 parts in 10,000 there.
const STEEPNESS: f32 = 8.0;

/// `Σ factor · residual[dimension]`, as it is read through a norm.
pub(super) type Form<'a> = &'a [(usize, f32)];

/// What a planted head looks for: a term of its scores.
pub(super) struct Search<'a> {
    /// Which pair of the head's dimensions.
    pub(super) pair: usize,
    /// The score where `key` is 1 and the angle is 0.
    pub(super) strength: f32,
    /// What is read at the key's position.
    pub(super) key: Form<'a>,
    /// The key's direction in the pair, `(cos φ, sin φ)`: at a distance of `n` tokens the score is
    /// `strength · key · cos(n ω - φ)` with the pair's `ω`.
    pub(super) direction: (f32, f32),
}

impl<'a> Search<'a> {
    /// Looks for `key` wherever it stands.
    pub(super) fn content(strength: f32, key: Form<'a>) -> Self {
        Self {
            pair: PAIR,
            strength,
            key,
            direction: (1.0, 0.0),
        }
    }
}

/// Radians by which a pair turns at each token.
pub(super) fn turn(pair: usize) -> f64 {
    ROTARY_BASE.powf(-2.0 * pair as f64 / HEAD_DIM as f64)
}

pub(super) struct Draft {
    sizes: TinyLlama,
    model: TinyModel,
}

impl Draft {
    /// Noise of these sizes that leaves the residual dimensions `1..=features` alone. The width of heads, the context and
    /// the untied unembedding are the same for all planted models.
    #[track_caller]
    pub(super) fn new(mut sizes: TinyLlama, features: usize) -> Self {
        assert!(
            sizes.kv_heads > 0 && sizes.heads.is_multiple_of(sizes.kv_heads),
            "{} KV heads don't divide {} heads",
            sizes.kv_heads,
            sizes.heads
        );
        (sizes.head_dim, sizes.context, sizes.tied) = (HEAD_DIM, CONTEXT, false);
        let mut model = sizes.build();
        model.config["rope_parameters"]["rope_theta"] = json!(ROTARY_BASE);
        let mut draft = Self { sizes, model };
        let (bias, read) = (draft.bias(), draft.reading());
        let is_feature = |dimension: usize| (1..=features).contains(&dimension);
        for (name, tensor) in &mut draft.model.tensors {
            let columns = tensor.shape.get(1).copied().unwrap_or(1);
            for (index, value) in tensor.values.iter_mut().enumerate() {
                let (row, column) = (index / columns, index % columns);
                let noise = *value;
                *value = match name.as_str() {
                    "model.embed_tokens.weight" if column == BIAS => bias,
                    "model.embed_tokens.weight" if is_feature(column) => 0.0,
                    "model.embed_tokens.weight" => noise,
                    "lm_head.weight" if column == BIAS || is_feature(column) => 0.0,
                    "lm_head.weight" => LOGIT_NOISE * noise * read(column),
                    name if name.contains("norm") => 1.0,
                    name if name.contains("o_proj") || name.contains("down_proj") => {
                        if row == BIAS || is_feature(row) {
                            0.0
                        } else {
                            NOISE * noise
                        }
                    }
                    _ if is_feature(column) => 0.0,
                    name if name.contains("q_proj") => QUERY_NOISE * noise * read(column),
                    _ => noise * read(column),
                };
            }
        }
        draft
    }

    /// The constant in dimension [`BIAS`].
    pub(super) fn bias(&self) -> f32 {
        SCALE * (self.sizes.hidden_size as f32).sqrt()
    }

    /// By dimension, the weight that reads a residual of 1, or the bias as 1, through a norm.
    fn reading(&self) -> impl Fn(usize) -> f32 + use<> {
        let (bias, other) = (1.0 / (self.sizes.hidden_size as f32).sqrt(), SCALE);
        move |dimension| if dimension == BIAS { bias } else { other }
    }

    /// Marks `token` with `value` in `dimension`.
    pub(super) fn embed(&mut self, token: u32, dimension: usize, value: f32) {
        let row = token as usize;
        self.set("model.embed_tokens.weight", row, dimension, value);
    }

    /// Adds `form` to the logit of `token`.
    pub(super) fn unembed(&mut self, token: u32, form: Form<'_>) {
        let read = self.reading();
        for &(dimension, factor) in form {
            let value = factor * read(dimension);
            self.set("lm_head.weight", token as usize, dimension, value);
        }
    }

    /// Plants a head that attends by `searches` and adds `factor · form`, averaged by its attention, to the dimension `to`
    /// for each `(form, to, factor)` of `moves`. Nothing is left of its noise; heads that share its key and value keep theirs.
    #[track_caller]
    pub(super) fn head(
        &mut self,
        (layer, head): (usize, usize),
        searches: &[Search<'_>],
        moves: &[(Form<'_>, usize, f32)],
    ) {
        let TinyLlama {
            layers,
            heads,
            kv_heads,
            ..
        } = self.sizes;
        assert!(
            layer < layers && head < heads,
            "no head {layer}-{head} in {layers} layers of {heads} heads"
        );
        let part = |name: &str| format!("model.layers.{layer}.self_attn.{name}_proj.weight");
        let (query, key, value, output) = (part("q"), part("k"), part("v"), part("o"));
        let first = head * HEAD_DIM;
        let first_key = head / (heads / kv_heads) * HEAD_DIM;
        for index in 0..HEAD_DIM {
            self.fill_row(&query, first + index, &[], 1.0);
            for row in 0..self.sizes.hidden_size {
                self.set(&output, row, first + index, 0.0);
            }
        }
        let scale = (HEAD_DIM as f32).sqrt();
        for search in searches {
            let strength = [(BIAS, scale * search.strength)];
            self.fill_row(&query, first + search.pair, &strength, 1.0);
            let (cosine, sine) = search.direction;
            let row = first_key + search.pair;
            self.fill_row(&key, row, search.key, cosine);
            self.fill_row(&key, row + HEAD_DIM / 2, search.key, sine);
        }
        for (index, &(form, to, factor)) in moves.iter().enumerate() {
            self.fill_row(&value, first_key + index, form, 1.0);
            self.set(&output, to, first + index, factor);
        }
    }

    /// Plants the neuron `neuron` of the MLP of `layer`: adds `factor · SiLU(gate) · up` to each `(dimension, factor)` of `to`.
    pub(super) fn neuron(
        &mut self,
        (layer, neuron): (usize, usize),
        gate: Form<'_>,
        up: Form<'_>,
        to: Form<'_>,
    ) {
        let part = |name: &str| format!("model.layers.{layer}.mlp.{name}_proj.weight");
        self.fill_row(&part("gate"), neuron, gate, 1.0);
        self.fill_row(&part("up"), neuron, up, 1.0);
        let down = part("down");
        for row in 0..self.sizes.hidden_size {
            self.set(&down, row, neuron, 0.0);
        }
        for &(dimension, factor) in to {
            self.set(&down, dimension, neuron, factor);
        }
    }

    /// Plants the neurons `neuron` and `neuron + 1`, which add `factor · step(of) · times` to each `(dimension, factor)` of
    /// `to`. `step` is 0 at and below `low`, 1 at and above `high` and straight between, within 0.035 near its ends:
    /// `step(x) = (SiLU(8 (x - low) / w) - SiLU(8 (x - high) / w)) / 8` with `w = high - low`.
    pub(super) fn step(
        &mut self,
        (layer, neuron): (usize, usize),
        of: Form<'_>,
        (low, high): (f32, f32),
        times: Form<'_>,
        to: Form<'_>,
    ) {
        let slope = STEEPNESS / (high - low);
        for (index, (end, sign)) in [(low, 1.0), (high, -1.0)].into_iter().enumerate() {
            let mut gate: Vec<(usize, f32)> = of.iter().map(|&(d, f)| (d, slope * f)).collect();
            gate.push((BIAS, -slope * end));
            let to: Vec<(usize, f32)> =
                to.iter().map(|&(d, f)| (d, sign * f / STEEPNESS)).collect();
            self.neuron((layer, neuron + index), &gate, times, &to);
        }
    }

    pub(super) fn finish(self) -> TinyModel {
        self.model
    }

    /// Makes a row of a projection read `factor · form` and nothing else.
    fn fill_row(&mut self, name: &str, row: usize, form: Form<'_>, factor: f32) {
        let read = self.reading();
        for dimension in 0..self.sizes.hidden_size {
            self.set(name, row, dimension, 0.0);
        }
        for &(dimension, own) in form {
            self.set(name, row, dimension, factor * own * read(dimension));
        }
    }

    fn set(&mut self, name: &str, row: usize, column: usize, value: f32) {
        let tensor = self.model.tensor_mut(name);
        let columns = tensor.shape[1];
        tensor.values[row * columns + column] = value;
    }
}
