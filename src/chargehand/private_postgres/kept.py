"""The copy of the binaries beside the data.

A server on a copy survives the upgrade or removal of the environment it came from, root's server has a user that can
run it although the environment lies below a 0700 /root, and data of an old major version can still be read when the
wheel has moved on.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from chargehand.private_postgres.binaries import NEEDED, Binaries

# For compiling against PostgreSQL, never for running it; half of the wheel's files.
LEFT_OUT = shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig", "ecpg")


def keep(binaries: Binaries, dist: Path) -> Binaries:
    """Return the copy of `binaries` below `dist`, made now if there is none. The system's are used in place."""
    if binaries.base is None:
        return binaries
    copy = dist / f"pg{binaries.major}" / binaries.provider.replace(" ", "-")
    if not copy.is_dir():
        _copy(binaries.base, binaries.parts, copy)
    return replace(binaries, directory=copy / binaries.directory.relative_to(binaries.base), base=None, parts=())


def kept(dist: Path, major: int) -> Iterator[Binaries]:
    """Yield the copies of one major version."""
    for postgres in sorted(dist.glob(f"pg{major}/[!.]*/*/*/bin/postgres")):
        if all((postgres.parent / name).is_file() for name in NEEDED):
            yield Binaries(postgres.parent, major, f"kept copy {postgres.parents[3].name}")


def prune(dist: Path, used: Binaries) -> None:
    """Remove copies of the same major version that the server no longer runs on, and unfinished ones."""
    for copy in (dist / f"pg{used.major}").glob("*"):
        if not used.directory.is_relative_to(copy):
            shutil.rmtree(copy, ignore_errors=True)


def _copy(base: Path, parts: tuple[str, ...], copy: Path) -> None:
    for parent in (copy.parent.parent, copy.parent):
        parent.mkdir(exist_ok=True)
        parent.chmod(0o755)
    unfinished = Path(tempfile.mkdtemp(prefix=".", dir=copy.parent))
    for part in parts:
        _copy_tree(base / part, unfinished / part)
    for directory, _, _ in os.walk(unfinished):
        Path(directory).chmod(0o755)  # the server's user has to pass, whatever our umask is
    unfinished.rename(copy)


def _copy_tree(source: Path, target: Path) -> None:
    """Like shutil.copytree, which hides the errno of a full disk."""
    for directory, subdirectories, files in os.walk(source):
        skipped = LEFT_OUT(directory, [*subdirectories, *files])
        subdirectories[:] = [name for name in subdirectories if name not in skipped]
        into = target / Path(directory).relative_to(source)
        into.mkdir(parents=True)
        for name in files:
            if name not in skipped:
                _link_or_copy(os.path.join(directory, name), into / name)


def _link_or_copy(source: str, target: Path) -> None:
    """Link, which costs no space, if everybody may read the file; a file that only we may read needs another mode."""
    mode = os.stat(source).st_mode
    if mode & 0o004:
        try:
            os.link(source, target)
        except OSError:  # another file system, or a kernel that lets nobody link to files of others
            pass
        else:
            return
    shutil.copyfile(source, target)
    target.chmod(0o755 if mode & 0o100 else 0o644)
