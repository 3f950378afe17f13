"""What follows from what Ansible reported."""

import json
from typing import Any

import pytest

from chargehand.agents.infra.events import MAX_DECRYPTED, MAX_MESSAGE, MAX_SAID, PlaybookRun, conclude
from chargehand.agents.infra.partly import LEFT, Left, in_part
from chargehand.domain.errors import TaskFailed, TaskInterrupted

OK = {"ok": 5, "changed": 2, "failures": 0, "unreachable": 0, "skipped": 0, "rescued": 0, "ignored": 0}


def run_of(*events: dict[str, Any], hosts: dict[str, Any] | None = None) -> PlaybookRun:
    """A run that reported these events and, unless `hosts` is empty, its final counts."""
    run = PlaybookRun()
    hosts = {"localhost": OK} if hosts is None else hosts
    for event in (*events, {"event": "stats", "hosts": hosts}):
        run.take(json.dumps(event).encode())
    return run


BROKEN = {"localhost": OK | {"failures": 1}}


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
    run = run_of(end("changed"), end(message="port in use\nby nginx"), hosts=BROKEN)
    with pytest.raises(TaskFailed) as caught:
        conclude(run, 2, "", dry_run=False)
    assert str(caught.value).startswith('"Start it" failed on localhost: port in use | by nginx')
    assert "Changed before that: 1 tasks" in str(caught.value)


def test_a_long_reason_is_cut() -> None:
    with pytest.raises(TaskFailed) as caught:
        conclude(run_of(end(message="x" * 5_000), hosts=BROKEN), 2, "", dry_run=False)
    assert len(str(caught.value)) < MAX_MESSAGE + 100


def test_a_full_disk_stays_readable() -> None:
    with pytest.raises(TaskFailed, match=r"\[Errno 28\] No space left on device"):
        conclude(run_of(end(message="[Errno 28] No space left on device"), hosts=BROKEN), 2, "", dry_run=False)


def test_a_hidden_failure_stays_hidden() -> None:
    with pytest.raises(TaskFailed, match="no_log"):
        conclude(run_of(end(hidden=True), hosts=BROKEN), 2, "", dry_run=False)


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


NONE = dict.fromkeys(OK, 0)


def play(name: str) -> dict[str, Any]:
    return {"event": "play", "name": name}


def two(one: dict[str, int], other: dict[str, int]) -> dict[str, Any]:
    return {"web1": NONE | one, "web2": NONE | other}


@pytest.mark.parametrize("kind", LEFT)
def test_whatever_is_left_undone_is_named_and_counted(kind: Left) -> None:
    events: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
        "no_hosts": ([end("ok", host="web1"), play("Patch"), {"event": "no_hosts"}], two({"ok": 1}, {})),
        "unreachable": ([end("ok", host="web1"), end("unreachable", host="web2")], two({"ok": 1}, {"unreachable": 1})),
        "failed": ([end("failed", host="web1"), end("ok", host="web1")], two({"ok": 1, "failures": 1}, {})),
        "ignored": ([end("ignored", host="web1")], two({"ok": 1, "ignored": 1}, {})),
        "rescued": ([end("failed", host="web1")], two({"ok": 1, "rescued": 1}, {})),
    }
    said, hosts = events[kind]
    outcome = conclude(run_of(*said, hosts=hosts), 4 if kind == "unreachable" else 0, "", dry_run=False)
    assert outcome.in_part.startswith(LEFT[kind])
    assert list(outcome.data["left"]) == [kind]  # type: ignore[arg-type]


def test_a_kind_of_what_is_left_that_has_no_row_is_an_error() -> None:
    with pytest.raises(KeyError, match="forgotten"):
        in_part({"forgotten": ["x"]})  # type: ignore[dict-item]


def test_nothing_reached_is_nothing_done_even_where_that_is_ignored() -> None:
    away = end("unreachable", host="web1", ignored=True, message="no route")
    with pytest.raises(TaskInterrupted, match="web1 cannot be reached"):
        conclude(run_of(away, hosts={"web1": NONE | {"ok": 1, "ignored": 1}}), 0, "", dry_run=False)


def test_a_rescued_failure_is_not_told_as_the_cause_of_a_later_one() -> None:
    ends = [end(task="Old way", host="web1", message="harmless"), end(task="Start", host="web1", message="broken")]
    with pytest.raises(TaskFailed, match=r'^"Start" failed on web1: broken'):
        conclude(run_of(*ends, hosts=two({"rescued": 1, "failures": 1}, {})), 2, "", dry_run=False)
    late = [end(task="Start", host="web1", message="broken"), end(task="Old way", host="web2", message="harmless")]
    with pytest.raises(TaskFailed, match=r'^"Start" failed on web1: broken'):
        conclude(run_of(*late, hosts=two({"failures": 1}, {"rescued": 1})), 2, "", dry_run=False)


def test_what_tasks_say_is_kept_as_far_as_there_is_room() -> None:
    run = run_of(*(end("ok", said="x" * 2_000) for _ in range(100)), end("ok", said="password: plain"))
    outcome = conclude(run, 0, "", dry_run=False)
    assert len(json.dumps(outcome.data["said"])) < MAX_SAID * 2
    assert outcome.data["unsaid"] == 100 - len(outcome.data["said"]) + 1  # type: ignore[arg-type]
    assert "plain" not in json.dumps(outcome.data)


def test_what_is_decrypted_is_hidden_and_too_much_of_it_silences_the_tasks() -> None:
    decrypted = [{"event": "vault", "text": f"value {number:03}"} for number in range(MAX_DECRYPTED)]
    told = stats(summary="with value 001", url="http://value 002/")
    run = run_of(*decrypted, *decrypted, {"event": "vault", "text": "a"}, end("ok", said="has value 000"), told)
    outcome = conclude(run, 0, "", dry_run=False)
    assert outcome.data["said"][0]["text"] == "has [secret ansible-vault]"  # type: ignore[index,call-overload]
    assert outcome.summary.startswith("with [secret ansible-vault] (")
    assert outcome.outputs["url"] == "http://[secret ansible-vault]/"
    much = run_of(*decrypted, {"event": "vault", "text": "one more"}, end("ok", said="anything"))
    assert (much.said, much.unsaid) == ([], 1)


def test_a_vault_value_in_the_name_of_a_task_is_hidden_too() -> None:
    run = run_of({"event": "vault", "text": "hunter2"}, end(task="Log in with hunter2"), hosts=BROKEN)
    with pytest.raises(TaskFailed, match=r"Log in with \[secret ansible-vault\]"):
        conclude(run, 2, "", dry_run=False)
