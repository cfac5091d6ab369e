//! The runs of layers that a device holds, and how the residual stream gets from one to the next.

use tch::{Device, Kind, Tensor};

use super::options::Dtype;
use super::placement::Placement;
use crate::sites::Site;
use crate::{Error, Result};

/// A value for each run of layers; there is always at least one.
#[derive(Clone, Debug)]
pub(super) struct ByStage<T> {
    /// Of the layers from 0 on.
    first: T,
    /// Those after it, each from a layer on.
    rest: Vec<(usize, T)>,
}

/// Where a run of layers is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) device: Device,
    pub(super) kind: Kind,
}

impl<T> ByStage<T> {
    /// That of `layer`'s run.
    pub(super) fn of(&self, layer: usize) -> &T {
        let before = self.rest.iter().rev().find(|(start, _)| *start <= layer);
        before.map_or(&self.first, |(_, own)| own)
    }

    pub(super) fn first(&self) -> &T {
        &self.first
    }

    pub(super) fn last(&self) -> &T {
        self.rest.last().map_or(&self.first, |(_, own)| own)
    }

    /// That of the run that begins with `layer`, if one does and it is not the first.
    fn begins(&self, layer: usize) -> Option<&T> {
        let own = self.rest.iter().find(|(start, _)| *start == layer);
        own.map(|(_, own)| own)
    }

    /// Another value for each run, from its first layer and this one.
    pub(super) fn map<U>(&self, mut of: impl FnMut(usize, &T) -> Result<U>) -> Result<ByStage<U>> {
        let first = of(0, &self.first)?;
        let rest = self.rest.iter();
        let rest = rest.map(|(start, own)| Ok((*start, of(*start, own)?)));
        Ok(ByStage {
            first,
            rest: rest.collect::<Result<_>>()?,
        })
    }

    fn all(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.first).chain(self.rest.iter().map(|(_, own)| own))
    }
}

impl Place {
    /// `x` there; `x` itself if it is.
    pub(super) fn take(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_to_device_(self.device, self.kind, false, false)?)
    }
}

impl ByStage<Place> {
    /// The runs of a model of `layers` layers.
    ///
    /// # Errors
    /// A device that is absent; layers that the model does not have.
    pub(super) fn find(placement: &Placement, layers: usize, dtype: Dtype) -> Result<Self> {
        let kind = dtype.kind();
        let mut first = None;
        let mut rest = Vec::new();
        for (device, start) in placement.starts(layers)? {
            let device = device.find()?;
            let place = Place { device, kind };
            match first {
                None => first = Some(place),
                Some(_) => rest.push((start, place)),
            }
        }
        let first = first.ok_or_else(|| Error::argument("placement", "a device", "none"))?;
        Ok(Self { first, rest })
    }

    /// Whether all of the model is on the CPU.
    pub(super) fn on_cpu(&self) -> bool {
        self.all().all(|place| place.device == Device::Cpu)
    }

    /// Where the states of `site` are.
    pub(super) fn of_site(&self, site: Site) -> &Place {
        match site {
            // What a block gives is where the block is.
            Site::Hidden(after) => self.of(after.saturating_sub(1)),
            Site::HeadOutput(layer)
            | Site::AttentionOutput(layer)
            | Site::MlpOutput(layer)
            | Site::AttentionWeights(layer) => self.of(layer),
            Site::FinalNorm => self.last(),
        }
    }

    /// The residual stream before `layer`, where that layer is.
    pub(super) fn entered(&self, layer: usize, x: Tensor) -> Result<Tensor> {
        match self.begins(layer) {
            Some(place) => place.take(&x),
            None => Ok(x),
        }
    }
}

#[cfg(test)]
mod tests {
    //! libtorch refuses the product of two kinds as it refuses that of two devices. So a model whose runs of layers are of
    //! different kinds stands in for one on different devices: what is not where its layer is, is an error or makes one at the
    //! next product. In `f64` and `f32` the numbers are those of the model in `f32`. Both orders are tried, since a wider
    //! kind takes up a narrower one silently; tensors of one kind everywhere (indices, masks, adapters) are not seen so.

    use std::sync::Arc;

    use lm_testkit::{Tolerance, assert_close, golden};
    use ndarray::Array2;

    use super::*;
    use crate::heads::{AblationKind, Head, HeadAblation};
    use crate::kv_heads::{KvAblation, KvAblationKind, KvHead};
    use crate::model::{Intervention, LanguageModel, OpenModel, Run};
    use crate::patch::Patch;
    use crate::sites::{Capture, Positions};
    use crate::torch::{LoadOptions, TorchModel, load};
    use crate::weights::Checkpoint;

    const MODELS: &[&str] = &[
        "llama-gqa-tied",
        "llama-mha-untied",
        "falcon-multi-query",
        "gemma2",
        "gemma3",
        "glm4",
        "gpt-neo",
        "gpt2",
        "gptj",
        "mistral",
        "olmo2",
        "phi3",
    ];

    const PROMPTS: [&[u32]; 2] = [&[5, 9, 2, 17, 30, 8, 4, 11], &[5, 9, 2, 17, 1]];

    fn open(name: &str, kinds: [Kind; 2]) -> TorchModel {
        let checkpoint = Checkpoint::open(golden(name).unwrap().model()).unwrap();
        let options = LoadOptions::default();
        let place = |kind| Place {
            device: Device::Cpu,
            kind,
        };
        let places = ByStage {
            first: place(kinds[0]),
            rest: vec![(checkpoint.spec().layers / 2, place(kinds[1]))],
        };
        TorchModel {
            decoder: load::placed(&checkpoint, &options, places).unwrap(),
            text: None,
            options,
            adapters: Vec::new(),
            checkpoint: Arc::new(checkpoint),
        }
    }

    /// What `of` finds in either order of kinds is what it finds in `f32`.
    fn each(of: impl Fn(&TorchModel) -> Vec<Array2<f32>>) {
        for name in MODELS {
            let expected = of(&open(name, [Kind::Float; 2]));
            for kinds in [[Kind::Float, Kind::Double], [Kind::Double, Kind::Float]] {
                let found = of(&open(name, kinds));
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(&expected) {
                    assert_close(
                        &format!("{name} in {kinds:?}"),
                        found.as_slice().unwrap(),
                        expected.as_slice().unwrap(),
                        Tolerance::TWO_WAYS,
                    );
                }
            }
        }
    }

    fn of_every_layer(model: &TorchModel, kind: AblationKind) -> HeadAblation {
        (0..model.shape().layers).fold(HeadAblation::none(), |all, layer| {
            all.with(Head::new(layer, 0), kind)
        })
    }

    /// Every kind of change in every layer.
    fn changes(model: &TorchModel) -> Vec<Intervention> {
        let shape = model.shape();
        let kinds = [
            AblationKind::Undifferentiated { epsilon: 0.0 },
            AblationKind::Undifferentiated { epsilon: 0.1 },
            AblationKind::Contribution { factor: -0.5 },
            AblationKind::MeanQuery,
        ];
        let mut all = vec![Intervention::none()];
        all.extend(kinds.map(|kind| of_every_layer(model, kind).into()));
        for kind in [
            KvAblationKind::ScaleKey { factor: 0.5 },
            KvAblationKind::MeanValue,
        ] {
            let layers = 0..shape.layers;
            let own = layers.fold(KvAblation::none(), |all, layer| {
                all.with(KvHead::new(layer, 0), kind)
            });
            all.push(own.into());
        }
        let mut patches = Intervention::none();
        for site in sites(model) {
            if let Some(width) = site.width(&shape) {
                let values = Array2::from_elem((1, width), 0.1);
                let patch = Patch::interpolate(site, values.view(), 0.5);
                patches = patches.with_patch(patch.at(Positions::Last));
            }
        }
        all.push(patches);
        all
    }

    fn sites(model: &TorchModel) -> Vec<Site> {
        let layers = model.shape().layers;
        let of_layer = |layer| {
            [
                Site::HeadOutput(layer),
                Site::AttentionOutput(layer),
                Site::MlpOutput(layer),
                Site::AttentionWeights(layer),
            ]
        };
        let hidden = (0..=layers).map(Site::Hidden);
        let all = hidden.chain((0..layers).flat_map(of_layer));
        all.chain([Site::FinalNorm]).collect()
    }

    #[test]
    fn runs_and_captures() {
        each(|model| {
            let mut found = Vec::new();
            for intervention in changes(model) {
                for sites in [Vec::new(), sites(model)] {
                    let run = Run {
                        intervention: intervention.clone(),
                        capture: Capture {
                            sites,
                            positions: Positions::All,
                        },
                        logits: Positions::All,
                    };
                    let output = model.run(&PROMPTS, &run).unwrap();
                    found.extend(output.logits);
                    found.extend(output.captured.into_iter().flat_map(|own| own.values));
                }
            }
            found
        });
    }

    #[test]
    fn sessions_and_scores() {
        each(|model| {
            let mut found = Vec::new();
            for intervention in changes(model) {
                let mut session = model
                    .begin_open(2, &intervention, &Capture::none())
                    .unwrap();
                found.push(session.extend(&PROMPTS).unwrap());
                session.select(&[0, 0, 1, 0, 0]).unwrap();
                found.push(session.append(&[1, 2, 3, 4, 5]).unwrap());
                session.select(&[1, 1, 2]).unwrap();
                found.push(session.extend(&[&[1, 2], &[3], &[4, 5, 6]]).unwrap());
                session.rewind(&[4, 9, 2]).unwrap();
                found.push(session.append(&[1, 2, 3]).unwrap());
            }
            #[allow(clippy::cast_possible_truncation, reason = "compared as f32")]
            let scores = model.score(PROMPTS[0], PROMPTS[1]).unwrap();
            let scores: Vec<f32> = scores.into_iter().map(|score| score as f32).collect();
            found.push(Array2::from_shape_vec((1, scores.len()), scores).unwrap());
            found
        });
    }

    #[test]
    fn sweeps() {
        each(|model| {
            let mut ablations = vec![HeadAblation::none()];
            for kind in [
                AblationKind::Undifferentiated { epsilon: 0.1 },
                AblationKind::Contribution { factor: 0.0 },
            ] {
                ablations.push(of_every_layer(model, kind));
                let heads = model.shape().all_heads();
                ablations.extend(heads.map(|head| HeadAblation::none().with(head, kind)));
            }
            let mut found = Vec::new();
            model
                .sweep(&PROMPTS, &ablations, &mut |_, logits| {
                    found.push(logits.to_owned());
                    Ok(())
                })
                .unwrap();
            found
        });
    }
}
