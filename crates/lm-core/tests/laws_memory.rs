//! Opening a model in its stored dtype copies no weight: the tensors are views of the mapped file.
#![cfg(all(feature = "torch", target_os = "linux"))]
#![allow(missing_docs)]

use std::process::Command;

use lm_core::{Dtype, LanguageModel, LoadOptions, TorchModel};
use lm_testkit::TinyLlama;

const FOLDER: &str = "LM_CORE_TEST_MEMORY";

/// Memory of this process that belongs to no file, in bytes.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kibibytes << 10
}

/// How much anonymous memory opening the model in `folder` takes, as a share of its file.
fn growth(folder: &std::path::Path, dtype: Dtype) -> f64 {
    // What libtorch allocates once is not the model's.
    let small = tempfile::tempdir().unwrap();
    TinyLlama::default().write(small.path()).unwrap();
    let options = LoadOptions::default().dtype(dtype);
    let warm = TorchModel::open_with(small.path(), options).unwrap();
    warm.next_logits(&[1, 2, 3]).unwrap();

    let before = anonymous();
    let model = TorchModel::open_with(folder, options).unwrap();
    let after = anonymous();
    drop(model);
    let file = std::fs::metadata(folder.join("model.safetensors"))
        .unwrap()
        .len();
    assert!(file > 60 << 20, "too small to measure: {file} bytes");
    after.saturating_sub(before) as f64 / file as f64
}

/// In a fresh process: memory that this one has freed would be handed out again and hide a copy.
#[test]
#[allow(
    clippy::print_stdout,
    reason = "the measured figures, and how the inner process answers"
)]
fn opening_copies_nothing_in_the_stored_dtype() {
    if let Ok(folder) = std::env::var(FOLDER) {
        let folder = std::path::Path::new(&folder);
        let (viewed, converted) = (growth(folder, Dtype::F32), growth(folder, Dtype::Bf16));
        println!("anonymous memory: {viewed:.3} of the file in f32, {converted:.3} in bf16");
        assert!(viewed < 0.2, "{viewed} of the file was copied");
        // The other side of the scale: a conversion is a copy of half the size, and is seen.
        assert!(converted > 0.45, "the measure is blind: {converted}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    TinyLlama {
        hidden_size: 1024,
        intermediate_size: 2816,
        layers: 1,
        heads: 16,
        kv_heads: 16,
        head_dim: 64 * 2,
        ..TinyLlama::default()
    }
    .write(folder.path())
    .unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "opening_copies_nothing_in_the_stored_dtype",
            "--exact",
            "--nocapture",
        ])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let trouble = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{trouble}");
    let measured = text.lines().find(|line| line.contains("anonymous memory"));
    println!("{}", measured.unwrap());
}
