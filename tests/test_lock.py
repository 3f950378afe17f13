"""The lock files install the same wheels everywhere, from whatever index the machine's own pip or uv is set up for."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-litellm.lock", "requirements-dev.lock")
EXTRAS = {
    "postgres": LOCKS,
    "words": LOCKS,
    "embed": LOCKS,
    "ansible": LOCKS,
    "rabbitmq": LOCKS,
    "litellm": LOCKS[1:],
    "gpu": (),  # only where there is such a card; nothing of ours is tested with it
}
"""Every extra, and the lock files that have it."""
PIN = re.compile(r"^(?P<name>[a-z0-9.-]+)==(?P<version>[^ ;\\]+)", re.MULTILINE)

# In pieces, so that this file passes its own test.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("deb", "debian", "org"),
        ("golang", "org"),
        ("crates", "io"),
        ("rubygems", "org"),
        ("anaconda", "org"),
    )
]


def pins(lock: str) -> dict[str, set[Version]]:
    """Return the versions of each package: more than one where the newest differs by version of Python."""
    found: dict[str, set[Version]] = {}
    for match in PIN.finditer((ROOT / lock).read_text()):
        found.setdefault(match["name"], set()).add(Version(match["version"]))
    return found


def direct(lock: str) -> list[Requirement]:
    """Return what pyproject.toml asks for by itself and in the extras and groups of a lock file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    lines = project["project"]["dependencies"] + [line for extra in extras_of(lock) for line in extras[extra]]
    return [Requirement(line) for line in lines + (project["dependency-groups"]["dev"] if lock == LOCKS[2] else [])]


def extras_of(lock: str) -> list[str]:
    return [extra for extra, locks in EXTRAS.items() if lock in locks]


def test_every_extra_is_in_its_lock_files_or_said_to_be_in_none() -> None:
    assert (
        EXTRAS.keys() == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
    )
    [command] = re.findall(r'^lock="(.+?)"$', (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL)
    assert re.findall(r"--extra (\w+)", command) == extras_of(LOCKS[0])


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_names_no_host_and_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.findall(
        r"^\s*(?:-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)\b", text, re.MULTILINE
    )
    assert " @ " not in text


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_file_is_a_pin_with_hashes(lock: str) -> None:
    entries = re.split(r"(?<!\\)\n", (ROOT / lock).read_text().strip())
    wrong = [e.split()[0] for e in entries if not (PIN.match(e) and re.search(r"--hash=sha256:[0-9a-f]{64}\b", e))]
    assert not wrong


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_fits_what_the_project_asks_for(lock: str) -> None:
    locked = pins(lock)
    stale = [
        str(wanted)
        for wanted in direct(lock)
        if not any(
            v in wanted.specifier for v in locked.get(wanted.name.lower().replace("_", "-").replace(".", "-"), ())
        )
    ]
    assert not stale, "lock again: CONTRIBUTING.md says how"


def test_each_lock_file_comes_on_top_of_the_same_versions() -> None:
    core, litellm, dev = map(pins, LOCKS)
    assert {name: litellm.get(name) for name in core} == core
    assert {name: dev.get(name) for name in litellm} == litellm


def test_litellm_is_one_exact_version_and_never_its_partly_proprietary_extra() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["litellm"]
    assert wanted == ["litellm==1.106.2"]
    assert "litellm" not in pins(LOCKS[0])
    assert not [name for lock in LOCKS for name in pins(lock) if name.startswith("litellm-")]


def test_no_tracked_file_names_a_package_registry_host() -> None:
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "ls-files", "-z"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip(f"not a git clone: {listed.stderr.strip()}")
    files = [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    naming = {
        f"{path.relative_to(ROOT)}: {host}"
        for path in files
        for host in REGISTRY_HOSTS
        if host in path.read_text(errors="replace").lower()
    }
    assert not naming
