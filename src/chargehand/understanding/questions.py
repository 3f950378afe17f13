"""The two questions a model is asked: what a request falls into, and then the values that its parts give.

    build_ask(request, catalog)       -> the skeleton: words and intents, in order
    ask_parameters(ask, subtasks)     -> the values of these subtasks, each under its own schema
    ask_again(ask, reply, problem)    -> the same question with what was wrong

Two small questions, because a small model that is shown schemas copies them instead of filling them in. What stays the
same between requests stands first, so that a server need not read it again. Every answer's schema is closed and
bounded: it may constrain how a model writes, and what comes back is checked all the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import BaseModel, JsonValue

from chargehand.catalog.catalog import Catalog
from chargehand.domain import secret_refs
from chargehand.domain.intents import IntentSpec
from chargehand.domain.llm import Ask, Message, Reply
from chargehand.understanding import intent_shortlist, prompts
from chargehand.understanding.shots import Shot, shots

MOST_SUBTASKS, MOST_PARTS, MOST_QUESTIONS = 5, 3, 2  # of an answer: more is no one request
LONGEST_WORDS, LONGEST_LINE = 200, 120  # characters a model may write of a part, and of a question
LISTED_EXAMPLES, LISTED_DESCRIPTION, LISTED_EXAMPLE = 4, 160, 70
"""How much of an intent is listed. More is read more slowly (50 tokens a second on two cores) and helps no more."""

SHOWN_CONFIDENCE = 0.9  # in worked examples: what models claim whether they are right or not
KEPT_ANSWER = 2_000  # characters of an answer that could not be used, when it is quoted back


def _system(content: str) -> Message:
    return {"role": "system", "content": content}


def _user(content: str) -> Message:
    return {"role": "user", "content": content}


class _Said(BaseModel):
    """As JSON the words cannot end the quotation they stand in, whatever they are."""

    request: str


def build_ask(request_id: UUID, text: str, catalog: Catalog) -> Ask:
    """Return the first question for a tier: the words (already clean), the closed list of intents, the answer's schema.

    A model is shown the likely intents of a large catalog; `Ask.catalog` always has all of them.
    """
    shown = intent_shortlist.narrow(text, catalog.specs)
    return Ask(
        purpose="skeleton",
        request_id=request_id,
        text=text,
        catalog=catalog.specs,
        messages=(*_beginning(shown, len(catalog.specs)), _user(_Said(request=text).model_dump_json())),
        answer_schema=_skeleton_schema(tuple(spec.intent for spec in shown)),
        prompt_version=prompts.VERSION,
    )


def _beginning(shown: Sequence[IntentSpec], of_all: int) -> tuple[Message, ...]:
    note = prompts.NARROWED.format(shown=len(shown), all=of_all) if len(shown) < of_all else ""
    listing = "\n".join(map(_listed, shown))
    return (_system(prompts.SKELETON + note + listing), *(each for shot in shots(shown) for each in _shown(shot)))


def _listed(spec: IntentSpec) -> str:
    """One line of the catalog; what an agent wrote cannot begin another one."""
    examples = "; ".join(_line(each, LISTED_EXAMPLE) for each in spec.examples[:LISTED_EXAMPLES])
    described = f"- {spec.intent}: {_line(spec.description, LISTED_DESCRIPTION)}"
    return f"{described} For example: {examples}" if examples else described


def _line(text: str, most: int) -> str:
    return " ".join(text.split())[:most]


def _shown(shot: Shot) -> tuple[Message, Message]:
    subtasks = [{**part._asdict(), "confidence": SHOWN_CONFIDENCE} for part in shot.subtasks]
    answer = {"subtasks": subtasks, "out_of_scope": [*shot.out_of_scope], "ambiguities": [*shot.ambiguities]}
    said = _Said(request=shot.request).model_dump_json()
    return _user(said), {"role": "assistant", "content": json.dumps(answer, ensure_ascii=False)}


@lru_cache(maxsize=4)  # it changes when an agent offers something new
def _skeleton_schema(intents: tuple[str, ...]) -> dict[str, JsonValue]:
    subtask = _closed(
        words={"type": "string", "maxLength": LONGEST_WORDS},
        intent={"type": "string", "enum": [*intents]},
        confidence={"type": "number", "minimum": 0, "maximum": 1},
    )
    line = {"type": "string", "maxLength": LONGEST_LINE}
    return _closed(
        subtasks={"type": "array", "maxItems": MOST_SUBTASKS, "items": subtask},
        out_of_scope={"type": "array", "maxItems": MOST_PARTS, "items": line},
        ambiguities={"type": "array", "maxItems": MOST_QUESTIONS, "items": line},
    )


def _closed(**properties: Any) -> dict[str, JsonValue]:
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


# --- the second question ---------------------------------------------------------------------------------------------


class Wanted(NamedTuple):
    """A subtask whose values are asked for: its number in the answer, its intent and the words it stands for."""

    order: int
    spec: IntentSpec
    words: str


def ask_parameters(ask: Ask, reply: Reply, wanted: Sequence[Wanted]) -> Ask:
    """Return the question for the values of these subtasks, all in one answer; it follows the first one's answer."""
    told = prompts.PARAMETERS + (prompts.SECRETS if any(_has_secret(each.spec) for each in wanted) else "")
    listed = {str(each.order): {"words": each.words, "can be given": _described(each.spec)} for each in wanted}
    said = {"role": "assistant", "content": json.dumps(reply.value, ensure_ascii=False)[:KEPT_ANSWER]}
    return ask.model_copy(
        update={
            "purpose": "parameters",
            "messages": (*ask.messages, said, _user(told + json.dumps(listed, ensure_ascii=False))),
            "answer_schema": _values_schema(wanted),
        }
    )


def properties(spec: IntentSpec) -> Mapping[str, Mapping[str, JsonValue]]:
    """Return the parameters of an intent with their schemas; what is no object says nothing."""
    found = spec.parameters.get("properties")
    named = found.items() if isinstance(found, dict) else ()
    return {name: schema if isinstance(schema, dict) else {} for name, schema in named}


def _has_secret(spec: IntentSpec) -> bool:
    return any(secret_refs.is_secret(dict(schema)) for schema in properties(spec).values())


def _described(spec: IntentSpec) -> list[str]:
    """Each parameter in a few words: a schema would be copied, and so would a description in the place of a value."""
    return [f"{name} ({about})" if (about := _about(schema)) else name for name, schema in properties(spec).items()]


def _about(schema: Mapping[str, JsonValue]) -> str:
    choices = schema.get("enum")
    kind = "secret" if secret_refs.is_secret(dict(schema)) else KINDS.get(str(schema.get("type")), "")
    listed = "one of " + ", ".join(map(str, choices[:12])) if isinstance(choices, list) else kind
    return ", ".join(filter(None, (_line(str(schema.get("description", "")), LISTED_EXAMPLE), listed)))


KINDS: Mapping[str, str] = {"integer": "a number", "number": "a number", "boolean": "true or false", "array": "a list"}

PASSED_ON = frozenset({"type", "enum", "items"})
"""What of a parameter's schema may constrain how a model writes. Patterns, formats and bounds differ from server to
server, and some refuse them; they are checked here."""

LONGEST_VALUE = 200  # characters


def _values_schema(wanted: Sequence[Wanted]) -> dict[str, JsonValue]:
    each = {str(one.order): _values_of(one.spec) for one in wanted}
    return _closed(**each)


def _values_of(spec: IntentSpec) -> dict[str, JsonValue]:
    """The parameters of one intent, none of them required: what is not said is left out."""
    listed: dict[str, JsonValue] = {name: _plain_schema(schema) for name, schema in properties(spec).items()}
    return {"type": "object", "properties": listed, "additionalProperties": False}


def _plain_schema(schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    if secret_refs.is_secret(dict(schema)):
        return _closed(secret={"type": "string", "maxLength": LONGEST_VALUE})
    kept: dict[str, JsonValue] = {name: value for name, value in schema.items() if name in PASSED_ON}
    if kept.get("type") == "string" and "enum" not in kept:
        kept["maxLength"] = LONGEST_VALUE
    return kept


# --- once more -------------------------------------------------------------------------------------------------------


def ask_again(ask: Ask, reply: Reply, problem: str) -> Ask:
    """Return the question once more, with the answer that could not be used and why, so that a model can repair it."""
    said = json.dumps(reply.value)[:KEPT_ANSWER] if reply.value is not None else "(not a JSON object)"
    refused = ({"role": "assistant", "content": said}, _user(prompts.REPAIR + json.dumps(problem)))
    return ask.model_copy(update={"messages": (*ask.messages, *refused)})


def ask_about(ask: Ask, reply: Reply, problem: str) -> Ask:
    """Return the question for only those subtasks that could not be used; the others stand."""
    again = ask_again(ask, reply, problem)
    told = _user(again.messages[-1]["content"] + prompts.ONLY_THESE)
    return again.model_copy(update={"messages": (*again.messages[:-1], told)})
