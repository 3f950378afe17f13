"""A callback for Ansible: writes what happens as JSON lines to the file named in CHARGEHAND_EVENTS.

Runs inside `ansible-playbook`, never inside Chargehand. Nothing of a task with `no_log` is written but its name and
how it ended. Works with ansible-core 2.16 and later (`_result`, `_task` and `_host` exist in all of them).
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase  # type: ignore[import-untyped,import-not-found,unused-ignore]

DOCUMENTATION = """
    name: chargehand_events
    type: notification
    short_description: live events as JSON lines
    description: Writes one JSON object per event to the file or FIFO named in CHARGEHAND_EVENTS.
"""

MAX_TEXT = 2_000  # of a message; the end of a long one rarely says more
MAX_HOSTS = 20  # that are named; the others are counted
NO_VALUES = frozenset({"changed", "failed", "msg", "skipped", "ansible_loop_var", "item"})  # of what `debug` returns
MAX_DIFF = 20_000  # of one task; events must stay small enough for one message together


class CallbackModule(CallbackBase):  # type: ignore[misc,unused-ignore]
    """One JSON object per event; `event` says which."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "chargehand_events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        path = os.environ.get("CHARGEHAND_EVENTS")
        self.disabled = path is None
        self.out = open(path, "a", encoding="utf-8") if path else None  # noqa: SIM115 - open as long as Ansible is
        self.started: dict[str, float] = {}
        self.approved = hosts_in(os.environ.get("CHARGEHAND_HOSTS"))
        self.matched: set[str] = set()  # by a play so far, limited or not

    def send(self, event: str, **values: Any) -> None:
        if self.out is None:
            return
        line = json.dumps({"event": event, **values}, default=str) + "\n"
        fcntl.flock(self.out, fcntl.LOCK_EX)  # the workers of Ansible write into it, too: see `launch.py`
        try:
            self.out.write(line)
            self.out.flush()
        finally:
            fcntl.flock(self.out, fcntl.LOCK_UN)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self.send("play", name=play.get_name())
        self.note_hosts(play)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self.started[task._uuid] = time.monotonic()
        self.send("start", task=task.get_name())

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self.v2_playbook_on_task_start(task, False)

    def v2_playbook_on_no_hosts_matched(self) -> None:
        self.send("no_hosts")

    def v2_runner_on_ok(self, result: Any) -> None:
        self.ended("changed" if result._result.get("changed") else "ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self.ended("ignored" if ignore_errors else "failed", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self.ended("skipped", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self.ended("unreachable", result)

    def note_hosts(self, play: Any) -> None:
        """Note what a play would match without the limit to the hosts that were approved."""
        try:
            inventory = play.get_variable_manager()._inventory
            found = inventory.get_hosts(play.hosts, ignore_limits=True, ignore_restrictions=True)
            self.matched |= {"localhost" if host.implicit else str(host.name) for host in found}
        except Exception as error:  # noqa: BLE001 - what is told must not stop what runs
            self.send("unsure", message=str(error))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        left_out, gone = sorted(self.matched - self.approved), sorted(self.approved - self.matched)
        self.send("left_out", names=left_out[:MAX_HOSTS], count=len(left_out))
        self.send("gone", names=gone[:MAX_HOSTS], count=len(gone))
        self.send("stats", hosts={host: stats.summarize(host) for host in sorted(stats.processed)})

    def v2_on_file_diff(self, result: Any) -> None:
        if hidden(result):
            return
        for item in result._result.get("results") or [result._result]:
            if isinstance(item, dict) and item.get("diff") and not item.get("_ansible_no_log"):
                text = self._get_diff(item["diff"]).strip("\n")
                if text:
                    self.send("diff", task=result._task.get_name(), host=result._host.get_name(), text=text[:MAX_DIFF])

    def ended(self, status: str, result: Any) -> None:
        task = result._task
        values: dict[str, Any] = {"task": task.get_name(), "host": result._host.get_name(), "status": status}
        values["seconds"] = round(time.monotonic() - self.started.get(task._uuid, time.monotonic()), 2)
        values["hidden"] = hidden(result)
        values["ignored"] = status == "unreachable" and bool(task.ignore_unreachable)
        if not values["hidden"]:
            values |= shown(result._result, status)
        self.send("end", **values)


def hosts_in(path: str | None) -> set[str]:
    if path is None:
        return set()
    with open(path, encoding="utf-8") as file:
        return set(json.load(file))


def hidden(result: Any) -> bool:
    """Return whether a result must not leave Ansible. A `no_log` that is not plainly false counts as set."""
    data = result._result
    return bool(data.get("censored") or data.get("_ansible_no_log") or result._task.no_log)


def shown(data: Any, status: str) -> dict[str, Any]:
    """Return what people and later tasks may see of a result."""
    stats = [custom for item in (data.get("results") or [data]) if (custom := stats_of(item))]
    values: dict[str, Any] = {"stats": stats} if stats else {}
    if status in ("failed", "ignored", "unreachable"):
        values["message"] = message_of(data)
    elif status in ("ok", "changed") and (said := said_of(data)):
        values |= {"said": said, "told": bool(data.get("_ansible_verbose_always"))}
    return values


def said_of(data: Any) -> str:
    """Return what a task that ended well has to say; of a loop, what its items say."""
    items = data["results"] if isinstance(data.get("results"), list) else [data]
    texts = (words_of(item) for item in items if isinstance(item, dict) and not item.get("_ansible_no_log"))
    return "\n".join(text for text in texts if text)[:MAX_TEXT]


def words_of(item: Any) -> str:
    """Return what a program printed, or what a module says; of `debug`, the message or the values that it shows."""
    for key in ("stdout", "stderr", "msg"):
        if item.get(key):
            return as_words(item[key])
    if not item.get("_ansible_verbose_always"):
        return ""
    shown = {key: value for key, value in item.items() if not key.startswith("_ansible") and key not in NO_VALUES}
    return "\n".join(f"{key}: {as_words(value)}" for key, value in shown.items())


def as_words(value: Any) -> str:
    return value.strip() if isinstance(value, str) else json.dumps(value, default=str)


def stats_of(item: Any) -> Any:
    if not isinstance(item, dict) or item.get("_ansible_no_log"):
        return None
    return item.get("ansible_stats")


def last_line(text: str) -> str:
    """Return the last line that says something: there programs tell why they end."""
    return [line.strip() for line in text.splitlines() if line.strip()][-1]


def message_of(data: Any) -> str:
    """Return the message, with what the program said where there was one; of a loop, the first item that failed."""
    for item in data.get("results") or []:
        if isinstance(item, dict) and item.get("failed") and not item.get("_ansible_no_log"):
            return message_of({key: value for key, value in item.items() if key != "results"})
    said = str(data.get("stderr") or data.get("module_stderr") or data.get("module_stdout") or "").strip()
    if data.get("rc") and (said := said or str(data.get("stdout") or "").strip()):
        return f"{last_line(said)} (exit code {data['rc']})\n{said}"[
            :MAX_TEXT
        ]  # what a program says, not that it failed
    parts = [str(data.get(key) or "").strip() for key in ("msg", "message")] + [said]
    return "\n".join(part for part in parts if part)[:MAX_TEXT]
