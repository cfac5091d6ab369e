//! States of many prompts in a file are the states of each, and half a file is none.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

use lm_core::{
    Capture, CaptureFile, Head, HeadAblation, Intervention, OpenModel, Positions, Run, Site,
    TorchModel, capture_to_file,
};
use lm_testkit::{Tolerance, assert_close, golden};
use safetensors::SafeTensors;

fn model() -> TorchModel {
    TorchModel::open(golden("llama-gqa-tied").unwrap().model()).unwrap()
}

fn prompts() -> Vec<Vec<u32>> {
    (0..23_u32)
        .map(|n| {
            (0..2 + (n * 7) % 11)
                .map(|i| (n * 13 + i * 5) % 90)
                .collect()
        })
        .collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect()
}

fn integers(bytes: &[u8]) -> Vec<usize> {
    bytes
        .chunks(8)
        .map(|eight| i64::from_le_bytes(eight.try_into().unwrap()) as usize)
        .collect()
}

#[test]
fn a_file_holds_what_each_prompt_alone_has() {
    let model = model();
    let prompts = prompts();
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let change: Intervention = HeadAblation::silenced([Head::new(0, 1)]).into();
    let folder = tempfile::tempdir().unwrap();
    let sites = [Site::FinalNorm, Site::Hidden(1), Site::HeadOutput(0)];
    for (positions, tokens) in [
        (Positions::Last, 1),
        (Positions::All, 40),
        (Positions::At(vec![0, 1]), 10_000),
    ] {
        let capture = Capture::of(sites, positions);
        let path = folder.path().join("states.safetensors");
        capture_to_file(&model, &prompts, &change, &capture, &path, tokens).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let rows = integers(tensors.tensor("rows").unwrap().data());
        let positions = integers(tensors.tensor("positions").unwrap().data());
        let mut line = 0;
        for (row, prompt) in prompts.iter().enumerate() {
            let run = Run {
                intervention: change.clone(),
                capture: capture.clone(),
                ..Run::default()
            };
            let alone = model.run(&[prompt], &run).unwrap().captured.remove(0);
            let lines = line..line + alone.positions.len();
            assert!(rows[lines.clone()].iter().all(|found| *found == row));
            assert_eq!(positions[lines.clone()], alone.positions);
            for (site, expected) in sites.iter().zip(&alone.values) {
                let tensor = tensors.tensor(&site.to_string()).unwrap();
                let width = expected.ncols();
                assert_eq!(tensor.shape(), [rows.len(), width]);
                let found = floats(tensor.data());
                assert_close(
                    &format!("{site}, prompt {row}"),
                    &found[lines.start * width..lines.end * width],
                    expected.as_standard_layout().as_slice().unwrap(),
                    Tolerance::F32,
                );
            }
            line = lines.end;
        }
        assert_eq!(line, rows.len());
    }
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["states.safetensors"]);
}

#[test]
fn half_a_file_is_none_and_mistakes_are_named() {
    let model = model();
    let shape = model.shape();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("states.safetensors");
    let capture = Capture::of([Site::Hidden(0)], Positions::Last);
    let kept = |prompt: &[u32]| {
        let run = Run {
            capture: capture.clone(),
            ..Run::default()
        };
        model.run(&[prompt], &run).unwrap().captured.remove(0)
    };
    let create =
        |capture: &Capture, lengths: &[usize]| CaptureFile::create(&path, capture, &shape, lengths);
    let mut file = create(&capture, &[2, 3]).unwrap();
    file.write(1, &kept(&[1, 2, 3])).unwrap();
    assert_eq!(
        file.write(1, &kept(&[1])).unwrap_err().to_string(),
        "prompt: expected each once, found 1 twice"
    );
    assert_eq!(
        file.write(2, &kept(&[1])).unwrap_err().to_string(),
        "prompt: expected below 2, found 2"
    );
    let mut wrong = kept(&[1]);
    wrong.values.pop();
    assert_eq!(
        file.write(0, &wrong).unwrap_err().to_string(),
        "states of prompt 0: expected [(1, 32)], found []"
    );
    assert_eq!(
        file.finish().unwrap_err().to_string(),
        "prompts: expected all written, found 0 missing"
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing is left"
    );

    let weights = Capture::of([Site::AttentionWeights(0)], Positions::Last);
    assert_eq!(
        create(&weights, &[2]).unwrap_err().to_string(),
        "site: expected a site of one width for all prompts, in a file, found AttentionWeights(0)"
    );
    let twice = Capture::of([Site::Hidden(0), Site::Hidden(0)], Positions::Last);
    assert_eq!(
        create(&twice, &[2]).unwrap_err().to_string(),
        "site: expected each once, found Hidden(0) twice"
    );
    let far = Capture::of([Site::Hidden(0)], Positions::At(vec![2]));
    assert_eq!(
        create(&far, &[3, 2]).unwrap_err().to_string(),
        "position in row 1: expected below its 2 tokens, found 2"
    );
    assert!(create(&capture, &[]).is_err());
    let nowhere = folder.path().join("no/such/folder");
    assert!(
        CaptureFile::create(nowhere, &capture, &shape, &[1])
            .unwrap_err()
            .to_string()
            .contains("no/such/folder")
    );
    // A prompt that cannot run is found before any file is begun.
    let bad = capture_to_file(
        &model,
        &[&[1], &[]],
        &Intervention::none(),
        &capture,
        &path,
        8,
    );
    assert!(bad.unwrap_err().to_string().contains("prompt of row 1"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
