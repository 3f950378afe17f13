"""What the README and the guides tell a newcomer to type can be typed, and what they link to is there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from chargehand.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
SCRIPT_COMMANDS = {"demo", "test", "check", "bench", "soak"}  # everything else is the chargehand command line
FIRST_SCREEN = 60  # lines: what a repository page shows before anybody scrolls
BLOCK = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)


def typed_commands(text: str) -> Iterator[list[str]]:
    """Yield the words after `./run` or `chargehand` in every `$ ` line of a console block."""
    for block in BLOCK.finditer(text):
        if block["language"] == "console":
            for line in re.findall(r"^\$ (?:\w+=\S+ )*(?:\./run|chargehand)((?: \S+)*)", block["body"], re.MULTILINE):
                yield line.split()


def exists(words: list[str]) -> bool:
    command: Any = typer.main.get_command(app)
    if words and words[0] in SCRIPT_COMMANDS:
        return True
    for word in words:
        children = getattr(command, "commands", None)
        if children is None or word.startswith("-"):
            break
        command = children.get(word)
    return command is not None


def test_the_first_screen_of_the_readme_shows_the_two_commands() -> None:
    screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:FIRST_SCREEN])
    code = "\n".join(block["body"] for block in BLOCK.finditer(screen))
    assert "./run demo" in code
    assert "./run test" in code


@pytest.mark.parametrize("path", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])
def test_commands_on_a_page_exist(path: Path) -> None:
    assert not [words for words in typed_commands(path.read_text()) if not exists(words)]


@pytest.mark.parametrize("path", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])
def test_links_on_a_page_lead_somewhere(path: Path) -> None:
    text = BLOCK.sub("", path.read_text())
    targets = [t for t in re.findall(r"\]\(([^)#\s]+)", text) if not re.match(r"[a-z]+:", t)]
    assert not [t for t in targets if not (path.parent / t).exists()]
