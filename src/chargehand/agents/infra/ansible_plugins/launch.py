"""Starts `ansible-playbook` so that it works on no other hosts than those of the plan, and cannot open the files a copy
was made from.

    launch.py PLACES ansible-playbook ARGUMENTS...

PLACES is JSON: `hosts`, a file with the names of all hosts that may be worked on; `kept_out`, directories whose files
must not be opened by Ansible itself, and `let_in`, those below them that may. A playbook runs in a copy of its project;
a path that is put together while it runs and names the project itself would get around that copy. This notices slips;
programs that a playbook starts are not watched.
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


def limit_hosts(manager: Any, names: frozenset[str]) -> None:
    """Let an inventory find these hosts only, by their names and nothing else.

    Ansible's own `--limit` takes what is in its file for patterns: a group that is called like a host would add all of
    its hosts. Who asks for the hosts behind the limits (`hostvars`, our callback) still gets all.
    """
    find = manager.get_hosts

    def limited(self: Any, pattern: Any = "all", ignore_limits: bool = False, *more: Any, **named: Any) -> list[Any]:
        found = find(self, pattern, ignore_limits, *more, **named)
        return list(found) if ignore_limits else [host for host in found if name_of(host) in names]

    manager.get_hosts = limited


def name_of(host: Any) -> str:
    """Return the name of a host; this machine has one name where no inventory names it."""
    return "localhost" if host.implicit else str(host.name)


def as_text(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, str | bytes | os.PathLike) else ""


def is_below(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


def main() -> None:
    places = json.loads(sys.argv[1])
    del sys.argv[:2]
    from ansible.cli.playbook import main as ansible_playbook  # type: ignore[import-untyped,import-not-found,unused-ignore]
    from ansible.inventory.manager import InventoryManager  # type: ignore[import-untyped,import-not-found,unused-ignore]

    with open(places["hosts"], encoding="utf-8") as file:
        limit_hosts(InventoryManager, frozenset(json.load(file)))
    sys.addaudithook(Watch(places["kept_out"], [*places["let_in"], sys.prefix, sys.base_prefix]))
    ansible_playbook()


if __name__ == "__main__":
    main()
