"""SmolLM2-135M-Instruct, read from the demo model's GGUF file by transformers and run in float32.

Beside the case's own files it leaves two things in the cache that are too big for git: every logit of every prompt, and
the model as a Hugging Face folder.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import torch
from gguf import GGUFReader
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import blocks, out_dir, write_expected

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
NEW_TOKENS = 64
TOP = 512
STRIDE = 24
# In GGUF's `tokenizer.ggml.token_type`.
CONTROL = 3


def cache_dir() -> Path:
    """Where set-up keeps what is too big for git; the same rule as everywhere in the workspace."""
    if folder := os.environ.get("LM_SAFETY_CACHE"):
        return Path(folder)
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache") / "lm-safety"


def true_tokenizer(gguf: GGUFReader) -> PreTrainedTokenizerFast:
    """The pipeline the model was trained with, from the file's vocabulary and merges.

    transformers' own reading of the file knows no `smollm` pre-tokenizer and leaves out the step that isolates digits.
    """
    field = {name: gguf.fields[f"tokenizer.{name}"].contents() for name in
             ("ggml.model", "ggml.pre", "ggml.tokens", "ggml.merges", "ggml.token_type", "chat_template")}
    assert (field["ggml.model"], field["ggml.pre"]) == ("gpt2", "smollm")
    tokens = field["ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in field["ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, field["ggml.token_type"]) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    bos, eos = (tokens[gguf.fields[f"tokenizer.ggml.{name}_token_id"].contents()] for name in ("bos", "eos"))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        chat_template=field["chat_template"],
        clean_up_tokenization_spaces=False,
    )


def filler(sentences: int) -> str:
    """Neutral text by a rule: no two sentences are equal, and nothing is random."""
    who = ["The baker", "A gardener", "Our neighbour", "The librarian", "A cyclist", "The painter", "My aunt"]
    did = ["counted", "moved", "cleaned", "described", "sorted"]
    what = ["red apples", "old maps", "wooden chairs", "blue cups", "short letters", "warm scarves"]
    where = ["by the river", "in the hall", "near the station", "behind the school"]
    return " ".join(
        f"{who[i % 7]} {did[i % 5]} {2 + i} {what[i % 6]} {where[i % 4]} on day {1 + i // 3}." for i in range(sentences)
    )


def chat(*turns: str, system: str | None = None) -> dict:
    """Messages that alternate between user and assistant."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages += [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
    return {"messages": messages}


def raw(text: str) -> dict:
    return {"prompt": text}


PROMPTS = [
    raw("Hello"),
    raw("The capital of France is"),
    raw("Once upon a time, in a small village by the sea, there lived a clockmaker who"),
    raw("def fibonacci(n: int) -> int:\n    if n < 2:\n        return n\n    return "),
    raw("fn main() {\n    let words = vec![\"one\", \"two\"];\n    for (i, word) in words.iter().enumerate() {\n"),
    raw("12 + 30 = 42\n7 + 8 = 15\n23 + 19 ="),
    raw("Year  Visitors\n2019  1204\n2020   377\n2021  "),
    raw("Le petit café près de la gare était fermé, alors nous avons"),
    raw("東京は日本の首都です。大阪は"),
    raw("Packing list 🎒: socks 🧦, map 🗺️, naïve optimism, Ångström ruler, 5 µm filter, "),
    raw(filler(16) + " The next morning"),
    raw(filler(99) + " The next morning"),
    chat("What is the capital of Italy?"),
    chat("Write a haiku about rain on a tin roof."),
    chat("How many minutes are in 3 hours and 25 minutes?", system="You answer with one short sentence."),
    chat("My name is Ada.", "Nice to meet you, Ada! How can I help you today?", "What is my name, and how do you spell it?"),
    chat("Why is the sky blue?", system="You are a patient teacher."),
    chat("Übersetze ins Englische: „Der Zug fährt um 17:45 Uhr ab.“"),
    chat("Write a Python function that reverses the words of a sentence."),
    chat("Summarise this diary in one sentence.\n\n" + filler(24)),
]


def main() -> None:
    out, cache = out_dir(__file__), cache_dir()
    path = Path(os.environ.get("LM_SAFETY_DEMO_MODEL") or cache / "models" / MODEL)
    tokenizer = true_tokenizer(GGUFReader(path))
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    assert len(blocks(model)) == 30 and model.config.tie_word_embeddings
    torch.set_num_threads(os.cpu_count() or 1)

    tensors, every_logit = {}, []
    for number, prompt in enumerate(PROMPTS):
        text = prompt.get("prompt") or tokenizer.apply_chat_template(
            prompt["messages"], add_generation_prompt=True, tokenize=False
        )
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
        run = model.generate(
            ids,
            # Said, not guessed: the padding id of this model is an ordinary part of a chat.
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
        greedy = run.sequences[0, ids.shape[1] :]
        logits = torch.stack(run.logits)[:, 0]  # [step, vocabulary]; the first step's are the prompt's last position
        first, top_two = logits[0], logits.topk(2).values
        values, top = first.topk(TOP)
        tensors |= {
            f"{number:02}.{name}": value
            for name, value in {
                "tokens": ids[0],
                "top_ids": top,
                "top_logits": values,
                "strided_logits": first[::STRIDE],
                "log_sum_exp": first.double().logsumexp(-1)[None],
                "mean_logit": first.double().mean()[None],
                "greedy": greedy,
                "greedy_top_two": top_two,
            }.items()
        }
        every_logit.append(first)
        margin = (top_two[:, 0] - top_two[:, 1]).min()
        print(f"{number:02} {ids.shape[1]:5} tokens, margin {margin:.1e}: {tokenizer.decode(greedy)[:70]!r}", flush=True)
    (out / "prompts.jsonl").write_text("".join(json.dumps(p, ensure_ascii=False) + "\n" for p in PROMPTS))
    write_expected(out / "expected.safetensors", tensors, model=MODEL)

    reference = cache / "reference"
    reference.mkdir(parents=True, exist_ok=True)
    partial = reference / f".partial-{os.getpid()}"
    save_file({"logits": torch.stack(every_logit)}, partial)
    partial.rename(reference / "smollm2-logits.safetensors")
    save_copy(model, tokenizer, partial)
    shutil.rmtree(reference / "smollm2-hf", ignore_errors=True)
    partial.rename(reference / "smollm2-hf")
    check_copy(reference / "smollm2-hf", tensors, every_logit)


def save_copy(model, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """The same model as a Hugging Face folder, with the tokenizer's true pipeline."""
    config = model.config.to_dict()
    # transformers will not save what it once read from GGUF, so the weights move to a model that never was quantised.
    config.pop("quantization_config")
    copy = AutoModelForCausalLM.from_config(type(model.config).from_dict(config), dtype=torch.float32)
    copy.load_state_dict(model.state_dict())
    copy.generation_config = model.generation_config
    copy.save_pretrained(folder)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        # The class that keeps `tokenizer.json` as it is; GPT2Tokenizer would put its own pre-tokenizer in.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokenizer.bos_token,
        "eos_token": tokenizer.eos_token,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": model.config.max_position_embeddings,
        "chat_template": tokenizer.chat_template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, ensure_ascii=False, indent=2) + "\n")


def check_copy(folder: Path, tensors: dict[str, torch.Tensor], every_logit: list[torch.Tensor]) -> None:
    """Read as any folder is, the copy must be the same model and the same tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    for number, prompt in enumerate(PROMPTS):
        ids = tensors[f"{number:02}.tokens"]
        if "messages" in prompt:
            found = tokenizer.apply_chat_template(prompt["messages"], add_generation_prompt=True, return_dict=False)
        else:
            found = tokenizer.encode(prompt["prompt"])
        assert found == ids.tolist(), f"the copy's tokenizer differs on prompt {number}"
        if len(ids) < 100:
            logits = model(ids[None]).logits[0, -1]
            assert (logits - every_logit[number]).abs().max() < 1e-4, f"the copy differs on prompt {number}"


if __name__ == "__main__":
    main()
