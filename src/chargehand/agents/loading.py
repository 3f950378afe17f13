"""Finds the agent that `chargehand agent run WHAT` means: one of ours, or an author's."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chargehand.agent import Agent
from chargehand.agent.identity import Identity
from chargehand.domain.errors import BadConfiguration
from chargehand.settings import Settings
from chargehand.settings import load as load_settings

if TYPE_CHECKING:
    from chargehand.agents.infra import InfraOptions


@dataclass(frozen=True)
class Loaded:
    """An agent, and how to look whether its offers have changed, if they come from files."""

    agent: Agent
    rescan: Callable[[], bool] | None = None


def load(what: str, home: Path) -> Loaded:
    """Return the agent. `what` is `infra`, `desktop`, `module:attribute` or a path to a file that defines `agent`.

    Raises `BadConfiguration` when there is none; what an author's module raises itself is passed on.
    """
    if what in OURS:
        return OURS[what](home)
    module, _, attribute = what.partition(":")
    found = getattr(_import(module), attribute or "agent", None)
    if not isinstance(found, Agent):
        raise BadConfiguration(
            f"{what} is not an agent", hint="Give module:attribute where attribute is a chargehand.agent.Agent."
        )
    return Loaded(found)


def infra_options(settings: Settings, home: Path, name: str) -> InfraOptions:
    """Return what the settings say about the infra agent of this machine."""
    from chargehand.agents.infra import InfraOptions

    return InfraOptions(
        home=home,
        playbook_dirs=settings.playbooks or (settings.home / "playbooks",),
        script_dirs=settings.scripts or (settings.home / "scripts",),
        config_roots=settings.config_roots,
        inventory=settings.inventory,
        vars_file=settings.ansible_vars,
        project_signers=settings.project_signers,
        become_secret=settings.become_secret,
        vault_secret=settings.vault_secret,
        name=name,
        pool="local",
        slots=settings.agent_slots,
        check_networks=settings.check_networks,
        extra_env={name: os.environ[name] for name in settings.pass_env if name in os.environ},
    )


def _infra(home: Path) -> Loaded:
    from chargehand.agents.infra import InfraAgent

    agent = InfraAgent(infra_options(load_settings(), home, Identity.load(home).name))
    return Loaded(agent.agent, agent.rescan)


def _desktop(home: Path) -> Loaded:
    from chargehand.agents.desktop import DesktopAgent, DesktopOptions

    agent = DesktopAgent(DesktopOptions(home=home, config_dir=home, name=Identity.load(home).name))
    return Loaded(agent.agent, agent.rescan)


OURS: dict[str, Callable[[Path], Loaded]] = {"infra": _infra, "desktop": _desktop}


def _import(module: str) -> object:
    path = Path(module)
    if path.suffix == ".py":
        if not path.is_file():
            raise BadConfiguration(f"there is no file {path}", hint="Give a path, or module:attribute.")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = made
        spec.loader.exec_module(made)
        return made
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does: an author's module is usually right here
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise BadConfiguration(f"there is no module {error.name}", hint="Run it from the module's folder.") from error
