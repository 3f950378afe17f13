"""What files of a project name that does not lie in it, as far as that can be seen. A copy would not hold it.

Seen are, in files that somebody wrote (playbooks, variables, settings, scripts, templates; not comments):

- paths with `..` that lead out of the project to something that is there;
- absolute paths into the project itself: they name the files, not the copy;
- absolute paths to what Ansible would take in as its own (tasks, variables, roles, playbooks, scripts, templates).

What is put together from variables is not seen here. The copy does not hold it either, and while Ansible runs it cannot
open the project's own files (`ansible_plugins/launch.py`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path

YAMLS = (".yml", ".yaml")
WRITTEN = (*YAMLS, ".cfg", ".ini", ".json", ".j2", ".sh", ".bash", ".py", ".pl", ".rb", ".toml", "")
_CODE = """
include_tasks import_tasks include_vars import_playbook vars_files include_role import_role roles role script template
with_fileglob with_file with_template tasks_from
"""
CODE = "|".join(_CODE.split())  # keys of which the value is read by Ansible, or run, as part of the playbook
PLACE = "file|src|dir|name|cmd|role|_raw_params"  # the options of those that say where
BESIDE = ("", "files", "templates", "vars", "tasks", "handlers")  # where Ansible looks for a relative path
MAX_PATH = 1_024  # longer texts are prose

# A file of somebody's choosing must not keep us busy: every pattern is looked for from one place on, within bounds, and
# no part of a text is looked at for more than one of these places.
_IN_A_NAME = re.compile(r"[\w.]")
_BEFORE = re.compile(r"[\w./~+@%*?-]{0,200}$")
_AFTER = re.compile(rf"[\w./~+@%*?-]{{0,{MAX_PATH}}}")
_COMMENT = re.compile(r"^[ \t]*(?:#|;|//).*$", re.MULTILINE)
_PATH = rf"[\"']?(/[^\s\"',\]}}]{{1,{MAX_PATH}}})"
_OPTION = rf"[^\n]{{0,200}}?\b(?:{PLACE})[ \t]*[:=][ \t]*"
_LISTED = r"\[(?:[^\]\n]{0,500}?,)?[ \t]*"
_KEY = re.compile(rf"(?<![\w-])(?:{CODE})[ \t]*:[ \t]*")
_INLINE = re.compile(rf"(?:{_OPTION}|{_LISTED})?{_PATH}")
_BLOCK = re.compile(rf"^([ \t]*)(?:-[ \t]+)?(?:\w+\.)*(?:{CODE})[ \t]*:[ \t]*$")
_ITEM = re.compile(rf"^([ \t]*)(?:-[ \t]+)?\{{?[ \t]*(?:(?:{PLACE})[ \t]*:[ \t]*)?{_PATH}")


def look(root: Path, name: str, content: bytes) -> tuple[str, ...]:
    """Return what a file names that may lie outside: `../x` as it is, absolute paths that matter."""
    if Path(name).suffix.lower() not in WRITTEN or (b"/" not in content):
        return ()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return ()
    spoken = _COMMENT.sub("", text)
    found = dict.fromkeys(_upwards(spoken)) | dict.fromkeys(_into(root, spoken))
    hidden = any(part.startswith(".") for part in name.split("/"))  # other programs' settings: their words differ
    if name.endswith(YAMLS) and not hidden:
        found |= dict.fromkeys(_code_outside(spoken))
    return tuple(found)


def leaving(root: Path, mentions: Mapping[str, Iterable[str]], playbook_dirs: Iterable[Path]) -> dict[str, str]:
    """Return of each file that names something outside of the project what that is, in words."""
    folders = tuple(playbook_dirs)
    problems = {}
    for name, texts in mentions.items():
        bases = {root / Path(name).parent, *folders}
        reason = next((reason for text in texts if (reason := _leaving(root, bases, text))), None)
        if reason:
            problems[name] = f"{name} names {reason}"
    return problems


def leaving_links(root: Path, entries: Mapping[str, str]) -> dict[str, str]:
    """Return of each symbolic link that leads out of the project, or names it by its absolute path, what is wrong."""
    problems = {}
    real = os.path.realpath(root)
    for name, what in entries.items():
        if what.startswith("l "):
            target = os.path.realpath(os.path.join(real, name))
            if os.path.isabs(what[2:]) or not _below(target, real):
                problems[name] = f"{name} is a symbolic link that leads out of {root} ({what[2:]})"
    return problems


def _leaving(root: Path, bases: Iterable[Path], text: str) -> str | None:
    if os.path.isabs(text) and not text.startswith("/.."):
        inside = _below(os.path.normpath(text), str(root))
        return f"{text} by its absolute path" if inside else f"{text}, which is outside of the project"
    relative = _without_pattern(text.lstrip("/"))
    outside = []
    for base in bases:
        for folder in BESIDE:
            path = os.path.normpath(base / folder / relative)
            if _below(path, str(root)):
                if os.path.lexists(path):
                    return None  # that one is meant, or the copy has only that one
            elif not _below(str(root), path) and os.path.lexists(path):
                outside.append(path)
    return f"{text}, which is outside of the project ({outside[0]})" if outside else None


def _without_pattern(text: str) -> str:
    """Return the part of a path before the first place with a wildcard."""
    fixed = []
    for part in text.split("/"):
        if "*" in part or "?" in part:
            break
        fixed.append(part)
    return "/".join(fixed)


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _into(root: Path, text: str) -> Iterator[str]:
    """Yield the absolute paths into the project."""
    for match in re.finditer(re.escape(str(root)) + r"(?![\w.-])[^\s\"',)\]}:;]*", text):
        yield match[0]


def _upwards(text: str) -> Iterator[str]:
    """Yield the paths with `..` in them."""
    end, at = 0, text.find("../")
    while at >= 0:
        if at >= end and not (at and _IN_A_NAME.match(text, at - 1)):
            before = _BEFORE.search(text, max(end, at - 200), at)
            after = _AFTER.match(text, at)
            assert after is not None
            yield (before[0] if before else "") + after[0]
            end = after.end()
        at = text.find("../", max(at + 1, end))


def _code_outside(text: str) -> Iterator[str]:
    """Yield the absolute paths of what Ansible would take in as its own."""
    keys = [*_KEY.finditer(text)]
    if not keys:
        return
    for key, following in zip_longest(keys, keys[1:]):
        place = _INLINE.match(text, key.end(), following.start() if following else len(text))
        if place:
            yield place[1]
    indent: int | None = None
    for line in text.splitlines():
        item = _ITEM.match(line)
        if indent is not None and item and len(item[1]) >= indent:
            yield item[2]
        elif indent is not None and line.strip() and len(line) - len(line.lstrip(" \t-")) <= indent:
            indent = None
        if block := _BLOCK.match(line):
            indent = len(block[1])
