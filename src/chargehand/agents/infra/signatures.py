"""The signed manifest of a project: its files with their hashes, and the operator's signature of that.

The manifest is a file of lines, `["tasks/main.yml", "f 2cf2..."]`, signed by `ssh-keygen -Y sign`. Where signers are
set, nothing of a project runs whose manifest no one of them has signed, or whose files are not those of the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from chargehand.agents.infra.manifest import SIGNATURE, SIGNED, UNREADABLE, Manifest, UnfitContent, differences
from chargehand.agents.infra.workdir import write_private

NAMESPACE = "chargehand"  # a signature for something else is none for this
FIRST_LINE = '["chargehand manifest", "1"]'
MOST_BYTES = 20_000_000  # of a manifest; 50,000 files have 6 MB
MOST_OF_SIGNATURE = 20_000
LIMIT = 10.0  # seconds for ssh-keygen, which takes 10 ms
FRESH = 60.0  # seconds for which a signature is not checked again; keys expire
NAMED = 3  # files that differ from the manifest


def text_of(manifest: Manifest) -> str:
    """Return the manifest as text. Raises `UnfitContent` for files that cannot be read."""
    if unread := next((name for name, what in manifest.entries.items() if what == UNREADABLE), None):
        raise UnfitContent(f"{manifest.base / unread} cannot be read, so nobody can vouch for it")
    lines = [json.dumps(pair) for pair in sorted(manifest.entries.items())]
    return "\n".join([FIRST_LINE, *lines, ""])


def how_to_sign(root: Path) -> str:
    """Return the commands that sign a project."""
    file = shlex.quote(str(root / SIGNED))
    return f"chargehand agent manifest {shlex.quote(str(root))} && ssh-keygen -Y sign -n {NAMESPACE} -f KEY {file}"


Content = Callable[[Mapping[str, str]], Mapping[str, str]]
"""Takes the entries of a project, and returns those that must be as they were signed."""


class Signers:
    """Whose signature is asked for. `allowed` is a file of ALLOWED SIGNERS (see ssh-keygen(1)); None: nobody's."""

    def __init__(self, allowed: Path | None) -> None:
        self._allowed = allowed
        self._good: dict[str, float] = {}
        self._parsed: tuple[str, Mapping[str, str]] = ("", {})

    def problem(
        self, project: Manifest, content: Content = lambda entries: entries, *, fresh: bool = False
    ) -> str | None:
        """Return why nothing of a project may run, and how to mend it; None when all is signed.

        `content` leaves out what work may write; as it stands, nothing. `fresh`: check the signature whatever
        is remembered.
        """
        if self._allowed is None:
            return None
        try:
            text = _read(project.base / SIGNED, MOST_BYTES)
            signature = _read(project.base / SIGNATURE, MOST_OF_SIGNATURE)
        except OSError as error:
            return f"{project.base} has no signed manifest ({error.strerror}): {how_to_sign(project.base)}"
        if problem := self._unsigned(project.base, text, signature, fresh):
            return problem
        signed = Manifest(project.base, self._entries(text))
        if signed.entries and (found := differences(content(signed.entries), content(project.entries))):
            more = f" (and {len(found) - NAMED:,} more)" if len(found) > NAMED else ""
            return f"{', '.join(found[:NAMED])}{more} after the manifest was signed: {how_to_sign(project.base)}"
        return None if signed.entries else f"{project.base / SIGNED} is no manifest: {how_to_sign(project.base)}"

    def _unsigned(self, root: Path, text: bytes, signature: bytes, fresh: bool) -> str | None:
        try:
            allowed = self._signers(root)
        except OSError as error:
            return f"the signers {self._allowed} cannot be read: {error.strerror}"
        except UnfitContent as error:
            return str(error)
        key = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in (text, signature, allowed))).hexdigest()
        if fresh or time.monotonic() > self._good.get(key, 0.0):
            if problem := _verify(text, signature, allowed):
                return f"{root / SIGNED} is not signed by one of {self._allowed} ({problem}): {how_to_sign(root)}"
            self._good = {known: until for known, until in self._good.items() if until > time.monotonic()}
            self._good[key] = time.monotonic() + FRESH
        return None

    def _signers(self, root: Path) -> bytes:
        assert self._allowed is not None
        path = Path(os.path.realpath(self._allowed))
        if path.is_relative_to(os.path.realpath(root)):
            raise UnfitContent(f"the signers {path} lie in the project that they are to vouch for: keep them elsewhere")
        status = path.stat()
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
            raise UnfitContent(f"the signers {path} can be written by others (chmod go-w {path})")
        return _read(path, MOST_BYTES)

    def _entries(self, text: bytes) -> Mapping[str, str]:
        """Return what a manifest says; nothing when it is none."""
        digest = hashlib.sha256(text).hexdigest()
        if self._parsed[0] != digest:
            self._parsed = (digest, entries_in(text))
        return self._parsed[1]


def entries_in(text: bytes) -> Mapping[str, str]:
    """Return the entries of a manifest's text; nothing when it is none."""
    first, *lines = text.split(b"\n")
    try:
        pairs = [json.loads(line) for line in lines if line]
        fits = all(len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in pairs)
        return dict(pairs) if fits and first.decode() == FIRST_LINE else {}
    except (ValueError, TypeError, RecursionError):
        return {}


def _read(path: Path, most: int) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        return file.read(most)


def _verify(text: bytes, signature: bytes, allowed: bytes) -> str | None:
    """Return why a signature does not hold; None when it does. What is checked is what was read, not the files."""
    with tempfile.TemporaryDirectory(prefix="chargehand-signature-") as made:
        signers, file = Path(made) / "signers", Path(made) / "signature"
        write_private(signers, allowed.decode(errors="surrogateescape"))
        write_private(file, signature.decode(errors="surrogateescape"))
        where = ["-f", str(signers), "-s", str(file)]
        try:
            found = _ssh_keygen(["find-principals", *where], b"")
            names = [name for line in found.splitlines() for name in line.split(",") if name and name[0] not in "!-"]
            if not names:
                return "its key is none of theirs"
            _ssh_keygen(["verify", *where, "-I", names[0], "-n", NAMESPACE], text)
        except FileNotFoundError:
            return "there is no ssh-keygen on this machine to check it"
        except subprocess.TimeoutExpired:
            return f"ssh-keygen gave no answer within {LIMIT:g} s"
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"]
            return f"ssh-keygen: {said[-1][:200]}"
    return None


def _ssh_keygen(arguments: list[str], text: bytes) -> str:
    # A signature is read from a file, and a name that begins with a dash cannot come in: it is asked for with -I.
    done = subprocess.run(
        ["ssh-keygen", "-Y", *arguments], input=text, capture_output=True, timeout=LIMIT, check=True, close_fds=True
    )
    return done.stdout.decode(errors="replace")
