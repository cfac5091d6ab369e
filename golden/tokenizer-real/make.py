"""Ids of varied texts by the tokenizers of real models, which set-up puts in the cache.

`ids` and `decoded` are by Python's `tokenizers` from `tokenizer.json`; `framed`, the special ids and the roles are by
transformers' loader, with the adding of BOS and EOS that `tokenizer_config.json` asks for.
"""

import argparse
import hashlib
import json
import sys
from importlib.metadata import version
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common_chat import cache_folder

TEXTS = [
    "",
    " ",
    "Hello, world!",
    "  two leading and two trailing  ",
    "It's what we'd said they'll do: I'M SURE, don't!",
    "In 1998, 12345 people paid 3.14159 euros; 1,234,567.89 – ½",
    "a  b   c    d\ttab\t\tTab",
    "line\nline\n\nline\r\n\n \n  end",
    "Où est la bibliothèque ? Straße, jalapeño, Zoë.",
    "cafe\u0301 and café, İstanbul ılık",
    "Привет, как дела? Γειά σου",
    "你好，世界！今天天气怎么样？ こんにちは カタカナ 안녕하세요",
    "नमस्ते दुनिया สวัสดี مرحبا שלום",
    "👩‍👩‍👧‍👦 👍🏽 🇫🇷 ☕️",
    "def add(a, b):\n    return a + b  # half\n",
    '{"name": "Ada", "tags": ["a", "b"], "n": null}',
    "no-break\u00a0space \u200b \ufeff \u3000wide",
    "<s>one</s> <|im_start|>user\nHi<|im_end|>\n",
    "<bos><start_of_turn>user\nHi<end_of_turn> <|eot_id|>[INST] x [/INST]",
    "▁ low line ▁▁ and <0x0A> <unk>",
    "\u0001\u007f control",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa Antidisestablishmentarianism",
]


def text_of(token: str | dict | None) -> str | None:
    return token["content"] if isinstance(token, dict) else token


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    folder = cache_folder() / "tokenizers"
    found = {}
    for path in sorted(folder.glob("*/tokenizer.json")):
        config = json.loads((path.parent / "tokenizer_config.json").read_text(encoding="utf-8"))
        pipeline = Tokenizer.from_file(str(path))
        names = ("bos_token", "eos_token", "unk_token", "pad_token")
        roles = {name: text_of(config.get(name)) for name in names if config.get(name)}
        adds = {name: config[name] for name in ("add_bos_token", "add_eos_token") if name in config}
        loader = PreTrainedTokenizerFast(tokenizer_file=str(path), **roles, **adds)
        cases = []
        for text in TEXTS:
            ids = pipeline.encode(text, add_special_tokens=False).ids
            if loader(text, add_special_tokens=False)["input_ids"] != ids:
                sys.exit(f"{path.parent.name}: transformers and tokenizers differ on {text!r}")
            cases.append({"ids": ids, "decoded": pipeline.decode(ids, skip_special_tokens=False)})
        found[path.parent.name] = {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "vocab_size": pipeline.get_vocab_size(),
            "roles": {name: pipeline.token_to_id(token) for name, token in roles.items()},
            "framed": loader("Hello, world!")["input_ids"],
            "special": sorted(id for id, token in pipeline.get_added_tokens_decoder().items() if token.special),
            "cases": cases,
        }
        print(path.parent.name, found[path.parent.name]["roles"], adds, found[path.parent.name]["framed"])
    if not found:
        sys.exit(f"no real tokenizers in {folder}: run `cargo xtask setup` where npm is")
    result = {
        "versions": {name: version(name) for name in ("transformers", "tokenizers")},
        "texts": TEXTS,
        "tokenizers": found,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "expected.json").write_text(json.dumps(result, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
