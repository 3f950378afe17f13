"""Writes a first agent for an author to change: the agent, a test that passes, and what to type."""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path

from chargehand.domain.errors import BadRequest
from chargehand.domain.risks import one_of_risks

NAME = re.compile(r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")
LONGEST = 40  # characters: it is a column in lists
TAKEN = frozenset({"agent", "chargehand", "conftest", "pydantic", "pytest", "setup"}) | sys.stdlib_module_names

AGENT = '''\
"""The agent {name}: `chargehand agent run {module}.py` runs it."""

from chargehand.agent import Agent, Work
from pydantic import BaseModel

agent = Agent("{name}")


class Greeting(BaseModel):
    name: str


@agent.work("greet_somebody", risk="read", retry_safe=True, examples=["greet {{name}}", "say hello to {{name}}"])
async def greet(work: Work, p: Greeting) -> str:
    """Greet somebody by name."""
    await work.progress(f"looking for {{p.name}}")
    return f"Hello {{p.name}}"
'''

TEST = '''\
"""Runs the work of the agent as an agent would, without a broker: `python -m pytest` in this folder."""

import asyncio

from chargehand.testing import run

from {module} import agent


def test_it_greets() -> None:
    ran = asyncio.run(run(agent, "greet_somebody", {{"name": "Ada"}}))
    assert ran.ok, ran.summary
    assert ran.summary == "Hello Ada"
    assert ran.messages == ("looking for Ada",)


def test_it_wants_a_name() -> None:
    ran = asyncio.run(run(agent, "greet_somebody", {{}}))
    assert not ran.ok
    assert "name" in ran.summary
'''

README = """\
# {name}

An agent for Chargehand. `{module}.py` is all of it: each decorated function is something that can be asked for, in
words like its `examples`. `risk` is what it can do ({risks}), `retry_safe` whether running it
twice does no harm.

```sh
python -m pytest                               # test it: no server, no broker
chargehand agent enrol {name}                  # where the server runs: prints a token
chargehand agent join TOKEN                    # here
chargehand agent run {module}.py               # here
chargehand agent grant {name} greet_somebody   # where the server runs: what it offers is only an offer until then
chargehand run "greet Ada"
```
"""


def write(name: str, folder: Path) -> list[Path]:
    """Write the agent `name` into a new directory of that name in `folder`, and return the files.

    Raises `BadRequest`, and writes nothing, when the name cannot be used or something is there already.
    """
    module = _module(name)
    texts = {f"{module}.py": AGENT, f"test_{module}.py": TEST, "README.md": README}
    target = folder / name
    try:
        target.mkdir(parents=True)
    except FileExistsError:
        raise BadRequest(f"{target} is there already", hint="Choose another name or folder.") from None
    written = []
    for file, text in texts.items():
        path = target / file
        path.write_text(text.format(name=name, module=module, risks=one_of_risks()))
        written.append(path)
    return written


def _module(name: str) -> str:
    """Return the name of the agent's module. Raises `BadRequest`."""
    if not NAME.match(name) or len(name) > LONGEST:
        raise BadRequest(
            f"{name!r} cannot be the name of an agent",
            hint=f"Lower-case letters and digits, words joined by '-', at most {LONGEST} characters: backup-checker.",
        )
    module = name.replace("-", "_")
    if module in TAKEN or keyword.iskeyword(module) or module.startswith("test_"):
        raise BadRequest(f"a module {module} would hide another one", hint=f"For example: my-{name}.")
    return module
