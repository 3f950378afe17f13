"""The curve behind the embedded tier's confidence, fitted to sets of requests, and what it is worth on catalogs it has
not seen: each set is read with a curve that was fitted to the others only.

A set is a file `NAME_catalog.json` with the cases in `NAME_tuning.jsonl` or `NAME.jsonl`, as `bench decompose` reads
them.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from chargehand import nlu
from chargehand.bench.decompose import Names, read_all, read_cases, read_catalog
from chargehand.bench.scoring import Case, Outcome, figures
from chargehand.catalog import Catalog
from chargehand.errors import BadConfiguration
from chargehand.llm.embedded.calibration import CERTAIN, FITTED, SURE, Weights, terms
from chargehand.llm.embedded.judging import Judge
from chargehand.llm.embedded.reading import considered, read
from chargehand.llm.embedded.tier import learn
from chargehand.models import Ask, Reply

SHOWN = ("n", "exact_pct", "exact_unasked_pct", "wrong_unflagged_pct", "asked_pct", "flagged_pct", "ece", "judged")
TRIED_SURE, TRIED_CERTAIN = (0.60, 0.65, 0.70, 0.75, 0.80), (0.80, 0.85, 0.90, 0.95)
MOST_WRONG = 2.0  # percent of the requests of catalogs left out that may be planned wrongly without a flag
SLACK = 0.5  # points of cost: of what costs so little more the strictest is taken, for the rules know these sets
COSTS = {"asked_pct": 1.0, "flagged_pct": 0.5}  # a question stops a person's work, a flag is one more line to read


class Point(NamedTuple):
    """The evidence for one guess as the curve takes it, and whether its intent was asked for."""

    terms: tuple[float, ...]
    right: bool


class Set(NamedTuple):
    """A catalog, its cases, and the first guess for every clause of them that the curve is about."""

    judge: Judge
    catalog: Catalog
    cases: Sequence[Case]
    points: Sequence[Point]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say where the sets are."""
    parser.add_argument("--sets", type=Path, required=True, help="directory of NAME_catalog.json and NAME.jsonl")


def run(*, quick: bool, sets: Path) -> Mapping[str, Any]:
    """Return the weights fitted to all sets, those in use, and the figures of each set under a curve of the others.

    Also what each pair of thresholds is worth that way, and the pair to choose.
    """
    found = read_sets(sets)
    if len(found) < 2:
        raise BadConfiguration(f"{sets} holds {len(found)} sets", hint="At least two: one is left out in turn.")
    fitted = {"fitted": fit(found.values())._asdict(), "in_use": FITTED._asdict()}
    if quick:
        return fitted
    outcomes = left_out(found, SURE, CERTAIN)
    shown = {name: _shown(some) for name, some in outcomes.items()}
    tried = [_tried(found, sure, certain) for sure in TRIED_SURE for certain in TRIED_CERTAIN]
    return {**fitted, "left_out": shown, "thresholds": tried, "chosen": chosen(tried)}


def left_out(sets: Mapping[str, Set], sure: float, certain: float) -> dict[str, list[Outcome]]:
    """Return what becomes of each set's cases under a curve that was fitted to the others; `together`: of all."""
    outcomes = {name: _left_out(sets, name, sure, certain) for name in sets}
    return {**outcomes, "together": [outcome for some in outcomes.values() for outcome in some]}


def _tried(sets: Mapping[str, Set], sure: float, certain: float) -> dict[str, Any]:
    shown = _shown(left_out(sets, sure, certain)["together"])
    return {"sure": sure, "certain": certain} | {name: shown[name] for name in ("wrong_unflagged_pct", *COSTS)}


def chosen(tried: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the strictest thresholds of those that are safe and cost people hardly more than the cheapest."""
    priced = [
        (sum(weight * each[name] for name, weight in COSTS.items()), each)
        for each in tried
        if each["wrong_unflagged_pct"] <= MOST_WRONG
    ]
    least = min((cost for cost, _ in priced), default=0.0)
    near = [each for cost, each in priced if cost <= least + SLACK]
    return max(near, key=lambda each: (each["sure"] + each["certain"], each["sure"]), default=None)


def read_sets(folder: Path) -> dict[str, Set]:
    """Return the sets of a directory by name."""
    found = {}
    for file in sorted(folder.glob("*_catalog.json")):
        names, name = Names(), file.name.removesuffix("_catalog.json")
        catalog = read_catalog(file, names)
        chosen = [folder / f"{name}{ending}.jsonl" for ending in ("_tuning", "")]
        cases = [case for each in chosen if each.exists() for case in read_cases(each, names)]
        if cases:
            judge = learn(catalog.specs)
            found[name] = Set(judge, catalog, cases, _points(judge, cases))
    return found


def _points(judge: Judge, cases: Sequence[Case]) -> list[Point]:
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


class _Reader:
    """The embedded tier with everything given: what is trained, the curve, and both thresholds."""

    tier, model, timeout = "embedded", "catalogue match", None

    def __init__(self, judge: Judge, sure: float) -> None:
        self._judge = judge
        self._sure = sure

    async def structured(self, ask: Ask) -> Reply:
        return Reply(tier=self.tier, model=self.model, seconds=0.0, value=read(ask.text, self._judge, sure=self._sure))


def _left_out(sets: Mapping[str, Set], name: str, sure: float, certain: float) -> list[Outcome]:
    own = sets[name]
    judge = replace(
        own.judge, calibration=fit([other for each, other in sets.items() if each != name]), certain=certain
    )
    thresholds = nlu.Thresholds(embedded=sure)
    return asyncio.run(read_all(own.cases, own.catalog, {"embedded": _Reader(judge, sure)}, thresholds))


def _shown(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    all_figures = figures(outcomes)
    return {name: all_figures[name] for name in SHOWN}
