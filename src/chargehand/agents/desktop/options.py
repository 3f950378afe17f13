"""What an operator decides about one desktop agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class DesktopOptions:
    """Where the agent lives and what it may run.

    `home` is the agent's private directory. `config_dir` is where `automation.yml` lies, the list of actions; without
    one the agent only reports about the machine. `extra_env` is added to the small environment that actions get.
    """

    home: Path
    config_dir: Path | None = None
    name: str = "desktop-1"
    pool: str = "default"
    slots: int = 1  # there is one screen, one keyboard, one person in front of them
    extra_env: Mapping[str, str] = field(default_factory=dict)
