"""Known vulnerabilities of what the lock files pin, from a list that is checked in: works without a network.

    python .ci/advisories.py              exits 1 and names each pin that an advisory covers
    python .ci/advisories.py refresh DIR  makes the list anew from a clone of the Python advisory database

The list (`advisories.json`) holds the advisories of the packages in the lock files, and the date and commit of the
database. The database is the Python Packaging Advisory Database (CC BY 4.0). What a clone of it lacks is kept by hand
under `added`, which has a date of its own. An advisory that does not concern us is under `accepted`, with the reason.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_name("advisories.json")
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)", re.MULTILINE)
STALE = 90  # days; an older list is told of, and fails nothing: without a network nobody could mend that
DIGITS = 12


def main(arguments: Sequence[str]) -> int:
    """Check the lock files, or refresh the list."""
    if arguments[:1] == ["refresh"]:
        known = json.loads(LIST.read_text())
        LIST.write_text(written(known | refreshed(Path(arguments[1]), packages())))
        return 0
    known = json.loads(LIST.read_text())
    found = list(findings(known, {lock.name: lock.read_text() for lock in locks()}))
    for line in found:
        print(line)
    newest = max(known["as_of"], known["added_as_of"])
    age = (datetime.now(UTC).date() - date.fromisoformat(newest)).days
    listed = len(known["packages"].keys() | known["added"].keys())
    dates = f"{known['as_of']}, some of {known['added_as_of']}"
    told = f"advisories of {dates}, for {listed} packages: {len(found)} pins concerned"
    print(told + (f"; the list is {age} days old (CONTRIBUTING.md says how to refresh it)" if age > STALE else ""))
    return 1 if found else 0


def written(known: Mapping[str, Any]) -> str:
    """Return the list as its file has it: an advisory a line, so that a refresh can be read as a difference."""
    lines = [f' "{key}": {json.dumps(known[key])}' for key in ("as_of", "commit", "added_as_of", "accepted")]
    for key in ("added", "packages"):
        found = [
            f'  "{name}": [\n   ' + ",\n   ".join(map(json.dumps, each)) + "\n  ]"
            for name, each in sorted(known[key].items())
        ]
        lines.append(f' "{key}": {{\n' + ",\n".join(found) + "\n }")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def locks() -> list[Path]:
    """Return the lock files."""
    return sorted(ROOT.glob("requirements*.lock"))


def pins(text: str) -> set[tuple[str, str]]:
    """Return the packages of a lock file with their versions."""
    return {(normal(match["name"]), match["version"]) for match in PIN.finditer(text)}


def packages() -> set[str]:
    """Return the names of all packages that a lock file pins."""
    return {name for lock in locks() for name, _ in pins(lock.read_text())}


def normal(name: str) -> str:
    """Return a package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def findings(known: Mapping[str, Any], texts: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each pin that an advisory covers which nobody has accepted."""
    for lock, text in sorted(texts.items()):
        for name, version in sorted(pins(text)):
            for advisory in [*known["packages"].get(name, ()), *known["added"].get(name, ())]:
                names = {advisory["id"], *advisory["aliases"]}
                if covers(advisory, version) and not names & known["accepted"].keys():
                    fixed = ", ".join(end for _, end in advisory["ranges"] if end) or "no version"
                    yield f"{lock}: {name} {version} has {'/'.join(sorted(names))}, fixed in {fixed}"


def covers(advisory: Mapping[str, Any], version: str) -> bool:
    """Return whether an advisory covers a version: one of its ranges `[introduced, fixed)`, or a version it lists."""
    if version in advisory["versions"]:
        return True
    at = Version(version)
    return any(Version(start) <= at and (not end or at < Version(end)) for start, end in advisory["ranges"])


def refreshed(clone: Path, wanted: set[str]) -> dict[str, Any]:
    """Return date, commit and the advisories of these packages, from a clone of the database."""
    git = ["git", "-C", str(clone)]
    commit, when = _said(*git, "log", "-1", "--format=%H %cs").split()
    listed = _said(*git, "ls-tree", "-r", "--name-only", "HEAD", "vulns").splitlines()
    files = [name for name in listed if name.endswith((".yaml", ".yml"))]
    found: dict[str, list[dict[str, Any]]] = {}
    for name in sorted(file for file in files if normal(file.split("/")[1]) in wanted):
        text = _said(*git, "show", f"HEAD:{name}")
        for package, advisory in read(text):
            found.setdefault(package, []).append(advisory)
    return {"as_of": when, "commit": commit[:DIGITS], "packages": found}


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def read(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (package, advisory) of one file of the database; one that was withdrawn yields nothing."""
    import yaml

    told = yaml.safe_load(text)
    if told.get("withdrawn"):
        return
    for affected in told.get("affected", ()):
        spans = [span for each in affected.get("ranges", ()) if each["type"] == "ECOSYSTEM" for span in ranges(each)]
        versions = [] if spans else [str(version) for version in affected.get("versions", ())]
        aliases = sorted(told.get("aliases", ()))
        advisory = {"id": told["id"], "aliases": aliases, "ranges": spans, "versions": versions}
        yield normal(affected["package"]["name"]), advisory


def ranges(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the ranges `[introduced, fixed)`; an empty second half is a range without end."""
    start = ""
    for event in told["events"]:
        if "introduced" in event:
            start = plain(event["introduced"])
        elif "fixed" in event:
            yield start, plain(event["fixed"])
            start = ""
    if start:
        yield start, ""


def plain(version: object) -> str:
    """Return a version that can be compared; what is none covers everything from 0 on."""
    try:
        return str(Version(str(version)))
    except InvalidVersion:
        return "0"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
