"""The payloads of orders on an agent's control queue. What an agent itself says is in `chargehand.domain.plans`."""

from __future__ import annotations

from uuid import UUID

from chargehand.domain.value import Value


class StartGrant(Value):
    """The payload of `start`: leave to begin work that is not safe to repeat.

    A grant that names another incarnation answers a question of an earlier life and is ignored.
    """

    attempt_id: UUID
    lease_token: int
    lease_seconds: float
    incarnation: str | None = None


class Recorded(Value):
    """The payload of `recorded`: the results of these attempts are in the database."""

    attempt_ids: tuple[UUID, ...]


class Cancel(Value):
    """The payload of `cancel`."""

    attempt_id: UUID
    lease_token: int
    reason: str = ""
