"""`./run` by itself: an empty lock file and a program that repeats its arguments, so that no network is needed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEMO = "Deploy the status page and add our existing portals to its config"
PROGRAM = """
import os, sys
print(*sys.argv[1:], sep="|")
sys.exit(int(os.environ.get("EXIT", "0")))
"""
# Stands for uv where a test must hold an installation up, or must not spend seconds on one.
SLOW_UV = f"""#!/bin/sh
case $1 in
    --version) ;;
    venv) for env; do :; done; exec "{sys.executable}" -m venv --without-pip "$env" ;;
    pip) if [ -e "$HOLD" ]; then touch "$HOLD.reached"; sleep 60; fi ;;
esac
"""
NEEDED = "cat cksum date dirname flock id mkdir mv perl readlink rm sed sh sleep tail touch"


class Clone:
    """A clone of the script, with tools of its own on the PATH."""

    def __init__(self, place: Path) -> None:
        self.path = place / "a clone"
        self.tools = place / "tools"
        self.hold = place / "hold"
        (self.path / "src/chargehand").mkdir(parents=True)
        (self.path / "src/chargehand/__init__.py").touch()
        (self.path / "src/chargehand/__main__.py").write_text(PROGRAM)
        shutil.copy(ROOT / "run", self.path)
        (self.path / "requirements.lock").touch()
        self.tools.mkdir()
        for tool in NEEDED.split():
            if found := shutil.which(tool):
                (self.tools / tool).symlink_to(found)

    def with_uv(self) -> "Clone":
        (self.tools / "uv").write_text(SLOW_UV)
        (self.tools / "uv").chmod(0o755)
        return self

    def with_python(self) -> "Clone":
        (self.tools / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (self.tools / "python3").chmod(0o755)
        return self

    def start(self, *arguments: str, script: Path | None = None, **more: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [script or self.path / "run", *arguments],
            cwd=self.path.parent,
            env={"PATH": str(self.tools), "HOME": str(self.path.parent), "HOLD": str(self.hold), **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, script: Path | None = None, **more: str) -> tuple[int, str, str]:
        process = self.start(*arguments, script=script, **more)
        out, err = process.communicate(timeout=60)
        return process.returncode, out.strip(), err.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path).with_uv()


def test_the_first_call_says_one_line_and_the_second_none(clone: Clone) -> None:
    code, out, err = clone.run("status", EXIT="3")
    assert (code, out) == (3, "status")
    assert err.startswith("first run: preparing a private environment")
    assert len(err.splitlines()) == 1
    (clone.tools / "uv").unlink()  # nothing is looked for again
    assert clone.run("status") == (0, "status", "")


def test_demo_has_a_sentence_of_its_own_and_takes_one(clone: Clone) -> None:
    clone.run("status")
    for given, passed in {
        (): DEMO,
        ("--yes",): f"{DEMO}|--yes",
        ("--yes", "restart the web server"): "--yes|restart the web server",
        ("restart the web server", "--yes"): "restart the web server|--yes",
        ("--dry-run", "restart"): "--dry-run|restart",
        ("--key", "monday"): f"{DEMO}|--key|monday",
        ("",): "",
    }.items():
        assert clone.run("demo", *given)[1] == f"run|{passed}", given


def test_settings_of_another_python_do_not_reach_ours(clone: Clone) -> None:
    clone.run("status")
    told = clone.path.parent / "told"
    script = clone.path / ".chargehand-env"
    (python,) = script.glob("[0-9]*/bin/python")
    python.unlink()  # a link to the system's
    python.write_text(f'#!/bin/sh\necho "${{PYTHONHOME-unset}} ${{PYTHONPATH-unset}}" > {told}\n')
    python.chmod(0o755)
    clone.run("status", PYTHONHOME="/nowhere", PYTHONPATH="/nowhere/either")
    assert told.read_text() == "unset unset\n"


def test_it_is_found_through_links_and_ignores_modules_of_the_current_directory(clone: Clone) -> None:
    (clone.path.parent / "chargehand.py").write_text("raise SystemExit('the wrong module')")
    link = clone.path.parent / "link"
    link.symlink_to("a clone/run")
    second = clone.path.parent / "second link"
    second.symlink_to(link)
    assert clone.run("status", script=second)[:2] == (0, "status")


def test_a_moved_clone_and_a_changed_lock_get_a_new_environment(clone: Clone) -> None:
    clone.run("status")
    clone.path = clone.path.rename(clone.path.with_name("moved"))
    assert "first run" in clone.run("status")[2]
    (clone.path / "requirements.lock").write_text("# changed\n")
    assert "first run" in clone.run("status")[2]
    assert len(list((clone.path / ".chargehand-env").glob("[0-9]*"))) == 1


def test_an_installation_that_was_killed_is_repaired_by_the_next_run(clone: Clone) -> None:
    clone.hold.touch()
    process = clone.start("status")
    give_up = time.monotonic() + 30
    while not clone.hold.with_name("hold.reached").exists() and time.monotonic() < give_up:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    clone.hold.unlink()
    code, out, err = clone.run("status")
    assert (code, out) == (0, "status")
    assert "done in" in err


def test_two_first_runs_at_once_install_once(clone: Clone) -> None:
    processes = [clone.start("status") for _ in range(2)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "".join(errors).count("first run") == 1


def test_without_python_one_line_says_what_to_install(tmp_path: Path) -> None:
    code, _, err = Clone(tmp_path).run("status")
    assert code == 5
    assert "it needs Python 3.11 to 3.14 with venv" in err
    assert "Traceback" not in err


def test_packages_that_cannot_be_had_end_with_the_reason_and_the_log(tmp_path: Path) -> None:
    clone = Clone(tmp_path).with_python()
    (clone.path / "requirements.lock").write_text(f"no-such-package==1 --hash=sha256:{'0' * 64}\n")
    code, _, err = clone.run("status", PIP_NO_INDEX="1")
    assert code == 5
    assert "No matching distribution found for no-such-package==1" in err
    assert "Check network, proxy and disk space" in err
    assert str(clone.path / ".chargehand-env" / "install.log") in err
