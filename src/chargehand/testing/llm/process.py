"""The scripted server in a process of its own, as a test or benchmark starts and scripts it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from chargehand.testing.llm.answers import Answer


class ScriptedServer:
    """A scripted server that no blocking call of a client can deadlock, because it shares no interpreter with it.

        with ScriptedServer() as server:
            server.script({"deploy it": [fails(503), says({"subtasks": [...]})]})
            ...  # server.url is where it listens

    It is scripted over its standard input, a line of JSON each, and answers each line when it has taken effect.
    """

    def __init__(self) -> None:
        command = [sys.executable, "-P", "-m", "chargehand.testing.llm", "--scripted"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = json.loads(self._process.stdout.readline())["url"]

    def script(self, answers: Mapping[str, Sequence[Answer]], *, otherwise: Answer | None = None) -> None:
        """Replace the whole script: words -> answers, in order; the last is repeated. `otherwise` for all else."""
        self._tell(
            {
                "answers": {words: [asdict(answer) for answer in each] for words, each in answers.items()},
                "otherwise": asdict(otherwise) if otherwise else None,
            }
        )

    def asked(self) -> list[dict[str, Any]]:
        """Return every request that arrived since the last script: `path`, `headers`, `body`."""
        return list(self._tell({"asked": True})["asked"])

    def _tell(self, line: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # it ends with its input, also when whoever started it was killed
        self._process.wait(15)
        self._process.stdout.close()
