"""Diffs for the record: who reads them sees what changed, but never the value of a secret. Pure."""

from __future__ import annotations

import difflib
import re

HIDDEN = "***"
_SECRET_NAME = r"[\w.-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|private[_-]?key|credential)[\w.-]*"
_SECRET = re.compile(rf"""(?im)^(?P<name>.*?["']?\b{_SECRET_NAME}["']?\s*[:=]\s*)(?P<value>[^\s,}}\]].*)$""")
_IN_URL = re.compile(r"(\w+://[^\s:/@]*:)[^\s@/]+@")
_PEM = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END [A-Z ]*PRIVATE KEY-----)", re.DOTALL)


def unified(before: str, after: str, name: str) -> str:
    """Return the unified diff of two texts without secrets; says so when only secrets differ."""
    hidden_before, hidden_after = redact(before), redact(after)
    lines = difflib.unified_diff(
        hidden_before.splitlines(), hidden_after.splitlines(), f"{name} (before)", f"{name} (after)", lineterm=""
    )
    text = "\n".join(lines)
    return text or ("" if before == after else f"--- {name}: only values of secrets (or line ends) differ")


def redact(text: str) -> str:
    """Return the text with the values of keys that look like secrets, keys in PEM and passwords in URLs hidden."""
    text = _PEM.sub(rf"\1 {HIDDEN} \2", text)
    text = _IN_URL.sub(rf"\1{HIDDEN}@", text)
    return _SECRET.sub(rf"\g<name>{HIDDEN}", text)


def one_line(text: str) -> str:
    """Return the lines of a text as one, for messages of which only one line is shown."""
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())


def clip(text: str, limit: int) -> str:
    """Return at most `limit` characters, saying how much is missing."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}... ({len(text) - limit:,} more characters)"
