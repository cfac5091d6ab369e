//! The programs, run as a user does: on a tiny random model everywhere, on the demo model where it has been set up.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::path::Path;

use common::schema::assert_valid;
use common::{json, run, run_with_input, tiny_model};
use lm_examples::results::{GenerateResult, HeadsResult};
use lm_testkit::{TinyLlama, Tolerance, assert_close, demo_model_or_skip, golden};
use serde_json::Value;

const FRANCE: &str = "What is the capital of France?";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn generate_writes_what_its_schema_says() {
    let (model, folder) = (tiny_model(), tempfile::tempdir().unwrap());
    let prompts = folder.path().join("prompts.jsonl");
    fs::write(
        &prompts,
        "{\"prompt\": \"the thin tin\", \"id\": \"raw\"}\n{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}\n",
    )
    .unwrap();
    let file = folder.path().join("result.json");
    let ran = run(
        "generate",
        &[
            "--model",
            text(model.path()),
            "--prompts",
            text(&prompts),
            "--user",
            "first",
            "--samples",
            "2",
            "--temperature",
            "1",
            "--seed",
            "5",
            "--max-new-tokens",
            "6",
            "--json",
            text(&file),
            "--out",
            text(&folder.path().join("kept")),
        ],
    );
    assert!(ran.success, "{}", ran.err);
    let written = json(&file);
    assert_valid("generate-1", &written);
    assert_eq!(written, json(folder.path().join("kept/generate.json")));

    let result: GenerateResult = serde_json::from_value(written).unwrap();
    assert_eq!(result.schema, GenerateResult::SCHEMA);
    assert_eq!(result.provenance.seed, Some(5));
    let places: Vec<_> = result
        .items
        .iter()
        .map(|item| (item.id.as_deref(), item.sample))
        .collect();
    let (unnamed, raw) = (None, Some("raw"));
    assert_eq!(
        places,
        [
            (unnamed, 0),
            (unnamed, 1),
            (raw, 0),
            (raw, 1),
            (unnamed, 0),
            (unnamed, 1)
        ]
    );
    // Samples of one prompt differ, and the items are in the prompts' order: flags first.
    assert_ne!(
        result.items[2].generation.tokens,
        result.items[3].generation.tokens
    );
    assert_eq!(result.items[0].prompt_tokens, result.items[1].prompt_tokens);
    for item in &result.items {
        assert_eq!(item.generation.tokens.len(), item.generation.logprobs.len());
        assert_eq!(item.generation.first_logits.len(), 10);
        assert!(
            item.generation
                .logprobs
                .iter()
                .all(|&logprob| logprob < 0.0)
        );
    }
}

#[test]
fn equal_runs_write_equal_files_whatever_the_batch() {
    let (model, folder) = (tiny_model(), tempfile::tempdir().unwrap());
    let written = |name: &str, batch: &str| {
        let file = folder.path().join(name);
        let ran = run(
            "generate",
            &[
                "--model",
                text(model.path()),
                "--prompt",
                "the thin tin",
                "--prompt",
                "in",
                "--samples",
                "3",
                "--temperature",
                "0.8",
                "--top-k",
                "40",
                "--max-new-tokens",
                "5",
                "--batch",
                batch,
                "--json",
                text(&file),
            ],
        );
        assert!(ran.success, "{}", ran.err);
        fs::read(file).unwrap()
    };
    let first = written("1.json", "1");
    assert_eq!(first, written("2.json", "1"));
    let (one, six): (GenerateResult, GenerateResult) = (
        serde_json::from_slice(&first).unwrap(),
        serde_json::from_slice(&written("3.json", "6")).unwrap(),
    );
    for (one, six) in one.items.iter().zip(&six.items) {
        assert_eq!(one.generation.tokens, six.generation.tokens);
    }
}

#[test]
fn a_single_prompt_is_streamed() {
    let model = tiny_model();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("result.json");
    let ran = run(
        "generate",
        &[
            "--model",
            text(model.path()),
            "--prompt",
            "the",
            "--max-new-tokens",
            "8",
            "--json",
            text(&file),
        ],
    );
    assert!(ran.success, "{}", ran.err);
    let result: GenerateResult = serde_json::from_value(json(&file)).unwrap();
    let expected = lm_examples::output::printable(&result.items[0].generation.text).into_owned();
    assert_eq!(ran.out, format!("{expected}\n"));
    assert_eq!(ran.err, "");
}

#[test]
fn heads_scores_every_head_and_ablates_the_most_influential() {
    let (model, folder) = (tiny_model(), tempfile::tempdir().unwrap());
    let out = folder.path().join("new/folder");
    let ablated = |args: &[&str], file: &Path| -> HeadsResult {
        let fixed = [
            "--model",
            text(model.path()),
            "--user",
            "the thin tin",
            "--max-new-tokens",
            "4",
        ];
        let ran = run("heads", &[&fixed[..], args].concat());
        assert!(ran.success, "{}", ran.err);
        assert_valid("heads-1", &json(file));
        serde_json::from_value(json(file)).unwrap()
    };
    for (kind, flag) in [("ua", "--ua"), ("sc", "--sc")] {
        let found = ablated(
            &["--find", "--kind", kind, "--out", text(&out)],
            &out.join("heads.json"),
        );
        assert_eq!(found.schema, HeadsResult::SCHEMA);
        let item = &found.items[0];
        let scores = &item.scores.as_ref().unwrap().kl;
        assert_eq!((scores.len(), scores[0].len()), (3, 4));
        let top = scores.iter().flatten().copied().fold(0.0, f64::max);
        // The sweep runs heads together: the same sums in another order.
        let same = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b + 1e-9;
        assert!(same(item.kl, top), "{} {top}", item.kl);

        // The same numbers one head at a time, by the other flags.
        let file = folder.path().join("one.json");
        for (layer, head) in [(0, 0), (1, 3), (2, 1)] {
            let one = ablated(
                &[flag, &format!("{layer}-{head}"), "--json", text(&file)],
                &file,
            );
            let expected: f64 = scores[layer][head];
            assert!(
                same(one.items[0].kl, expected),
                "{kind} {layer}-{head}: {} {expected}",
                one.items[0].kl
            );
            assert!(one.items[0].scores.is_none());
        }
        assert!(
            fs::read(out.join("heads.png"))
                .unwrap()
                .starts_with(b"\x89PNG\r\n\x1a\n")
        );
    }
}

#[test]
fn uniform_attention_over_one_token_changes_nothing() {
    let (model, folder) = (tiny_model(), tempfile::tempdir().unwrap());
    let file = folder.path().join("one.json");
    // The tiny model begins every prompt with BOS, so that an empty one is one token.
    let ran = run(
        "heads",
        &[
            "--model",
            text(model.path()),
            "--prompt",
            "",
            "--find",
            "--max-new-tokens",
            "1",
            "--json",
            text(&file),
        ],
    );
    assert!(ran.success, "{}", ran.err);
    let result: HeadsResult = serde_json::from_value(json(&file)).unwrap();
    let item = &result.items[0];
    assert_eq!(item.prompt_tokens, [TinyLlama::BOS]);
    let scores = &item.scores.as_ref().unwrap().kl;
    assert!(scores.iter().flatten().all(|&kl| kl < 1e-9), "{scores:?}");
}

#[test]
fn chat_answers_lines_and_keeps_what_it_has_read() {
    let model = tiny_model();
    let ran = run_with_input(
        "chat",
        &["--model", text(model.path()), "--max-new-tokens", "3"],
        "hi\n\nand then\n/reset\nhi\n/system be brief\nhi\n/nonsense\n/quit\nnever read\n",
    );
    assert!(ran.success, "{}", ran.err);
    let reused: Vec<&str> = ran
        .err
        .lines()
        .filter_map(|line| {
            line.split("; ")
                .find(|part| part.ends_with("prompt tokens reused"))
        })
        .collect();
    assert_eq!(reused.len(), 4, "{}", ran.err);
    assert!(reused[0].starts_with("0 of "));
    assert!(
        !reused[1].starts_with("0 of "),
        "the second turn read everything again: {}",
        ran.err
    );
    assert_eq!(reused[2], reused[0]);
    assert!(ran.err.contains("unknown command /nonsense"));
    // The end of the input, without a command, is a clean end too.
    assert!(
        run_with_input(
            "chat",
            &["--model", text(model.path()), "--max-new-tokens", "1"],
            "hi"
        )
        .success
    );
}

#[test]
fn mistakes_name_the_flag_or_the_line() {
    let (model, folder) = (tiny_model(), tempfile::tempdir().unwrap());
    let long = "in ".repeat(400);
    let bad_line = folder.path().join("bad.jsonl");
    fs::write(
        &bad_line,
        format!("{{\"prompt\": \"a\"}}\n{{\"prompt\": {long:?}}}\n"),
    )
    .unwrap();
    let cases: &[(&str, &[&str], &[&str])] = &[
        (
            "generate",
            &[],
            &["nothing to continue: give --prompt, --user or --prompts"],
        ),
        (
            "generate",
            &["--prompt", "a", "--device", "tpu"],
            &["--device", "cpu, cuda or cuda:N"],
        ),
        (
            "generate",
            &["--prompt", "a", "--dtype", "f8"],
            &["--dtype", "f32, bf16 or f16"],
        ),
        (
            "generate",
            &["--prompt", "a", "--max-new-tokens", "0"],
            &["max-new-tokens: expected at least 1, found 0"],
        ),
        (
            "generate",
            &["--prompt", "a", "--samples", "0"],
            &["samples: expected at least 1, found 0"],
        ),
        (
            "generate",
            &["--prompt", "a", "--batch", "0"],
            &["batch: expected at least 1, found 0"],
        ),
        (
            "generate",
            &["--prompt", "a", "--top-p", "0.9"],
            &["--temperature"],
        ),
        (
            "generate",
            &["--prompt", "a", "--temperature", "1", "--top-p", "1.5"],
            &["top-p: expected above 0, at most 1, found 1.5"],
        ),
        (
            "generate",
            &["--prompt", &long],
            &["--prompt 1: ", "the model's context holds 256"],
        ),
        (
            "generate",
            &["--prompts", text(&bad_line)],
            &["bad.jsonl:2: "],
        ),
        (
            "generate",
            &["--prompts", "absent.jsonl"],
            &["--prompts: cannot read absent.jsonl"],
        ),
        (
            "generate",
            &["--prompt", "a", "--json", "no/such/folder/a.json"],
            &["--json: no folder no/such/folder"],
        ),
        (
            "heads",
            &["--prompt", "a"],
            &["no head to switch off: give --ua or --sc, or let --find find one"],
        ),
        (
            "heads",
            &["--ua", "0-0"],
            &["nothing to look at: give --prompt"],
        ),
        (
            "heads",
            &["--prompt", "a", "--ua", "0"],
            &["--ua", "layer-head, both from 0, such as 2-26"],
        ),
        (
            "heads",
            &["--prompt", "a", "--sc", "3-0"],
            &["head 3-0: the model has layers 0 to 2 and query heads 0 to 3"],
        ),
        (
            "heads",
            &["--prompt", "a", "--ua", "0-0", "--epsilon", "NaN"],
            &["--epsilon: expected a finite number, found NaN"],
        ),
        ("chat", &["--stop", ""], &["stop"]),
    ];
    for (program, args, expected) in cases {
        let ran = run(program, &[&["--model", text(model.path())], *args].concat());
        assert!(!ran.success, "{program} {args:?} succeeded");
        for part in *expected {
            assert!(
                ran.err.contains(part),
                "{program} {args:?}: {part:?} is not in {}",
                ran.err
            );
        }
        assert_eq!(ran.out, "", "{program} {args:?}");
    }
}

#[test]
fn without_a_demo_model_the_command_that_brings_it_is_named() {
    let ran = run("generate", &["--prompt", "a"]);
    assert!(!ran.success);
    assert_eq!(
        ran.err,
        "error: no demo model at no-such-folder/models/SmolLM2-135M-Instruct.Q4_1.gguf: run `cargo xtask setup`, or name a model \
         with --model\n"
    );
}

/// The demo model begins with no BOS, so that an empty prompt leaves nothing to feed.
#[test]
fn an_empty_prompt_is_named() {
    let model = demo_model_or_skip!();
    let ran = run(
        "generate",
        &["--model", text(&model), "--prompt", "a", "--prompt", ""],
    );
    assert!(!ran.success);
    assert_eq!(
        ran.err,
        "error: --prompt 2: prompt is empty, expected at least one token\n"
    );
}

/// Prompt tokens, largest logits and greedy tokens by Hugging Face transformers on the same file.
#[test]
fn generate_gives_the_tokens_of_transformers() {
    let model = demo_model_or_skip!();
    let (case, folder) = (golden("smollm2").unwrap(), tempfile::tempdir().unwrap());
    let lines = fs::read_to_string(case.folder().join("prompts.jsonl")).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    // Raw, raw that is not English, chat.
    let chat = lines
        .iter()
        .position(|line| line.contains("\"messages\""))
        .unwrap();
    let chosen = [1, 7, chat];
    let prompts = folder.path().join("prompts.jsonl");
    fs::write(&prompts, chosen.map(|index| lines[index]).join("\n")).unwrap();
    let file = folder.path().join("result.json");
    let ran = run(
        "generate",
        &[
            "--model",
            text(&model),
            "--prompts",
            text(&prompts),
            "--max-new-tokens",
            "64",
            "--json",
            text(&file),
        ],
    );
    assert!(ran.success, "{}", ran.err);
    assert_valid("generate-1", &json(&file));
    let result: GenerateResult = serde_json::from_value(json(&file)).unwrap();
    assert_eq!(result.items.len(), chosen.len());
    for (item, index) in result.items.iter().zip(chosen) {
        let tokens = |what: &str| {
            case.tokens(&format!("{index:02}.{what}"))
                .unwrap()
                .remove(0)
        };
        assert_eq!(item.prompt_tokens, tokens("tokens"), "prompt {index}");
        assert_eq!(item.generation.tokens, tokens("greedy"), "prompt {index}");
        let (ids, logits): (Vec<u32>, Vec<f32>) =
            item.generation.first_logits.iter().copied().unzip();
        assert_eq!(ids, tokens("top_ids")[..10], "prompt {index}");
        let expected = &case
            .floats(&format!("{index:02}.top_logits"))
            .unwrap()
            .values[..10];
        assert_close(
            &format!("prompt {index}"),
            &logits,
            expected,
            Tolerance::SMOLLM2_LOGITS,
        );
    }
}

/// KL divergences and text by Hugging Face transformers 5.23.0 on the same file, with the rows of `q_proj` (UA) or the columns
/// of `o_proj` (SC) of the head multiplied in place.
#[test]
fn heads_gives_the_divergences_of_transformers() {
    let model = demo_model_or_skip!();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("result.json");
    for (flags, kl) in [
        (&["--ua", "18-8"][..], 4.229_723_957),
        (&["--sc", "18-8"], 0.001_186_435),
        (
            &["--ua", "18-8,15-3", "--sc", "7-2", "--factor", "0.5"],
            4.569_499_854,
        ),
    ] {
        let fixed = [
            "--model",
            text(&model),
            "--user",
            FRANCE,
            "--max-new-tokens",
            "24",
            "--json",
            text(&file),
        ];
        let ran = run("heads", &[&fixed[..], flags].concat());
        assert!(ran.success, "{}", ran.err);
        assert_valid("heads-1", &json(&file));
        let result: HeadsResult = serde_json::from_value(json(&file)).unwrap();
        let item = &result.items[0];
        // f32 arithmetic in another order; relative to the score, absolute near 0.
        assert!(
            (item.kl - kl).abs() < 1e-4 * kl + 1e-6,
            "{flags:?}: {} {kl}",
            item.kl
        );
        assert_eq!(item.before.text, "The capital of France is Paris.");
        if flags == ["--ua", "18-8"] {
            assert_eq!(
                item.after.tokens,
                [
                    504, 3575, 282, 4649, 314, 4649, 30, 198, 198, 504, 4234, 282, 4649, 314, 4649,
                    816, 260, 4234, 282, 4649, 314, 4649, 816, 564
                ]
            );
            let the = item
                .next_token
                .iter()
                .find(|token| token.id == 504)
                .unwrap();
            assert_eq!(the.text, "The");
            assert!(
                (the.before - 0.152_176_9).abs() < 1e-4 && (the.after - 0.493_151_1).abs() < 1e-4
            );
        }
    }
}

/// What the README's first command runs.
#[test]
fn the_demo_leaves_a_figure_and_its_numbers() {
    let model = demo_model_or_skip!();
    let folder = tempfile::tempdir().unwrap();
    let ran = run(
        "heads",
        &[
            "--demo",
            "--model",
            text(&model),
            "--out",
            text(folder.path()),
            "--max-new-tokens",
            "8",
        ],
    );
    assert!(ran.success, "{}", ran.err);
    assert!(
        ran.out.contains("before: The capital of France is Paris."),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("heads.png") && ran.out.contains("the same on a bigger model"),
        "{}",
        ran.out
    );
    assert!(folder.path().join("heads.png").exists());
    let written: Value = json(folder.path().join("heads.json"));
    assert_valid("heads-1", &written);
    assert_eq!(written["items"][0]["ablation"][0]["head"], "18-8");
}
