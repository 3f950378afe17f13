"""What our Ansible callback reported, and what follows from it. Pure: JSON lines and an exit code in, Outcome out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import JsonValue

from chargehand.agent import Outcome, TaskFailed, TaskFailedHere, TaskInterrupted
from chargehand.agent.secrets.redactor import SHORTEST, Redactor
from chargehand.agents.infra.diffs import clip, one_line, redact
from chargehand.agents.infra.partly import Left, in_part
from chargehand.domain import bounded_json
from chargehand.domain.errors import UnreadableText

MAX_MESSAGE = 500  # characters of a failed task's message that are shown
MAX_TAIL = 1_500  # of Ansible's own output, where no task says what went wrong
MAX_NAME, MAX_NAMES = 253, 20  # of hosts that differ from those of the plan
MAX_DIFFS = 100_000  # characters of all diffs together: a result must fit into one message
MAX_EVENT = 2_000_000  # bytes of one event; the callback keeps them far smaller
MAX_OUTPUT = 16_000  # characters of one value given on with set_stats
MAX_SAID = 100_000  # characters of what all tasks say together, with their names; for the same reason
MAX_DECRYPTED = 300  # values of ansible-vault that are hidden in a run; looking through a text takes longer with each

COUNTS = ("ok", "changed", "failures", "unreachable", "skipped", "rescued", "ignored")


@dataclass(frozen=True)
class TaskEnd:
    """How one task ended on one host. `message` is empty where `no_log` hides it."""

    task: str
    host: str
    status: str
    seconds: float = 0.0
    message: str = ""
    hidden: bool = False
    ignored: bool = False  # an unreachable host that the playbook does without

    def line(self, *, dry_run: bool = False) -> str:
        """Return one line for people: `Start the status page: changed`."""
        where = "" if self.host == "localhost" else f" on {self.host}"
        status = "would change" if dry_run and self.status == "changed" else self.status
        return f"{self.task}: {status}{where}"


@dataclass(frozen=True)
class Named:
    """Some hosts: how many, and the names of the first."""

    names: tuple[str, ...] = ()
    count: int = 0

    @property
    def words(self) -> str:
        """Return them for people: `web9, web10 (and 4 more)`."""
        more = f" (and {self.count - len(self.names):,} more)" if self.count > len(self.names) else ""
        return ", ".join(self.names) + more


@dataclass
class PlaybookRun:
    """Collects the events of one run.

    `hide` takes the values of the agent's secrets out of a text before it is cut. What ansible-vault decrypts is hidden
    in this run only: such files also hold names and ports, which other work must be able to say.
    """

    hide: Callable[[str], str] = str
    hosts: dict[str, dict[str, int]] = field(default_factory=dict)
    outputs: dict[str, JsonValue] = field(default_factory=dict)
    diffs: list[str] = field(default_factory=list)
    bad: list[TaskEnd] = field(default_factory=list)  # failed, ignored or unreachable, in order
    said: list[dict[str, JsonValue]] = field(default_factory=list)
    room: int = MAX_SAID  # characters that may still be said
    unsaid: int = 0  # tasks whose words found no room
    decrypted: set[str] = field(default_factory=set)  # values of ansible-vault
    vaulted: Redactor = field(default_factory=Redactor)  # hides them
    changed_tasks: int = 0
    ended: bool = False  # the final counts have come
    play: str = ""
    nobody: list[str] = field(default_factory=list)  # plays that matched no host
    worked: dict[str, bool] = field(default_factory=dict)  # of the last play with work: its hosts, and who is there
    reached: bool = False  # any host at all
    left_out: Named = field(default_factory=Named)  # hosts that came after the approval
    gone: Named = field(default_factory=Named)  # hosts that were approved, and that no play found
    started: str | None = None  # the task that is running, until it ends somewhere
    begins: bool = False  # a play, of which no task has ended yet

    def take(self, line: bytes) -> TaskEnd | None:
        """Take one line in; return how a task ended when that is what it says. Garbage is skipped."""
        try:
            event = bounded_json.loads(line, most=MAX_EVENT)
            return self._take(event) if isinstance(event, dict) else None
        except (UnreadableText, TypeError, ValueError, AttributeError):  # what a playbook runs may write here, too
            return None

    def _take(self, event: Mapping[str, Any]) -> TaskEnd | None:
        match event.get("event"):
            case "play":
                self._begin(str(event.get("name")))
            case "start":
                self.started = self.hidden(str(event.get("task")))
            case "end":
                return self._end(event)
            case "diff":
                self.diffs.append(redact(self.hidden(str(event.get("text")))))
            case "left_out":
                self.left_out = _named(event)
            case "gone":
                self.gone = _named(event)
            case "no_hosts":
                self.nobody.append(self.play)
            case "vault":
                self._decrypted(str(event.get("text")))
            case "stats":
                self.ended = True
                counted = {host: {key: int(counts.get(key, 0)) for key in COUNTS} for host, counts in _hosts(event)}
                self.hosts = {host: self._corrected(host, counts) for host, counts in counted.items()}
        return None

    def _begin(self, play: str) -> None:
        self.play = clip(one_line(self.hidden(play)), MAX_NAME)
        self.begins = True

    def _decrypted(self, value: str) -> None:
        """Hide a value. Each worker of Ansible tells what it decrypts, so most of them are known."""
        if len(value) < SHORTEST or value in self.decrypted:
            return
        self.decrypted.add(value)
        if len(self.decrypted) <= MAX_DECRYPTED:
            self.vaulted.learn("ansible-vault", value)

    def hidden(self, text: str) -> str:
        """Return a text without the values of secrets."""
        return self.vaulted.text(self.hide(text))

    def _end(self, event: Mapping[str, Any]) -> TaskEnd:
        names = ("task", "host", "status", "seconds", "message", "hidden", "ignored")
        end = TaskEnd(**{name: event[name] for name in names if name in event})
        end = replace(end, task=self.hidden(str(end.task)), message=self.hidden(str(end.message)))
        self.started = None
        self.changed_tasks += end.status == "changed"
        self._work(end)
        if end.status in ("failed", "ignored", "unreachable"):
            self.bad.append(end)
        if event.get("said"):
            self._say(end, str(event["said"]), told=bool(event.get("told")))
        for custom in event.get("stats", ()):
            self._add_outputs(custom)
        return end

    def _corrected(self, host: str, counts: dict[str, int]) -> dict[str, int]:
        """Count an unreachable host that was ignored as that; Ansible counts a task that is ok, and one ignored."""
        ignored = sum(end.ignored and end.host == host for end in self.bad)
        moved = {"ok": -ignored, "ignored": -ignored, "unreachable": ignored}
        return {key: max(0, number + moved.get(key, 0)) for key, number in counts.items()}

    def _work(self, end: TaskEnd) -> None:
        """Note which hosts of the play are there."""
        if self.begins:
            self.worked, self.begins = {}, False
        there = end.status != "unreachable" or end.ignored
        self.worked[end.host] = self.worked.get(end.host, True) and there
        self.reached |= end.status != "unreachable"

    def _say(self, end: TaskEnd, text: str, *, told: bool) -> None:
        """Keep what a task says, as long as there is room and all that is encrypted can be hidden in it."""
        shown = redact(self.hidden(text))
        size = len(shown) + len(end.task) + len(end.host)
        if size > self.room or len(self.decrypted) > MAX_DECRYPTED:
            self.unsaid += 1
            return
        self.room -= size
        self.said.append({"task": end.task, "host": end.host, "text": shown, "told": told})

    def _add_outputs(self, custom: Mapping[str, Any]) -> None:
        """Add what `set_stats` gave. As in Ansible later mappings, lists and numbers add up; texts replace."""
        for name, value in (custom.get("data") or {}).items():
            old: Any = self.outputs.get(name)
            if not custom.get("aggregate", True) or isinstance(value, bool) or type(old) is not type(value):
                self.outputs[name] = value
            elif isinstance(old, dict):
                self.outputs[name] = old | value
            else:
                self.outputs[name] = value if isinstance(value, str) else old + value

    def total(self, count: str) -> int:
        """Return one of COUNTS over all hosts."""
        return sum(counts[count] for counts in self.hosts.values())

    @property
    def failures(self) -> list[TaskEnd]:
        """Return the failures that nothing rescued. A host does nothing after one, so they are the last of a host's."""
        failed = [end for end in self.bad if end.status == "failed"]
        left = {host: counts["failures"] for host, counts in self.hosts.items()}
        found = []
        for end in reversed(failed):
            if left.get(end.host, 1) > 0:
                found.append(end)
                left[end.host] = left.get(end.host, 1) - self.ended
        return found[::-1]

    @property
    def away(self) -> list[TaskEnd]:
        """Return how hosts turned out to be unreachable."""
        return [end for end in self.bad if end.status == "unreachable"]

    @property
    def left(self) -> dict[Left, list[str]]:
        """Return what was left undone, by kind."""
        failures = self.failures
        lasting = {id(end) for end in failures}  # two ends may be equal
        rescued = [end for end in self.bad if end.status == "failed" and id(end) not in lasting]
        ignored = [end for end in self.bad if end.status == "ignored"]
        return {
            "no_hosts": self.nobody,
            "unreachable": sorted({end.host for end in self.away}),
            "failed": _places(failures),
            "ignored": _places(ignored),
            "rescued": _places(rescued),
        }


def conclude(run: PlaybookRun, exit_code: int, tail: str, *, dry_run: bool) -> Outcome:
    """Return the outcome of a run. Raises `TaskFailedHere` when a task failed, `TaskInterrupted` when no host could be
    reached or a play lost all of its hosts, and `TaskFailed` when it could not even begin: the content is the same
    everywhere.

    Ansible's exit code 4 means both "unreachable" and "cannot be parsed", so the events decide, not the code.
    """
    if exit_code == 0 and run.nobody and not run.hosts:
        raise TaskFailed(
            f"no host of the inventory is one that the playbook is for{_others(run)}", hint="See its `hosts:` lines."
        )
    if exit_code != 0 and run.failures:
        raise TaskFailedHere(_failure(run, run.failures[-1], dry_run=dry_run))
    if run.away and not (run.reached and any(run.worked.values()) and run.ended):
        raise TaskInterrupted(f"{run.away[-1].host} cannot be reached: {_shortened(run.away[-1])}")
    if run.ended and (exit_code == 0 or run.away):
        return _outcome(run, dry_run)
    said = one_line(run.hidden(tail))[-MAX_TAIL:] or "it said nothing"
    raise TaskFailed(f"Ansible ended with exit code {exit_code}: {said}")


def _outcome(run: PlaybookRun, dry_run: bool) -> Outcome:
    changed = run.total("changed")
    counts = _counts(run)
    given = run.vaulted.mapping(run.outputs)
    own = given.get("summary")
    summary = f"{own.strip()} ({counts})" if isinstance(own, str) and own.strip() else counts
    summary += _others(run)
    outputs = {name: value for name, value in given.items() if _fits(value)}
    data: dict[str, JsonValue] = {"hosts": {host: dict(counts) for host, counts in run.hosts.items()}}
    found = {"hosts_left_out": run.left_out, "hosts_gone": run.gone}
    data |= {name: {"count": some.count, "names": list(some.names)} for name, some in found.items() if some.count}
    if too_large := sorted(set(given) - set(outputs)):
        data["outputs_too_large"] = list(too_large)
    left = {kind: names for kind, names in run.left.items() if names}
    data |= _kept(run, left)
    if dry_run:
        data["diff"] = clip("\n\n".join(run.diffs), MAX_DIFFS)
        summary = f"dry run, nothing was changed: {counts.replace('changed', 'would change')}{_others(run)}"
    return Outcome(summary=summary, changed=changed > 0, outputs=outputs, data=data, in_part=in_part(left))


def _places(ends: Sequence[TaskEnd]) -> list[str]:
    """Return tasks, each with its hosts: `Back up on web1 and web2`."""
    hosts: dict[str, set[str]] = {}
    for end in ends:
        hosts.setdefault(end.task, set()).add(end.host)
    return [f"{task} on {' and '.join(sorted(found))}" for task, found in hosts.items()]


def _kept(run: PlaybookRun, left: Mapping[Left, Sequence[str]]) -> dict[str, JsonValue]:
    """Return what is kept of what tasks said and of what was left undone, where there is any."""
    kept: dict[str, JsonValue] = {"said": list(run.said)} if run.said else {}
    if run.unsaid:
        kept["unsaid"] = run.unsaid
    if left:
        kept["left"] = {kind: {"count": len(names), "names": list(names[:MAX_NAMES])} for kind, names in left.items()}
    return kept


def _counts(run: PlaybookRun) -> str:
    """Return the counts that are always told, and those of the rest that are not zero."""
    always = {"ok": "ok", "changed": "changed", "failures": "failed"}
    told = [f"{words} {run.total(count)}" for count, words in always.items()]
    more = ("unreachable", "ignored", "rescued")
    return ", ".join([*told, *(f"{count} {run.total(count)}" for count in more if run.total(count))])


def _others(run: PlaybookRun) -> str:
    """Return what is to be said of hosts that differ from those that were approved."""
    parts = [("not touched, because the plan does not name them", run.left_out), ("not there any more", run.gone)]
    return "".join(f"; {words}: {some.words}" for words, some in parts if some.count)


def _named(event: Mapping[str, Any]) -> Named:
    names = tuple(clip(one_line(str(name)), MAX_NAME) for name in event["names"][:MAX_NAMES])
    return Named(names, max(len(names), int(event["count"])))


def _failure(run: PlaybookRun, end: TaskEnd, *, dry_run: bool) -> str:
    others = len({bad.host for bad in [*run.failures, *run.away]} - {end.host})
    where = end.host + (f" (and {others} more)" if others else "")
    words = "Nothing was changed; it would have changed before that" if dry_run else "Changed before that"
    before = f" {words}: {run.changed_tasks} tasks." if run.changed_tasks else ""
    left_out = f" Not touched, because the plan does not name them: {run.left_out.words}." if run.left_out.count else ""
    return f'"{end.task}" failed on {where}: {_shortened(end)}{before}{left_out}'


def _shortened(end: TaskEnd) -> str:
    if end.hidden:
        return "its result is hidden (no_log)."
    return clip(one_line(end.message) or "it gave no reason.", MAX_MESSAGE)


def _fits(value: JsonValue) -> bool:
    return len(json.dumps(value)) <= MAX_OUTPUT


def _hosts(event: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    hosts = event.get("hosts")
    return list(hosts.items()) if isinstance(hosts, dict) else []
