"""What a playbook or script says about itself, and how mistakes in it are named."""

import pytest

from chargehand.agents.infra.headers import BadHeader, Kind, parse, without_header
from chargehand.domain.intents import LONGEST_EXAMPLE, MOST_EXAMPLES
from chargehand.domain.risks import Risk

HEADER = """\
#!/bin/sh
# Somebody's remark.
# chargehand:
#   intent: deploy_page
#   work_type: deploy_service
#   service: page
#   description: Deploy the page
#   examples:
#     - deploy the page
#     - deploy the page on port {port}
#   parameters:
#     port: {type: integer, minimum: 1024, default: 8420, description: Port it listens on}
#     title: {type: string, required: true}
#   outputs:
#     url: {type: string, description: Where it answers}
#     login: {type: object, required: false}
#   resources: {cpu_cores: 1, memory_mb: 64, estimated_duration_seconds: 8}
#   risk: change
#   retry_safe: true
#   exclusive_keys: ["service:page"]
#   requires: {commands: [node, npm], ports: [8420]}
#   after: [deploy_portals]
# An ordinary comment again.
- hosts: all
"""


def with_line(line: str) -> str:
    return f"# chargehand:\n#   intent: deploy_page\n#   {line}\n- hosts: all\n"


def problem(text: str, kind: Kind = "playbook") -> BadHeader:
    with pytest.raises(BadHeader) as caught:
        parse(text, "page.yml", kind)
    return caught.value


def test_every_key_reaches_the_offer() -> None:
    header = parse(HEADER, "page.yml", "playbook")
    assert header is not None
    spec = header.spec
    assert (spec.intent, spec.work_type, spec.service, spec.risk) == ("deploy_page", "deploy_service", "page", "change")
    assert spec.examples == ("deploy the page", "deploy the page on port {port}")
    assert spec.parameters == {
        "type": "object",
        "properties": {
            "port": {"type": "integer", "minimum": 1024, "default": 8420, "description": "Port it listens on"},
            "title": {"type": "string"},
        },
        "additionalProperties": False,
        "required": ["title"],
    }
    assert spec.outputs == {
        "type": "object",
        "properties": {"url": {"type": "string", "description": "Where it answers"}, "login": {"type": "object"}},
        "required": ["url"],
    }
    assert (spec.resources.memory_mb, spec.resources.estimated_duration_seconds) == (64, 8)
    assert spec.retry_safe
    assert spec.dry_run
    assert spec.after == ("deploy_portals",)
    assert header.commands == ("node", "npm")


def test_work_that_wants_the_same_port_never_runs_together() -> None:
    header = parse(HEADER, "page.yml", "playbook")
    assert header is not None
    assert header.spec.exclusive_keys == ("service:page", "port:8420")


@pytest.mark.parametrize("text", ["- hosts: all\n", "", "# chargehand is nice\n- hosts: all\n", "---\n# a\n\n- x\n"])
def test_text_without_a_header_has_none(text: str) -> None:
    assert parse(text, "page.yml", "playbook") is None


def test_a_header_must_be_at_the_top() -> None:
    assert parse("- hosts: all\n# chargehand:\n#   intent: deploy_page\n", "page.yml", "playbook") is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("exmples: [deploy it]", ["page.yml line 3", "'exmples'", "examples"]),
        ("retry_safe: 'yes'", ["page.yml line 3", "true or false"]),
        ("examples: deploy it", ["page.yml line 3", "list of texts"]),
        ("risk: huge", ["page.yml line 3", ", ".join(Risk)]),
        ("work_type: cook_dinner", ["page.yml line 3", "deploy_service"]),
        ("resources: {memory: 3}", ["page.yml line 3", "'memory'", "memory_mb"]),
        ("resources: {memory_mb: -3}", ["page.yml line 3", "greater than or equal to 0"]),
        ("parameters: {port: {type: integer, minimun: 3}}", ["page.yml line 3", "'minimun'", "minimum"]),
        ("parameters: {port: {type: number, default: high}}", ["page.yml line 3", "default"]),
        ("parameters: {port: {type: whole}}", ["page.yml line 3", "'whole'"]),
        ("parameters: {port: {minimum: 3}}", ["page.yml line 3", "at least a type"]),
        ("parameters: {my-port: {type: integer}}", ["page.yml line 3", "'my-port'"]),
        ("outputs: {url: {description: where}}", ["page.yml line 3", "at least a type"]),
        ("outputs: {url: string}", ["page.yml line 3", "at least a type"]),
        ("outputs: {url: {type: whole}}", ["page.yml line 3", "output url", "'whole'"]),
        ("outputs: {url: {type: string, default: x}}", ["page.yml line 3", "'default'"]),
        ("outputs: {url: {type: string, required: 'no'}}", ["page.yml line 3", "true or false"]),
        ("outputs: {its-url: {type: string}}", ["page.yml line 3", "'its-url'"]),
        ("outputs: {key: {type: string, secret: true}}", ["page.yml line 3", "cannot be a secret"]),
        ("outputs: {keys: {type: array, items: {format: secret}}}", ["page.yml line 3", "cannot be a secret"]),
        ("examples: ['deploy on {prot}']", ["page.yml line 3", "{prot}"]),
        ("exclusive_keys: ['file:{file}']", ["page.yml line 3", "{file}"]),
        ("requires: {programs: [node]}", ["page.yml line 3", "commands"]),
        ("dry_run: true", ["page.yml line 3", "'dry_run'"]),  # every playbook has one
        ("examples: [deploy", ["page.yml line 3", "not YAML"]),
    ],
)
def test_a_mistake_is_named_with_file_line_and_what_is_allowed(line: str, words: list[str]) -> None:
    message = str(problem(with_line(line)))
    assert [word for word in words if word not in message] == [], message


def test_a_mistake_in_a_nested_line_names_that_line() -> None:
    text = "# chargehand:\n#   parameters:\n#     a: {type: string}\n#     b: {kind: string}\n"
    assert "page.yml line 4" in str(problem(text))


def test_a_bad_header_still_knows_its_intent() -> None:
    assert problem(with_line("risk: huge")).intent == "deploy_page"
    assert problem(with_line("examples: [a, b {c} d]")).intent == "deploy_page"  # not even YAML
    assert problem("# chargehand:\n#   intent: Not Good\n").intent is None


def test_scripts_may_have_a_dry_run_and_may_not_take_the_names_they_get_anyway() -> None:
    header = parse(with_line("dry_run: true"), "clean.sh", "script")
    assert header is not None
    assert header.spec.dry_run
    assert header.spec.work_type == "run_automation"
    assert "output_file" in str(problem(with_line("parameters: {output_file: {type: string}}"), "script"))


def test_names_of_plays_that_are_no_phrases_are_not_examples() -> None:
    long, short = "x" * (LONGEST_EXAMPLE + 1), "Deploy it"
    spec = without_header("site", [long, short]).spec
    assert (spec.description, spec.examples[-1]) == (short, short)
    assert without_header("site", [long]).spec.description == "Run the playbook site"
    assert len(without_header("site", [f"play {n}" for n in range(2 * MOST_EXAMPLES)]).spec.examples) == MOST_EXAMPLES


def test_a_playbook_without_a_header_is_offered_by_its_name_and_plays() -> None:
    spec = without_header("Update-Packages", ["Update all packages"]).spec
    assert (spec.intent, spec.work_type) == ("run_update_packages", "run_playbook")
    assert "run the update packages playbook" in spec.examples
    assert "Update all packages" in spec.examples
    assert (spec.risk, spec.retry_safe, spec.dry_run) == ("unknown", False, True)
    assert spec.parameters["additionalProperties"] is False


@pytest.mark.parametrize("stem", ["x" * 100, "Ünïcode", "---", "1.2"])
def test_any_file_name_gives_an_intent(stem: str) -> None:
    assert without_header(stem, []).spec.intent.startswith("run_")


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
@pytest.mark.parametrize("then", ["#   risk: read", "   risk: read", "\n#   risk: read"])
def test_only_a_line_break_ends_a_line(end: str, then: str) -> None:
    remark = f"# a remark{end}# chargehand:{end}#   intent: evil_one\n- hosts: all\n"
    assert parse(remark, "it.yml", "playbook") is None
    text = f"# chargehand:\n#   intent: good_one\n#   description: a{end}{then}\n"
    try:
        found = parse(text, "it.yml", "playbook")
    except BadHeader:  # control characters are none of YAML's
        return
    assert found
    assert found.spec.risk == ("read" if then.startswith("\n") else "change")


def test_a_date_is_a_text_and_never_an_end() -> None:
    found = parse("# chargehand:\n#   intent: a_b\n#   description: 2001-99-99\n", "it.yml", "playbook")
    assert found
    assert found.spec.description == "2001-99-99"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("examples: &a [*a]", "stands inside"),
        ("description: !!int x", "not YAML"),
        ("resources: {cpu_cores: 3000000000}", "less than or equal"),
        ("parameters: {a: {type: string, pattern: '(?=x)'}}", "cannot be run"),
        ("parameters: {a: {type: number, default: .nan}}", "not a finite number"),
        ("outputs: {a: {type: array, enum: [!!binary aGk=]}}", "is a bytes"),
        ("{" * 500, "nested"),
    ],
)
def test_what_is_hostile_in_a_header_is_a_bad_header(line: str, told: str) -> None:
    with pytest.raises(BadHeader, match=told):
        parse(f"# chargehand:\n#   intent: a_b\n#   {line}\n", "it.yml", "playbook")


@pytest.mark.parametrize(
    ("stem", "plays", "risk"),
    [
        *(
            (f"{verb}-the_shop", [], Risk.DESTROY)
            for verb in ("reset", "destroy", "wipe", "Delete", "teardown", "purges")
        ),
        ("site", ["Tear down the shop"], Risk.DESTROY),
        ("tear-down", [], Risk.DESTROY),
        ("wipeDisk", [], Risk.DESTROY),
        ("preset", ["Update the deleter"], Risk.UNKNOWN),
        ("restart", [], Risk.UNKNOWN),
    ],
)
def test_what_nobody_has_said_is_unknown_unless_a_name_says_that_it_destroys(
    stem: str, plays: list[str], risk: Risk
) -> None:
    assert without_header(stem, plays).spec.risk is risk


@pytest.mark.parametrize(
    ("said", "risk"),
    [
        ("intent: delete_backups", Risk.DESTROY),
        ("intent: delete_backups\n#   risk: read", Risk.READ),
        ("intent: rotate_backups", Risk.CHANGE),
    ],
)
def test_a_header_without_a_risk_is_a_change_unless_its_name_says_that_it_destroys(said: str, risk: Risk) -> None:
    header = parse(f"# chargehand:\n#   {said}\n", "page.yml", "playbook")
    assert header is not None
    assert header.spec.risk is risk
