"""Every setting, from the environment (`CHARGEHAND_<NAME>`), with its default and the reason for it.

Durations are seconds. `docs/settings.md` documents each; a test keeps it complete.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, create_model, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from chargehand.domain import secret_refs
from chargehand.domain.errors import BadConfiguration
from chargehand.domain.intents import Otherwise
from chargehand.domain.llm import Asking
from chargehand.domain.risks import Risk
from chargehand.domain.states import InPart
from chargehand.domain.tiers import Limits, Tier, models


def default_home() -> Path:
    """Return where data lives: root's must be readable by the user PostgreSQL runs as, so not below /root."""
    if os.geteuid() == 0:
        return Path("/var/lib/chargehand")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "chargehand"


Via = Literal["http", "litellm"]


class Endpoint(NamedTuple):
    """An LLM that is configured. `url` is None only with LiteLLM. `timeout` is for a request, all attempts together."""

    tier: str
    via: Via
    url: str | None
    model: str
    key_file: Path | None
    timeout: float


class LLMSettings(NamedTuple):
    """What is set of one tier that is a model, as `CHARGEHAND_LLM_<TIER>_<PART>`."""

    via: Via
    url: str | None
    model: str | None
    key_file: Path | None
    timeout: float
    concurrency: int


def _http(value: str | None) -> str | None:
    parts = urlsplit(value or "http://unset")
    complete = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    if not complete or parts.query or parts.fragment:
        raise ValueError("not a URL like http://127.0.0.1:11434 or https://llm.example.org")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain credentials; put the key in a file")
    return value or None


def llm_fields(tiers: Iterable[Tier]) -> dict[str, Any]:
    """Return the settings of these tiers: the same six for each that is a model."""
    return {
        f"llm_{tier.name}_{part}": field
        for tier in tiers
        if tier.limits is not None
        for part, field in _fields_of_one(tier.limits).items()
    }


def _fields_of_one(limits: Limits) -> dict[str, Any]:
    return {
        "via": (Via, "http"),  # how it is spoken to
        "url": (Annotated[str | None, AfterValidator(_http)], None),  # an OpenAI-compatible server
        "model": (str | None, None),
        "key_file": (Path | None, None),  # a file (0600), because variables end up in listings of processes
        "timeout": (float, Field(default=limits.timeout, gt=0)),  # for a request, all attempts; then the next tier
        "concurrency": (int, Field(default=limits.at_once, ge=1)),
    }


if TYPE_CHECKING:
    _OfModels = BaseSettings  # its fields have names that only the table knows: `Settings.llm` reads them
else:
    _OfModels = create_model("_OfModels", __base__=BaseSettings, **llm_fields(models()))


class Settings(_OfModels):
    """What an operator can set."""

    model_config = SettingsConfigDict(env_prefix="CHARGEHAND_", extra="ignore")

    home: Path = Field(default_factory=default_home)
    database_url: str | None = None
    amqp_url: str | None = None  # RabbitMQ; without it one process at a time does everything on this machine
    log_format: Literal["text", "json"] = "text"
    user: str | None = None  # who asks and approves; default: the operating system's user

    playbooks: Annotated[tuple[Path, ...], NoDecode] = ()
    scripts: Annotated[tuple[Path, ...], NoDecode] = ()
    config_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    check_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()  # of this machine and its link
    inventory: Path | None = None
    ansible_vars: Path | None = None
    project_signers: Path | None = None  # whose signature every project needs; a file that ssh-keygen reads
    become_secret: str | None = Field(default=None, pattern=secret_refs.NAME)  # names: the values are the agent's
    vault_secret: str | None = Field(default=None, pattern=secret_refs.NAME)
    secrets_command: str | None = None  # what an agent asks for secrets; read by the SDK, as argv
    pass_env: Annotated[tuple[str, ...], NoDecode] = ()  # names of variables that playbooks and scripts get to see
    agent_slots: int = Field(default=2, ge=1)
    agent_home: Path | None = None  # of an agent that runs by itself; read by the SDK, which needs no settings
    agent_health_port: int | None = Field(default=None, ge=0, le=65535)  # 127.0.0.1; off unless set; also the SDK's

    auto_approve: Annotated[frozenset[Risk], NoDecode] = frozenset()
    four_eyes: Annotated[frozenset[Risk], NoDecode] = frozenset()
    approval_expires: float = Field(default=7 * 86400, gt=0)  # a plan a week old was made for another machine

    ask_models: Asking = "unsure"  # about which requests models are asked, where any is configured
    confidence_flag: float = Field(default=0.60, ge=0, le=1)
    confidence_embedded: float = Field(default=0.70, ge=0, le=1)
    embed: bool = True  # the catalogue match also goes by meaning, where the extra `embed` is installed
    max_flags: int = Field(default=2, ge=0)

    routing_policy: str = "learned"
    routing_weights: Annotated[Mapping[str, float] | None, NoDecode] = None  # instead of the policy's own
    routing_minimum_runs: int = Field(default=10, ge=0)  # a rate from fewer is luck; `additive` and `weighted` go by it
    routing_wait_limit: float = Field(default=3600.0, ge=0)  # a task stays below what is usual for its intent anyway

    mode: Literal["sequential", "parallel"] = "sequential"  # what is done at once is harder to watch and to stop
    otherwise: Annotated[frozenset[Otherwise], NoDecode] = frozenset()  # nothing that was not asked for, unless said
    max_attempts: int = Field(default=3, ge=1)
    in_part: InPart = "accept"  # a host that is away, a task that was ignored: told, but the next step may go on
    lease_seconds: float = Field(default=60.0, gt=0)  # six heartbeats: one lost message ends nothing
    lease_grace: float = Field(default=5.0, ge=0)  # the agent's own clock has ended its work by then
    start_deadline: float = Field(default=900.0, gt=0)  # an agent that has a task and does not begin is of no use
    task_deadline: float = Field(default=6 * 3600, gt=0)
    no_agent_timeout: float = Field(default=300.0, gt=0)
    heartbeat_seconds: float = Field(default=10.0, gt=0)
    claim_seconds: float = Field(default=120.0, gt=0)  # longer than every tier's deadline together
    sweep_seconds: float = Field(default=2.0, gt=0)
    batch_size: int = Field(default=50, ge=1)
    quarantine_limit: int = Field(default=5, ge=1)
    circuit_failures: int = Field(default=5, ge=1)
    circuit_seconds: float = Field(default=60.0, gt=0)

    @field_validator("playbooks", "scripts", "config_roots", mode="before")
    @classmethod
    def _paths(cls, value: object) -> object:
        return tuple(Path(p) for p in value.split(os.pathsep) if p) if isinstance(value, str) else value

    @field_validator("pass_env", "check_networks", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return tuple(n.strip() for n in value.split(",") if n.strip()) if isinstance(value, str) else value

    @field_validator("auto_approve", "four_eyes", "otherwise", mode="before")
    @classmethod
    def _choices(cls, value: object) -> object:
        return frozenset(r.strip() for r in value.split(",") if r.strip()) if isinstance(value, str) else value

    @field_validator("routing_weights", mode="before")
    @classmethod
    def _weights(cls, value: object) -> object:
        pairs = [part.partition("=") for part in value.split(",") if part.strip()] if isinstance(value, str) else None
        return value if pairs is None else {name.strip(): weight for name, _, weight in pairs}

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @cached_property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return the LLMs that are configured. Raises `BadConfiguration` for half of one."""
        endpoints = tuple(endpoint for tier in models() if (endpoint := self._endpoint(tier)))
        longest = sum(endpoint.timeout for endpoint in endpoints)
        if longest >= self.claim_seconds:
            raise BadConfiguration(
                f"LLMs may take {longest:g} s, but another process takes a request after {self.claim_seconds:g} s",
                hint=f"Set CHARGEHAND_CLAIM_SECONDS to {longest + 60:g} or more, or shorter timeouts.",
            )
        return endpoints

    def llm(self, tier: Tier) -> LLMSettings:
        """Return what is set of a tier that is a model."""
        return LLMSettings(*(getattr(self, f"llm_{tier.name}_{part}") for part in LLMSettings._fields))

    def _endpoint(self, tier: Tier) -> Endpoint | None:
        via, url, model, key_file, timeout, _ = self.llm(tier)
        if via == "litellm" and tier.limits is not None:
            model = model or tier.limits.model
        if model and (url or via == "litellm"):
            return Endpoint(tier.name, via, url, model, key_file, timeout)
        if url or model or key_file:
            prefix = f"CHARGEHAND_LLM_{tier.name.upper()}"
            raise BadConfiguration(
                f"half an LLM is configured: {prefix}_{'MODEL' if url else 'URL'} is missing",
                hint=f"Set both {prefix}_URL and {prefix}_MODEL, or neither; docs/models.md shows how.",
            )
        return None

    @cached_property
    def user_name(self) -> str:
        """Return who is asking: the setting, or the operating system's user."""
        if self.user:
            return self.user
        import pwd

        try:
            return pwd.getpwuid(os.getuid()).pw_name
        except KeyError:  # a container's arbitrary uid has no name
            return f"uid-{os.getuid()}"


def load() -> Settings:
    """Read the environment. Raises `BadConfiguration` naming the variable and what is wrong with it."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "CHARGEHAND_" + "_".join(str(part) for part in first["loc"][:1]).upper()
        raise BadConfiguration(f"{name}: {first['msg']}", hint="docs/settings.md lists every setting.") from error
