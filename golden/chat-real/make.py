"""What transformers' `apply_chat_template` renders with the templates of real models, which set-up puts in the cache.

The templates are not stored here: a case names its template by file and SHA-256.
"""

import argparse
import datetime
import hashlib
import json
import sys
from importlib.metadata import version
from pathlib import Path

from jinja2.exceptions import TemplateError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common_chat import CONVERSATIONS, NOW, TOOLS, cache_folder, call

HERE = Path(__file__).parent

OPTIONS = [
    {"add_generation_prompt": False},
    {"add_generation_prompt": True},
    {"add_generation_prompt": True, "tools": TOOLS},
    {"add_generation_prompt": True, "extra": {"enable_thinking": False, "date_string": "1 Jan 2000"}},
    {"continue_final_message": True},
]


def real_templates(cache: Path) -> dict[str, str]:
    """Name to text: of `templates/`, and of the configurations in `tokenizers/` that hold one."""
    found = {}
    for path in sorted((cache / "templates").glob("*.jinja")):
        found[f"templates/{path.name}"] = path.read_text(encoding="utf-8")
    for path in sorted((cache / "tokenizers").glob("*/tokenizer_config.json")):
        template = json.loads(path.read_text(encoding="utf-8")).get("chat_template")
        if isinstance(template, str):
            found[f"tokenizers/{path.parent.name}"] = template
    return found


def wanted(template: str, messages: list[dict], options: dict) -> bool:
    """Leaves out what cannot differ: options that the template does not read, an answer where there is none."""
    if options.get("continue_final_message"):
        return messages[-1]["role"] == "assistant"
    if "tools" in options:
        return "tools" in template
    if "extra" in options:
        return any(name in template for name in options["extra"])
    return True


def render(template: str, messages: list[dict], options: dict) -> dict:
    try:
        return {"text": call(template, messages, options)}
    except TemplateError as error:  # `raise_exception`, in the template's own words
        return {"raised": error.message}
    except Exception as error:  # transformers' refusal
        return {"refused": type(error).__name__}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    out = parser.parse_args().out
    cache = cache_folder()
    templates = real_templates(cache)
    if not templates:
        sys.exit(f"no real templates in {cache}: run `cargo xtask setup` where npm is")
    cases = []
    for name, source in templates.items():
        for conversation, messages in CONVERSATIONS.items():
            for number, options in enumerate(OPTIONS):
                if wanted(source, messages, options):
                    result = render(source, messages, options)
                    cases.append({"template": name, "conversation": conversation, "options": number, **result})
    result = {
        "versions": {name: version(name) for name in ("transformers", "jinja2")},
        "now": NOW.replace(tzinfo=datetime.timezone.utc).timestamp(),
        "templates": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in templates.items()},
        "conversations": CONVERSATIONS,
        "options": OPTIONS,
        "cases": cases,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "expected.json").write_text(json.dumps(result, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    for kind in ("raised", "refused"):
        print(kind, *sorted({(case["template"], case[kind]) for case in cases if kind in case}), sep="\n  ")
    print(len(cases), "cases of", len(templates), "templates")


if __name__ == "__main__":
    main()
