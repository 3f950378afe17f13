"""The layout holds: rooms, settings and nothing else at the top; no circle of imports; nothing too long to read."""

import ast
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "chargehand"
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS = {contract["name"]: contract for contract in CONFIG["tool"]["importlinter"]["contracts"]}
PURE = {"domain", "catalog", "understanding", "planning", "routing", "execution"}


def test_only_rooms_and_settings_stand_at_the_top() -> None:
    modules = {"__init__.py", "__main__.py", "folders.py", "keys.py", "settings.py"}
    assert {path.name for path in SOURCE.glob("*.py")} == modules
    assert {path.parent.name for path in SOURCE.glob("*/__init__.py")} == {
        path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"
    }


def test_the_pure_rooms_are_the_same_for_ruff_and_the_contracts() -> None:
    contract = next(c for name, c in CONTRACTS.items() if name.startswith("Pure rooms"))
    assert {name.removeprefix("chargehand.") for name in contract["source_modules"]} == PURE
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    ignores = CONFIG["tool"]["ruff"]["lint"]["per-file-ignores"]
    exempt = next(key for key in ignores if key.startswith("src/chargehand/{") and key.endswith("}/**"))
    assert set(exempt.removeprefix("src/chargehand/{").removesuffix("}/**").split(",")) == rooms - PURE


def imported_by(path: Path, module: str, known: set[str]) -> set[str]:
    """Return the modules of ours that a file names in imports: at its top, in functions, and for annotations only."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name in known else node.module for name in names)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return (found & known) - {module}


@pytest.mark.parametrize("folder", [SOURCE, ROOT / "bench"], ids=["chargehand", "bench"])
def test_no_circle_of_imports(folder: Path) -> None:
    files = {
        ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in folder.rglob("*.py")
    }
    graph = {name: imported_by(path, name, set(files)) for name, path in files.items()}
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


@pytest.mark.parametrize("folder", [SOURCE, ROOT / "bench"], ids=["chargehand", "bench"])
def test_no_file_has_grown_past_what_one_person_can_read(folder: Path) -> None:
    long = {str(p.relative_to(folder)): n for p in folder.rglob("*.py") if (n := len(p.read_text().splitlines())) > 500}
    assert not long, "split it"
