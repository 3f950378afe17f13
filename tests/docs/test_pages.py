"""What the pages say in tables is what the code has: a page that went stale fails here."""

from __future__ import annotations

import ast
import importlib
import math
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from chargehand.agents.infra import headers, manifest, project
from chargehand.cli.terminal import exit_codes
from chargehand.domain import errors, states
from chargehand.domain.intents import WORK_TYPES
from chargehand.domain.risks import Risk
from chargehand.engine.engine import Engine
from chargehand.engine.recorder import Recorder
from chargehand.engine.request_control import RequestControl
from chargehand.engine.sweep import Sweep
from chargehand.execution import retry
from chargehand.llm.catalogue_match.guards import GUARDS, held_by
from chargehand.settings import Settings
from chargehand.store.postgres import PostgresStore
from chargehand.store.status_moves import Moves
from chargehand.store.tables import metadata
from chargehand.store.transaction import Transaction

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("**/*.md")])
SOURCES = sorted((ROOT / "src" / "chargehand").glob("**/*.py"))
PREFIX = "CHARGEHAND_"
GIVEN_TO_AGENTS = {"AGENT_HOME", "AGENT_HEALTH_PORT"}  # on their machines there are no other settings
GIVEN_TO_PROGRAMS = {"PARAMETERS_FILE", "OUTPUT_FILE", "DRY_RUN", "DAYS"}  # variables of scripts; the last, an example
CLASSES = {c.__name__: c for c in (Engine, Recorder, RequestControl, Sweep, Transaction, Moves, PostgresStore)}
ROOMS = ("domain", "catalog", "understanding", "planning", "routing", "execution", "engine")
MODULES = {
    path.stem: ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
    for room in ROOMS
    for path in (ROOT / "src" / "chargehand" / room).rglob("[a-z]*.py")
}
OF_THE_READER = {"greeter.py"}  # files that a page tells its reader to write


def section(name: str, heading: str) -> str:
    """Return the text of a page below a heading, up to the next of the same level."""
    found = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", (DOCS / name).read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"docs/{name} has no section {heading}"
    return found[1]


def rows(text: str, columns: int) -> Iterator[list[str]]:
    """Yield the rows of every table with so many columns, without its head."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        if len(cells) == columns and cells[0].startswith("`"):
            yield cells


def plain(cell: str) -> str:
    return cell.strip("`")


@pytest.mark.parametrize("table", ["Request", "Plan", "Task", "Attempt"])
def test_every_move_between_statuses_is_documented_and_no_other(table: str) -> None:
    told = [(plain(old), plain(new)) for old, new, _, _ in rows(section("statuses.md", table), 4) if new[0] == "`"]
    allowed = {(str(old), str(new)) for old, after in getattr(states, table.upper()).items() for new in after}
    assert set(told) == allowed
    assert len(told) == len(set(told))


def test_what_follows_from_a_failure_is_documented() -> None:
    told = {plain(row[0]): tuple(row[1:]) for row in rows(section("statuses.md", "Task"), 4) if row[1][0] != "`"}
    assert told == {kind: (row.safe, row.not_started, row.started) for kind, row in retry.TABLE.items()}


@pytest.mark.parametrize("path", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])
def test_functions_named_on_a_page_exist(path: Path) -> None:
    text = path.read_text()
    named = re.findall(r"`(\w+)\.(\w+)`", text)
    methods = [(owner, name) for owner, name in named if owner in CLASSES]
    assert not [f"{owner}.{name}" for owner, name in methods if not hasattr(CLASSES[owner], name)]
    functions = [(owner, name) for owner, name in named if owner in MODULES and name not in ("py", "md")]
    found = {owner: importlib.import_module(MODULES[owner]) for owner, _ in functions}
    assert not [f"{owner}.{name}" for owner, name in functions if not hasattr(found[owner], name)]


@pytest.mark.parametrize("path", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])
def test_files_named_on_a_page_exist(path: Path) -> None:
    named = set(re.findall(r"`((?:[\w.]+/)*\w+\.py)`", path.read_text())) - OF_THE_READER
    folders = (ROOT, ROOT / "src", ROOT / "src/chargehand", ROOT / "tests/unit", ROOT / "tests/integration")
    assert not [name for name in named if not any((folder / name).exists() for folder in folders)]


def test_every_table_of_the_database_is_on_the_way_of_a_request() -> None:
    text = (DOCS / "how-a-request-travels.md").read_text()
    assert not [name for name in metadata.tables if f"`{name}`" not in text]


def test_defaults_of_settings_are_documented() -> None:
    told = {plain(row[0]): plain(row[1]) for row in rows((DOCS / "settings.md").read_text(), 3)}
    wrong = {}
    for name, field in Settings.model_fields.items():
        default = "~" if name == "home" else field.get_default(call_default_factory=False)
        said = told.get(PREFIX + name.upper(), "nothing")
        if not _same(said, default):
            wrong[name] = (said, default)
    assert not wrong


def _same(said: str, default: Any) -> bool:
    if default is None or default in ((), frozenset()):
        return said == "none"
    if isinstance(default, int | float):
        return said != "none" and math.isclose(float(said), default)
    return said.startswith(str(default))


@pytest.mark.parametrize("path", [*PAGES, *SOURCES], ids=lambda p: str(p.relative_to(ROOT)))
def test_no_page_and_no_message_names_a_setting_that_does_not_exist(path: Path) -> None:
    text = path.read_text() if path.suffix == ".md" else "\n".join(literals(path))
    named = set(re.findall(rf"\b{PREFIX}([A-Z0-9]+(?:_[A-Z0-9]+)*)\b", text))
    known = {name.upper() for name in Settings.model_fields} | GIVEN_TO_PROGRAMS | GIVEN_TO_AGENTS
    internal = set() if path.suffix == ".md" else {"EVENTS", "HOSTS", "RUN"}  # from one program to one it starts
    assert not named - known - internal


def test_codes_and_exit_codes_of_errors_are_documented() -> None:
    told = {plain(row[0]): row[1:5] for row in rows((DOCS / "errors.md").read_text(), 6)}
    classes = {kind.__name__: kind for kind in error_classes()}
    assert told.keys() == classes.keys()
    facts = {
        name: [f"`{kind.code}`", str(kind.exit_code), str(kind.http_status), "yes" if kind.retryable else "no"]
        for name, kind in classes.items()
    }
    assert told == facts


def error_classes() -> Iterator[type[errors.ChargehandError]]:
    """Yield every error class of the sources, found by name, wherever it is."""
    classes = [node for path in SOURCES for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)]
    bases = {node.name: {base.id for base in node.bases if isinstance(base, ast.Name)} for node in classes}
    names = {"ChargehandError"}
    while found := {name for name, above in bases.items() if above & names} - names:
        names |= found
    for path in SOURCES:
        module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        own = [c.name for c in ast.walk(tree(path)) if isinstance(c, ast.ClassDef) and c.name in names]
        yield from (getattr(importlib.import_module(module), name) for name in own)


def test_exit_codes_are_documented() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", section("errors.md", "Exit codes"), re.MULTILINE)}
    assert told == {value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)}


def test_the_header_of_playbooks_is_documented() -> None:
    text = (DOCS / "playbooks.md").read_text()
    told = {plain(row[0]): row[1] for row in rows(text, 4)}
    assert told == dict(headers.KEYS)
    words = {*headers.PARAMETER_KEYS, *headers.RESOURCE_KEYS, *WORK_TYPES, *Risk, *project.MARKERS, project.ROOT}
    words |= {*manifest.IGNORED_FOLDERS, manifest.ENVIRONMENT}
    assert f"{manifest.MAX_FILES:,} files and {manifest.MAX_BYTES // 10**9} GB" in text
    assert not [word for word in sorted(words) if f"`{word}`" not in text]


def test_headers_shown_are_headers_that_can_be_read() -> None:
    shown = [
        (block, "script" if language == "sh" else "playbook")
        for path in PAGES
        for language, block in re.findall(r"^```(yaml|sh)\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
        if "# chargehand:" in block
    ]
    assert len(shown) >= 3
    for block, kind in shown:
        header = headers.parse(block, "page.yml", kind)  # type: ignore[arg-type]
        assert header is not None
        assert len(header.spec.examples) >= 3


def test_every_guard_is_described_by_a_sentence_that_trips_it() -> None:
    text = (DOCS / "models.md").read_text()
    told = dict(re.findall(r"^\| \"([^\"]+)\".*? \| (.*?) \|$", text, re.MULTILINE))
    tripped = {sentence: guard.says for sentence in told if (guard := held_by(sentence, frozenset()))}
    assert {s: told[s] for s in tripped} == tripped
    assert {guard.says for guard in GUARDS} == set(tripped.values())


def test_every_decision_is_listed_and_says_why_and_what_follows() -> None:
    pages = sorted(DOCS.glob("decisions/0*.md"))
    index = (DOCS / "decisions" / "README.md").read_text()
    for number, path in enumerate(pages, start=1):
        text = path.read_text()
        assert text.startswith(f"# {number:04}: "), path.name
        assert [h for h in ("Context", "Decision", "Consequences") if f"\n## {h}\n" not in text] == [], path.name
        assert f"({path.name})" in index


def test_messages_in_the_troubleshooting_page_are_messages_of_the_program() -> None:
    known = _squeezed(" ".join(text for path in SOURCES for text in literals(path)))
    known += _squeezed((ROOT / "run").read_text())
    unknown = []
    for cell in re.findall(r"^\| (.*?) \|", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE):
        for message in re.findall(r"`([^`]+)`", cell):
            unknown += [piece for piece in _fixed_parts(message) if _squeezed(piece) not in known]
    assert not unknown


def _fixed_parts(message: str) -> list[str]:
    """Return the parts of a message, of three words or more, that stand in the code as they are."""
    parts = re.split(r"\.\.\.|[\"'“”][^\"'“”]*[\"'“”]|\b[A-Z]{3,}\w*\b|\S*\d\S*|[(),:/]", message)
    return [part.strip() for part in parts if len(part.split()) >= 3]


def _squeezed(text: str) -> str:
    return " ".join(text.lower().split())


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def literals(path: Path) -> Iterator[str]:
    """Yield the texts in a file that a program can show: not its comments, nor its documentation."""
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


def test_the_glossary_stays_short_and_has_each_word_once() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", (DOCS / "glossary.md").read_text(), re.MULTILINE)
    assert len(words) == len(set(words)) <= 40
