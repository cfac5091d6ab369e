use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, SafeTensorError, tensor::TensorView};
use serde_json::{Value, json};

use crate::Array;

/// Why a [`TinyModel`] could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TinyError {
    /// A file can't be written.
    #[error("can't write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A tensor's shape does not hold as many numbers as it has.
    #[error("`{name}` has {found} values, its shape {shape:?} holds another number")]
    Tensor {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// How many values it has.
        found: usize,
    },
    /// The tensors can't be put into one safetensors file.
    #[error("can't build {}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SafeTensorError,
    },
}

/// The sizes of a llama with random weights; [`build`](Self::build) makes it, without libtorch, in a millisecond.
///
/// ```
/// use lm_testkit::TinyLlama;
///
/// let folder = tempfile::tempdir()?;
/// let mut model = TinyLlama { layers: 2, ..TinyLlama::default() }.build();
/// model.tensor_mut("model.layers.1.mlp.up_proj.weight").values[5] = f32::NAN;
/// model.write(folder.path())?;
/// assert!(folder.path().join("tokenizer.json").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TinyLlama {
    /// Seed of the weights; equal seeds and sizes give equal bits on every machine.
    pub seed: u64,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside of the MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of KV heads; divides `heads`.
    pub kv_heads: usize,
    /// Size of one head.
    pub head_dim: usize,
    /// Longest context, `max_position_embeddings`.
    pub context: usize,
    /// Whether the unembedding is the embedding.
    pub tied: bool,
}

impl Default for TinyLlama {
    fn default() -> Self {
        Self {
            seed: 0,
            hidden_size: 32,
            intermediate_size: 56,
            layers: 3,
            heads: 4,
            kv_heads: 2,
            head_dim: 8,
            context: 256,
            tied: true,
        }
    }
}

/// A model folder in memory, to be broken before it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct TinyModel {
    /// `config.json`.
    pub config: Value,
    /// `generation_config.json`.
    pub generation_config: Value,
    /// `tokenizer.json`: a token for each byte, four merges, four special tokens. `None` leaves the file out.
    pub tokenizer: Option<Value>,
    /// `tokenizer_config.json` with a chat template; `None` leaves the file out.
    pub tokenizer_config: Option<Value>,
    /// The weights by their Hugging Face names, stored as f32 in `model.safetensors`.
    pub tensors: BTreeMap<String, Array<f32>>,
}

/// Special tokens of the tiny tokenizer; their ids follow the bytes and the merges.
const SPECIAL: [&str; 4] = ["<|begin|>", "<|end|>", "<|turn|>", "<|close|>"];
const BEGIN: usize = 0;
const TURN: usize = 2;
const CLOSE: usize = 3;
/// `Ġ` is how byte-level BPE writes a space.
const MERGES: [(&str, &str); 4] = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n")];
const FIRST_SPECIAL: usize = 256 + MERGES.len();

const CHAT_TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}<|turn|>{{ message['role'] }}\n\
     {{ message['content'] }}<|close|>\n{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}";

impl TinyLlama {
    /// Number of tokens: 256 bytes, the merges and the special tokens.
    pub const VOCAB_SIZE: usize = FIRST_SPECIAL + SPECIAL.len();
    /// Id of the token that begins every prompt, `<|begin|>`.
    pub const BOS: u32 = (FIRST_SPECIAL + BEGIN) as u32;
    /// Id of the token that opens a message, `<|turn|>`.
    pub const TURN: u32 = (FIRST_SPECIAL + TURN) as u32;
    /// Id of the token that ends a reply, `<|close|>`.
    pub const EOS: u32 = (FIRST_SPECIAL + CLOSE) as u32;

    /// Random weights of these sizes, scaled so that activations stay near 1 and heads attend unevenly.
    pub fn build(&self) -> TinyModel {
        let mut random = Random(self.seed);
        let tensors = self
            .shapes()
            .into_iter()
            .map(|(name, shape)| {
                let values = random.weights(&name, &shape);
                (name, Array { shape, values })
            })
            .collect();
        TinyModel {
            config: self.config(),
            generation_config: json!({"bos_token_id": Self::BOS, "eos_token_id": Self::EOS}),
            tokenizer: Some(tokenizer()),
            tokenizer_config: Some(json!({
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": SPECIAL[BEGIN],
                "eos_token": SPECIAL[CLOSE],
                "model_max_length": self.context,
                "clean_up_tokenization_spaces": false,
                "chat_template": CHAT_TEMPLATE,
            })),
            tensors,
        }
    }

    /// Builds the model and writes its folder.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn write(&self, folder: &Path) -> Result<(), TinyError> {
        self.build().write(folder)
    }

    fn config(&self) -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": Self::VOCAB_SIZE,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": self.context,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "attention_bias": false,
            "mlp_bias": false,
            "tie_word_embeddings": self.tied,
            "bos_token_id": Self::BOS,
            "eos_token_id": Self::EOS,
            "dtype": "float32",
        })
    }

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let Self {
            hidden_size: hidden,
            intermediate_size: inner,
            ..
        } = *self;
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut shapes = vec![(
            "model.embed_tokens.weight".to_owned(),
            vec![Self::VOCAB_SIZE, hidden],
        )];
        for layer in 0..self.layers {
            let block = [
                ("input_layernorm", vec![hidden]),
                ("self_attn.q_proj", vec![queries, hidden]),
                ("self_attn.k_proj", vec![keys, hidden]),
                ("self_attn.v_proj", vec![keys, hidden]),
                ("self_attn.o_proj", vec![hidden, queries]),
                ("post_attention_layernorm", vec![hidden]),
                ("mlp.gate_proj", vec![inner, hidden]),
                ("mlp.up_proj", vec![inner, hidden]),
                ("mlp.down_proj", vec![hidden, inner]),
            ];
            shapes.extend(
                block.map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape)),
            );
        }
        shapes.push(("model.norm.weight".to_owned(), vec![hidden]));
        if !self.tied {
            shapes.push(("lm_head.weight".to_owned(), vec![Self::VOCAB_SIZE, hidden]));
        }
        shapes
    }
}

impl TinyModel {
    /// The tensor to break.
    ///
    /// # Panics
    /// When there is none of this name: in a test that is a bug of the test.
    #[track_caller]
    pub fn tensor_mut(&mut self, name: &str) -> &mut Array<f32> {
        match self.tensors.get_mut(name) {
            Some(tensor) => tensor,
            None => panic!("the tiny model has no tensor `{name}`"),
        }
    }

    /// Writes the Hugging Face folder, which is created if need be.
    ///
    /// # Errors
    /// When a file can't be written or a tensor's shape does not hold its values.
    pub fn write(&self, folder: &Path) -> Result<(), TinyError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| TinyError::Write { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let documents = [
            ("config.json", Some(&self.config)),
            ("generation_config.json", Some(&self.generation_config)),
            ("tokenizer.json", self.tokenizer.as_ref()),
            ("tokenizer_config.json", self.tokenizer_config.as_ref()),
        ];
        for (name, document) in documents {
            if let Some(document) = document {
                let path = folder.join(name);
                fs::write(&path, format!("{document:#}\n")).map_err(failed(&path))?;
            }
        }
        self.write_weights(&folder.join("model.safetensors"))
    }

    fn write_weights(&self, path: &Path) -> Result<(), TinyError> {
        let bytes: BTreeMap<&String, Vec<u8>> = self
            .tensors
            .iter()
            .map(|(name, tensor)| {
                (
                    name,
                    tensor
                        .values
                        .iter()
                        .flat_map(|value| value.to_le_bytes())
                        .collect(),
                )
            })
            .collect();
        let mut views = Vec::with_capacity(bytes.len());
        for (name, tensor) in &self.tensors {
            let view =
                TensorView::new(Dtype::F32, tensor.shape.clone(), &bytes[name]).map_err(|_| {
                    TinyError::Tensor {
                        name: name.clone(),
                        shape: tensor.shape.clone(),
                        found: tensor.values.len(),
                    }
                })?;
            views.push((name, view));
        }
        // What transformers writes; without it, its loader refuses the file.
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        safetensors::serialize_to_file(views, Some(metadata), path).map_err(|source| {
            TinyError::Safetensors {
                path: path.to_owned(),
                source,
            }
        })
    }
}

/// Byte-level BPE as GPT-2's: a token for every byte, so that any text can be encoded.
fn tokenizer() -> Value {
    let mut vocabulary: serde_json::Map<String, Value> = serde_json::Map::new();
    let bytes = (0..=u8::MAX).map(|byte| byte_symbol(byte).to_string());
    for (id, token) in bytes
        .chain(MERGES.map(|(left, right)| format!("{left}{right}")))
        .enumerate()
    {
        vocabulary.insert(token, id.into());
    }
    let added: Vec<Value> = SPECIAL
        .iter()
        .enumerate()
        .map(|(i, token)| {
            json!({
                "id": FIRST_SPECIAL + i, "content": token, "special": true,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            })
        })
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": SPECIAL[BEGIN], "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [
                {"SpecialToken": {"id": SPECIAL[BEGIN], "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {
                SPECIAL[BEGIN]: {"id": SPECIAL[BEGIN], "ids": [TinyLlama::BOS], "tokens": [SPECIAL[BEGIN]]},
            },
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocabulary,
            "merges": MERGES.map(|(left, right)| [left, right]),
        },
    })
}

/// GPT-2's printable stand-in for a byte: itself where that is printable, else the next free letter from U+0100 on.
fn byte_symbol(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let earlier = (0..byte).filter(|&other| !printable(other)).count();
    // At most 68 bytes are not printable, so the letter is below U+0144.
    char::from_u32(0x100 + earlier as u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// SplitMix64: a few lines, and the same bits everywhere.
struct Random(u64);

impl Random {
    /// Uniform in `[-1, 1)`, with 24 bits.
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// The weights of one tensor. Matrices have the standard deviation `1.2 / sqrt(inputs)`; norms are near 1.
    fn weights(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        let count = shape.iter().product();
        let (centre, deviation) = match *shape {
            [_] => (1.0, 0.3),
            _ if name.contains("embed") => (0.0, 0.4),
            [.., inputs] => (0.0, 1.2 / (inputs as f32).sqrt()),
            [] => (0.0, 1.0),
        };
        // A uniform number in [-1, 1) has the standard deviation 1 / √3.
        (0..count)
            .map(|_| centre + deviation * 3.0_f32.sqrt() * self.uniform())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use tokenizers::Tokenizer;

    use super::*;
    use crate::{Tensor, read_tensors};

    type Outcome = Result<(), Box<dyn Error>>;

    #[test]
    fn equal_seeds_give_equal_models_and_others_do_not() {
        let model = |seed| {
            TinyLlama {
                seed,
                ..TinyLlama::default()
            }
            .build()
        };
        assert_eq!(model(4), model(4));
        assert_ne!(model(4).tensors, model(5).tensors);
    }

    #[test]
    fn weights_have_the_deviation_that_keeps_activations_near_one() {
        let model = TinyLlama {
            hidden_size: 256,
            intermediate_size: 512,
            ..TinyLlama::default()
        }
        .build();
        let deviation = |name: &str| {
            let values = &model.tensors[name].values;
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            (values
                .iter()
                .map(|value| (value - mean).powi(2))
                .sum::<f32>()
                / values.len() as f32)
                .sqrt()
        };
        // 3 % is more than 15 standard errors of a deviation estimated from 65,536 uniform numbers.
        assert!((deviation("model.layers.0.mlp.up_proj.weight") / (1.2 / 16.0) - 1.0).abs() < 0.03);
        assert!((deviation("model.embed_tokens.weight") / 0.4 - 1.0).abs() < 0.03);
    }

    #[test]
    fn the_folder_holds_what_was_built() -> Outcome {
        let folder = tempfile::tempdir()?;
        let mut model = TinyLlama {
            tied: false,
            layers: 1,
            ..TinyLlama::default()
        }
        .build();
        model.tensor_mut("model.norm.weight").values[0] = f32::NAN;
        model.write(folder.path())?;
        let tensors = read_tensors(&folder.path().join("model.safetensors"))?;
        assert_eq!(tensors.len(), 12);
        for (name, written) in &model.tensors {
            let Some(Tensor::Floats(read)) = tensors.get(name) else {
                panic!("`{name}` is not there")
            };
            assert_eq!(read.shape, written.shape);
            assert!(
                read.values
                    .iter()
                    .zip(&written.values)
                    .all(|(a, b)| a.to_bits() == b.to_bits()),
                "{name}"
            );
        }
        let config: Value = serde_json::from_slice(&fs::read(folder.path().join("config.json"))?)?;
        assert_eq!(config, model.config);
        Ok(())
    }

    #[test]
    fn documents_can_be_left_out() -> Outcome {
        let folder = tempfile::tempdir()?;
        let model = TinyModel {
            tokenizer: None,
            tokenizer_config: None,
            ..TinyLlama::default().build()
        };
        model.write(folder.path())?;
        assert!(!folder.path().join("tokenizer.json").exists());
        assert!(!folder.path().join("tokenizer_config.json").exists());
        Ok(())
    }

    #[test]
    fn a_shape_that_does_not_hold_the_values_is_named() -> Outcome {
        let folder = tempfile::tempdir()?;
        let mut model = TinyLlama::default().build();
        model.tensor_mut("model.norm.weight").shape = vec![31];
        let message = model
            .write(folder.path())
            .map_err(|error| error.to_string());
        let expected = "`model.norm.weight` has 32 values, its shape [31] holds another number";
        assert_eq!(message, Err(expected.to_owned()));
        Ok(())
    }

    #[test]
    fn any_text_survives_the_tokenizer() -> Result<(), Box<dyn Error + Send + Sync>> {
        let folder = tempfile::tempdir()?;
        TinyLlama::default().write(folder.path())?;
        let tokenizer = Tokenizer::from_file(folder.path().join("tokenizer.json"))?;
        assert_eq!(tokenizer.get_vocab_size(true), TinyLlama::VOCAB_SIZE);
        for text in [
            "in the thicket",
            "naïve 東京 🎒\u{7f}\u{a0}\u{ad}\n\t\0",
            "<|turn|>user",
        ] {
            let ids = tokenizer.encode(text, true)?.get_ids().to_vec();
            assert_eq!(ids[0], TinyLlama::BOS);
            assert_eq!(tokenizer.decode(&ids[1..], false)?, text);
        }
        let tokens = tokenizer
            .encode("in the<|close|>", false)?
            .get_ids()
            .to_vec();
        assert_eq!(tokens, [259, 258, TinyLlama::EOS]);
        Ok(())
    }
}
