"""One workload on llama.cpp, in a process of its own: the other side of `cargo xtask bench --vs llamacpp`.

Reads a job as JSON from standard input and prints its outcome as one line of JSON; both are described in
`benches/src/bin/versus/job.rs`. The weights' own type decides the arithmetic. Samples of one prompt run as parallel slots
that share its prefill.
"""

import json
import os
import sys
import time
from pathlib import Path

import xllamacpp

WARM_UP_TOKENS = 4


def status(field: str) -> int:
    """A size of this process in bytes, from the kernel."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise SystemExit(f"/proc/self/status has no {field}")


def load(weights: str, task: dict, threads: int) -> xllamacpp.Server:
    params = xllamacpp.CommonParams()
    params.model.path = weights
    # Only a work that generates has them.
    rows = task.get("rows", 1)
    tokens = len(task.get("prompt", [])) + task.get("new_tokens", 0) + 1
    params.n_parallel = rows
    # Room for each row; the slots split the context.
    params.n_ctx = 256 * -(-tokens // 256) * rows
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_gpu_layers = 0
    params.fit_params = False
    # The warm-up of a job is its own; kept prompts would make its repeats free.
    params.warmup = False
    params.cache_prompt = False
    params.cache_ram_mib = 0
    params.verbosity = -1
    return xllamacpp.Server(params)


def work(server: xllamacpp.Server, task: dict, count: int) -> None:
    request = {
        "prompt": task["prompt"],
        # The logits after the prompt cannot be had without one token.
        "n_predict": max(count, 1),
        "ignore_eos": True,
        "cache_prompt": False,
        "temperature": 0.0,
    }
    if task["sampled"]:
        request |= {
            "n": task["rows"],
            "temperature": 1.0,
            "top_p": task["top_p"],
            "samplers": ["top_p", "temperature"],
            "seed": 0,
        }
    answer = server.handle_completions(request)
    found = [choice.get("finish_reason") for choice in answer.get("choices", [])]
    if found != ["length"] * task["rows"]:
        raise SystemExit(f"llama.cpp answered {found or answer}, not {task['rows']} rows of {count} tokens")


def main() -> None:
    job = json.load(sys.stdin)
    task = job["task"]
    threads = len(os.sched_getaffinity(0))
    anonymous_before = status("RssAnon")
    begin = time.perf_counter()
    server = load(job["weights"], task, threads)
    outcome = {
        "load_s": time.perf_counter() - begin,
        "ready_s": time.time() - job["started"],
        "anonymous_before": anonymous_before,
        "anonymous_ready": status("RssAnon"),
        "seconds": [],
        "threads": threads,
        "versions": {"xllamacpp": xllamacpp.__version__},
    }
    if task["kind"] == "generate":
        work(server, task, min(WARM_UP_TOKENS, task["new_tokens"]))
        for _ in range(job["repeats"]):
            begin = time.perf_counter()
            work(server, task, task["new_tokens"])
            outcome["seconds"].append(time.perf_counter() - begin)
    outcome["peak"] = status("VmHWM")
    print(json.dumps(outcome), flush=True)
    # The server's own shutdown waits for ever if its first request has not come yet.
    os._exit(0)


if __name__ == "__main__":
    main()
