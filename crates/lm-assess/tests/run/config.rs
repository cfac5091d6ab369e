//! A run under another configuration does not go on from a journal, and says why.

use std::fs;

use lm_assess::run::{Results, Run, RunConfig, RunError, Shard, merge};
use lm_core::{Determinism, Provenance, Sampling};

use super::study::{Item, folder, items, journal_in, report, run_all};

fn provenance() -> Provenance {
    let mut provenance = Provenance::new();
    provenance.model = Some("tiny.gguf".to_owned());
    provenance.model_hash = Some("aa".to_owned());
    provenance.adapters = vec!["bb".to_owned()];
    provenance.family = Some("llama".to_owned());
    provenance.tokenizer_hash = Some("cc".to_owned());
    provenance.template_hash = Some("dd".to_owned());
    provenance.dtype = Some("f32".to_owned());
    provenance.device = Some("cpu".to_owned());
    provenance.threads = Some(2);
    provenance.libtorch = Some("2.11.0".to_owned());
    provenance
}

fn with(change: impl FnOnce(&mut Provenance)) -> RunConfig {
    let mut provenance = provenance();
    change(&mut provenance);
    of("m", "1", 7, provenance, 0.7, "1.0")
}

fn of(
    method: &str,
    version: &str,
    seed: u64,
    provenance: Provenance,
    temperature: f32,
    code: &str,
) -> RunConfig {
    RunConfig::new(method, version, seed)
        .repeats(2)
        .provenance(provenance)
        .options("sampling", &Sampling::temperature(temperature))
        .unwrap()
        .code("study", code)
}

#[test]
fn every_change_that_numbers_may_depend_on_refuses_to_resume_and_to_merge() {
    let items = items(3);
    let own = || with(|_| {});
    let folder = folder();
    let journal = journal_in(&folder);
    let run = Run::new(own(), &items).unwrap();
    run_all(&run, &journal).unwrap();
    let before = fs::read(&journal).unwrap();
    let changes = [
        ("method", "\"n\"", of("n", "1", 7, provenance(), 0.7, "1.0")),
        (
            "method_version",
            "\"2\"",
            of("m", "2", 7, provenance(), 0.7, "1.0"),
        ),
        ("seed", "8", of("m", "1", 8, provenance(), 0.7, "1.0")),
        (
            "options.sampling.temperature",
            "0.5",
            of("m", "1", 7, provenance(), 0.5, "1.0"),
        ),
        (
            "code.study",
            "\"1.1\"",
            of("m", "1", 7, provenance(), 0.7, "1.1"),
        ),
        ("code.commit", "\"abc\"", own().code("commit", "abc")),
        ("repeats", "3", own().repeats(3)),
        (
            "determinism",
            "\"exact\"",
            own().determinism(Determinism::Exact),
        ),
        (
            "model_hash",
            "\"ab\"",
            with(|p| p.model_hash = Some("ab".to_owned())),
        ),
        ("model_hash", "null", with(|p| p.model_hash = None)),
        ("adapters", "[]", with(|p| p.adapters.clear())),
        (
            "family",
            "\"qwen2\"",
            with(|p| p.family = Some("qwen2".to_owned())),
        ),
        (
            "tokenizer_hash",
            "\"xx\"",
            with(|p| p.tokenizer_hash = Some("xx".to_owned())),
        ),
        (
            "template_hash",
            "\"xx\"",
            with(|p| p.template_hash = Some("xx".to_owned())),
        ),
        (
            "dtype",
            "\"bf16\"",
            with(|p| p.dtype = Some("bf16".to_owned())),
        ),
        (
            "libtorch",
            "\"2.12.0\"",
            with(|p| p.libtorch = Some("2.12.0".to_owned())),
        ),
        (
            "tool",
            "\"lm-core 9\"",
            with(|p| p.tool = "lm-core 9".to_owned()),
        ),
    ];
    let mut fields = 0;
    for (field, value, changed) in changes {
        let other = Run::new(changed, &items).unwrap();
        for error in [
            run_all(&other, &journal).unwrap_err(),
            other.plan(&journal).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(
                text.contains(&format!("`{field}`: expected {value}, found ")),
                "{text}"
            );
            assert!(matches!(error, RunError::OtherRun { path, .. } if path == journal));
        }
        assert!(fs::read(&journal).unwrap() == before);
        // Neither do their results join.
        let beside = folder.path().join("other.jsonl");
        run_all(&other, &beside).unwrap();
        let error = merge(&[&journal, &beside]).unwrap_err().to_string();
        assert!(
            error.contains("other.jsonl: results of different runs do not merge: "),
            "{error}"
        );
        assert!(error.contains(&format!("`{field}`: ")), "{error}");
        fs::remove_file(&beside).unwrap();
        fields += 1;
    }
    assert_eq!(fields, 17);
}

#[test]
fn other_items_and_other_parts_are_refused() {
    let own = || with(|_| {});
    let few = items(3);
    let folder = folder();
    let journal = journal_in(&folder);
    run_all(&Run::new(own(), &few).unwrap(), &journal).unwrap();
    let more = items(4);
    let text = run_all(&Run::new(own(), &more).unwrap(), &journal)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("`data.items`: expected 4, found 3; `data.sha256`: "),
        "{text}"
    );
    let mut changed = items(3);
    changed[1].1.push('!');
    let text = run_all(&Run::new(own(), &changed).unwrap(), &journal)
        .unwrap_err()
        .to_string();
    assert!(text.contains("run: `data.sha256`: "), "{text}");
    let part = Run::new(own(), &few)
        .unwrap()
        .shard(Shard::new(1, 2).unwrap());
    let text = run_all(&part, &journal).unwrap_err().to_string();
    assert!(
        text.ends_with("run: `shard`: expected \"1/2\", found \"0/1\""),
        "{text}"
    );
    // The order of the list is nobody's business.
    let reversed: Vec<Item> = items(3).into_iter().rev().collect();
    assert_eq!(
        run_all(&Run::new(own(), &reversed).unwrap(), &journal)
            .unwrap()
            .left,
        0
    );
}

#[test]
fn another_machine_is_noted_and_goes_on_unless_bits_are_promised() {
    let items = items(3);
    let elsewhere = |p: &mut Provenance| {
        p.device = Some("cuda:0".to_owned());
        p.threads = Some(64);
        p.model = Some("same-weights".to_owned());
    };
    let folder = folder();
    let journal = journal_in(&folder);
    let run = Run::new(with(|_| {}), &items).unwrap();
    run_all(&run, &journal).unwrap();
    let first = report(&journal);
    let other = Run::new(with(elsewhere), &items).unwrap();
    assert_eq!(run_all(&other, &journal).unwrap().done, 6);
    assert!(report(&journal) == first);
    let text = fs::read_to_string(&journal).unwrap();
    assert!(
        text.lines()
            .last()
            .unwrap()
            .contains("\"device\":\"cuda:0\",\"threads\":64"),
        "{text}"
    );
    // Noted once, not at each opening.
    run_all(&other, &journal).unwrap();
    assert_eq!(fs::read_to_string(&journal).unwrap(), text);

    let exact = folder.path().join("exact.jsonl");
    let strict = |change: fn(&mut Provenance)| with(change).determinism(Determinism::Exact);
    run_all(&Run::new(strict(|_| {}), &items).unwrap(), &exact).unwrap();
    let other = Run::new(strict(|p| p.threads = Some(64)), &items).unwrap();
    let text = run_all(&other, &exact).unwrap_err().to_string();
    assert!(
        text.ends_with("run: `threads`: expected 64, found 2"),
        "{text}"
    );
}

#[test]
fn a_program_that_was_built_anew_can_be_told_apart() {
    let items = items(1);
    let strict = Run::new(with(|_| {}).executable().unwrap(), &items).unwrap();
    let hash = strict.identity()["code"]["executable"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(hash.len(), 64);
    let again = Run::new(with(|_| {}).executable().unwrap(), &items).unwrap();
    assert_eq!(strict.identity(), again.identity());
}

#[test]
fn an_identity_that_was_edited_is_refused() {
    let items = items(1);
    let folder = folder();
    let journal = journal_in(&folder);
    run_all(&Run::new(with(|_| {}), &items).unwrap(), &journal).unwrap();
    let text = fs::read_to_string(&journal)
        .unwrap()
        .replacen("\"seed\":7", "\"seed\":8", 1);
    fs::write(&journal, text).unwrap();
    let error = Results::read(&journal).unwrap_err().to_string();
    assert!(error.contains("its checksum does not hold"), "{error}");
}
