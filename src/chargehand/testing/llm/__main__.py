"""`python -m chargehand.testing.llm [--port N] [--script FILE]`: an LLM server that says what a file says.

The file is JSON: {"answers": {WORDS: [ANSWER, ...]}, "otherwise": ANSWER, "models": [NAME, ...]}. An ANSWER has the
fields of `Answer`, or `{"say": VALUE}` for a value that is written as JSON. With `--scripted` lines of that shape are
read from standard input, each replacing the script before it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chargehand.testing.llm.answers import Answer, says
from chargehand.testing.llm.server import LLMServer


def read_answer(value: Mapping[str, Any]) -> Answer:
    """Return one answer of a script. Raises `TypeError` for a field that there is not."""
    fields = dict(value)
    return says(fields.pop("say"), **fields) if "say" in fields else Answer(**fields)


def apply(script: Mapping[str, Any], server: LLMServer) -> None:
    """Replace what the server says."""
    otherwise = script.get("otherwise")
    server.answers = {words: [read_answer(a) for a in each] for words, each in script.get("answers", {}).items()}
    server.otherwise = read_answer(otherwise) if otherwise else None
    server.models = tuple(script.get("models", server.models))
    server.forget()


def obey(server: LLMServer) -> None:
    """Take scripts from standard input until it ends."""
    for line in sys.stdin:
        told = json.loads(line)
        if told.get("asked"):
            print(json.dumps({"asked": [vars(each) for each in server.asked]}), flush=True)
            continue
        apply(told, server)
        print(json.dumps({"scripted": True}), flush=True)


def main() -> int:
    """Serve until interrupted, or until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m chargehand.testing.llm")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; any free one unless given")
    parser.add_argument("--script", type=Path, help="JSON file with what to answer")
    parser.add_argument("--scripted", action="store_true", help="take scripts from standard input, a line each")
    options = parser.parse_args()
    with LLMServer(port=options.port) as server:
        if options.script:
            apply(json.loads(options.script.read_text()), server)
        print(json.dumps({"url": server.url}), flush=True)
        try:
            obey(server) if options.scripted else server.closing.wait()
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
