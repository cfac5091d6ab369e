"""Which tokens transformers' own warpers leave, for a grid of temperature, top-k, top-p and min-p.

The logits come from a formula in whole numbers, so that both sides have the same `float32`. transformers sums probabilities in
`float32` from the least likely upwards; a case in which a cumulative sum comes so near to the share that rounding could decide is
left out and counted, and so is one where two equal logits lie on either side of a top-k.
"""

import argparse
import json
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy as np
import torch
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

VOCAB = 1000
TEMPERATURES = [0.5, 1.0, 2.0]
TOP_K = [None, 1, 40, 700]
TOP_P = [None, 0.1, 0.5, 0.95, 0.999]
MIN_P = [None, 0.001, 0.05, 0.5]
MARGIN = 1e-5


def numerators(row: str) -> list[int]:
    """The logits of a row times 4096."""
    mixed = [(index * 40503) % 65536 for index in range(VOCAB)]
    if row == "flat":
        return [value // 16 for value in mixed]
    if row == "peaked":
        return [(value**4 * 44000) >> 64 for value in mixed]
    return [value * 40000 // 65536 - 30000 for value in mixed]


def clear(logits: np.ndarray, temperature: float, k: int | None, p: float | None, min_p: float | None) -> bool:
    """Whether no filter's boundary is within rounding of a token, by float64."""
    ordered = np.sort(logits.astype(np.float64))[::-1] / temperature
    if k is not None and k < len(ordered):
        if ordered[k - 1] == ordered[k]:
            return False
        ordered = ordered[:k]
    weights = np.exp(ordered - ordered[0])
    if p is not None:
        before = np.cumsum(weights) / weights.sum()
        if np.abs(before[:-1] - p).min(initial=1.0) < MARGIN:
            return False
        last = int(np.searchsorted(before, p))
        if last + 1 < len(ordered) and ordered[last] == ordered[last + 1]:
            return False
    return min_p is None or np.abs(weights / min_p - 1.0).min() > MARGIN


def kept(logits: np.ndarray, temperature: float, k: int | None, p: float | None, min_p: float | None) -> str:
    """The ids that are left, as a whole number in hexadecimal whose bit `id` is set."""
    scores = TemperatureLogitsWarper(temperature)(None, torch.from_numpy(logits)[None])
    if k is not None:
        scores = TopKLogitsWarper(k)(None, scores)
    if p is not None:
        scores = TopPLogitsWarper(p)(None, scores)
    if min_p is not None:
        scores = MinPLogitsWarper(min_p)(None, scores)
    ids = torch.nonzero(scores[0] > -torch.inf).flatten().tolist()
    return f"{sum(1 << index for index in ids):x}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    rows, left_out = [], 0
    for name in ("flat", "peaked", "even"):
        whole = numerators(name)
        logits = np.array(whole, dtype=np.float32) / np.float32(4096.0)
        cases = []
        for setting in product(TEMPERATURES, TOP_K, TOP_P, MIN_P):
            if not clear(logits, *setting):
                left_out += 1
                continue
            temperature, k, p, min_p = setting
            cases.append(
                {"temperature": temperature, "top_k": k, "top_p": p, "min_p": min_p, "kept": kept(logits, *setting)}
            )
        rows.append({"name": name, "numerators": whole, "cases": cases})
    result = {
        "versions": {name: version(name) for name in ("transformers", "torch")},
        "left_out": left_out,
        "rows": rows,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "expected.json").write_text(json.dumps(result) + "\n", encoding="utf-8")
    print([(row["name"], len(row["cases"])) for row in rows], "left out:", left_out)


if __name__ == "__main__":
    main()
