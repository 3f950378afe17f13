"""`add_configuration` on real files."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chargehand.agent import Outcome, TaskFailed, TaskInterrupted
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
