"""The agent on the page about secrets works as the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from chargehand.testing import run

PAGE = Path(__file__).parents[2] / "docs" / "secrets.md"


async def test_the_agent_on_the_page_gets_its_secrets() -> None:
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    made: dict[str, Any] = {"__name__": "mailer"}
    exec(compile(code, "mailer.py", "exec", dont_inherit=True), made)
    secrets = {"smtp_password": "12345", "mail_api_key": "1234567"}
    ran = await run(made["agent"], "send_letter", {"to": "ann"}, secrets=secrets)
    assert ran.summary == "sent to ann with 12 characters of secrets"
    ran = await run(made["agent"], "send_letter", {"to": "ann", "password": "12345"}, secrets=secrets)
    assert ran.failure is not None
    assert "password takes a reference to a secret, not a value" in ran.failure.message
