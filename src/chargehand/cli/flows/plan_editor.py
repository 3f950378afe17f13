"""A decomposition as a person writes it: YAML that begins with what is known, in an editor of their choice."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chargehand.app.fleet import properties, required
from chargehand.app.snapshot import LlmCall
from chargehand.cli.terminal.lines import Line, count
from chargehand.domain import bounded_json
from chargehand.domain.errors import BadConfiguration, BadRequest, UnreadableText
from chargehand.domain.intents import IntentSpec

MOST_OFFERS = 60  # intents listed in the comment; `chargehand catalog` has all of them
FROM_OUTPUTS = (
    "What an earlier subtask returns (->) fills a parameter so: inputs: {PARAMETER: {subtask: 1, output: NAME}}"
)

ONE_AGENT = "If only one agent may do a subtask, name it: agent: NAME"


def draft(wording: str, calls: Sequence[LlmCall], offers: Sequence[IntentSpec]) -> str:
    """Return what a person starts from: the newest answer with subtasks that was refused, else an empty one."""
    written = next((value for call in reversed(calls) if (value := _answer(call.answer))), None)
    told = "The request, and what can be asked for. Lines that begin with # are left out."
    head = [told, "", f"  {_line(wording)}", ""]
    head += [f"  {_signature(offer)}  {_line(offer.description)}" for offer in offers[:MOST_OFFERS]]
    if any(properties(offer.outputs) for offer in offers):
        head += ["", FROM_OUTPUTS]
    head += ["", ONE_AGENT]
    return "".join(f"# {line}\n" for line in head) + "\n" + _dumped(written or _empty(wording, offers))


def _answer(text: str | None) -> dict[str, Any] | None:
    try:
        value = bounded_json.loads(text or "")
    except UnreadableText:  # a long one is kept in part
        return None
    return value if isinstance(value, dict) and value.get("subtasks") else None


def _empty(wording: str, offers: Sequence[IntentSpec]) -> dict[str, Any]:
    intent = offers[0].intent if offers else "an_intent"
    head = {"order": 1, "name": wording, "intent": intent, "confidence": 1.0}
    return {"subtasks": [{**head, "parameters": {}, "depends_on": []}]}


def _parameters(offer: IntentSpec) -> list[str]:
    needed = required(offer.parameters)
    return [name if name in needed else f"{name}?" for name in properties(offer.parameters)]


def _signature(offer: IntentSpec) -> str:
    """Return `intent(needed, optional?) -> outputs`."""
    outputs = properties(offer.outputs)
    returns = f" -> {', '.join(outputs)}" if outputs else ""
    return f"{offer.intent}({', '.join(_parameters(offer))}){returns}"


def _line(text: str) -> str:
    return " ".join(text.split())


def _dumped(value: Any) -> str:
    from ruamel.yaml import YAML

    stream = io.StringIO()
    YAML(typ="safe").dump(value, stream)
    return stream.getvalue()


def parsed(text: str) -> dict[str, Any]:
    """Return YAML as the value it stands for. Raises `BadDecomposition`."""
    from chargehand.app.words import written_yaml

    return written_yaml(text)


def read_file(path: str) -> str:
    """Return a file's text. Raises `BadRequest`."""
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"cannot read {path}: {error}") from error


def opening_lines(wording: str) -> list[Line]:
    """Return what is said before the editor opens: what is written there, and what becomes of it."""
    return [
        Line(f"You write the subtasks of “{_line(wording)}” in {_editor()}.", "title"),
        Line("Save, and they are checked and shown as a plan; nothing runs before you agree to it.", "", 2),
        Line("Leave the editor without saving, and the request stays as it is.", "", 2),
    ]


def planned_lines(written: dict[str, Any]) -> list[Line]:
    """Return what is said when what a person wrote was taken."""
    subtasks = written.get("subtasks")
    number = len(subtasks) if isinstance(subtasks, list) else 0
    return [Line(f"Planned as you wrote it: {count(number, 'subtask')}.", "good")]


def _editor() -> str:
    return os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"


def edited(text: str) -> str:
    """Open an editor on the text and return what was saved.

    Raises `BadConfiguration` without an editor, `BadRequest` when nothing was saved.
    """
    editor = _editor()
    with tempfile.NamedTemporaryFile("w+", suffix=".yml", prefix="chargehand-") as file:  # 0600: requests are private
        file.write(text)
        file.flush()
        try:
            code = subprocess.run([*shlex.split(editor), file.name], check=False).returncode
        except OSError as error:
            raise BadConfiguration(f"cannot start {editor}: {error.strerror}", hint="Set EDITOR.") from error
        saved = Path(file.name).read_text()
    if code != 0 or saved == text:
        raise BadRequest("nothing was written: the request stays in review")
    return saved
