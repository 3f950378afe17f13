"""`add_configuration` on real files."""

import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chargehand.agent import Outcome, TaskFailed, TaskInterrupted
from chargehand.agents.infra import beneath
from chargehand.agents.infra.configure import add_configuration, change_file
from chargehand.domain.errors import DiskFull
from tests.integration.infra_work import make_work


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "etc" / "page.yml"
    path.parent.mkdir()
    path.write_text("# ours\nport: 1\npassword: hunter2\n")
    path.chmod(0o640)
    return path


def add(path: Path | str, root: Path, *, dry_run: bool = False, **parameters: Any) -> Outcome:
    values = {"file": str(path), "values": {"port": 2}} | parameters
    return change_file(values, [root / "etc"], dry_run=dry_run)


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def test_configuration_is_merged_with_backup_and_diff(config: Path, tmp_path: Path) -> None:
    outcome = add(config, tmp_path)
    assert config.read_text() == "# ours\nport: 2\npassword: hunter2\n"
    assert config.stat().st_mode & 0o777 == 0o640
    backup = Path(str(outcome.outputs["backup"]))
    assert backup.read_text() == "# ours\nport: 1\npassword: hunter2\n"
    assert backup.parent == config.parent
    assert backup.name.startswith("page.yml.2")
    assert backup.name.endswith("Z.bak")
    assert outcome.changed is True
    diff = str(outcome.data["diff"])
    assert "-port: 1\n+port: 2" in diff
    assert "hunter2" not in diff


def test_the_same_values_again_leave_the_file_alone(config: Path, tmp_path: Path) -> None:
    add(config, tmp_path)
    before = (config.stat().st_mtime_ns, config.stat().st_ino, names(config))
    outcome = add("page.yml", tmp_path)  # below a root
    assert outcome.changed is False
    assert (config.stat().st_mtime_ns, config.stat().st_ino, names(config)) == before


def test_a_dry_run_gives_only_the_diff(config: Path, tmp_path: Path) -> None:
    outcome = add(config, tmp_path, dry_run=True)
    assert "+port: 2" in str(outcome.data["diff"])
    assert names(config) == ["page.yml"]
    assert "port: 1" in config.read_text()


def test_a_new_file_is_created(config: Path, tmp_path: Path) -> None:
    outcome = add(config.with_name("new.json"), tmp_path)
    assert config.with_name("new.json").read_text() == '{\n  "port": 2\n}\n'
    assert outcome.outputs["backup"] is None


def test_a_link_inside_is_followed_and_stays_a_link(config: Path, tmp_path: Path) -> None:
    link = config.with_name("link.yml")
    link.symlink_to("page.yml")
    add(link, tmp_path)
    assert link.is_symlink()
    assert "port: 2" in config.read_text()


def escape_by_link(config: Path, tmp_path: Path) -> Path:
    (tmp_path / "secret.yml").write_text("port: 1\n")
    config.with_name("link.yml").symlink_to(tmp_path / "secret.yml")
    return config.with_name("link.yml")


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        (lambda config, _: config.parent / ".." / "secret.yml", "not below"),
        (lambda config, _: "../secret.yml", "not below"),
        (escape_by_link, "not below"),
        (lambda config, _: config.parent / "no" / "page.yml", "does not exist"),
        (lambda config, _: config.parent, "not a regular file|cannot tell"),
        (lambda config, _: config.with_name("page.txt"), "cannot tell the format"),
        (lambda config, _: "a\0b", "zero byte"),
    ],
)
def test_what_may_not_be_edited_is_refused(
    config: Path, tmp_path: Path, where: Callable[[Path, Path], Path], reason: str
) -> None:
    with pytest.raises(TaskFailed, match=reason):
        add(where(config, tmp_path), tmp_path)
    assert not [name for name in names(config) if name.endswith((".bak", ".tmp"))]


def test_a_broken_file_is_left_as_it_is(config: Path, tmp_path: Path) -> None:
    config.write_text("a: [1\n")
    with pytest.raises(TaskFailed, match=r"page\.yml line 2"):
        add(config, tmp_path)
    assert names(config) == ["page.yml"]
    assert config.read_text() == "a: [1\n"


def test_a_full_disk_leaves_nothing_half_written(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull):
        add(config, tmp_path)
    assert names(config) == ["page.yml"]
    assert "port: 1" in config.read_text()


def test_a_file_edited_meanwhile_is_not_overwritten(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def edited(handle: int) -> None:
        config.write_text("port: 77\n")
        sync(handle)

    monkeypatch.setattr(os, "fsync", edited)
    with pytest.raises(TaskInterrupted, match="somebody else"):
        add(config, tmp_path)
    assert config.read_text() == "port: 77\n"
    assert names(config) == ["page.yml"]


async def test_an_attempt_of_the_agent_does_the_same(config: Path, tmp_path: Path) -> None:
    work = make_work(tmp_path, parameters={"file": "page.yml", "values": {"port": 3}}, dry_run=True)
    assert "+port: 3" in str((await add_configuration(work, [tmp_path / "etc"])).data["diff"])


def swapping(folder: Path, outside: Path, until: threading.Event) -> None:
    """Put a link in the place of a directory and back again, as fast as it goes."""
    aside = folder.with_name("aside")
    while not until.is_set():
        folder.rename(aside)
        folder.symlink_to(outside)
        folder.unlink()
        aside.rename(folder)


@pytest.mark.parametrize("openat2", [True, False])
def test_a_directory_that_is_swapped_for_a_link_leads_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, openat2: bool
) -> None:
    if not openat2:
        monkeypatch.setattr(beneath, "_by_openat2", lambda *_: None)
    folder, outside, stop = tmp_path / "etc" / "app", tmp_path / "outside", threading.Event()
    folder.mkdir(parents=True)
    outside.mkdir()
    attacker = threading.Thread(target=swapping, args=(folder, outside, stop))
    attacker.start()
    ended, until = Counter[str](), time.monotonic() + 1.5
    while time.monotonic() < until:
        try:
            add(folder / "page.yml", tmp_path, values={"port": sum(ended.values())})
            ended["written"] += 1
        except (TaskFailed, TaskInterrupted) as error:
            ended[type(error).__name__] += 1
    stop.set()
    attacker.join()
    assert not list(outside.iterdir())
    assert ended["TaskFailed"] + ended["TaskInterrupted"], "the race was never lost, so nothing was tried"


def test_a_link_on_the_way_is_refused_by_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for _ in range(2):
        with (
            pytest.raises(OSError, match=r"symbolic links|Not a directory"),
            beneath.folder_below(tmp_path, tmp_path / "link"),
        ):
            pass
        with beneath.folder_below(tmp_path, tmp_path / "real") as handle:
            assert beneath.is_still(handle, tmp_path, tmp_path / "real")
        monkeypatch.setattr(beneath, "_by_openat2", lambda *_: None)


async def test_a_new_file_with_a_secret_is_only_its_owners(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for name, password, mode in (("a.yml", "hunter2-long", 0o600), ("b.yml", "not a secret", 0o644)):
        work = make_work(tmp_path, parameters={"file": name, "values": {"password": password}})
        work.redactor.learn("db", "hunter2-long")
        await add_configuration(work, [tmp_path / "etc"])
        assert (tmp_path / "etc" / name).stat().st_mode & 0o777 == mode
