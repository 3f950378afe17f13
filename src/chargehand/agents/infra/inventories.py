"""Resolves what playbooks are for to hosts, when offers are looked for: the plan then names them.

An inventory of files is resolved once per content, from a copy that was checked against the manifest, by a program that
only reads. One that is a program, or the settings of a plugin, is asked at most every EVERY seconds; the operator must
have named it (CHARGEHAND_INVENTORY), because it runs before anything is approved.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chargehand.agents.infra.asking import Question, question
from chargehand.agents.infra.environment import child_environment
from chargehand.agents.infra.host_lists import HostLists
from chargehand.agents.infra.inventory import Inventory, inventory_of
from chargehand.agents.infra.manifest import Manifest
from chargehand.agents.infra.plays import Pattern, UnknownHosts, Wanted
from chargehand.catalog.targets import targeted
from chargehand.domain.errors import ContentChanged
from chargehand.domain.hosts import LOCALHOST, SHOWN, Hosts, Targets, all_known, hosts_of
from chargehand.domain.intents import IntentSpec
from chargehand.domain.messages import WorkOrder

EVERY = 60.0  # seconds between two questions to an inventory that is a program; a cloud changes within minutes
SHARE = 20  # at most a twentieth of the time: a slow one is asked less often
TOLD = 300  # characters of what went wrong
THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Answer:
    """What an inventory said: all hosts, those of the first groups, and those of each pattern or why there are none."""

    known: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    patterns: Mapping[Pattern, tuple[str, ...] | str]


class Inventories:
    """What one agent knows of inventories. `home` is where it keeps that, `extra_env` what programs get to see."""

    def __init__(
        self, home: Path | None = None, configured: Path | None = None, extra_env: Mapping[str, str] | None = None
    ) -> None:
        self._folder = None if home is None else home / "hosts"
        self._configured = configured and Path(os.path.realpath(configured))
        self._extra_env = extra_env or {}
        self._lists = HostLists(self._folder)
        self._problems: dict[str, tuple[float, str]] = {}

    def inventory(self, file: Path, project: Path) -> Inventory | None:
        """Return the inventory of a playbook. Raises `UnknownHosts`."""
        return inventory_of(file, project, self._configured)

    def targets(
        self, wanted: Wanted, of_all: Iterable[Wanted], file: Path, root: Path, parts: tuple[Manifest, ...]
    ) -> Targets:
        """Return the hosts that a playbook is for; `of_all` are the playbooks beside it, which are asked about with it.

        Raises `UnknownHosts`, saying what to do.
        """
        inventory = self.inventory(file, root)
        if inventory is None or not (wanted.by or _elsewhere(wanted.all_patterns)):
            _check_here(wanted, file, root, inventory)
            answer = Answer((LOCALHOST,), {}, dict.fromkeys(wanted.all_patterns, (LOCALHOST,)))
        else:
            patterns = {pattern for each in of_all for pattern in each.all_patterns} | wanted.all_patterns
            answer = self._answer(question(inventory, file, root, parts), patterns)
        try:
            return self._found(wanted, answer)
        except ValueError as error:  # a name that can be none
            raise UnknownHosts(f"{file.name}: the inventory has a host with a name that is none") from error

    def approved(self, order: WorkOrder, spec: IntentSpec) -> frozenset[str]:
        """Return the names that a run is limited to. Raises `ContentChanged` when they are not known."""
        parts = order.hosts
        if not parts and not order.content_hash:  # nothing was approved: whoever tries it means what is there now
            parts = targeted(spec, order.parameters)
        names = all_known(parts, {part.digest: self._lists.names(part.digest) for part in parts if not part.complete})
        if not names:
            what = "this agent does not know all of its hosts" if parts else "the plan names no hosts"
            raise ContentChanged(f"{what}, so nothing was run: `retry` makes a plan with the hosts of today")
        return names

    def _found(self, wanted: Wanted, answer: Answer) -> Targets:
        names = {name for pattern in wanted.patterns for name in _matched(answer, pattern)}
        if not names and not wanted.by:
            said = _said(wanted.patterns) or "it has no plays"
            raise UnknownHosts(f"no host of the inventory is one that it is for ({said})")
        by = {name: pattern and self._kept(_matched(answer, pattern)) for name, pattern in wanted.by.items()}
        always = self._kept(names)
        if not wanted.by:  # its groups are what a request may limit it to
            of_its_own = {name: sorted(names & {*hosts}) for name, hosts in answer.groups.items()}
            return Targets(always=always, groups=self._groups(of_its_own))
        groups = self._groups({"all": answer.known, **answer.groups})
        return Targets(always=always, by=by, known=self._kept(answer.known), groups=groups)

    def _groups(self, groups: Mapping[str, Sequence[str]]) -> dict[str, Hosts]:
        return {name: self._kept(hosts, SHOWN) for name, hosts in groups.items() if hosts}

    def _kept(self, names: Iterable[str], most: int | None = None) -> Hosts:
        listed = tuple(names)
        found = hosts_of(listed) if most is None else hosts_of(listed, most=most)
        if not found.complete:
            self._lists.keep(listed)
        return found

    def _answer(self, question: Question, patterns: set[Pattern]) -> Answer:
        """Return what is known of an inventory, or ask it. Raises `UnknownHosts`."""
        known = self._lists.answer(question.key)
        if known and patterns <= _patterns(known) and (not question.programs or time.time() < known["until"]):
            return _answer(known)
        until, words = self._problems.get(question.key, (0.0, ""))
        if time.monotonic() < until:
            raise UnknownHosts(words)
        ordered = sorted(patterns | (_patterns(known) if known else set()))
        began = time.time()
        try:
            said = question.ask(ordered, child_environment(self._extra_env), self._made())
        except (UnknownHosts, OSError, ContentChanged) as error:
            words = f"the inventory {', '.join(map(str, question.inventory.sources))}: {error}"
            self._problems[question.key] = (time.monotonic() + EVERY, words)
            raise UnknownHosts(words) from error
        until = time.time() + max(EVERY, SHARE * (time.time() - began))
        stored = {"said": said, "patterns": ordered, "until": until}
        self._lists.keep_answer(question.key, stored)
        return _answer(stored)

    def _made(self) -> Path | None:
        if self._folder is not None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._folder


def _answer(stored: Mapping[str, Any]) -> Answer:
    said, names = stored["said"], stored["said"]["hosts"]

    def named(places: list[int] | str) -> tuple[str, ...] | str:
        return places if isinstance(places, str) else tuple(names[place] for place in places)

    patterns = {tuple(texts): named(found) for texts, found in zip(stored["patterns"], said["patterns"], strict=True)}
    groups = {name: tuple(names[place] for place in places) for name, places in said["groups"].items()}
    return Answer(tuple(names[: said["known"]]), groups, patterns)


def _patterns(stored: Mapping[str, Any]) -> set[Pattern]:
    return {tuple(texts) for texts in stored["patterns"]}


def _matched(answer: Answer, pattern: Pattern) -> tuple[str, ...]:
    found = answer.patterns.get(pattern, ())
    if isinstance(found, str):
        raise UnknownHosts(f"hosts: {' '.join(pattern)}: {found}"[:TOLD])
    return found


def _elsewhere(patterns: Iterable[Pattern]) -> bool:
    """Return whether any of these is for other hosts than this machine, as its name says."""
    return any(text.strip() != LOCALHOST for pattern in patterns for part in pattern for text in part.split(","))


def _check_here(wanted: Wanted, file: Path, root: Path, inventory: Inventory | None) -> None:
    """Raise `UnknownHosts` where there is no inventory and a play is not for this machine by name."""
    away = [pattern for pattern in wanted.all_patterns if not _here(pattern)]
    if inventory is None and away:
        raise UnknownHosts(
            f"{file.name} is for `hosts: {_said(away)}`, and there is no inventory: write `hosts: localhost` for this"
            f" machine, or give an inventory (CHARGEHAND_INVENTORY, or a file `inventory` in {root})"
        )


def _here(pattern: Pattern) -> bool:
    return all(text.strip() in THIS_MACHINE for part in pattern for text in part.split(","))


def _said(patterns: Iterable[Pattern]) -> str:
    return "; ".join(", ".join(pattern) for pattern in sorted(patterns))[:TOLD]
