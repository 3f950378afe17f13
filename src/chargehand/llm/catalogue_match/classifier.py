"""TF-IDF and logistic regression: which intent a clause is closest to, as calibrated probabilities.

Training needs scikit-learn; answering needs only NumPy, so that a process that finds the trained weights on disk does
not pay for importing it (over a second on a small machine).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from chargehand.llm.catalogue_match.training import Example

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

STRENGTH = 10.0  # inverse regularisation: best of 3, 10, 30 and 100 by left-out phrases of the homelab catalog
FOLDS = 3
TEMPERATURES = (0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Classifier:
    """Trained weights: `weights` is features x classes; `temperature` makes the scores probabilities."""

    classes: tuple[str, ...]
    vocabulary: Mapping[str, int]
    idf: Floats
    weights: Floats
    bias: Floats
    temperature: float
    recalled: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """For each class, how many of its phrases were recognised when left out of training, and how many there are."""

    def probabilities(self, features: Sequence[str]) -> dict[str, float]:
        """Return the probability of each class for one clause."""
        import numpy as np

        scores = self.bias.copy()
        for column, value in _vector(features, self.vocabulary, self.idf).items():
            scores += value * self.weights[column]
        shares = np.exp((scores - scores.max()) / self.temperature)
        return dict(zip(self.classes, (shares / shares.sum()).tolist(), strict=True))


def train(examples: Sequence[Example]) -> Classifier:
    """Fit the classifier. Takes some 100 ms for tens of intents, beside seconds of importing scikit-learn."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    # On matrices this small BLAS threads only wait for each other: 7 s on two busy cores, 0.09 s on one thread.
    with threadpool_limits(limits=1, user_api="blas"):
        return _trained(examples)


def _trained(examples: Sequence[Example]) -> Classifier:
    import numpy as np

    vocabulary, idf = _vocabulary(examples)
    labels = np.array([each.label for each in examples])
    rows = _matrix(examples, vocabulary, idf)
    model = _fit(rows, labels)
    left_out = _left_out(rows, labels, np.array([each.source % FOLDS for each in examples]))
    return Classifier(
        classes=tuple(str(label) for label in model.classes_),
        vocabulary=vocabulary,
        idf=idf,
        weights=np.ascontiguousarray(model.coef_.T),
        bias=model.intercept_,
        temperature=min(TEMPERATURES, key=lambda t: sum(_loss(some, t) for some in left_out)),
        recalled=_recalled(left_out),
    )


class _LeftOut(NamedTuple):
    """Phrases that a model was not trained on: its scores of them by class, and the places of the right classes."""

    scores: Any
    truths: Any
    classes: Any


def _fit(rows: Any, labels: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    # Every class weighs the same: an agent that gives ten examples is not asked for more often than one with three.
    return LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=300, tol=1e-3).fit(rows, labels)


def _left_out(rows: Any, labels: Any, fold: Any) -> list[_LeftOut]:
    import numpy as np

    found = []
    for turn in range(FOLDS):
        held = fold == turn
        model = _fit(rows[~held], labels[~held])
        known = np.isin(labels[held], model.classes_)
        truths = np.searchsorted(model.classes_, labels[held][known])
        found.append(_LeftOut(model.decision_function(rows[held][known]), truths, model.classes_))
    return found


def _loss(some: _LeftOut, temperature: float) -> float:
    import numpy as np

    scaled = some.scores / temperature
    top = scaled.max(axis=1, keepdims=True)
    totals = np.log(np.exp(scaled - top).sum(axis=1)) + top[:, 0]
    return float((totals - scaled[np.arange(len(some.truths)), some.truths]).sum())


def _recalled(left_out: Sequence[_LeftOut]) -> dict[str, tuple[int, int]]:
    right, total = Counter[str](), Counter[str]()
    for some in left_out:
        for truth, guess in zip(some.truths, some.scores.argmax(axis=1), strict=True):
            total[str(some.classes[truth])] += 1
            right[str(some.classes[truth])] += bool(truth == guess)
    return {label: (right[label], total[label]) for label in total}


def _vocabulary(examples: Sequence[Example]) -> tuple[dict[str, int], Floats]:
    import numpy as np

    counts = Counter(feature for each in examples for feature in set(each.features))
    vocabulary = {feature: column for column, feature in enumerate(sorted(counts))}
    idf = [math.log((1 + len(examples)) / (1 + counts[feature])) + 1 for feature in vocabulary]
    return vocabulary, np.array(idf)


def _vector(features: Sequence[str], vocabulary: Mapping[str, int], idf: Floats) -> dict[int, float]:
    counts = Counter(vocabulary[feature] for feature in features if feature in vocabulary)
    weighted = {column: (1 + math.log(count)) * float(idf[column]) for column, count in counts.items()}
    length = math.sqrt(sum(value * value for value in weighted.values()))
    return {column: value / length for column, value in weighted.items()}


def _matrix(examples: Sequence[Example], vocabulary: Mapping[str, int], idf: Floats) -> Any:
    from scipy.sparse import csr_array

    vectors = [_vector(each.features, vocabulary, idf) for each in examples]
    rows = [row for row, vector in enumerate(vectors) for _ in vector]
    columns = [column for vector in vectors for column in vector]
    values = [value for vector in vectors for value in vector.values()]
    return csr_array((values, (rows, columns)), shape=(len(examples), len(vocabulary)))
