"""What follows from what Ansible reported."""

import json
from typing import Any

import pytest

from chargehand.agents.infra.events import MAX_MESSAGE, PlaybookRun, conclude
from chargehand.domain.errors import TaskFailed, TaskInterrupted

OK = {"ok": 5, "changed": 2, "failures": 0, "unreachable": 0, "skipped": 0, "rescued": 0, "ignored": 0}


def run_of(*events: dict[str, Any], hosts: dict[str, Any] | None = None) -> PlaybookRun:
    """A run that reported these events and, unless `hosts` is empty, its final counts."""
    run = PlaybookRun()
    hosts = {"localhost": OK} if hosts is None else hosts
    for event in (*events, {"event": "stats", "hosts": hosts}):
        run.take(json.dumps(event).encode())
    return run


def end(status: str = "failed", **fields: Any) -> dict[str, Any]:
    return {"event": "end", "task": "Start it", "host": "localhost", "status": status, "seconds": 1, **fields}


def stats(aggregate: bool = True, **data: Any) -> dict[str, Any]:
    return end("ok", stats=[{"data": data, "per_host": False, "aggregate": aggregate}])


def test_a_good_run_says_what_changed_and_hands_its_values_on() -> None:
    outcome = conclude(run_of(stats(summary="The page is up", url="http://x/")), 0, "", dry_run=False)
    assert outcome.summary == "The page is up (ok 5, changed 2, failed 0)"
    assert outcome.changed is True
    assert outcome.outputs == {"summary": "The page is up", "url": "http://x/"}
    assert outcome.data == {"hosts": {"localhost": OK}}


def test_a_run_that_changed_nothing_says_so() -> None:
    assert conclude(run_of(hosts={"localhost": OK | {"changed": 0}}), 0, "", dry_run=False).changed is False


def test_a_dry_run_shows_its_diffs_without_secrets() -> None:
    diff = {"event": "diff", "task": "t", "host": "h", "text": "+port: 1\n+password: hunter2"}
    outcome = conclude(run_of(diff), 0, "", dry_run=True)
    assert outcome.data["diff"] == "+port: 1\n+password: ***"
    assert outcome.summary.startswith("dry run, nothing was changed")


def test_numbers_and_lists_add_up_as_in_ansible_and_texts_replace() -> None:
    run = run_of(stats(n=1, l=[1], d={"a": 1}, t="x"), stats(n=2, l=[2], d={"b": 2}, t="y"), stats(False, l=[3]))
    assert run.outputs == {"n": 3, "l": [3], "d": {"a": 1, "b": 2}, "t": "y"}


def test_a_failure_names_task_host_and_reason() -> None:
    run = run_of(end("changed"), end(message="port in use\nby nginx"))
    with pytest.raises(TaskFailed) as caught:
        conclude(run, 2, "", dry_run=False)
    assert str(caught.value).startswith('"Start it" failed on localhost: port in use | by nginx')
    assert "Changed before that: 1 tasks" in str(caught.value)


def test_a_long_reason_is_cut() -> None:
    with pytest.raises(TaskFailed) as caught:
        conclude(run_of(end(message="x" * 5_000)), 2, "", dry_run=False)
    assert len(str(caught.value)) < MAX_MESSAGE + 100


def test_a_full_disk_stays_readable() -> None:
    with pytest.raises(TaskFailed, match=r"\[Errno 28\] No space left on device"):
        conclude(run_of(end(message="[Errno 28] No space left on device")), 2, "", dry_run=False)


def test_a_hidden_failure_stays_hidden() -> None:
    with pytest.raises(TaskFailed, match="no_log"):
        conclude(run_of(end(hidden=True)), 2, "", dry_run=False)


def test_unreachable_hosts_may_come_back() -> None:
    with pytest.raises(TaskInterrupted, match="web1 cannot be reached: no route"):
        conclude(run_of(end("unreachable", host="web1", message="no route")), 4, "", dry_run=False)


def test_exit_code_4_without_an_unreachable_host_is_a_broken_playbook() -> None:
    with pytest.raises(TaskFailed, match=r"exit code 4: .*conflicting action"):
        conclude(PlaybookRun(), 4, "[ERROR]: conflicting action statements", dry_run=False)


def test_a_failure_that_was_rescued_is_none() -> None:
    assert conclude(run_of(end()), 0, "", dry_run=False).changed is True


def test_nobody_to_work_on_is_a_failure_not_a_success() -> None:
    with pytest.raises(TaskFailed, match="no host"):
        conclude(run_of({"event": "no_hosts"}, hosts={}), 0, "", dry_run=False)


def test_silence_is_not_success() -> None:
    with pytest.raises(TaskFailed, match="exit code 0"):
        conclude(PlaybookRun(), 0, "", dry_run=False)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"\xff", b'{"event": 3}', b'{"event": "new"}'])
def test_garbage_between_events_is_skipped(line: bytes) -> None:
    assert PlaybookRun().take(line) is None


def test_values_too_large_for_a_message_are_left_out_by_name() -> None:
    outcome = conclude(run_of(stats(big="x" * 20_000, small=1)), 0, "", dry_run=False)
    assert outcome.outputs == {"small": 1}
    assert outcome.data["outputs_too_large"] == ["big"]
