//! The decoder against Hugging Face transformers on tiny random models: logits and every hidden state, for the whole
//! prompt, an unequal batch, a prompt in parts, one token at a time, and with one head changed.
//!
//! A new family adds its golden folder's name to the list at the end.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

mod device;

use lm_core::spec::RotaryScaling;
use lm_core::{
    AblationKind, Capture, Captured, Dtype, GenerateOptions, Head, HeadAblation, Intervention,
    LanguageModel, OpenModel, Positions, Request, Run, RunOutput, Site, TorchModel,
};
use lm_testkit::{Array, GoldenCase, Tolerance, assert_close, golden};
use ndarray::{Array2, Axis, concatenate};

struct Case {
    name: &'static str,
    golden: GoldenCase,
    model: TorchModel,
    /// `whole.input_ids` without its batch axis.
    prompt: Vec<u32>,
}

impl Case {
    fn open(name: &'static str) -> Self {
        let golden = golden(name).unwrap();
        let model = device::open(golden.model());
        let prompt = golden.tokens("whole.input_ids").unwrap().remove(0);
        Self {
            name,
            golden,
            model,
            prompt,
        }
    }

    /// Whether the rotary frequencies depend on the length when a token was read, so that the same prompt in other portions
    /// gives other numbers, here as in transformers.
    fn depends_on_split(&self) -> bool {
        let rotary = self.model.spec().rotary.as_ref();
        rotary.is_some_and(|rotary| {
            matches!(
                rotary.scaling,
                RotaryScaling::Dynamic { .. } | RotaryScaling::LongRope { .. }
            )
        })
    }

    fn run(&self, prompts: &[&[u32]], ablation: HeadAblation) -> RunOutput {
        run(&self.model, prompts, ablation)
    }

    /// Compares rows `[row][position]` of a run with `<part>.{logits,hidden,final_norm}`, rows at the right end.
    fn check(&self, part: &str, output: &RunOutput, tolerance: Tolerance) {
        check(
            &format!("{}: {part}", self.name),
            &self.golden,
            part,
            output,
            tolerance,
        );
    }
}

/// Every hidden state and the final norm, at every position.
fn everything(model: &TorchModel) -> Capture {
    let mut capture = Capture::hidden_states(model.shape().layers, Positions::All);
    capture.sites.push(Site::FinalNorm);
    capture
}

fn run(model: &TorchModel, prompts: &[&[u32]], ablation: HeadAblation) -> RunOutput {
    let run = Run {
        intervention: ablation.into(),
        capture: everything(model),
        logits: Positions::All,
    };
    model.run(prompts, &run).unwrap()
}

fn check(name: &str, golden: &GoldenCase, part: &str, output: &RunOutput, tolerance: Tolerance) {
    let logits = golden.floats(&format!("{part}.logits")).unwrap();
    let hidden = golden.floats(&format!("{part}.hidden")).unwrap();
    let final_norm = golden.floats(&format!("{part}.final_norm")).unwrap();
    let width = logits.shape[1];
    for (row, (found, captured)) in output.logits.iter().zip(&output.captured).enumerate() {
        let pads = width - found.nrows();
        for position in 0..found.nrows() {
            let at = |what: &str| format!("{name}: {what}, row {row}, position {position}");
            let slot = pads + position;
            let same = |what: &str, found: &[f32], expected: &[f32]| {
                assert_close(&at(what), found, expected, tolerance);
            };
            same(
                "logits",
                found.row(position).as_slice().unwrap(),
                logits.at(&[row, slot]),
            );
            let (norm, layers) = captured.values.split_last().unwrap();
            same(
                "final norm",
                norm.row(position).as_slice().unwrap(),
                final_norm.at(&[row, slot]),
            );
            assert_eq!(layers.len(), hidden.shape[0]);
            for (layer, state) in layers.iter().enumerate() {
                let expected = hidden.at(&[layer, row, slot]);
                same(
                    &format!("hidden {layer}"),
                    state.row(position).as_slice().unwrap(),
                    expected,
                );
            }
        }
    }
}

fn head(golden: &GoldenCase, part: &str) -> Head {
    let head = golden.tokens(&format!("{part}.head")).unwrap().remove(0);
    Head::new(head[0] as usize, head[1] as usize)
}

fn scalar(golden: &GoldenCase, name: &str) -> f32 {
    let array: &Array<f32> = golden.floats(name).unwrap();
    array.values[0]
}

fn whole_prompt(case: &Case) {
    let output = case.run(&[&case.prompt], HeadAblation::none());
    case.check("whole", &output, Tolerance::F32);
}

fn unequal_batch(case: &Case) {
    let rows = case.golden.padded_rows().unwrap();
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let output = case.run(&rows, HeadAblation::none());
    case.check("padded", &output, Tolerance::F32);

    // The same in a session with a cache: the newest token of each row.
    let logits = case.golden.floats("padded.logits").unwrap();
    let found = case.model.begin(rows.len()).unwrap().extend(&rows).unwrap();
    for row in 0..rows.len() {
        let expected = logits.at(&[row, logits.shape[1] - 1]);
        let name = format!("{}: session, row {row}", case.name);
        assert_close(
            &name,
            found.row(row).as_slice().unwrap(),
            expected,
            Tolerance::F32,
        );
    }
}

/// Feeds `parts` to a session one after the other and compares every hidden state of every position, and the logits after
/// each part, with `<name>.*`.
fn in_parts(case: &Case, name: &str, parts: &[&[u32]]) {
    let (model, golden) = (&case.model, &case.golden);
    let logits = golden.floats(&format!("{name}.logits")).unwrap();
    let mut session = model
        .begin_open(1, &Intervention::none(), &everything(model))
        .unwrap();
    assert!(session.captured().is_empty());
    let mut states: Vec<Vec<Array2<f32>>> = Vec::new();
    let mut positions = Vec::new();
    let mut last = 0;
    for part in parts {
        last += part.len();
        let found = session.extend(&[part]).unwrap();
        assert_close(
            &format!("{}: {name}, logits at {}", case.name, last - 1),
            found.as_slice().unwrap(),
            logits.at(&[0, last - 1]),
            Tolerance::F32,
        );
        states.push(session.captured()[0].values.clone());
        positions.extend_from_slice(&session.captured()[0].positions);
    }
    assert!(positions.iter().copied().eq(0..last));
    // The parts' states joined along the positions, and the logits that follow from them.
    let values: Vec<Array2<f32>> = (0..states[0].len())
        .map(|site| {
            let parts: Vec<_> = states.iter().map(|part| part[site].view()).collect();
            concatenate(Axis(0), &parts).unwrap()
        })
        .collect();
    let before_norm = &values[values.len() - 2];
    let output = RunOutput {
        logits: vec![model.unembed(before_norm.view()).unwrap()],
        captured: vec![Captured { positions, values }],
    };
    case.check(name, &output, Tolerance::F32);
}

fn prompt_in_two_parts(case: &Case) {
    let at = case.golden.tokens("split.at").unwrap()[0][0] as usize;
    in_parts(case, "split", &[&case.prompt[..at], &case.prompt[at..]]);
}

fn one_token_at_a_time(case: &Case) {
    let parts: Vec<&[u32]> = case.prompt.chunks(1).collect();
    in_parts(case, "steps", &parts);
}

fn one_head_changed(case: &Case) {
    let changed = |part: &str, kind| HeadAblation::none().with(head(&case.golden, part), kind);
    let ablations = [
        (
            "head_scaled",
            AblationKind::Contribution {
                factor: scalar(&case.golden, "head_scaled.factor"),
            },
        ),
        (
            "head_uniform",
            AblationKind::Undifferentiated {
                epsilon: scalar(&case.golden, "head_uniform.eps"),
            },
        ),
        (
            "head_near_uniform",
            AblationKind::Undifferentiated {
                epsilon: scalar(&case.golden, "head_near_uniform.eps"),
            },
        ),
    ];
    for (part, kind) in ablations {
        let ablation = changed(part, kind);
        let output = case.run(&[&case.prompt], ablation.clone());
        case.check(part, &output, Tolerance::F32);
        if case.depends_on_split() {
            continue;
        }

        // The same intervention through a session, one token at a time.
        let logits = case.golden.floats(&format!("{part}.logits")).unwrap();
        let ablated = case.model.ablated(ablation).unwrap();
        let mut session = ablated.begin(1).unwrap();
        for (position, &token) in case.prompt.iter().enumerate() {
            let found = session.append(&[token]).unwrap();
            let name = format!("{}: {part} in a session, position {position}", case.name);
            assert_close(
                &name,
                found.as_slice().unwrap(),
                logits.at(&[0, position]),
                Tolerance::F32,
            );
        }
    }
    // Nothing of it stays behind.
    whole_prompt(case);
}

fn scores(case: &Case) {
    let logits = case.golden.floats("whole.logits").unwrap();
    let (prefix, continuation) = case.prompt.split_at(5);
    let found = case.model.score(prefix, continuation).unwrap();
    let expected: Vec<f32> = (0..continuation.len())
        .map(|index| {
            let row = logits.at(&[0, 4 + index]);
            let total: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
            (f64::from(row[continuation[index] as usize]) - total.ln()) as f32
        })
        .collect();
    let found: Vec<f32> = found.iter().map(|&score| score as f32).collect();
    assert_close(
        &format!("{}: score", case.name),
        &found,
        &expected,
        Tolerance::F32,
    );
    if case.depends_on_split() {
        return;
    }
    // The plain path, by way of the default method, agrees.
    let plain: Vec<f32> = Plain(&case.model)
        .score(prefix, continuation)
        .unwrap()
        .iter()
        .map(|&score| score as f32)
        .collect();
    assert_close(
        &format!("{}: plain score", case.name),
        &plain,
        &expected,
        Tolerance::F32,
    );
}

/// Only what an engine must bring, so that the trait's own defaults run.
struct Plain<'a>(&'a TorchModel);

impl LanguageModel for Plain<'_> {
    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    fn next_logits(&self, tokens: &[u32]) -> lm_core::Result<ndarray::Array1<f32>> {
        self.0.next_logits(tokens)
    }
}

fn greedy(case: &Case) {
    let expected = case.golden.tokens("greedy.tokens").unwrap().remove(0);
    let mut session = case.model.begin(1).unwrap();
    let mut next = session.extend(&[&case.prompt]).unwrap();
    let mut found = Vec::new();
    for _ in 0..expected.len() {
        let token = lm_core::logits::argmax(next.as_slice().unwrap()).unwrap();
        found.push(token);
        next = session.append(&[token]).unwrap();
    }
    assert_eq!(found, expected, "{}", case.name);
}

macro_rules! cases {
    ($($module:ident = $name:literal),+ $(,)?) => { $(
        mod $module {
            use super::Case;

            #[test] fn whole_prompt() { super::whole_prompt(&Case::open($name)); }
            #[test] fn unequal_batch() { super::unequal_batch(&Case::open($name)); }
            #[test] fn prompt_in_two_parts() { super::prompt_in_two_parts(&Case::open($name)); }
            #[test] fn one_token_at_a_time() { super::one_token_at_a_time(&Case::open($name)); }
            #[test] fn one_head_changed() { super::one_head_changed(&Case::open($name)); }
            #[test] fn scores() { super::scores(&Case::open($name)); }
            #[test] fn greedy() { super::greedy(&Case::open($name)); }
            #[test] fn bfloat16() { super::bfloat16(&Case::open($name)); }
        }
    )+ };
}

cases! {
    llama_gqa_tied = "llama-gqa-tied",
    llama_mha_untied = "llama-mha-untied",
    llama_bias = "llama-bias",
    llama_head_dim = "llama-head-dim",
    llama_rope_linear = "llama-rope-linear",
    llama_rope_llama3 = "llama-rope-llama3",
    llama_sharded = "llama-sharded",
    llama_bf16 = "llama-bf16",
    llama_f16 = "llama-f16",
    llama_rope_yarn = "llama-rope-yarn",
    llama_rope_yarn_mscale = "llama-rope-yarn-mscale",
    llama_rope_dynamic = "llama-rope-dynamic",
    llama_rope_longrope = "llama-rope-longrope",
    gguf_llama_source = "gguf-llama",
    mistral = "mistral",
    qwen2 = "qwen2",
    qwen3 = "qwen3",
    gemma = "gemma",
    gemma2 = "gemma2",
    gemma3 = "gemma3",
    phi = "phi",
    phi_qk_norm = "phi-qk-norm",
    phi3 = "phi3",
    phi3_longrope = "phi3-longrope",
    falcon_multi_query = "falcon-multi-query",
    falcon_grouped = "falcon-grouped",
    falcon_sequential = "falcon-sequential",
    gpt2 = "gpt2",
    gpt_neo = "gpt-neo",
    gptj = "gptj",
    gpt_neox = "gpt-neox",
    gpt_neox_sequential = "gpt-neox-sequential",
    glm = "glm",
    glm4 = "glm4",
    olmo2 = "olmo2",
}

/// In bfloat16 rounding hides a lot. Where a case has transformers' own bfloat16 run, ours must be as near to the f32 run as
/// that one: its root mean square error at most 1.5 times theirs, over the logits and over each hidden state.
fn bfloat16(case: &Case) {
    if case.golden.floats("bfloat16.logits").is_err() {
        assert!(
            case.name.starts_with("llama-") || case.name.starts_with("gguf-"),
            "{} has no bfloat16 run",
            case.name
        );
        return;
    }
    let options = device::options().dtype(Dtype::Bf16);
    let model = TorchModel::open_with(case.golden.model(), options).unwrap();
    let output = run(&model, &[&case.prompt], HeadAblation::none());
    let near = |what: &str, ours: &[f32], theirs: &[f32], exact: &[f32]| {
        let error = |values: &[f32]| lm_testkit::root_mean_square(values, exact).unwrap();
        let (ours, theirs) = (error(ours), error(theirs));
        assert!(
            ours <= 1.5 * theirs + 1e-6,
            "{}: {what}: {ours} against transformers' {theirs}",
            case.name
        );
    };
    let floats = |name: &str| case.golden.floats(name).unwrap();
    let logits = output.logits[0].as_slice().unwrap();
    near(
        "logits",
        logits,
        &floats("bfloat16.logits").values,
        &floats("whole.logits").values,
    );
    let states = &output.captured[0].values;
    let (theirs, exact) = (floats("bfloat16.hidden"), floats("whole.hidden"));
    let size = exact.values.len() / exact.shape[0];
    // The embedding is rounded alike, bit for bit or nearly; from the first block on errors are comparable.
    assert_eq!(states.len(), exact.shape[0] + 1);
    for (layer, state) in states.iter().enumerate().take(exact.shape[0]).skip(1) {
        let of_layer = layer * size..(layer + 1) * size;
        near(
            &format!("hidden {layer}"),
            state.as_slice().unwrap(),
            &theirs.values[of_layer.clone()],
            &exact.values[of_layer],
        );
    }
}

/// Runs each file of a golden folder on the ids `prompt` and compares with the tensors of its part.
fn check_files(case: &str, prompt: &str, files: &[(&str, &str)]) {
    let golden = golden(case).unwrap();
    let prompt = golden.tokens(prompt).unwrap().remove(0);
    for (file, part) in files {
        let model = device::open(golden.folder().join(file));
        let output = run(&model, &[&prompt], HeadAblation::none());
        check(file, &golden, part, &output, Tolerance::F32);
    }
}

#[test]
fn gguf_files_run_like_the_folder_they_were_made_of() {
    let files = [
        ("f32.gguf", "f32"),
        ("f16.gguf", "f16"),
        ("q8_0.gguf", "q8_0"),
    ];
    check_files("gguf-llama", "whole.input_ids", &files);
}

/// Each architecture of GGUF, from a file that holds what llama.cpp's converter would write.
#[test]
fn gguf_architectures() {
    for case in [
        "gguf-qwen2",
        "gguf-qwen3",
        "gguf-gemma",
        "gguf-gemma2",
        "gguf-gemma3",
        "gguf-phi3",
        "gguf-gpt2",
        "gguf-falcon",
        "gguf-falcon-multi-query",
    ] {
        check_files(case, "input_ids", &[("f32.gguf", "f32")]);
    }
}

#[test]
fn gguf_rotary_scaling_from_a_tensor_and_from_metadata() {
    let files = [("linear.gguf", "linear"), ("llama3.gguf", "llama3")];
    check_files("gguf-llama-rope", "input_ids", &files);
}

#[test]
fn one_model_has_one_hash_in_every_format() {
    let hash = |path: std::path::PathBuf| {
        lm_core::Checkpoint::open(path)
            .unwrap()
            .model_hash()
            .unwrap()
            .to_owned()
    };
    let gguf = golden("gguf-llama").unwrap();
    assert_eq!(hash(gguf.model()), hash(gguf.folder().join("f32.gguf")));
    assert_ne!(hash(gguf.model()), hash(gguf.folder().join("q8_0.gguf")));
    let (one, sharded) = (
        golden("llama-rope-llama3").unwrap(),
        golden("llama-sharded").unwrap(),
    );
    assert_eq!(hash(one.model()), hash(sharded.model()));
}

/// Sampling through the library's own loop: rows do not see each other, and three equal runs are equal.
#[test]
fn a_row_draws_the_same_alone_and_in_a_batch() {
    let case = golden("gguf-llama").unwrap();
    let model = device::open(case.model());
    let text = model.text().unwrap();
    let requests: Vec<Request> = case
        .padded_rows()
        .unwrap()
        .into_iter()
        .enumerate()
        .map(|(index, tokens)| Request {
            id: format!("item {index}"),
            tokens,
        })
        .collect();
    let options = GenerateOptions {
        sampling: lm_core::Sampling::temperature(1.0),
        samples: 3,
        seed: 11,
        max_new_tokens: 12,
        ..GenerateOptions::default()
    };
    let generate = |requests: &[Request], batch: usize| {
        let options = GenerateOptions {
            batch,
            ..options.clone()
        };
        lm_core::generate::generate(
            &model,
            text,
            requests,
            &options,
            &mut lm_core::generate::ignore,
        )
        .unwrap()
    };
    let tokens = |generations: &[Vec<lm_core::Generation>]| -> Vec<Vec<Vec<u32>>> {
        generations
            .iter()
            .map(|all| all.iter().map(|one| one.tokens.clone()).collect())
            .collect()
    };
    let together = tokens(&generate(&requests, 16));
    assert_eq!(together, tokens(&generate(&requests, 16)));
    assert_eq!(together, tokens(&generate(&requests, 2)));
    let alone: Vec<_> = requests
        .iter()
        .flat_map(|request| tokens(&generate(std::slice::from_ref(request), 1)))
        .collect();
    assert_eq!(together, alone);
    assert_ne!(together[0][0], together[0][1], "samples differ");
}
