"""The weights of the catalogue match, fitted to sets of requests, and what they are worth on catalogs
they have not seen: each set is read with weights that were fitted to the others only.

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

from bench import logit
from bench.decompose import Names, read_all, read_cases, read_catalog
from bench.logit import Choice
from bench.scoring import Case, Outcome, figures
from chargehand.catalog.catalog import Catalog
from chargehand.domain.errors import BadConfiguration
from chargehand.domain.llm import Ask, Reply
from chargehand.domain.tiers import EMBEDDED
from chargehand.llm.catalogue_match import meaning
from chargehand.llm.catalogue_match.judging import Judge, Judgement
from chargehand.llm.catalogue_match.ranking import BY_MEANING, BY_WORDS, CERTAIN, SURE, Weights
from chargehand.llm.catalogue_match.reading import considered, read
from chargehand.llm.catalogue_match.tier import learn
from chargehand.understanding import nlu

SHOWN = (
    *("n", "exact_pct", "exact_unasked_pct", "oos_recall_pct", "wrong_unflagged_pct", "asked_pct", "flagged_pct"),
    *("ece", "judged"),
)
TRIED_SURE, TRIED_CERTAIN = (0.60, 0.65, 0.70, 0.75, 0.80), (0.80, 0.85, 0.90, 0.95)
MOST_WRONG = 2.0  # percent of the requests of catalogs left out that may be planned wrongly without a flag
SLACK = 1.0  # points of cost: of what costs so little more the strictest is taken, for the rules know these sets
COSTS = {"asked_pct": 1.0, "flagged_pct": 0.5}  # a question stops a person's work, a flag is one more line to read


class Set(NamedTuple):
    """A catalog, its cases, and what the weights are fitted to: what each clause of them could mean, and does."""

    judge: Judge
    catalog: Catalog
    cases: Sequence[Case]
    choices: Sequence[Choice]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say where the sets are."""
    parser.add_argument("--sets", type=Path, required=True, help="directory of NAME_catalog.json and NAME.jsonl")
    parser.add_argument("--words", action="store_true", help="by words alone, as without the extra `embed`")


def run(*, quick: bool, sets: Path, words: bool = False) -> Mapping[str, Any]:
    """Return the weights fitted to all sets, those in use, and the figures of each set under weights of the others.

    Also what each pair of thresholds is worth that way, and the pair to choose.
    """
    by_meaning = not words and meaning.is_installed()
    found = read_sets(sets, by_meaning=by_meaning)
    if len(found) < 2:
        raise BadConfiguration(f"{sets} holds {len(found)} sets", hint="At least two: one is left out in turn.")
    in_use = BY_MEANING if by_meaning else BY_WORDS
    fitted = {"by_meaning": by_meaning, "fitted": fit(found.values())._asdict(), "in_use": in_use._asdict()}
    if quick:
        return fitted
    others = of_the_others(found)
    shown = {name: _shown(some) for name, some in left_out(others, SURE, CERTAIN).items()}
    tried = [_tried(others, sure, certain) for sure in TRIED_SURE for certain in TRIED_CERTAIN]
    return {**fitted, "left_out": shown, "thresholds": tried, "chosen": chosen(tried)}


def of_the_others(sets: Mapping[str, Set]) -> dict[str, Set]:
    """Return each set with a judge whose weights are fitted to the others only."""
    return {
        name: own._replace(judge=replace(own.judge, weights=_fit_without(sets, name))) for name, own in sets.items()
    }


def _fit_without(sets: Mapping[str, Set], name: str) -> Weights:
    return fit([other for each, other in sets.items() if each != name])


def left_out(sets: Mapping[str, Set], sure: float, certain: float) -> dict[str, list[Outcome]]:
    """Return what becomes of each set's cases, as `of_the_others` judges them; `together`: of all."""
    outcomes = {name: _outcomes(own, sure, certain) for name, own in sets.items()}
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


def read_sets(folder: Path, *, by_meaning: bool) -> dict[str, Set]:
    """Return the sets of a directory by name."""
    found = {}
    for file in sorted(folder.glob("*_catalog.json")):
        names, name = Names(), file.name.removesuffix("_catalog.json")
        catalog = read_catalog(file, names)
        there = [folder / f"{name}{ending}.jsonl" for ending in ("_tuning", "")]
        cases = [case for each in there if each.exists() for case in read_cases(each, names)]
        if cases:
            judge = learn(catalog.specs, embed=by_meaning)
            choices = [choice for case in cases for choice in _choices(judge, case)]
            found[name] = Set(judge, catalog, cases, choices)
    return found


def _choices(judge: Judge, case: Case) -> list[Choice]:
    """Return what each clause of a case could mean and does; nothing where that cannot be told.

    Of a request with as many clauses as intents each clause means the intent in its place, and of one that is no work
    here none means any. What is ambiguous, or only partly work, says nothing of single clauses.
    """
    judged = considered(nlu.clean(case.request), judge)
    if not case.intents and case.out_of_scope:
        return [_choice(each, frozenset()) for each in judged if each.setting]
    ways = [way for way in case.ways if len(way) == len(judged)]
    if case.ambiguous or case.out_of_scope or not ways:
        return []
    meant = [_choice(each, frozenset(way[at] for way in ways)) for at, each in enumerate(judged) if each.setting]
    return [choice for choice in meant if choice.right]


def _choice(judgement: Judgement, meant: frozenset[str]) -> Choice:
    assert judgement.setting is not None
    ranked = [(each.profile.spec.intent, each.traits) for each in judgement.guesses if each.traits]
    right = frozenset(place for place, (intent, _) in enumerate(ranked) if intent in meant)
    return Choice(tuple(traits for _, traits in ranked), judgement.setting, right, none=not meant)


def fit(sets: Iterable[Set]) -> Weights:
    """Fit the weights to sets."""
    return logit.fit([some.choices for some in sets])


class _Reader:
    """The catalogue match with everything given: what is trained, the weights, and both thresholds."""

    tier, model, timeout = EMBEDDED, "catalogue match", None

    def __init__(self, judge: Judge, sure: float) -> None:
        self._judge = judge
        self._sure = sure

    async def structured(self, ask: Ask) -> Reply:
        return Reply(tier=self.tier, model=self.model, seconds=0.0, value=read(ask.text, self._judge, sure=self._sure))


def _outcomes(own: Set, sure: float, certain: float) -> list[Outcome]:
    judge = replace(own.judge, certain=certain)
    thresholds = nlu.Thresholds(embedded=sure)
    return asyncio.run(read_all(own.cases, own.catalog, {EMBEDDED: _Reader(judge, sure)}, thresholds))


def _shown(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    all_figures = figures(outcomes)
    return {name: all_figures[name] for name in SHOWN}
