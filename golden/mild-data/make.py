"""How far plain text classifiers tell our mild misconduct from its benign twins, by scikit-learn.

Reads the committed rows, checks their hashes, and writes accuracies on topics that a classifier has not seen: on the held-out
half after training on the other, and by cross-validation over all topics. Intervals are over topics, not rows: the ten
requests of a topic are not independent.
"""

import argparse
import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

DATA = Path(__file__).parents[2] / "crates" / "lm-assess" / "data" / "misconduct.jsonl"
WORD = r"(?u)\b\w[\w'-]*"
FOLDS = 10
DRAWS = 10_000


def lengths(texts: list[str]) -> np.ndarray:
    """Characters and words of each text."""
    return np.array([[len(text), len(text.split())] for text in texts], dtype=float)


def first_word(text: str) -> list[str]:
    return text.split()[:1]


def features() -> dict[str, list]:
    """The steps before the classifier, new ones at each call."""
    return {
        "word 1-2-grams": [TfidfVectorizer(ngram_range=(1, 2), token_pattern=WORD)],
        "words": [CountVectorizer(binary=True, token_pattern=WORD)],
        "character 2-5-grams": [TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5))],
        "length": [FunctionTransformer(lengths), StandardScaler()],
        "first word": [CountVectorizer(analyzer=first_word)],
    }


def classifier(name: str) -> Pipeline:
    return make_pipeline(*features()[name], LogisticRegression(C=1.0, tol=1e-8, max_iter=10_000))


def interval(right: np.ndarray, topics: np.ndarray) -> list[float]:
    """95 % by the percentile bootstrap over topics."""
    stream = np.random.Generator(np.random.PCG64(1))
    names = np.unique(topics)
    means = np.array([right[topics == name].mean() for name in names])
    sizes = np.array([(topics == name).sum() for name in names])
    drawn = stream.integers(len(names), size=(DRAWS, len(names)))
    accuracies = (means[drawn] * sizes[drawn]).sum(1) / sizes[drawn].sum(1)
    return [round(float(value), 3) for value in np.quantile(accuracies, [0.025, 0.975])]


def summary(scores: np.ndarray, labels: np.ndarray, topics: np.ndarray) -> dict:
    """Accuracy with its interval, and how often a request for misconduct scores above its own twin (a tie is a half)."""
    right = (scores > 0) == (labels == 1)
    # A row is followed by its twin.
    difference = scores[0::2] - scores[1::2]
    assert (labels[0::2] == 1).all() and (labels[1::2] == 0).all()
    above = np.where(np.abs(difference) < 1e-9, 0.5, (difference > 0).astype(float))
    return {
        "accuracy": round(float(right.mean()), 3),
        "interval": interval(right, topics),
        "above_twin": round(float(above.mean()), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out

    raw = DATA.read_bytes()
    rows = [json.loads(line) for line in raw.decode().splitlines()]
    for row in rows:
        fields = "\n".join(value for name, value in row.items() if name != "sha256")
        assert hashlib.sha256(fields.encode()).hexdigest() == row["sha256"], row["id"]
    texts = np.array([row["text"] for row in rows], dtype=object)
    labels = np.array([int(row["kind"] == "misconduct") for row in rows])
    topics = np.array([row["topic"] for row in rows])
    held_out = np.array([row["split"] == "held-out" for row in rows])

    results: dict[str, dict] = {}
    for name in features():
        model = classifier(name).fit(texts[~held_out], labels[~held_out])
        scores = model.decision_function(texts[held_out])
        unseen = summary(scores, labels[held_out], topics[held_out])
        scores = np.empty(len(rows))
        for train, test in GroupKFold(FOLDS).split(texts, labels, topics):
            scores[test] = classifier(name).fit(texts[train], labels[train]).decision_function(texts[test])
        results[name] = {"held_out": unseen, "cross_validated": summary(scores, labels, topics)}
        print(name, results[name])

    result = {
        "versions": {name: version(name) for name in ("scikit-learn", "numpy", "scipy")},
        "data_sha256": hashlib.sha256(raw).hexdigest(),
        "rows": {"all": len(rows), "held_out": int(held_out.sum())},
        "classifiers": results,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "expected.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
