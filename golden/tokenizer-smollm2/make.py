"""Token ids of varied texts by SmolLM2's own pipeline, built from the demo model's GGUF metadata with `tokenizers`."""

import argparse
import json
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTROL = 3  # `tokenizer.ggml.token_type`

TEXTS = [
    "",
    " ",
    "a",
    "Hello, world!",
    "The quick brown fox jumps over the lazy dog.",
    "What is the capital of France?",
    "It's what we'd said they'll do: I'm sure you've seen it, he's not, don't!",
    "IT'S NOT WHAT WE'D SAID",
    "the cat’s whiskers – “quoted” … done",
    # Digits: each alone, with and without a space, in words, in other scripts.
    "0",
    "2026",
    " 2026",
    "In 1998, 12345 people paid 3.14159 euros.",
    "abc123def456",
    "1,234,567.89",
    "v2.10.3-rc1",
    "x² + y³ = ½",
    "١٢٣ ४५६ ７８９",
    "Ⅻ ① 二〇二六",
    # Spaces and line ends.
    "  two leading",
    "two trailing  ",
    "a  b   c    d",
    "tab\tand\ttab",
    "line\nline\n\nline\n\n\nline",
    "windows\r\nline\r\n",
    "   \n   \n",
    " \t \n \t ",
    "no-break\u00a0space and thin\u2009space",
    "zero\u200bwidth \ufeff mark",
    "\u3000ideographic\u3000space",
    # Languages.
    "Où est la bibliothèque ? Ça va très bien, naïve Zoë.",
    "Straße, Größe, Übermut",
    "El niño comió piña y jalapeño.",
    "Привет, как дела?",
    "Γειά σου Κόσμε",
    "שלום עולם",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "你好，世界！今天天气怎么样？",
    "こんにちは世界。カタカナとひらがな",
    "안녕하세요 세계",
    "Xin chào thế giới",
    "cafe\u0301 and café",
    "Türkçe: İstanbul ılık ığdır",
    # Emoji.
    "😀",
    "I like 🍎 and 🍌!",
    "👩‍👩‍👧‍👦 👍🏽 🇫🇷",
    "☕️❤️✨",
    # Code.
    "def add(a, b):\n    return a + b\n",
    'fn main() {\n\tprintln!("{}", 1 << 4);\n}',
    "if (x >= 10 && y != 0) { z /= 2; } // half",
    '{"name": "Ada", "tags": ["a", "b"], "n": null}',
    "<div class=\"note\">&lt;b&gt;</div>",
    "https://example.org/a/b?c=d&e=f#g",
    "C:\\Users\\name\\file.txt",
    "snake_case camelCase PascalCase kebab-case SCREAMING_CASE",
    "!!!??? ... --- *** ### @@@ $$$ %%% ^^^",
    # Special tokens in the text, whole and broken.
    "<|im_start|>user\nHello<|im_end|>\n",
    "<|im_start|><|im_start|>",
    "before<|endoftext|>after",
    " <|im_end|> with spaces ",
    "<|im_start",
    "<|im_end |>",
    "<|not_a_token|>",
    "\u0000\u0001\u007f control",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "Antidisestablishmentarianism is a long word; Donaudampfschifffahrtsgesellschaft is longer.",
]


def demo_model() -> Path:
    """The demo model's file, where set-up puts it."""
    if path := os.environ.get("LM_SAFETY_DEMO_MODEL"):
        return Path(path)
    if cache := os.environ.get("LM_SAFETY_CACHE"):
        return Path(cache) / "models" / MODEL
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache") / "lm-safety" / "models" / MODEL


def true_pipeline(gguf: GGUFReader) -> Tokenizer:
    """Byte-level BPE with each digit isolated first."""
    tokens, merges, kinds = (
        gguf.fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges", "token_type")
    )
    pipeline = Tokenizer(
        models.BPE({token: i for i, token in enumerate(tokens)}, [tuple(merge.split(" ")) for merge in merges])
    )
    pipeline.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    pipeline.decoder = decoders.ByteLevel()
    pipeline.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t, kind in zip(tokens, kinds) if kind == CONTROL]
    )
    return pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out

    path = demo_model()
    pipeline = true_pipeline(GGUFReader(path))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MODEL).symlink_to(path.resolve())
        theirs = AutoTokenizer.from_pretrained(folder, gguf_file=MODEL)

    cases = []
    for text in TEXTS:
        ids = pipeline.encode(text, add_special_tokens=False).ids
        cases.append(
            {
                "text": text,
                "ids": ids,
                "decoded": pipeline.decode(ids, skip_special_tokens=False),
                "decoded_without_special": pipeline.decode(ids, skip_special_tokens=True),
                # What transformers makes of the GGUF file itself; without the digits step it can differ.
                "transformers_gguf_agrees": theirs(text, add_special_tokens=False)["input_ids"] == ids,
            }
        )
    differing = [case["text"] for case in cases if not case["transformers_gguf_agrees"]]
    print(f"{len(cases)} texts; transformers reads the GGUF file differently on {len(differing)}: {differing}")
    result = {
        "versions": {name: version(name) for name in ("transformers", "tokenizers", "gguf")},
        "vocab_size": pipeline.get_vocab_size(),
        "cases": cases,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "expected.json").write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
