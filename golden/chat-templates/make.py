"""What transformers' `apply_chat_template` renders, for templates in the styles that chat models use.

The templates in `templates/` are written for this test. One more is the demo model's own, read from its GGUF file.
"""

import argparse
import datetime
import json
import runpy
import sys
from importlib.metadata import version
from pathlib import Path

from gguf import GGUFReader

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common_chat import CONVERSATIONS, NOW, OPTIONS, render

HERE = Path(__file__).parent
DEMO = "demo model"


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
