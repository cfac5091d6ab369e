//! Configurations: those of the golden models, those of well-known published ones with what must be read from them, and those
//! that are refused, with the text. Nothing here needs libtorch or weights but the golden models' own.
#![allow(missing_docs)]

use std::fs;

use lm_core::spec::{
    Activation, BlockKind, EmbeddingSpec, MlpKind, NormKind, QkNorm, RotaryScaling, RotarySpec,
    RotaryStyle, UnembeddingSpec,
};
use lm_core::{Checkpoint, DecoderSpec};
use lm_testkit::golden_folder;
use serde_json::{Value, json};

/// What reading `config` as a `config.json` gives; errors with the file called `<config>`.
fn try_read(config: &Value) -> Result<DecoderSpec, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    fs::write(&path, config.to_string()).unwrap();
    DecoderSpec::from_config_file(&path).map_err(|error| {
        error
            .to_string()
            .replace(&path.display().to_string(), "<config>")
    })
}

fn read(config: &Value) -> DecoderSpec {
    try_read(config).unwrap()
}

fn refused(config: &Value) -> String {
    try_read(config).unwrap_err()
}

/// `config` with the keys of `change` over its own.
fn with(mut config: Value, change: Value) -> Value {
    let Value::Object(change) = change else {
        panic!("not an object: {change}");
    };
    config.as_object_mut().unwrap().extend(change);
    config
}

fn without(mut config: Value, key: &str) -> Value {
    config.as_object_mut().unwrap().remove(key).unwrap();
    config
}

#[track_caller]
fn near(found: f64, expected: f64) {
    let distance = (found - expected).abs();
    assert!(
        distance <= 1e-12 * expected.abs(),
        "{found}, expected {expected}"
    );
}

/// Layers, width, width inside the MLP, vocabulary, context.
#[track_caller]
fn assert_sizes(spec: &DecoderSpec, expected: [usize; 5]) {
    assert_eq!(
        [
            spec.layers,
            spec.hidden_size,
            spec.mlp.intermediate_size,
            spec.vocab_size,
            spec.context_length
        ],
        expected
    );
    assert_eq!(spec.windows.len(), spec.layers);
}

/// Query heads, key/value heads, width of a head.
#[track_caller]
fn assert_heads(spec: &DecoderSpec, expected: [usize; 3]) {
    let attention = &spec.attention;
    assert_eq!(
        [attention.heads, attention.kv_heads, attention.head_dim],
        expected
    );
}

#[track_caller]
fn assert_norm(spec: &DecoderSpec, kind: NormKind, epsilon: f64) {
    assert_eq!(spec.norm.kind, kind);
    near(spec.norm.epsilon, epsilon);
}

/// Biases of queries, keys and values; of the attention's output; of the MLP; of the unembedding.
#[track_caller]
fn assert_biases(spec: &DecoderSpec, expected: [bool; 4]) {
    assert_eq!(
        [
            spec.attention.qkv_bias,
            spec.attention.output_bias,
            spec.mlp.bias,
            spec.unembedding.bias
        ],
        expected
    );
}

#[track_caller]
fn assert_no_windows(spec: &DecoderSpec) {
    assert!(
        spec.windows.iter().all(Option::is_none),
        "{:?}",
        spec.windows
    );
    assert_eq!(spec.window_rotary, None);
}

/// What a llama has and nothing else: no bias, RMS norms before the parts, a gated SiLU, an unembedding of its own.
#[track_caller]
fn assert_llama(spec: &DecoderSpec, epsilon: f64) {
    assert_norm(spec, NormKind::Rms, epsilon);
    assert_eq!(spec.block, BlockKind::PreNorm);
    assert_biases(spec, [false; 4]);
    assert_eq!(spec.mlp.kind, MlpKind::Gated);
    assert_eq!(spec.mlp.activation, Activation::Silu);
    assert_eq!(spec.embedding, EmbeddingSpec::default());
    assert_eq!(spec.unembedding, UnembeddingSpec::default());
    assert_eq!(spec.attention.soft_cap, None);
    assert_eq!(spec.attention.qk_norm, None);
}

fn rotary(theta: f64, dim: usize) -> RotarySpec {
    RotarySpec {
        theta,
        dim,
        style: RotaryStyle::Half,
        scaling: RotaryScaling::None,
    }
}

fn interleaved(theta: f64, dim: usize) -> RotarySpec {
    RotarySpec {
        style: RotaryStyle::Interleaved,
        ..rotary(theta, dim)
    }
}

fn llama_2_7b() -> Value {
    json!({
        "model_type": "llama", "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11008,
        "max_position_embeddings": 4096, "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 32, "rms_norm_eps": 1e-5, "rope_scaling": null, "tie_word_embeddings": false,
        "vocab_size": 32000
    })
}

fn mistral_7b() -> Value {
    json!({
        "model_type": "mistral", "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
        "max_position_embeddings": 32768, "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "sliding_window": 4096,
        "tie_word_embeddings": false, "vocab_size": 32000
    })
}

fn gemma_2b() -> Value {
    json!({
        "model_type": "gemma", "hidden_act": "gelu", "hidden_size": 2048, "intermediate_size": 16384,
        "max_position_embeddings": 8192, "num_attention_heads": 8, "num_hidden_layers": 18,
        "num_key_value_heads": 1, "head_dim": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "vocab_size": 256_000
    })
}

fn gemma_2_9b() -> Value {
    json!({
        "model_type": "gemma2", "attention_bias": false, "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 3584, "intermediate_size": 14336,
        "max_position_embeddings": 8192, "num_attention_heads": 16, "num_hidden_layers": 42,
        "num_key_value_heads": 8, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "sliding_window": 4096, "vocab_size": 256_000
    })
}

fn phi_3_mini_4k() -> Value {
    json!({
        "model_type": "phi3", "attention_bias": false, "hidden_act": "silu", "hidden_size": 3072,
        "intermediate_size": 8192, "max_position_embeddings": 4096, "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 32, "original_max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5, "rope_scaling": null, "rope_theta": 10000.0, "sliding_window": 2047,
        "tie_word_embeddings": false, "vocab_size": 32064
    })
}

fn falcon_7b() -> Value {
    json!({
        "model_type": "falcon", "alibi": false, "bias": false, "hidden_size": 4544,
        "layer_norm_epsilon": 1e-5, "multi_query": true, "new_decoder_architecture": false,
        "num_attention_heads": 71, "num_hidden_layers": 32, "parallel_attn": true, "vocab_size": 65024
    })
}

fn gpt2() -> Value {
    json!({
        "model_type": "gpt2", "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "n_ctx": 1024,
        "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "vocab_size": 50257
    })
}

#[test]
fn every_golden_model_opens() {
    let mut opened = 0;
    for entry in fs::read_dir(golden_folder()).unwrap() {
        let model = entry.unwrap().path().join("model");
        if !model.exists() {
            continue;
        }
        let checkpoint =
            Checkpoint::open(&model).unwrap_or_else(|error| panic!("{}: {error}", model.display()));
        let alone = DecoderSpec::from_config_file(model.join("config.json")).unwrap();
        assert_eq!(&alone, checkpoint.spec(), "{}", model.display());
        opened += 1;
    }
    assert!(opened > 0, "no model under {}", golden_folder().display());
}

mod published {
    use super::*;

    #[test]
    fn llama_2_7b() {
        let spec = read(&super::llama_2_7b());
        assert_eq!(spec.family, "llama");
        assert_sizes(&spec, [32, 4096, 11008, 32000, 4096]);
        assert_heads(&spec, [32, 32, 128]);
        assert_llama(&spec, 1e-5);
        near(spec.attention.scale, 128_f64.powf(-0.5));
        assert_eq!(spec.rotary, Some(rotary(10_000.0, 128)));
        assert_no_windows(&spec);
    }

    #[test]
    fn llama_3_1_8b() {
        let spec = read(&with(
            super::llama_2_7b(),
            json!({
                "intermediate_size": 14336, "max_position_embeddings": 131_072, "num_key_value_heads": 8,
                "rope_theta": 500_000.0, "vocab_size": 128_256,
                "rope_scaling": {
                    "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 8192, "rope_type": "llama3"
                }
            }),
        ));
        assert_sizes(&spec, [32, 4096, 14336, 128_256, 131_072]);
        assert_heads(&spec, [32, 8, 128]);
        assert_llama(&spec, 1e-5);
        let scaling = RotaryScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192.0,
        };
        assert_eq!(
            spec.rotary,
            Some(RotarySpec {
                scaling,
                ..rotary(500_000.0, 128)
            })
        );
        assert_no_windows(&spec);
    }

    #[test]
    fn tiny_llama() {
        let spec = read(&with(
            super::llama_2_7b(),
            json!({
                "hidden_size": 2048, "intermediate_size": 5632, "max_position_embeddings": 2048,
                "num_hidden_layers": 22, "num_key_value_heads": 4, "rope_theta": 10000.0
            }),
        ));
        assert_sizes(&spec, [22, 2048, 5632, 32000, 2048]);
        assert_heads(&spec, [32, 4, 64]);
        assert_llama(&spec, 1e-5);
        near(spec.attention.scale, 0.125);
        assert_eq!(spec.rotary, Some(rotary(10_000.0, 64)));
    }

    #[test]
    fn mistral_7b_and_zephyr() {
        let spec = read(&super::mistral_7b());
        assert_eq!(spec.family, "mistral");
        assert_sizes(&spec, [32, 4096, 14336, 32000, 32768]);
        assert_heads(&spec, [32, 8, 128]);
        assert_llama(&spec, 1e-5);
        assert_eq!(spec.rotary, Some(rotary(10_000.0, 128)));
        assert_eq!(spec.windows, [Some(4096); 32]);
    }

    #[test]
    fn mistral_without_the_window_s_key_has_the_default_of_transformers() {
        let spec = read(&without(super::mistral_7b(), "sliding_window"));
        assert_eq!(spec.windows, [Some(4096); 32]);
    }

    #[test]
    fn mistral_with_null_has_no_window() {
        let spec = read(&with(
            super::mistral_7b(),
            json!({"sliding_window": null, "rope_theta": 1_000_000.0, "vocab_size": 32768}),
        ));
        assert_no_windows(&spec);
        assert_eq!(spec.rotary, Some(rotary(1_000_000.0, 128)));
    }

    #[test]
    fn qwen2_7b() {
        let spec = read(&json!({
            "model_type": "qwen2", "hidden_act": "silu", "hidden_size": 3584, "intermediate_size": 18944,
            "max_position_embeddings": 131_072, "max_window_layers": 28, "num_attention_heads": 28,
            "num_hidden_layers": 28, "num_key_value_heads": 4, "rms_norm_eps": 1e-6,
            "rope_theta": 1_000_000.0, "sliding_window": 131_072, "tie_word_embeddings": false,
            "use_sliding_window": false, "vocab_size": 152_064
        }));
        assert_eq!(spec.family, "qwen2");
        assert_sizes(&spec, [28, 3584, 18944, 152_064, 131_072]);
        assert_heads(&spec, [28, 4, 128]);
        assert_norm(&spec, NormKind::Rms, 1e-6);
        assert_eq!(spec.block, BlockKind::PreNorm);
        assert_biases(&spec, [true, false, false, false]);
        assert!(!spec.unembedding.tied);
        assert_eq!(spec.attention.qk_norm, None);
        assert_eq!(spec.rotary, Some(rotary(1_000_000.0, 128)));
        assert_no_windows(&spec);
    }

    #[test]
    fn qwen3_8b() {
        let spec = read(&json!({
            "model_type": "qwen3", "attention_bias": false, "head_dim": 128, "hidden_act": "silu",
            "hidden_size": 4096, "intermediate_size": 12288, "max_position_embeddings": 40960,
            "max_window_layers": 36, "num_attention_heads": 32, "num_hidden_layers": 36,
            "num_key_value_heads": 8, "rms_norm_eps": 1e-6, "rope_scaling": null,
            "rope_theta": 1_000_000, "sliding_window": null, "tie_word_embeddings": false,
            "use_sliding_window": false, "vocab_size": 151_936
        }));
        assert_eq!(spec.family, "qwen3");
        assert_sizes(&spec, [36, 4096, 12288, 151_936, 40960]);
        assert_heads(&spec, [32, 8, 128]);
        assert_norm(&spec, NormKind::Rms, 1e-6);
        assert_eq!(spec.block, BlockKind::PreNorm);
        assert_biases(&spec, [false; 4]);
        assert!(!spec.unembedding.tied);
        assert_eq!(spec.attention.qk_norm, Some(QkNorm::Head));
        assert_eq!(spec.rotary, Some(rotary(1_000_000.0, 128)));
        assert_no_windows(&spec);
    }

    #[test]
    fn gemma_2b() {
        let spec = read(&super::gemma_2b());
        assert_eq!(spec.family, "gemma");
        assert_sizes(&spec, [18, 2048, 16384, 256_000, 8192]);
        assert_heads(&spec, [8, 1, 256]);
        assert_norm(&spec, NormKind::RmsWide, 1e-6);
        assert_eq!(spec.block, BlockKind::PreNorm);
        assert_biases(&spec, [false; 4]);
        assert!(spec.unembedding.tied);
        near(spec.attention.scale, 1.0 / 16.0);
        near(spec.embedding.scale.unwrap(), 2048_f64.sqrt());
        assert_eq!(spec.mlp.kind, MlpKind::Gated);
        // The file says `gelu`.
        assert_eq!(spec.mlp.activation, Activation::GeluTanh);
        assert_eq!(spec.rotary, Some(rotary(10_000.0, 256)));
        assert_eq!(spec.attention.soft_cap, None);
        assert_eq!(spec.unembedding.soft_cap, None);
        assert_no_windows(&spec);
    }

    #[test]
    fn gemma_2_9b() {
        let spec = read(&super::gemma_2_9b());
        assert_eq!(spec.family, "gemma2");
        assert_sizes(&spec, [42, 3584, 14336, 256_000, 8192]);
        assert_heads(&spec, [16, 8, 256]);
        assert_norm(&spec, NormKind::RmsWide, 1e-6);
        assert_eq!(spec.block, BlockKind::SandwichNorm);
        assert_biases(&spec, [false; 4]);
        assert!(spec.unembedding.tied);
        near(spec.attention.scale, 1.0 / 16.0);
        near(spec.embedding.scale.unwrap(), 3584_f64.sqrt());
        assert_eq!(spec.mlp.activation, Activation::GeluTanh);
        assert_eq!(spec.rotary, Some(rotary(10_000.0, 256)));
        assert_eq!(spec.attention.soft_cap, Some(50.0));
        assert_eq!(spec.unembedding.soft_cap, Some(30.0));
        assert_eq!(spec.attention.qk_norm, None);
        for (layer, window) in spec.windows.iter().enumerate() {
            let expected = layer.is_multiple_of(2).then_some(4096);
            assert_eq!(*window, expected, "layer {layer}");
        }
        assert_eq!(spec.window_rotary, None);
    }

    #[test]
    fn gemma_3_1b_in_the_older_dialect() {
        let spec = read(&json!({
            "model_type": "gemma3_text", "attention_bias": false, "attn_logit_softcapping": null,
            "final_logit_softcapping": null, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
            "hidden_size": 1152, "intermediate_size": 6912, "max_position_embeddings": 32768,
            "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1,
            "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6, "rope_local_base_freq": 10000,
            "rope_scaling": null, "rope_theta": 1_000_000, "sliding_window": 512,
            "sliding_window_pattern": 6, "vocab_size": 262_144
        }));
        assert_eq!(spec.family, "gemma3_text");
        assert_sizes(&spec, [26, 1152, 6912, 262_144, 32768]);
        assert_heads(&spec, [4, 1, 256]);
        assert_norm(&spec, NormKind::RmsWide, 1e-6);
        assert_eq!(spec.block, BlockKind::SandwichNorm);
        assert_eq!(spec.attention.qk_norm, Some(QkNorm::Head));
        assert!(spec.unembedding.tied);
        near(spec.attention.scale, 1.0 / 16.0);
        near(spec.embedding.scale.unwrap(), 1152_f64.sqrt());
        assert_eq!(spec.attention.soft_cap, None);
        assert_eq!(spec.unembedding.soft_cap, None);
        assert_eq!(spec.rotary, Some(rotary(1_000_000.0, 256)));
        assert_eq!(spec.window_rotary, Some(rotary(10_000.0, 256)));
        let full: Vec<usize> = (0..26)
            .filter(|&layer| spec.window(layer).is_none())
            .collect();
        assert_eq!(full, [5, 11, 17, 23]);
        assert_eq!(spec.window(0), Some(512));
    }

    #[test]
    fn phi_2() {
        let spec = read(&json!({
            "model_type": "phi", "hidden_act": "gelu_new", "hidden_size": 2560, "intermediate_size": 10240,
            "layer_norm_eps": 1e-5, "max_position_embeddings": 2048, "num_attention_heads": 32,
            "num_hidden_layers": 32, "num_key_value_heads": 32, "partial_rotary_factor": 0.4,
            "qk_layernorm": false, "rope_scaling": null, "rope_theta": 10000.0,
            "tie_word_embeddings": false, "vocab_size": 51200
        }));
        assert_eq!(spec.family, "phi");
        assert_sizes(&spec, [32, 2560, 10240, 51200, 2048]);
        assert_heads(&spec, [32, 32, 80]);
        assert_norm(&spec, NormKind::Layer, 1e-5);
        assert_eq!(spec.block, BlockKind::ParallelSharedNorm);
        assert_biases(&spec, [true; 4]);
        assert!(!spec.unembedding.tied);
        assert_eq!(spec.attention.qk_norm, None);
        assert_eq!(spec.rotary, Some(rotary(10_000.0, 32)));
        assert_eq!(spec.mlp.kind, MlpKind::Plain);
        assert_eq!(spec.mlp.activation, Activation::GeluTanh);
        assert_no_windows(&spec);
    }

    #[test]
    fn phi_3_mini_4k() {
        let spec = read(&super::phi_3_mini_4k());
        assert_eq!(spec.family, "phi3");
        assert_sizes(&spec, [32, 3072, 8192, 32064, 4096]);
        assert_heads(&spec, [32, 32, 96]);
        assert_llama(&spec, 1e-5);
        assert_eq!(spec.rotary, Some(rotary(10_000.0, 96)));
        assert_eq!(spec.windows, [Some(2047); 32]);
    }

    #[test]
    fn phi_3_mini_128k() {
        let short: Vec<f64> = (0..48).map(|i| 1.0 + f64::from(i) / 16.0).collect();
        let long: Vec<f64> = (0..48).map(|i| 1.0 + f64::from(i)).collect();
        let spec = read(&with(
            super::phi_3_mini_4k(),
            json!({
                "max_position_embeddings": 131_072, "sliding_window": 262_144,
                "rope_scaling": {"type": "longrope", "short_factor": short, "long_factor": long}
            }),
        ));
        assert_sizes(&spec, [32, 3072, 8192, 32064, 131_072]);
        assert_llama(&spec, 1e-5);
        assert_eq!(spec.windows, [Some(262_144); 32]);
        let rotary = spec.rotary.unwrap();
        assert_eq!((rotary.dim, rotary.style), (96, RotaryStyle::Half));
        near(rotary.theta, 10_000.0);
        let RotaryScaling::LongRope {
            short_factors,
            long_factors,
            attention_factor,
            original_context,
        } = rotary.scaling
        else {
            panic!("{:?}", rotary.scaling);
        };
        assert_eq!((short_factors, long_factors), (short, long));
        assert_eq!(original_context, 4096);
        // √(1 + ln 32 / ln 4096), and 32 is 4096 to the power of 5/12.
        near(attention_factor, (17.0_f64 / 12.0).sqrt());
    }

    #[test]
    fn falcon_7b() {
        let spec = read(&super::falcon_7b());
        assert_eq!(spec.family, "falcon");
        assert_sizes(&spec, [32, 4544, 18176, 65024, 2048]);
        assert_heads(&spec, [71, 1, 64]);
        assert_norm(&spec, NormKind::Layer, 1e-5);
        assert_eq!(spec.block, BlockKind::ParallelSharedNorm);
        assert_biases(&spec, [false; 4]);
        assert!(spec.unembedding.tied);
        assert_eq!(spec.rotary, Some(rotary(10_000.0, 64)));
        assert_eq!(spec.mlp.kind, MlpKind::Plain);
        assert_eq!(spec.mlp.activation, Activation::Gelu);
        assert_no_windows(&spec);
    }

    #[test]
    fn falcon_40b() {
        let spec = read(&with(
            super::falcon_7b(),
            json!({
                "hidden_size": 8192, "new_decoder_architecture": true, "num_attention_heads": 128,
                "num_hidden_layers": 60, "num_kv_heads": 8
            }),
        ));
        assert_sizes(&spec, [60, 8192, 32768, 65024, 2048]);
        assert_heads(&spec, [128, 8, 64]);
        assert_norm(&spec, NormKind::Layer, 1e-5);
        assert_eq!(spec.block, BlockKind::ParallelOwnNorms);
        assert_biases(&spec, [false; 4]);
        assert!(spec.unembedding.tied);
        assert_eq!(spec.rotary, Some(rotary(10_000.0, 64)));
    }

    #[test]
    fn gpt2() {
        let spec = read(&super::gpt2());
        assert_eq!(spec.family, "gpt2");
        assert_sizes(&spec, [12, 768, 3072, 50257, 1024]);
        assert_heads(&spec, [12, 12, 64]);
        assert_norm(&spec, NormKind::Layer, 1e-5);
        assert_eq!(spec.block, BlockKind::PreNorm);
        assert_biases(&spec, [true, true, true, false]);
        assert!(spec.unembedding.tied);
        assert_eq!(spec.embedding.learned_positions, Some(1024));
        assert_eq!(spec.embedding.scale, None);
        assert_eq!(spec.rotary, None);
        near(spec.attention.scale, 0.125);
        assert_eq!(spec.mlp.kind, MlpKind::Plain);
        assert_eq!(spec.mlp.activation, Activation::GeluTanh);
        assert_no_windows(&spec);
    }

    #[test]
    fn gpt_neo_125m() {
        let spec = read(&json!({
            "model_type": "gpt_neo", "activation_function": "gelu_new",
            "attention_types": [[["global", "local"], 6]], "hidden_size": 768, "intermediate_size": null,
            "layer_norm_epsilon": 1e-5, "max_position_embeddings": 2048, "num_heads": 12,
            "num_layers": 12, "vocab_size": 50257, "window_size": 256
        }));
        assert_eq!(spec.family, "gpt_neo");
        assert_sizes(&spec, [12, 768, 3072, 50257, 2048]);
        assert_heads(&spec, [12, 12, 64]);
        assert_norm(&spec, NormKind::Layer, 1e-5);
        assert_eq!(spec.block, BlockKind::PreNorm);
        assert_biases(&spec, [false, true, true, false]);
        assert!(spec.unembedding.tied);
        assert_eq!(spec.embedding.learned_positions, Some(2048));
        assert_eq!(spec.rotary, None);
        // Scores are not scaled.
        near(spec.attention.scale, 1.0);
        assert_eq!(spec.mlp.activation, Activation::GeluTanh);
        assert_eq!(spec.windows, [None, Some(256)].repeat(6));
    }

    #[test]
    fn gpt_j_6b() {
        let spec = read(&json!({
            "model_type": "gptj", "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
            "n_embd": 4096, "n_head": 16, "n_inner": null, "n_layer": 28, "n_positions": 2048,
            "rotary_dim": 64, "tie_word_embeddings": false, "vocab_size": 50400
        }));
        assert_eq!(spec.family, "gptj");
        assert_sizes(&spec, [28, 4096, 16384, 50400, 2048]);
        assert_heads(&spec, [16, 16, 256]);
        assert_norm(&spec, NormKind::Layer, 1e-5);
        assert_eq!(spec.block, BlockKind::ParallelSharedNorm);
        assert_biases(&spec, [false, false, true, true]);
        assert!(!spec.unembedding.tied);
        assert_eq!(spec.embedding.learned_positions, None);
        assert_eq!(spec.rotary, Some(interleaved(10_000.0, 64)));
        near(spec.attention.scale, 1.0 / 16.0);
        assert_eq!(spec.mlp.kind, MlpKind::Plain);
        assert_eq!(spec.mlp.activation, Activation::GeluTanh);
        assert_no_windows(&spec);
    }

    #[test]
    fn pythia_70m() {
        let spec = read(&json!({
            "model_type": "gpt_neox", "hidden_act": "gelu", "hidden_size": 512, "intermediate_size": 2048,
            "layer_norm_eps": 1e-5, "max_position_embeddings": 2048, "num_attention_heads": 8,
            "num_hidden_layers": 6, "rotary_emb_base": 10000, "rotary_pct": 0.25,
            "tie_word_embeddings": false, "use_parallel_residual": true, "vocab_size": 50304
        }));
        assert_eq!(spec.family, "gpt_neox");
        assert_sizes(&spec, [6, 512, 2048, 50304, 2048]);
        assert_heads(&spec, [8, 8, 64]);
        assert_norm(&spec, NormKind::Layer, 1e-5);
        assert_eq!(spec.block, BlockKind::ParallelOwnNorms);
        assert_biases(&spec, [true, true, true, false]);
        assert!(!spec.unembedding.tied);
        assert_eq!(spec.rotary, Some(rotary(10_000.0, 16)));
        assert_eq!(spec.mlp.kind, MlpKind::Plain);
        assert_eq!(spec.mlp.activation, Activation::Gelu);
        assert_no_windows(&spec);
    }

    #[test]
    fn glm_4_9b() {
        let spec = read(&json!({
            "model_type": "glm", "attention_bias": true, "head_dim": 128, "hidden_act": "silu",
            "hidden_size": 4096, "intermediate_size": 13696, "max_position_embeddings": 8192,
            "num_attention_heads": 32, "num_hidden_layers": 40, "num_key_value_heads": 2,
            "partial_rotary_factor": 0.5, "rms_norm_eps": 1.5625e-7, "rope_theta": 10000.0,
            "tie_word_embeddings": false, "vocab_size": 151_552
        }));
        assert_eq!(spec.family, "glm");
        assert_sizes(&spec, [40, 4096, 13696, 151_552, 8192]);
        assert_heads(&spec, [32, 2, 128]);
        assert_norm(&spec, NormKind::Rms, 1.5625e-7);
        assert_eq!(spec.block, BlockKind::PreNorm);
        assert_biases(&spec, [true, false, false, false]);
        assert!(!spec.unembedding.tied);
        assert_eq!(spec.rotary, Some(interleaved(10_000.0, 64)));
        near(spec.attention.scale, 128_f64.powf(-0.5));
        assert_no_windows(&spec);
    }

    #[test]
    fn olmo_2_7b() {
        let spec = read(&json!({
            "model_type": "olmo2", "attention_bias": false, "hidden_act": "silu", "hidden_size": 4096,
            "intermediate_size": 11008, "max_position_embeddings": 4096, "num_attention_heads": 32,
            "num_hidden_layers": 32, "num_key_value_heads": 32, "rms_norm_eps": 1e-6,
            "rope_scaling": null, "rope_theta": 500_000, "tie_word_embeddings": false,
            "vocab_size": 100_352
        }));
        assert_eq!(spec.family, "olmo2");
        assert_sizes(&spec, [32, 4096, 11008, 100_352, 4096]);
        assert_heads(&spec, [32, 32, 128]);
        assert_norm(&spec, NormKind::RmsWide, 1e-6);
        assert_eq!(spec.block, BlockKind::PostNorm);
        assert_eq!(spec.attention.qk_norm, Some(QkNorm::Projection));
        assert_biases(&spec, [false; 4]);
        assert!(!spec.unembedding.tied);
        assert_eq!(spec.rotary, Some(rotary(500_000.0, 128)));
        assert_no_windows(&spec);
    }
}

mod refused {
    use super::*;

    #[test]
    fn phi_3_small() {
        assert_eq!(
            refused(&json!({"model_type": "phi3small"})),
            "<config>: the model family `phi3small` is not supported: its block-sparse attention is not built; Phi-3 mini \
             and medium are `phi3`"
        );
    }

    #[test]
    fn mixtral() {
        assert_eq!(
            refused(&json!({"model_type": "mixtral"})),
            "<config>: the model family `mixtral` is not supported: mixtures of experts are not read"
        );
    }

    #[test]
    fn gemma_3_with_its_vision_tower() {
        assert_eq!(
            refused(&json!({"model_type": "gemma3"})),
            "<config>: the model family `gemma3` is not supported: this is the model with a vision tower; its text model \
             alone is `gemma3_text`"
        );
    }

    #[test]
    fn a_name_that_nobody_knows() {
        assert_eq!(
            refused(&json!({"model_type": "perceptron"})),
            "<config>: unknown model family `perceptron`; known are `falcon`, `gemma`, `gemma2`, `gemma3_text`, `glm`, \
             `glm4`, `gpt2`, `gpt_neo`, `gpt_neox`, `gptj`, `llama`, `mistral`, `olmo2`, `phi`, `phi3`, `qwen2`, `qwen3`"
        );
    }

    #[test]
    fn experts_in_a_dense_family() {
        assert_eq!(
            refused(&with(llama_2_7b(), json!({"num_local_experts": 8}))),
            "<config>: `num_local_experts`: expected none: mixtures of experts are not read, found 8"
        );
    }

    #[test]
    fn kinds_of_layers_that_are_not_as_many_as_the_layers() {
        let kinds = ["sliding_attention", "full_attention"];
        assert_eq!(
            refused(&with(gemma_2_9b(), json!({"layer_types": kinds}))),
            "<config>: `layer_types`: expected 42 entries, found 2"
        );
    }

    #[test]
    fn falcon_with_alibi() {
        assert_eq!(
            refused(&with(falcon_7b(), json!({"alibi": true}))),
            "<config>: `alibi`: expected false: positions by ALiBi are not built, found true"
        );
    }

    #[test]
    fn gpt2_that_scales_by_layer() {
        assert_eq!(
            refused(&with(
                gpt2(),
                json!({"scale_attn_by_inverse_layer_idx": true})
            )),
            "<config>: `scale_attn_by_inverse_layer_idx`: expected false: nothing else is built, found true"
        );
    }

    #[test]
    fn gemma_that_sees_both_ways() {
        assert_eq!(
            refused(&with(
                gemma_2b(),
                json!({"use_bidirectional_attention": true})
            )),
            "<config>: `use_bidirectional_attention`: expected false: only causal attention is built, found true"
        );
    }
}
