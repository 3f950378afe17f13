"""Starts `ansible-playbook` so that it works on no other hosts than those of the plan, and cannot open the files a copy
was made from.

    launch.py PLACES ansible-playbook ARGUMENTS...

It also makes a run fail that asks for an answer (`pause`, a prompt), because nobody is there and Ansible would go on as
if somebody had agreed; and it tells the agent what was decrypted with ansible-vault, so that it is hidden.

PLACES is JSON: `hosts`, a file with the names of all hosts that may be worked on; `kept_out`, directories whose files
must not be opened by Ansible itself, and `let_in`, those below them that may. A playbook runs in a copy of its project;
a path that is put together while it runs and names the project itself would get around that copy. This notices slips;
programs that a playbook starts are not watched.
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
    from ansible.cli.playbook import main as ansible_playbook  # type: ignore[import-untyped,import-not-found,unused-ignore]
    from ansible.errors import AnsibleError  # type: ignore[import-untyped,import-not-found,unused-ignore]
    from ansible.inventory.manager import InventoryManager  # type: ignore[import-untyped,import-not-found,unused-ignore]
    from ansible.parsing.vault import VaultLib  # type: ignore[import-untyped,import-not-found,unused-ignore]
    from ansible.utils.display import Display  # type: ignore[import-untyped,import-not-found,unused-ignore]

    with open(places["hosts"], encoding="utf-8") as file:
        limit_hosts(InventoryManager, frozenset(json.load(file)))
    let_nobody_answer(Display, AnsibleError)
    tell_decrypted(VaultLib, os.environ["CHARGEHAND_EVENTS"])
    sys.addaudithook(Watch(places["kept_out"], [*places["let_in"], sys.prefix, sys.base_prefix]))
    ansible_playbook()


if __name__ == "__main__":
    main()
