"""Hides passwords in text that is about connections: logins in addresses, `password=...`, enrolment tokens. Pure.

For messages of libraries and for logs. It goes by form, so it is a net; values that an agent has looked up are hidden
by value, on the agent (`agent/redactor.py`).
"""

from __future__ import annotations

import re

MASK = "***"

# The password of an address ends at the last @ before a space, so that one which was not quoted as it must be is hidden
# whole. Digits up to a slash after the colon are a port.
_WORD = re.compile(r"\S+")
_IN_ADDRESS = re.compile(r"""\b[a-z][a-z0-9+.-]{0,30}://[^\s:/@]{0,200}:(?!\d{1,5}(?:[/?#,;)"']|$))""", re.IGNORECASE)
_AS_LOGIN = re.compile(
    r"""(?P<before>(?:^|[\s"'(=/])[\w.+-]{1,60}:)(?!\d{1,5}[/?#])[^\s:/@"']+(?=@)"""
)  # without a scheme
_AS_OPTION = re.compile(
    r"""(?P<before>\b\w{0,30}(?:password|passwd|passphrase|secret|token|api_?key)=)(?:'[^']*'|"[^"]*"|[^\s&;,'"]+)""",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"(?P<before>\bche1\.)[\w-]{8,}")


def without_passwords(text: str) -> str:
    """Return the text with passwords and tokens hidden: `amqp://ann:***@broker/`, `password=***`, `che1.***`."""
    if "@" in text:
        text = _WORD.sub(lambda word: _without_login(word[0]), text)
    for form in (_AS_LOGIN, _AS_OPTION, _TOKEN):
        text = form.sub(rf"\g<before>{MASK}", text)
    return text


def _without_login(word: str) -> str:
    """Return a word with the password of an address hidden. Its end is looked for once, whatever the word's length."""
    end = word.rfind("@")
    before = _IN_ADDRESS.search(word, 0, end + 1) if end > 0 else None
    return f"{word[: before.end()]}{MASK}{word[end:]}" if before and before.end() <= end else word
