"""The code on the page for authors of agents runs as it stands there."""

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "agents.md"
NAMES = ("greeter", "try_greeter")


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ModuleType]]:
    """The page's blocks of Python as modules, saved as the page tells a reader to."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == len(NAMES)
    for name, block in zip(NAMES, blocks, strict=True):
        (tmp_path / f"{name}.py").write_text(block)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield [import_module(name) for name in NAMES]
    for name in NAMES:
        del sys.modules[name]


async def test_the_first_agent_does_its_work(modules: list[ModuleType], capsys: pytest.CaptureFixture[str]) -> None:
    result = await modules[1].ask("greet_somebody", name="Ann")
    assert (result.ok, result.summary) == (True, "Hello Ann")
    assert "looking for Ann" in capsys.readouterr().out


async def test_its_parameters_are_checked(modules: list[ModuleType]) -> None:
    result = await modules[1].ask("greet_somebody", nickname="Ann")
    assert not result.ok
    assert result.failure.kind == "permanent"
    assert "name" in result.failure.message


def test_a_first_agent_takes_ten_lines(modules: list[ModuleType]) -> None:
    source = Path(str(modules[0].__file__)).read_text()
    assert len([line for line in source.splitlines() if line.strip()]) <= 10
