"""How the byte-level pre-tokenizers that GGUF names cut text, by Python's `tokenizers` (whose regex engine is Oniguruma).

The expressions come from transformers' own table of GGUF pre-tokenizers where it has the name. It has no entry for the
names below; their steps are those of the `tokenizer.json` of the models they are named after.
"""

import argparse
import json
import runpy
from importlib.metadata import version
from pathlib import Path

from tokenizers import Regex, normalizers, pre_tokenizers
from tokenizers.pre_tokenizers import ByteLevel, Digits, Punctuation, Sequence, Split
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

FROM_TRANSFORMERS = [
    "llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "dbrx", "smaug-bpe", "qwen2", "deepseek-r1-qwen", "tekken"
]
GPT2 = Sequence([ByteLevel(add_prefix_space=False, use_regex=True)])
DIGITS = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)])
FALCON = Sequence(
    [
        Punctuation(behavior="contiguous"),
        ByteLevel(add_prefix_space=False, use_regex=True),
        Digits(individual_digits=False),
        Split(Regex("[0-9][0-9][0-9]"), behavior="isolated"),
    ]
)


def split(expression: str) -> Sequence:
    return Sequence(
        [Split(Regex(expression), behavior="isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )


STEPS: dict[str, pre_tokenizers.PreTokenizer] = {
    **{name: GPT2 for name in ("gpt-2", "phi-2", "mpt", "olmo")},
    **{name: DIGITS for name in ("smollm", "starcoder", "refact", "codeshell")},
    "falcon": FALCON,
    **{name: split(GGUF_PRE_TOKENIZER_SPLITS["llama-bpe"]) for name in ("glm4", "chatglm-bpe")},
    "stablelm2": split(GGUF_PRE_TOKENIZER_SPLITS["qwen2"]),
    **{name: split(GGUF_PRE_TOKENIZER_SPLITS[name]) for name in FROM_TRANSFORMERS},
}
NFC = {"qwen2", "olmo"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    texts = runpy.run_path(str(Path(__file__).parents[1] / "tokenizer-smollm2" / "make.py"))["TEXTS"]
    words = {}
    for name, step in STEPS.items():
        normalise = normalizers.NFC().normalize_str if name in NFC else str
        words[name] = [[word for word, _ in step.pre_tokenize_str(normalise(text))] for text in texts]
    # Names that cut alike share one entry.
    groups: list[dict] = []
    for name, found in words.items():
        for group in groups:
            if group["words"] == found:
                group["names"].append(name)
                break
        else:
            groups.append({"names": [name], "words": found})
    result = {
        "versions": {name: version(name) for name in ("transformers", "tokenizers")},
        "texts": texts,
        "groups": groups,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "expected.json").write_text(json.dumps(result, ensure_ascii=False) + "\n", encoding="utf-8")
    print([group["names"] for group in groups])


if __name__ == "__main__":
    main()
