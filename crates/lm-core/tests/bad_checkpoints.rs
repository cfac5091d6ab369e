//! Checkpoints that are missing, wrong or hostile: each is refused with the text asserted here, and none panics. Nothing
//! here needs libtorch.
#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lm_core::Checkpoint;
use lm_testkit::{TinyLlama, TinyModel, golden, overwrite, truncate};
use serde_json::{Value, json};

/// A folder that can be broken, and what opening it says.
struct Folder(tempfile::TempDir);

impl Folder {
    fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn of(model: &TinyModel) -> Self {
        let folder = Self::empty();
        model.write(folder.path()).unwrap();
        folder
    }

    fn sound() -> Self {
        Self::of(&TinyLlama::default().build())
    }

    /// A sound model whose `config.json` went through `change`.
    fn configured(change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> Self {
        let mut model = TinyLlama::default().build();
        change(model.config.as_object_mut().unwrap());
        Self::of(&model)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn write(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        fs::write(self.join(name), text).unwrap();
        self
    }

    fn remove(self, name: &str) -> Self {
        fs::remove_file(self.join(name)).unwrap();
        self
    }

    /// What opening `name` inside says, with the folder called `<model>`.
    fn refused_at(&self, name: &str) -> String {
        let path = if name.is_empty() {
            self.path().to_owned()
        } else {
            self.join(name)
        };
        let error = Checkpoint::open(path).unwrap_err().to_string();
        error.replace(&self.path().display().to_string(), "<model>")
    }

    fn refused(&self) -> String {
        self.refused_at("")
    }
}

#[test]
fn the_folder_that_the_others_break_is_sound() {
    let folder = Folder::sound();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.spec().hidden_size, 32);
}

mod paths {
    use super::*;

    #[test]
    fn nothing_at_an_absolute_path() {
        assert_eq!(
            Folder::empty().refused_at("absent"),
            "no model `<model>/absent`: neither a file nor a folder, nor a hub id such as `org/name`"
        );
    }

    #[test]
    fn a_gguf_file_that_is_not_there_is_not_taken_for_a_hub_id() {
        let error = Checkpoint::open("models/absent.gguf").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no model `models/absent.gguf`: no such file"
        );
        assert_eq!(
            Folder::empty().refused_at("absent.gguf"),
            "no model `<model>/absent.gguf`: no such file"
        );
    }

    #[test]
    fn an_empty_name() {
        let error = Checkpoint::open("").unwrap_err().to_string();
        assert_eq!(
            error,
            "no model ``: neither a file nor a folder, nor a hub id such as `org/name`"
        );
    }

    /// The environment of a test cannot be changed safely, so the question is asked in a process of its own.
    #[test]
    #[allow(clippy::print_stdout, reason = "how the inner process answers")]
    fn a_hub_id_that_is_not_in_the_cache() {
        const ID: &str = "LM_CORE_TEST_HUB_ID";
        if let Ok(id) = std::env::var(ID) {
            let error = Checkpoint::open(id).unwrap_err();
            println!("<<{error}>>");
            return;
        }
        let cache = Folder::empty();
        // A snapshot whose download was interrupted before the weights came.
        let model = cache.join("models--org--half");
        fs::create_dir_all(model.join("refs")).unwrap();
        fs::create_dir_all(model.join("snapshots/0123abcd")).unwrap();
        fs::write(model.join("refs/main"), "0123abcd").unwrap();
        fs::write(model.join("snapshots/0123abcd/config.json"), "{}").unwrap();
        let ask = |id: &str| {
            let output = Command::new(std::env::current_exe().unwrap())
                .args([
                    "paths::a_hub_id_that_is_not_in_the_cache",
                    "--exact",
                    "--nocapture",
                ])
                .env(ID, id)
                .env("HF_HUB_CACHE", cache.path())
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let (_, rest) = text.split_once("<<").unwrap();
            rest.split_once(">>")
                .unwrap()
                .0
                .replace(&cache.path().display().to_string(), "<cache>")
        };
        for (id, repository) in [
            ("org/name", "org/name"),
            ("org/name@main", "org/name"),
            ("name", "name"),
        ] {
            assert_eq!(
                ask(id),
                format!(
                    "no model `{id}`: neither a file nor a folder, and not in the local hub cache <cache>; nothing is \
                     downloaded unasked: `hf download {repository}` would bring it"
                )
            );
        }
        assert_eq!(
            ask("org/../../name"),
            "no model `org/../../name`: neither a file nor a folder, nor a hub id such as `org/name`"
        );
        assert_eq!(
            ask("org/half"),
            "<cache>/models--org--half/snapshots/0123abcd: no `model.safetensors` and no \
             `model.safetensors.index.json`"
        );
    }

    const NO_WEIGHTS: &str =
        "<model>: no `model.safetensors` and no `model.safetensors.index.json`";

    #[test]
    fn folders_without_weights() {
        assert_eq!(Folder::empty().refused(), NO_WEIGHTS);
        assert_eq!(
            Folder::sound().remove("model.safetensors").refused(),
            NO_WEIGHTS
        );
        let only_vocabulary = Folder::empty().write("tokenizer.model", "pieces");
        assert_eq!(only_vocabulary.refused(), NO_WEIGHTS);
    }

    #[test]
    fn a_folder_that_holds_a_gguf_file_says_to_name_the_file() {
        let folder = Folder::empty().write("tiny.gguf", "GGUF");
        assert_eq!(
            folder.refused(),
            "<model>: no `model.safetensors`; give the GGUF file itself: <model>/tiny.gguf"
        );
    }

    #[test]
    fn pickled_weights_are_refused_with_the_command_that_converts_them() {
        for name in [
            "pytorch_model.bin",
            "model.pt",
            "consolidated.00.pth",
            "last.ckpt",
        ] {
            let folder = Folder::empty()
                .write(name, "PK\x03\x04")
                .write("config.json", "{}");
            let expected = format!(
                "<model>/{name}: pickled weights are not read, because reading them can run code; convert them once, \
                 where they are trusted: python -c \"import sys; from transformers import AutoModelForCausalLM as M, \
                 AutoTokenizer as T; a, b = sys.argv[1:]; M.from_pretrained(a, dtype='auto').save_pretrained(b); \
                 T.from_pretrained(a).save_pretrained(b)\" '<model>' '<model>-safetensors'"
            );
            assert_eq!(folder.refused(), expected);
            assert_eq!(folder.refused_at(name), expected);
        }
    }

    /// The command is there to be pasted into a shell.
    #[test]
    fn the_converting_command_quotes_the_folder() {
        let folder = Folder::empty();
        let odd = folder.join("it's $(here)");
        fs::create_dir(&odd).unwrap();
        fs::write(odd.join("pytorch_model.bin"), "PK").unwrap();
        let error = folder.refused_at("it's $(here)");
        let command = error.split_once(" '<model>").unwrap().1;
        assert_eq!(
            command,
            r"/it'\''s $(here)' '<model>/it'\''s $(here)-safetensors'"
        );
    }

    #[test]
    fn a_safetensors_file_alone_has_no_configuration() {
        assert_eq!(
            Folder::sound().refused_at("model.safetensors"),
            "<model>/model.safetensors: a safetensors file alone has no configuration: give the folder that holds it"
        );
    }

    #[test]
    fn weights_without_a_configuration() {
        assert_eq!(
            Folder::sound().remove("config.json").refused(),
            "<model>: no `config.json` beside the weights"
        );
    }

    #[test]
    fn a_folder_where_a_file_should_be() {
        let folder = Folder::sound().remove("model.safetensors");
        fs::create_dir(folder.join("model.safetensors")).unwrap();
        assert_eq!(
            folder.refused(),
            "<model>/model.safetensors: not a regular file"
        );
        let folder = Folder::sound().remove("config.json");
        fs::create_dir(folder.join("config.json")).unwrap();
        assert_eq!(folder.refused(), "<model>/config.json: not a regular file");
    }

    /// Opening a pipe for reading waits until somebody writes: a hostile folder must not hang the program.
    #[cfg(unix)]
    #[test]
    fn a_pipe_where_a_file_should_be() {
        for name in ["model.safetensors", "config.json"] {
            let folder = Folder::sound().remove(name);
            let made = Command::new("mkfifo").arg(folder.join(name)).status();
            assert!(made.unwrap().success());
            assert_eq!(
                folder.refused(),
                format!("<model>/{name}: not a regular file")
            );
        }
    }
}

mod gguf {
    use super::*;

    fn copy(folder: &Folder, case: &str, file: &str) -> PathBuf {
        let to = folder.join("tiny.gguf");
        fs::copy(golden(case).unwrap().folder().join(file), &to).unwrap();
        to
    }

    /// Where the value of a 4-byte entry stands.
    fn value_of(path: &Path, key: &str) -> u64 {
        let bytes = fs::read(path).unwrap();
        let at = bytes
            .windows(key.len())
            .position(|window| window == key.as_bytes())
            .unwrap();
        (at + key.len() + 4) as u64
    }

    #[test]
    fn other_files_and_nothing() {
        let folder = Folder::empty().write("tiny.gguf", "PK\x03\x04 and more");
        assert_eq!(
            folder.refused_at("tiny.gguf"),
            "<model>/tiny.gguf: not a GGUF file: expected the magic \"GGUF\", found \"PK\\x03\\x04\""
        );
        let folder = Folder::empty().write("tiny.gguf", "");
        assert_eq!(
            folder.refused_at("tiny.gguf"),
            "<model>/tiny.gguf: the file is empty"
        );
    }

    #[test]
    fn a_file_cut_short_is_refused_wherever_it_was_cut() {
        let folder = Folder::empty();
        let path = copy(&folder, "gguf-llama", "f32.gguf");
        let length = fs::metadata(&path).unwrap().len();
        truncate(&path, length - 1).unwrap();
        let error = folder.refused_at("tiny.gguf");
        assert!(error.starts_with("<model>/tiny.gguf: tensor \""), "{error}");
        // Header, metadata, tensor descriptions, data.
        for eighth in (0..8).rev() {
            truncate(&path, length / 8 * eighth + 3).unwrap();
            let error = folder.refused_at("tiny.gguf");
            assert!(error.starts_with("<model>/tiny.gguf: "), "{error}");
        }
        assert_eq!(
            folder.refused_at("tiny.gguf"),
            "<model>/tiny.gguf: file ends inside the magic: 4 bytes expected at offset 0, 3 left"
        );
    }

    #[test]
    fn an_unknown_architecture() {
        let folder = Folder::empty();
        let path = copy(&folder, "gguf-llama", "f32.gguf");
        let at = value_of(&path, "general.architecture") + 8;
        overwrite(&path, at, b"camel").unwrap();
        assert_eq!(
            folder.refused_at("tiny.gguf"),
            "<model>/tiny.gguf: unknown model family `camel`; known are `falcon`, `gemma`, `gemma2`, `gemma3`, `gpt2`, `llama`, `phi3`, `qwen2`, `qwen3`"
        );
    }

    #[test]
    fn numbers_no_decoder_has_are_named_as_the_file_names_them() {
        let cases: [(&str, u32, &str); 6] = [
            (
                "block_count",
                0,
                "`llama.block_count`: expected 1 to 16384, found 0",
            ),
            (
                "context_length",
                u32::MAX,
                "`llama.context_length`: expected 1 to 1073741824, found 4294967295",
            ),
            (
                "attention.head_count_kv",
                3,
                "`llama.attention.head_count_kv`: expected a divisor of 4 query heads, found 3",
            ),
            (
                "feed_forward_length",
                0,
                "`llama.feed_forward_length`: expected 1 to 4194304, found 0",
            ),
            // Rows of Q and K are stored in an order that is undone for whole heads: half a head would be silently wrong.
            (
                "rope.dimension_count",
                4,
                "`llama.rope.dimension_count`: expected the head's width 8, found 4",
            ),
            (
                "attention.layer_norm_rms_epsilon",
                (-1e-5_f32).to_bits(),
                "`llama.attention.layer_norm_rms_epsilon`: expected a positive number, found -0.000009999999747378752",
            ),
        ];
        for (key, value, expected) in cases {
            let folder = Folder::empty();
            let path = copy(&folder, "gguf-llama", "f32.gguf");
            let at = value_of(&path, &format!("llama.{key}"));
            overwrite(&path, at, &value.to_le_bytes()).unwrap();
            assert_eq!(
                folder.refused_at("tiny.gguf"),
                format!("<model>/tiny.gguf: {expected}")
            );
        }
    }

    #[test]
    fn a_rotary_factor_that_would_divide_by_nothing() {
        for (factor, found) in [
            (0.0_f32, "0"),
            (-2.0, "-2"),
            (f32::NAN, "NaN"),
            (f32::INFINITY, "inf"),
        ] {
            let folder = Folder::empty();
            let path = copy(&folder, "gguf-llama-rope", "linear.gguf");
            let at = value_of(&path, "llama.rope.scaling.factor");
            overwrite(&path, at, &factor.to_le_bytes()).unwrap();
            assert_eq!(
                folder.refused_at("tiny.gguf"),
                format!(
                    "<model>/tiny.gguf: `llama.rope.scaling.factor`: expected a positive number, found {found}"
                )
            );
        }
    }
}

mod config {
    use super::*;

    /// `change` one key of a sound `config.json` and expect `expected` after the file's name.
    #[track_caller]
    fn refuses(key: &str, value: Value, expected: &str) {
        let folder = Folder::configured(|config| {
            config.insert(key.to_owned(), value);
        });
        assert_eq!(
            folder.refused(),
            format!("<model>/config.json: {expected}"),
            "{key}"
        );
    }

    #[test]
    fn other_things_than_an_object() {
        for (text, found) in [
            ("[1, 2]", "an array"),
            ("null", "null"),
            ("\"llama\"", "a string"),
            ("7", "a number"),
            ("true", "a boolean"),
        ] {
            assert_eq!(
                Folder::sound().write("config.json", text).refused(),
                format!("<model>/config.json: `(whole file)`: expected an object, found {found}")
            );
        }
    }

    #[test]
    fn text_that_is_not_json() {
        let cases: [(&[u8], &str); 6] = [
            (b"", "EOF while parsing a value at line 1 column 0"),
            (
                b"{\"model_type\": \"llama\",\n",
                "EOF while parsing a value at line 2 column 0",
            ),
            (
                b"{\n \"rms_norm_eps\": NaN\n}",
                "expected value at line 2 column 18",
            ),
            (
                b"{\"rms_norm_eps\": 1e999}",
                "number out of range at line 1 column 22",
            ),
            (
                b"{\"model_type\": \"\xff\"}",
                "invalid unicode code point at line 1 column 17",
            ),
            (
                &[b'['; 4096],
                "recursion limit exceeded at line 1 column 128",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(
                Folder::sound().write("config.json", text).refused(),
                format!("<model>/config.json: not valid JSON: {expected}")
            );
        }
    }

    /// A sparse file costs nobody anything to send; reading it whole would.
    #[test]
    fn a_file_too_large_to_be_one() {
        let folder = Folder::sound();
        let file = fs::OpenOptions::new()
            .write(true)
            .open(folder.join("config.json"))
            .unwrap();
        file.set_len(1 << 34).unwrap();
        assert_eq!(
            folder.refused(),
            "<model>/config.json: 17179869184 bytes of JSON; at most 67108864 are read"
        );
    }

    const KNOWN: &str = "`falcon`, `gemma`, `gemma2`, `gemma3_text`, `glm`, `glm4`, `gpt2`, `gpt_neo`, `gpt_neox`, `gptj`, `llama`, `mistral`, `olmo2`, `phi`, `phi3`, `qwen2`, `qwen3`";

    #[test]
    fn families() {
        refuses(
            "model_type",
            json!("camel"),
            &format!("unknown model family `camel`; known are {KNOWN}"),
        );
        refuses(
            "model_type",
            json!(""),
            &format!("unknown model family ``; known are {KNOWN}"),
        );
        refuses(
            "model_type",
            Value::Null,
            &format!("unknown model family (no `model_type`); known are {KNOWN}"),
        );
        refuses(
            "model_type",
            json!(["llama"]),
            "`model_type`: expected a string, found [\"llama\"]",
        );
    }

    #[test]
    fn keys_without_which_there_is_no_decoder() {
        for key in [
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
        ] {
            let absent = Folder::configured(|config| {
                config.remove(key).unwrap();
            });
            let expected = format!("`{key}`: expected a whole number, found nothing");
            assert_eq!(absent.refused(), format!("<model>/config.json: {expected}"));
            // transformers writes `null` for what is not set.
            refuses(key, Value::Null, &expected);
        }
    }

    #[test]
    fn values_of_another_type() {
        for (key, value, expected) in [
            ("hidden_size", json!("32"), "a whole number, found \"32\""),
            ("hidden_size", json!(32.0), "a whole number, found 32.0"),
            ("hidden_size", json!(-32), "a whole number, found -32"),
            ("hidden_size", json!([32]), "a whole number, found [32]"),
            ("head_dim", json!(true), "a whole number, found true"),
            ("num_key_value_heads", json!({}), "a whole number, found {}"),
            ("rms_norm_eps", json!("1e-5"), "a number, found \"1e-5\""),
            ("attention_bias", json!(1), "true or false, found 1"),
            (
                "tie_word_embeddings",
                json!("yes"),
                "true or false, found \"yes\"",
            ),
            ("hidden_act", json!(0), "a string, found 0"),
            (
                "rope_parameters",
                json!("linear"),
                "an object, found \"linear\"",
            ),
            ("num_experts", json!("8"), "a whole number, found \"8\""),
        ] {
            refuses(key, value, &format!("`{key}`: expected {expected}"));
        }
        // A long value is cut, between characters.
        let long = "ä".repeat(10_000);
        let shown = format!("\"{}…", "ä".repeat(59));
        refuses(
            "hidden_size",
            json!(long),
            &format!("`hidden_size`: expected a whole number, found {shown}"),
        );
    }

    #[test]
    fn sizes_no_decoder_has() {
        let too_large: [(&str, u64, u64); 8] = [
            ("vocab_size", 1 << 24, u64::MAX),
            ("hidden_size", 1 << 20, 1 << 40),
            ("num_hidden_layers", 1 << 14, u64::MAX),
            ("num_attention_heads", 1 << 14, 1 << 62),
            ("num_key_value_heads", 1 << 14, 1 << 62),
            ("head_dim", 1 << 14, u64::MAX - 1),
            ("intermediate_size", 1 << 22, u64::MAX),
            ("max_position_embeddings", 1 << 30, u64::MAX),
        ];
        for (key, limit, huge) in too_large {
            for value in [0, limit + 1, huge] {
                refuses(
                    key,
                    json!(value),
                    &format!("`{key}`: expected 1 to {limit}, found {value}"),
                );
            }
        }
        // 2^64 is no u64 any more; the parser makes it a float.
        let folder = Folder::sound();
        let text = fs::read_to_string(folder.join("config.json")).unwrap();
        let text = text.replace(
            "\"vocab_size\": 264",
            "\"vocab_size\": 18446744073709551616",
        );
        assert_eq!(
            folder.write("config.json", text).refused(),
            "<model>/config.json: `vocab_size`: expected a whole number, found 1.8446744073709552e+19"
        );
    }

    #[test]
    fn heads_that_do_not_divide() {
        refuses(
            "num_key_value_heads",
            json!(3),
            "`num_key_value_heads`: expected a divisor of 4 query heads, found 3",
        );
        refuses(
            "num_key_value_heads",
            json!(8),
            "`num_key_value_heads`: expected a divisor of 4 query heads, found 8",
        );
        refuses(
            "head_dim",
            json!(7),
            "`head_dim`: expected an even number up to the head's 7, found 7",
        );
        for (heads, found) in [(5, "5"), (0, "0")] {
            let folder = Folder::configured(|config| {
                config.remove("head_dim");
                config.insert("num_attention_heads".to_owned(), json!(heads));
            });
            assert_eq!(
                folder.refused(),
                format!(
                    "<model>/config.json: `num_attention_heads`: expected a divisor of the hidden size 32, found {found}"
                )
            );
        }
    }

    #[test]
    fn numbers_that_are_not_positive() {
        for value in [0.0, -1e-5] {
            refuses(
                "rms_norm_eps",
                json!(value),
                &format!("`rms_norm_eps`: expected a positive number, found {value}"),
            );
        }
        refuses(
            "rope_parameters",
            json!({"rope_type": "default", "rope_theta": 0}),
            "`rope_theta`: expected a positive number, found 0",
        );
    }

    #[test]
    fn what_the_decoder_would_compute_otherwise() {
        refuses(
            "hidden_act",
            json!("gelu"),
            "`hidden_act`: expected `silu`, found `gelu`",
        );
        for key in ["num_local_experts", "num_experts", "n_routed_experts"] {
            refuses(
                key,
                json!(8),
                &format!("`{key}`: expected none: mixtures of experts are not read, found 8"),
            );
        }
    }

    #[test]
    fn rotary_scaling_that_is_unknown_or_incomplete() {
        let llama3 = |low: f64, high: f64| {
            json!({
                "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": low,
                "high_freq_factor": high, "original_max_position_embeddings": 64,
            })
        };
        let cases = [
            (
                json!({"rope_type": "spiral", "factor": 2.0}),
                "rope_type`: expected `default`, `linear`, `llama3`, `dynamic`, `yarn` or `longrope`, found `spiral`",
            ),
            (
                json!({"rope_type": "yarn", "factor": -2.0}),
                "factor`: expected a positive number, found -2",
            ),
            (
                json!({"type": "dynamic"}),
                "factor`: expected a number, found nothing",
            ),
            (
                json!({"rope_type": "longrope", "long_factor": [1.0]}),
                "short_factor`: expected a list of numbers, found nothing",
            ),
            (
                json!({"rope_type": "longrope", "short_factor": [1.0, "2"]}),
                "short_factor`: expected a list of numbers, found [1.0,\"2\"]",
            ),
            (
                json!({"rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 1.5}),
                "partial_rotary_factor`: expected a part of one, above 0, found 1.5",
            ),
            (
                json!({"rope_type": 3}),
                "rope_type`: expected a string, found 3",
            ),
            (
                json!({"rope_type": "linear"}),
                "factor`: expected a number, found nothing",
            ),
            (
                json!({"rope_type": "linear", "factor": "2"}),
                "factor`: expected a number, found \"2\"",
            ),
            (
                json!({"rope_type": "linear", "factor": 0}),
                "factor`: expected a positive number, found 0",
            ),
            (
                json!({"rope_type": "linear", "factor": -2}),
                "factor`: expected a positive number, found -2",
            ),
            (
                json!({"rope_type": "llama3", "factor": 8.0}),
                "low_freq_factor`: expected a number, found nothing",
            ),
            // The ramp between them would divide by nothing.
            (
                llama3(4.0, 4.0),
                "high_freq_factor`: expected above `low_freq_factor`, which is 4, found 4",
            ),
            (
                llama3(4.0, 1.0),
                "high_freq_factor`: expected above `low_freq_factor`, which is 4, found 1",
            ),
        ];
        for (value, expected) in cases {
            refuses(
                "rope_parameters",
                value.clone(),
                &format!("`rope_parameters.{expected}"),
            );
            // The older name of the same object.
            let folder = Folder::configured(|config| {
                config.remove("rope_parameters");
                config.insert("rope_scaling".to_owned(), value);
            });
            assert_eq!(
                folder.refused(),
                format!("<model>/config.json: `rope_scaling.{expected}")
            );
        }
    }

    /// Values that are numbers and that no rotary embedding can have.
    #[test]
    fn rotary_scaling_that_cannot_be_computed() {
        let longrope = |short: usize, value: f64| {
            json!({
                "rope_type": "longrope", "short_factor": vec![value; short], "long_factor": [1.0, 1.0, 1.0, 1.0],
                "original_max_position_embeddings": 64,
            })
        };
        for (value, expected) in [
            (longrope(3, 1.0), "4 rotary factors, found 3"),
            (longrope(4, 0.0), "positive rotary factors, found 0"),
            (
                json!({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 0}),
                "an original context of at least 2, found 0",
            ),
            (
                json!({"rope_type": "yarn", "factor": 2.0, "beta_fast": 1.0, "beta_slow": 1.0}),
                "`beta_fast` above `beta_slow`, found 1 and 1",
            ),
            (
                json!({"rope_type": "yarn", "factor": 2.0, "rope_theta": 1.0}),
                "a base above 1, found 1",
            ),
            (
                json!({"rope_type": "dynamic", "factor": 2.0, "partial_rotary_factor": 0.25}),
                "more than 2 rotated components, found 2",
            ),
        ] {
            refuses(
                "rope_parameters",
                value,
                &format!("`rope_scaling`: expected {expected}"),
            );
        }
    }

    /// transformers lets the older key win without a word; either choice could be the wrong one.
    #[test]
    fn both_dialects_at_once_must_agree() {
        let both = |scaling: Value, theta: Value| {
            Folder::configured(|config| {
                config.insert("rope_scaling".to_owned(), scaling);
                config.insert("rope_theta".to_owned(), theta);
            })
        };
        let agree = both(json!({"type": "default"}), json!(10000.0));
        assert_eq!(
            Checkpoint::open(agree.path())
                .unwrap()
                .spec()
                .rotary
                .as_ref()
                .unwrap()
                .theta,
            1e4
        );
        // As transformers: the base inside of `rope_parameters` counts before the one outside.
        let outside = both(Value::Null, json!(5.0));
        assert_eq!(
            Checkpoint::open(outside.path())
                .unwrap()
                .spec()
                .rotary
                .as_ref()
                .unwrap()
                .theta,
            1e4
        );
        let differ = both(json!({"type": "linear", "factor": 2.0}), json!(10000.0));
        assert_eq!(
            differ.refused(),
            "<model>/config.json: `rope_scaling`: expected the same as in `rope_parameters`, found \
             (10000.0, Linear { factor: 2.0 }) against (10000.0, None)"
        );
    }
}

mod weights {
    use super::*;

    #[test]
    fn a_tensor_is_absent() {
        for name in [
            "model.embed_tokens.weight",
            "model.layers.1.self_attn.v_proj.weight",
            "model.norm.weight",
        ] {
            let mut model = TinyLlama::default().build();
            model.tensors.remove(name).unwrap();
            assert_eq!(
                Folder::of(&model).refused(),
                format!("<model>: tensor `{name}` not found")
            );
        }
    }

    #[test]
    fn an_untied_model_needs_its_unembedding() {
        let folder = Folder::configured(|config| {
            config.insert("tie_word_embeddings".to_owned(), json!(false));
        });
        assert_eq!(
            folder.refused(),
            "<model>: tensor `lm_head.weight` not found"
        );
    }

    #[test]
    fn tensors_that_nobody_would_use() {
        let mut model = TinyLlama::default().build();
        let norm = model.tensors["model.norm.weight"].clone();
        let mut expect = |name: &str, expected: &str| {
            model.tensors.insert(name.to_owned(), norm.clone());
            assert_eq!(Folder::of(&model).refused(), format!("<model>: {expected}"));
        };
        expect(
            "model.layers.3.input_layernorm.weight",
            "holds 1 tensor that a `llama` of this configuration does not use: \
             `model.layers.3.input_layernorm.weight`",
        );
        // A name may hold what drives a terminal.
        expect(
            "\u{1b}[2J",
            "holds 2 tensors that a `llama` of this configuration does not use: `\\u{1b}[2J`, \
             `model.layers.3.input_layernorm.weight`",
        );
        expect(
            "a",
            "holds 3 tensors that a `llama` of this configuration does not use: `\\u{1b}[2J`, `a`, \
             `model.layers.3.input_layernorm.weight`",
        );
        expect(
            "b",
            "holds 4 tensors that a `llama` of this configuration does not use: `\\u{1b}[2J`, `a`, `b`, …",
        );
    }

    /// Biases that the configuration does not announce would be left out of the arithmetic.
    #[test]
    fn a_bias_that_the_configuration_does_not_announce() {
        let mut model = TinyLlama::default().build();
        let bias = model.tensors["model.norm.weight"].clone();
        let name = "model.layers.0.self_attn.q_proj.bias";
        model.tensors.insert(name.to_owned(), bias);
        assert_eq!(
            Folder::of(&model).refused(),
            format!(
                "<model>: holds 1 tensor that a `llama` of this configuration does not use: `{name}`"
            )
        );
    }

    /// What old files and tied models hold beside the weights is let pass: neither is read.
    #[test]
    fn harmless_extras_pass() {
        let mut model = TinyLlama::default().build();
        let (embedding, norm) = (
            model.tensors["model.embed_tokens.weight"].clone(),
            model.tensors["model.norm.weight"].clone(),
        );
        model.tensors.insert("lm_head.weight".to_owned(), embedding);
        let buffer = "model.layers.0.self_attn.rotary_emb.inv_freq";
        model.tensors.insert(buffer.to_owned(), norm);
        Checkpoint::open(Folder::of(&model).path()).unwrap();
    }

    #[test]
    fn a_shape_against_the_configuration() {
        let untied = TinyLlama {
            tied: false,
            ..TinyLlama::default()
        };
        for (name, shape, expected) in [
            ("model.layers.2.self_attn.q_proj.weight", [16, 64], [32, 32]),
            ("model.layers.0.self_attn.k_proj.weight", [32, 16], [16, 32]),
            ("model.embed_tokens.weight", [132, 64], [264, 32]),
            ("lm_head.weight", [32, 264], [264, 32]),
        ] {
            let mut model = untied.build();
            model.tensor_mut(name).shape = shape.to_vec();
            assert_eq!(
                Folder::of(&model).refused(),
                format!("<model>: tensor `{name}`: expected shape {expected:?}, found {shape:?}")
            );
        }
        let mut model = untied.build();
        model.tensor_mut("model.norm.weight").shape = vec![1, 32];
        assert_eq!(
            Folder::of(&model).refused(),
            "<model>: tensor `model.norm.weight`: expected shape [32], found [1, 32]"
        );
        // The same from the other side: the configuration claims another size.
        let folder = Folder::configured(|config| {
            config.insert("vocab_size".to_owned(), json!(265));
        });
        assert_eq!(
            folder.refused(),
            "<model>: tensor `model.embed_tokens.weight`: expected shape [265, 32], found [264, 32]"
        );
    }

    /// Rewrites the header of `model.safetensors` through `change`, keeping the data.
    fn with_header(folder: &Folder, change: impl FnOnce(&mut Value)) {
        let path = folder.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        change(&mut header);
        let header = header.to_string();
        let mut changed = (header.len() as u64).to_le_bytes().to_vec();
        changed.extend(header.as_bytes());
        changed.extend(&bytes[8 + length..]);
        fs::write(path, changed).unwrap();
    }

    #[test]
    fn types_that_are_not_read() {
        let name = "model.norm.weight";
        // Of the same number of bytes, so that only the type is wrong, and then the shape.
        for (dtype, width) in [("I32", 32), ("U32", 32)] {
            let folder = Folder::sound();
            with_header(&folder, |header| {
                header[name]["dtype"] = json!(dtype);
                header[name]["shape"] = json!([width]);
            });
            assert_eq!(
                folder.refused(),
                format!("<model>: tensor `{name}`: expected F32, F16 or BF16, found {dtype}")
            );
        }
        for (dtype, size) in [
            ("I64", 8),
            ("F64", 8),
            ("F8_E4M3", 1),
            ("F8_E5M2", 1),
            ("I8", 1),
            ("BOOL", 1),
        ] {
            let mut model = TinyLlama::default().build();
            // 32 elements of `size` bytes, written as f32 and then renamed.
            let tensor = model.tensor_mut(name);
            tensor.values = vec![1.0; 8 * size];
            tensor.shape = vec![8 * size];
            let folder = Folder::of(&model);
            with_header(&folder, |header| {
                header[name]["dtype"] = json!(dtype);
                header[name]["shape"] = json!([32]);
            });
            assert_eq!(
                folder.refused(),
                format!("<model>: tensor `{name}`: expected F32, F16 or BF16, found {dtype}")
            );
        }
    }

    #[test]
    fn a_file_cut_short() {
        let folder = Folder::sound();
        let path = folder.join("model.safetensors");
        let length = fs::metadata(&path).unwrap().len();
        let header = u64::from_le_bytes(fs::read(&path).unwrap()[..8].try_into().unwrap());
        for (kept, expected) in [
            (length - 1, "incomplete metadata, file not fully covered"),
            (header + 9, "incomplete metadata, file not fully covered"),
            (header + 8, "incomplete metadata, file not fully covered"),
            (header + 7, "invalid header length"),
            (100, "invalid header length"),
            (8, "invalid header length"),
            (7, "header too small"),
        ] {
            truncate(&path, kept).unwrap();
            assert_eq!(
                folder.refused(),
                format!("<model>/model.safetensors: {expected}"),
                "{kept} of {length} bytes"
            );
        }
        truncate(&path, 0).unwrap();
        assert_eq!(
            folder.refused(),
            "<model>/model.safetensors: the file is empty"
        );
    }

    #[test]
    fn a_header_that_lies() {
        type Lie = (&'static str, fn(&mut Value), &'static str);
        let name = "model.norm.weight";
        let lies: [Lie; 9] = [
            (
                "hole",
                |tensor| {
                    tensor["data_offsets"][0] =
                        json!(tensor["data_offsets"][0].as_u64().unwrap() + 4);
                },
                "invalid offset for tensor `model.norm.weight`",
            ),
            (
                "backwards",
                |tensor| {
                    let (start, end) = (
                        tensor["data_offsets"][0].clone(),
                        tensor["data_offsets"][1].clone(),
                    );
                    tensor["data_offsets"] = json!([end, start]);
                },
                "invalid offset for tensor `model.norm.weight`",
            ),
            (
                "beyond",
                |tensor| tensor["data_offsets"][1] = json!(u64::MAX),
                "invalid shape, data type, or offset for tensor",
            ),
            (
                "shape",
                |tensor| tensor["shape"] = json!([31]),
                "invalid shape, data type, or offset for tensor",
            ),
            (
                "overflow",
                |tensor| tensor["shape"] = json!([u64::MAX, u64::MAX]),
                "overflow computing buffer size from shape and/or element type",
            ),
            (
                "negative",
                |tensor| tensor["shape"] = json!([-32]),
                "invalid JSON in header: invalid value: integer `-32`, expected usize",
            ),
            (
                "dtype",
                |tensor| tensor["dtype"] = json!("F99"),
                "invalid JSON in header: unknown variant `F99`",
            ),
            (
                "no offsets",
                |tensor| {
                    tensor.as_object_mut().unwrap().remove("data_offsets");
                },
                "invalid JSON in header: missing field `data_offsets`",
            ),
            (
                "null",
                |tensor| *tensor = Value::Null,
                "invalid JSON in header: invalid type: null, expected struct TensorInfo",
            ),
        ];
        for (what, lie, expected) in lies {
            let folder = Folder::sound();
            with_header(&folder, |header| lie(&mut header[name]));
            let error = folder.refused();
            // The JSON parser adds where in the header it stopped.
            assert!(
                error.starts_with(&format!("<model>/model.safetensors: {expected}")),
                "{what}: {error}"
            );
        }
    }

    #[test]
    fn a_header_length_that_lies() {
        for (length, expected) in [
            (
                0_u64,
                "invalid JSON in header: EOF while parsing a value at line 1 column 0",
            ),
            (100_000_001, "header too large"),
            (u64::MAX, "header too large"),
            (1 << 63, "header too large"),
        ] {
            let folder = Folder::sound();
            overwrite(&folder.join("model.safetensors"), 0, &length.to_le_bytes()).unwrap();
            assert_eq!(
                folder.refused(),
                format!("<model>/model.safetensors: {expected}"),
                "{length}"
            );
        }
    }

    /// An unpadded header puts the data at an odd address, where no view of numbers may begin.
    #[test]
    fn an_unaligned_file_reads_the_same() {
        let (aligned, odd) = (Folder::sound(), Folder::sound());
        with_header(&odd, |header| {
            let length = header.to_string().len();
            // `serde_json` writes `{"a":"x"}`; one more letter moves everything by one byte.
            let padding = if length % 2 == 0 { "x" } else { "" };
            header["__metadata__"] = json!({"format": format!("pt{padding}")});
        });
        let hash = |folder: &Folder| {
            Checkpoint::open(folder.path())
                .unwrap()
                .model_hash()
                .unwrap()
                .to_owned()
        };
        assert_eq!(hash(&aligned), hash(&odd));
    }
}

mod index {
    use super::*;

    const INDEX: &str = "model.safetensors.index.json";
    const SHARDS: [&str; 2] = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];

    /// A sound model in two shards, and its index.
    fn sharded() -> (Folder, Value) {
        let model = TinyLlama::default().build();
        let folder = Folder::empty();
        let mut map = serde_json::Map::new();
        for (shard, name) in SHARDS.into_iter().enumerate() {
            let mut part = model.clone();
            part.tensors
                .retain(|name, _| usize::from(name.as_str() > "model.layers.1") == shard);
            part.write(folder.path()).unwrap();
            fs::rename(folder.join("model.safetensors"), folder.join(name)).unwrap();
            map.extend(
                part.tensors
                    .keys()
                    .map(|tensor| (tensor.clone(), json!(name))),
            );
        }
        let index = json!({"metadata": {"total_size": 0}, "weight_map": map});
        (folder.write(INDEX, index.to_string()), index)
    }

    #[test]
    fn the_shards_that_the_others_break_are_sound() {
        let (folder, _) = sharded();
        let hash = |path: &Path| {
            Checkpoint::open(path)
                .unwrap()
                .model_hash()
                .unwrap()
                .to_owned()
        };
        // `total_size` is not trusted: nothing is allocated by it.
        assert_eq!(hash(folder.path()), hash(Folder::sound().path()));
    }

    #[test]
    fn a_shard_name_never_leads_out_of_the_folder() {
        let (folder, index) = sharded();
        // It would be found there: only the check stands between.
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().join(SHARDS[0]);
        fs::copy(folder.join(SHARDS[0]), &target).unwrap();
        fs::create_dir(folder.join("inner")).unwrap();
        fs::copy(folder.join(SHARDS[0]), folder.join("inner").join(SHARDS[0])).unwrap();
        let up = format!(
            "../{}/{}",
            outside.path().file_name().unwrap().to_str().unwrap(),
            SHARDS[0]
        );
        let forms = [
            up.clone(),
            format!("./{up}"),
            format!("inner/../{up}"),
            target.to_str().unwrap().to_owned(),
            format!("inner/{}", SHARDS[0]),
            format!("./{}", SHARDS[0]),
            format!("{}/", SHARDS[0]),
            format!("..\\{}", SHARDS[0]),
            format!("C:\\{}", SHARDS[0]),
            format!("C:{}", SHARDS[0]),
            format!("\\\\host\\share\\{}", SHARDS[0]),
            format!("{}\0.txt", SHARDS[0]),
            "..".to_owned(),
            ".".to_owned(),
            "/".to_owned(),
            String::new(),
        ];
        for form in forms {
            let mut changed = index.clone();
            let tensor = "model.embed_tokens.weight";
            changed["weight_map"][tensor] = json!(form);
            fs::write(folder.join(INDEX), changed.to_string()).unwrap();
            let shown = json!(form).to_string();
            let shown = match shown.char_indices().nth(60) {
                Some((end, _)) => format!("{}…", &shown[..end]),
                None => shown,
            };
            assert_eq!(
                folder.refused(),
                format!(
                    "<model>/{INDEX}: `weight_map.{tensor}`: expected a file name in the model's own folder, found \
                     {}",
                    shown.replace(&folder.path().display().to_string(), "<model>")
                )
            );
        }
    }

    /// The hub's cache is made of links out of the snapshot, so a link is followed: whoever made it owns the disk. What it
    /// leads to must still be the shard.
    #[cfg(unix)]
    #[test]
    fn a_link_is_followed_and_what_it_leads_to_is_checked() {
        let (folder, _) = sharded();
        let outside = tempfile::tempdir().unwrap();
        let blob = outside.path().join("blob");
        fs::rename(folder.join(SHARDS[0]), &blob).unwrap();
        std::os::unix::fs::symlink(&blob, folder.join(SHARDS[0])).unwrap();
        Checkpoint::open(folder.path()).unwrap();
        fs::write(&blob, "root:x:0:0").unwrap();
        assert_eq!(
            folder.refused(),
            format!("<model>/{}: header too large", SHARDS[0])
        );
        fs::remove_file(&blob).unwrap();
        assert_eq!(
            folder.refused(),
            format!(
                "<model>/{INDEX}: names `{}`, which is not in the folder; perhaps its download was interrupted",
                SHARDS[0]
            )
        );
    }

    #[test]
    fn a_shard_is_absent() {
        let (folder, _) = sharded();
        assert_eq!(
            folder.remove(SHARDS[1]).refused(),
            format!(
                "<model>/{INDEX}: names `{}`, which is not in the folder; perhaps its download was interrupted",
                SHARDS[1]
            )
        );
    }

    #[test]
    fn index_and_shards_at_odds() {
        let (folder, index) = sharded();
        let count = index["weight_map"].as_object().unwrap().len();
        let with = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
            let mut index = index.clone();
            change(index["weight_map"].as_object_mut().unwrap());
            fs::write(folder.join(INDEX), index.to_string()).unwrap();
            folder.refused()
        };
        assert_eq!(
            with(&|map| map["model.norm.weight"] = json!(SHARDS[0])),
            format!(
                "<model>/{INDEX}: tensor `model.norm.weight` is not in `{}`, where the index puts it",
                SHARDS[0]
            )
        );
        assert_eq!(
            with(&|map| {
                map.insert("more.weight".to_owned(), json!(SHARDS[0]));
            }),
            format!(
                "<model>/{INDEX}: tensor `more.weight` is not in `{}`, where the index puts it",
                SHARDS[0]
            )
        );
        assert_eq!(
            with(&|map| {
                map.remove("model.norm.weight");
            }),
            format!(
                "<model>/{INDEX}: lists {} tensors, but the shards hold {count}",
                count - 1
            )
        );
        assert_eq!(
            with(&|map| map["model.norm.weight"] = json!(7)),
            format!(
                "<model>/{INDEX}: `weight_map.model.norm.weight`: expected a file name in the model's own folder, \
                 found 7"
            )
        );
    }

    #[test]
    fn one_tensor_in_two_shards() {
        let (folder, _) = sharded();
        fs::copy(folder.join(SHARDS[0]), folder.join(SHARDS[1])).unwrap();
        let error = folder.refused();
        let expected = format!("<model>/{}: tensor `model.", SHARDS[1]);
        assert!(
            error.starts_with(&expected) && error.ends_with("` stands in another shard too"),
            "{error}"
        );
    }

    #[test]
    fn other_things_than_an_index() {
        let (folder, _) = sharded();
        let with = |text: &str| {
            fs::write(folder.join(INDEX), text).unwrap();
            folder.refused()
        };
        let expected = "expected an object of tensor names to file names, found";
        for (text, found) in [
            ("{}", "null"),
            ("[]", "null"),
            ("{\"weight_map\": [1]}", "[1]"),
            ("{\"weight_map\": \"all\"}", "\"all\""),
        ] {
            assert_eq!(
                with(text),
                format!("<model>/{INDEX}: `weight_map`: {expected} {found}")
            );
        }
        assert_eq!(
            with("{\"weight_map\": {}}"),
            format!("<model>/{INDEX}: `weight_map`: expected at least one tensor, found {{}}")
        );
        assert_eq!(
            with("{\"weight_map\": {"),
            format!(
                "<model>/{INDEX}: not valid JSON: EOF while parsing an object at line 1 column 16"
            )
        );
    }
}
