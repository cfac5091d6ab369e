"""One workload on Hugging Face transformers, in a process of its own: the Python side of `cargo xtask bench --vs python`.

Reads a job as JSON from standard input and prints its outcome as one line of JSON; both are described in
`benches/src/bin/versus/job.rs`. The works are in `works/`, one a file, under the names they have in
`benches/src/bin/versus/works`. The engine's own settings are left as a user finds them.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path

# Before transformers is imported: nothing is fetched, and no progress bars on the terminal of the table.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
# Nothing is left in the folder of the works.
sys.dont_write_bytecode = True

import torch  # noqa: E402
import transformers  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

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


def main() -> None:
    job = json.load(sys.stdin)
    task = job["task"]
    anonymous_before = status("RssAnon")
    begin = time.perf_counter()
    model = load(Path(job["weights"]), DTYPES[job["dtype"]])
    outcome = {
        "load_s": time.perf_counter() - begin,
        "ready_s": time.time() - job["started"],
        "anonymous_before": anonymous_before,
        "anonymous_ready": status("RssAnon"),
        "seconds": [],
        "threads": torch.get_num_threads(),
        "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
    }
    if task["kind"] != "load":
        torch.manual_seed(0)
        module = importlib.import_module(f"works.{task['kind']}")
        with torch.set_grad_enabled(module.GRADIENTS):
            work = module.Work(model, task)
            work.call(warm_up=True)
            for _ in range(job["repeats"]):
                begin = time.perf_counter()
                work.call(warm_up=False)
                outcome["seconds"].append(time.perf_counter() - begin)
        # What is shown for the comparison is no part of the work.
        outcome["peak"] = status("VmHWM")
        outcome["found"] = work.found()
        outcome["versions"] |= work.versions()
    outcome.setdefault("peak", status("VmHWM"))
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
