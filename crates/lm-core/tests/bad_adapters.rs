//! Adapters that are refused: each error names the file, the key or tensor, what was expected and what was found.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

use std::fs;
use std::path::Path;

use lm_core::{Adapter, AdapterConfig, Checkpoint, Error, Targets, TorchModel};
use lm_testkit::{golden, overwrite, truncate};
use serde_json::{Value, json};
use tempfile::TempDir;

fn checkpoint(case: &str) -> Checkpoint {
    Checkpoint::open(golden(case).unwrap().model()).unwrap()
}

/// A good folder that may be spoilt.
fn copy(name: &str) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        let from = golden("lora-llama").unwrap().folder().join(name).join(file);
        fs::copy(from, to.path().join(file)).unwrap();
    }
    to
}

fn set(folder: &Path, key: &str, value: Value) {
    let path = folder.join("adapter_config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(path, config.to_string()).unwrap();
}

fn refused(folder: &Path) -> Error {
    Adapter::open(folder, &checkpoint("llama-gqa-tied")).unwrap_err()
}

#[test]
fn settings_that_ask_for_other_numbers_are_refused_by_name() {
    for (key, value) in [
        ("peft_type", json!("IA3")),
        ("peft_type", json!(null)),
        ("use_dora", json!(true)),
        ("bias", json!("all")),
        ("bias", json!("lora_only")),
        ("lora_bias", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("trainable_token_indices", json!([1])),
        ("target_parameters", json!(["x"])),
        ("layer_replication", json!([[0, 2]])),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("init_lora_weights", json!("olora")),
        ("alora_invocation_tokens", json!([1])),
        ("arrow_config", json!({"a": 1})),
        ("kasa_config", json!({"a": 1})),
        ("monteclora_config", json!({"a": 1})),
        ("use_bdlora", json!({"a": 1})),
        ("velora_config", json!({"a": 1})),
        ("megatron_config", json!({"a": 1})),
        ("use_qalora", json!(true)),
        ("use_something_new", json!(true)),
        ("r", json!(0)),
        ("r", json!(-1)),
        ("r", json!(1e30)),
        ("r", json!("4")),
        ("lora_alpha", json!("4")),
        ("lora_dropout", json!(1.0)),
        ("rank_pattern", json!({"q_proj": 0})),
        ("rank_pattern", json!({"(": 2})),
        ("alpha_pattern", json!([1])),
        ("target_modules", json!(null)),
        ("target_modules", json!([])),
        ("target_modules", json!(["nothing"])),
        ("target_modules", json!("(")),
        ("target_modules", json!("(a*)*b".repeat(4000))),
        ("target_modules", json!([1])),
        ("use_rslora", json!("yes")),
    ] {
        let folder = copy("adapter");
        set(folder.path(), key, value.clone());
        let text = refused(folder.path()).to_string();
        let file = folder.path().join("adapter_config.json");
        let start = format!("{}: `{key}`: expected ", file.display());
        assert!(text.starts_with(&start), "{key} {value}: {text}");
        assert!(text.contains(", found "), "{text}");
    }
}

#[test]
fn settings_that_are_off_or_change_no_number_are_read() {
    for (key, value) in [
        ("use_dora", json!(false)),
        ("modules_to_save", json!([])),
        ("bias", json!("none")),
        ("init_lora_weights", json!("gaussian")),
        ("init_lora_weights", json!(false)),
        ("lora_dropout", json!(0.1)),
        ("inference_mode", json!(false)),
        ("fan_in_fan_out", json!(true)),
        ("megatron_core", json!("x")),
        ("some_new_number", json!(3)),
        ("auto_mapping", json!({"base_model_class": "X"})),
        ("target_modules", json!("all-linear")),
        ("layers_to_transform", json!([0, 1, 2])),
    ] {
        let folder = copy("adapter");
        set(folder.path(), key, value);
        Adapter::open(folder.path(), &checkpoint("llama-gqa-tied")).unwrap();
    }
}

#[test]
fn weights_that_are_not_the_settings_are_refused_by_name() {
    let text = |change: &dyn Fn(&Path)| {
        let folder = copy("adapter");
        change(folder.path());
        let text = refused(folder.path()).to_string();
        assert!(text.contains("adapter_model.safetensors"), "{text}");
        text
    };
    // The configuration targets less, more, or other shapes.
    let spare = text(&|folder| set(folder, "target_modules", json!(["q_proj"])));
    assert!(
        spare.contains("tensor `base_model.model.model.layers.0."),
        "{spare}"
    );
    assert!(spare.contains("36 tensors more"), "{spare}");
    for (key, value) in [
        ("exclude_modules", json!("model.layers.1.mlp.up_proj")),
        ("exclude_modules", json!(["layers.1.mlp.up_proj"])),
        ("layers_to_transform", json!([0, 2])),
        ("layers_to_transform", json!(1)),
    ] {
        let spare = text(&|folder| set(folder, key, value.clone()));
        assert!(spare.contains("more"), "{key}: {spare}");
    }
    let shape = text(&|folder| set(folder, "r", json!(4)));
    assert!(
        shape.contains("expected shape [4, 32], found [3, 32]"),
        "{shape}"
    );
    let shape = text(&|folder| set(folder, "rank_pattern", json!({"k_proj": 2})));
    assert!(
        shape.contains("layers.0.self_attn.k_proj.lora_A.weight`: expected shape [2, 32]"),
        "{shape}"
    );

    let folder = copy("qv");
    set(
        folder.path(),
        "target_modules",
        json!(["q_proj", "v_proj", "o_proj"]),
    );
    let missing = refused(folder.path()).to_string();
    let expected =
        "tensor `base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight` not found";
    assert!(missing.contains(expected), "{missing}");

    let nan = text(&|folder| {
        let path = folder.join("adapter_model.safetensors");
        let length = fs::metadata(&path).unwrap().len();
        overwrite(&path, length - 4, &f32::NAN.to_le_bytes()).unwrap();
    });
    assert!(nan.contains("is NaN, expected finite weights"), "{nan}");
    for length in [0, 4, 100, 5000] {
        text(&|folder| truncate(&folder.join("adapter_model.safetensors"), length).unwrap());
    }
    text(&|folder| fs::remove_file(folder.join("adapter_model.safetensors")).unwrap());
}

#[test]
fn folders_that_are_no_adapters_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(folder.path()).to_string();
    assert!(error.contains("no `adapter_config.json`"), "{error}");
    assert!(matches!(
        refused(&folder.path().join("absent")),
        Error::Io { .. }
    ));
    let folder = copy("adapter");
    fs::write(folder.path().join("adapter_config.json"), "[]").unwrap();
    assert!(
        refused(folder.path())
            .to_string()
            .contains("expected a JSON object")
    );
    let folder = copy("adapter");
    let weights = folder.path().join("adapter_model.safetensors");
    fs::rename(weights, folder.path().join("adapter_model.bin")).unwrap();
    assert!(refused(folder.path()).to_string().contains("pickled"));
}

#[test]
fn an_adapter_for_another_model_is_refused() {
    let adapter = Adapter::open(
        golden("lora-llama").unwrap().folder().join("adapter"),
        &checkpoint("llama-gqa-tied"),
    )
    .unwrap();
    for other in ["gpt2", "llama-head-dim"] {
        let model = TorchModel::open(golden(other).unwrap().model()).unwrap();
        let errors = [
            model.with_adapters(&[&adapter]).err(),
            model.merged(&adapter).err(),
        ];
        for error in errors {
            let text = error.unwrap().to_string();
            assert!(text.contains("adapter's matrix `model.layers.0."), "{text}");
        }
    }
    for config in [
        AdapterConfig::new(0, 1.0, Targets::all()),
        AdapterConfig::new(1 << 20, 1.0, Targets::all()),
        AdapterConfig::new(1, f64::NAN, Targets::all()),
        AdapterConfig::new(1, 1.0, Targets::all()).with_dropout(-0.5),
        AdapterConfig::new(1, 1.0, Targets::names(["nothing"])),
    ] {
        let error = Adapter::new(&checkpoint("gpt2"), config, 0).unwrap_err();
        assert!(matches!(error, Error::Argument { .. }), "{error}");
    }
}
