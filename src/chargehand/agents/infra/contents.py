"""What a playbook or script consists of, as one digest: if any of it changes, the digest changes.

A playbook's content is
- the playbook itself;
- every file below the directories beside it that Ansible looks into by itself (BESIDE), and `ansible.cfg` beside it;
- every file or directory that a text in it names by a relative path (`../status_page/server.py`, `tasks.yml`,
  `{{ playbook_dir }}/x`), and what the YAML files among them name in turn. Texts under the keys in TARGETS are
  places to write to, not content. A path put together from other variables is not seen: name its directory plainly.

A script's content is the script and every file below `lib/` beside it. Names count as well as bytes. What the
operator gives the agent itself (inventory, variables file) is not content: it belongs to the agent, not to the plan.
Absolute paths name what is on a machine, not content. Nothing may lie outside the directory above the configured one: a
relative path or a symbolic link that leads further out is an error.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from chargehand.agents import bounded_yaml
from chargehand.domain.errors import BadConfiguration, UnreadableText

_BESIDE = """
tasks files templates roles vars handlers group_vars host_vars collections library module_utils
action_plugins filter_plugins lookup_plugins test_plugins vars_plugins callback_plugins connection_plugins
strategy_plugins become_plugins cache_plugins inventory_plugins
"""
BESIDE = tuple(_BESIDE.split())
TARGETS = frozenset({"dest", "path", "creates", "removes"})
MAX_FILES = 5_000  # above that it is somebody's home directory, not what a playbook consists of
MAX_PATH = 255  # longer texts are scripts and prose
SKIPPED = frozenset({".git", "__pycache__"})  # change without anybody editing

Stamp = tuple[int, int, int, int]
T = TypeVar("T")


class UnfitContent(BadConfiguration):
    """A playbook or script reaches outside of its directory, or for more files than can be vouched for."""

    code = "unfit-content"


class Reading:
    """Reads files, every time anew: what is checked right before a start must not come from a cache."""

    def digest(self, path: Path) -> str:
        """Return the SHA-256 of a file's bytes."""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def texts(self, path: Path) -> frozenset[str]:
        """Return what may be a path among the texts of a YAML file; nothing when it cannot be read as YAML."""
        try:
            documents = bounded_yaml.compose_all(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            return frozenset()  # Ansible could not read it either
        except UnreadableText as error:
            raise UnfitContent(f"{path.name} cannot be read: {error}", hint="Mend it, or make it smaller.") from error
        return frozenset(part for node in documents for text in _scalars(node) for part in _possible_paths(text))


class CachedReading(Reading):
    """Reads a file again only when its stamp has changed: for scans, which are frequent and only find offers."""

    def __init__(self) -> None:
        self._digests: dict[Path, tuple[Stamp, str]] = {}
        self._texts: dict[Path, tuple[Stamp, frozenset[str]]] = {}

    def digest(self, path: Path) -> str:
        return _cached(self._digests, path, super().digest)

    def texts(self, path: Path) -> frozenset[str]:
        return _cached(self._texts, path, super().texts)


def playbook_digest(playbook: Path, boundary: Path, reading: Reading) -> str:
    """Return the digest of all a playbook consists of. Raises `UnfitContent`, or OSError when files vanish."""
    base = playbook.parent
    content = _Content(base, boundary, reading)
    content.add(playbook)
    for name in ("ansible.cfg", *BESIDE):
        content.add(base / name)
    content.add_named()
    return content.combined()


def script_digest(script: Path, boundary: Path, reading: Reading) -> str:
    """Return the digest of a script and its `lib/`. Raises `UnfitContent`, or OSError when files vanish."""
    content = _Content(script.parent, boundary, reading)
    content.add(script)
    content.add(script.parent / "lib")
    return content.combined()


class _Content:
    """Collects files by their real paths; a symbolic link is kept as a link and followed once."""

    def __init__(self, base: Path, boundary: Path, reading: Reading) -> None:
        self.base, self.boundary, self.reading = base, boundary.resolve(), reading
        self.links: dict[Path, Path] = {}
        self.files: set[Path] = set()
        self.folders: set[Path] = set()

    def add(self, path: Path) -> None:
        """Take a file, or everything below a directory. What does not exist is not content."""
        real = path.resolve()
        if not real.is_relative_to(self.boundary):
            raise UnfitContent(f"{path} leads out of {self.boundary}", hint="Keep what a playbook uses beside it.")
        if path.is_symlink():
            self.links[path] = real
        if real.is_file():
            self.files.add(real)
        elif real.is_dir() and real not in self.folders:
            self.folders.add(real)
            for child in real.iterdir():
                if child.name not in SKIPPED:
                    self.add(child)
        if len(self.files) > MAX_FILES:
            raise UnfitContent(f"{self.base} holds more than {MAX_FILES:,} files that the playbook could include")

    def add_named(self) -> None:
        """Take what the YAML files name, until they name nothing new."""
        read: set[Path] = set()
        while waiting := {path for path in self.files if path.suffix in (".yml", ".yaml")} - read:
            for source in waiting:
                read.add(source)
                for text in self.reading.texts(source):
                    self._add_named_by(source, text)

    def _add_named_by(self, source: Path, text: str) -> None:
        for folder in {source.parent, self.base}:
            path = Path(os.path.normpath(folder / text))
            if not self.base.is_relative_to(path) and path.exists():
                self.add(path)

    def combined(self) -> str:
        """Return the digest over names and bytes, in the order of the names."""
        lines = [f"{self._name(path)}\0{self.reading.digest(path)}" for path in self.files]
        lines += [f"{self._name(link)}\0-> {self._name(real)}" for link, real in self.links.items()]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self.base)


def _cached(known: dict[Path, tuple[Stamp, T]], path: Path, read: Callable[[Path], T]) -> T:
    status = path.stat()
    stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    entry = known.get(path)
    if entry is None or entry[0] != stamp:
        known[path] = entry = (stamp, read(path))
    return entry[1]


def _scalars(node: Node | None) -> Iterator[str]:
    """Yield the scalars of a YAML document, whatever their tags, but for the targets."""
    if isinstance(node, ScalarNode):
        yield str(node.value)
    elif isinstance(node, SequenceNode):
        for item in node.value:
            yield from _scalars(item)
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            yield from _scalars(key)
            if key.value not in TARGETS:
                yield from _scalars(value)


def _possible_paths(text: str) -> Iterator[str]:
    """Yield what may be a relative path in a text: all of it, or its first word (`script: ../x.sh --fast`)."""
    text = text.strip()
    for start in ("{{ playbook_dir }}/", "{{playbook_dir}}/"):
        text = text.removeprefix(start)
    if text and len(text) <= MAX_PATH and text.isprintable() and not text.startswith("/"):
        yield from {text, text.split(" ", 1)[0]}
