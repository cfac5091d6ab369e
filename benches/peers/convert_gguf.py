"""Writes a GGUF file again with every matrix in another type: what llama.cpp is to run at a given precision.

Metadata, tensor names and one-dimensional tensors (norms) stay as they are; the matrices are dequantised and stored in the
type asked for by the `gguf` package's own code.
"""

import argparse
import os
from pathlib import Path

from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, Keys, LlamaFileType
from gguf.quants import dequantize, quantize

FILE_TYPES = {
    "F32": LlamaFileType.ALL_F32,
    "F16": LlamaFileType.MOSTLY_F16,
    "BF16": LlamaFileType.MOSTLY_BF16,
    "Q8_0": LlamaFileType.MOSTLY_Q8_0,
}


def convert(source: Path, target: Path, to: str) -> None:
    reader = GGUFReader(source)
    writer = GGUFWriter(target, reader.get_field(Keys.General.ARCHITECTURE).contents())
    for name, field in reader.fields.items():
        # The writer makes the header's own fields and the architecture itself.
        if name.startswith("GGUF.") or name == Keys.General.ARCHITECTURE:
            continue
        value = FILE_TYPES[to] if name == Keys.General.FILE_TYPE else field.contents()
        element = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, field.types[0], sub_type=element)
    for tensor in reader.tensors:
        kind = GGMLQuantizationType[to if len(tensor.shape) > 1 else "F32"]
        values = dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--to", choices=FILE_TYPES, required=True)
    arguments = parser.parse_args()
    # A conversion that is interrupted must not leave a file that looks whole.
    partial = arguments.target.with_suffix(".partial")
    convert(arguments.source, partial, arguments.to)
    os.replace(partial, arguments.target)


if __name__ == "__main__":
    main()
