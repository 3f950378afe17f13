"""The layout holds: the contract that keeps decisions pure covers every decision, also one added tomorrow."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "chargehand"
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())


# The path, and what puts it together.
WORKING = {
    *(
        "__main__",
        "admission",
        "allotment",
        "asking",
        "bootstrap",
        "engine",
        "isolation",
        "loops",
        "mishaps",
        "recording",
        "registry",
    ),
    *("settings", "steering", "sweep", "worker"),
}


def test_every_top_level_file_decides_or_is_on_the_path() -> None:
    contract = next(c for c in CONFIG["tool"]["importlinter"]["contracts"] if c["name"].startswith("Decisions"))
    pure = {name.removeprefix("chargehand.") for name in contract["source_modules"]}
    files = {path.stem for path in SOURCE.glob("*.py")}
    assert files - WORKING - {"__init__"} <= pure, "add it to the contract in pyproject.toml"
    assert not pure & WORKING


def test_ruff_lets_only_the_same_files_touch_the_world() -> None:
    exempt = next(key for key in CONFIG["tool"]["ruff"]["lint"]["per-file-ignores"] if key.endswith("}.py"))
    names = set(exempt.removeprefix("src/chargehand/{").removesuffix("}.py").split(","))
    assert names == WORKING


def test_no_file_has_grown_past_what_one_person_can_read() -> None:
    long = {str(p.relative_to(SOURCE)): n for p in SOURCE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 500}
    assert not long, "split it"
