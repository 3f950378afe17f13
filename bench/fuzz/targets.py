"""The parsers of foreign text, one target each: seeds of the real format, its words, and what the parser may raise."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from pydantic import JsonValue

from chargehand.agent.runtime.journal import LINES
from chargehand.agent.secrets.redactor import Redactor
from chargehand.agents.infra import headers
from chargehand.agents.infra.configuration import merged
from chargehand.agents.infra.diffs import redact, unified
from chargehand.agents.infra.discovery import Discovery
from chargehand.agents.infra.events import PlaybookRun
from chargehand.catalog import json_schema
from chargehand.catalog.catalog import Catalog, check_parameters
from chargehand.catalog.outputs import unfit
from chargehand.domain import bounded_json
from chargehand.domain.envelopes import PROTOCOL, Envelope, MessageType, derive_key, encode
from chargehand.domain.errors import BadDecomposition, BadEnvelope, ChargehandError, TaskFailed, UnreadableText
from chargehand.domain.intents import IntentSpec
from chargehand.domain.llm import Reply
from chargehand.domain.masking import without_passwords
from chargehand.domain.records import KnownAgent
from chargehand.domain.signed_messages import SignedMessages
from chargehand.llm.replies import NoAnswer, Response, completion, value
from chargehand.store.postgres import to_json
from chargehand.understanding.nlu import Thresholds, read_reply
from chargehand.understanding.questions import build_ask

Call = Callable[[str], object]


@dataclass(frozen=True)
class Target:
    """A parser: `make` prepares it and returns what is called with a text; `announced` is what it may raise."""

    make: Callable[[], Call]
    seeds: tuple[str, ...]
    words: tuple[str, ...]
    announced: tuple[type[Exception], ...] = ()
    longest: int = 8_000  # characters of a case


AGENT, ATTEMPT = UUID(int=1), UUID(int=2)
MASTER = bytes(32)

HEADER = """# chargehand:
#   intent: deploy_page
#   work_type: deploy_service
#   description: Deploy the page
#   examples: ["deploy the page on port {port}"]
#   parameters:
#     port: {type: integer, minimum: 1024, default: 8420, description: Port}
#     name: {type: string, pattern: "^[a-z]+$", enum: [a, b], required: true}
#   outputs: {url: {type: string, pattern: "^http"}}
#   resources: {cpu_cores: 1, memory_mb: 64}
#   exclusive_keys: ["host:{name}"]
#   requires: {commands: [sh], ports: [8420]}
#   retry_safe: true
"""
PLAYBOOK = """---
- name: Deploy
  hosts: localhost
  vars: &v {a: 1, b: [x, y]}
  tasks:
    - name: Copy
      ansible.builtin.copy: {src: ../a.txt, dest: /tmp/a}
      when: "{{ a }} == 1"
      vars: {<<: *v, c: !unsafe x}
"""
YAML_BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
)
YAML_WORDS = (
    *("*a", "&a ", "<<: *a\n", "- ", "? ", ": ", "{", "}", "[", "]", "|\n", ">\n", "#", "\n", "  ", "---\n", "...\n"),
    *("!!int ", "!!binary ", "!!set ", "!!omap ", "!!timestamp ", "!!float ", "!!str ", "!!python/name:x "),
    *("2001-99-99", "0x", "0o9", "1e999", ".inf", ".nan", "~", "yes", "null", "%YAML 1.1\n", "%TAG ! x\n", "'", '"'),
)
HEADER_WORDS = (
    *YAML_WORDS,
    *("#   ", "# chargehand:\n", "type: ", "pattern: '(a+)+$'", "pattern: '(?=a)'", "enum: ", "default: ", "items: "),
    *(
        "properties: ",
        "secret: true",
        "{port}",
        "minimum: ",
        "cpu_cores: 3000000000",
        "multipleOf: 0",
        "format: secret",
    ),
)
JSON_WORDS = (
    *("{", "}", "[", "]", '"', ":", ",", "null", "true", "-", "1e999", "NaN", "Infinity", "9999999999", "1.5", '"a":'),
    *('{"a":', "[[", "\\u0000", "\\ud800", '"$ref":"#"', '"pattern":"(a+)+$"', '"lease_token":', '"intents":[]'),
)


def _discovery() -> Call:
    home = Path(tempfile.mkdtemp(prefix="chargehand-fuzz-"))
    folder = home / "playbooks"
    folder.mkdir()
    found = Discovery([folder], [])

    def read(text: str) -> None:
        (folder / "it.yml").write_bytes(text.encode(errors="replace"))
        found.rescan()
        for each in found.found:
            each.spec.model_dump_json()

    return read


def _header(text: str) -> None:
    found = headers.parse(text, "it.yml", "playbook")
    if found is not None:
        found.spec.model_dump_json()
        check_parameters(found.spec, {"port": 8421, "name": "a" * 50})


def _merging(form: str) -> Callable[[], Call]:
    values: dict[str, JsonValue] = {"page": {"port": 1, "on": "yes"}, "list": [{"name": "a", "url": "x"}]}
    given = {"page": values["page"]} if form == "ini" else values

    def merge(text: str) -> None:
        unified(text, merged(text, given, form, "it"), "it")

    return lambda: merge


def _envelope() -> Call:
    desk, key = SignedMessages(MASTER), derive_key(MASTER, str(AGENT), 1)
    agent = KnownAgent(AGENT, "infra-1", 1, "", None)
    known = Envelope.model_validate_json(_letter("heartbeat", {}))

    def read(text: str) -> None:
        body = text.encode(errors="replace")
        head, _, _ = encode(known, key).partition(b"\n")
        desk_says = json.loads(head) | {"mac": _mac(key, body), "v": PROTOCOL}
        message = desk.open(json.dumps(desk_says).encode() + b"\n" + body, agent)
        to_json(message.payload.model_dump(mode="json")).encode()  # what the database would be given

    return read


def _mac(key: bytes, body: bytes) -> str:
    from chargehand.domain import envelopes

    return envelopes._mac(key, "report", body)


def _letter(kind: str, payload: Mapping[str, object]) -> str:
    head = {
        "message_id": str(UUID(int=3)),
        "protocol": PROTOCOL,
        "from_agent": str(AGENT),
        "to_agent": "orchestrator",
        "type": MessageType(kind),
        "trace_id": str(UUID(int=4)),
        "timestamp": "2026-01-01T00:00:00Z",
    }
    return json.dumps({**head, "payload": payload})


def _answers() -> Call:
    parameters = {"type": "object", "properties": {"port": {"type": "integer"}, "host": {"type": "string"}}}
    outputs = {"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]}
    spec = IntentSpec(intent="deploy_page", work_type="deploy_service", parameters=parameters, outputs=outputs,
                      exclusive_keys=("host:{host}",))  # fmt: skip
    ask = build_ask(AGENT, "deploy the page", Catalog((spec,)))

    def read(text: str) -> None:
        body = json.dumps({"choices": [{"message": {"content": text}}]}).encode(errors="replace")
        found = value(completion(Response(200, {}, body)))
        read_reply(Reply(tier="local", model="m", value=found), ask, Thresholds())
        completion(Response(200, {}, text.encode(errors="replace")))

    return read


def _outputs() -> Call:
    pattern: dict[str, JsonValue] = {"type": "string", "pattern": "^(a+)+$"}
    declared: dict[str, JsonValue] = {
        "type": "object",
        "properties": {"url": pattern, "all": {"type": "array", "uniqueItems": True}},
    }
    spec = IntentSpec(intent="deploy_page", work_type="deploy_service", outputs=declared)
    redactor = Redactor()
    redactor.learn("db", "Hunter2-Correct/Horse")

    def read(text: str) -> None:
        run = PlaybookRun(hide=redactor.text)
        run.take(text.encode(errors="replace"))
        redact(text)
        without_passwords(text)
        redactor.text(text)
        found = bounded_json.loads(text)
        if isinstance(found, dict):
            unfit(spec, found)
            redactor.mapping(found)

    return read


GIVEN: tuple[JsonValue, ...] = ({"a": "a" * 60 + "!"}, {"b": [1, 1.0, True, {"c": []}] * 20}, [[{}]] * 30)


def _schemas() -> Call:
    def read(text: str) -> None:
        for given in GIVEN:
            json_schema.errors(json_schema.validator(bounded_json.loads(text)), given)

    return read


def _journal(text: str) -> None:
    if not bounded_json.is_deeper(text, 72):
        LINES.validate_json(text.encode(errors="replace"))


RESULT = {
    "attempt_id": str(ATTEMPT),
    "lease_token": 1,
    "ok": True,
    "summary": "done",
    "outputs": {"url": "aaa"},
    "duration_ms": 5,
    "resources_used": {"cpu": 1.5},
}
REGISTRATION = {
    "agent_id": str(AGENT),
    "incarnation": "j.1",
    "name": "infra-1",
    "agent_type": "infra",
    "pool_name": "default",
    "version": "1",
    "slots": 2,
    "resources": {"cpu_cores": 8, "memory_mb": 1024},
    "intents": [{"intent": "a_b", "work_type": "custom_work", "parameters": {"type": "object"}}],
}
ANSWER = {
    "subtasks": [
        {
            "order": 1,
            "name": "Deploy",
            "intent": "deploy_page",
            "confidence": 0.9,
            "parameters": {"port": 8420, "host": "web1"},
            "depends_on": [],
        }
    ]
}
EVENTS = (
    '{"event": "end", "task": "t", "host": "h", "status": "ok", "stats": [{"data": {"a": 1}, "aggregate": true}]}',
    '{"event": "stats", "hosts": {"h": {"ok": 1, "changed": 0}}}',
    '{"event": "diff", "text": "password: x\\ntoken=y\\nhttp://a:b@c/"}',
)
SCHEMA = {
    "type": "object",
    "$defs": {"n": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/n"}]}},
    "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}, "b": {"type": "array", "uniqueItems": True}},
    "patternProperties": {"^x": {"$ref": "#/$defs/n"}},
    "allOf": [{"$ref": "#/$defs/n"}, {"unevaluatedItems": False}],
}

TARGETS: Mapping[str, Target] = {
    "playbook": Target(_discovery, (PLAYBOOK, HEADER + PLAYBOOK, YAML_BOMB), HEADER_WORDS),
    "header": Target(lambda: _header, (HEADER, "# chargehand:\n"), HEADER_WORDS, (ChargehandError,), 4_000),
    # YAML is read and written some twenty times to keep its layout, so that a case has to be small to be fast.
    "config_yaml": Target(
        _merging("yaml"), ("page:\n  port: 2  # two\nlist:\n  - name: a\n", YAML_BOMB), YAML_WORDS, (TaskFailed,), 1_000
    ),
    "config_json": Target(
        _merging("json"), ('{"page": {"port": 2}, "list": [{"name": "a"}]}',), JSON_WORDS, (TaskFailed,)
    ),
    "config_ini": Target(
        _merging("ini"), ("[page]\nport = 2\n# x\n[b]\nc\n",), ("[", "]", "=", ":", "\n ", "%", " " * 90), (TaskFailed,)
    ),
    "envelope": Target(
        _envelope, (_letter("work_result", RESULT), _letter("register", REGISTRATION)), JSON_WORDS, (BadEnvelope,)
    ),
    "answer": Target(
        _answers,
        (json.dumps(ANSWER), f"```json\n{json.dumps(ANSWER)}\n```", "<think>x</think>{}"),
        (*JSON_WORDS, "```", "```json\n", "\n\n"),
        (NoAnswer, BadDecomposition),
    ),
    "output": Target(
        _outputs,
        (*EVENTS, json.dumps(RESULT["outputs"])),
        (*JSON_WORDS, "a://b:c@", "password='", "-----BEGIN PRIVATE KEY-----"),
        (UnreadableText,),
    ),
    "schema": Target(
        _schemas,
        (json.dumps(SCHEMA),),
        (*JSON_WORDS, '"allOf":[{"$ref":"#"},{"$ref":"#"}],'),
        (UnreadableText, json_schema.BadSchema),
    ),
    "journal": Target(
        lambda: _journal, (json.dumps({"line": "finished", "result": RESULT}),), JSON_WORDS, (ValueError,)
    ),
}
