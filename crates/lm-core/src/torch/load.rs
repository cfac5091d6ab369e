//! From a checkpoint to weights on a device, each tensor moved once.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::attention::Attention;
use super::decoder::{Block, Decoder, Rotaries};
use super::frozen::Frozen;
use super::layers::{Linear, Mlp, Norm};
use super::options::{Dtype, LoadOptions};
use super::rotary::Rotary;
use super::stages::{ByStage, Place};
use crate::family::Transform;
use crate::spec::{DecoderSpec, LayerPart, Part, RotarySpec};
use crate::weights::{Checkpoint, StoredTensor, StoredType};
use crate::{Error, Result};

/// Reads every weight. On the CPU and in the stored dtype the tensors are views of the mapped file, so `checkpoint` must
/// outlive the decoder: [`super::TorchModel`] keeps both and drops the decoder first.
pub(super) fn decoder(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Decoder> {
    let layers = checkpoint.spec().layers;
    let places = ByStage::find(&options.placement, layers, options.dtype)?;
    placed(checkpoint, options, places)
}

/// The same, wherever runs of layers are to be.
pub(super) fn placed(
    checkpoint: &Checkpoint,
    options: &LoadOptions,
    places: ByStage<Place>,
) -> Result<Decoder> {
    let _no_grad = tch::no_grad_guard();
    let loader = Loader {
        checkpoint,
        dtype: options.dtype,
        places,
        check_finite: options.check_finite,
    };
    let spec = checkpoint.spec();
    let parts = spec.parts();
    // On a pool that ends with the loading. OpenMP gives each thread that calls an operator a team of its own and keeps it
    // as long as the thread lives; with more of them than processors, its threads sleep between two operators instead of
    // spinning for some microseconds, and every later step of the process is slower.
    let pool = rayon::ThreadPoolBuilder::new()
        .build()
        .map_err(|error| Error::Engine {
            engine: "rayon".to_owned(),
            source: Box::new(error),
        })?;
    let loaded = pool.install(|| {
        parts
            .par_iter()
            .map(|&part| loader.load(part))
            .collect::<Result<Vec<_>>>()
    })?;
    drop(pool);
    assemble(spec, parts.into_iter().zip(loaded).collect(), &loader)
}

struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    dtype: Dtype,
    places: ByStage<Place>,
    check_finite: bool,
}

impl Loader<'_> {
    fn load(&self, part: Part) -> Result<Tensor> {
        // The guard is per thread, and this runs on the pool.
        let _no_grad = tch::no_grad_guard();
        let source = self.checkpoint.source(part);
        let stored = self.checkpoint.stored(&source)?;
        let shape = self.checkpoint.spec().part_shape(part);
        let plain = plain_kind(&stored.ty).zip(source.transform.contiguous());
        let tensor = match plain {
            Some((kind, rows)) => self.view(&wanted_rows(&stored, &shape, rows), kind)?,
            None => self.dequantized(part, &source.name, &stored, &source.transform, &shape)?,
        };
        if self.check_finite {
            self.require_finite(part, &source.name, &tensor)?;
        }
        let mut place = self.place(part);
        if self.checkpoint.spec().stays_f32(part) {
            place.kind = Kind::Float;
        }
        let kind = place.kind;
        // One call moves and converts; a view in the right kind on the CPU passes as it is.
        let moved = place.take(&tensor)?;
        if self.check_finite && kind != Kind::Float && tensor.f_kind()? != kind {
            self.require_holds(&source.name, &moved)?;
        }
        Ok(moved)
    }

    /// Where a weight is to be.
    fn place(&self, part: Part) -> Place {
        *match part {
            Part::Layer(layer, _) => self.places.of(layer),
            Part::Embedding | Part::Positions => self.places.first(),
            Part::FinalNorm | Part::FinalNormBias | Part::Unembedding | Part::UnembeddingBias => {
                self.places.last()
            }
        }
    }

    /// The stored bytes as a tensor, without a copy where their alignment allows.
    fn view(&self, stored: &StoredTensor<'_>, kind: Kind) -> Result<Tensor> {
        let size: Vec<i64> = stored.shape.iter().map(|&extent| extent as i64).collect();
        let element = kind.elt_size_in_bytes();
        let expected = stored.shape.iter().product::<usize>() * element;
        if stored.bytes.len() != expected {
            // The readers check this; from_blob would read whatever lies behind.
            return Err(Error::argument(
                "tensor bytes",
                expected.to_string(),
                stored.bytes.len(),
            ));
        }
        if !stored.bytes.as_ptr().addr().is_multiple_of(element) {
            return Ok(Tensor::f_from_data_size(stored.bytes, &size, kind)?);
        }
        let mut strides = vec![1_i64; size.len()];
        for axis in (1..size.len()).rev() {
            strides[axis - 1] = strides[axis] * size[axis];
        }
        // SAFETY: pointer, length and alignment were just checked, any bits are valid numbers, and the mapped file outlives
        // the tensor: `TorchModel` owns the checkpoint and drops the decoder before it. Nothing writes through the tensor.
        Ok(unsafe {
            Tensor::f_from_blob(stored.bytes.as_ptr(), &size, &strides, kind, Device::Cpu)
        }?)
    }

    fn dequantized(
        &self,
        part: Part,
        name: &str,
        stored: &StoredTensor<'_>,
        transform: &Transform,
        shape: &[usize],
    ) -> Result<Tensor> {
        let size: Vec<i64> = shape.iter().map(|&extent| extent as i64).collect();
        if *transform != Transform::default() {
            let values = self.checkpoint.read_f32(part)?;
            return Ok(Tensor::f_from_slice(&values)?.f_view(size.as_slice())?);
        }
        let tensor = Tensor::f_empty(size.as_slice(), (Kind::Float, Device::Cpu))?;
        let data = tensor.data_ptr().cast::<f32>();
        if data.is_null() {
            return Ok(tensor);
        }
        // SAFETY: a fresh, contiguous f32 tensor of this many elements, seen by nobody else yet. Its memory is
        // uninitialised, but every bit pattern is an f32 and every element is written before any is read.
        let values = unsafe { std::slice::from_raw_parts_mut(data, tensor.numel()) };
        self.checkpoint.dequantize(name, stored, values)?;
        Ok(tensor)
    }

    /// A weight that is finite as stored may be infinite in a narrower dtype: f16 ends at 65,504.
    fn require_holds(&self, name: &str, moved: &Tensor) -> Result<()> {
        if surely_finite(moved)? || moved.f_isfinite()?.f_all()?.f_int64_value(&[])? == 1 {
            return Ok(());
        }
        Err(Error::argument(
            "dtype",
            "one that holds every weight",
            format!("{}, in which tensor `{name}` overflows", self.dtype),
        ))
    }

    fn require_finite(&self, part: Part, name: &str, tensor: &Tensor) -> Result<()> {
        if surely_finite(tensor)? {
            return Ok(());
        }
        let values = self.checkpoint.read_f32(part)?;
        match values
            .iter()
            .enumerate()
            .find(|(_, value)| !value.is_finite())
        {
            Some((index, &value)) => Err(Error::NotFinite {
                name: name.to_owned(),
                path: self.checkpoint.path().to_owned(),
                index,
                value,
            }),
            None => Ok(()),
        }
    }
}

/// Whether every number is finite, without a copy of the tensor; false where an exact pass must decide.
fn surely_finite(tensor: &Tensor) -> Result<bool> {
    let finite = |value: Tensor| -> Result<bool> { Ok(value.f_double_value(&[])?.is_finite()) };
    if tensor.numel() == 0 {
        return Ok(true);
    }
    match tensor.f_kind()? {
        // One pass; a sum of finite values may overflow.
        Kind::Float => finite(tensor.f_sum(Kind::Float)?),
        // A sum in f32 would widen a copy of a narrower tensor, and the allocator would keep it. A NaN wins both.
        _ => Ok(finite(tensor.f_max()?)? && finite(tensor.f_min()?)?),
    }
}

/// The bytes of rows `start..start + take` of a stored tensor, as a tensor of shape `shape`; all of it without rows.
fn wanted_rows<'a>(
    stored: &StoredTensor<'a>,
    shape: &'a [usize],
    rows: Option<(usize, usize)>,
) -> StoredTensor<'a> {
    let height = stored.shape.first().copied().unwrap_or(1).max(1);
    let row = stored.bytes.len() / height;
    let (start, take) = rows.unwrap_or((0, height));
    StoredTensor {
        ty: stored.ty.clone(),
        shape,
        // Empty if it does not fit, which the view then refuses; the checkpoint has checked the shapes.
        bytes: stored
            .bytes
            .get(start * row..(start + take) * row)
            .unwrap_or_default(),
    }
}

fn plain_kind(ty: &StoredType) -> Option<Kind> {
    match ty {
        StoredType::F32 => Some(Kind::Float),
        StoredType::F16 => Some(Kind::Half),
        StoredType::Bf16 => Some(Kind::BFloat16),
        StoredType::Quantized(_) | StoredType::Other(_) => None,
    }
}

fn assemble(
    spec: &DecoderSpec,
    mut loaded: HashMap<Part, Tensor>,
    loader: &Loader<'_>,
) -> Result<Decoder> {
    let mut take = |part: Part| -> Result<Frozen> {
        loaded
            .remove(&part)
            .map(Frozen::new)
            .ok_or_else(|| Error::MissingTensor {
                name: part.to_string(),
                path: loader.checkpoint.path().to_owned(),
            })
    };
    let mut blocks = Vec::with_capacity(spec.layers);
    let present: HashSet<Part> = spec.parts().into_iter().collect();
    // A part that the description does not have is no weight; one that it has must have been loaded.
    let mut maybe = |part: Part| -> Result<Option<Frozen>> {
        present.contains(&part).then(|| take(part)).transpose()
    };
    for layer in 0..spec.layers {
        let mut part = |part: LayerPart| maybe(Part::Layer(layer, part));
        let mut linear = |weight, bias| -> Result<Option<Linear>> {
            let bias = part(bias)?;
            Ok(part(weight)?.map(|weight| Linear { weight, bias }))
        };
        let absent = |part: LayerPart| Error::MissingTensor {
            name: Part::Layer(layer, part).to_string(),
            path: loader.checkpoint.path().to_owned(),
        };
        let query = linear(LayerPart::Query, LayerPart::QueryBias)?;
        let key = linear(LayerPart::Key, LayerPart::KeyBias)?;
        let value = linear(LayerPart::Value, LayerPart::ValueBias)?;
        let output = linear(LayerPart::Output, LayerPart::OutputBias)?;
        let gate = linear(LayerPart::Gate, LayerPart::GateBias)?;
        let up = linear(LayerPart::Up, LayerPart::UpBias)?;
        let down = linear(LayerPart::Down, LayerPart::DownBias)?;
        let mut norm = |weight, bias: Option<LayerPart>| -> Result<Option<Norm>> {
            let bias = bias.map_or(Ok(None), &mut part)?;
            Ok(part(weight)?.map(|weight| Norm {
                weight,
                bias,
                spec: spec.norm,
            }))
        };
        let query_norm = norm(LayerPart::QueryNorm, Some(LayerPart::QueryNormBias))?;
        let key_norm = norm(LayerPart::KeyNorm, Some(LayerPart::KeyNormBias))?;
        let attention = Attention {
            query: query.ok_or_else(|| absent(LayerPart::Query))?,
            key: key.ok_or_else(|| absent(LayerPart::Key))?,
            value: value.ok_or_else(|| absent(LayerPart::Value))?,
            output: output.ok_or_else(|| absent(LayerPart::Output))?,
            qk_norm: query_norm.zip(key_norm),
            spec: spec.attention,
        };
        blocks.push(Block {
            kind: spec.block,
            attention_norm: norm(LayerPart::AttentionNorm, Some(LayerPart::AttentionNormBias))?,
            attention,
            attention_post_norm: norm(LayerPart::AttentionPostNorm, None)?,
            mlp_norm: norm(LayerPart::MlpNorm, Some(LayerPart::MlpNormBias))?,
            mlp: Mlp {
                gate,
                up: up.ok_or_else(|| absent(LayerPart::Up))?,
                down: down.ok_or_else(|| absent(LayerPart::Down))?,
                activation: spec.mlp.activation,
            },
            mlp_post_norm: norm(LayerPart::MlpPostNorm, None)?,
        });
    }
    let places = loader.places.clone();
    let rotary = places.map(|_, place| {
        let on = |rotary: &Option<RotarySpec>| {
            let made = rotary.as_ref();
            let made = made.map(|rotary| Rotary::new(rotary, place.device));
            made.transpose()
        };
        Ok(Rotaries {
            plain: on(&spec.rotary)?,
            windowed: on(&spec.window_rotary)?,
        })
    })?;
    let (positions, unembedding) = (maybe(Part::Positions)?, maybe(Part::Unembedding)?);
    let (final_bias, unembedding_bias) =
        (maybe(Part::FinalNormBias)?, maybe(Part::UnembeddingBias)?);
    let embedding = take(Part::Embedding)?;
    let unembedding = match unembedding {
        // Tied: what is with the first layer is needed with the last as well.
        None if places.first() != places.last() => {
            Some(Frozen::new(places.last().take(&embedding)?))
        }
        own => own,
    };
    Ok(Decoder {
        embedding,
        positions,
        blocks,
        final_norm: Norm {
            weight: take(Part::FinalNorm)?,
            bias: final_bias,
            spec: spec.norm,
        },
        unembedding,
        unembedding_bias,
        places,
        rotary,
        spec: spec.clone(),
    })
}
