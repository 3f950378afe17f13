"""The reference pages are complete: what a user can set, type, see or get is described, and nothing that is gone is."""

import enum
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from chargehand.cli.app import app
from chargehand.domain import errors, states
from chargehand.domain.risks import Risk
from chargehand.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
PREFIX = "CHARGEHAND_"


def page(name: str) -> str:
    path = DOCS / name
    assert path.is_file(), f"docs/{name} is missing"
    return path.read_text()


# Any: Typer brings a private copy of click, whose classes have no public name.
def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if path and not command.hidden:
        yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


COMMANDS = [(" ".join(path), command) for path, command in commands(typer.main.get_command(app))]


def error_classes(root: type[errors.ChargehandError]) -> Iterator[type[errors.ChargehandError]]:
    yield root
    for child in root.__subclasses__():
        yield from error_classes(child)


def test_every_setting_is_documented() -> None:
    text = page("settings.md")
    names = {PREFIX + name.upper() for name in Settings.model_fields}
    assert not [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)]


def test_no_setting_that_does_not_exist_is_documented() -> None:
    names = {PREFIX + name.upper() for name in Settings.model_fields}
    assert not set(re.findall(rf"\b{PREFIX}[A-Z0-9_]+\b", page("settings.md"))) - names


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[path for path, _ in COMMANDS])
def test_every_command_and_option_is_documented(path: str, command: Any) -> None:
    text = page("cli.md")
    assert re.search(rf"(?:`|chargehand |\./run ){re.escape(path)}(?![\w-])", text), f"`{path}` is not described"
    shown = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    options = [name for option in shown for name in option.opts if name.startswith("--")]
    assert not [o for o in options if not re.search(rf"{o}(?![\w-])", text)]


@pytest.mark.parametrize("table", ["REQUEST", "PLAN", "TASK", "ATTEMPT"])
def test_every_status_is_documented(table: str) -> None:
    text = page("statuses.md")
    statuses: list[enum.StrEnum] = list(getattr(states, table))
    assert not [str(status) for status in statuses if f"`{status}`" not in text]


@pytest.mark.parametrize("name", ["glossary.md", "settings.md", "playbooks.md", "agents.md", "desktop.md"])
def test_every_risk_is_documented(name: str) -> None:
    lines = [line for line in page(name).splitlines() if re.search(r"\brisks?\b", line, re.IGNORECASE)]
    assert not [risk for risk in Risk if not any(f"`{risk}`" in line for line in lines)]


def test_every_error_is_documented() -> None:
    text = page("errors.md")
    classes = [c for c in error_classes(errors.ChargehandError) if c.__module__ == errors.__name__]
    missing = {c.__name__ for c in classes if f"`{c.__name__}`" not in text}
    missing |= {c.code for c in classes if "code" in vars(c) and f"`{c.code}`" not in text}
    assert not missing
