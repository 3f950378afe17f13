"""What an agent can do: the decorator an author uses, and the offers it collects. Runs nothing."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from chargehand.domain.errors import BadConfiguration, BadParameters, TaskFailed
from chargehand.domain.intents import IntentSpec, Resources
from chargehand.domain.risks import Risk
from chargehand.domain.secret_refs import FORMAT, SecretRef, takes_secrets

if TYPE_CHECKING:
    from chargehand.agent.work import Work


@dataclass(frozen=True)
class Outcome:
    """How work went that did not fail.

    `changed`: whether anything is different now (None: not known). `outputs` are for later tasks and people, `data`
    is for the record (counts, diffs), `resources_used` has what was measured (`memory_mb`, `cpu_seconds`, ...).
    `in_part` says in words what was left undone; empty: nothing was.
    """

    summary: str
    changed: bool | None = None
    outputs: Mapping[str, JsonValue] = field(default_factory=dict)
    data: Mapping[str, JsonValue] = field(default_factory=dict)
    resources_used: Mapping[str, float] = field(default_factory=dict)
    difficulty: Literal["straightforward", "tricky"] | None = None
    in_part: str = ""


Returned = Outcome | dict[str, JsonValue] | str | None
"""What a work function may return: a dict is taken as outputs, a string as the summary."""


class NoParameters(BaseModel):
    """What a work function without parameters takes."""

    model_config = ConfigDict(extra="forbid")


def secret(default: str | None = None, *, description: str | None = None) -> Any:
    """Return the field of a parameter that takes a secret: `password: SecretStr = secret("grafana_admin")`.

    What travels is a reference; the work gets the value. `default` names the secret that is meant when a request names
    none; without one the parameter must be given. Annotate it with `pydantic.SecretStr`, or with `str`.
    """
    marks: dict[str, JsonValue] = {"format": FORMAT, "writeOnly": True}
    if default is None:
        return Field(description=description, json_schema_extra=marks)
    marks["default"] = SecretRef(secret=default).model_dump()
    return Field(default_factory=partial(_not_filled_in, default), description=description, json_schema_extra=marks)


def _not_filled_in(name: str) -> str:
    raise TaskFailed(f"the secret {name} was not looked up: the parameters did not come through an agent")


Call = Callable[["Work"], Awaitable[Returned]]
F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


@dataclass(frozen=True)
class Offer:
    """One intent and the function behind it. `content` computes the content hash again, right before the start.

    `difference` says in words what differs from the content with a given hash; empty when it does not know.
    """

    spec: IntentSpec
    call: Callable[..., Awaitable[Returned]]
    model: type[BaseModel] | None = None
    content: Callable[[], str] | None = None
    difference: Callable[[str], str] | None = None

    @cached_property
    def takes_secrets(self) -> bool:
        """Whether parameters may hold references, which are to be filled in between `check` and `bind`."""
        return takes_secrets(self.spec.parameters)

    def check(self, parameters: dict[str, JsonValue]) -> dict[str, JsonValue]:
        """Return the parameters, checked as they travel: secrets as references. Raises `BadParameters`."""
        if self.model is None or self.takes_secrets:
            from chargehand.catalog.catalog import check_parameters  # the schema library is slow to import

            return check_parameters(self.spec, parameters)
        _typed(self.spec.intent, self.model, parameters)
        return parameters

    def bind(self, parameters: dict[str, JsonValue]) -> Call:
        """Return what runs the work with parameters that were checked and filled in. Raises `BadParameters`."""
        call = self.call
        if self.model is None or self.model is NoParameters:
            return call
        typed = _typed(self.spec.intent, self.model, parameters)
        return lambda work: call(work, typed)

    def content_hash(self) -> str:
        """Return the digest of what would run now. Reads files where the content is on disk."""
        return self.spec.content_hash if self.content is None else self.content()

    def bound_hash(self) -> str:
        """Return the hash that an order must name: of what would run now, and of all that is offered with it.

        Empty when nothing is left that could be vouched for. Reads files where the content is on disk.
        """
        now = self.content_hash()
        if self.content is not None and not now:
            return ""
        return self.spec.model_copy(update={"content_hash": now}).bound_hash


class Agent:
    """Collects what one agent offers. `AgentRuntime` runs it.

    `slots` is how many attempts run at a time; `specializations` are work types it is especially good at. `resources`
    is what it may use of its machine; None: all of it.
    """

    def __init__(
        self,
        name: str,
        *,
        agent_type: str = "infra",
        pool: str = "default",
        slots: int = 2,
        specializations: Iterable[str] = (),
        resources: Resources | None = None,
    ) -> None:
        if slots < 1:
            raise BadConfiguration(f"agent {name} has {slots} slots", hint="Give it at least one.")
        self.name, self.agent_type, self.pool, self.slots = name, agent_type, pool, slots
        self.specializations = tuple(specializations)
        self.resources = resources
        self._built_in: dict[str, Offer] = {}
        self._found: dict[str, Offer] = {}

    def work(
        self,
        intent: str,
        *,
        work_type: str = "custom_work",
        risk: Risk | str = Risk.CHANGE,
        retry_safe: bool = False,
        description: str = "",
        examples: Iterable[str] = (),
        resources: Resources | None = None,
        exclusive_keys: Iterable[str] = (),
        dry_run: bool = False,
        version: str | None = None,
        outputs: type[BaseModel] | Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Callable[[F], F]:
        """Offer an async function `f(work)` or `f(work, parameters)`; its parameters are a Pydantic model.

        `outputs` is what it returns for later tasks to take: a Pydantic model, or a JSON schema of type object.

        The content hash, which approvals bind to, is that of the function's source, or of `version` when given:
        give one when the work depends on more than this function. `more` are further fields of `IntentSpec`.
        """

        def decorate(function: F) -> F:
            model = _parameter_model(function)
            returned = _outputs(intent, outputs)
            spec = IntentSpec(
                intent=intent,
                work_type=work_type,
                agent_type=self.agent_type,
                description=description or (inspect.getdoc(function) or "").partition("\n")[0],
                examples=tuple(examples),
                resources=resources or Resources(),
                risk=Risk(risk),
                retry_safe=retry_safe,
                exclusive_keys=tuple(exclusive_keys),
                dry_run=dry_run,
                outputs=returned,
                content_hash=_code_hash(intent, function, version, returned),
                source=f"{function.__module__}.{function.__qualname__}",
                **({"parameters": model.model_json_schema()} if model else {}),
                **more,
            )
            self._add(self._built_in, Offer(spec, function, model or NoParameters))
            return function

        return decorate

    def offer(
        self,
        spec: IntentSpec,
        handler: Call,
        *,
        content: Callable[[], str] | None = None,
        difference: Callable[[str], str] | None = None,
    ) -> None:
        """Offer an intent whose parameters are checked against the spec's JSON schema."""
        self._add(self._found, Offer(spec, handler, content=content, difference=difference))

    def replace_offers(self, offers: Iterable[Offer]) -> None:
        """Put these offers in the place of all made with `offer` (decorated functions stay): discovery ran again.

        Tell the runtime with `offers_changed`.
        """
        self._found = {offer.spec.intent: offer for offer in offers}

    def find(self, intent: str) -> Offer | None:
        """Return the offer of an intent; a discovered one wins over a decorated one."""
        return self._found.get(intent) or self._built_in.get(intent)

    @property
    def offers(self) -> tuple[Offer, ...]:
        """Every offer, by intent."""
        merged = {**self._built_in, **self._found}
        return tuple(merged[intent] for intent in sorted(merged))

    def _add(self, offers: dict[str, Offer], offer: Offer) -> None:
        intent = offer.spec.intent
        if self.find(intent) is not None:
            raise BadConfiguration(f"agent {self.name} offers {intent} twice", hint="Rename one of the two.")
        offers[intent] = offer


def _parameter_model(function: Callable[..., Any]) -> type[BaseModel] | None:
    names = list(inspect.signature(function).parameters)
    if len(names) < 2:
        return None
    try:
        model = get_type_hints(function).get(names[1])
    except NameError as error:
        raise BadConfiguration(
            f"the type of {names[1]!r} of {function.__qualname__} cannot be found: {error}",
            hint="Define the model at the top level of its module.",
        ) from error
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise BadConfiguration(
            f"{names[1]!r} of {function.__qualname__} is not a Pydantic model",
            hint="Write: async def f(work: Work, p: MyModel), where MyModel is a pydantic.BaseModel.",
        )
    return model


def _typed(intent: str, model: type[BaseModel], parameters: dict[str, JsonValue]) -> BaseModel:
    try:
        return model.model_validate(parameters)
    except ValidationError as error:
        # Only places and rules: a value may be a secret, and this message is stored.
        problems = (f"{'.'.join(map(str, item['loc'])) or intent}: {item['msg']}" for item in error.errors())
        raise BadParameters("; ".join(problems)) from None


def _outputs(intent: str, declared: type[BaseModel] | Mapping[str, Any] | None) -> dict[str, JsonValue]:
    """Return the JSON schema of what is returned. Raises `BadConfiguration` for one that promises a secret."""
    if declared is None:
        return {}
    schema = dict(declared) if isinstance(declared, Mapping) else declared.model_json_schema(mode="serialization")
    if takes_secrets(schema):
        raise BadConfiguration(
            f"{intent} cannot return a secret: agents hide its value in every report",
            hint="Return its name, or nothing; whoever needs it takes a secret of that name.",
        )
    return schema


def _code_hash(intent: str, function: Callable[..., Any], version: str | None, outputs: Mapping[str, JsonValue]) -> str:
    declared = f"\n{json.dumps(outputs, sort_keys=True)}" if outputs else ""  # it may stand elsewhere than the code
    try:
        body = version or inspect.getsource(function)
    except (OSError, TypeError):  # typed into a prompt, or compiled
        body = repr(getattr(function, "__code__", function.__qualname__))
    return hashlib.sha256(f"{intent}\n{function.__qualname__}\n{body}{declared}".encode()).hexdigest()
