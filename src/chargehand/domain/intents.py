"""What can be asked for, as agents offer it: intents, resources, variants, deadlines."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from chargehand.domain.canonical import digest
from chargehand.domain.hosts import Targets
from chargehand.domain.risks import Risk
from chargehand.domain.value import Value

WORK_TYPES = (
    "deploy_service",
    "run_playbook",
    "add_configuration",
    "run_automation",
    "monitor_system",
    "custom_work",
)


# An agent, a model or a header says these numbers; they end up in INTEGER and BIGINT columns, in sums and in orders.
# One that fits no column would stop the work of everybody whose request names the same intent.
YEAR = 366 * 86_400
"""Seconds: nothing that is handed out takes longer, and a year in milliseconds times a million runs fits a BIGINT."""
MOST_CORES = 100_000  # ten times the largest machine there is
MOST_MIB = 1 << 30  # one PiB: the largest number of MiB of which two still fit an INTEGER column
MOST_TASKS = 100_000  # of a plan; orders are INTEGER, and people write some eight
MOST_EXAMPLES, MOST_VARIANTS, MOST_KEYS = 200, 20, 50  # of one intent; what people write has a tenth
LONGEST_DESCRIPTION, LONGEST_EXAMPLE = 10_000, 1_000  # characters: as long as a request may be, and ten lines
MOST_CAUTIONS, LONGEST_CAUTION = 20, 300  # people look at three of them, in a line each
Caution = Annotated[str, Field(max_length=LONGEST_CAUTION)]
Example = Annotated[str, Field(max_length=LONGEST_EXAMPLE)]
Order = Annotated[int, Field(ge=1, le=MOST_TASKS)]
"""The place of a task in its plan, from 1."""
Seconds = Annotated[float, Field(gt=0, le=YEAR, allow_inf_nan=False)]


class Resources(Value):
    """What a task needs of its agent. Durations in seconds, memory in MiB."""

    estimated_duration_seconds: int = Field(default=60, ge=0, le=YEAR)
    cpu_cores: int = Field(default=1, ge=0, le=MOST_CORES)
    memory_mb: int = Field(default=0, ge=0, le=MOST_MIB)
    gpu_vram_mb: int = Field(default=0, ge=0, le=MOST_MIB)


Otherwise = Literal["wait", "variant"]
"""What may be done with work that nobody can do as asked: wait until an agent is back, or take a variant of it."""


class Variant(Value):
    """Another way to do an intent: with fewer resources, on the CPU instead of the GPU. `parameters` replace those."""

    name: str
    resources: Resources
    parameters: dict[str, JsonValue] = Field(default={})


class Deadlines(Value):
    """A task's own limits in seconds; None: the settings'. `heartbeat_seconds` of silence and it is lost."""

    start_seconds: Seconds | None = None
    run_seconds: Seconds | None = None
    heartbeat_seconds: Seconds | None = None


class OutputRef(Value):
    """Where the value of a parameter comes from: the output of an earlier task, by that task's order.

    It stands beside the parameters, in a field of its own: nothing that is written among them can be taken for one.
    """

    task: Order
    output: str = Field(min_length=1, max_length=64)


NO_TERMS = frozenset({"content_hash", "source", "targets", "cautions", "unavailable"})
"""The fields of an offer that change without its saying anything else: its content, where that lies, the hosts of the
inventory (a plan names its own), what was noticed in the content, and whether it can be done now. All others are its
terms."""


class IntentSpec(Value):
    """One thing that can be asked for, as an agent offers it.

    `parameters` is a JSON schema of type object, and so is `outputs`: what it returns and later tasks may take; empty
    when it declares nothing. `exclusive_keys` may hold `{parameter}` slots. `content_hash` is the
    digest of what will run (playbook with everything it includes, script, handler version). `targets` are the hosts it
    is for, where it is for hosts: they may change from minute to minute, and no content hash covers them (a plan's
    digest does). `cautions` are reasons to look twice that were noticed in its content. `unavailable` says why this
    agent cannot do it as things are (a missing program, broken YAML).
    """

    intent: str = Field(pattern=r"^[a-z][a-z0-9_]{1,62}$")
    work_type: str
    agent_type: str = "infra"
    description: str = Field(default="", max_length=LONGEST_DESCRIPTION)
    service: str | None = None
    examples: tuple[Example, ...] = Field(default=(), max_length=MOST_EXAMPLES)
    parameters: dict[str, JsonValue] = Field(default={"type": "object", "properties": {}})
    outputs: dict[str, JsonValue] = Field(default={})
    resources: Resources = Resources()
    variants: tuple[Variant, ...] = Field(default=(), max_length=MOST_VARIANTS)  # the best one first
    risk: Risk = Risk.CHANGE
    retry_safe: bool = False
    exclusive_keys: tuple[str, ...] = Field(default=(), max_length=MOST_KEYS)
    after: tuple[str, ...] = Field(default=(), max_length=MOST_KEYS)
    state: tuple[str, ...] = Field(
        default=(), max_length=MOST_KEYS
    )  # what it may write among its own files; the rest is a copy
    dry_run: bool = False
    deadlines: Deadlines = Deadlines()
    content_hash: str = ""
    source: str = ""  # the file it comes from, for people
    targets: Targets | None = None
    cautions: tuple[Caution, ...] = Field(default=(), max_length=MOST_CAUTIONS)  # flags of every plan with it
    unavailable: str | None = None

    @property
    def terms(self) -> dict[str, JsonValue]:
        """What the offer says of itself, as JSON: a grant is for exactly this, and is suspended when it changes."""
        return self.model_dump(mode="json", exclude=set(NO_TERMS))

    @property
    def bound_hash(self) -> str:
        """Hex SHA-256 over what will run and the terms: the agent that runs it checks both with one hash.

        An agent that offers the same content with a lower risk, another schema or other locks offers something else.
        """
        return digest({**self.terms, "content_hash": self.content_hash})

    def as_registered(self, agent: str) -> IntentSpec:
        """Return the offer as the registry keeps it: bound to its terms, its source beginning with the agent's name."""
        source = f"{agent}: {self.source}" if self.source else agent
        return self.model_copy(update={"content_hash": self.bound_hash, "source": source})
