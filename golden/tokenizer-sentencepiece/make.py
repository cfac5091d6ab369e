"""A small sentencepiece BPE vocabulary, trained here, and token ids by sentencepiece itself and by transformers.

The vocabulary is written as GGUF metadata would carry it: pieces, scores, types. Two variants, with and without the
prefix space of `add_dummy_prefix`.
"""

import argparse
import io
import json
from importlib.metadata import version
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as proto
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers.convert_slow_tokenizer import generate_merges

USER_DEFINED = ["<note>", "[x]"]
CONTROL = ["<turn>", "</turn>"]

TEXTS = [
    "a",
    "Hello, world!",
    "The baker counted red apples by the river.",
    "  two leading and  two inside",
    "trailing  ",
    "tab\tand\nline\n\nends\r\n",
    "In 1998, 12345 people",
    "Où est la bibliothèque ? Straße",
    "你好，世界！ Привет",
    "😀 I like 🍎",
    "cafe\u0301 café",
    "a<note>b [x] c",
    "<turn>Hello</turn> again",
    "<note>",
    " <note> after",
    "<0x41> is not a byte",
    "<unk> <s> </s>",
    "▁ written out",
    "snake_case(x[0]) += 'one';",
    "apples apples apples",
    "",
]


def corpus() -> list[str]:
    """Neutral sentences by a rule."""
    who = ["The baker", "A gardener", "Our neighbour", "The librarian", "A cyclist", "The painter", "My aunt"]
    did = ["counted", "moved", "cleaned", "described", "sorted", "carried", "painted"]
    what = ["red apples", "old maps", "wooden chairs", "blue cups", "short letters", "warm scarves"]
    where = ["by the river", "in the hall", "near the station", "behind the school", "under the bridge"]
    when = ["in the morning", "on Monday", "after lunch", "before it rained", "when nobody looked"]
    return [f"{a} {b} {c} {d} {e}." for a in who for b in did for c in what for d in where for e in when]


def train(add_dummy_prefix: bool) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=model,
        model_type="bpe",
        vocab_size=480,
        byte_fallback=True,
        add_dummy_prefix=add_dummy_prefix,
        # As Llama's and Gemma's: the text is taken as it is.
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=USER_DEFINED,
        control_symbols=CONTROL,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
    )
    return model.getvalue()


def converted(model: proto.ModelProto, add_space_prefix: bool) -> Tokenizer:
    """As transformers' `LlamaConverter` writes such a model, with the merges of its `generate_merges`."""
    kinds = proto.ModelProto.SentencePiece
    pieces = list(model.pieces)
    vocab = {piece.piece: i for i, piece in enumerate(pieces)}
    reachable = {piece.piece: piece.score for piece in pieces if piece.type == kinds.NORMAL}
    merges = generate_merges({p: vocab[p] for p in reachable}, reachable)
    pipeline = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    prepend = [normalizers.Prepend("▁")] if add_space_prefix else []
    pipeline.normalizer = normalizers.Sequence([*prepend, normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(" ", 1, 0)] if add_space_prefix else []
    pipeline.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    special = {kinds.UNKNOWN, kinds.CONTROL}
    pipeline.add_tokens(
        [
            AddedToken(piece.piece, normalized=False, special=piece.type in special)
            for piece in pieces
            if piece.type in special | {kinds.USER_DEFINED}
        ]
    )
    return pipeline


def variant(add_space_prefix: bool) -> dict:
    serialised = train(add_space_prefix)
    model = proto.ModelProto.FromString(serialised)
    original = sentencepiece.SentencePieceProcessor(model_proto=serialised)
    pipeline = converted(model, add_space_prefix)
    cases = []
    for text in TEXTS:
        ids = pipeline.encode(text, add_special_tokens=False).ids
        # Sentencepiece never reads control tokens in text and puts the prefix only before the first word, so it is
        # the reference for texts without added tokens.
        plain = not any(token in text for token in [*USER_DEFINED, *CONTROL, "<unk>", "<s>", "</s>"])
        if plain:
            assert original.encode(text) == ids, (text, original.encode(text), ids)
        cases.append(
            {
                "text": text,
                "ids": ids,
                "decoded": pipeline.decode(ids, skip_special_tokens=False),
                "equals_sentencepiece": plain,
            }
        )
    return {
        "add_space_prefix": add_space_prefix,
        "tokens": [piece.piece for piece in model.pieces],
        "scores": [piece.score for piece in model.pieces],
        "token_types": [piece.type for piece in model.pieces],
        "unk": model.trainer_spec.unk_id,
        "bos": model.trainer_spec.bos_id,
        "eos": model.trainer_spec.eos_id,
        "cases": cases,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    result = {
        "versions": {name: version(name) for name in ("sentencepiece", "transformers", "tokenizers")},
        "variants": [variant(True), variant(False)],
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "expected.json").write_text(json.dumps(result, ensure_ascii=False) + "\n", encoding="utf-8")
    print(sum(len(v["cases"]) for v in result["variants"]), "cases;", len(result["variants"][0]["tokens"]), "pieces")


if __name__ == "__main__":
    main()
