"""Conversations, options and the call of transformers' `apply_chat_template` that the chat cases share."""

import datetime
import os
from pathlib import Path
from unittest import mock

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

NOW = datetime.datetime(2026, 3, 5, 9, 7, 1)


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


def cache_folder() -> Path:
    """Where set-up keeps what is fetched, by the same rule as the tests."""
    if cache := os.environ.get("LM_SAFETY_CACHE"):
        return Path(cache)
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache") / "lm-safety"


def call(template: str, messages: list[dict], options: dict) -> str:
    """The rendered text, or the exception of whoever refuses."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE({"<s>": 0, "</s>": 1}, [])), bos_token="<s>", eos_token="</s>"
    )
    arguments = {**options, **options.get("extra", {})}
    arguments.pop("extra", None)
    with mock.patch.object(chat_template_utils, "datetime", Clock):
        return tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **arguments)


def render(template: str, messages: list[dict], options: dict) -> dict:
    try:
        return {"text": call(template, messages, options)}
    except Exception as error:  # the template's own refusal
        return {"error": str(error)}
