"""Where Ansible may find roles, collections, modules and plugins: in the copy, and what is installed with it.

Without these settings it would also look below `~/.ansible`, `/usr/share/ansible` and `/etc/ansible`, which nobody
approved. The project's `ansible.cfg` may name places in the project; what it names elsewhere is not used, and Ansible
then says which role or plugin it cannot find.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path

CONFIG = "ansible.cfg"
# The variable that sets it, and its key in the section [defaults] of ansible.cfg. Callbacks are ours alone.
PATHS: Mapping[str, str] = {
    "ANSIBLE_ROLES_PATH": "roles_path",
    "ANSIBLE_COLLECTIONS_PATH": "collections_path",
    "ANSIBLE_LIBRARY": "library",
    "ANSIBLE_MODULE_UTILS": "module_utils",
    **{
        f"ANSIBLE_{kind.upper()}_PLUGINS": f"{kind}_plugins"
        for kind in (
            "action", "become", "cache", "cliconf", "connection", "filter", "httpapi", "inventory", "lookup", "netconf",
            "strategy", "terminal", "test", "vars",
        )
    },
    "ANSIBLE_DOC_FRAGMENT_PLUGINS": "doc_fragment_plugins",
}  # fmt: skip


def config_of(playbook: Path, project: Path) -> Path | None:
    """Return the `ansible.cfg` that counts: the nearest one from the playbook's directory up to the project's."""
    folder = playbook.parent
    while folder.is_relative_to(project):
        if (folder / CONFIG).is_file():
            return folder / CONFIG
        folder = folder.parent
    return None


def pinned(config: Path | None, project: Path, empty: Path) -> dict[str, str]:
    """Return the variables that pin every path. `empty` stands where there is nothing."""
    said = _defaults(config) if config else {}
    folder = config.parent if config else project
    pins = {
        variable: os.pathsep.join(_inside(said.get(key, ""), folder, project)) or str(empty)
        for variable, key in PATHS.items()
    }
    return pins | {"ANSIBLE_CONFIG": str(config or empty / CONFIG), "PYTHONDONTWRITEBYTECODE": "1"}


def setting(config: Path, key: str) -> str:
    """Return what the section [defaults] says of a key; empty when it says nothing."""
    return _defaults(config).get(key, "").strip().strip("'\"")


def _defaults(config: Path) -> Mapping[str, str]:
    """Return the section [defaults]. A file that cannot be read says nothing; Ansible itself then complains."""
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=(";",), strict=False)
    try:
        parser.read_string(config.read_text(encoding="utf-8"))
    except (configparser.Error, UnicodeDecodeError):
        return {}
    return parser["defaults"] if parser.has_section("defaults") else {}


def _inside(value: str, folder: Path, project: Path) -> list[str]:
    """Return the places of a path setting that lie in the project, in order."""
    found = (os.path.normpath(folder / part) for part in value.strip("'\"").split(os.pathsep) if part)
    return [path for path in found if Path(path).is_relative_to(project)]
