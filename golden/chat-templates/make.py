"""What transformers' `apply_chat_template` renders, for templates in the styles that chat models use.

The templates in `templates/` are written for this test. One more is the demo model's own, read from its GGUF file.
"""

import argparse
import datetime
import json
import runpy
from importlib.metadata import version
from pathlib import Path
from unittest import mock

from gguf import GGUFReader
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

HERE = Path(__file__).parent
NOW = datetime.datetime(2026, 3, 5, 9, 7, 1)
DEMO = "demo model"


def turn(role: str, content: str, **extra) -> dict:
    return {"role": role, "content": content, **extra}


CONVERSATIONS = {
    "one question": [turn("user", "What can I cook with rice?")],
    "system and question": [turn("system", "You answer in one sentence."), turn("user", "Why is the sky blue?")],
    "empty system": [turn("system", ""), turn("user", "Hello!")],
    "several turns": [
        turn("user", "Name a fruit."),
        turn("assistant", "Apple."),
        turn("user", "And another?"),
        turn("assistant", "Pear."),
        turn("user", "Which is rounder?"),
    ],
    "not ASCII": [
        turn("system", "Antworte auf Deutsch."),
        turn("user", "Où est-ce qu'on mange bien à Zürich? 你好 😀"),
        turn("assistant", "In der Altstadt – „gut & günstig“."),
        turn("user", "Merci\u00a0!"),
    ],
    "quotes and markup": [turn("user", "Is <b>\"5 < 6\"</b> & 'a' == `a` \\ {{ x }} {% y %} true?\n\n\tYes/no")],
    "spaces around": [turn("user", "  padded question \n"), turn("assistant", "\n padded answer  \n"), turn("user", " ?\n")],
    "thought before": [
        turn("user", "Is 7 prime?"),
        turn("assistant", "<think>\nOnly 1 and 7 divide it.\n</think>\n\nYes."),
        turn("user", "And 8?"),
    ],
    "reasoning apart": [
        turn("user", "Two plus two?"),
        turn("assistant", "Four.", reasoning_content="A small sum."),
        turn("user", "Plus one?"),
    ],
    "ends in an answer": [turn("user", "Recommend a book."), turn("assistant", "Sure! I would")],
    "answer ends in spaces": [turn("user", "Count to three."), turn("assistant", "One, two,  ")],
    "answer repeats the question": [turn("user", "Say: yes"), turn("assistant", "yes")],
    "answer not ASCII": [turn("system", "Be brief."), turn("user", "Un mot ?"), turn("assistant", "Déjà – 😀")],
    "wrong order": [turn("assistant", "Hi, how can I help?"), turn("user", "Just looking.")],
}

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Today's weather in a town; \"°C\" & <wind>",
            "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
        },
    }
]

OPTIONS = [
    {"add_generation_prompt": False},
    {"add_generation_prompt": True},
    {"add_generation_prompt": True, "tools": TOOLS},
    {"add_generation_prompt": True, "extra": {"enable_thinking": False, "date_string": "1 Jan 2000"}},
    {"continue_final_message": True},
]


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def render(template: str, messages: list[dict], options: dict) -> dict:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE({"<s>": 0, "</s>": 1}, [])), bos_token="<s>", eos_token="</s>"
    )
    arguments = {**options, **options.get("extra", {})}
    arguments.pop("extra", None)
    with mock.patch.object(chat_template_utils, "datetime", Clock):
        try:
            text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **arguments)
        except Exception as error:  # the template's own refusal
            return {"error": str(error)}
    return {"text": text}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    out = parser.parse_args().out
    demo_model = runpy.run_path(str(HERE.parent / "tokenizer-smollm2" / "make.py"))["demo_model"]

    templates = {path.name: path.read_text(encoding="utf-8") for path in sorted((HERE / "templates").glob("*.jinja"))}
    templates[DEMO] = GGUFReader(demo_model()).fields["tokenizer.chat_template"].contents()
    cases = []
    for template, source in templates.items():
        for conversation, messages in CONVERSATIONS.items():
            for options in OPTIONS:
                # transformers leaves its mark of the place in text that a template prints twice, as `features` does.
                continues = options.get("continue_final_message")
                if continues and (messages[-1]["role"] != "assistant" or template == "features.jinja"):
                    continue
                result = render(source, messages, options)
                cases.append({"template": template, "conversation": conversation, "options": options, **result})
    result = {
        "versions": {name: version(name) for name in ("transformers", "jinja2")},
        "now": NOW.replace(tzinfo=datetime.timezone.utc).timestamp(),
        "conversations": CONVERSATIONS,
        "cases": cases,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "expected.json").write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    errors = {(case["template"], case["error"]) for case in cases if "error" in case}
    print(len(cases), "cases;", *errors, sep="\n")


if __name__ == "__main__":
    main()
