"""Reference for the GGUF reader: dequantised by the `gguf` Python package.

Writes beside itself, or to `--out DIR`:

- `cases.gguf`, `expected.safetensors`: small tensors of every type the reader turns into f32, and their weights.
- `types.json`: number, block size and block bytes of every ggml type.
- `smollm2.json`: for each tensor of the demo model its shape, type and the SHA-256 of its f32 weights (first 16 digits).
"""

import argparse
import hashlib
import json
import os
from pathlib import Path

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from safetensors.numpy import save_file

SEED = 20261123
PLAIN = [Type.F32, Type.F16, Type.BF16]
QUANTIZED = [Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0]  # Python can quantise these
BYTES_ONLY = [Type.Q4_K, Type.Q5_K, Type.Q6_K]  # these it can only dequantise

# Where the half-precision scales stand in a block; everything else in a block may be any byte.
SCALES = {
    Type.Q4_0: [0],
    Type.Q4_1: [0, 2],
    Type.Q5_0: [0],
    Type.Q5_1: [0, 2],
    Type.Q8_0: [0],
    Type.Q4_K: [0, 2],
    Type.Q5_K: [0, 2],
    Type.Q6_K: [208],
}


def normal_weights(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal weights whose blocks differ in size, with a block of zeros and some outliers."""
    weights = rng.standard_normal(shape) * np.exp(rng.normal(-3, 1, (*shape[:-1], 1)))
    weights.reshape(-1)[:32] = 0
    weights.reshape(-1)[40::97] *= 20
    return weights.astype(np.float32)


def random_blocks(rng: np.random.Generator, rows: int, blocks: int, ty: Type) -> np.ndarray:
    """Random bytes, so that every bit of every field occurs, with finite scales of either sign."""
    _, size = GGML_QUANT_SIZES[ty]
    data = rng.integers(0, 256, (rows, blocks, size), dtype=np.uint8)
    for offset in SCALES[ty]:
        scales = (rng.standard_normal((rows, blocks)) * 0.02).astype(np.float16)
        data[:, :, offset : offset + 2] = scales[..., None].view(np.uint8)
    # A subnormal, the largest and the smallest scale, and both zeros.
    first = SCALES[ty][0]
    for block, bits in enumerate([0x0001, 0x7BFF, 0x8400, 0x0000, 0x8000]):
        data.reshape(-1, size)[block, first : first + 2] = np.array([bits], np.uint16).view(np.uint8)
    return data.reshape(rows, blocks * size)


def special_halves(ty: Type) -> np.ndarray:
    """Halves at the edges of their format: zeros, subnormals, the extremes, infinities, a quiet NaN."""
    top = 0x7C00 if ty == Type.F16 else 0x7F80
    quiet = top | (0x0200 if ty == Type.F16 else 0x0040)
    bits = [0x0000, 0x0001, 0x0002, 0x007F, 0x0080, 0x03FF, 0x0400, 0x3C00, 0x3F80, top - 1, top, quiet]
    bits = np.array(bits + [b | 0x8000 for b in bits], np.uint16).reshape(2, -1)
    return bits.view(np.float16) if ty == Type.F16 else bits.view(np.uint8)


def write_cases(out: Path) -> None:
    rng = np.random.default_rng(SEED)
    cases: list[tuple[str, np.ndarray, Type]] = []
    for ty in PLAIN + QUANTIZED:
        data = gguf.quants.quantize(normal_weights(rng, (2, 3, 64)), ty)
        cases.append((f"{ty.name}.quantized", data, ty))
    for ty in QUANTIZED:
        cases.append((f"{ty.name}.random", random_blocks(rng, 4, 3, ty), ty))
    for ty in BYTES_ONLY:
        cases.append((f"{ty.name}.random", random_blocks(rng, 3, 2, ty), ty))
    for ty in [Type.F16, Type.BF16]:
        cases.append((f"{ty.name}.special", special_halves(ty), ty))

    writer = gguf.GGUFWriter(out / "cases.gguf", "none")
    expected = {}
    for name, data, ty in cases:
        writer.add_tensor(name, data, raw_dtype=ty)
        expected[name] = np.ascontiguousarray(gguf.quants.dequantize(data, ty))
        assert expected[name].dtype == np.float32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(expected, out / "expected.safetensors")


def write_types(out: Path) -> None:
    table = {ty.name: [int(ty), *GGML_QUANT_SIZES[ty]] for ty in Type}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in table.items())
    (out / "types.json").write_text(f"{{\n{lines}\n}}\n")


def demo_model() -> Path:
    if path := os.environ.get("LM_SAFETY_DEMO_MODEL"):
        return Path(path)
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lm-safety"
    cache = Path(os.environ.get("LM_SAFETY_CACHE") or user)
    return cache / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def write_smollm2(out: Path) -> None:
    path = demo_model()
    if not path.is_file():
        raise SystemExit(f"{path} is missing: run `cargo xtask setup`, or name the file in LM_SAFETY_DEMO_MODEL")
    lines = []
    for tensor in gguf.GGUFReader(path).tensors:
        weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        digest = hashlib.sha256(np.ascontiguousarray(weights).tobytes()).hexdigest()[:16]
        row = [tensor.tensor_type.name, list(weights.shape), digest]
        lines.append(f"  {json.dumps(tensor.name)}: {json.dumps(row)}")
    (out / "smollm2.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    write_cases(out)
    write_types(out)
    write_smollm2(out)


if __name__ == "__main__":
    main()
