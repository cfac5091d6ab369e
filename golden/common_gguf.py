"""Writes a tiny model as the GGUF file that llama.cpp's converter would make of its Hugging Face folder."""

import math
from pathlib import Path

import numpy as np
import torch
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


def write_llama(path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, quant: str) -> None:
    """`quant` is `F32`, `F16`, `Q8_0`, …: the type of every matrix."""
    config, rope = model.config, model.config.rope_parameters
    writer = GGUFWriter(path, MODEL_ARCH_NAMES[MODEL_ARCH.LLAMA])
    writer.add_type("model")
    writer.add_name(f"Tiny Llama {quant}")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(LlamaFileType["ALL_F32" if quant == "F32" else f"MOSTLY_{quant}"])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])

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

    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config))
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {".q_proj.": config.num_attention_heads, ".k_proj.": config.num_key_value_heads}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = weight.float().numpy()
        for part, count in heads.items():
            if part in name:
                array = permuted(array, count)
        kind = stored_type(name, weight, GGMLQuantizationType[quant])
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


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
