"""The curve behind the embedded tier's confidence, fitted to sets of requests, and what it is worth on catalogs it has
not seen: each set is read with a curve that was fitted to the others only.

A set is a file `NAME_catalog.json` with the cases in `NAME_tuning.jsonl` or `NAME.jsonl`, as `bench decompose` reads
them.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from chargehand import nlu
from chargehand.bench.decompose import Names, read_all, read_cases, read_catalog
from chargehand.bench.scoring import Case, Outcome, figures
from chargehand.catalog import Catalog
from chargehand.errors import BadConfiguration
from chargehand.llm.embedded import EmbeddedLLM
from chargehand.llm.embedded.calibration import FITTED, Weights, terms
from chargehand.llm.embedded.reading import considered
from chargehand.llm.embedded.tier import learn

SHOWN = ("n", "exact_pct", "exact_unasked_pct", "wrong_unflagged_pct", "asked_pct", "ece", "judged")


class Point(NamedTuple):
    """The evidence for one guess as the curve takes it, and whether its intent was asked for."""

    terms: tuple[float, ...]
    right: bool


class Set(NamedTuple):
    """A catalog, its cases, and the first guess for every clause of them that the curve is about."""

    catalog: Catalog
    cases: Sequence[Case]
    points: Sequence[Point]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say where the sets are."""
    parser.add_argument("--sets", type=Path, required=True, help="directory of NAME_catalog.json and NAME.jsonl")


def run(*, quick: bool, sets: Path) -> Mapping[str, Any]:
    """Return the weights fitted to all sets, those in use, and the figures of each set under a curve of the others."""
    found = read_sets(sets)
    if len(found) < 2:
        raise BadConfiguration(f"{sets} holds {len(found)} sets", hint="At least two: one is left out in turn.")
    outcomes = {} if quick else {name: _left_out(found, name) for name in found}
    together = [outcome for some in outcomes.values() for outcome in some]
    shown = {name: _shown(some) for name, some in [*outcomes.items(), *([("together", together)] if together else [])]}
    return {"fitted": fit(found.values())._asdict(), "in_use": FITTED._asdict(), "left_out": shown}


def read_sets(folder: Path) -> dict[str, Set]:
    """Return the sets of a directory by name."""
    found = {}
    for file in sorted(folder.glob("*_catalog.json")):
        names, name = Names(), file.name.removesuffix("_catalog.json")
        catalog = read_catalog(file, names)
        chosen = [folder / f"{name}{ending}.jsonl" for ending in ("_tuning", "")]
        cases = [case for each in chosen if each.exists() for case in read_cases(each, names)]
        if cases:
            found[name] = Set(catalog, cases, _points(catalog, cases))
    return found


def _points(catalog: Catalog, cases: Sequence[Case]) -> list[Point]:
    judge = learn(catalog.specs)
    return [
        Point(terms(guess.evidence), any(guess.profile.spec.intent in way for way in case.ways))
        for case in cases
        for guess in considered(nlu.clean(case.request), judge)
        if not guess.verbatim
    ]


def fit(sets: Iterable[Set]) -> Weights:
    """Fit the curve. A set counts by the square root of its size: neither the largest nor the smallest decides."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    each = [(point, len(some.points) ** -0.5) for some in sets for point in some.points]
    weight = np.array([w for _, w in each])
    model = LogisticRegression(C=1.0).fit(
        np.array([point.terms for point, _ in each]),
        np.array([point.right for point, _ in each]),
        sample_weight=weight * len(weight) / weight.sum(),
    )
    return Weights(*(round(float(number), 3) for number in (model.intercept_[0], *model.coef_[0])))


def _left_out(sets: Mapping[str, Set], name: str) -> list[Outcome]:
    others = [other for each, other in sets.items() if each != name]
    llm = EmbeddedLLM(calibration=fit(others))
    return asyncio.run(read_all(sets[name].cases, sets[name].catalog, {"embedded": llm}, nlu.Thresholds()))


def _shown(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    all_figures = figures(outcomes)
    return {name: all_figures[name] for name in SHOWN}
