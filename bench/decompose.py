"""How well requests are understood: cases and a catalog from files, read on the path that the product takes.

No database is needed: it is the question, the tiers, the check of their answers, flags and thresholds that are
measured. The catalog may be of any trade. What its entries leave out is taken from what an agent could leave out;
names that no intent of ours could have are changed, and changed back for the comparison.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from bench.noisy import answers
from bench.real import measure
from bench.scoring import Case, Outcome, figures
from chargehand.app import application
from chargehand.catalog.catalog import Catalog, merge
from chargehand.domain.errors import BadConfiguration, BadRequest
from chargehand.domain.intents import IntentSpec
from chargehand.domain.tiers import EMBEDDED, models
from chargehand.engine import asking, engine, tier_chain
from chargehand.settings import Settings, load
from chargehand.testing.llm import ScriptedServer
from chargehand.understanding import nlu, questions

REQUEST_ID = UUID(int=1)
ALONE = asking.Trust()
LONGEST_NAME = 63  # of an intent
Json = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say which files to read and which tier to ask."""
    parser.add_argument("--cases", type=Path, required=True, help="JSON lines: request, intents, accept, ...")
    parser.add_argument("--catalog", type=Path, required=True, help="JSON: a list of intents with examples")
    parser.add_argument("--tier", help="ask this tier alone; without it the chain that is configured")
    parser.add_argument(
        "--noisy", type=float, metavar="SHARE", help="a model that gets this share of intents right answers in the tier"
    )
    parser.add_argument("--real", metavar="URL", help="a model server: the match, the model and both beside each other")
    parser.add_argument("--model", default="m", help="what that server calls the model")
    parser.add_argument("--most", type=int, help="only so many of the cases")
    parser.add_argument("--seed", type=int, default=1, help="of the noisy model's mistakes")
    parser.add_argument("--misses", action="store_true", help="list every case that is not exact, and why")


def run(
    *,
    quick: bool,
    cases: Path,
    catalog: Path,
    tier: str | None = None,
    misses: bool = False,
    noisy: float | None = None,
    seed: int = 1,
    real: str | None = None,
    model: str = "m",
    most: int | None = None,
) -> Mapping[str, Any]:
    """Return the figures over all cases (the first 20 with `quick`)."""
    names = Names()
    known = read_catalog(catalog, names)
    chosen = read_cases(cases, names)[: 20 if quick else most]
    with tempfile.TemporaryDirectory() as home:
        settings = load().model_copy(update={"home": Path(home)})
        if real is not None:
            return asyncio.run(measure(settings, real, model, known, chosen))
        if noisy is not None:
            return asyncio.run(_beside_each_other(settings, known, chosen, tier or models()[0].name, (seed, noisy)))
        outcomes = asyncio.run(decompose(settings, known, chosen, tier))
    found: Json = dict(figures(outcomes))
    return found | ({"misses": [_told(outcome) for outcome in outcomes if not outcome.exact]} if misses else {})


async def _beside_each_other(
    settings: Settings, known: Catalog, cases: Sequence[Case], tier: str, model: tuple[int, float]
) -> Json:
    """Return the figures of a noisy model in a tier, and what they are when its plans are not checked."""
    seed, accuracy = model
    with ScriptedServer() as server:
        server.script(answers(cases, known, seed=seed, accuracy=accuracy))
        endpoint = {f"llm_{tier}_via": "http", f"llm_{tier}_url": server.url, f"llm_{tier}_model": "noisy"}
        noisy = settings.model_copy(update={**endpoint, f"llm_{tier}_key_file": None})
        checked = figures(await decompose(noisy, known, cases, tier))
        unchecked = figures(await decompose(noisy, known, cases, tier, checking=False))
    told = ("wrong_unflagged_pct", "flagged_pct", "brier", "ece")
    return {**checked, "unchecked": {name: unchecked[name] for name in told}}


class Names:
    """Names of intents as files give them -> as the product takes them: "CreateUser" is `create_user`."""

    def __init__(self) -> None:
        self._ours: dict[str, str] = {}

    def ours(self, name: str) -> str:
        """Return the one name of ours that stands for a file's."""
        if name not in self._ours:
            plain = _snake(name)
            taken = set(self._ours.values())
            numbered = (f"{plain[: LONGEST_NAME - 4]}_{n}" for n in range(2, 1000))
            self._ours[name] = plain if plain not in taken else next(each for each in numbered if each not in taken)
        return self._ours[name]


def _snake(name: str) -> str:
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    plain = re.sub(r"[^a-z0-9]+", "_", parts.lower()).strip("_")
    return (plain if re.match(r"[a-z].", plain) else f"do_{plain}")[:LONGEST_NAME]


def read_catalog(path: Path, names: Names) -> Catalog:
    """Read a catalog file. Raises `BadConfiguration` naming the entry that cannot be used."""
    return merge(_spec(entry, place, names) for place, entry in enumerate(_json(path.read_text(), path), start=1))


def _spec(entry: Json, place: int, names: Names) -> IntentSpec:
    given = {key: value for key, value in entry.items() if key in IntentSpec.model_fields and value is not None}
    given["intent"] = names.ours(str(entry.get("intent", "")))
    given["after"] = [names.ours(str(name)) for name in entry.get("after") or ()]
    try:
        return IntentSpec.model_validate({"work_type": "custom_work"} | given)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadConfiguration(
            f"entry {place} of the catalog: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            hint='An entry is {"intent", "description", "examples": [...], "parameters": {JSON schema}}.',
        ) from error


def read_cases(path: Path, names: Names) -> list[Case]:
    """Read a file of cases, one JSON object a line."""
    rows = [_json(line, path) for line in path.read_text().splitlines() if line.strip()]
    return [
        Case(
            request=row["request"],
            intents=tuple(map(names.ours, row.get("intents") or ())),
            accept=tuple(tuple(map(names.ours, way)) for way in row.get("accept") or ()),
            ambiguous=bool(row.get("ambiguous")),
            out_of_scope=bool(row.get("out_of_scope")),
            parameters=tuple(row["parameters"]) if "parameters" in row else None,
        )
        for row in rows
    ]


def _json(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadConfiguration(f"{path} is not JSON: {error}", hint="docs/models.md shows both files.") from error


async def decompose(
    settings: Settings, known: Catalog, cases: Sequence[Case], tier: str | None, *, checking: bool = True
) -> list[Outcome]:
    """Let the tiers read every case, one after the other. Raises `BadConfiguration` for a tier that is not there."""
    tiers = dict(application.tiers(settings))
    if tier and tier not in tiers:
        raise BadConfiguration(f"no tier {tier!r} is configured", hint=f"There is: {', '.join(tiers)}.")
    asked = {tier: tiers[tier]} if tier else tiers
    thresholds = engine.thresholds(settings)
    if EMBEDDED in tiers:  # training is not what a request waits for
        await tiers[EMBEDDED].structured(questions.build_ask(REQUEST_ID, "warm up", known))
    return await read_all(
        cases, known, asked, thresholds, asking.Trust(application.second_reader(tiers) if checking else None)
    )


async def read_all(
    cases: Sequence[Case],
    known: Catalog,
    tiers: Mapping[str, Any],
    thresholds: nlu.Thresholds,
    trust: asking.Trust = ALONE,
) -> list[Outcome]:
    """Let the tiers read the cases, one after the other."""
    return [await _read(case, known, tiers, thresholds, trust) for case in cases]


async def _read(
    case: Case, known: Catalog, tiers: Mapping[str, Any], thresholds: nlu.Thresholds, trust: asking.Trust
) -> Outcome:
    started = time.perf_counter()
    try:
        ask = questions.build_ask(REQUEST_ID, nlu.clean(case.request), known)
        got, _ = await tier_chain.understand(ask, tiers, thresholds, asking.Places({}), trust)
    except BadRequest:  # refused at the door: a person hears of it
        got = None
    return Outcome(case, got, time.perf_counter() - started)


def _told(outcome: Outcome) -> Json:
    got = outcome.got
    return {
        "request": outcome.case.request,
        "expected": outcome.case.intents,
        "ambiguous": outcome.case.ambiguous,
        "out_of_scope": outcome.case.out_of_scope,
        "got": [(task.intent, task.confidence) for task in got.subtasks] if got else None,
        "asked": got.ambiguities if got else None,
        "left_out": got.out_of_scope if got else None,
        "wrong_unflagged": outcome.wrong_unflagged,
    }
