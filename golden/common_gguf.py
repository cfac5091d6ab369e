"""Writes a tiny model as the GGUF file that llama.cpp's converter would make of its Hugging Face folder."""

import math
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from common import check_close, check_matters, out_dir, random_weights, run, write_expected
from gguf import (
    GGML_QUANT_VERSION,
    GGMLQuantizationType,
    GGUFWriter,
    LlamaFileType,
    MODEL_ARCH,
    MODEL_ARCH_NAMES,
    RopeScalingType,
    TokenType,
    get_tensor_name_map,
)
from gguf.quants import dequantize, quantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}<|turn|>{{ message['role'] }}\n{{ message['content'] }}<|close|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
SPECIAL = ["<|begin|>", "<|end|>", "<|turn|>", "<|close|>"]
VOCAB_SIZE = 264
# What the configurations of these cases share: the tokenizer's numbers.
TOKENS = {"vocab_size": VOCAB_SIZE, "bos_token_id": 0, "eos_token_id": 3}
# Texts whose ids a reader of the file must find: a merge across a space, bytes without a token of their own, a control
# token, digits, white space.
TEXTS = ["the thin tin", "naïve 東京 🎒", "<|turn|>user\nin<|close|>", "in 1024  the\n\n\tthing", ""]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE as GPT-2's: special tokens first, then the 256 bytes, then four merges."""
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n")]
    tokens = SPECIAL + sorted(pre_tokenizers.ByteLevel.alphabet()) + ["".join(merge) for merge in merges]
    assert len(tokens) == VOCAB_SIZE
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[3], chat_template=CHAT_TEMPLATE
    )


def stored_type(name: str, weight: torch.Tensor, wanted: GGMLQuantizationType) -> GGMLQuantizationType:
    """The converter keeps every one-dimensional tensor in float32."""
    return GGMLQuantizationType.F32 if weight.dim() == 1 else wanted


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key projection from Hugging Face's order (two halves) to GGUF's llama order (pairs)."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def llama3_factors(config) -> np.ndarray:
    """What `rope_freqs.weight` holds: the number each rotary frequency is divided by."""
    rope = config.rope_parameters
    frequencies = 1.0 / rope["rope_theta"] ** (torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim)
    context, low, high = (rope[k] for k in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor"))
    factors = []
    for frequency in frequencies.tolist():
        wavelength = 2 * math.pi / frequency
        if wavelength < context / high:
            factors.append(1.0)
        elif wavelength > context / low:
            factors.append(rope["factor"])
        else:
            smooth = (context / wavelength - low) / (high - low)
            factors.append(1.0 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


@dataclass(frozen=True)
class Family:
    """How llama.cpp names a model family, and which keys its converter writes for it."""

    arch: MODEL_ARCH
    title: str
    head_width: bool = False  # `attention.key_length` and `attention.value_length`
    rope_base: bool = True  # `rope.freq_base`; without it readers take 10000
    rope_width: bool = False  # `rope.dimension_count`


FAMILIES = {
    "llama": Family(MODEL_ARCH.LLAMA, "Llama", head_width=True, rope_width=True),
    "qwen2": Family(MODEL_ARCH.QWEN2, "Qwen2"),
    "qwen3": Family(MODEL_ARCH.QWEN3, "Qwen3", head_width=True),
    "gemma": Family(MODEL_ARCH.GEMMA, "Gemma", head_width=True, rope_base=False),
    "gemma2": Family(MODEL_ARCH.GEMMA2, "Gemma 2", head_width=True, rope_base=False),
    "gemma3_text": Family(MODEL_ARCH.GEMMA3, "Gemma 3", head_width=True),
    "phi3": Family(MODEL_ARCH.PHI3, "Phi-3", rope_width=True),
    "gpt2": Family(MODEL_ARCH.GPT2, "GPT-2", rope_base=False),
    "falcon": Family(MODEL_ARCH.FALCON, "Falcon", rope_base=False),
}


def first_of(config, *names: str):
    """The first of these settings that the configuration has."""
    return next(value for name in names if (value := getattr(config, name, None)) is not None)


def kv_heads(config) -> int:
    """Falcon's old form has one KV head or as many as heads, by a flag."""
    if config.model_type == "falcon" and not config.new_decoder_architecture:
        return 1 if config.multi_query else config.num_attention_heads
    return first_of(config, "num_key_value_heads", "num_kv_heads", "num_attention_heads")


def rope_of(config) -> dict:
    """The rotary settings, of the global blocks where the local ones have their own."""
    rope = getattr(config, "rope_parameters", None) or {}
    return rope.get("full_attention", rope)


def add_sizes(writer: GGUFWriter, config, quant: str) -> None:
    """The keys that say how large the model is."""
    family, rope = FAMILIES[config.model_type], rope_of(config)
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_block_count(config.num_hidden_layers)
    # Falcon's configuration did not say how long a text may be, so the converter does.
    writer.add_context_length(2048 if config.model_type == "falcon" else config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(first_of(config, "intermediate_size", "n_inner", "ffn_hidden_size"))
    writer.add_head_count(config.num_attention_heads)
    if config.model_type != "gpt2":
        writer.add_head_count_kv(kv_heads(config))
    if family.head_width:
        writer.add_key_length(head_width)
        writer.add_value_length(head_width)
    if family.rope_base:
        writer.add_rope_freq_base(rope["rope_theta"])
    if family.rope_width:
        writer.add_rope_dimension_count(head_width)
    if hasattr(config, "rms_norm_eps"):
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    else:
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    if config.model_type == "llama":
        writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(LlamaFileType["ALL_F32" if quant == "F32" else f"MOSTLY_{quant}"])
    writer.add_quantization_version(GGML_QUANT_VERSION)


def add_switches(writer: GGUFWriter, config) -> None:
    """The keys of one family or another: rotary scaling, sliding window, soft caps."""
    rope = rope_of(config)
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if config.model_type in ("gemma2", "gemma3_text"):
        # Which blocks slide, the local rotary base (10000) and the scale of the scores stand in no key: readers know.
        assert config.query_pre_attn_scalar == config.head_dim, "GGUF has no key for this"
        writer.add_sliding_window(config.sliding_window)
    if config.model_type == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if config.model_type == "phi3":
        original = config.original_max_position_embeddings
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_sliding_window(config.sliding_window or 0)
        if rope["rope_type"] == "longrope":
            longer = config.max_position_embeddings / original
            writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(longer) / math.log(original)))
    if config.model_type == "falcon":
        writer.add_tensor_data_layout("jploski")


def add_tokenizer(writer: GGUFWriter, tokenizer: PreTrainedTokenizerFast) -> None:
    """The tiny tokenizer, whatever tokenizer the family really has."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([TokenType.CONTROL if token in SPECIAL else TokenType.NORMAL for token, _ in vocabulary])
    writer.add_token_merges(["t h", "th e", "Ġ the", "i n"])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def rope_tensors(config) -> dict[str, np.ndarray]:
    """Rotary factors that are tensors in GGUF, though settings elsewhere."""
    rope = rope_of(config)
    if rope.get("rope_type") == "llama3":
        return {"rope_freqs.weight": llama3_factors(config)}
    if rope.get("rope_type") == "longrope":
        return {f"rope_factors_{kind}.weight": np.array(rope[f"{kind}_factor"], np.float32) for kind in ("long", "short")}
    return {}


def converted(config, name: str, weight: np.ndarray) -> np.ndarray:
    """A weight as the converter stores it."""
    if config.model_type == "llama":
        if ".q_proj." in name:
            return permuted(weight, config.num_attention_heads)
        if ".k_proj." in name:
            return permuted(weight, config.num_key_value_heads)
    if config.model_type.startswith("gemma") and name.endswith("norm.weight"):
        return weight + 1
    if config.model_type == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return np.ascontiguousarray(weight.T)
    if config.model_type == "falcon" and "query_key_value" in name:
        # Each KV head's group is its queries, its key, its value; GGUF has all queries, all keys, all values.
        groups = weight.reshape(kv_heads(config), -1, config.head_dim, weight.shape[1])
        parts = (groups[:, :-2], groups[:, -2], groups[:, -1])
        return np.concatenate([part.reshape(-1, weight.shape[1]) for part in parts])
    return weight


def write_gguf(path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, quant: str) -> None:
    """`quant` is `F32`, `F16`, `Q8_0`, …: the type of every matrix."""
    config = model.config
    family = FAMILIES[config.model_type]
    writer = GGUFWriter(path, MODEL_ARCH_NAMES[family.arch])
    writer.add_type("model")
    writer.add_name(f"Tiny {family.title} {quant}")
    add_sizes(writer, config, quant)
    add_switches(writer, config)
    add_tokenizer(writer, tokenizer)
    for name, factors in rope_tensors(config).items():
        writer.add_tensor(name, factors)
    names = get_tensor_name_map(family.arch, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = converted(config, name, weight.float().numpy())
        kind = stored_type(name, weight, GGMLQuantizationType[quant])
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def golden_gguf(
    script: str, config, seed: int, *, readable: bool = True, matters: dict[str, dict] | None = None
) -> None:
    """Writes one case: `f32.gguf` and what the model computes over every sixteenth token. `matters` as in `golden`.

    `readable`: transformers must read the file's weights to the same numbers. It is told the configuration, because it
    ignores some of these families' keys.
    """
    out, ids = out_dir(script), torch.arange(5, VOCAB_SIZE, 16)[None]
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    random_weights(model, seed)
    write_gguf(out / "f32.gguf", model, tiny_tokenizer(), "F32")
    expected = run(deepcopy(model), ids)
    exact = run(deepcopy(model).double(), ids)
    check_close("the float32 logits against float64", expected["logits"], exact["logits"], share=0.5)
    for what, changes in (matters or {}).items():
        check_matters(model, what, changes, ids, expected["logits"])
    if readable:
        read = AutoModelForCausalLM.from_pretrained(
            out, gguf_file="f32.gguf", config=config, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        check_close("f32.gguf", run(read, ids)["logits"], expected["logits"])
    tensors = {"input_ids": ids} | {f"f32.{part}": value for part, value in expected.items()}
    write_expected(out / "expected.safetensors", tensors)
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"{out.name}: {size / 1000:.0f} kB")


def as_stored(model: PreTrainedModel, quant: str) -> PreTrainedModel:
    """The model with the weights that the file really holds."""
    copy = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32, attn_implementation="eager").eval()
    weights = {}
    for name, weight in model.state_dict().items():
        # Quantisation works on blocks within a row, so the order of the rows does not matter here.
        kind = stored_type(name, weight, GGMLQuantizationType[quant])
        weights[name] = torch.from_numpy(dequantize(quantize(weight.float().numpy(), kind), kind).reshape(weight.shape))
    copy.load_state_dict(weights)
    return copy
