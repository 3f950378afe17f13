"""Orders for an agent's offers, as the orchestrator would make them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from pydantic import JsonValue

from chargehand.agent import Agent
from chargehand.catalog.targets import targeted
from chargehand.domain.errors import UnknownId
from chargehand.domain.messages import WorkOrder


def make_order(
    agent: Agent, intent: str, parameters: Mapping[str, JsonValue] | None = None, **fields: Any
) -> WorkOrder:
    """Return an order for one of the agent's intents; `fields` are those of `WorkOrder` that should differ.

    Raises `UnknownId` when the agent does not offer the intent.
    """
    offer = agent.find(intent)
    if offer is None:
        offered = ", ".join(offer.spec.intent for offer in agent.offers) or "nothing"
        raise UnknownId(f"agent {agent.name} does not offer {intent}", hint=f"It offers: {offered}.")
    defaults: dict[str, Any] = {
        "attempt_id": uuid4(),
        "task_id": uuid4(),
        "lease_token": 1,
        "number": 1,
        "intent": intent,
        "work_type": offer.spec.work_type,
        "parameters": dict(parameters or {}),
        "content_hash": offer.spec.bound_hash,
        "hosts": targeted(offer.spec, dict(parameters or {})),
        "retry_safe": offer.spec.retry_safe,
        "lease_seconds": 60.0,
        "deadline_seconds": 60.0,
    }
    return WorkOrder(**(defaults | fields))
