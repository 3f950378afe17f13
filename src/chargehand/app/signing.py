"""Writes and checks the manifest of a project, which its operator signs with `ssh-keygen`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chargehand.domain.errors import BadConfiguration

if TYPE_CHECKING:
    from chargehand.agents.infra.manifest import Manifest


def write_manifest(folder: Path) -> tuple[Path, int, str]:
    """Write the manifest of a project; return its file, how many files it holds, and the commands that sign it.

    Raises `BadConfiguration` for what cannot be vouched for.
    """
    from chargehand.agents.infra.manifest import SIGNATURE, SIGNED
    from chargehand.agents.infra.signatures import how_to_sign, text_of

    read = _read(folder)
    path, unfinished = read.base / SIGNED, read.base / f"{SIGNED}~"
    unfinished.write_text(text_of(read), encoding="utf-8")
    unfinished.replace(path)
    (read.base / SIGNATURE).unlink(missing_ok=True)  # it was for another one; ssh-keygen would ask before it overwrites
    return path, sum(what[0] in "fx" for what in read.entries.values()), how_to_sign(read.base)


def check_manifest(folder: Path, signers: Path | None) -> None:
    """Raise `BadConfiguration`, saying what differs, unless a project is signed by one of the signers."""
    from chargehand.agents.infra.signatures import Signers

    if signers is None:
        raise BadConfiguration("nobody is set whose signature counts", hint="Set CHARGEHAND_PROJECT_SIGNERS.")
    if problem := Signers(signers).problem(_read(folder)):
        words, _, how = problem.partition(": chargehand ")
        raise BadConfiguration(words, hint=f"chargehand {how}" if how else "")


def _read(folder: Path) -> Manifest:
    from chargehand.agents.infra.manifest import Tree

    try:
        return Tree(folder.resolve()).read()
    except OSError as error:
        raise BadConfiguration(f"{error.filename} cannot be read: {error.strerror}") from error
