"""What scikit-learn's logistic regression makes of word n-grams, lengths and first words of a few mild texts."""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

# Requests for a plan (1) and for an explanation (0), with shared words, so that no fit is perfect and none is trivial.
TRAIN = [
    ("Plan a quiet picnic for two", 1),
    ("Write a plan for a rainy Sunday", 1),
    ("Please plan my week, it's a long one", 1),
    ("Make a list of birds to look for", 1),
    ("Make me a plan to learn the flute", 1),
    ("How do I plan a picnic?", 1),
    ("Draw up a menu: soup, bread, fruit", 1),
    ("Explain why it rains on Sunday", 0),
    ("Explain the flute to me", 0),
    ("Why do birds sing?", 0),
    ("Why is bread soft and fruit sweet, please?", 0),
    ("How does a menu work", 0),
    ("Write about birds; explain how they fly", 0),
    ("Tell me how a week came to have seven days", 0),
]
TEST = [
    ("Plan a menu", 1),
    ("Explain a menu", 0),
    ("Why plan?", 0),
    ("Make soup", 1),
    ("", 0),
    ("Ünbekannte Wörter überall", 1),
]
# `C`, the inverse of the penalty.
STRENGTHS = [0.1, 1.0, 10.0]


def first_words(texts: list[str]) -> list[str]:
    counter = CountVectorizer(token_pattern=r"(?u)\w+").build_analyzer()
    return [(counter(text) or [""])[0] for text in texts]


def fitted(train: np.ndarray, test: np.ndarray, names: list[str]) -> list[dict]:
    labels = np.array([label for _, label in TRAIN])
    found = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(train, labels)
        # A second solver must agree, or the optimum was not reached.
        other = LogisticRegression(C=strength, solver="lbfgs", tol=1e-12, max_iter=100_000).fit(train, labels)
        assert np.abs(model.coef_ - other.coef_).max() < 1e-6, "two solvers differ"
        found.append(
            {
                "c": strength,
                "weights": dict(zip(names, model.coef_[0].tolist(), strict=True)),
                "intercept": float(model.intercept_[0]),
                "train_probabilities": model.predict_proba(train)[:, 1].tolist(),
                "test_probabilities": model.predict_proba(test)[:, 1].tolist(),
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    train, test = ([text for text, _ in rows] for rows in (TRAIN, TEST))

    cases = {}
    for low, high in ((1, 1), (1, 2), (2, 3)):
        counter = CountVectorizer(token_pattern=r"(?u)\w+", ngram_range=(low, high)).fit(train)
        cases[f"ngrams {low} {high}"] = fitted(
            counter.transform(train).toarray(), counter.transform(test).toarray(), list(counter.get_feature_names_out())
        )
    words = CountVectorizer(token_pattern=r"(?u)\w+").build_analyzer()
    lengths = [np.array([[len(text), len(words(text))] for text in texts], dtype=float) for texts in (train, test)]
    scaler = StandardScaler().fit(lengths[0])
    cases["length"] = fitted(scaler.transform(lengths[0]), scaler.transform(lengths[1]), ["characters", "words"])
    names = sorted(set(first_words(train)))
    firsts = [
        np.array([[float(word == name) for name in names] for word in first_words(texts)]) for texts in (train, test)
    ]
    cases["first word"] = fitted(*firsts, names)

    result = {
        "versions": {name: version(name) for name in ("scikit-learn", "scipy", "numpy")},
        "train": TRAIN,
        "test": TEST,
        "cases": cases,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "expected.json").write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
