//! What memory is not taken: opening a model in its stored dtype copies no weight, and rows that came from one prefix keep its
//! keys and values once.
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
    let warm = TorchModel::open_with(small.path(), options.clone()).unwrap();
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
    inner("opening_copies_nothing_in_the_stored_dtype", folder.path());
}

/// Runs one test of this file in a process of its own, on the model in `folder`, and prints what it measured.
#[allow(clippy::print_stdout, reason = "the measured figures")]
fn inner(test: &str, folder: &std::path::Path) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let trouble = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{trouble}");
    let measured = text.lines().find(|line| line.contains("anonymous memory"));
    println!("{}", measured.unwrap());
}

/// 20 paths from each of 8 depths, as C²-Eval asks for, from one long prefix.
#[test]
#[allow(
    clippy::print_stdout,
    reason = "the measured figures, and how the inner process answers"
)]
fn a_hundred_and_sixty_rows_keep_their_prefix_once() {
    const PREFIX: usize = 1000;
    const ROWS: usize = 160;
    let sizes = TinyLlama {
        layers: 3,
        heads: 8,
        kv_heads: 8,
        head_dim: 64,
        context: 2048,
        ..TinyLlama::default()
    };
    if let Ok(folder) = std::env::var(FOLDER) {
        let model = TorchModel::open(folder).unwrap();
        let prefix: Vec<u32> = (0..PREFIX as u32).map(|token| token % 90).collect();
        let mut session = model.begin(1).unwrap();
        session.extend(&[&prefix]).unwrap();
        let before = anonymous();
        session.select(&[0; ROWS]).unwrap();
        for step in 0..8_u32 {
            let tokens: Vec<u32> = (0..ROWS as u32).map(|row| (row * 7 + step) % 90).collect();
            session.append(&tokens).unwrap();
        }
        let growth = anonymous().saturating_sub(before);
        let per_token = 2 * sizes.layers * sizes.kv_heads * sizes.head_dim * size_of::<f32>();
        let copies = (ROWS * PREFIX * per_token) as f64;
        let share = growth as f64 / copies;
        println!(
            "anonymous memory: {growth} bytes for {ROWS} rows, {share:.3} of what copies of the prefix would take"
        );
        assert!(share < 0.1, "{share}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    sizes.write(folder.path()).unwrap();
    inner(
        "a_hundred_and_sixty_rows_keep_their_prefix_once",
        folder.path(),
    );
}
