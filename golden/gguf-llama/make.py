"""Llama as GGUF in F32, F16 and Q8_0, beside the Hugging Face folder it was made of."""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LLAMA, check_close, expectations, load, out_dir, run, save_model, write_expected
from common_gguf import TEXTS, VOCAB_SIZE, as_stored, tiny_tokenizer, write_gguf
from transformers import AutoModelForCausalLM, LlamaConfig

SEED = 1

out, tokenizer = out_dir(__file__), tiny_tokenizer()
config = LlamaConfig(
    **LLAMA
    | {
        "vocab_size": VOCAB_SIZE,
        "intermediate_size": 64,  # whole blocks of 32
        "num_hidden_layers": 2,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "tie_word_embeddings": True,
    }
)
save_model(config, SEED, out / "model")
tokenizer.backend_tokenizer.save(str(out / "model/tokenizer.json"))
model = load(out / "model")
tensors = expectations(model, SEED)
for quant in ("F32", "F16", "Q8_0"):
    file = out / f"{quant.lower()}.gguf"
    write_gguf(file, model, tokenizer, quant)
    expected = run(as_stored(model, quant), tensors["whole.input_ids"])
    # transformers' own reader of GGUF must come to the same.
    read = AutoModelForCausalLM.from_pretrained(
        out, gguf_file=file.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    check_close(file.name, run(read, tensors["whole.input_ids"])["logits"], expected["logits"])
    tensors |= {f"{quant.lower()}.{part}": value for part, value in expected.items()}
write_expected(out / "expected.safetensors", tensors)
texts = [{"text": text, "ids": tokenizer.encode(text)} for text in TEXTS]
(out / "texts.json").write_text(json.dumps(texts, ensure_ascii=False, indent=1) + "\n")
