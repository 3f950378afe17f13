"""Starts `ansible-playbook` so that it cannot open the files a copy was made from.

    launch.py PLACES ansible-playbook ARGUMENTS...

PLACES is JSON: `kept_out`, directories whose files must not be opened by Ansible itself, and `let_in`, those below
them that may. A playbook runs in a copy of its project; a path that is put together while it runs and names the
project itself would get around that copy. This notices slips; programs that a playbook starts are not watched.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

WATCHED = frozenset({"open", "os.listdir", "os.scandir"})


class Watch:
    """An audit hook: Python calls it before it opens a file, lists a directory or starts a program."""

    def __init__(self, kept_out: list[str], let_in: list[str]) -> None:
        self.kept_out = tuple(kept_out)
        self.let_in = tuple(let_in)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            self.check_command(arguments[1])
        elif event in WATCHED:
            self.check(as_text(arguments[0]))

    def check_command(self, command: Any) -> None:
        """Look for paths in the words of a command; one of them may be a whole line for a shell."""
        for word in command if isinstance(command, list | tuple) else [command]:
            text = as_text(word)
            for folder in self.kept_out:
                start = text.find(folder)
                while start >= 0:
                    self.check(text[start:])
                    start = text.find(folder, start + 1)

    def check(self, path: str) -> None:
        if not path.startswith("/"):
            return
        path = os.path.normpath(path)
        if is_below(path, self.kept_out) and not is_below(path, self.let_in):
            raise PermissionError(f"{path} lies in the project itself, but what runs is a copy of it: name it relative")


def as_text(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, str | bytes | os.PathLike) else ""


def is_below(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


def main() -> None:
    places = json.loads(sys.argv[1])
    del sys.argv[:2]
    from ansible.cli.playbook import main as ansible_playbook  # type: ignore[import-untyped,import-not-found,unused-ignore]

    sys.addaudithook(Watch(places["kept_out"], [*places["let_in"], sys.prefix, sys.base_prefix]))
    ansible_playbook()


if __name__ == "__main__":
    main()
