"""Who an agent is: handed over once at enrolment, kept in a file only its owner can read."""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from chargehand import folders
from chargehand.domain.errors import BadConfiguration

PREFIX = "che1."  # so that a token is recognised when it turns up where it should not
FILE = "identity.json"


@dataclass(frozen=True, slots=True)
class Identity:
    """An enrolled agent's id, name and key. `amqp_url` is where it finds the broker, when the operator said so."""

    agent_id: str
    name: str
    key: bytes
    generation: int
    amqp_url: str | None = None

    def __repr__(self) -> str:
        """Leave the key out: this may end up in a log."""
        return f"Identity({self.name}, {self.agent_id}, generation {self.generation})"

    def token(self) -> str:
        """Return the enrolment token. Whoever has it can be this agent, until its key is rotated."""
        return PREFIX + base64.urlsafe_b64encode(self._json().encode()).decode().rstrip("=")

    @classmethod
    def from_token(cls, token: str) -> Identity:
        """Read a token. Raises `BadConfiguration` when it is none."""
        text = token.strip()
        try:
            if not text.startswith(PREFIX):
                raise ValueError("wrong beginning")
            body = text.removeprefix(PREFIX)
            return cls._from_json(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            raise BadConfiguration(
                "this is not an enrolment token",
                hint="`chargehand agent enrol NAME` prints one; paste all of it.",
            ) from error

    @classmethod
    def load(cls, home: Path) -> Identity:
        """Read the identity kept in an agent's home. Raises `BadConfiguration` when it is missing or open to others."""
        path = home / FILE
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                raise BadConfiguration(f"{path} can be read by others", hint=f"Run: chmod 600 '{path}'")
            return cls._from_json(path.read_bytes())
        except FileNotFoundError:
            raise BadConfiguration(
                f"there is no agent in {home}",
                hint="Run `chargehand agent join TOKEN` there first; `chargehand agent enrol NAME` makes the token.",
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise BadConfiguration(f"{path} is not an agent's identity", hint="Join again with its token.") from error

    def save(self, home: Path) -> Path:
        """Keep the identity in the agent's home (0600), whole or not at all."""
        folders.make(home, above=0o755)
        path, temporary = home / FILE, home / f".{FILE}.{os.getpid()}"
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(self._json())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        return path

    def _json(self) -> str:
        values: dict[str, Any] = {
            "agent_id": self.agent_id,
            "name": self.name,
            "key": base64.b64encode(self.key).decode(),
            "generation": self.generation,
            "amqp_url": self.amqp_url,
        }
        return json.dumps(values)

    @classmethod
    def _from_json(cls, text: bytes) -> Identity:
        values = json.loads(text)
        key = base64.b64decode(values["key"], validate=True)
        if len(key) != 32:
            raise ValueError("the key has the wrong length")
        return cls(
            str(UUID(values["agent_id"])), str(values["name"]), key, int(values["generation"]), values["amqp_url"]
        )
