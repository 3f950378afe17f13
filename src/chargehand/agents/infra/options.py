"""What an operator decides about one infra agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path


@dataclass(frozen=True)
class InfraOptions:
    """Where the agent finds its work and what it may touch.

    `playbook_dirs` and `script_dirs` are what it offers; `config_roots` are the only places `add_configuration` may
    write below. Without an `inventory` that of a playbook's project counts. `vars_file` holds variables of the
    operator's (YAML; may be encrypted with ansible-vault) for every playbook; a task's own parameters win over it.
    `project_signers` lists the keys of which one must have signed what runs. `become_secret` and `vault_secret` name
    the secrets that are the passwords for `become` and for ansible-vault. `home` is the agent's private
    directory. `check_networks` are those of this machine and its link that checks may ask. `extra_env` is added to the
    small environment that playbooks and scripts get.
    """

    home: Path
    playbook_dirs: tuple[Path, ...] = ()
    script_dirs: tuple[Path, ...] = ()
    config_roots: tuple[Path, ...] = ()
    inventory: Path | None = None
    vars_file: Path | None = None
    project_signers: Path | None = None
    become_secret: str | None = None
    vault_secret: str | None = None
    name: str = "infra-1"
    pool: str = "default"
    slots: int = 2
    check_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    extra_env: Mapping[str, str] = field(default_factory=dict)
