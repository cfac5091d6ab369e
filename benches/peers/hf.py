"""One workload on Hugging Face transformers, in a process of its own: the Python side of `cargo xtask bench --vs python`.

Reads a job as JSON from standard input and prints its outcome as one line of JSON; both are described in
`benches/src/bin/versus/job.rs`. The engine's own settings are left as a user finds them, except that no end-of-text token
ends a generation early: the other side, too, writes exactly the tokens asked for.
"""

import json
import os
import sys
import time
from pathlib import Path

# Before transformers is imported: nothing is fetched, and no progress bars on the terminal of the table.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch  # noqa: E402
import transformers  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

WARM_UP_TOKENS = 4
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def status(field: str) -> int:
    """A size of this process in bytes, from the kernel."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise SystemExit(f"/proc/self/status has no {field}")


def load(weights: Path, dtype: torch.dtype):
    if weights.is_dir():
        return AutoModelForCausalLM.from_pretrained(weights, dtype=dtype).eval()
    return AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name, dtype=dtype).eval()


def work(model, job: dict):
    """The job as a function of the number of tokens to write; returns the written ids, row by row."""
    ids = torch.tensor([job["prompt"]])
    mask = torch.ones_like(ids)
    model.generation_config.eos_token_id = None
    if job["new_tokens"] == 0:

        def prefill(_: int) -> list:
            model(ids, attention_mask=mask, use_cache=True, logits_to_keep=1)
            return []

        return prefill
    choosing = {"do_sample": False}
    if job["sampled"]:
        choosing = {"do_sample": True, "temperature": 1.0, "top_p": job["top_p"], "top_k": 0, "num_return_sequences": job["rows"]}

    def generate(count: int) -> list:
        out = model.generate(ids, attention_mask=mask, max_new_tokens=count, pad_token_id=0, **choosing)
        return out[:, ids.shape[1] :].tolist()

    return generate


def main() -> None:
    job = json.load(sys.stdin)
    anonymous_before = status("RssAnon")
    begin = time.perf_counter()
    model = load(Path(job["weights"]), DTYPES[job["dtype"]])
    outcome = {
        "load_s": time.perf_counter() - begin,
        "ready_s": time.time() - job["started"],
        "anonymous_before": anonymous_before,
        "anonymous_ready": status("RssAnon"),
        "seconds": [],
        "tokens": [],
        "threads": torch.get_num_threads(),
        "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
    }
    if job["prompt"]:
        torch.manual_seed(0)
        run = work(model, job)
        with torch.no_grad():
            run(min(WARM_UP_TOKENS, job["new_tokens"]))
            for _ in range(job["repeats"]):
                begin = time.perf_counter()
                outcome["tokens"] = run(job["new_tokens"])
                outcome["seconds"].append(time.perf_counter() - begin)
    outcome["peak"] = status("VmHWM")
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
