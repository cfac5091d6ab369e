//! Interventions are what they say in every family: each site can be read and written, nothing shows in the next run, and what
//! is written obeys the model's own algebra.
//!
//! The models are those of `golden/`; what is compared are two ways to one result.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

mod device;

use lm_core::{
    AblationKind, Capture, Captured, Dtype, Head, HeadAblation, Intervention, KvAblation,
    KvAblationKind, KvHead, LanguageModel, OpenModel, Patch, PatchAction, Positions, Run,
    RunOutput, Site, TorchModel,
};
use lm_testkit::{Tolerance, assert_close, golden};
use ndarray::{Array2, ArrayView2, Axis, s};

/// One a family, and the switches that attention depends on.
const MODELS: &[&str] = &[
    "falcon-grouped",
    "falcon-multi-query",
    "gemma",
    "gemma2",
    "gemma3",
    "glm",
    "glm4",
    "gpt-neo",
    "gpt-neox",
    "gpt-neox-sequential",
    "gpt2",
    "gptj",
    "llama-bias",
    "llama-gqa-tied",
    "llama-mha-untied",
    "mistral",
    "olmo2",
    "phi",
    "phi-qk-norm",
    "phi3",
    "qwen2",
    "qwen3",
];

struct Case {
    name: &'static str,
    model: TorchModel,
    /// Two prompts of one length, and a shorter one.
    prompts: [Vec<u32>; 3],
}

fn each(mut check: impl FnMut(&Case)) {
    for name in MODELS {
        let golden = golden(name).unwrap();
        let model = device::open(golden.model());
        let first = golden.tokens("whole.input_ids").unwrap().remove(0);
        let second: Vec<u32> = first.iter().rev().copied().collect();
        assert_ne!(first, second);
        let third = first[2..6].to_vec();
        check(&Case {
            name,
            model,
            prompts: [first, second, third],
        });
    }
}

impl Case {
    fn run(&self, prompts: &[&[u32]], run: &Run) -> RunOutput {
        self.model.run(prompts, run).unwrap()
    }

    fn with(&self, prompt: usize, change: impl Into<Intervention>, capture: &Capture) -> RunOutput {
        let run = Run {
            intervention: change.into(),
            capture: capture.clone(),
            logits: Positions::All,
        };
        self.run(&[&self.prompts[prompt]], &run)
    }

    fn plain(&self, prompt: usize) -> RunOutput {
        self.with(prompt, Intervention::none(), &Capture::none())
    }

    /// The value of one site at every position.
    fn value(&self, prompt: usize, site: Site) -> Array2<f32> {
        let capture = Capture::of([site], Positions::All);
        let mut output = self.with(prompt, Intervention::none(), &capture);
        output.captured.remove(0).values.remove(0)
    }

    fn written_sites(&self) -> Vec<Site> {
        let layers = self.model.shape().layers;
        let parts = (0..layers).flat_map(|layer| {
            [
                Site::HeadOutput(layer),
                Site::AttentionOutput(layer),
                Site::MlpOutput(layer),
            ]
        });
        let hidden = (0..=layers).map(Site::Hidden);
        hidden.chain(parts).chain([Site::FinalNorm]).collect()
    }
}

fn close(name: &str, found: &Array2<f32>, expected: &Array2<f32>) {
    assert_eq!(found.dim(), expected.dim(), "{name}");
    let (found, expected) = (found.as_standard_layout(), expected.as_standard_layout());
    assert_close(
        name,
        found.as_slice().unwrap(),
        expected.as_slice().unwrap(),
        Tolerance::TWO_WAYS,
    );
}

fn differ(a: &Array2<f32>, b: &Array2<f32>) -> bool {
    a.iter()
        .zip(b)
        .any(|(a, b)| (a - b).abs() > 1e-4 * (1.0 + b.abs()))
}

#[test]
fn at_every_site_a_patch_bites_and_the_next_run_knows_nothing_of_it() {
    each(|case| {
        let before = case.plain(0);
        for site in case.written_sites() {
            let name = format!("{}: {site:?}", case.name);
            let there = case.value(0, site);
            let ones =
                Array2::from_shape_fn(
                    (1, there.ncols()),
                    |(_, i)| if i % 2 == 0 { 0.5 } else { -0.3 },
                );
            let patch = Patch::add(site, ones.view());
            let found = case.with(0, patch, &Capture::of([site], Positions::All));
            assert!(differ(&found.logits[0], &before.logits[0]), "{name}");
            // A capture sees what was written.
            close(&name, &found.captured[0].values[0], &(&there + &ones));
            assert_eq!(
                case.plain(0).logits,
                before.logits,
                "{name}: undone bit by bit"
            );
        }
    });
}

#[test]
fn putting_in_what_is_there_changes_no_bit() {
    each(|case| {
        let before = case.plain(0);
        for site in case.written_sites() {
            let there = case.value(0, site);
            let mut interpolated = Patch::interpolate(site, there.view(), 0.0);
            for patch in [Patch::replace(site, there.view()), interpolated.clone()] {
                let found = case.with(0, patch, &Capture::none());
                assert_eq!(found.logits, before.logits, "{}: {site:?}", case.name);
            }
            if let PatchAction::Interpolate { amount, .. } = &mut interpolated.action {
                *amount = 1.0;
            }
            let found = case.with(0, interpolated, &Capture::none());
            close(
                &format!("{}: {site:?}", case.name),
                &found.logits[0],
                &before.logits[0],
            );
        }
    });
}

#[test]
fn the_states_of_another_prompt_make_it_that_prompt() {
    each(|case| {
        let other = case.plain(1);
        for layer in 0..=case.model.shape().layers {
            let states = case.value(1, Site::Hidden(layer));
            let found = case.with(
                0,
                Patch::replace(Site::Hidden(layer), states.view()),
                &Capture::none(),
            );
            close(
                &format!("{}: after block {layer}", case.name),
                &found.logits[0],
                &other.logits[0],
            );
        }
        let normed = case.value(1, Site::FinalNorm);
        let found = case.with(
            0,
            Patch::replace(Site::FinalNorm, normed.view()),
            &Capture::none(),
        );
        close(case.name, &found.logits[0], &other.logits[0]);
    });
}

/// What a block adds is what its two parts add.
#[test]
fn parts_add_up_to_the_residual() {
    each(|case| {
        for layer in 0..case.model.shape().layers {
            let sum = case.value(0, Site::Hidden(layer))
                + case.value(0, Site::AttentionOutput(layer))
                + case.value(0, Site::MlpOutput(layer));
            close(
                &format!("{}: block {layer}", case.name),
                &sum,
                &case.value(0, Site::Hidden(layer + 1)),
            );
        }
    });
}

#[test]
fn a_silent_head_is_one_that_puts_out_zeros() {
    each(|case| {
        let shape = case.model.shape();
        let (layer, head) = (shape.layers - 1, shape.heads - 1);
        let zeros = Array2::zeros((1, shape.head_dim));
        let patch = Patch::replace(Site::HeadOutput(layer), zeros.view()).on_head(head);
        let silenced = HeadAblation::silenced([Head::new(layer, head)]);
        let (patched, silenced) = (
            case.with(0, patch, &Capture::none()),
            case.with(0, silenced, &Capture::none()),
        );
        close(case.name, &patched.logits[0], &silenced.logits[0]);
        assert!(
            differ(&patched.logits[0], &case.plain(0).logits[0]),
            "{}",
            case.name
        );
    });
}

#[test]
fn positions_and_rows_limit_a_patch() {
    each(|case| {
        let [first, second, third] = &case.prompts;
        let site = Site::Hidden(1);
        let hidden = case.model.shape().hidden;
        let shift = Array2::from_shape_fn((2, hidden), |(n, i)| {
            (n as f32 + 1.0) * if i % 3 == 0 { 0.4 } else { -0.1 }
        });
        let at = Positions::At(vec![1, 3]);
        let patch = Patch::add(site, shift.view())
            .at(at.clone())
            .in_rows([0, 2]);
        let run = Run {
            intervention: patch.into(),
            capture: Capture::of([site], Positions::All),
            logits: Positions::All,
        };
        let found = case.run(&[first, second, third], &run);
        for (row, prompt) in [first, second, third].into_iter().enumerate() {
            let name = format!("{}, row {row}", case.name);
            let mut expected = case.value(row, site);
            if row != 1 {
                for (number, position) in [1, 3].into_iter().enumerate() {
                    let mut line = expected.row_mut(position);
                    line += &shift.row(number);
                }
            }
            close(&name, &found.captured[row].values[0], &expected);
            // Alone the same as in the padded batch.
            let mut alone = run.clone();
            alone.intervention.patches[0].rows = None;
            if row == 1 {
                alone.intervention = Intervention::none();
            }
            let alone = case.run(&[prompt], &alone);
            close(&name, &found.logits[row], &alone.logits[0]);
        }
        // The last real position of each row, shorter rows too.
        let patch = Patch::add(site, shift.slice(s![..1, ..])).at(Positions::Last);
        let run = Run {
            intervention: patch.into(),
            capture: Capture::of([site], Positions::Last),
            logits: Positions::Last,
        };
        let found = case.run(&[first, third], &run);
        for (row, prompt) in [(0, 0), (1, 2)] {
            let there = case.value(prompt, site);
            let last = there.nrows() - 1;
            let expected = &there.slice(s![last.., ..]) + &shift.slice(s![..1, ..]);
            close(case.name, &found.captured[row].values[0], &expected);
            assert_eq!(found.captured[row].positions, [last]);
        }
    });
}

/// In a session with a cache, prompt in two parts and then token by token, a change holds as in one whole pass.
#[test]
fn sessions_change_as_whole_passes_do() {
    each(|case| {
        let shape = case.model.shape();
        let prompt = &case.prompts[0];
        let vector = Array2::from_shape_fn(
            (1, shape.hidden),
            |(_, i)| if i % 2 == 0 { 0.3 } else { -0.2 },
        );
        let three = Array2::from_shape_fn((3, shape.head_dim), |(n, i)| (n + i) as f32 * 0.1);
        let change = Intervention::from(HeadAblation::undifferentiated([Head::new(0, 0)]))
            .with_kv(KvAblation::none().with(
                KvHead::new(shape.layers - 1, 0),
                KvAblationKind::ScaleValue { factor: 0.5 },
            ))
            .with_patch(Patch::add(Site::Hidden(1), vector.view()))
            .with_patch(
                Patch::replace(Site::HeadOutput(0), three.view())
                    .on_head(shape.heads - 1)
                    .at(Positions::At(vec![0, 2, prompt.len() - 1])),
            );
        let sites = [
            Site::HeadOutput(0),
            Site::Hidden(1),
            Site::MlpOutput(0),
            Site::FinalNorm,
            Site::AttentionWeights(shape.layers - 1),
        ];
        let capture = Capture::of(sites, Positions::At(vec![1, 3, prompt.len() - 1]));
        let whole = case.with(0, change.clone(), &capture);
        let mut session = case.model.begin_open(1, &change, &capture).unwrap();
        let mut kept: Vec<Captured> = Vec::new();
        let (mut at, cut) = (0, 3);
        let parts = [&prompt[..cut]].into_iter().chain(prompt[cut..].chunks(1));
        for part in parts {
            at += part.len();
            let logits = session.extend(&[part]).unwrap();
            let expected = whole.logits[0].slice(s![at - 1..at, ..]).to_owned();
            close(
                &format!("{}: logits at {}", case.name, at - 1),
                &logits,
                &expected,
            );
            kept.push(session.captured()[0].clone());
        }
        let positions: Vec<usize> = kept
            .iter()
            .flat_map(|part| part.positions.clone())
            .collect();
        assert_eq!(positions, whole.captured[0].positions, "{}", case.name);
        for (index, site) in sites.iter().enumerate() {
            let expected = &whole.captured[0].values[index];
            if matches!(site, Site::AttentionWeights(_)) {
                let weights = whole.captured[0].weights(index, shape.heads).unwrap();
                for part in kept.iter().filter(|part| !part.positions.is_empty()) {
                    let found = part.weights(index, shape.heads).unwrap();
                    for (line, position) in part.positions.iter().enumerate() {
                        let row = whole.captured[0]
                            .positions
                            .iter()
                            .position(|p| p == position)
                            .unwrap();
                        let tokens = found.dim().2;
                        let expected = weights.slice(s![row, .., ..tokens]).to_owned();
                        close(
                            case.name,
                            &found.index_axis(Axis(0), line).to_owned(),
                            &expected,
                        );
                    }
                }
                continue;
            }
            let parts: Vec<ArrayView2<'_, f32>> =
                kept.iter().map(|part| part.values[index].view()).collect();
            let found = ndarray::concatenate(Axis(0), &parts).unwrap();
            close(&format!("{}: {site:?}", case.name), &found, expected);
        }
    });
}

/// The written-out path agrees with the fused one, its rows sum to 1, look at nothing that comes later, and are equal under
/// undifferentiated attention, windows and padding counted.
#[test]
fn attention_weights() {
    each(|case| {
        let shape = case.model.shape();
        let head = Head::new(0, shape.heads - 1);
        let sites: Vec<Site> = (0..shape.layers).map(Site::AttentionWeights).collect();
        let capture = Capture::of(sites, Positions::All);
        let plain = case.with(0, Intervention::none(), &capture);
        close(case.name, &plain.logits[0], &case.plain(0).logits[0]);
        let [first, _, third] = &case.prompts;
        let uniform = Run {
            intervention: HeadAblation::undifferentiated([head]).into(),
            capture: capture.clone(),
            logits: Positions::All,
        };
        let together = case.run(&[first, third], &uniform);
        for (row, prompt) in [(0, first), (1, third)] {
            let alone = case.run(&[prompt], &uniform);
            close(
                case.name,
                &together.captured[row].values[0],
                &alone.captured[0].values[0],
            );
            let fused = case.with(
                if row == 0 { 0 } else { 2 },
                uniform.intervention.clone(),
                &Capture::none(),
            );
            close(case.name, &together.logits[row], &fused.logits[0]);
            for layer in 0..shape.layers {
                let weights = together.captured[row].weights(layer, shape.heads).unwrap();
                let window = case.model.spec().windows[layer].unwrap_or(1 << 30);
                for ((position, of_head, token), &weight) in weights.indexed_iter() {
                    let seen = token <= position && token + window > position;
                    assert!(
                        seen || weight == 0.0,
                        "{}: layer {layer}, {position} sees {token}",
                        case.name
                    );
                    if seen && layer == head.layer && of_head == head.head {
                        let expected = 1.0 / (position + 1).min(window) as f32;
                        assert!(
                            (weight - expected).abs() < 1e-6,
                            "{}: {weight} is not {expected}",
                            case.name
                        );
                    }
                }
                for line in weights.lanes(Axis(2)) {
                    assert!((line.sum() - 1.0).abs() < 1e-5);
                }
            }
        }
    });
}

#[test]
fn a_small_epsilon_comes_to_the_exact_limit_and_position_0_never_moves() {
    each(|case| {
        let head = Head::new(0, 1 % case.model.shape().heads);
        let exact = case.with(0, HeadAblation::undifferentiated([head]), &Capture::none());
        let near =
            HeadAblation::none().with(head, AblationKind::Undifferentiated { epsilon: 1e-7 });
        close(
            case.name,
            &case.with(0, near, &Capture::none()).logits[0],
            &exact.logits[0],
        );
        let plain = case.plain(0);
        let first = |output: &RunOutput| output.logits[0].slice(s![..1, ..]).to_owned();
        close(case.name, &first(&exact), &first(&plain));
        assert!(differ(&exact.logits[0], &plain.logits[0]), "{}", case.name);
        let one = HeadAblation::none()
            .with(head, AblationKind::Undifferentiated { epsilon: 1.0 })
            .with(head, AblationKind::Contribution { factor: 1.0 });
        assert_eq!(
            case.with(0, one, &Capture::none()).logits,
            plain.logits,
            "{}",
            case.name
        );
    });
}

#[test]
fn a_change_of_a_key_value_head_is_that_of_all_its_query_heads() {
    each(|case| {
        let shape = case.model.shape();
        let group = shape.heads / shape.kv_heads;
        let kv_head = shape.kv_heads - 1;
        let layer = shape.layers - 1;
        let queries =
            || (kv_head * group..(kv_head + 1) * group).map(|head| Head::new(layer, head));
        let kv = |kind| KvAblation::none().with(KvHead::new(layer, kv_head), kind);
        let uniform = case.with(
            0,
            HeadAblation::undifferentiated(queries()),
            &Capture::none(),
        );
        let keys = case.with(
            0,
            kv(KvAblationKind::ScaleKey { factor: 0.0 }),
            &Capture::none(),
        );
        close(case.name, &keys.logits[0], &uniform.logits[0]);
        let scaled = queries().fold(HeadAblation::none(), |all, head| {
            all.with(head, AblationKind::Contribution { factor: 0.25 })
        });
        let scaled = case.with(0, scaled, &Capture::none());
        let values = case.with(
            0,
            kv(KvAblationKind::ScaleValue { factor: 0.25 }),
            &Capture::none(),
        );
        close(case.name, &values.logits[0], &scaled.logits[0]);
        let plain = case.plain(0);
        for kind in [KvAblationKind::MeanKey, KvAblationKind::MeanValue] {
            let found = case.with(0, kv(kind), &Capture::none());
            // The mean of one head is that head.
            assert_eq!(
                differ(&found.logits[0], &plain.logits[0]),
                shape.kv_heads > 1,
                "{}: {kind:?}",
                case.name
            );
        }
        // With all keys and all values alike all heads of a group that ask the same put out the same.
        let mut change = Intervention::none();
        for head in 0..shape.heads {
            change.ablation = change
                .ablation
                .with(Head::new(layer, head), AblationKind::MeanQuery);
        }
        for head in 0..shape.kv_heads {
            let head = KvHead::new(layer, head);
            change.kv_ablation = change
                .kv_ablation
                .with(head, KvAblationKind::MeanKey)
                .with(head, KvAblationKind::MeanValue);
        }
        let site = Site::HeadOutput(layer);
        let found = case.with(0, change, &Capture::of([site], Positions::All));
        let outputs = &found.captured[0].values[0];
        let first = outputs.slice(s![.., ..shape.head_dim]).to_owned();
        for head in 1..shape.heads {
            let start = head * shape.head_dim;
            let other = outputs
                .slice(s![.., start..start + shape.head_dim])
                .to_owned();
            close(case.name, &other, &first);
        }
    });
}

/// Steering at every position goes on in what is generated, and a view of the model is the model so changed.
#[test]
fn generation_is_steered() {
    let golden = golden("gguf-llama").unwrap();
    let model = device::open(golden.model());
    let text = model.text().unwrap();
    let vector = Array2::from_elem((1, model.shape().hidden), 0.7);
    let steered = model
        .intervened(Patch::add(Site::Hidden(1), vector.view()))
        .unwrap();
    let tokens = golden.tokens("whole.input_ids").unwrap().remove(0);
    let request = lm_core::Request::unnamed(tokens.clone());
    let options = lm_core::GenerateOptions {
        max_new_tokens: 6,
        ignore_stop_tokens: true,
        ..lm_core::GenerateOptions::default()
    };
    let found = lm_core::generate::generate(
        &steered,
        text,
        &[request],
        &options,
        &mut lm_core::generate::ignore,
    )
    .unwrap();
    let mut row = tokens;
    for &token in &found[0][0].tokens {
        let logits = steered.next_logits(&row).unwrap();
        assert_eq!(
            lm_core::logits::argmax(logits.as_slice().unwrap()),
            Some(token)
        );
        row.push(token);
    }
}

#[test]
fn the_size_is_known_before() {
    each(|case| {
        let shape = case.model.shape();
        let sites = [
            Site::Hidden(1),
            Site::HeadOutput(0),
            Site::AttentionWeights(0),
            Site::FinalNorm,
        ];
        let [first, _, third] = &case.prompts;
        for positions in [Positions::Last, Positions::All, Positions::At(vec![0, 2])] {
            let run = Run {
                capture: Capture::of(sites, positions),
                ..Run::default()
            };
            let found = case.run(&[first, third], &run);
            let values: usize = found
                .captured
                .iter()
                .flat_map(|row| &row.values)
                .map(Array2::len)
                .sum();
            assert_eq!(
                run.capture.bytes(&shape, &[first.len(), third.len()]),
                4 * values,
                "{}",
                case.name
            );
        }
    });
}

#[test]
fn what_cannot_be_is_refused() {
    let model = device::open(golden("llama-gqa-tied").unwrap().model());
    let shape = model.shape();
    let value = |width: usize| Array2::<f32>::zeros((1, width));
    let two = Array2::<f32>::zeros((2, shape.hidden));
    let run = |change: Intervention| {
        let run = Run {
            intervention: change,
            ..Run::default()
        };
        model.run(&[&[1, 2, 3]], &run).unwrap_err().to_string()
    };
    let layers = shape.layers;
    let hidden = shape.hidden;
    let patch = |site: Site, width: usize| Patch::add(site, value(width).view());
    for (patch, expected) in [
        (patch(Site::Hidden(layers + 1), hidden), format!("site: expected Hidden(0) to Hidden({layers}), found Hidden({})", layers + 1)),
        (patch(Site::MlpOutput(layers), hidden), format!("site: expected layers 0 to {}, found MlpOutput({layers})", layers - 1)),
        (patch(Site::Hidden(0), hidden - 1), format!("patch at Hidden(0): expected {hidden} values in row 0, found {}", hidden - 1)),
        (patch(Site::Hidden(0), hidden).on_head(0), "patch at Hidden(0): expected no head: only HeadOutput has them, found 0".to_owned()),
        (
            patch(Site::HeadOutput(0), shape.head_dim).on_head(shape.heads),
            format!("patch at HeadOutput(0): expected a head below {}, found {}", shape.heads, shape.heads),
        ),
        (
            patch(Site::AttentionWeights(0), 3),
            "patch at AttentionWeights(0): expected a site that can be written, found one that is only read".to_owned(),
        ),
        (patch(Site::Hidden(0), hidden).in_rows([1]), "row of the patch at Hidden(0): expected below 1, found 1".to_owned()),
        (
            patch(Site::Hidden(0), hidden).at(Positions::At(vec![3])),
            "position in row 0: expected below its 3 tokens, found 3".to_owned(),
        ),
        (
            patch(Site::Hidden(0), hidden).at(Positions::At(vec![1, 1])),
            "positions: expected rising numbers, none twice, found 1 before 1".to_owned(),
        ),
        (
            patch(Site::Hidden(0), hidden).at(Positions::At(vec![])),
            "list of positions is empty, expected at least one position".to_owned(),
        ),
        (
            Patch::add(Site::Hidden(0), two.view()),
            "values of the patch at Hidden(0): expected one for each of 3 positions of row 0, found 2".to_owned(),
        ),
        (
            Patch::add(Site::Hidden(0), two.view()).at(Positions::Last),
            "patch at Hidden(0): expected 1 row of values, found 2".to_owned(),
        ),
        (
            Patch::new(Site::Hidden(0), PatchAction::Add(vec![])),
            "patch at Hidden(0): expected rows of values, found 0".to_owned(),
        ),
        (
            Patch::interpolate(Site::Hidden(0), value(hidden).view(), f32::NAN),
            "patch at Hidden(0): expected a finite amount, found NaN".to_owned(),
        ),
        (
            Patch::add(Site::Hidden(0), Array2::from_elem((1, hidden), f32::INFINITY).view()),
            "patch at Hidden(0): expected finite values in row 0, found inf".to_owned(),
        ),
    ] {
        assert_eq!(run(patch.into()), expected);
    }
    assert_eq!(
        run(KvAblation::none()
            .with(KvHead::new(0, shape.kv_heads), KvAblationKind::MeanKey)
            .into()),
        format!(
            "key/value head: expected layers 0 to {} and key/value heads 0 to {}, found 0-kv{}",
            layers - 1,
            shape.kv_heads - 1,
            shape.kv_heads
        )
    );
    // An intervention is a value, and reads back.
    let change = Intervention::from(
        Patch::interpolate(Site::HeadOutput(1), value(shape.head_dim).view(), 0.5).on_head(1),
    );
    let json = serde_json::to_string(&change).unwrap();
    assert_eq!(serde_json::from_str::<Intervention>(&json).unwrap(), change);
}

/// A mean over values is taken in `f32`; the heads beside it are in the run's dtype.
#[test]
fn uniform_heads_in_narrow_dtypes() {
    let folder = golden("llama-gqa-tied").unwrap().model();
    let logits = |dtype: Dtype| {
        let options = device::options().dtype(dtype);
        let model = TorchModel::open_with(&folder, options).unwrap();
        let heads = (0..model.shape().layers).map(|layer| Head::new(layer, 1));
        let ablated = model
            .ablated(HeadAblation::undifferentiated(heads))
            .unwrap();
        let mut session = ablated.begin(2).unwrap();
        session.extend(&[&[5, 9, 2, 17], &[30, 8]]).unwrap()
    };
    let wide = logits(Dtype::F32);
    for dtype in [Dtype::Bf16, Dtype::F16] {
        let found = logits(dtype);
        let off = (&found - &wide)
            .mapv(f32::abs)
            .fold(0.0, |a: f32, b| a.max(*b));
        assert!(off < 0.1, "{dtype}: {off}");
    }
}
