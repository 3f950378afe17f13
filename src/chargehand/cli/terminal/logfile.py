"""The log of everything that runs in this process: a file of the user's alone, never the screen."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path

from chargehand import folders
from chargehand.domain.masking import without_passwords

SIZE = 2_000_000  # bytes; with three old files that is weeks of ordinary use
OLD_FILES = 3


class PrivateFile(logging.handlers.RotatingFileHandler):
    """A rotating file that only its owner can read."""

    def _open(self) -> TextIOWrapper:
        return TextIOWrapper(open(self.baseFilename, "ab", opener=_private), encoding="utf-8")


def log_path(home: Path) -> Path:
    """Return where the log of that home is."""
    return home / "log" / "chargehand.log"


def log_to(home: Path, form: str = "text", *, also_to_stderr: bool = False) -> Path | None:
    """Send all logging to the home's log and return where that is; None when nothing can be written there.

    `form` is one of FORMS. A server or an agent logs to stderr as well: that is where a service manager looks.
    """
    logging.raiseExceptions = False  # a full disk must not put tracebacks onto the screen
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # an error per try; ours says an outage once
    if also_to_stderr:
        root.addHandler(_formatted(logging.StreamHandler(), form))
    path = log_path(home)
    try:
        folders.make_home(home)
        folders.make(path.parent)
        handler: logging.Handler = PrivateFile(path, maxBytes=SIZE, backupCount=OLD_FILES)
    except OSError:
        root.addHandler(logging.NullHandler())
        return None
    root.addHandler(_formatted(handler, form))
    return path


class Masked(logging.Formatter):
    """Hides the passwords of databases and brokers in whole entries, tracebacks of libraries included."""

    def format(self, record: logging.LogRecord) -> str:
        return without_passwords(super().format(record))


class AsJson(logging.Formatter):
    """One JSON object a line, with the ids of what an entry is about. Passwords are hidden as in text."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry = {"at": at, "level": record.levelname, "logger": record.name, "process": record.process}
        entry["message"] = without_passwords(record.getMessage())
        entry |= {name: str(value) for name in IDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            entry["error"] = without_passwords(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False)


IDS = ("trace_id", "request_id", "task_id", "attempt_id", "agent_id")
"""What `extra` of a log call may name; a line of text has them in its message."""

FORMS: Mapping[str, Callable[[], logging.Formatter]] = {
    "text": lambda: Masked("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"),
    "json": AsJson,
}


def _formatted(handler: logging.Handler, form: str) -> logging.Handler:
    handler.setFormatter(FORMS[form]())
    return handler


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
