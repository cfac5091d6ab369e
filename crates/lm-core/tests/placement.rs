//! Layers in several runs, each on a device: here on the CPU several times, which is the same way through the engine with moves
//! that change nothing, and so must give the same bits. `cargo xtask gpu-check` runs the reference numbers with a half on a GPU.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

use std::fmt::Debug;

use lm_core::torch::train::{Example, Loss, TrainOptions, Trainer};
use lm_core::{
    AblationKind, Adapter, AdapterConfig, Capture, Device, GenerateOptions, Head, HeadAblation,
    Intervention, KvAblation, KvAblationKind, KvHead, LanguageModel, LoadOptions, OpenModel, Patch,
    Placement, Positions, Request, Run, Sampling, ScoreOptions, Session, Site, Targets, TorchModel,
    generate,
};
use lm_testkit::{TinyLlama, golden};
use ndarray::Array2;

/// Both tied and untied, learned positions, windows with a rotary embedding of their own, soft caps, parallel blocks, an
/// embedding scale, angles that depend on the length.
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
    "llama-rope-dynamic",
    "mistral",
    "olmo2",
    "phi3",
];

const PROMPTS: [&[u32]; 3] = [
    &[5, 9, 2, 17, 30, 8, 4, 11],
    &[5, 9, 2, 17, 1],
    &[5, 9, 2, 17, 30, 8],
];

fn open(name: &str, placement: &str) -> TorchModel {
    let options = LoadOptions::default().placement(placement.parse().unwrap());
    TorchModel::open_with(golden(name).unwrap().model(), options).unwrap()
}

/// The model on one device, and the same in two runs of layers and in as many as it has layers.
fn each(mut check: impl FnMut(&str, &TorchModel, &TorchModel)) {
    for name in MODELS {
        let whole = open(name, "cpu");
        let layers = whole.shape().layers;
        let single: Vec<String> = (0..layers).map(|layer| format!("cpu={layer}")).collect();
        for placement in ["cpu,cpu", &single.join(",")] {
            check(
                &format!("{name} on {placement}"),
                &whole,
                &open(name, placement),
            );
        }
    }
}

fn bits(all: &[Array2<f32>]) -> Vec<Vec<u32>> {
    let bits = |values: &Array2<f32>| values.iter().map(|value| value.to_bits()).collect();
    all.iter().map(bits).collect()
}

fn equal<T: PartialEq + Debug>(
    name: &str,
    of: impl Fn(&TorchModel) -> T,
    models: [&TorchModel; 2],
) {
    assert_eq!(of(models[0]), of(models[1]), "{name}");
}

/// Every site that there is.
fn everything(model: &TorchModel) -> Capture {
    let layers = model.shape().layers;
    let mut capture = Capture::hidden_states(layers, Positions::All);
    for layer in 0..layers {
        capture.sites.extend([
            Site::HeadOutput(layer),
            Site::AttentionOutput(layer),
            Site::MlpOutput(layer),
            Site::AttentionWeights(layer),
        ]);
    }
    capture.sites.push(Site::FinalNorm);
    capture
}

/// Heads, keys and values, and states of every layer.
fn changes(model: &TorchModel) -> Vec<Intervention> {
    let shape = model.shape();
    let kinds = [
        AblationKind::Undifferentiated { epsilon: 0.0 },
        AblationKind::Undifferentiated { epsilon: 0.1 },
        AblationKind::Contribution { factor: -0.5 },
        AblationKind::MeanQuery,
    ];
    let of_kind = |kind: AblationKind| {
        let all = (0..shape.layers).fold(HeadAblation::none(), |all, layer| {
            all.with(Head::new(layer, layer % shape.heads), kind)
        });
        Intervention::from(all)
    };
    let mut all: Vec<Intervention> = kinds.map(of_kind).into();
    all.push(
        (0..shape.layers)
            .fold(KvAblation::none(), |all, layer| {
                all.with(
                    KvHead::new(layer, 0),
                    KvAblationKind::ScaleValue { factor: 0.5 },
                )
            })
            .into(),
    );
    let mut sites: Vec<Site> = (0..=shape.layers).map(Site::Hidden).collect();
    for layer in 0..shape.layers {
        sites.extend([
            Site::HeadOutput(layer),
            Site::AttentionOutput(layer),
            Site::MlpOutput(layer),
        ]);
    }
    sites.push(Site::FinalNorm);
    all.extend(sites.into_iter().map(|site| {
        let width = site.width(&shape).unwrap();
        let values = Array2::from_shape_fn((1, width), |(_, i)| (i % 7) as f32 * 0.1 - 0.3);
        Intervention::from(Patch::add(site, values.view()).at(Positions::Last))
    }));
    all
}

#[test]
fn runs_captures_and_changes_are_the_same() {
    each(|name, whole, split| {
        let run = Run {
            capture: everything(whole),
            logits: Positions::All,
            ..Run::default()
        };
        for intervention in [vec![Intervention::none()], changes(whole)].concat() {
            let run = Run {
                intervention,
                ..run.clone()
            };
            let of = |model: &TorchModel| {
                let output = model.run(&PROMPTS, &run).unwrap();
                let captured = output.captured.iter().map(|own| bits(&own.values));
                (bits(&output.logits), captured.collect::<Vec<_>>())
            };
            equal(name, of, [whole, split]);
        }
    });
}

#[test]
fn sessions_are_the_same() {
    let walk = |session: &mut dyn Session| {
        let mut found = vec![session.extend(&PROMPTS).unwrap()];
        found.push(session.append(&[3, 4, 5]).unwrap());
        // A fork that is worth sharing, another one of shared rows, and a cut into what they share.
        session.select(&[0, 0, 0, 2, 0, 0, 2]).unwrap();
        found.push(session.append(&[1, 2, 3, 4, 5, 6, 7]).unwrap());
        session.select(&[3, 0, 0, 6]).unwrap();
        let chunks: [&[u32]; 4] = [&[1, 2], &[3], &[4, 5, 6], &[7]];
        found.push(session.extend(&chunks).unwrap());
        session.rewind(&[3, 8, 9, 2]).unwrap();
        found.push(session.extend(&chunks).unwrap());
        bits(&found)
    };
    each(|name, whole, split| {
        let of = |model: &TorchModel| walk(model.begin(3).unwrap().as_mut());
        equal(name, of, [whole, split]);
        let changes = changes(whole);
        let many = Intervention {
            patches: changes[5..]
                .iter()
                .flat_map(|own| own.patches.clone())
                .collect(),
            ..changes[0].clone()
        };
        let of = |model: &TorchModel| {
            let mut session = model.begin_open(3, &many, &Capture::none()).unwrap();
            walk(session.as_mut())
        };
        equal(name, of, [whole, split]);
    });
}

#[test]
fn scores_and_the_lens_are_the_same() {
    each(|name, whole, split| {
        let continuations: [&[u32]; 4] = [&[1, 2, 3, 4, 5], &[1, 2, 7], &[9; 6], &[3]];
        let of = |model: &TorchModel| {
            let all = model
                .score_many(PROMPTS[0], &continuations, &ScoreOptions::default())
                .unwrap();
            (all, model.score(PROMPTS[0], continuations[0]).unwrap())
        };
        equal(name, of, [whole, split]);
        let hidden = Array2::from_shape_fn((3, whole.shape().hidden), |(row, i)| {
            (row * 31 + i * 7 % 13) as f32 * 0.1
        });
        let of = |model: &TorchModel| bits(&[model.unembed(hidden.view()).unwrap()]);
        equal(name, of, [whole, split]);
    });
}

#[test]
fn generations_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    TinyLlama::default().write(folder.path()).unwrap();
    let requests: Vec<Request> = PROMPTS
        .iter()
        .map(|prompt| Request {
            id: format!("{prompt:?}"),
            tokens: prompt.to_vec(),
        })
        .collect();
    let options = GenerateOptions {
        sampling: Sampling::temperature(1.0),
        samples: 3,
        max_new_tokens: 12,
        ..GenerateOptions::default()
    };
    let [whole, split, single] = ["cpu", "cpu,cpu", "cpu=0,cpu=1,cpu=2"].map(|placement| {
        let placed = LoadOptions::default().placement(placement.parse().unwrap());
        let model = TorchModel::open_with(folder.path(), placed).unwrap();
        let text = model.text().unwrap();
        generate::generate(&model, text, &requests, &options, &mut generate::ignore).unwrap()
    });
    assert_eq!(whole, split);
    assert_eq!(whole, single);
}

#[test]
fn sweeps_are_the_same() {
    each(|name, whole, split| {
        let heads: Vec<Head> = whole.shape().all_heads().collect();
        let ends = [heads[0], heads[heads.len() - 1]];
        let mut ablations = vec![HeadAblation::none(), HeadAblation::silenced(ends)];
        for kind in [
            AblationKind::Undifferentiated { epsilon: 0.0 },
            AblationKind::Undifferentiated { epsilon: 0.1 },
            AblationKind::Contribution { factor: 0.0 },
        ] {
            let of = |&head: &Head| HeadAblation::none().with(head, kind);
            ablations.extend(heads.iter().map(of));
        }
        let of = |model: &TorchModel| {
            let mut found = Vec::new();
            model
                .sweep(&PROMPTS, &ablations, &mut |_, logits| {
                    found.push(logits.to_owned());
                    Ok(())
                })
                .unwrap();
            bits(&found)
        };
        equal(name, of, [whole, split]);
    });
}

/// Matrices that are not zero, of all projections of all layers.
fn adapter(model: &TorchModel, seed: u64) -> Adapter {
    let config = AdapterConfig::new(2, 4.0, Targets::all());
    let mut adapter = Adapter::new(model.checkpoint(), config, seed).unwrap();
    let mut state = u32::try_from(seed).unwrap();
    for (_, b) in adapter.matrices_mut() {
        b.mapv_inplace(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 * 0.2 - 0.1
        });
    }
    adapter
}

#[test]
fn adapters_soft_prompts_and_gradients_are_the_same() {
    each(|name, whole, split| {
        let adapters = [adapter(whole, 5), adapter(whole, 6)];
        let adapters: Vec<&Adapter> = adapters.iter().collect();
        let run = Run {
            logits: Positions::All,
            ..Run::default()
        };
        let logits = |model: &dyn OpenModel| bits(&model.run(&PROMPTS, &run).unwrap().logits);
        let of = |model: &TorchModel| {
            let summed = model.with_adapters(&adapters).unwrap();
            let own = model.with_row_adapters(&adapters, &[Some(1), None, Some(0)]);
            let merged = model.merged(adapters[0]).unwrap();
            (logits(&summed), logits(&own.unwrap()), logits(&merged))
        };
        equal(name, of, [whole, split]);
        let of = |model: &TorchModel| {
            let prompt = model.soft_prompt_of(&[7, 8]).unwrap();
            let soft = model.with_soft_prompt(&prompt).unwrap();
            bits(&[soft.begin(3).unwrap().extend(&PROMPTS).unwrap()])
        };
        equal(name, of, [whole, split]);

        let examples = PROMPTS.map(|prompt| Example::reply(prompt, &[20, 21]).unwrap());
        let batch = vec![examples.iter().collect::<Vec<_>>()];
        for checkpointing in [false, true] {
            let of = |model: &TorchModel| {
                let mut options = TrainOptions::new(1, 3, 1e-3);
                options.checkpointing = checkpointing;
                let mut loss = |_, sums: &[f64]| Ok(Loss::negative_log_likelihood(sums, 6));
                let adapter = adapters[0].clone();
                let mut trainer = Trainer::new(model, adapter, options.clone()).unwrap();
                let (value, found) = trainer.gradients(&batch, &mut loss).unwrap();
                let prompt = model.soft_prompt_of(&[7, 8]).unwrap();
                let mut trainer = Trainer::of_soft_prompt(model, prompt, options).unwrap();
                let (_, of_prompt) = trainer.gradients(&batch, &mut loss).unwrap();
                (value.to_bits(), bits(&found), bits(&of_prompt))
            };
            equal(name, of, [whole, split]);
        }
    });
}

#[test]
fn a_result_says_which_layers_were_where() {
    let recorded = |placement: &str| {
        let model = open("llama-gqa-tied", placement);
        model.provenance().unwrap().device.unwrap()
    };
    assert_eq!(recorded("cpu"), "cpu");
    assert_eq!(recorded("cpu,cpu"), "cpu=0-1,cpu=2-2");
    assert_eq!(recorded("cpu=0-0,cpu=1-2"), "cpu=0-0,cpu=1-2");
}

#[test]
fn options_read_back_what_they_write() {
    let placement = Placement::layers([(Device::Cpu, 0..1), (Device::Cuda(2), 1..3)]).unwrap();
    let json = serde_json::to_value(LoadOptions::default().placement(placement)).unwrap();
    assert_eq!(json["device"], "cpu=0-0,cuda:2=1-2");
    let back: LoadOptions = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(back).unwrap(), json);
}

mod refused {
    use super::*;

    fn refused(folder: &std::path::Path, placement: &str) -> String {
        let options = LoadOptions::default().placement(placement.parse().unwrap());
        TorchModel::open_with(folder, options)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn other_layers_than_the_models() {
        let folder = tempfile::tempdir().unwrap();
        TinyLlama::default().write(folder.path()).unwrap();
        for (placement, expected) in [
            (
                "cpu=0-1",
                "placement: expected layers 0-2, which the model has, found 0-1",
            ),
            (
                "cpu=0-1,cpu=2-23",
                "placement: expected layers 0-2, which the model has, found 0-23",
            ),
            (
                "cpu,cpu,cpu,cpu",
                "placement: expected at most 3 devices, one for each layer, found 4",
            ),
        ] {
            assert_eq!(refused(folder.path(), placement), expected);
        }
    }

    /// Each of them, by its name, before anything is read: the model need not even exist.
    #[test]
    fn a_device_that_is_absent() {
        for placement in ["cpu,cuda:99", "cpu=0-1,cuda:99=2-2"] {
            let error = refused("no such model".as_ref(), placement);
            if error.starts_with("device cuda:99: this machine has ") {
                continue;
            }
            assert_eq!(
                error,
                "device cuda:99: this libtorch has no CUDA half; `cargo xtask setup --cuda` brings one, and the linker \
                 must be told `-Wl,--no-as-needed -ltorch`"
            );
        }
    }
}
