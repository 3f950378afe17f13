"""Starts `ansible-playbook` so that it works on no other hosts than those of the plan, and cannot open the files a copy
was made from.

    launch.py PLACES ansible-playbook ARGUMENTS...

It also makes a run fail that asks for an answer (`pause`, a prompt), because nobody is there and Ansible would go on as
if somebody had agreed; and it tells the agent what was decrypted with ansible-vault, so that it is hidden.

PLACES is JSON: `hosts`, a file with the names of all hosts that may be worked on, and `watch`: `kept_out`, directories
whose files must not be opened by Ansible itself, and `let_in`, those below them that may; `code`, directories whose
files may be run, or read as tasks, variables, templates and settings, and `state`, what work may write: nothing there
may. A playbook runs in a copy of its project; a path that is put together while it runs and names the project itself
would get around that copy, and so would tasks that are read from elsewhere. This notices slips; programs that a
playbook starts are not watched.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

ASKED = 200  # characters of a question that are told
MOST_VALUE = 20_000  # characters; no single secret is longer
WATCHED = frozenset({"open", "os.listdir", "os.scandir"})


class Watch:
    """An audit hook: Python calls it before it opens a file, lists a directory or starts a program."""

    def __init__(self, kept_out: list[str], let_in: list[str], code: list[str], state: list[str]) -> None:
        self.kept_out = tuple(kept_out)
        self.let_in = tuple(let_in)
        self.state = tuple(map(os.path.realpath, state))
        self.own = (sys.prefix, sys.base_prefix)
        self.code = tuple(os.path.realpath(place) for place in (*code, *self.own))

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            self.check_command(arguments[1])
        elif event in WATCHED:
            path = as_text(arguments[0])
            self.check(path)
            reader = code_reader(sys._getframe(1)) if event == "open" and path else ""
            if reader:
                self.check_code(path, reader)

    def check_code(self, path: str, reader: str) -> None:
        """Refuse what is run or read as code and is not of the copy: nobody has approved what stands there.

        Python's own imports may come from anywhere but state: the places of plugins are pinned by the agent.
        """
        real = os.path.realpath(path)
        if is_below(real, self.state):
            raise PermissionError(f"{path} is state, which work may write: nothing there is run or read as code")
        if reader.startswith("ansible.") and not is_below(real, self.code):
            raise PermissionError(f"{path} lies outside of the project: nothing there is run or read as code")

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
        for place in {os.path.normpath(path), os.path.realpath(path)}:
            if is_below(place, self.kept_out) and not is_below(place, (*self.let_in, *self.own)):
                raise PermissionError(
                    f"{place} lies in the project itself, but what runs is a copy of it: name it relative"
                )


PASSED_THROUGH = ("ansible.parsing.", "ansible.utils.", "ansible.module_utils.", "ansible._internal._yaml")
"""What reads for somebody else: who asked it is what counts."""

CODE_READERS = (
    "ansible.playbook",
    "ansible.vars",
    "ansible.config",
    "ansible.inventory",
    "ansible.plugins.inventory",
    "ansible.plugins.loader",
    "ansible.plugins.strategy",
    "ansible.plugins.vars",
    "ansible.plugins.action.include_vars",
    "ansible.plugins.action.script",
    "ansible.plugins.action.template",
    "ansible.plugins.lookup.template",
    "ansible.template",
    "ansible.executor.module_common",
    "importlib",
    "_frozen_importlib",
)
"""Modules that run what they read, or find something in it that is run: tasks, variables, templates, settings, plugins.
All others read data: a file that is copied, a list of words."""

DEEPEST = 60  # frames; Ansible needs some twenty from whoever asks to the file


def code_reader(frame: Any) -> str:
    """Return the module that opens a file for what stands in it to be run; "" where it is read as data.

    The first one that does not only read for another decides.
    """
    for _ in range(DEEPEST):
        if frame is None:
            return ""
        name = str(frame.f_globals.get("__name__", ""))
        if name.startswith(CODE_READERS):
            return name
        if name.startswith("ansible.") and not name.startswith(PASSED_THROUGH):
            return ""
        frame = frame.f_back
    return ""


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


def let_nobody_answer(display: Any, error: type[Exception]) -> None:
    """Let whatever waits for a person fail. Ansible takes it for answered where there is no terminal."""
    until = display.prompt_until

    def prompt_until(self: Any, msg: str, private: bool = False, seconds: Any = None, *more: Any, **named: Any) -> Any:
        if seconds is None:
            raise error(f"it asks a person ({' '.join(msg.split())[:ASKED]}), and nobody can answer here")
        return until(self, msg, private, seconds, *more, **named)

    def do_var_prompt(self: Any, varname: str, *more: Any, **named: Any) -> Any:
        raise error(f"it asks for {varname} (vars_prompt), and nobody can answer here")

    display.prompt_until, display.do_var_prompt = prompt_until, do_var_prompt


def tell_decrypted(vault: Any, path: str) -> None:
    """Tell the agent each value that is decrypted, before anything can be said that holds it."""
    decrypt = vault.decrypt_and_get_vault_id

    def decrypt_and_tell(self: Any, vaulttext: Any) -> Any:
        found = decrypt(self, vaulttext)
        with suppress(OSError), open(path, "a", encoding="utf-8") as out:  # of its own: a lock is shared by forks
            fcntl.flock(out, fcntl.LOCK_EX)
            for text in secrets_in(bytes(found[0]).decode("utf-8", "replace")):
                out.write(json.dumps({"event": "vault", "text": text}) + "\n")
        return found

    vault.decrypt_and_get_vault_id = decrypt_and_tell


def secrets_in(text: str) -> Iterator[str]:
    """Yield what is to be hidden of a decrypted text: the text itself where it is a value, of variables each value."""
    if len(text) <= MOST_VALUE:
        yield text.strip()
    else:
        yield from (line.strip() for line in text.splitlines())
    yield from values_in(parsed(text))


def parsed(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Takes what has a tag of Ansible's for a plain text."""

    Loader.add_multi_constructor("!", lambda loader, tag, node: getattr(node, "value", None))
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def values_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from values_in(item)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield str(value)


def as_text(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, str | bytes | os.PathLike) else ""


def is_below(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


def main() -> None:
    places = json.loads(sys.argv[1])
    del sys.argv[:2]
    sys.addaudithook(Watch(**places["watch"]))  # before its settings are read
    from ansible.cli.playbook import main as ansible_playbook  # type: ignore[import-untyped,import-not-found,unused-ignore]
    from ansible.errors import AnsibleError  # type: ignore[import-untyped,import-not-found,unused-ignore]
    from ansible.inventory.manager import InventoryManager  # type: ignore[import-untyped,import-not-found,unused-ignore]
    from ansible.parsing.vault import VaultLib  # type: ignore[import-untyped,import-not-found,unused-ignore]
    from ansible.utils.display import Display  # type: ignore[import-untyped,import-not-found,unused-ignore]

    with open(places["hosts"], encoding="utf-8") as file:
        limit_hosts(InventoryManager, frozenset(json.load(file)))
    let_nobody_answer(Display, AnsibleError)
    tell_decrypted(VaultLib, os.environ["CHARGEHAND_EVENTS"])
    ansible_playbook()


if __name__ == "__main__":
    main()
