"""Agents, what can be asked for, and what waits for a person, as lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pydantic import JsonValue

from chargehand.app.fleet import Agent, CatalogEntry, Concern, Wish, properties, required
from chargehand.app.snapshot import Review
from chargehand.cli.show.plan import resources
from chargehand.cli.show.request import review_lines
from chargehand.cli.terminal.lines import BLANK, Line, columns, lasting, said
from chargehand.domain.hosts import in_words
from chargehand.domain.risks import RISKS

EXAMPLES = 3  # of each intent; enough to see how to say it


def agent_list(agents: Sequence[Agent], silent_limit: float) -> list[Line]:
    """Return the agents with what they have done. One silent for longer than that many seconds is not there."""
    if not agents:
        return [Line("No agent has registered yet. The first `chargehand run` registers this machine's agent.")]
    return columns([_agent(agent, silent_limit) for agent in agents], AGENT_TITLES)


AGENT_TITLES = ("AGENT", "STATUS", "LAST SEEN", "RUNNING", "RUNS", "SUCCEEDED", "MEAN", "OFFERS")


def _agent(agent: Agent, silent_limit: float) -> Sequence[str]:
    seen = f"{lasting(float(agent.silent_seconds))} ago" if agent.silent_seconds is not None else "never"
    return (
        agent.name,
        "offline" if agent.is_silent(silent_limit) else agent.status,
        seen,
        f"{agent.in_flight} of {agent.slots}",
        str(agent.runs),
        f"{100 * agent.success_rate:.0f} %" if agent.success_rate is not None else "-",
        lasting(agent.mean_seconds) if agent.mean_seconds is not None else "-",
        ", ".join(agent.capabilities),
    )


def concern_lines(concerns: Sequence[Concern]) -> list[Line]:
    """Return what about agents needs a look, with what to do about each."""
    lines = [BLANK] if concerns else []
    for concern in concerns:
        lines += [Line(concern.text, "warn"), Line(concern.remedy, "dim", 2)]
    return lines


def catalog_lines(offers: Iterable[CatalogEntry], wishes: Sequence[Wish]) -> list[Line]:
    """Return what can be asked for, how to say it, and what cannot and why."""
    ordered = sorted(offers, key=lambda entry: entry.intent)
    able = [entry for entry in ordered if not entry.unavailable]
    unable = [entry for entry in ordered if entry.unavailable]
    lines = [Line("What can be asked for", "title")]
    for entry in able:
        lines += _intent(entry)
    if unable:
        lines += [BLANK, Line("Unavailable now", "title")]
        lines += [Line(f"{entry.intent}: {entry.unavailable}", "warn", 2) for entry in unable]
    if wishes:
        lines += [BLANK, Line("Asked for, but no agent can do it", "title")]
        lines += [Line(f"{wish.times} times: {wish.wish}", "", 2) for wish in wishes[:10]]
    return lines


def _intent(entry: CatalogEntry) -> Iterator[Line]:
    yield Line(f"{entry.intent}: {entry.description or entry.work_type}", "", 2)
    yield from (Line(f"“{example}”", "good", 6) for example in entry.examples[:EXAMPLES])
    for name, schema in properties(entry.parameters).items():
        yield Line(f"{name}{' (needed)' if name in required(entry.parameters) else ''}: {_meaning(schema)}", "dim", 6)
    for name, schema in properties(entry.outputs).items():
        yield Line(f"returns {name}: {_meaning(schema)}", "dim", 6)
    if entry.targets:
        yield Line(f"on {in_words(entry.targets)}", "dim", 6)
    if entry.state:
        yield Line(f"may write {', '.join(map(said, entry.state))} in its project", "dim", 6)
    yield Line(f"{RISKS[entry.risk].shown}; {resources(entry.resources)}; {entry.source}", "dim", 6)


def _meaning(schema: Mapping[str, JsonValue]) -> str:
    words = str(schema.get("description") or schema.get("type") or "any value")
    choices = f"; one of {said(schema['enum'])}" if "enum" in schema else ""
    default = f"; {said(schema['default'])} unless told otherwise" if "default" in schema else ""
    return words + choices + default


def review_list(reviews: Sequence[Review]) -> list[Line]:
    """Return what waits for a person, oldest first."""
    if not reviews:
        return [Line("Nothing waits for a person.", "good")]
    return [line for review in reviews for line in review_lines(review)]
