"""Agents, what can be asked for, and what waits for a person, as lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from chargehand.cli.show.plan import resources
from chargehand.cli.show.request import review_lines
from chargehand.cli.terminal.lines import BLANK, Line, columns, lasting, said
from chargehand.domain.risks import RISKS
from chargehand.store.queries import Row, Rows

EXAMPLES = 3  # of each intent; enough to see how to say it


def agent_list(agents: Rows, silent_limit: float) -> list[Line]:
    """Return the agents with what they have done. One silent for longer than that many seconds is not there."""
    if not agents:
        return [Line("No agent has registered yet. The first `chargehand run` registers this machine's agent.")]
    return columns([_agent(row, silent_limit) for row in agents], AGENT_TITLES)


AGENT_TITLES = ("AGENT", "STATUS", "LAST SEEN", "RUNNING", "RUNS", "SUCCEEDED", "MEAN", "OFFERS")


def _agent(row: Row, silent_limit: float) -> Sequence[str]:
    good, bad = int(row["successes"] or 0), int(row["failures"] or 0)
    runs = good + bad
    mean = lasting(float(row["total_ms"] or 0) / 1000 / runs) if runs else "-"
    rate = f"{100 * good / runs:.0f} %" if runs else "-"
    seen = f"{lasting(float(row['silent_seconds']))} ago" if row["silent_seconds"] is not None else "never"
    slots = f"{row['in_flight']} of {row['slots']}"
    gone = row["silent_seconds"] is None or row["silent_seconds"] > silent_limit
    return (
        row["name"],
        "offline" if gone else row["status"],
        seen,
        slots,
        str(runs),
        rate,
        mean,
        ", ".join(row["capabilities"]),
    )


def catalog_lines(offers: Iterable[Mapping[str, Any]], wishes: Rows) -> list[Line]:
    """Return what can be asked for, how to say it, and what cannot and why."""
    ordered = sorted(offers, key=lambda spec: spec["intent"])
    able = [spec for spec in ordered if not spec["unavailable"]]
    unable = [spec for spec in ordered if spec["unavailable"]]
    lines = [Line("What can be asked for", "title")]
    for spec in able:
        lines += _intent(spec)
    if unable:
        lines += [BLANK, Line("Unavailable now", "title")]
        lines += [Line(f"{spec['intent']}: {spec['unavailable']}", "warn", 2) for spec in unable]
    if wishes:
        lines += [BLANK, Line("Asked for, but no agent can do it", "title")]
        lines += [Line(f"{row['times']} times: {row['wish']}", "", 2) for row in wishes[:10]]
    return lines


def _intent(spec: Mapping[str, Any]) -> Iterator[Line]:
    yield Line(f"{spec['intent']}: {spec['description'] or spec['work_type']}", "", 2)
    yield from (Line(f"“{example}”", "good", 6) for example in spec["examples"][:EXAMPLES])
    required = set(spec["parameters"].get("required", ()))
    for name, schema in spec["parameters"].get("properties", {}).items():
        yield Line(f"{name}{' (needed)' if name in required else ''}: {_meaning(schema)}", "dim", 6)
    returns = spec.get("outputs", {}).get("properties", {})
    yield from (Line(f"returns {name}: {_meaning(schema)}", "dim", 6) for name, schema in returns.items())
    yield Line(f"{RISKS[spec['risk']].shown}; {resources(spec['resources'])}; {spec['source']}", "dim", 6)


def _meaning(schema: Mapping[str, Any]) -> str:
    words = str(schema.get("description") or schema.get("type") or "any value")
    choices = f"; one of {said(schema['enum'])}" if "enum" in schema else ""
    default = f"; {said(schema['default'])} unless told otherwise" if "default" in schema else ""
    return words + choices + default


def review_list(reviews: Rows) -> list[Line]:
    """Return what waits for a person, oldest first."""
    if not reviews:
        return [Line("Nothing waits for a person.", "good")]
    return [line for review in reviews for line in review_lines(review)]
