"""What can be asked for, as agents offer it: intents, resources, variants, deadlines."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from chargehand.domain.risks import Risk

WORK_TYPES = (
    "deploy_service",
    "run_playbook",
    "add_configuration",
    "run_automation",
    "monitor_system",
    "custom_work",
)


class Value(BaseModel):
    """An immutable value; unknown fields are a mistake, not a surprise for later."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Resources(Value):
    """What a task needs of its agent. Durations in seconds, memory in MiB."""

    estimated_duration_seconds: int = Field(default=60, ge=0)
    cpu_cores: int = Field(default=1, ge=0)
    memory_mb: int = Field(default=0, ge=0)
    gpu_vram_mb: int = Field(default=0, ge=0)


Otherwise = Literal["wait", "variant"]
"""What may be done with work that nobody can do as asked: wait until an agent is back, or take a variant of it."""


class Variant(Value):
    """Another way to do an intent: with fewer resources, on the CPU instead of the GPU. `parameters` replace those."""

    name: str
    resources: Resources
    parameters: dict[str, JsonValue] = {}


class Deadlines(Value):
    """A task's own limits in seconds; None: the settings'. `heartbeat_seconds` of silence and it is lost."""

    start_seconds: float | None = Field(default=None, gt=0)
    run_seconds: float | None = Field(default=None, gt=0)
    heartbeat_seconds: float | None = Field(default=None, gt=0)


class OutputRef(Value):
    """Where the value of a parameter comes from: the output of an earlier task, by that task's order.

    It stands beside the parameters, in a field of its own: nothing that is written among them can be taken for one.
    """

    task: int = Field(ge=1)
    output: str = Field(min_length=1, max_length=64)


class IntentSpec(Value):
    """One thing that can be asked for, as an agent offers it.

    `parameters` is a JSON schema of type object, and so is `outputs`: what it returns and later tasks may take; empty
    when it declares nothing. `exclusive_keys` may hold `{parameter}` slots. `content_hash` is the
    digest of what will run (playbook with everything it includes, script, handler version). `unavailable` says why
    this agent cannot do it as things are (a missing program, broken YAML).
    """

    intent: str = Field(pattern=r"^[a-z][a-z0-9_]{1,62}$")
    work_type: str
    agent_type: str = "infra"
    description: str = ""
    service: str | None = None
    examples: tuple[str, ...] = ()
    parameters: dict[str, JsonValue] = {"type": "object", "properties": {}}
    outputs: dict[str, JsonValue] = {}
    resources: Resources = Resources()
    variants: tuple[Variant, ...] = ()  # the best one first
    risk: Risk = Risk.CHANGE
    retry_safe: bool = False
    exclusive_keys: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    dry_run: bool = False
    deadlines: Deadlines = Deadlines()
    content_hash: str = ""
    source: str = ""  # the file it comes from, for people
    unavailable: str | None = None
